"""Datagrams that must be refused: what is counted, and that nothing else changes."""

from __future__ import annotations

import pytest
from security.forge import CONTROL_V1, DATA_V1, KEEPALIVE, OVERHEAD, UNDEFINED, Forge, ip
from security.lab import Lab, LabPeer

import ovpn_dco as dco
from ovpn_dco import DropReason

pytestmark = pytest.mark.security


@pytest.fixture
def alice(lab: Lab) -> LabPeer:
    return lab.add_peer(7)


def packet_from(peer: LabPeer, text: bytes = b"payload") -> bytes:
    return ip(peer.vpn, "10.9.0.1", text)


def assert_still_works(lab: Lab, peer: LabPeer) -> None:
    inner = packet_from(peer, b"still there")
    outcome = lab.deliver(peer.forge.seal(inner), sock=peer.socket)
    assert outcome.inner == [inner]
    assert not outcome.drops


def link(*datagrams: bytes) -> dict[str, int]:
    return {"link_rx_packets": len(datagrams), "link_rx_bytes": sum(map(len, datagrams))}


@pytest.mark.parametrize("cipher", [c for c in dco.Cipher if c is not dco.Cipher.NONE])
def test_good_packet_passes(lab: Lab, cipher: dco.Cipher) -> None:
    peer = lab.add_peer(3, cipher=cipher, key_id=5)
    inner = packet_from(peer)
    datagram = peer.forge.seal(inner)
    outcome = lab.deliver(datagram, sock=peer.socket)
    assert outcome.inner == [inner]
    assert outcome.peers == {3: {**link(datagram), "vpn_rx_packets": 1, "vpn_rx_bytes": len(inner)}}


def test_every_bit_counts(lab: Lab, alice: LabPeer) -> None:
    """Each bit of header, packet id, tag and ciphertext, flipped by itself."""
    inner = packet_from(alice)
    good = alice.forge.seal(inner)
    for position in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            check_flipped(lab, alice, bytes(bad), position, bit)
    assert lab.deliver(good, sock=alice.socket).inner == [inner], "the good one was not used up"


def check_flipped(lab: Lab, peer: LabPeer, bad: bytes, position: int, bit: int) -> None:
    outcome = lab.deliver(bad, sock=peer.socket)
    if position == 0 and bit >= 3:  # another opcode: not ours to judge
        assert [packet.data for packet in outcome.control] == [bad]
        assert outcome.control[0].peer_id is None
        assert not outcome.inner
        assert not outcome.drops
        assert not outcome.peers
    elif position == 0:
        outcome.assert_dropped(DropReason.RX_UNKNOWN_KEY)
        assert outcome.peers == {7: {**link(bad), "rx_unknown_key_id": 1, "rx_dropped": 1}}
    elif position < 4:
        outcome.assert_dropped(DropReason.RX_UNKNOWN_PEER)
        assert not outcome.peers
    else:
        outcome.assert_dropped(DropReason.RX_DECRYPT)
        assert outcome.peers == {7: {**link(bad), "rx_decrypt_errors": 1, "rx_dropped": 1}}


def test_truncated_at_every_length(lab: Lab, alice: LabPeer) -> None:
    good = alice.forge.seal(packet_from(alice, bytes(40)))
    for size in range(65):
        short = good[:size]
        outcome = lab.deliver(short, sock=alice.socket)
        if size < OVERHEAD:
            outcome.assert_dropped(DropReason.RX_RUNT)
            assert outcome.peers == ({7: {**link(short), "rx_dropped": 1}} if size >= 4 else {})
        else:
            outcome.assert_dropped(DropReason.RX_DECRYPT)
            assert outcome.peers == {7: {**link(short), "rx_decrypt_errors": 1, "rx_dropped": 1}}
    assert len(lab.deliver(good, sock=alice.socket).inner) == 1


def test_lengthened(lab: Lab, alice: LabPeer) -> None:
    good = alice.forge.seal(packet_from(alice))
    lab.deliver(good + b"\0", sock=alice.socket).assert_dropped(DropReason.RX_DECRYPT)


@pytest.mark.parametrize("opcode", range(32))
def test_short_control_packets_of_every_opcode(lab: Lab, alice: LabPeer, opcode: int) -> None:
    """No length of any opcode does more than be dropped or handed up."""
    datagrams = [bytes([opcode << 3 | 7]) + bytes(size) for size in range(40)]
    outcome = lab.deliver(*datagrams, sock=alice.socket)
    assert not outcome.inner
    assert not outcome.moved
    assert len(outcome.control) + sum(outcome.drops.values()) == len(datagrams)
    assert_still_works(lab, alice)


def test_data_v1_names_no_peer(lab: Lab, alice: LabPeer) -> None:
    outcome = lab.deliver(bytes([DATA_V1 << 3]) + bytes(50), sock=alice.socket)
    outcome.assert_dropped(DropReason.RX_DATA_V1)
    assert not outcome.peers


