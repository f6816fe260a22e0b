"""A device on the kernel's driver, and one on our engine: they carry each other's packets."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from kernel.guest import GUEST, KERNEL, USERSPACE
from support import needs_tool
from system.tunnel import (
    PORT,
    SERVER_IPV4,
    SERVER_IPV6,
    RunningPing,
    Tunnel,
    eventually,
    iperf3,
    open_tunnel,
    ping,
)

import ovpn_dco as dco
from ovpn_dco import Cipher, DeleteReason, KeySlot, PeerDeleted, PeerFloated

pytestmark = [*GUEST, pytest.mark.root, needs_tool("ping", "iperf3")]

WHOLE = 1420 - 28  # bytes of a ping that fills the interface's MTU
ALIVE_S = 5
CIPHERS = [cipher for cipher in Cipher if cipher is not Cipher.NONE]


@dataclass(frozen=True)
class Case:
    """One tunnel. `server` is the back end there; the client has the other one."""

    server: str
    tcp: bool = False
    outer: str = "ipv4"
    cipher: Cipher = Cipher.AES_256_GCM

    def __str__(self) -> str:
        way = "tcp" if self.tcp else "udp"
        return f"{self.server}-server-{way}-{self.outer}-{self.cipher.name}".lower()

    @property
    def client(self) -> str:
        return USERSPACE if self.server == KERNEL else KERNEL


ROLES = [Case(KERNEL), Case(USERSPACE)]
WAYS = [Case(role.server, tcp) for role in ROLES for tcp in (False, True)]
ALL = [
    # Each cipher meets both families at each end and over each transport in turn.
    Case(way.server, way.tcp, ("ipv4", "ipv6")[number % 2], cipher)
    for turn, way in enumerate(WAYS)
    for number, cipher in enumerate(CIPHERS, turn)
]

Make = Callable[[Case], Tunnel]


def open_case(case: Case) -> Tunnel:
    tunnel = open_tunnel(
        server={"backend": case.server},
        client={"backend": case.client},
        tcp=case.tcp,
        outer=case.outer,
        cipher=case.cipher,
    )
    assert [site.device.backend for site in tunnel.sites] == [case.server, case.client]
    return tunnel


@pytest.fixture
def make() -> Iterator[Make]:
    with contextlib.ExitStack() as cleanup:
        yield lambda case: cleanup.enter_context(open_case(case))


def nothing_is_told(tunnel: Tunnel) -> bool:
    return not any(site.device.poll_events() for site in tunnel.sites)


@pytest.mark.parametrize("case", ALL, ids=str)
def test_pings(make: Make, case: Case) -> None:
    tunnel = make(case)
    for size in (56, WHOLE, 4000):
        for address in (SERVER_IPV4, SERVER_IPV6):
            ping(tunnel.client.namespace, address, size=size)
        for address in (tunnel.client.ipv4, tunnel.client.ipv6):
            ping(tunnel.server.namespace, address, size=size)
    for end in (tunnel.pair.at_server, tunnel.pair.at_client):
        stats = end.stats()
        assert stats.vpn_rx_packets >= 60
        assert stats.vpn_tx_packets >= 60
        assert stats.link_rx_bytes > stats.vpn_rx_bytes
    assert nothing_is_told(tunnel)


@pytest.mark.parametrize("case", WAYS, ids=str)
@pytest.mark.parametrize("reverse", [False, True], ids=["up", "down"])
def test_transfer(make: Make, case: Case, reverse: bool) -> None:
    """Of a TCP stream: what is lost comes again, what is corrupt would not."""
    tunnel = make(case)
    report = iperf3(
        tunnel.server.namespace,
        tunnel.client.namespace,
        SERVER_IPV4,
        reverse=reverse,
        megabytes=4,
    )
    assert report["end"]["sum_received"]["bytes"] >= 4 << 20
    assert nothing_is_told(tunnel)


@pytest.mark.parametrize("outer", ["ipv4", "ipv6"])
@pytest.mark.parametrize("server", [KERNEL, USERSPACE])
def test_address_of_the_client_changes(make: Make, server: str, outer: str) -> None:
    tunnel = make(Case(server, outer=outer))
    link, namespace, peer = tunnel.topology.link, tunnel.client.namespace, tunnel.pair.at_server
    ping(namespace, SERVER_IPV4)
    old = peer.remote[0]
    new = f"{old[:-1]}3"
    namespace.replace_address(link.right_name, old, new)
    ping(namespace, SERVER_IPV4, count=20)
    ping(tunnel.server.namespace, tunnel.client.ipv6, count=20)
    (event,) = tunnel.server.events(PeerFloated)
    assert (event.peer_id, event.generation) == peer.ref
    assert event.remote[:2] == peer.remote[:2] == (new, PORT)
    assert nothing_is_told(tunnel), "the server has stayed where it was"


@pytest.mark.parametrize("case", WAYS, ids=str)
def test_keys_roll_under_traffic(make: Make, case: Case) -> None:
    """Either end is the first to send with the new key; the other one knows it by then."""
    tunnel = make(case)
    pair = tunnel.pair
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4, interval_s=0.05)
    orders = itertools.cycle([(pair.at_client, pair.at_server), (pair.at_server, pair.at_client)])
    for key_id, order in zip((1, 2, 3, 4, 5, 6, 7, 1), orders, strict=False):
        pair.install(KeySlot.SECONDARY, key_id, CIPHERS[key_id % len(CIPHERS)])
        for end in order:
            end.swap_keys()
            assert end.key(KeySlot.PRIMARY).key_id == key_id
            pass_traffic(end)
        for end in order:
            end.delete_key(KeySlot.SECONDARY)
        pass_traffic(pair.at_server)
    running.stop_without_loss()
    assert nothing_is_told(tunnel)


def pass_traffic(end: dco.Peer) -> None:
    before = end.stats().vpn_rx_packets
    eventually(lambda: end.stats().vpn_rx_packets >= before + 3, what="traffic between the steps")


@pytest.mark.parametrize("case", WAYS, ids=str)
def test_keepalives_keep_alive_and_silence_expires(make: Make, case: Case) -> None:
    """Without a packet of anybody else's; and then the wire is cut."""
    tunnel = make(case)
    ends = (tunnel.pair.at_server, tunnel.pair.at_client)
    for end in ends:
        end.set_keepalive(interval_s=1, timeout_s=3)
    until = time.monotonic() + ALIVE_S
    while time.monotonic() < until:
        assert nothing_is_told(tunnel)
        time.sleep(0.2)
    ping(tunnel.client.namespace, SERVER_IPV4)
    tunnel.topology.right.set_up(tunnel.topology.link.right_name, up=False)
    for site, end in zip(tunnel.sites, ends, strict=True):
        (event,) = site.events(PeerDeleted)
        assert (event.peer_id, event.generation) == end.ref
        assert event.reason is DeleteReason.EXPIRED
        assert len(site.device.peers) == 0
        with pytest.raises(dco.NotFound):
            end.info()


@pytest.mark.parametrize("server", [KERNEL, USERSPACE])
def test_one_of_the_two_times(make: Make, server: str) -> None:
    """A keepalive without an end, and an end without a keepalive."""
    tunnel = make(Case(server))
    ends = [(tunnel.server, tunnel.pair.at_server), (tunnel.client, tunnel.pair.at_client)]
    (site, end), (_, other) = sorted(ends, key=lambda one: one[0].device.backend)
    assert site.device.backend == KERNEL
    end.set_keepalive(interval_s=1, timeout_s=0)
    eventually(lambda: other.stats().keepalive_rx >= 3, what="keepalives")
    assert nothing_is_told(tunnel)
    end.set_keepalive(interval_s=0, timeout_s=1)
    info = end.info()
    assert (info.keepalive_interval_s, info.keepalive_timeout_s) == (0, 1)
    (event,) = site.events(PeerDeleted)
    assert event.reason is DeleteReason.EXPIRED
