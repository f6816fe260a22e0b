"""The life of a key id: both ends in memory, over good links and bad ones."""

from __future__ import annotations

import contextlib

import certificate_lab as lab
import pytest
from control_packets import attempt
from hypothesis import given, settings
from hypothesis import strategies as st
from key_link import Pair, give, key_state, made

from ovpn_dco.errors import InvalidArgument, LimitReached, MessageTooBig
from ovpn_dco.model import Cipher, DataKey, EpochKey
from ovpn_dco.protocol.errors import ProtocolError, Refusal
from ovpn_dco.protocol.keyevents import (
    DataFormat,
    HandshakeCompleted,
    KeyFailed,
    KeyMessageReceived,
    KeyStage,
    KeyTimers,
    MessageReceived,
    NegotiationTimedOut,
    ResetReceived,
)
from ovpn_dco.protocol.keymaterial import KeyMessageError
from ovpn_dco.protocol.reliable import Outgoing
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.tls import TlsContext, TlsError, TlsFailure, TlsVersion
from ovpn_dco.protocol.wire import Opcode

NEGOTIATION = ["ResetReceived", "HandshakeCompleted", "KeyMessageReceived", "KeyActive"]
AES = Cipher.AES_256_GCM


def failure(pair: Pair, role: Role) -> Exception:
    (event,) = (one for one in pair.events[role] if isinstance(one, KeyFailed))
    return event.error


# Negotiation


@pytest.mark.parametrize("version", TlsVersion)
@pytest.mark.parametrize("key_id", [0, 1, 7])
def test_negotiation(version: TlsVersion, key_id: int) -> None:
    states = [
        key_state(role, key_id, tls=TlsContext(lab.settings(role, maximum=version)))
        for role in Role
    ]
    pair = Pair(*states)
    pair.start()
    pair.run()
    assert pair.kinds(Role.CLIENT) == pair.kinds(Role.SERVER) == NEGOTIATION
    got = next(e for e in pair.events[Role.SERVER] if isinstance(e, KeyMessageReceived)).message
    assert (got.options, got.username, got.password) == ("V4,c", "alice", "secret")
    assert got.peer_info == "IV_X=1\n"
    done = next(e for e in pair.events[Role.CLIENT] if isinstance(e, HandshakeCompleted))
    assert done.peer is not None
    assert done.peer.common_name == "Server-1"
    first = {role: pair.sent[role][0] for role in Role}
    assert first[Role.CLIENT][:2] == (3 if key_id else 7, 0)
    assert first[Role.SERVER][:2] == (3 if key_id else 8, 0)
    assert all(state.stage is KeyStage.ACTIVE for state in pair.states)


def test_message_one_acknowledges_the_reset() -> None:
    """A server that keeps no state recognises the client by it."""
    pair = made()
    packet = next(one for one in pair.sent[Role.CLIENT] if one.message_id == 1)
    assert packet.acks == (0,)


def test_server_after_a_cookie_starts_with_message_one() -> None:
    client = key_state(Role.CLIENT)
    server = key_state(Role.SERVER, after_cookie=True)
    client.start(100)
    assert client.packets_to_send(100) == [Outgoing(7, 0, (), b"")]
    # What the stateless part of the server answered.
    give(client, Outgoing(8, 0, (0,), b""))
    pair = Pair(client, server)
    client.send_key_message(now=100, options="V4,c")
    server.start(100)
    assert server.stage is KeyStage.START
    pair.run()
    assert pair.kinds(Role.SERVER) == NEGOTIATION[1:]
    assert pair.sent[Role.SERVER][0].message_id == 1