def test_oversized_datagrams(lab: Lab, alice: LabPeer) -> None:
    """As large as UDP allows: garbage, and a sealed packet of that size; the loop lives."""
    room = 65507
    garbage = alice.forge.seal(b"")[:8] + bytes(room - 8)
    lab.deliver(garbage, sock=alice.socket).assert_dropped(DropReason.RX_DECRYPT)
    control = bytes([CONTROL_V1 << 3]) + bytes(room - 1)
    assert [p.data for p in lab.deliver(control, sock=alice.socket).control] == [control]
    inner = packet_from(alice, bytes(room - OVERHEAD - 20))
    outcome = lab.deliver(alice.forge.seal(inner), sock=alice.socket)
    assert outcome.inner == [inner]
    assert_still_works(lab, alice)


def test_wrong_peer_id(lab: Lab, alice: LabPeer) -> None:
    """An id that nobody has, and one of another peer, whose key does not fit."""
    bob = lab.add_peer(8)
    nobody = alice.forge.seal(packet_from(alice), peer_id=9)
    outcome = lab.deliver(nobody, sock=alice.socket)
    outcome.assert_dropped(DropReason.RX_UNKNOWN_PEER)
    assert not outcome.peers
    misled = alice.forge.seal(packet_from(alice), peer_id=8)
    outcome = lab.deliver(misled, sock=alice.socket)
    outcome.assert_dropped(DropReason.RX_DECRYPT)
    assert outcome.peers == {8: {**link(misled), "rx_decrypt_errors": 1, "rx_dropped": 1}}
    assert bob.peer.remote == bob.address
    assert_still_works(lab, alice)
    assert_still_works(lab, bob)


def test_undefined_id_means_the_address(lab: Lab, alice: LabPeer) -> None:
    inner = packet_from(alice)
    outcome = lab.deliver(alice.forge.seal(inner, peer_id=UNDEFINED), sock=alice.socket)
    assert outcome.inner == [inner]
    stranger = lab.udp()
    outcome = lab.deliver(alice.forge.seal(inner, peer_id=UNDEFINED), sock=stranger)
    outcome.assert_dropped(DropReason.RX_UNKNOWN_PEER)


def test_p2p_takes_its_peers_id_only() -> None:
    """And the undefined one, from the peer's own address."""
    with Lab(dco.Mode.P2P) as lab:
        peer = lab.add_peer(7)
        inner = packet_from(peer)
        for peer_id in (0, 6, 8, 0xFFFFFE):
            outcome = lab.deliver(peer.forge.seal(inner, peer_id=peer_id), sock=peer.socket)
            outcome.assert_dropped(DropReason.RX_UNKNOWN_PEER)
        undefined = peer.forge.seal(inner, peer_id=UNDEFINED)
        lab.deliver(undefined, sock=lab.udp()).assert_dropped(DropReason.RX_UNKNOWN_PEER)
        assert lab.deliver(undefined, sock=peer.socket).inner == [inner]
        assert_still_works(lab, peer)


def test_wrong_key_id(lab: Lab, alice: LabPeer) -> None:
    """Sealed with the right key, under each of the seven ids that it does not have."""
    for key_id in range(1, 8):
        datagram = alice.forge.seal(packet_from(alice), key_id=key_id)
        outcome = lab.deliver(datagram, sock=alice.socket)
        outcome.assert_dropped(DropReason.RX_UNKNOWN_KEY)
        assert outcome.peers == {7: {**link(datagram), "rx_unknown_key_id": 1, "rx_dropped": 1}}


def test_key_of_the_other_slot(lab: Lab, alice: LabPeer) -> None:
    """Both slots open by key id; a deleted key opens nothing."""
    second = Forge(7, key_id=1)
    alice.peer.install_key(dco.KeySlot.SECONDARY, second.key())
    inner = packet_from(alice)
    assert lab.deliver(second.seal(inner), sock=alice.socket).inner == [inner]
    # The right id with the other slot's key.
    crossed = second.seal(inner, key_id=0)
    lab.deliver(crossed, sock=alice.socket).assert_dropped(DropReason.RX_DECRYPT)
    alice.peer.delete_key(dco.KeySlot.SECONDARY)
    lab.deliver(second.seal(inner), sock=alice.socket).assert_dropped(DropReason.RX_UNKNOWN_KEY)
    assert_still_works(lab, alice)


def test_packet_of_a_peer_without_key(lab: Lab) -> None:
    peer = lab.add_peer(7, install=False)
    outcome = lab.deliver(peer.forge.seal(packet_from(peer)), sock=peer.socket)
    outcome.assert_dropped(DropReason.RX_UNKNOWN_KEY)


def test_packet_of_a_deleted_peer(lab: Lab, alice: LabPeer) -> None:
    datagram = alice.forge.seal(packet_from(alice))
    alice.peer.delete()
    lab.peers.clear()
    lab.wait_event(dco.PeerDeleted)
    outcome = lab.deliver(datagram, sock=alice.socket)
    outcome.assert_dropped(DropReason.RX_UNKNOWN_PEER)


