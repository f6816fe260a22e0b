"""How one key id gives way to the next: soft resets, timers, the lame duck."""

from __future__ import annotations

import math

import certificate_lab as lab
import pytest
from control_packets import attempt
from key_link import Pair, give, key_state, made

from ovpn_dco.errors import InvalidArgument
from ovpn_dco.model import Cipher
from ovpn_dco.protocol.errors import Refusal
from ovpn_dco.protocol.keyevents import KeyStage, KeyTimers, SoftReset
from ovpn_dco.protocol.keymaterial import KeyMessageError
from ovpn_dco.protocol.keystate import KeyState
from ovpn_dco.protocol.reliable import Outgoing, Receipt
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.wire import Opcode

AES = Cipher.AES_256_GCM


def test_soft_resets_are_told_apart() -> None:
    pair = made()
    server = pair.server
    # Not before the data keys are there.
    assert server.judge_soft_reset(1) is SoftReset.STALE
    server.derive_data_key(AES)
    assert server.judge_soft_reset(1) is SoftReset.ROTATE
    assert [server.judge_soft_reset(key_id) for key_id in (0, 2, 7)] == [SoftReset.STALE] * 3
    later = key_state(Role.SERVER, 1)
    later.start(0)
    assert later.judge_soft_reset(1) is SoftReset.ANSWER
    # The peer has given up what still goes on here, or has completed it.
    assert later.judge_soft_reset(2) is SoftReset.ROTATE
    assert later.judge_soft_reset(3) is SoftReset.STALE
    later.fail(KeyMessageError("given up here"))
    assert later.judge_soft_reset(2) is SoftReset.ROTATE
    assert later.judge_soft_reset(1) is SoftReset.ROTATE
    heard = key_state(Role.SERVER, 1)
    heard.start(0)
    give(heard, Outgoing(Opcode.SOFT_RESET_V1, 0, (), b""), 0)
    heard.fail(KeyMessageError("given up here"))
    assert heard.judge_soft_reset(1) is SoftReset.ANSWER
    first = key_state(Role.SERVER)
    first.start(0)
    assert first.judge_soft_reset(1) is SoftReset.STALE


def test_repeated_reset_of_a_complete_key_does_not_rotate_it() -> None:
    states = [key_state(role, 7) for role in Role]
    pair = Pair(*states)
    pair.start()
    pair.run()
    pair.server.derive_data_key(AES)
    assert pair.server.judge_soft_reset(7) is SoftReset.ANSWER
    assert pair.server.judge_soft_reset(1) is SoftReset.ROTATE
    assert give(pair.server, Outgoing(3, 0, (), b"")) is Receipt.DUPLICATE
    assert pair.server.stage is KeyStage.ACTIVE


def test_both_begin_at_once() -> None:
    """Each one's reset crosses the other's on the way, and is its answer."""
    pair = Pair(key_state(Role.CLIENT, 1), key_state(Role.SERVER, 1))
    pair.start()
    resets = [state.packets_to_send(100)[0] for state in pair.states]
    assert resets[0] == resets[1] == Outgoing(3, 0, (), b"")
    for state, reset in zip(pair.states, reversed(resets), strict=True):
        assert state.judge_soft_reset(1) is SoftReset.ANSWER
        assert give(state, reset) is Receipt.STORED
    pair.run()


def test_peers_reset_brings_ours_again_at_once() -> None:
    """It was sent before the peer was there, and would otherwise wait for its timeout."""
    client = key_state(Role.CLIENT, 1)
    client.start(100)
    assert len(client.packets_to_send(100)) == 1
    give(client, Outgoing(3, 0, (), b""))
    assert client.packets_to_send(100) == [Outgoing(3, 0, (0,), b"")]
    give(client, Outgoing(3, 0, (), b""))
    # A second copy is acknowledged, and no more.
    assert client.packets_to_send(100) == [Outgoing(5, None, (0,), b"")]


def events_of(state: KeyState, now: float) -> list[str]:
    state.handle_timeout(now)
    names = []
    while (event := state.next_event()) is not None:
        names.append(type(event).__name__)
    return names


def drained(key_id: int, timers: KeyTimers) -> Pair:
    pair = Pair(*(key_state(role, key_id, timers=timers) for role in Role))
    pair.start()
    pair.run()
    for state in pair.states:
        state.packets_to_send(pair.now)
    return pair


def test_renegotiation_is_due_and_earlier_at_the_server() -> None:
    pair = drained(0, KeyTimers(reneg_s=1000))
    due_s = [state.next_timeout() for state in pair.states]
    assert due_s[0] is not None
    assert due_s[1] is not None
    assert 1000 < due_s[0] - 100 < 1001
    assert 900 < due_s[1] - 100 < 1001
    assert due_s[1] < due_s[0]
    assert events_of(pair.client, due_s[0] - 1) == []
    assert events_of(pair.client, due_s[0]) == ["RenegotiationDue"]
    assert events_of(pair.client, due_s[0]) == []


def test_no_renegotiation_without_a_timer() -> None:
    pair = drained(0, KeyTimers(reneg_s=0))
    assert pair.client.next_timeout() is None
    assert events_of(pair.client, 1e9) == []


@pytest.mark.parametrize(("reneg_s", "delay_s"), [(3600, 60), (100, 50), (0, 60)])
def test_promotion_waits_for_the_peer(reneg_s: float, delay_s: float) -> None:
    pair = drained(1, KeyTimers(reneg_s=reneg_s))
    assert events_of(pair.client, 100 + delay_s) == []
    pair.client.derive_data_key(AES)
    assert pair.client.next_timeout() == 100 + delay_s
    assert events_of(pair.client, 100 + delay_s) == ["KeyPromotionDue"]
    assert events_of(pair.client, 100 + delay_s) == []


def test_first_key_needs_no_promotion() -> None:
    pair = drained(0, KeyTimers())
    pair.client.derive_data_key(AES)
    assert events_of(pair.client, 200) == []


def test_lame_duck_is_silent_and_expires() -> None:
    pair = drained(0, KeyTimers(tran_window_s=500))
    client = pair.client
    client.send_message(b"never sent", 200)
    client.retire(200)
    assert client.stage is KeyStage.LAME_DUCK
    assert client.packets_to_send(300) == []
    ack = Outgoing(Opcode.ACK_V1, None, (0,), b"")
    assert attempt(give, client, ack) is Refusal.NOT_LISTENING
    assert client.next_timeout() == 700
    assert events_of(client, 699) == []
    assert events_of(client, 700) == ["KeyExpired"]
    assert client.stage is KeyStage.EXPIRED
    assert client.next_timeout() is None
    client.fail(KeyMessageError("too late"))
    assert client.stage is KeyStage.EXPIRED


def test_calls_out_of_turn_are_refused() -> None:
    state = key_state(Role.CLIENT)
    with pytest.raises(InvalidArgument, match="INITIAL"):
        state.retire(0)
    assert state.packets_to_send(0) == []
    assert state.next_timeout() is None
    state.start(0)
    with pytest.raises(InvalidArgument, match="before"):
        state.start(0)
    with pytest.raises(InvalidArgument, match="three bits"):
        key_state(Role.CLIENT, 8)
    with pytest.raises(InvalidArgument, match="role"):
        key_state(Role.CLIENT, tls=lab.context(Role.SERVER))
    assert state.next_timeout() == -math.inf


def test_secrets_do_not_stay() -> None:
    pair = made()
    state = pair.client
    assert "secret" not in repr(state)
    state.derive_data_key(AES)
    assert state._source is None
    assert state._peer_source is None
    assert not state._key_message