def test_packets_stay_within_the_size() -> None:
    pair = made({"max_size": 100}, {"max_size": 100})
    for packet in pair.sent[Role.CLIENT] + pair.sent[Role.SERVER]:
        head = 1 + 4 * len(packet.acks) + 8 * bool(packet.acks) + 4 * (packet.opcode != 5)
        assert head + len(packet.payload) <= 100


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1 << 32),
    loss=st.sampled_from([0.0, 0.1, 0.3]),
    doubling=st.sampled_from([0.0, 0.3]),
    jitter_s=st.sampled_from([0.0, 0.3, 3.0]),
)
def test_negotiation_over_a_bad_link(
    seed: int, loss: float, doubling: float, jitter_s: float
) -> None:
    timers = KeyTimers(hand_window_s=3000)
    states = [key_state(role, max_size=300, timers=timers) for role in Role]
    pair = Pair(*states, seed=seed, loss=loss, doubling=doubling, jitter_s=jitter_s)
    pair.start()
    pair.run()
    assert pair.kinds(Role.CLIENT) == pair.kinds(Role.SERVER) == NEGOTIATION
    client, server = (state.derive_data_key(AES) for state in pair.states)
    assert isinstance(client, DataKey)
    assert isinstance(server, DataKey)
    assert (client.encrypt, client.decrypt) == (server.decrypt, server.encrypt)


def test_tls_crypt_v2_client_sends_its_key_again() -> None:
    client = key_state(Role.CLIENT, reset_opcode=10)
    server = key_state(Role.SERVER)
    pair = Pair(client, server)
    pair.start()
    reset = client.packets_to_send(100)
    assert reset[0].opcode == 10
    give(server, reset[0])
    give(client, server.packets_to_send(100)[0])
    event = client.next_event()
    assert isinstance(event, ResetReceived)
    assert event.opcode == 8
    client.append_client_key(299)
    first, *more = client.packets_to_send(100)
    assert (first.opcode, first.message_id) == (11, 1)
    assert 1 + 8 + 4 + 4 + len(first.payload) + 299 <= 1150
    # The same message again later, and no other one.
    assert {packet.opcode for packet in more} <= {4}
    assert client.packets_to_send(102)[0][:2] == (11, 1)
    with pytest.raises(InvalidArgument, match="message 1"):
        client.append_client_key(299)
    give(server, first)
    pair.run()


def test_client_key_that_fills_the_packet_goes_alone() -> None:
    client = key_state(Role.CLIENT, reset_opcode=10, max_size=320)
    client.start(100)
    client.packets_to_send(100)
    give(client, Outgoing(8, 0, (0,), b""))
    client.append_client_key(299)
    first, second, *_ = client.packets_to_send(100)
    assert first == Outgoing(11, 1, (0,), b"")
    assert (second.opcode, second.message_id) == (4, 2)
    assert len(second.payload) == 320 - 29


def test_client_key_goes_instead_of_a_mere_acknowledgement() -> None:
    """Before the reset was acknowledged there is no ClientHello to carry it."""
    client = key_state(Role.CLIENT, reset_opcode=10)
    client.start(100)
    client.packets_to_send(100)
    give(client, Outgoing(8, 0, (), b""))
    client.append_client_key(299)
    assert Outgoing(11, 1, (0,), b"") in client.packets_to_send(100)


# Keys


@pytest.mark.parametrize("session_ids", [None, (b"client-s", b"server-s")])
@pytest.mark.parametrize("data_format", DataFormat)
def test_data_keys_fit_together(
    session_ids: tuple[bytes, bytes] | None, data_format: DataFormat
) -> None:
    pair = made()
    client, server = (
        state.derive_data_key(AES, session_ids=session_ids, data_format=data_format)
        for state in pair.states
    )
    if data_format is DataFormat.EPOCH:
        assert isinstance(client, EpochKey)
        assert isinstance(server, EpochKey)
        assert client.encrypt_secret == server.decrypt_secret != server.encrypt_secret
    else:
        assert isinstance(client, DataKey)
        assert isinstance(server, DataKey)
        assert client.encrypt == server.decrypt != server.encrypt
    with pytest.raises(InvalidArgument, match="before"):
        pair.client.derive_data_key(AES)


