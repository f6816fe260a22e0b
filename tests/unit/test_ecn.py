"""TOS of inner and outer headers: what is copied out, and what marks of routers do. What congestion
marks do to a real flow is in tests/system/test_ecn.py."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from codec_packets import ones_sum
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import (
    PATIENCE_S,
    Host,
    add,
    eventually,
    forge,
    host,
    ipv4,
    ipv6,
    key_pair,
    refused,
    udp_socket,
    unseal,
)
from unit.test_state import successor
from unit.test_tcp import PAIR, line, read_frame

import ovpn_dco as dco
from ovpn_dco import DropReason, Ecn, Feature, KeySlot, Marking, Mode, Offload

NOT_ECT, ECT1, ECT0, CE = range(4)
EF = 46 << 2  # a DSCP where it stands
IP_RECVTOS, IPV6_RECVTCLASS = 13, 66
MINE, THEIRS = key_pair()
INNER = {4: ("10.8.0.1", "10.8.0.2"), 6: ("fd00:8::1", "fd00:8::2")}

# RFC 6040, section 4.2, read once more: what the inner header has afterwards; None: dropped.
TABLE = {
    NOT_ECT: {NOT_ECT: NOT_ECT, ECT0: NOT_ECT, ECT1: NOT_ECT, CE: None},
    ECT0: {NOT_ECT: ECT0, ECT0: ECT0, ECT1: ECT1, CE: CE},
    ECT1: {NOT_ECT: ECT1, ECT0: ECT1, ECT1: ECT1, CE: CE},
    CE: {NOT_ECT: CE, ECT0: CE, ECT1: CE, CE: CE},
}
EVERY = [(inner, outer) for inner in TABLE for outer in TABLE[inner]]


def with_tos(packet: bytes, tos: int) -> bytes:
    """The packet with another TOS or traffic class, and a good header checksum."""
    if packet[0] >> 4 == 6:
        word = 6 << 28 | tos << 20
        return struct.pack("!I", word) + packet[4:]
    head = packet[:1] + bytes([tos]) + packet[2:10] + bytes(2) + packet[12:20]
    return head[:10] + struct.pack("!H", 0xFFFF - ones_sum(head)) + packet[12:]


def outgoing(version: int, tos: int, payload: bytes = b"out") -> bytes:
    make = ipv4 if version == 4 else ipv6
    return with_tos(make(*INNER[version], payload), tos)


def incoming(version: int, tos: int, payload: bytes = b"in") -> bytes:
    make = ipv4 if version == 4 else ipv6
    return with_tos(make(*reversed(INNER[version]), payload), tos)


def tos_of(messages: Iterable[tuple[int, int, bytes]]) -> int:
    """Of the outer header, from what the kernel tells beside the datagram."""
    for level, kind, data in messages:
        if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS):
            return data[0]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_TCLASS):
            return int(struct.unpack("i", data)[0])
    raise AssertionError("the kernel has not told the TOS")


@dataclass
class Wire:
    """A device with one peer, whose end of the wire is ours."""

    host: Host
    far: socket.socket
    peer: dco.Peer
    next_id: int = 1

    def sent(self) -> tuple[int, bytes]:
        """The next datagram of the engine: TOS of the outer header, and what was in it."""
        data, messages, _, _ = self.far.recvmsg(2048, 256)
        return tos_of(messages), data

    def inner_sent(self) -> tuple[int, bytes]:
        tos, data = self.sent()
        return tos, unseal(THEIRS, data)[3]

    def outer(self, packet: bytes) -> int:
        """The TOS with which an inner packet leaves."""
        self.host.send(packet)
        tos, inner = self.inner_sent()
        assert inner == packet
        return tos

    def mark(self, tos: int) -> None:
        """The TOS of what comes to the engine from now on."""
        self.far.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        if self.far.family == socket.AF_INET6:
            self.far.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)

    def bring(self, packet: bytes) -> None:
        """A packet of the peer to the engine."""
        address = self.host.address
        if self.host.sock.family == socket.AF_INET6 and self.far.family == socket.AF_INET:
            address = ("127.0.0.1", address[1])
        self.far.sendto(forge(THEIRS, self.next_id, packet), address)
        self.next_id += 1


@contextlib.contextmanager
def wire(
    outer: str = "ipv4",
    *,
    own: int = 0,
    marking: dict[str, Any] | None = None,
    mode: Mode = Mode.P2P,
    peer_id: int = 7,
    **options: Any,
) -> Iterator[Wire]:
    """`outer`: ipv4, ipv6, or mapped, which is IPv4 to and from an IPv6 socket. `own`: the TOS that
    the owner of the socket has given it."""
    near = socket.AF_INET if outer == "ipv4" else socket.AF_INET6
    family = socket.AF_INET6 if outer == "ipv6" else socket.AF_INET
    inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with (
        outside,
        socket.socket(near, socket.SOCK_DGRAM) as sock,
        udp_socket(family) as far,
        dco.Device.open("test", mode=mode, tun_fd=inside.fileno(), **options) as device,
    ):
        inside.close()
        outside.settimeout(PATIENCE_S)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, own)
        far.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
        if near == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, own)
        if family == socket.AF_INET6:
            far.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVTCLASS, 1)
        host_address = {"ipv4": "127.0.0.1", "ipv6": "::1", "mapped": "::"}[outer]
        sock.bind((host_address, 0))
        transport = device.attach_udp(sock)
        vpn = {"vpn_ipv4": INNER[4][1], "vpn_ipv6": INNER[6][1]} if mode is Mode.MULTIPEER else {}
        peer = device.add_peer(peer_id, transport, remote=far.getsockname(), tx_id=7, **vpn)
        if marking:
            peer.set_marking(**marking)
        peer.install_key(KeySlot.PRIMARY, MINE)
        yield Wire(Host(device, outside, sock, transport), far, peer)


outers = pytest.mark.parametrize("outer", ["ipv4", "ipv6", "mapped"])
versions = pytest.mark.parametrize("version", [4, 6])


# Out


@outers
@versions
def test_ecn_is_copied_out(outer: str, version: int) -> None:
    with wire(outer) as w:
        assert w.peer.info().marking.ecn is Ecn.NORMAL
        for ecn in (NOT_ECT, ECT0, ECT1, CE, NOT_ECT):
            assert w.outer(outgoing(version, EF | ecn)) == ecn


@outers
@versions
def test_dscp_is_copied_out_when_it_is_asked_for(outer: str, version: int) -> None:
    with wire(outer, marking={"dscp": True}) as w:
        assert w.peer.info().marking.dscp
        for tos in range(0, 256, 7):
            assert w.outer(outgoing(version, tos)) == tos
        w.peer.set_marking(ecn="off", dscp=True)
        assert w.outer(outgoing(version, EF | ECT0)) == EF
        w.peer.set_marking(ecn="off")
        assert w.outer(outgoing(version, EF | ECT0)) == 0


@outers
def test_what_is_not_copied_is_as_the_owner_of_the_socket_wants_it(outer: str) -> None:
    own = 10 << 2
    with wire(outer, own=own) as w:
        assert [w.outer(outgoing(4, EF | ecn)) for ecn in range(4)] == [own | n for n in range(4)]
        w.peer.set_marking(ecn=Ecn.COMPATIBILITY)
        assert w.outer(outgoing(4, EF | CE)) == own
        w.peer.set_marking(ecn=Ecn.COMPATIBILITY, dscp=True)
        assert w.outer(outgoing(4, EF | CE)) == EF
        w.peer.set_marking(ecn=Ecn.NORMAL, dscp=True)
        assert w.outer(outgoing(4, NOT_ECT)) == 0


@pytest.mark.parametrize("ecn", [Ecn.COMPATIBILITY, Ecn.OFF])
def test_nothing_is_copied_for_a_peer_that_would_lose_marks(ecn: Ecn) -> None:
    with wire(marking={"ecn": ecn}) as w:
        assert w.peer.info().marking.ecn is ecn
        assert [w.outer(outgoing(4, EF | n)) for n in range(4)] == [0, 0, 0, 0]
        w.peer.set_marking()
        assert w.outer(outgoing(4, ECT1)) == ECT1


def test_control_packets_and_keepalives_have_the_tos_of_the_socket() -> None:
    own = 10 << 2
    with wire(own=own, marking={"dscp": True}) as w:
        assert w.outer(outgoing(4, EF | ECT0)) == EF | ECT0
        w.host.transport.send_control(b"\x38control", w.far.getsockname())
        assert w.sent() == (own, b"\x38control")
        w.peer.set_keepalive(interval_s=1, timeout_s=60)
        tos, payload = w.inner_sent()
        assert (tos, len(payload)) == (own, 16)
        assert w.outer(outgoing(4, EF | ECT0)) == EF | ECT0


RUNGS = [
    Offload.ALL,
    Offload.ALL & ~Offload.UDP_GSO,
    Offload.ALL & ~Offload.UDP_BATCH,
    Offload.NONE,
]


@pytest.mark.parametrize("offloads", RUNGS, ids=["all", "no gso", "no batch", "none"])
@settings(max_examples=15)
@given(
    flow=st.lists(
        st.tuples(
            st.sampled_from([NOT_ECT, NOT_ECT, ECT0, CE, EF | ECT1]),
            st.sampled_from([100, 100, 40, 200]),
            st.sampled_from([4, 6]),
        ),
        min_size=1,
        max_size=90,
    )
)
def test_each_datagram_of_a_batch_has_its_own(
    offloads: Offload, flow: list[tuple[int, int, int]]
) -> None:
    """Flows of all kinds in one batch: what leaves in one train agrees in TOS, order is kept."""
    with wire(marking={"dscp": True}, offloads=offloads, start=False) as w:
        packets = [
            outgoing(version, tos, struct.pack("!H", n) + bytes(size))
            for n, (tos, size, version) in enumerate(flow)
        ]
        for packet in packets:
            w.host.send(packet)
        w.host.device.start()
        assert [w.inner_sent() for _ in packets] == [
            (tos, packet) for (tos, _, _), packet in zip(flow, packets, strict=True)
        ]
        # What has arrived is counted a moment later.
        eventually(lambda: w.host.device.stats().udp_send_packets == len(packets))
        assert not w.host.drops()


def test_trains_are_as_long_as_the_tos_lasts() -> None:
    """A run of one TOS is one message, whatever came before; so the marks cost no system call."""
    with wire(start=False) as w:
        for tos in [NOT_ECT] * 10 + [ECT0] * 10 + [NOT_ECT] * 10:
            w.host.send(outgoing(4, tos))
        w.host.device.start()
        tos = [w.inner_sent()[0] for _ in range(30)]
        assert tos == [NOT_ECT] * 10 + [ECT0] * 10 + [NOT_ECT] * 10
        eventually(lambda: w.host.device.stats().udp_send_packets == len(tos))
        assert w.host.device.stats().udp_send_messages == 3
        assert w.host.device.stats().udp_sends == 1


def test_a_connection_carries_all_packets_alike() -> None:
    """Nothing is copied, and so what differs is no reason for another write."""
    with line(start=False) as ends:
        ends.peer.set_marking(dscp=True)
        packets = [outgoing(4, tos, b"%d" % tos) for tos in range(0, 256, 9)]
        for packet in packets:
            ends.host.send(packet)
        ends.host.device.start()
        assert [unseal(PAIR[1], read_frame(ends.far))[3] for _ in packets] == packets
        eventually(lambda: ends.host.device.stats().tcp_send_packets == len(packets))
        assert ends.host.device.stats().tcp_sends == 1


# In


@outers
@versions
def test_marks_are_brought_in(outer: str, version: int) -> None:
    """All sixteen pairs, with DSCP on both headers: that of the inner one stays."""
    with wire(outer) as w:
        for dropped, (inner, seen) in enumerate(EVERY * 2):
            w.mark(20 << 2 | seen)
            w.bring(incoming(version, EF | inner))
            expected = TABLE[inner][seen]
            if expected is not None:
                assert w.host.receive() == incoming(version, EF | expected)
            else:
                count = 1 + dropped // len(EVERY)
                eventually(lambda n=count: w.host.drops() == {DropReason.RX_ECN: n})
        assert w.host.drops() == {DropReason.RX_ECN: 2}
        assert w.peer.stats().link_rx_packets == 2 * len(EVERY)
        eventually(lambda: w.peer.stats().vpn_rx_packets == 2 * len(EVERY) - 2)


@pytest.mark.parametrize("ecn", [Ecn.COMPATIBILITY, Ecn.OFF])
def test_a_peer_whose_marks_do_not_count(ecn: Ecn) -> None:
    """With OFF alone: a network that marks everything does not stop the tunnel."""
    with wire(marking={"ecn": ecn}) as w:
        w.mark(CE)
        w.bring(incoming(4, ECT0))
        assert w.host.receive() == incoming(4, CE if ecn is Ecn.COMPATIBILITY else ECT0)
        w.bring(incoming(4, NOT_ECT))
        if ecn is Ecn.OFF:
            assert w.host.receive() == incoming(4, NOT_ECT)
        else:
            eventually(lambda: w.host.drops() == {DropReason.RX_ECN: 1})


def test_a_header_that_was_damaged_is_not_made_good() -> None:
    with wire() as w:
        w.mark(CE)
        packet = incoming(4, ECT0)
        bad = packet[:10] + bytes([packet[10] ^ 0x40]) + packet[11:]
        w.bring(bad)
        arrived = w.host.receive()
        assert arrived[1] == CE
        assert ones_sum(arrived[:20]) != 0xFFFF


@pytest.mark.parametrize("steering", [False, True])
def test_the_mark_goes_along_to_another_worker(steering: bool) -> None:
    """One of the two ids is at home elsewhere than where its datagrams come in."""
    offloads = Offload.ALL if steering else Offload.ALL & ~Offload.UDP_SIBLINGS
    handed = 0
    for peer_id in (8, 7):
        with wire(workers=2, offloads=offloads, peer_id=peer_id) as w:
            address = w.host.address
            for seen, inner in ((CE, ECT0), (ECT1, ECT0), (NOT_ECT, ECT0), (CE, NOT_ECT)):
                w.mark(seen)
                packet = forge(THEIRS, w.next_id, incoming(4, inner), peer_id=peer_id)
                w.next_id += 1
                w.far.sendto(packet, address)
                expected = TABLE[inner][seen]
                if expected is None:
                    eventually(lambda w=w: w.host.drops() == {DropReason.RX_ECN: 1})
                else:
                    assert w.host.receive() == incoming(4, expected)
            handed += w.host.device.stats().handed_to_open
    assert bool(handed) is not steering


def test_keepalives_and_messages_are_no_flow() -> None:
    """A mark on them is nobody's."""
    with wire() as w:
        w.mark(CE)
        w.bring(bytes.fromhex("2a187bf3641eb4cb07ed2d0a981fc748"))
        eventually(lambda: w.peer.stats().keepalive_rx == 1)
        w.bring(b"\0message")
        assert w.host.control()[0].data == b"\0message"
        assert not w.host.drops()


