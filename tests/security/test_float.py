"""Who may move a peer: only an authenticated packet that is the newest of its window."""

from __future__ import annotations

import socket
import time

import pytest
from security.forge import KEEPALIVE, Forge, ip
from security.lab import Lab, LabPeer, Outcome, eventually

import ovpn_dco as dco
from ovpn_dco import DropReason, PeerFloated, PeerFloatRefused

pytestmark = pytest.mark.security


@pytest.fixture
def alice(lab: Lab) -> LabPeer:
    return lab.add_peer(7)


def inner(peer: LabPeer) -> bytes:
    return ip(peer.vpn, "10.9.0.1", b"from somewhere")


def move(lab: Lab, peer: LabPeer, sock: socket.socket, payload: bytes | None = None) -> Outcome:
    """Fresh packets from a new address until the peer is there: a packet that finds the engine
    busy with a call of ours leaves the move to the next one."""
    for _ in range(20):
        outcome = lab.deliver(peer.forge.seal(payload or inner(peer)), sock=sock)
        if outcome.moved:
            return outcome
        assert not outcome.events
    raise AssertionError("the peer does not move")


def assert_sends_to(lab: Lab, sock: socket.socket) -> None:
    lab.transmit(ip("10.9.0.1", "10.9.0.7", b"are you there"))
    sock.settimeout(10)
    assert sock.recv(2048)


def test_newest_authenticated_packet_moves(lab: Lab, alice: LabPeer) -> None:
    elsewhere = lab.udp("127.0.0.2")
    outcome = move(lab, alice, elsewhere)
    assert outcome.moved == {7: elsewhere.getsockname()}
    (event,) = outcome.events
    assert isinstance(event, PeerFloated)
    assert (event.peer_id, event.generation) == alice.peer.ref
    assert event.remote == elsewhere.getsockname()
    assert alice.peer.stats().float_count == 1
    assert_sends_to(lab, elsewhere)


def test_port_alone_moves_too(lab: Lab, alice: LabPeer) -> None:
    elsewhere = lab.udp()
    assert move(lab, alice, elsewhere).moved


def test_keepalive_moves_too(lab: Lab, alice: LabPeer) -> None:
    elsewhere = lab.udp()
    assert move(lab, alice, elsewhere, KEEPALIVE).moved


def test_unauthenticated_packet_does_not_move(lab: Lab, alice: LabPeer) -> None:
    elsewhere = lab.udp("127.0.0.2")
    good = alice.forge.seal(inner(alice))
    for position in (4, 8, 24, len(good) - 1):
        bad = bytearray(good)
        bad[position] ^= 0x80
        outcome = lab.deliver(bytes(bad), sock=elsewhere)
        outcome.assert_dropped(DropReason.RX_DECRYPT)
    assert alice.peer.remote == alice.address
    assert_sends_to(lab, alice.socket)


def test_peer_without_key_does_not_move(lab: Lab) -> None:
    """A packet with the id of a peer whose key is not there yet must not take its place."""
    victim = lab.add_peer(7, install=False)
    elsewhere = lab.udp("127.0.0.2")
    for payload in (b"", inner(victim)):
        outcome = lab.deliver(victim.forge.seal(payload), sock=elsewhere)
        outcome.assert_dropped(DropReason.RX_UNKNOWN_KEY)
    lab.deliver(victim.forge.seal(b"")[:20], sock=elsewhere)
    assert victim.peer.remote == victim.address
    # And of a deleted key, and of the wrong one.
    victim.peer.install_key(dco.KeySlot.PRIMARY, victim.forge.key())
    stranger = Forge(7)
    outcome = lab.deliver(stranger.seal(inner(victim)), sock=elsewhere)
    outcome.assert_dropped(DropReason.RX_DECRYPT)
    victim.peer.delete_key(dco.KeySlot.PRIMARY)
    outcome = lab.deliver(victim.forge.seal(inner(victim)), sock=elsewhere)
    outcome.assert_dropped(DropReason.RX_UNKNOWN_KEY)
    assert victim.peer.remote == victim.address


def test_replayed_packet_does_not_move(lab: Lab, alice: LabPeer) -> None:
    elsewhere = lab.udp("127.0.0.2")
    seen = alice.forge.seal(inner(alice))
    lab.deliver(seen, sock=alice.socket)
    lab.deliver(seen, sock=elsewhere).assert_dropped(DropReason.RX_REPLAY)
    assert alice.peer.remote == alice.address


def test_older_packet_is_delivered_and_does_not_move(lab: Lab, alice: LabPeer) -> None:
    """Late packets from the old address must not take the peer back to it."""
    elsewhere = lab.udp("127.0.0.2")
    late = [alice.forge.seal(inner(alice)) for _ in range(3)]
    move(lab, alice, elsewhere)
    outcome = lab.deliver(*late, sock=alice.socket)
    assert len(outcome.inner) == 3
    assert not outcome.moved
    assert not outcome.events
    assert alice.peer.remote == elsewhere.getsockname()


