"""Control packets, keepalive and floats."""

from __future__ import annotations

import pytest
from loopback import (
    KEEPALIVE,
    Target,
    eventually,
    forge,
    host,
    ipv4,
    key_pair,
    tunnel,
    udp_socket,
    unseal,
)

import ovpn_dco as dco
from ovpn_dco import DropReason, KeySlot

GOOD = ipv4("10.8.0.2", "10.8.0.1")


def test_control_packets_both_ways() -> None:
    with tunnel() as t:
        hello = b"\x38hello"
        t.client.transport.send_control(hello, t.server.address)
        (packet,) = t.server.control()
        assert packet.data == hello
        assert packet.transport is t.server.transport
        assert packet.remote == t.client.address
        assert packet.local == t.server.address
        assert packet.peer_id is None
        packet.transport.send_control(bytearray(b"\x40back"), packet.remote, packet.local)
        assert t.client.control()[0].data == b"\x40back"


def test_control_packets_are_received_in_batches_and_in_order() -> None:
    with tunnel(workers=1) as t:
        for number in range(20):
            t.client.transport.send_control(bytes([0x38, 0, 0, number]), t.server.address)
        eventually(lambda: t.server.device.stats().control_packets == 20)
        first = t.server.device.control.receive(max=7)
        assert [packet.data[3] for packet in first] == list(range(7))
        rest = t.server.device.control.receive()
        assert [packet.data[3] for packet in rest] == list(range(7, 20))
        sequence = [packet.sequence for packet in first + rest]
        assert sequence == sorted(sequence)
        assert t.server.device.control.receive() == []


def test_control_packets_beyond_the_ring_are_counted(target: Target) -> None:
    h, far, _, _ = target
    big = b"\x38" + bytes(60000)
    for _ in range(40):
        far.sendto(big, h.address)
    eventually(lambda: h.drops().get(DropReason.CONTROL_FULL))
    eventually(lambda: h.device.stats().udp_receive_packets == 40)
    packets = h.device.control.receive()
    assert len(packets) + h.drops()[DropReason.CONTROL_FULL] == 40
    assert {packet.data for packet in packets} == {big}


def test_messages_of_a_peer_come_with_its_id(target: Target) -> None:
    h, far, key, _ = target
    far.sendto(forge(key, 1, b"\x28message that is no IP"), h.address)
    (packet,) = h.control()
    assert packet.peer_id == 7
    assert packet.data == b"\x28message that is no IP"


def test_keepalive_is_consumed_and_counted(target: Target) -> None:
    h, far, key, peer = target
    far.sendto(forge(key, 1, KEEPALIVE), h.address)
    eventually(lambda: peer.stats().keepalive_rx == 1)
    assert peer.stats().vpn_rx_packets == 0
    assert not h.drops()
    assert not h.device.control.receive()


def test_keepalive_is_sent_and_silence_expires() -> None:
    with host(dco.Mode.P2P) as h, udp_socket() as far:
        mine, theirs = key_pair()
        peer = h.device.add_peer(9, h.transport, remote=far.getsockname())
        peer.install_key(KeySlot.PRIMARY, mine)
        peer.set_keepalive(interval_s=1, timeout_s=2)
        assert unseal(theirs, far.recv(2000)) == (0, 9, 1, KEEPALIVE)
        event = h.event(dco.PeerDeleted)
        assert event.reason is dco.DeleteReason.EXPIRED
        assert event.stats.keepalive_tx >= 1
        assert (event.peer_id, event.generation) == (9, peer.generation)
        with pytest.raises(dco.NotFound):
            peer.stats()


def test_a_peer_that_moves_is_followed(target: Target) -> None:
    h, far, key, peer = target
    with udp_socket() as elsewhere:
        elsewhere.sendto(forge(key, 10, GOOD), h.address)
        assert h.receive() == GOOD
        event = h.event(dco.PeerFloated)
        assert (event.peer_id, event.generation) == (7, peer.generation)
        assert event.remote == elsewhere.getsockname()
        assert event.local == h.address
        assert peer.remote == elsewhere.getsockname()
        assert peer.stats().float_count == 1
        # A late packet from the old address is delivered, but moves nobody.
        far.sendto(forge(key, 9, GOOD), h.address)
        assert h.receive() == GOOD
        assert peer.remote == elsewhere.getsockname()


def test_an_address_of_another_peer_is_not_taken_over(target: Target) -> None:
    h, far, key, peer = target
    with udp_socket() as others:
        h.device.add_peer(8, h.transport, remote=others.getsockname(), vpn_ipv4="10.8.0.3")
        others.sendto(forge(key, 10, GOOD), h.address)
        event = h.event(dco.PeerFloatRefused)
        assert event.peer_id == 7
        assert event.remote == others.getsockname()
        assert peer.remote == far.getsockname()
        # The owner of the device may override.
        peer.set(remote=others.getsockname())
        assert peer.remote == others.getsockname()