def test_no_data_key_before_the_key_messages() -> None:
    pair = Pair(key_state(Role.CLIENT), key_state(Role.SERVER))
    pair.answers = False
    pair.start()
    pair.run(lambda: pair.count(Role.SERVER, KeyMessageReceived) == 1)
    for state in pair.states:
        assert not state.exchanged
        with pytest.raises(InvalidArgument, match="no key messages"):
            state.derive_data_key(AES)


def test_exporter_of_the_session() -> None:
    pair = made()
    label = b"EXPORTER-OpenVPN-dynamic-tls-crypt"
    one, other = (state.export_keying_material(label, 256) for state in pair.states)
    assert one == other


# Messages


def test_messages_go_both_ways_one_record_each() -> None:
    pair = made()
    pair.client.send_message(b"PUSH_REQUEST", pair.now)
    pair.server.send_message(b"PUSH_REPLY,a", pair.now)
    pair.server.send_message(b"PUSH_REPLY,b", pair.now)
    pair.run(lambda: len(pair.events[Role.CLIENT]) == 6 and len(pair.events[Role.SERVER]) == 5)
    assert pair.events[Role.CLIENT][4:] == [
        MessageReceived(0, b"PUSH_REPLY,a"),
        MessageReceived(0, b"PUSH_REPLY,b"),
    ]
    assert pair.events[Role.SERVER][4:] == [MessageReceived(0, b"PUSH_REQUEST")]
    assert "REQUEST" not in repr(pair.events[Role.SERVER][4])


def test_messages_wait_for_the_negotiation() -> None:
    pair = Pair(key_state(Role.CLIENT), key_state(Role.SERVER))
    pair.start()
    pair.server.send_message(b"PUSH_REPLY", pair.now)
    pair.run(lambda: pair.count(Role.CLIENT, MessageReceived) == 1)
    assert pair.kinds(Role.CLIENT) == [*NEGOTIATION, "MessageReceived"]


def test_several_messages_in_a_record_come_apart() -> None:
    pair = made()
    pair.client._tls.write(b"one\0two\0\0three")
    pair.run(lambda: pair.count(Role.SERVER, MessageReceived) == 3)
    data = [event.data for event in pair.events[Role.SERVER] if isinstance(event, MessageReceived)]
    assert data == [b"one", b"two", b"three"]


def test_messages_that_are_not_sent() -> None:
    pair = Pair(key_state(Role.CLIENT), key_state(Role.SERVER))
    with pytest.raises(InvalidArgument, match="INITIAL"):
        pair.client.send_message(b"x", 0)
    pair.start()
    for bad in (b"", b"a\0b"):
        with pytest.raises(InvalidArgument, match="NUL"):
            pair.client.send_message(bad, 0)
    with pytest.raises(MessageTooBig):
        pair.client.send_message(bytes(1024), 0)
    for _ in range(64):
        pair.client.send_message(b"x", 0)
    with pytest.raises(LimitReached):
        pair.client.send_message(b"x", 0)


def test_key_message_is_handed_in_once_and_in_turn() -> None:
    server = key_state(Role.SERVER)
    server.start(0)
    with pytest.raises(InvalidArgument, match="comes first"):
        server.send_key_message(now=0, options="")
    client = key_state(Role.CLIENT)
    client.send_key_message(now=0, options="")
    with pytest.raises(InvalidArgument, match="before"):
        client.send_key_message(now=0, options="")


# What fails


def test_refused_certificate_reaches_the_peer_as_an_alert() -> None:
    stranger = lab.sign(lab.Leaf(lab.name_of("x"), lab.CLIENT), lab.authority("Other CA"))
    tls = TlsContext(lab.settings(Role.CLIENT, stranger))
    pair = Pair(key_state(Role.CLIENT, tls=tls), key_state(Role.SERVER))
    pair.start()
    pair.run(lambda: all(pair.count(role, KeyFailed) for role in Role))
    refused, told = failure(pair, Role.SERVER), failure(pair, Role.CLIENT)
    assert isinstance(refused, TlsError)
    assert isinstance(told, TlsError)
    assert (refused.reason, told.reason) == (TlsFailure.UNKNOWN_CA, TlsFailure.ALERT)
    assert pair.count(Role.SERVER, KeyMessageReceived) == 0
    # It was said once, and nothing goes on.
    assert pair.server.packets_to_send(1e6) == []
    assert pair.server.next_timeout() is None
    late = Outgoing(Opcode.CONTROL_V1, 5, (), b"x")
    assert attempt(give, pair.server, late) is Refusal.NOT_LISTENING


