"""A peer may send only from what is its own: the owner by the longest match."""

from __future__ import annotations

import pytest
from security.forge import ip
from security.lab import Lab

import ovpn_dco as dco
from ovpn_dco import DropReason

pytestmark = pytest.mark.security


def passes(lab: Lab, peer, source: str) -> bool:
    destination = "fd09::1" if ":" in source else "10.9.0.1"
    outcome = lab.deliver(peer.forge.seal(ip(source, destination)), sock=peer.socket)
    if outcome.inner:
        assert not outcome.drops
        return True
    outcome.assert_dropped(DropReason.RX_SOURCE)
    assert outcome.peers[peer.peer.peer_id]["rx_source_errors"] == 1
    assert "vpn_rx_packets" not in outcome.peers[peer.peer.peer_id]
    return False


def test_own_addresses_only(lab: Lab) -> None:
    alice, bob = lab.add_peer(7), lab.add_peer(8)
    assert passes(lab, alice, "10.9.0.7")
    assert passes(lab, alice, "fd09::7")
    assert passes(lab, bob, "10.9.0.8")
    for spoofed in ("10.9.0.8", "fd09::8", "10.9.0.1", "0.0.0.0", "127.0.0.1", "::1", "::"):
        assert not passes(lab, alice, spoofed)
    # The same bits in the other family are another address.
    assert not passes(lab, alice, "::ffff:10.9.0.7")


@pytest.mark.parametrize(
    ("wide", "narrow", "own", "foreign"),
    [
        ("10.1.0.0/16", "10.1.2.0/24", "10.1.3.4", "10.1.2.4"),
        ("fd01::/32", "fd01:0:0:2::/64", "fd01::3:4", "fd01:0:0:2::4"),
        ("0.0.0.0/0", "10.1.2.3/32", "8.8.8.8", "10.1.2.3"),
    ],
)
def test_sub_range_of_another_peer(
    lab: Lab, wide: str, narrow: str, own: str, foreign: str
) -> None:
    """Some prefix of the peer covers the address; a longer one of another peer owns it."""
    alice, bob = lab.add_peer(7), lab.add_peer(8)
    lab.device.routes.add(wide, alice.peer)
    assert passes(lab, alice, foreign), "while nobody has a better claim"
    lab.device.routes.add(narrow, bob.peer)
    assert passes(lab, alice, own)
    assert not passes(lab, alice, foreign)
    assert passes(lab, bob, foreign)
    assert not passes(lab, bob, own)
    lab.device.routes.remove(narrow)
    assert passes(lab, alice, foreign)


def test_vpn_address_inside_another_peers_network(lab: Lab) -> None:
    alice, bob = lab.add_peer(7), lab.add_peer(8)
    lab.device.routes.add("10.9.0.0/24", alice.peer)
    assert passes(lab, alice, "10.9.0.99")
    assert not passes(lab, alice, "10.9.0.8")
    assert passes(lab, bob, "10.9.0.8")


def test_route_goes_with_its_peer(lab: Lab) -> None:
    alice, bob = lab.add_peer(7), lab.add_peer(8)
    lab.device.routes.add("10.1.0.0/16", alice.peer)
    lab.device.routes.add("10.1.2.0/24", bob.peer)
    bob.peer.delete()
    lab.peers.remove(bob)
    lab.wait_event(dco.PeerDeleted)
    assert passes(lab, alice, "10.1.2.4")


def test_one_train_with_many_sources(lab: Lab) -> None:
    """Each packet is judged by itself, however alike its neighbours are."""
    alice, bob = lab.add_peer(7), lab.add_peer(8)
    own, spoofed = ip("10.9.0.7", "10.9.0.1"), ip("10.9.0.8", "10.9.0.1")
    train = [alice.forge.seal(packet) for packet in (own, own, spoofed, own, spoofed, spoofed)]
    # The same source is good in the hands of its owner, in the same batch.
    train.append(bob.forge.seal(spoofed))
    train.append(alice.forge.seal(spoofed))
    outcome = lab.deliver_train(train, sock=alice.socket)
    assert outcome.inner == [own, own, own, spoofed]
    assert outcome.drops == {DropReason.RX_SOURCE: 4}


