"""Coalescing never makes good what was bad, nor joins what does not belong together."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from security.forge import checksum, tcp, udp
from security.lab import LabPeer, TunLab

import ovpn_dco as dco

pytestmark = [pytest.mark.security, pytest.mark.root]

# Not an address of ours, and nothing is forwarded: the stack answers nothing.
FAR = "10.9.0.200"
FAR6 = "fd09::200"


@pytest.fixture
def lab() -> Iterator[TunLab]:
    with TunLab() as laboratory:
        active = laboratory.device.offloads.active
        if not dco.Offload.TUN_UDP_GRO & active:
            pytest.skip("this kernel takes no UDP super-packets from a TUN")
        yield laboratory


@pytest.fixture
def alice(lab: TunLab) -> LabPeer:
    return lab.add_peer(7)


def payload(number: int, size: int = 500) -> bytes:
    return bytes([number]) * size


def segments(count: int, *, spoiled: int | None = None, ipv6: bool = False) -> list[bytes]:
    source, destination = ("fd09::7", FAR6) if ipv6 else ("10.9.0.7", FAR)
    return [
        tcp(
            source,
            destination,
            payload(number),
            sequence=1000 + 500 * number,
            spoil=int(number == spoiled),
        )
        for number in range(count)
    ]


def datagrams(count: int, *, spoiled: int | None = None, ipv6: bool = False) -> list[bytes]:
    source, destination = ("fd09::7", FAR6) if ipv6 else ("10.9.0.7", FAR)
    return [
        udp(source, destination, payload(number), spoil=int(number == spoiled))
        for number in range(count)
    ]


def deliver(lab: TunLab, alice: LabPeer, packets: list[bytes]) -> tuple[list[bytes], int]:
    """What was written to the interface, and how many packets it stands for."""
    before = lab.device.stats()
    train = [alice.forge.seal(packet) for packet in packets]
    outcome = lab.deliver_train(train, sock=alice.socket)
    assert not outcome.drops
    after = lab.device.stats()
    assert after.tun_writes - before.tun_writes == len(outcome.inner)
    return outcome.inner, after.tun_write_packets - before.tun_write_packets


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("make", [segments, datagrams])
def test_a_flow_is_coalesced(lab: TunLab, alice: LabPeer, make, ipv6: bool) -> None:
    packets = make(5, ipv6=ipv6)
    (written,), count = deliver(lab, alice, packets)
    assert count == 5
    assert written.endswith(b"".join(map(payload, range(5))))


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("make", [segments, datagrams])
@pytest.mark.parametrize("spoiled", range(5))
def test_bad_checksum_is_never_merged(
    lab: TunLab, alice: LabPeer, make, spoiled: int, ipv6: bool
) -> None:
    """It arrives alone and as bad as it was, and its neighbours arrive whole."""
    packets = make(5, spoiled=spoiled, ipv6=ipv6)
    written, count = deliver(lab, alice, packets)
    assert count == 5
    assert packets[spoiled] in written
    others = [packet for packet in written if packet != packets[spoiled]]
    assert not any(payload(spoiled) in packet for packet in others)
    together = b"".join(others)
    assert all(payload(n) in together for n in range(5) if n != spoiled)


def test_bad_ip_header_checksum_is_never_merged(lab: TunLab, alice: LabPeer) -> None:
    packets = segments(3)
    spoiled = bytearray(packets[1])
    spoiled[10] ^= 1
    packets[1] = bytes(spoiled)
    train = [alice.forge.seal(packet) for packet in packets]
    outcome = lab.deliver_train(train, sock=alice.socket)
    # The packet socket sees it before the stack throws it away.
    assert packets[1] in outcome.inner
    assert not any(payload(1) in packet for packet in outcome.inner if packet != packets[1])


@pytest.mark.parametrize("byte", [1, 6, 8], ids=["tos", "df", "ttl"])
def test_unlike_headers_are_not_merged(lab: TunLab, alice: LabPeer, byte: int) -> None:
    packets = segments(3)
    other = bytearray(packets[1])
    other[byte] ^= 0x40 if byte == 6 else 1
    other[10:12] = b"\0\0"
    other[10:12] = checksum(bytes(other[:20])).to_bytes(2, "big")
    packets[1] = bytes(other)
    written, count = deliver(lab, alice, packets)
    assert count == 3
    assert written == packets


def test_two_peers_are_never_merged(lab: TunLab, alice: LabPeer) -> None:
    """The same flow out of two tunnels: one of them only pretends."""
    lab.device.set_source_check("off")
    bob = lab.add_peer(8)
    packets = segments(4)
    train = [
        (alice if number % 2 == 0 else bob).forge.seal(packet)
        for number, packet in enumerate(packets)
    ]
    outcome = lab.deliver_train(train, sock=alice.socket)
    assert sorted(outcome.inner) == sorted(packets)


def test_gap_in_the_sequence_is_not_closed(lab: TunLab, alice: LabPeer) -> None:
    packets = segments(4)
    del packets[1]
    written, count = deliver(lab, alice, packets)
    assert count == 3
    assert len(written) == 2
    assert written[0] == packets[0]
