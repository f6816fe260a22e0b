"""Paths that carry less than either end's wire: client - router - server, where the router forwards
no more than the path has, and tells of it, or stays silent as those behind some firewalls do."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import needs_tool
from system.endpoints import Place, Running, write_files
from system.router import route
from system.tunnel import (
    PATIENCE_S,
    SERVER_IPV4,
    SERVER_IPV6,
    SYSTEM,
    Pair,
    Site,
    eventually,
    join,
    ping,
    try_ping,
)

import ovpn_dco as dco
from ovpn_dco import DropReason, Measure
from ovpn_dco.config import parse_client, parse_server
from ovpn_dco.testing import Namespace, Topology

pytestmark = [*SYSTEM, needs_tool("ip", "nft")]

LARGE = 3000  # bytes of a ping: fragments inside, whatever the path
VPN = "10.8.0.1"  # of a server by its file
INNER = {"ipv4": SERVER_IPV4, "ipv6": SERVER_IPV6}
SILENT = """table inet silence {
    chain out {
        type filter hook output priority 0;
        icmp type destination-unreachable drop
        icmpv6 type packet-too-big drop
    }
}
"""


# Traffic


def await_answer(client: Namespace, address: str, *, size: int = 56, what: str) -> None:
    eventually(
        lambda: try_ping(client, address, count=1, size=size, options=("-W", "0.5")).received,
        what=what,
    )


def large_pings(client: Namespace, address: str) -> None:
    """What a host sends that has heard of the path: the first ones may be the way it hears."""
    await_answer(client, address, size=LARGE, what="an answer to a large ping")
    ping(client, address, count=5, size=LARGE)


def transfer(server: Namespace, client: Namespace, address: str, size: int = 1 << 20) -> None:
    """Some TCP both ways over one connection; each end sees all that the other sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        server.socket(family, socket.SOCK_STREAM) as listener,
        client.socket(family, socket.SOCK_STREAM) as far,
    ):
        listener.bind((address, 0))
        listener.listen()
        far.settimeout(PATIENCE_S)
        listener.settimeout(PATIENCE_S)
        far.connect(listener.getsockname()[:2])
        near, _ = listener.accept()
        near.settimeout(PATIENCE_S)
        with near:
            for sender, receiver in ((near, far), (far, near)):
                thread = threading.Thread(target=sender.sendall, args=(bytes(size),))
                thread.start()
                got = 0
                while got < size:
                    data = receiver.recv(1 << 16)
                    assert data, "the connection ended early"
                    got += len(data)
                thread.join()


class Router:
    """Between two spokes; it forwards up to `path` bytes, and without `icmp` is silent of more."""

    def __init__(self, path: int, *, icmp: bool) -> None:
        self.topology = Topology(spokes=2)
        try:
            self._route(path, icmp)
        except BaseException:
            self.close()
            raise

    def _route(self, path: int, icmp: bool) -> None:
        """By routes: interfaces that are made smaller would not receive what is larger."""
        route(self.topology)
        hub = self.topology.left
        for link in self.topology.links:
            for host, limit in ((link.right_ipv4, path), (link.right_ipv6, max(path, 1280))):
                way = ["dev", link.left_name, "mtu", "lock", str(limit)]
                hub.run(["ip", "route", "add", host, *way])
        if not icmp:
            hub.run(["nft", "-f", "-"], input_text=SILENT)

    def close(self) -> None:
        self.topology.close()


class Scene:
    """Both ends of a tunnel, inner MTU 1500, and the router between them."""

    def __init__(
        self, path: int, *, icmp: bool = True, outer: str = "ipv4", df: bool = False, **options: Any
    ) -> None:
        self.router = Router(path, icmp=icmp)
        self.topology = self.router.topology
        self.sites: list[Site] = []
        try:
            host = "::" if outer == "ipv6" else "0.0.0.0"
            for number, mode in ((1, dco.Mode.MULTIPEER), (2, dco.Mode.P2P)):
                spoke = self.topology.spokes[number - 1]
                site = Site(
                    spoke, number, mode=mode, host=host, mtu=1500, attach={"df": df}, **options
                )
                self.sites.append(site)
            near, far = self.topology.links
            where = near.right_ipv6 if outer == "ipv6" else near.right_ipv4
            self.pair: Pair = join(*self.sites, far, outer=outer, server_host=where)
            await_answer(
                self.client.namespace, SERVER_IPV6, what="addresses of IPv6 that are not tentative"
            )
        except BaseException:
            self.close()
            raise

    @property
    def server(self) -> Site:
        return self.sites[0]

    @property
    def client(self) -> Site:
        return self.sites[1]

    @property
    def peers(self) -> tuple[dco.Peer, dco.Peer]:
        return self.pair.at_server, self.pair.at_client

    def both(self, change: Callable[[dco.Peer], object]) -> None:
        for peer in self.peers:
            change(peer)

    def drops(self, reason: DropReason) -> int:
        return sum(site.device.stats().drops[reason] for site in self.sites)

    def close(self) -> None:
        for site in self.sites:
            site.close()
        self.router.close()

    def transfer(self, inner: str = "ipv4") -> None:
        transfer(self.server.namespace, self.client.namespace, INNER[inner])

    def large_pings(self, inner: str = "ipv4") -> None:
        large_pings(self.client.namespace, INNER[inner])


