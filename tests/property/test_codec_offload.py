"""Split and coalesce: one undoes the other, and neither ever changes what a flow carries."""

from __future__ import annotations

import random
import struct

from codec_packets import (
    ACK,
    CWR,
    FIN,
    NO_OFFLOAD,
    PSH,
    TCP,
    UDP,
    Flow,
    is_valid,
    ones_sum,
    without_free_id,
)
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco import _core

Item = tuple[bytes, bytes, int]

flows = st.builds(
    Flow,
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([TCP, UDP]),
    port=st.integers(1, 65535),
    df=st.booleans(),
    tos=st.integers(0, 255),
    ttl=st.integers(1, 255),
    label=st.integers(0, 0xFFFFF),
    ack=st.integers(0, 0xFFFFFFFF),
    window=st.integers(0, 0xFFFF),
    options=st.integers(0, 10).map(lambda words: bytes(range(4 * words))),
)
sequences = st.integers(0, 0xFFFFFFFF)
idents = st.integers(0, 0xFFFF)


def payload_of(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def expand(items: list[Item]) -> list[bytes]:
    """What the kernel makes of written super-packets."""
    return [packet for vnet, whole, _ in items for packet in _core.split(whole, vnet)]


@given(
    flow=flows,
    segment=st.integers(1, 1500),
    count=st.integers(2, 64),
    tail=st.integers(0, 1499),
    sequence=sequences,
    ident=idents,
    pushed=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_coalesce_undoes_split(
    flow: Flow,
    segment: int,
    count: int,
    tail: int,
    sequence: int,
    ident: int,
    pushed: bool,
    seed: int,
) -> None:
    size = min(segment * (count - 1) + 1 + tail % segment, 65535 - flow.header)
    if size <= segment:
        size = segment + 1
    flags = ACK | PSH if pushed and flow.protocol == TCP else ACK
    whole = flow.super_packet(payload_of(seed, size), sequence=sequence, ident=ident, flags=flags)
    packets = _core.split(whole, flow.vnet(segment))
    assert len(packets) == -(-size // segment)
    assert all(is_valid(packet) for packet in packets)
    assert b"".join(packet[flow.header :] for packet in packets) == whole[flow.header :]
    items = _core.coalesce(packets, tcp=True, udp=True)
    assert items == [(flow.vnet(segment), whole, len(packets))]


@given(
    flow=flows.filter(lambda flow: flow.protocol == TCP),
    segment=st.integers(1, 2000),
    size=st.integers(1, 9000),
    flags=st.integers(0, 255),
    sequence=sequences,
    ident=idents,
)
def test_split_headers(
    flow: Flow, segment: int, size: int, flags: int, sequence: int, ident: int
) -> None:
    whole = flow.super_packet(bytes(size), sequence=sequence, ident=ident, flags=flags)
    packets = _core.split(whole, flow.vnet(segment))
    for index, packet in enumerate(packets):
        cleared = CWR if index else 0
        if index < len(packets) - 1:
            cleared |= FIN | PSH
        expected = flow.packet(
            bytes(len(packet) - flow.header),
            sequence=sequence + index * segment,
            ident=ident + index,
            flags=flags & ~cleared,
        )
        assert packet == expected


@st.composite
def traffic(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """(flow number, packet) of several flows, mingled; some out of order, repeated or odd."""
    mingled: list[tuple[int, bytes]] = []
    seed = draw(st.integers(0, 1 << 32))
    rng = random.Random(seed)
    for number in range(draw(st.integers(1, 6))):
        flow = draw(flows)
        flow = Flow(**{**vars(flow), "port": 1000 + number})
        sequence, ident, size = (
            rng.randrange(1 << 32),
            rng.randrange(1 << 16),
            rng.randrange(1, 600),
        )
        packets = []
        for _ in range(draw(st.integers(1, 24))):
            length = size if rng.random() < 0.9 else rng.randrange(0, 700)
            flags = ACK | PSH if rng.random() < 0.1 else ACK if rng.random() < 0.95 else ACK | FIN
            packets.append(
                flow.packet(rng.randbytes(length), sequence=sequence, ident=ident, flags=flags)
            )
            sequence += length
            ident += 1
        if rng.random() < 0.3:
            rng.shuffle(packets)
        if rng.random() < 0.2:
            packets.append(packets[0])
        places = sorted(rng.randrange(len(mingled) + 1) for _ in packets)
        for shift, (place, packet) in enumerate(zip(places, packets, strict=True)):
            mingled.insert(place + shift, (number, packet))
    return mingled


def by_flow(packets: list[bytes]) -> dict[tuple[int, int, bytes], list[bytes]]:
    """Packets in the order they come, by version, protocol and ports."""
    found: dict[tuple[int, int, bytes], list[bytes]] = {}
    for packet in packets:
        version = packet[0] >> 4
        at = 20 if version == 4 else 40
        key = (version, packet[9 if version == 4 else 6], packet[at : at + 4])
        found.setdefault(key, []).append(without_free_id(packet))
    return found


@given(traffic())
def test_flows_keep_content_and_order(mingled: list[tuple[int, bytes]]) -> None:
    packets = [packet for _, packet in mingled]
    items = _core.coalesce(packets, tcp=True, udp=True)
    assert sum(count for _, _, count in items) == len(packets)
    assert by_flow(expand(items)) == by_flow(packets)


@given(traffic(), st.data())
def test_spoilt_packets_never_merge(mingled: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """One bit of some packets flips; IPv6 does not sum up what stands before the addresses."""
    packets, spoilt, intact = [], [], []
    for _, packet in mingled:
        if not data.draw(st.booleans()):
            intact.append(packet)
        else:
            first = 0 if packet[0] >> 4 == 4 else 8
            at = data.draw(st.integers(first, len(packet) - 1))
            bit = 1 << data.draw(st.integers(0, 7))
            packet = packet[:at] + bytes([packet[at] ^ bit]) + packet[at + 1 :]
            spoilt.append(packet)
        packets.append(packet)
    items = _core.coalesce(packets, tcp=True, udp=True)
    alone = [whole for vnet, whole, count in items if count == 1 and vnet == NO_OFFLOAD]
    for packet in spoilt:
        assert packet in alone
    merged = [
        packet for vnet, whole, count in items if count > 1 for packet in _core.split(whole, vnet)
    ]
    # One spoilt in its id alone looks like the intact packet that it is a repetition of.
    told_apart = set(map(without_free_id, spoilt)) - set(map(without_free_id, intact))
    assert not {without_free_id(packet) for packet in merged} & told_apart


@given(traffic(), st.booleans(), st.booleans())
def test_switches_and_owners(mingled: list[tuple[int, bytes]], tcp: bool, udp: bool) -> None:
    packets = [packet for _, packet in mingled]
    owners = [index % 2 for index in range(len(packets))]
    for vnet, whole, count in _core.coalesce(packets, tcp=tcp, udp=udp, owners=owners):
        if count > 1:
            protocol = whole[9] if whole[0] >> 4 == 4 else whole[6]
            assert tcp if protocol == TCP else udp
            assert struct.unpack("=BBHHHH", vnet)[0] == 1
    alternating = [packets[0]] * 8
    items = _core.coalesce(alternating, tcp=True, udp=False, owners=range(8))
    assert [count for _, _, count in items] == [1] * 8


@given(st.lists(st.binary(max_size=200), max_size=300))
def test_any_bytes(packets: list[bytes]) -> None:
    items = _core.coalesce(packets, tcp=True, udp=True)
    assert [whole for _, whole, _ in items] == packets
    assert all(vnet == NO_OFFLOAD for vnet, _, _ in items)


@given(st.binary(max_size=2000), st.binary(min_size=10, max_size=10))
def test_split_takes_any_bytes(packet: bytes, vnet: bytes) -> None:
    packets, refusal = [], ""
    try:
        packets = _core.split(packet, vnet)
    except ValueError as error:
        refusal = str(error)
    assert packets or refusal in ("tx_malformed", "tx_gso")


@given(st.binary(max_size=3000))
def test_checksum(data: bytes) -> None:
    assert _core.checksum(data) == 0xFFFF - ones_sum(data)