def test_spoofed_source_inside_moves_nothing_but_the_endpoint(lab: Lab, alice: LabPeer) -> None:
    """The packet is the peer's own, so it says where the peer is; what it carries is dropped."""
    elsewhere = lab.udp("127.0.0.2")
    outcome = move(lab, alice, elsewhere, ip("10.1.1.1", "10.9.0.1"))
    assert outcome.drops == {DropReason.RX_SOURCE: 1}
    assert outcome.inner == []
    assert outcome.moved == {7: elsewhere.getsockname()}


def test_address_of_another_live_peer_is_refused(lab: Lab, alice: LabPeer) -> None:
    bob = lab.add_peer(8)
    packet = inner(alice)
    outcome = lab.deliver(alice.forge.seal(packet), sock=bob.socket)
    assert outcome.inner == [packet], "the packet itself is genuine"
    assert not outcome.moved
    (event,) = outcome.events
    assert isinstance(event, PeerFloatRefused)
    assert (event.peer_id, event.remote) == (7, bob.address)
    assert alice.peer.remote == alice.address
    assert bob.peer.remote == bob.address
    assert "float_count" not in outcome.peers[7]
    # The control plane may decide otherwise.
    alice.peer.set(remote=bob.address)
    assert alice.peer.remote == bob.address


def test_address_of_a_deleted_peer_is_free(lab: Lab, alice: LabPeer) -> None:
    bob = lab.add_peer(8)
    bob.peer.delete()
    lab.peers.remove(bob)
    lab.wait_event(dco.PeerDeleted)
    assert move(lab, alice, bob.socket).moved


@pytest.mark.root
def test_vpn_address_is_refused(lab: Lab, alice: LabPeer) -> None:
    """An endpoint inside the tunnel would send sealed packets into the tunnel again."""
    lab.add_peer(8)
    assert lab.namespace
    for host in (alice.vpn, "10.9.0.8"):
        lab.namespace.add_address("lo", f"{host}/32")
        outcome = lab.deliver(alice.forge.seal(inner(alice)), sock=lab.udp(host))
        assert not outcome.moved
        assert [type(event) for event in outcome.events] == [PeerFloatRefused]
        assert alice.peer.remote == alice.address


def test_events_are_coalesced_to_the_latest(lab: Lab, alice: LabPeer) -> None:
    """The first move at once, then the last one of each second."""
    sockets = [lab.udp("127.0.0.2") for _ in range(20)]
    started = time.monotonic()
    first, *others = [move(lab, alice, sock) for sock in sockets]
    assert [event.remote for event in first.events] == [sockets[0].getsockname()]
    if time.monotonic() - started < 1:
        assert not any(outcome.events for outcome in others)
    last = sockets[-1].getsockname()
    assert alice.peer.remote == last, "what is reported late is in effect at once"
    events = [event for outcome in others for event in outcome.events]
    eventually(
        lambda: (
            events.extend(lab.device.poll_events(timeout_s=0.5))
            or (events and events[-1].remote == last)
        ),
        what="the last move reported",
    )
    assert all(isinstance(event, PeerFloated) for event in events)
    assert len(events) <= 2 + int(time.monotonic() - started)
    assert alice.peer.stats().float_count == 20
    assert not lab.device.poll_events()


def test_ipv6_peer_moves(lab: Lab) -> None:
    with Lab(host="::") as dual:
        dual.address = ("::1", dual.address[1])
        peer = dual.add_peer(7, host="::1")
        assert dual.deliver(peer.forge.seal(inner(peer)), sock=peer.socket).moved == {}
        elsewhere = dual.udp("::1")
        outcome = move(dual, peer, elsewhere)
        assert outcome.moved == {7: elsewhere.getsockname()}
        assert [event.remote for event in outcome.events] == [elsewhere.getsockname()]


def test_dual_stack_peer_moves_between_families(lab: Lab) -> None:
    with Lab(host="::") as dual:
        port = dual.address[1]
        dual.address = ("::1", port)
        peer = dual.add_peer(7, host="::1")
        other = dual.udp("127.0.0.1")
        dual.address = ("127.0.0.1", port)
        outcome = move(dual, peer, other)
        assert outcome.moved == {7: other.getsockname()}, "folded, not ::ffff:127.0.0.1"
        assert_sends_to(dual, other)


def test_p2p_moves_by_the_same_rules() -> None:
    with Lab(dco.Mode.P2P) as lab:
        peer = lab.add_peer(7)
        elsewhere = lab.udp("127.0.0.2")
        seen = peer.forge.seal(inner(peer))
        lab.deliver(seen, sock=peer.socket)
        lab.deliver(seen, sock=elsewhere).assert_dropped(DropReason.RX_REPLAY)
        outcome = move(lab, peer, elsewhere)
        assert outcome.moved == {7: elsewhere.getsockname()}