def test_off_lets_everything_pass(lab: Lab) -> None:
    alice = lab.add_peer(7)
    lab.device.set_source_check("off")
    assert passes(lab, alice, "10.200.0.1")
    lab.device.set_source_check("strict")
    assert not passes(lab, alice, "10.200.0.1")


def test_loose_takes_what_is_somebodys(lab: Lab) -> None:
    alice, bob = lab.add_peer(7), lab.add_peer(8)
    lab.device.routes.add("10.1.2.0/24", bob.peer)
    lab.device.set_source_check("loose")
    for source in ("10.9.0.7", "10.9.0.8", "10.1.2.4", "fd09::8"):
        assert passes(lab, alice, source)
    for source in ("10.9.0.1", "10.1.3.4", "0.0.0.0", "fd09::9"):
        assert not passes(lab, alice, source)


def test_of_one_peer(lab: Lab) -> None:
    """Before the device's, whatever that becomes; the other's is not touched."""
    alice, bob = lab.add_peer(7), lab.add_peer(8)
    assert alice.peer.info().source_check is dco.SourceCheck.INHERIT
    alice.peer.set_source_check(dco.SourceCheck.OFF)
    assert passes(lab, alice, "10.200.0.1")
    assert not passes(lab, bob, "10.200.0.1")
    alice.peer.set_source_check("loose")
    assert passes(lab, alice, "10.9.0.8")
    assert not passes(lab, alice, "10.200.0.1")
    assert not passes(lab, bob, "10.9.0.7")
    alice.peer.set_source_check("strict")
    lab.device.set_source_check("off")
    assert not passes(lab, alice, "10.9.0.8")
    assert passes(lab, bob, "10.9.0.7")
    assert alice.peer.info().source_check is dco.SourceCheck.STRICT
    alice.peer.set_source_check("inherit")
    assert passes(lab, alice, "10.9.0.8")
    assert passes(lab, lab.add_peer(9), "10.200.0.1"), "a newcomer has the device's"


@pytest.mark.parametrize("value", ["lax", None, 2, dco.SourceCheck])
def test_what_is_no_source_check(lab: Lab, value: object) -> None:
    alice = lab.add_peer(7)
    for call in (alice.peer.set_source_check, lab.device.set_source_check):
        if value is not None or call == alice.peer.set_source_check:
            with pytest.raises(dco.InvalidArgument, match="source_check must be"):
                call(value)
    with pytest.raises(dco.InvalidArgument, match="off, loose or strict"):
        lab.device.set_source_check("inherit")


def test_p2p_has_no_addresses_to_check() -> None:
    with Lab(dco.Mode.P2P) as lab:
        peer = lab.add_peer(7)
        assert passes(lab, peer, "10.200.0.1")


def test_what_nobody_owns_is_not_sent(lab: Lab) -> None:
    """Broadcast and multicast find no peer either."""
    alice = lab.add_peer(7)
    targets = ("10.9.0.9", "255.255.255.255", "224.0.0.1", "fd09::9", "ff02::1")
    for target in targets:
        lab.transmit(ip("fd09::1" if ":" in target else "10.9.0.1", target))
    assert lab.device.stats().drops[DropReason.TX_NO_PEER] == len(targets)
    assert alice.receive_all() == []


@pytest.mark.parametrize(
    "packet",
    [
        b"\x45",
        b"\x45" + bytes(18),
        b"\x60" + bytes(38),
        b"\x00" * 40,
        b"\x55" * 40,
        b"\x44" + bytes(39),
    ],
    ids=lambda packet: f"{packet[:1].hex()}-{len(packet)}",
)
def test_malformed_inner_packets_are_not_sent(lab: Lab, packet: bytes) -> None:
    alice = lab.add_peer(7)
    lab.transmit(packet)
    assert lab.device.stats().drops[DropReason.TX_MALFORMED] == 1
    assert alice.receive_all() == []