def test_malformed_key_message_fails_the_negotiation() -> None:
    pair = Pair(key_state(Role.CLIENT), key_state(Role.SERVER))
    pair.start()
    pair.client._key_message = b"\0\0\0\0\2 too short"
    pair.run(lambda: pair.count(Role.SERVER, KeyFailed) == 1)
    assert isinstance(failure(pair, Role.SERVER), KeyMessageError)


def test_nobody_answers() -> None:
    client = key_state(Role.CLIENT)
    client.start(100)
    sent_s, now = [], 100.0
    while client.stage is not KeyStage.FAILED:
        if client.packets_to_send(now):
            sent_s.append(now - 100)
        timeout = client.next_timeout()
        assert timeout is not None
        now = timeout
        client.handle_timeout(now)
    assert (sent_s, now) == ([0, *range(2, 60, 4)], 160)
    event = client.next_event()
    assert isinstance(event, KeyFailed)
    assert isinstance(event.error, NegotiationTimedOut)
    assert client.packets_to_send(now) == []
    assert client.next_timeout() is None


@pytest.mark.parametrize(
    ("role", "key_id", "opcode", "message_id"),
    [
        (Role.CLIENT, 0, 7, 0),  # a client's reset
        (Role.CLIENT, 0, 3, 0),  # a soft reset of key id 0
        (Role.SERVER, 0, 8, 0),
        (Role.SERVER, 1, 7, 0),  # a hard reset of a later key id
        (Role.SERVER, 0, 7, 1),  # a reset that is not first
        (Role.SERVER, 0, 4, 0),  # no reset, but first
        (Role.SERVER, 0, 11, 2),  # a client key elsewhere than on message 1
        (Role.SERVER, 1, 11, 1),
        (Role.CLIENT, 0, 11, 1),
        (Role.SERVER, 0, 6, 1),  # data
        (Role.SERVER, 0, 5, 1),  # an acknowledgement with an id
        (Role.SERVER, 0, 4, None),
    ],
)
def test_packets_out_of_place_change_nothing(
    role: Role, key_id: int, opcode: int, message_id: int | None
) -> None:
    state = key_state(role, key_id)
    state.start(100)
    state.packets_to_send(100)
    packet = Outgoing(Opcode(opcode), message_id, (0,), b"x")
    assert attempt(give, state, packet) is Refusal.UNEXPECTED_OPCODE
    assert state.stage is KeyStage.PRE_START
    assert state.packets_to_send(100) == []
    assert state.next_event() is None


numbers = st.one_of(st.none(), st.integers(0, 14), st.integers(0, 0xFFFFFFFF))
junk = st.tuples(
    st.sampled_from(Opcode),
    numbers,
    st.lists(st.integers(0, 10), max_size=8),
    st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(b"\x16\x03\x01\0\x20".__add__)),
)


@settings(max_examples=60)
@given(role=st.sampled_from(Role), packets=st.lists(junk, max_size=20), started=st.booleans())
def test_any_packets_are_taken_or_refused(
    role: Role, packets: list[tuple[Opcode, int | None, list[int], bytes]], started: bool
) -> None:
    state = key_state(role)
    if started:
        state.start(0)
    for now, (opcode, message_id, acks, payload) in enumerate(packets):
        with contextlib.suppress(ProtocolError):
            give(state, Outgoing(opcode, message_id, tuple(acks), payload), now)
        assert len(state.packets_to_send(now)) <= 10
    assert not state.exchanged
    assert started or state.stage is KeyStage.INITIAL
