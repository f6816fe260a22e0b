"""Two devices of ours, each in a process of its own: a MULTIPEER server and a P2P client."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from ovpn_dco.bench.errors import MeasurementError
from ovpn_dco.bench.subjects.base import Course, Tunnel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovpn_dco.testing import Namespace

_PORT = 1194
_PEER_ID = 7


class OurTunnel(Tunnel):
    """A tunnel whose endpoints can be asked for their statistics."""

    def statistics(self) -> list[dict[str, Any]]:
        """What both endpoints count: batches, packets per call, offloads in effect, drops."""
        answers = []
        for process in self.processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
            answers.append(_answer(process))
        return answers


class Ours:
    """The userspace engine of this package."""

    name = "ours"

    def __init__(
        self,
        *,
        cipher: str = "AES_256_GCM",
        offloads: Sequence[str] | None = None,
        keepalive_s: int = 0,
    ) -> None:
        """`offloads` limits what may be used, by the names of the API; None: whatever works.

        `keepalive_s`: the client sends keepalives that often and the server receives them, so that
        each end has one cause to wake up; 0: none.
        """
        self.title = "ovpn_dco"
        self._cipher = cipher
        self._offloads = None if offloads is None else list(offloads)
        self._keepalive_s = keepalive_s

    def obstacle(self) -> str | None:
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
        """Two endpoint processes with one key in common."""
        tunnel = OurTunnel(course)
        link = tunnel.topology.link
        material = [(secrets.token_hex(32), secrets.token_hex(8)) for _ in range(2)]
        common = {
            "cipher": self._cipher,
            "offloads": self._offloads,
            "keepalive_s": self._keepalive_s,
            "mtu": course.inner_mtu,
            "peer_id": _PEER_ID,
        }
        server = {
            **common,
            "keepalive_s": 0,
            "mode": "MULTIPEER",
            "local": [link.left_ipv4, _PORT],
            "remote": [link.right_ipv4, _PORT],
            "addresses": [f"{tunnel.server_ipv4}/24", f"{tunnel.server_ipv6}/64"],
            "vpn": [tunnel.client_ipv4, tunnel.client_ipv6],
            "encrypt": material[0],
            "decrypt": material[1],
        }
        client = {
            **common,
            "mode": "P2P",
            "local": [link.right_ipv4, _PORT],
            "remote": [link.left_ipv4, _PORT],
            "addresses": [f"{tunnel.client_ipv4}/24", f"{tunnel.client_ipv6}/64"],
            "vpn": [None, None],
            "encrypt": material[1],
            "decrypt": material[0],
        }
        try:
            _start(tunnel, tunnel.server, server)
            _start(tunnel, tunnel.client, client)
            tunnel.wait_connected()
        except BaseException:
            tunnel.close()
            raise
        return tunnel


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
