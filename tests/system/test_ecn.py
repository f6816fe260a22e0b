"""Marks of a router between the ends of a tunnel, and what they do to the flows inside."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from support import needs_tool
from system.router import route
from system.test_offloads import datagrams, label, stream
from system.tunnel import (
    PATIENCE_S,
    PORT,
    SERVER_IPV4,
    SERVER_IPV6,
    SYSTEM,
    Pair,
    Site,
    Sniffer,
    eventually,
    join,
    ping,
    try_ping,
)

import ovpn_dco as dco
from ovpn_dco import DropReason, Offload
from ovpn_dco.testing import Namespace, Topology, ethtool

pytestmark = [*SYSTEM, needs_tool("nft")]

NOT_ECT, ECT1, ECT0, CE = range(4)
EF = 46 << 2  # a DSCP where it stands
IP_RECVTOS = 13
RULES = """
table ip outer {{
    counter marked {{ }}
    chain forward {{
        type filter hook forward priority 0;
        ip daddr {server4} udp dport {port} {which4} counter name marked ip ecn set ce
    }}
}}
table ip6 outer {{
    counter marked {{ }}
    chain forward {{
        type filter hook forward priority 0;
        ip6 daddr {server6} udp dport {port} {which6} counter name marked ip6 ecn set ce
    }}
}}
"""


@dataclass
class Road:
    """A client, a server, and the router that all datagrams between them pass."""

    topology: Topology
    server: Site
    client: Site
    pair: Pair
    outer: str

    @property
    def router(self) -> Namespace:
        return self.topology.left

    def mark(self, which: str = "{ip} ecn != not-ect") -> None:
        """The router marks what goes to the server: congestion where `which` says so."""
        link = self.topology.links[0]
        rules = RULES.format(
            server4=link.right_ipv4,
            server6=link.right_ipv6,
            port=PORT,
            which4=which.format(ip="ip"),
            which6=which.format(ip="ip6"),
        )
        self.router.run(["nft", "-f", "-"], input_text=rules)

    def marked(self) -> int:
        """Packets that the router has marked."""
        found = json.loads(self.router.run(["nft", "-j", "list", "counters"]).stdout)
        return sum(one["counter"]["packets"] for one in found["nftables"] if "counter" in one)

    def refused(self) -> int:
        """Packets that the server has dropped because of their mark."""
        return self.server.device.stats().drops[DropReason.RX_ECN]


@pytest.fixture
def make_road() -> Iterator[Callable[..., Road]]:
    with contextlib.ExitStack() as cleanup:
        yield lambda *arguments, **options: cleanup.enter_context(road(*arguments, **options))


@contextlib.contextmanager
def road(outer: str = "ipv4", *, bare: bool = False, **options: object) -> Iterator[Road]:
    """`outer`: ipv4, ipv6, or mapped, which is IPv4 between IPv6 sockets."""
    topology = Topology(spokes=2, bare=bare)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(topology.close)
        route(topology)
        sites = []
        for number, spoke in enumerate(topology.spokes, 1):
            mode = dco.Mode.MULTIPEER if number == 1 else dco.Mode.P2P
            host = "0.0.0.0" if outer == "ipv4" else "::"
            site = Site(spoke, number, mode=mode, host=host, **options)  # type: ignore[arg-type]
            cleanup.callback(site.close)
            sites.append(site)
        server, client = sites
        near, far = topology.links
        where = near.right_ipv6 if outer == "ipv6" else near.right_ipv4
        pair = join(server, client, far, outer=outer, server_host=where)
        yield Road(topology, server, client, pair, outer)


def tos_of(packet: bytes) -> int:
    return packet[1] if packet[0] >> 4 == 4 else (packet[0] << 4 | packet[1] >> 4) & 0xFF


def protocol_of(packet: bytes) -> int:
    return packet[9] if packet[0] >> 4 == 4 else packet[6]


def tcp_ecn(road: Road, value: int) -> None:
    for site in (road.server, road.client):
        site.namespace.run(["sh", "-c", f"echo {value} >/proc/sys/net/ipv4/tcp_ecn"])


def delivered_with_ce(namespace: Namespace) -> int:
    """Segments of which a sender here was told that they had been marked: ECE came back."""
    lines = namespace.run(["cat", "/proc/net/netstat"]).stdout.splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(values[names.index("TCPDeliveredCE")])


# Real flows


@pytest.mark.parametrize("bare", [False, True], ids=["veth", "bare"])
@pytest.mark.parametrize("outer", ["ipv4", "ipv6", "mapped"])
def test_a_flow_hears_of_congestion(make_road: Callable[..., Road], outer: str, bare: bool) -> None:
    """The sender slows down although nothing is lost; one that knows no ECN is let alone."""
    road = make_road(outer, bare=bare)
    road.mark("{ip} ecn != not-ect numgen inc mod 20 0")
    for address in (SERVER_IPV4, SERVER_IPV6):
        tcp_ecn(road, 0)
        before = road.marked()
        stream(road.server.namespace, road.client.namespace, address, size=1 << 20)
        assert road.marked() == before
        tcp_ecn(road, 1)
        before = delivered_with_ce(road.client.namespace)
        stream(road.server.namespace, road.client.namespace, address, size=4 << 20)
        assert road.marked() > 0
        assert delivered_with_ce(road.client.namespace) > before
    assert road.refused() == 0


def test_a_flow_that_knows_no_ecn_must_see_loss(make_road: Callable[..., Road]) -> None:
    """Such marks are wrong already on the way; they must not pass for less than they are."""
    road = make_road()
    road.mark("counter")
    with Sniffer(road.server.namespace, road.server.name) as sniffer:
        assert try_ping(road.client.namespace, SERVER_IPV4, count=3).received == 0
        assert road.refused() == 3
        ping(road.client.namespace, SERVER_IPV4, count=3, options=("-Q", str(ECT0)))
        packets = [packet for outgoing, packet in sniffer.packets() if not outgoing]
    requests = [packet for packet in packets if protocol_of(packet) == socket.IPPROTO_ICMP]
    assert [tos_of(packet) for packet in requests] == [CE] * 3
    assert road.refused() == 3
    assert road.marked() == 6
    # A network that marks everything can be lived with.
    road.pair.at_server.set_marking(ecn="off")
    ping(road.client.namespace, SERVER_IPV4)


# The wire


@pytest.mark.parametrize("outer", ["ipv4", "ipv6"])
def test_what_the_wire_sees(make_road: Callable[..., Road], outer: str) -> None:
    road = make_road(outer)
    link, client = road.topology.links[1], road.client.namespace

    def seen(tos: int, address: str) -> set[int]:
        """TOS of the datagrams that leave for a ping with this one inside."""
        with Sniffer(client, link.right_name) as sniffer:
            ping(client, address, count=2, options=("-Q", str(tos)))
            packets = [packet for outgoing, packet in sniffer.packets() if outgoing]
        return {tos_of(packet) for packet in packets if protocol_of(packet) == socket.IPPROTO_UDP}

    for address in (SERVER_IPV4, SERVER_IPV6):
        assert [seen(EF | ecn, address) for ecn in range(4)] == [{ecn} for ecn in range(4)]
    road.pair.at_client.set_marking(dscp=True)
    assert seen(EF | ECT1, SERVER_IPV4) == {EF | ECT1}
    road.pair.at_client.set_marking(ecn="compatibility")
    assert seen(EF | ECT1, SERVER_IPV4) == {0}


# Each datagram has its own mark


EACH = [Offload.UDP_GSO, Offload.UDP_GRO, Offload.UDP_BATCH, Offload.TUN_USO, Offload.TUN_UDP_GRO]
LADDER = [Offload.ALL, *(Offload.ALL & ~one for one in EACH), Offload.NONE]


def marks(road: Road, count: int) -> list[int]:
    """Sends numbered datagrams of two flows with and without ECN; the TOS of each that arrives."""
    server, client = road.server.namespace, road.client.namespace
    with server.socket() as inbox, client.socket() as first, client.socket() as second:
        inbox.bind((SERVER_IPV4, 0))
        inbox.settimeout(PATIENCE_S)
        inbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        inbox.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
        first.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, ECT0)
        for number in range(count):
            data = struct.pack("!I", number) + bytes(600)
            (second if number % 5 == 4 else first).sendto(data, inbox.getsockname())
        found = {}
        for _ in range(count):
            data, ((_, _, tos),), _, _ = inbox.recvmsg(2048, 64)
            found[struct.unpack("!I", data[:4])[0]] = tos[0]
    return [found[number] for number in range(count)]


@pytest.mark.parametrize("allowed", LADDER, ids=label)
def test_each_datagram_keeps_its_own_mark(make_road: Callable[..., Road], allowed: Offload) -> None:
    """The router sees them one by one. The kernel at the server joins them again, and so do we, but
    never two that differ."""
    road = make_road(bare=True, offloads=allowed)
    link = road.topology.links[0]
    with road.server.namespace.enter():
        ethtool.set_features(link.right_name, {"rx-gro": True})
    road.mark("{ip} ecn != not-ect numgen inc mod 3 0")
    count = 500
    found = marks(road, count)
    assert {tos for number, tos in enumerate(found) if number % 5 == 4} == {NOT_ECT}
    others = [tos for number, tos in enumerate(found) if number % 5 != 4]
    # In order, since the flow has one number after the other.
    assert others == [ECT0 if number % 3 else CE for number in range(len(others))]
    assert road.marked() == others.count(CE)
    assert road.refused() == 0
    eventually(lambda: road.pair.at_server.stats().vpn_rx_packets == count)


def test_a_train_that_was_marked_is_marked_as_a_whole(make_road: Callable[..., Road]) -> None:
    """Where the network carries trains whole, the router sees each as one packet."""
    road = make_road()
    road.mark()
    with Sniffer(road.server.namespace, road.server.name) as sniffer:
        with contextlib.ExitStack() as stack:
            # Super-packets in, super-packets out: `datagrams` compares each byte.
            stack.enter_context(default_tos(road.client.namespace, ECT0))
            datagrams(road.server.namespace, road.client.namespace, SERVER_IPV4)
        packets = [packet for outgoing, packet in sniffer.packets() if not outgoing]
    packets = [packet for packet in packets if protocol_of(packet) == socket.IPPROTO_UDP]
    assert {tos_of(packet) for packet in packets} == {CE}
    assert max(map(len, packets)) > 10_000
    assert road.refused() == 0


@contextlib.contextmanager
def default_tos(namespace: Namespace, tos: int) -> Iterator[None]:
    """All that the host sends into its tunnel has this ECN."""
    ecn = {ECT0: "ect0", ECT1: "ect1"}[tos]
    rules = f"""
    table ip inner {{
        chain output {{
            type filter hook output priority 0;
            ip daddr {SERVER_IPV4} ip ecn set {ecn}
        }}
    }}
    """
    namespace.run(["nft", "-f", "-"], input_text=rules)
    try:
        yield
    finally:
        namespace.run(["nft", "delete", "table", "ip", "inner"])
