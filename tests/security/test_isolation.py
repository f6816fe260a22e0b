"""What one peer, or a stranger, does to others: nothing. And what it may cost: a bounded amount."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from security.forge import CONTROL_V1, DATA_V1, ip
from security.lab import Lab, eventually

import ovpn_dco as dco
from ovpn_dco import DropReason, KeySlot

pytestmark = pytest.mark.security


def test_one_peers_failures_leave_the_others(lab: Lab) -> None:
    """No key, a wrong key, a replay, a bad source, a deleted peer; in between, one that is fine."""
    fine = lab.add_peer(1)
    mute, wrong, spoofer, gone = (lab.add_peer(n) for n in (2, 3, 4, 5))
    mute.peer.delete_key(KeySlot.PRIMARY)
    wrong.peer.install_key(KeySlot.PRIMARY, lab.add_peer(6).forge.key())
    gone.peer.delete()
    lab.peers.remove(gone)
    lab.wait_event(dco.PeerDeleted)

    good = [ip("10.9.0.1", "10.9.0.250", bytes([n])) for n in range(20)]
    for packet in good:
        for bad in (mute, wrong, spoofer, gone):
            datagram = bad.forge.seal(ip("10.9.0.1", "10.9.0.250"))
            assert lab.deliver(datagram, sock=bad.socket).inner == []
        lab.transmit(ip("10.9.0.250", "10.9.0.2"), ip("10.9.0.250", "10.9.0.1", packet))
        assert fine.forge.open(fine.receive()).payload == ip("10.9.0.250", "10.9.0.1", packet)
        outcome = lab.deliver(fine.forge.seal(packet), sock=fine.socket)
        assert outcome.inner == [packet]
        assert not outcome.drops


@pytest.mark.parametrize("batch", [True, False], ids=["batched", "single"])
def test_icmp_errors_of_one_peer_cost_the_others_nothing(batch: bool) -> None:
    """On loopback the error is there before the next datagram, to somebody else, is sent."""
    offloads = dco.Offload.ALL if batch else dco.Offload.ALL & ~dco.Offload.UDP_BATCH
    with Lab(offloads=offloads.names) as lab:
        dead, live = lab.add_peer(7), lab.add_peer(8)
        dead.socket.close()
        for number in range(20):
            body = bytes([number])
            to_dead, to_live = (ip("10.9.0.1", peer.vpn, body) for peer in (dead, live))
            lab.transmit(*[to_dead, to_live] * 20)
            got = [live.forge.open(live.receive()).payload for _ in range(20)]
            assert got == [to_live] * 20
        assert live.peer.stats().link_tx_packets == 400
        assert live.peer.stats().link_errors == 0
        eventually(lambda: dead.peer.stats().link_errors > 0, what="errors of the dead counted")
        errors = lab.transport.info().icmp_errors
        assert errors >= dead.peer.stats().link_errors
        drops = lab.device.stats().drops
        assert sum(drops.values()) == drops[DropReason.TX_SEND] + drops[DropReason.TX_NO_TRANSPORT]
        assert sum(drops.values()) + dead.peer.stats().link_tx_packets == 400


@pytest.fixture
def lone_lab() -> Iterator[Lab]:
    """Of one worker: the order of peers of several is not said, and each has a control ring."""
    with Lab(workers=1) as laboratory:
        yield laboratory


def test_trains_may_mix_peers_and_opcodes(lone_lab: Lab) -> None:
    """Every datagram of a train is looked at by itself."""
    lab = lone_lab
    alice, bob = lab.add_peer(7), lab.add_peer(8)
    from_alice, from_bob = ip(alice.vpn, "10.9.0.1", b"a" * 20), ip(bob.vpn, "10.9.0.1", b"b" * 20)
    size = len(alice.forge.seal(from_alice))
    control = bytes([CONTROL_V1 << 3]) + b"c" * (size - 1)
    train = [
        alice.forge.seal(from_alice),
        control,
        bob.forge.seal(from_bob),
        bytes([DATA_V1 << 3]) + bytes(size - 1),
        alice.forge.seal(from_alice),
        alice.forge.seal(from_alice, peer_id=99),
        bob.forge.seal(from_bob, key_id=3),
        bytes([0x48]) + bytes(size - 1),
        control,
        bob.forge.seal(from_bob),
        alice.forge.seal(b"")[:3],
    ]
    outcome = lab.deliver_train(train, sock=alice.socket)
    assert outcome.inner == [from_alice, from_bob, from_alice, from_bob]
    assert [packet.data for packet in outcome.control] == [control, control]
    assert outcome.drops == {
        DropReason.RX_DATA_V1: 1,
        DropReason.RX_UNKNOWN_PEER: 2,
        DropReason.RX_UNKNOWN_KEY: 1,
        DropReason.RX_RUNT: 1,
    }
    # The whole train came from one address: of the two peers, its owner keeps it.
    assert not outcome.moved
    assert [type(event) for event in outcome.events] == [dco.PeerFloatRefused]


def test_forgeries_cost_the_victim_nothing(lab: Lab) -> None:
    victim = lab.add_peer(7)
    attacker = lab.udp("127.0.0.66")
    forged = bytes([0x48, 0, 0, 7]) + bytes(60)
    for _ in range(20):
        outcome = lab.deliver(*[forged] * 100, sock=attacker)
        outcome.assert_dropped(DropReason.RX_DECRYPT, 100)
    packet = ip(victim.vpn, "10.9.0.1")
    assert lab.deliver(victim.forge.seal(packet), sock=victim.socket).inner == [packet]
    assert victim.peer.remote == victim.address


def test_forged_packets_do_not_keep_a_peer_alive(lab: Lab) -> None:
    victim = lab.add_peer(7)
    victim.peer.set_keepalive(interval_s=0, timeout_s=1)
    seen = victim.forge.seal(ip(victim.vpn, "10.9.0.1"))
    lab.deliver(seen, sock=victim.socket)
    spoiled = seen[:-1] + bytes([seen[-1] ^ 1])
    events: list[dco.Event] = []
    deadline = time.monotonic() + 10
    while not events and time.monotonic() < deadline:
        for datagram in (seen, spoiled):
            victim.socket.sendto(datagram, lab.address)
        events = lab.device.poll_events(timeout_s=0.1)
    assert [type(event) for event in events] == [dco.PeerDeleted]
    assert isinstance(events[0], dco.PeerDeleted)
    assert events[0].reason is dco.DeleteReason.EXPIRED


def test_control_ring_is_bounded_and_overflow_is_counted(lone_lab: Lab) -> None:
    """Nobody reads: what has come stays, in order; what finds no room is counted; data flows on."""
    lab = lone_lab
    alice = lab.add_peer(7)
    stranger = lab.udp("127.0.0.66")
    body = bytes(1000)
    sent = 3000
    before = lab.device.stats()
    taken = before.udp_receive_packets
    for number in range(sent):
        stranger.sendto(bytes([CONTROL_V1 << 3]) + number.to_bytes(4, "big") + body, lab.address)
        if number % 100 == 99:
            _wait_for(lab, taken + number + 1)
    stats = lab.device.stats()
    full = stats.drops[DropReason.CONTROL_FULL]
    assert stats.control_packets + full == sent
    assert 0 < stats.control_packets <= (1 << 20) // len(body)

    packet = ip(alice.vpn, "10.9.0.1")
    alice.socket.sendto(alice.forge.seal(packet), lab.address)
    _wait_for(lab, taken + sent + 1)
    assert lab.inner.recv(2048) == packet

    numbers = [int.from_bytes(packet.data[1:5], "big") for packet in lab.control()]
    assert numbers == list(range(stats.control_packets)), "the first ones, in order"
    again = bytes([CONTROL_V1 << 3]) + b"again"
    assert [p.data for p in lab.deliver(again, sock=stranger).control] == [again]


def _wait_for(lab: Lab, packets: int) -> None:
    eventually(lambda: lab.device.stats().udp_receive_packets >= packets, what="datagrams read")


def test_peers_messages_are_bounded_too(lab: Lab) -> None:
    alice = lab.add_peer(7)
    message = b"\x00" + bytes(1200)
    for _ in range(20):
        lab._observe(
            lambda: [
                alice.socket.sendto(alice.forge.seal(message), lab.address) for _ in range(50)
            ],
            50,
        )
    assert lab.device.stats().drops[DropReason.CONTROL_FULL] == 0, "they were read each time"
    assert alice.peer.stats().rx_unsupported_protocol == 1000


def test_unread_deletions_are_bounded() -> None:
    """Deleted peers keep their last counters until they are read; how many is limited."""
    with Lab(max_peers=8) as lab:
        sock = lab.udp()
        for number in range(1, 9):
            lab.add_peer(number, sock=sock, install=False).peer.delete()
        lab.peers.clear()
        eventually(lambda: lab.device.stats().retired == 0, what="deletions completed")
        with pytest.raises(dco.LimitReached):
            lab.add_peer(100, sock=sock, install=False)
        assert len(lab.device.poll_events()) == 8
        lab.add_peer(200, sock=sock, install=False)


def test_peer_limit() -> None:
    with Lab(max_peers=4) as lab:
        sock = lab.udp()
        for number in range(1, 5):
            lab.add_peer(number, sock=sock)
        with pytest.raises(dco.LimitReached):
            lab.add_peer(9, sock=sock)
        assert len(lab.device.peers) == 4
