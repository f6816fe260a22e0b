"""Devices of ours, each in a process of its own: a MULTIPEER server and its P2P clients."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from copy import copy
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from ovpn_dco.bench.errors import MeasurementError
from ovpn_dco.bench.figures import OURS
from ovpn_dco.bench.subjects.base import Course, Tunnel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovpn_dco.testing import Link, Namespace

_PORT = 1194
_FIRST_PEER_ID = 7


class OurTunnel(Tunnel):
    """A tunnel whose endpoints can be asked for their statistics."""

    def statistics(self) -> list[dict[str, Any]]:
        """What the endpoints count: batches, packets per call, offloads in effect, drops."""
        answers = []
        for process in self.processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
            answers.append(_answer(process))
        return answers


class Ours:
    """The userspace engine of this package."""

    def __init__(
        self,
        *,
        cipher: str = "AES_256_GCM",
        offloads: Sequence[str] | None = None,
        keepalive_s: int = 0,
        workers: int = 1,
        single_thread: bool = False,
        peers: int = 1,
    ) -> None:
        """`offloads` limits what may be used, by the names of the API; None: whatever works.

        `keepalive_s`: the client sends keepalives that often and the server receives them, so that
        each end has one cause to wake up; 0: none.

        `workers` are those of the server, whose `peers` are devices of one worker each; where there
        is one peer it has as many as the server. `single_thread` is of all endpoints. Other values
        than the defaults are part of the name.
        """
        variant = f", {workers} workers" if workers > 1 else ""
        variant += ", single thread" if single_thread else ""
        self.name = OURS + variant
        self.title = f"ovpn_dco{variant}"
        self._cipher = cipher
        self._offloads = None if offloads is None else list(offloads)
        self._keepalive_s = keepalive_s
        self._workers = workers
        self._single_thread = single_thread
        self._peers = peers

    def with_keepalive(self, interval_s: int) -> Ours:
        """The same with keepalives."""
        other = copy(self)
        other._keepalive_s = interval_s
        return other

    def obstacle(self, transport: str) -> str | None:
        """None: the package has been imported."""
        return None

    def caveat(self) -> str | None:
        """It is not its own rival."""
        return None

    def version(self) -> str:
        """Of the installed package, or of the tree."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            return f"ovpn_dco {version('ovpn-dco')}"
        except PackageNotFoundError:
            return "ovpn_dco (not installed)"

    def open(self, course: Course) -> OurTunnel:
        """A process for each end; each client has a key in common with the server."""
        tunnel = OurTunnel(course, peers=self._peers)
        server, clients = self.settings(course, tunnel.topology.links)
        try:
            _start(tunnel, tunnel.server, server)
            for namespace, client in zip(tunnel.clients, clients, strict=True):
                _start(tunnel, namespace, client)
            tunnel.wait_connected()
        except BaseException:
            tunnel.close()
            raise
        return tunnel

    def settings(
        self, course: Course, links: Sequence[Link]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What the server's process and those of the clients are told, a client for each link."""
        common = {
            "cipher": self._cipher,
            "offloads": self._offloads,
            "mtu": course.inner_mtu,
            "transport": course.transport,
            # None: as the device has it of its own accord.
            "single_thread": self._single_thread or None,
        }
        workers = self._workers if self._workers > 1 else None
        ends = [_peer(number, link) for number, link in enumerate(links)]
        clients = [
            {
                **common,
                "mode": "P2P",
                "workers": workers if len(links) == 1 else None,
                "keepalive_s": self._keepalive_s,
                "local": near["remote"],
                "addresses": [f"{near['vpn'][0]}/24", f"{near['vpn'][1]}/64"],
                "peers": [far],
            }
            for near, far in ends
        ]
        server = {
            **common,
            "mode": "MULTIPEER",
            "workers": workers,
            "keepalive_s": 0,
            # Of one network, or of all.
            "local": [links[0].left_ipv4 if len(links) == 1 else "0.0.0.0", _PORT],
            "addresses": [f"{Tunnel.server_ipv4}/24", f"{Tunnel.server_ipv6}/64"],
            "peers": [near for near, _ in ends],
        }
        return server, clients


def _peer(number: int, link: Link) -> tuple[dict[str, Any], dict[str, Any]]:
    """One peer as the server has it, and as it has the server."""
    material = [(secrets.token_hex(32), secrets.token_hex(8)) for _ in range(2)]
    vpn = [str(ip_address(first) + number) for first in (Tunnel.client_ipv4, Tunnel.client_ipv6)]
    near = {
        "peer_id": _FIRST_PEER_ID + number,
        "remote": [link.right_ipv4, _PORT],
        "vpn": vpn,
        "encrypt": material[0],
        "decrypt": material[1],
    }
    far = {
        "peer_id": _FIRST_PEER_ID + number,
        "remote": [link.left_ipv4, _PORT],
        "vpn": [None, None],
        "encrypt": material[1],
        "decrypt": material[0],
    }
    return near, far


def _start(tunnel: Tunnel, namespace: Namespace, settings: dict[str, Any]) -> None:
    process = tunnel.spawn(
        namespace,
        [sys.executable, "-m", "ovpn_dco.bench.endpoint"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdin
    process.stdin.write(json.dumps(settings) + "\n")
    process.stdin.flush()
    try:
        _answer(process)
    except MeasurementError:
        process.wait(timeout=5)
        tunnel.check_alive()
        raise


def _answer(process: subprocess.Popen[Any]) -> dict[str, Any]:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise MeasurementError("an endpoint of ours has ended")
    answer: dict[str, Any] = json.loads(line)
    return answer