def assert_no_large_answer(namespace: Namespace) -> None:
    options = ("-W", "0.3")
    assert not try_ping(namespace, SERVER_IPV4, count=2, size=LARGE, options=options).received


@contextlib.contextmanager
def scene(path: int, **options: Any) -> Iterator[Scene]:
    with contextlib.closing(Scene(path, **options)) as made:
        yield made


def check_all(made: Scene) -> None:
    for inner in INNER:
        made.transfer(inner)
        made.large_pings(inner)


@pytest.mark.parametrize("icmp", [True, False], ids=["icmp", "silent"])
@pytest.mark.parametrize("path", [1400, 1280, 576])
def test_by_default_routers_fragment(path: int, icmp: bool) -> None:
    with scene(path, icmp=icmp) as made:
        check_all(made)
        assert made.drops(DropReason.TX_TOO_BIG) == 0


@pytest.mark.parametrize("path", [1400, 1280])
def test_over_ipv6_this_host_fragments(path: int) -> None:
    """As far as routers tell it to."""
    with scene(path, outer="ipv6") as made:
        check_all(made)
        assert made.drops(DropReason.TX_TOO_BIG) == 0


@pytest.mark.parametrize(
    ("outer", "path"),
    [("ipv4", 1400), ("ipv4", 1280), ("ipv4", 576), ("ipv6", 1400), ("ipv6", 1280)],
)
def test_with_df_the_path_is_learned(outer: str, path: int) -> None:
    with scene(path, outer=outer, df=True) as made:
        made.both(lambda peer: peer.set_mss_clamp(1492))
        check_all(made)
        headers = 48 if outer == "ipv6" else 28
        for peer in made.peers:
            info = peer.info()
            assert (info.path_mtu, info.mss) == (path, path - headers - 24 - 40)
        for site in made.sites:
            assert site.device.stats().icmp_errors_written
        assert made.client.device.stats().packets_fragmented == 0 or outer == "ipv4"


@pytest.mark.parametrize(
    ("outer", "path"),
    [("ipv4", 1400), ("ipv4", 1280), ("ipv4", 576), ("ipv6", 1400), ("ipv6", 1280)],
)
def test_silent_paths_must_be_told(outer: str, path: int) -> None:
    """Nothing can be learned there: with the clamp TCP passes, with the limit everything does."""
    with scene(path, outer=outer, df=True, icmp=False) as made:
        made.both(lambda peer: peer.set_mss_clamp(path, measure=Measure.OUTER))
        made.transfer("ipv4")
        made.transfer("ipv6")
        assert_no_large_answer(made.client.namespace)
        made.both(lambda peer: peer.set_path_limit(path))
        made.transfer("ipv4")
        made.large_pings("ipv4")
        made.transfer("ipv6")
        if (outer, path) != ("ipv6", 1280):  # where 1280 bytes inside do not fit without a word
            made.large_pings("ipv6")


@pytest.mark.parametrize("lines", [("mssfix 576 mtu", "mtu-disc yes"), ()], ids=["df", "default"])
def test_files_of_a_server_and_a_client(lines: tuple[str, ...], tmp_path: Path) -> None:
    """On a silent path of 576 bytes; the handshake has to come through, too."""
    with contextlib.ExitStack() as undo:
        router = undo.enter_context(contextlib.closing(Router(576, icmp=False)))
        places = [Place(spoke) for spoke in router.topology.spokes]
        for place in places:
            undo.callback(place.close)
        remote = f"remote {router.topology.link.right_ipv4}"
        write_files(
            tmp_path,
            client=["dev vpn0", remote, *lines],
            server=["dev vpn0", *lines],
        )
        server = dco.Server(parse_server(tmp_path / "server/server.conf"))
        client = dco.Client(parse_client(tmp_path / "client/client.ovpn"))
        for place, endpoint in zip(places, (server, client), strict=True):
            running: Running[Any] = Running(place, endpoint)
            running.do(lambda one: one.start())
            undo.callback(running.close)
        there, here = (place.namespace for place in places)
        transfer(there, here, VPN)
        large_pings(here, VPN)
