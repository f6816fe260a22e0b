"""Events of a session as calls of the engine: slots, promotions, expiry; keys are cleared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from loopback import Host, epoch_pair, host, key_pair, udp_socket

import ovpn_dco as dco
from ovpn_dco import KeySlot
from ovpn_dco.protocol.keyevents import KeyExpired, KeyPromotionDue
from ovpn_dco.protocol.session_events import KeyReady
from ovpn_dco.runtime.data_channel import DataChannel


@pytest.fixture
def near() -> Iterator[Host]:
    with host() as one:
        yield one


@pytest.fixture
def channel(near: Host) -> Iterator[DataChannel]:
    with udp_socket() as far:
        yield DataChannel(
            near.device, 7, near.transport, remote=far.getsockname(), vpn_ipv4="10.8.0.7"
        )


def writable(key_id: int) -> dco.DataKey:
    key = key_pair(key_id=key_id)[0]
    directions = (
        dco.KeyDirection(bytearray(one.key), bytearray(one.nonce_tail))
        for one in (key.encrypt, key.decrypt)
    )
    return dco.DataKey(key_id, key.cipher, *directions)


def ready(key_id: int, slot: KeySlot) -> KeyReady:
    return KeyReady(key_id=key_id, slot=slot, key=writable(key_id))


def in_slots(channel: DataChannel) -> dict[KeySlot, int]:
    found = {}
    for slot in KeySlot:
        try:
            found[slot] = channel.peer.key(slot).key_id
        except dco.NotFound:
            continue
    return found


def test_a_key_is_cleared_once_the_engine_has_it(channel: DataChannel) -> None:
    event = ready(0, KeySlot.PRIMARY)
    channel.take(event)
    assert isinstance(event.key, dco.DataKey)
    for direction in (event.key.encrypt, event.key.decrypt):
        assert not any(direction.key)
        assert not any(direction.nonce_tail)
    epoch = epoch_pair(key_id=1)[0]
    secrets = bytearray(epoch.encrypt_secret), bytearray(epoch.decrypt_secret)
    channel.take(
        KeyReady(key_id=1, slot=KeySlot.SECONDARY, key=dco.EpochKey(1, epoch.cipher, *secrets))
    )
    assert not any(any(secret) for secret in secrets)


def test_the_next_key_opens_at_once_and_seals_when_it_is_promoted(channel: DataChannel) -> None:
    channel.take(ready(0, KeySlot.PRIMARY))
    channel.take(ready(1, KeySlot.SECONDARY))
    assert in_slots(channel) == {KeySlot.PRIMARY: 0, KeySlot.SECONDARY: 1}
    for _ in range(2):  # a promotion that was done is not undone
        channel.take(KeyPromotionDue(1))
        assert in_slots(channel) == {KeySlot.PRIMARY: 1, KeySlot.SECONDARY: 0}


@pytest.mark.parametrize("expired", [0, 1])
def test_a_key_expires_wherever_it_is(channel: DataChannel, expired: int) -> None:
    channel.take(ready(0, KeySlot.PRIMARY))
    channel.take(ready(1, KeySlot.SECONDARY))
    channel.take(KeyPromotionDue(1))
    channel.take(KeyExpired(expired))
    channel.take(KeyExpired(5))
    assert list(in_slots(channel).values()) == [1 - expired]


def test_the_end(near: Host, channel: DataChannel) -> None:
    assert channel.stats() == dco.PeerStats()
    channel.close()
    assert channel.stats() is None
    channel.close()
    assert not near.device.peers