# Replay


def test_packet_id_zero(lab: Lab, alice: LabPeer) -> None:
    datagram = alice.forge.seal(packet_from(alice), packet_id=0)
    outcome = lab.deliver(datagram, sock=alice.socket)
    outcome.assert_dropped(DropReason.RX_REPLAY)
    assert outcome.peers == {7: {**link(datagram), "rx_replay_errors": 1, "rx_dropped": 1}}


def test_replayed(lab: Lab, alice: LabPeer) -> None:
    datagrams = [alice.forge.seal(packet_from(alice)) for _ in range(5)]
    assert len(lab.deliver(*datagrams, sock=alice.socket).inner) == 5
    for datagram in datagrams:
        outcome = lab.deliver(datagram, sock=alice.socket)
        outcome.assert_dropped(DropReason.RX_REPLAY)
    assert alice.peer.stats().rx_replay_errors == 5
    assert_still_works(lab, alice)


def test_replayed_within_one_batch(lab: Lab, alice: LabPeer) -> None:
    datagram = alice.forge.seal(packet_from(alice))
    outcome = lab.deliver_train([datagram] * 10, sock=alice.socket)
    assert len(outcome.inner) == 1
    assert outcome.drops == {DropReason.RX_REPLAY: 9}


def test_replay_window_ends_after_2047(lab: Lab, alice: LabPeer) -> None:
    def send(packet_id: int) -> bool:
        datagram = alice.forge.seal(packet_from(alice), packet_id=packet_id)
        outcome = lab.deliver(datagram, sock=alice.socket)
        assert outcome.drops in ({}, {DropReason.RX_REPLAY: 1})
        return bool(outcome.inner)

    assert send(10_000)
    assert send(10_000 - 2047)
    assert not send(10_000 - 2048)
    assert not send(10_000 - 2047)
    assert send(12_048), "a jump of a whole window"
    assert not send(10_000)
    assert send(12_048 - 2047)
    assert send(0xFFFFFFFF), "the last id there is"
    assert not send(1)


def test_forged_packet_does_not_touch_the_window(lab: Lab, alice: LabPeer) -> None:
    """A high id that fails to authenticate must not push the genuine ones out."""
    forged = bytearray(alice.forge.seal(packet_from(alice), packet_id=1_000_000))
    forged[-1] ^= 1
    lab.deliver(bytes(forged), sock=alice.socket).assert_dropped(DropReason.RX_DECRYPT)
    assert_still_works(lab, alice)


def test_windows_of_two_keys_are_apart(lab: Lab, alice: LabPeer) -> None:
    lab.deliver(alice.forge.seal(packet_from(alice), packet_id=50_000), sock=alice.socket)
    second = Forge(7, key_id=1)
    alice.peer.install_key(dco.KeySlot.SECONDARY, second.key())
    outcome = lab.deliver(second.seal(packet_from(alice), packet_id=1), sock=alice.socket)
    assert len(outcome.inner) == 1


# What is inside


@pytest.mark.parametrize("size", range(20))
def test_payload_that_is_no_ip_packet(lab: Lab, alice: LabPeer, size: int) -> None:
    """Handed up as a message of the peer, and nothing of it reaches the interface."""
    outcome = lab.deliver(alice.forge.seal(b"\x45" * size), sock=alice.socket)
    assert not outcome.inner
    if size == 0:
        assert outcome.drops == {DropReason.RX_EMPTY: 1}
        assert not outcome.control
        return
    assert [(p.peer_id, p.data) for p in outcome.control] == [(7, b"\x45" * size)]
    assert outcome.peers[7]["rx_unsupported_protocol"] == 1
    assert "vpn_rx_packets" not in outcome.peers[7]


def test_keepalive_is_exactly_its_sixteen_bytes(lab: Lab, alice: LabPeer) -> None:
    datagram = alice.forge.seal(KEEPALIVE)
    outcome = lab.deliver(datagram, sock=alice.socket)
    assert outcome.peers == {7: {**link(datagram), "keepalive_rx": 1}}
    assert not outcome.control
    assert not outcome.drops
    for other in (KEEPALIVE[:15], KEEPALIVE + b"\0", bytes(16)):
        outcome = lab.deliver(alice.forge.seal(other), sock=alice.socket)
        assert [p.data for p in outcome.control] == [other]
        assert "keepalive_rx" not in outcome.peers[7]


def test_ipv6_header_needs_forty_bytes(lab: Lab, alice: LabPeer) -> None:
    whole = ip("fd09::7", "fd09::1")
    assert lab.deliver(alice.forge.seal(whole), sock=alice.socket).inner == [whole]
    outcome = lab.deliver(alice.forge.seal(whole[:39]), sock=alice.socket)
    assert not outcome.inner
    assert [p.data for p in outcome.control] == [whole[:39]]
