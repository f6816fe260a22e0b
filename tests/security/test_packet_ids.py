"""No nonce is ever used twice: what happens when the ids of a key come to their end."""

from __future__ import annotations

import pytest
from security.forge import Forge, ip
from security.lab import Lab

import ovpn_dco as dco
from ovpn_dco import DropReason, KeySlot, KeySwapReason

pytestmark = pytest.mark.security

LAST = 0xFFFFFFFF
SOON = LAST // 8 * 7
INNER = ip("10.9.0.1", "10.9.0.7", b"outbound")


def sent_ids(peer, count: int) -> list[int]:
    return [peer.forge.open(peer.receive()).packet_id for _ in range(count)]


def test_ids_start_at_one_and_ascend(lab: Lab) -> None:
    peer = lab.add_peer(7)
    lab.transmit(*[INNER] * 100)
    assert sent_ids(peer, 100) == list(range(1, 101))


def test_soon_is_told_once(lab: Lab) -> None:
    peer = lab.add_peer(7, key_id=3, first_packet_id=SOON - 2)
    lab.transmit(INNER, INNER)
    assert not lab.device.poll_events()
    lab.transmit(INNER)
    event = lab.wait_event(dco.KeySwapNeeded)
    assert (event.peer_id, event.generation) == peer.peer.ref
    assert (event.key_id, event.reason) == (3, KeySwapReason.SOON)
    lab.transmit(*[INNER] * 20)
    assert not lab.device.poll_events()
    assert sent_ids(peer, 23) == list(range(SOON - 2, SOON + 21)), "and traffic goes on"


@pytest.mark.parametrize("cipher", [dco.Cipher.AES_256_GCM, dco.Cipher.CHACHA20_POLY1305])
def test_nothing_is_sent_after_the_last_id(lab: Lab, cipher: dco.Cipher) -> None:
    peer = lab.add_peer(7, cipher=cipher, first_packet_id=LAST - 99)
    lab.transmit(*[INNER] * 100)
    assert sent_ids(peer, 100) == list(range(LAST - 99, LAST + 1))
    assert lab.wait_event(dco.KeySwapNeeded).reason is KeySwapReason.SOON

    lab.transmit(*[INNER] * 50)
    assert lab.wait_event(dco.KeySwapNeeded).reason is KeySwapReason.EXHAUSTED
    assert lab.device.stats().drops[DropReason.TX_KEY_EXHAUSTED] == 50
    assert peer.peer.stats().tx_iv_exhausted == 50
    lab.transmit(*[INNER] * 50)
    assert peer.receive_all() == [], "not one packet more"
    assert not lab.device.poll_events(), "told once"
    assert peer.peer.key(KeySlot.PRIMARY).packets_sealed == 100


def test_keepalive_takes_no_id_that_is_not_there(lab: Lab) -> None:
    peer = lab.add_peer(7, first_packet_id=LAST)
    lab.transmit(INNER)
    assert sent_ids(peer, 1) == [LAST]
    peer.peer.set_keepalive(interval_s=1, timeout_s=0)
    while lab.wait_event(dco.KeySwapNeeded).reason is not KeySwapReason.EXHAUSTED:
        pass
    assert peer.receive_all() == []


def test_next_key_takes_over(lab: Lab) -> None:
    peer = lab.add_peer(7, first_packet_id=LAST)
    lab.transmit(INNER, INNER)
    assert sent_ids(peer, 1) == [LAST]
    second = Forge(7, key_id=1)
    peer.peer.install_key(KeySlot.SECONDARY, second.key())
    peer.peer.swap_keys()
    lab.transmit(INNER)
    opened = second.open(peer.receive())
    assert (opened.key_id, opened.packet_id, opened.payload) == (1, 1, INNER)
    # The spent key still opens what is on its way.
    late = peer.forge.seal(ip(peer.vpn, "10.9.0.1"))
    assert len(lab.deliver(late, sock=peer.socket).inner) == 1


def test_spent_key_does_not_come_back_by_swapping(lab: Lab) -> None:
    peer = lab.add_peer(7, first_packet_id=LAST)
    lab.transmit(INNER, INNER)
    assert len(peer.receive_all()) == 1
    peer.peer.swap_keys()
    peer.peer.swap_keys()
    lab.transmit(INNER)
    assert peer.receive_all() == []


def test_ids_beyond_the_last_are_refused(lab: Lab) -> None:
    peer = lab.add_peer(7)
    with pytest.raises(dco.DcoError) as caught:
        peer.peer.install_key(KeySlot.PRIMARY, peer.forge.key(first_packet_id=LAST + 1))
    assert caught.value.attribute
    lab.transmit(INNER)
    assert sent_ids(peer, 1) == [1], "the key that was there is still there"


def test_no_key_no_packet(lab: Lab) -> None:
    """Nothing leaves in the clear, or at all."""
    peer = lab.add_peer(7, install=False)
    lab.transmit(INNER)
    peer.peer.install_key(KeySlot.SECONDARY, peer.forge.key())
    lab.transmit(INNER)
    assert lab.device.stats().drops[DropReason.TX_NO_KEY] == 2
    assert peer.peer.stats().tx_no_key == 2
    assert peer.receive_all() == []