# API


def test_settings_of_peers() -> None:
    with host() as h:
        assert {Feature.ECN, Feature.DSCP} <= h.device.features
        peer = add(h)
        assert peer.info().marking == Marking(Ecn.NORMAL, dscp=False)
        peer.set_marking(ecn=Ecn.OFF, dscp=True)
        assert peer.info().marking == Marking(Ecn.OFF, dscp=True)
        peer.set(tx_id=3)
        assert peer.info().marking == Marking(Ecn.OFF, dscp=True)
        refused(dco.InvalidArgument, "ecn", lambda: peer.set_marking(ecn="perhaps"))
        refused(dco.InvalidArgument, "ecn", lambda: peer.set_marking(ecn=1))  # type: ignore[arg-type]
        assert peer.info().marking == Marking(Ecn.OFF, dscp=True)
        peer.set_marking(ecn="compatibility")
        assert peer.info().marking == Marking(Ecn.COMPATIBILITY)
        peer.delete()
        refused(dco.NotFound, "peer_id", peer.set_marking)


def test_a_successor_goes_on_with_the_same() -> None:
    with wire("mapped", own=10 << 2, marking={"ecn": "compatibility", "dscp": True}) as w:
        before = w.outer(outgoing(4, EF | ECT0))
        with successor(w.host.device, mode=Mode.P2P) as new:
            (peer,) = new.peers.values()
            assert peer.info().marking == Marking(Ecn.COMPATIBILITY, dscp=True)
            assert w.outer(outgoing(4, EF | ECT0)) == before == EF
            w.mark(CE)
            w.bring(incoming(4, ECT0))
            assert w.host.receive() == incoming(4, CE)
