"""Sessions back to back: handshakes, renegotiations, and the ends of sessions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from session_link import FULL, LOGIN, OPTIONS, PRF_ONLY, WRAPPINGS, Network

from ovpn_dco.errors import InvalidArgument, OutOfRange
from ovpn_dco.model import Cipher, DataKey, EpochKey, KeySlot
from ovpn_dco.protocol.authtoken import ClientLogin
from ovpn_dco.protocol.challenge import CrText
from ovpn_dco.protocol.keyevents import KeyPromotionDue, KeyTimers
from ovpn_dco.protocol.messages import (
    AuthFailed,
    AuthPending,
    CrResponse,
    Halt,
    Info,
    InfoPre,
    PushReply,
    PushUpdate,
    Restart,
)
from ovpn_dco.protocol.peerinfo import IvProto
from ovpn_dco.protocol.push import build_push
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session_events import (
    AuthRequired,
    ControlMessage,
    Ended,
    EndReason,
    KeyReady,
    PeerReady,
    PushReceived,
    PushUpdated,
    RenegotiationFailed,
    TokenRenewed,
)
from ovpn_dco.protocol.session_server import ServerSession
from ovpn_dco.protocol.text import TextRefused
from ovpn_dco.protocol.wire import Opcode

LOSSY = {"loss": 0.15, "doubling": 0.15, "jitter_s": 0.3}


@pytest.mark.parametrize("kind", WRAPPINGS)
@pytest.mark.parametrize("seed", range(12))
def test_handshake_over_a_lossy_link(kind: str, seed: int) -> None:
    network = Network(kind, seed=seed, **LOSSY).connected()
    network.assert_keys_fit(0)
    assert [role for role in Role if len(network.every(role, PeerReady)) == 1] == list(Role)


@pytest.mark.parametrize("kind", WRAPPINGS)
@pytest.mark.parametrize(
    ("proto", "key", "ekm", "dynamic"),
    [
        (FULL, EpochKey, True, True),
        (FULL & ~IvProto.DATA_EPOCH, DataKey, True, True),
        (FULL & ~IvProto.DYN_TLS_CRYPT, EpochKey, True, False),
        (PRF_ONLY, DataKey, False, False),
        (PRF_ONLY & ~IvProto.REQUEST_PUSH, DataKey, False, False),
        (PRF_ONLY | IvProto.TLS_KEY_EXPORT, DataKey, True, False),
    ],
)
def test_features(kind: str, proto: IvProto, key: type, ekm: bool, dynamic: bool) -> None:
    network = Network(kind, proto=proto).connected()
    network.client.renegotiate()
    network.run(lambda: network.has_key(1))
    for key_id in (0, 1):
        network.assert_keys_fit(key_id)
        assert isinstance(network.engines[Role.CLIENT].key(key_id), key)
    agreement = network.client.agreement
    assert agreement is not None
    assert (agreement.use_ekm, agreement.dynamic_tls_crypt) == (ekm, dynamic)


def test_what_the_ends_learn() -> None:
    network = Network().connected()
    (asked,) = network.every(Role.SERVER, AuthRequired)
    assert (asked.username, asked.password, asked.key_id) == ("alice", "secret", 0)
    assert asked.peer.common_name == "client-1"
    (pushed,) = network.every(Role.CLIENT, PushReceived)
    assert str(pushed.options.tunnel_ipv4.interface) == "10.8.0.2/24"
    (client,), (server,) = (network.every(role, PeerReady) for role in Role)
    assert client.peer_id == server.peer_id == 7
    assert server.options[:2] == OPTIONS
    assert client.agreement.cipher is server.agreement.cipher is Cipher.AES_256_GCM
    kinds = [type(event) for event in network.events[Role.CLIENT]]
    assert kinds == [PushReceived, PeerReady, KeyReady]
    assert "secret" not in repr(network.events)


@pytest.mark.parametrize("kind", WRAPPINGS)
@pytest.mark.parametrize("who", ["client", "server", "both"])
@pytest.mark.parametrize("seed", range(3))
def test_renegotiations_over_a_lossy_link(kind: str, who: str, seed: int) -> None:
    """Of both at the same time as well."""
    network = Network(kind, seed=seed, **LOSSY).connected()
    for key_id in (1, 2, 3):
        for role, session in network.sessions.items():
            if who in (role.value, "both"):
                session.renegotiate()
        network.run(lambda key_id=key_id: network.has_key(key_id))
        network.assert_keys_fit(key_id)
        assert not any(network.ended(role) for role in Role)


@pytest.mark.parametrize("who", list(Role))
def test_one_more_renegotiation_in_the_middle_of_one(who: Role) -> None:
    """It waits until the peer knows that all has arrived, or the peer would wait for that."""
    network = Network().connected()
    session = network.sessions[who]
    session.renegotiate()
    network.run(lambda: not session._renegotiation_wanted)
    session.renegotiate()
    network.run(lambda: network.has_key(2))
    for key_id in (1, 2):
        network.assert_keys_fit(key_id)
    assert not network.every(Role.CLIENT, RenegotiationFailed)
    assert not network.every(Role.SERVER, RenegotiationFailed)


@pytest.mark.parametrize(
    ("login", "error", "name"),
    [
        ({"password": "p" * 128}, OutOfRange, "password"),
        ({"username": "\udc80"}, InvalidArgument, "username"),
        ({"username": "a\0b"}, InvalidArgument, "username"),
    ],
)
def test_login_that_cannot_be_sent(login: dict[str, str], error: type, name: str) -> None:
    with pytest.raises(error, match=name) as caught:
        Network(login=ClientLogin(**login))
    assert all(text not in str(caught.value) for text in login.values())


def test_key_ids_go_round() -> None:
    network = Network().connected()
    for key_id in (1, 2, 3, 4, 5, 6, 7, 1, 2):
        network.client.renegotiate()
        network.run(lambda key_id=key_id: network.has_key(key_id))
        network.assert_keys_fit(key_id)
    for role in Role:
        ids = [event.key_id for event in network.every(role, KeyReady)]
        assert ids == [0, 1, 2, 3, 4, 5, 6, 7, 1, 2]


def test_timers_start_renegotiations_and_promotions() -> None:
    timers = {"timers": KeyTimers(reneg_s=100, hand_window_s=20, tran_window_s=60)}
    network = Network(client=timers, server=timers).connected()
    started = network.now
    network.run(lambda: network.has_key(1))
    assert 85 < network.now - started < 101
    slots = network.engines[Role.CLIENT].slots
    assert {slot: key.key_id for slot, key in slots.items()} == {
        KeySlot.PRIMARY: 0,
        KeySlot.SECONDARY: 1,
    }
    network.run(lambda: all(network.every(role, KeyPromotionDue) for role in Role))
    assert slots[KeySlot.PRIMARY].key_id == 1
    network.run(lambda: all(len(engine.slots) == 1 for engine in network.engines.values()))
    assert network.has_key(1)


def test_unpromoted_key_is_promoted_before_the_next_one() -> None:
    network = Network().connected()
    for key_id in (1, 2):
        network.client.renegotiate()
        network.run(lambda key_id=key_id: network.has_key(key_id))
    for engine in network.engines.values():
        assert engine.slots[KeySlot.PRIMARY].key_id == 1
        assert engine.slots[KeySlot.SECONDARY].key_id == 2


# Ends


def reason(network: Network, role: Role) -> EndReason:
    (event,) = network.every(role, Ended)
    assert isinstance(event.reason, EndReason)
    return event.reason


def both_finished(network: Network) -> bool:
    return all(session.is_finished for session in network.sessions.values())


@pytest.mark.parametrize("seed", range(8))
def test_client_leaves(seed: int) -> None:
    network = Network(seed=seed, loss=0.1, doubling=0.2).connected().drain()
    network.client.leave(network.now)
    network.client.leave(network.now)
    network.run(lambda: network.ended(Role.SERVER))
    assert reason(network, Role.CLIENT) is EndReason.LOCAL
    assert reason(network, Role.SERVER) is EndReason.PEER_EXIT
    network.run(lambda: both_finished(network))
    assert network.client.next_timeout() is None


def test_second_exit_is_ignored() -> None:
    network = Network().connected().drain()
    for _ in range(2):
        network.client._primary.send_message(b"EXIT", network.now)
    network.drain()
    assert reason(network, Role.SERVER) is EndReason.PEER_EXIT


@pytest.mark.parametrize("seed", range(8))
def test_login_is_refused(seed: int) -> None:
    network = Network(seed=seed, **LOSSY)
    network.decide = lambda session, asked, now: session.refuse(now, AuthFailed("no such user"))
    network.run(lambda: network.ended(Role.CLIENT))
    (ended,) = network.every(Role.CLIENT, Ended)
    assert (ended.reason, ended.message) == (EndReason.AUTH_FAILED, AuthFailed("no such user"))
    assert reason(network, Role.SERVER) is EndReason.AUTH_FAILED
    network.run(lambda: both_finished(network))
    assert not any(network.every(role, KeyReady) for role in Role)


@pytest.mark.parametrize("message", [Restart("soon", next_remote=True), Halt("over")])
def test_server_dismisses(message: Restart | Halt) -> None:
    network = Network().connected().drain()
    assert network.server is not None
    network.server.dismiss(network.now, message)
    network.run(lambda: network.ended(Role.CLIENT))
    (ended,) = network.every(Role.CLIENT, Ended)
    assert ended.message == message
    assert reason(network, Role.SERVER) is EndReason.LOCAL


def test_no_shared_cipher_is_told() -> None:
    network = Network(server={"ciphers": (Cipher.AES_192_GCM,)})
    network.run(lambda: network.ended(Role.CLIENT))
    (ended,) = network.every(Role.CLIENT, Ended)
    assert ended.reason is EndReason.AUTH_FAILED
    assert "no shared cipher" in ended.message.reason
    assert reason(network, Role.SERVER) is EndReason.DISAGREEMENT


def test_nobody_answers() -> None:
    network = Network(loss=1.0)
    network.run(lambda: network.ended(Role.CLIENT))
    assert reason(network, Role.CLIENT) is EndReason.NEGOTIATION_TIMEOUT
    assert network.now == pytest.approx(0x5F000000 + 60)
    assert network.run(lambda: network.client.is_finished)


def test_nobody_decides() -> None:
    network = Network()
    network.decide = lambda session, asked, now: None
    network.run(lambda: all(network.ended(role) for role in Role))
    assert reason(network, Role.SERVER) is EndReason.LOGIN_TIMEOUT
    assert reason(network, Role.CLIENT) in (EndReason.LOGIN_TIMEOUT, EndReason.AUTH_FAILED)


def test_decision_may_come_later() -> None:
    network = Network()
    waiting: list[AuthRequired] = []
    network.decide = lambda session, asked, now: waiting.append(asked)
    network.run(lambda: bool(waiting)).drain(20)
    assert network.server is not None
    assert not network.has_key(0)
    network.let_in(network.server, waiting[0], network.now)
    network.connected()
    with pytest.raises(InvalidArgument, match="no login waits"):
        network.server.accept(network.now, username="alice")


def test_pending_login_outlasts_the_hand_window() -> None:
    timers = {"timers": KeyTimers(reneg_s=600)}
    network = Network(client=timers, server=timers)
    waiting: list[AuthRequired] = []

    def pend(session: ServerSession, asked: AuthRequired, now: float) -> None:
        waiting.append(asked)
        session.pend(now, 200)

    network.decide = pend
    network.run(lambda: bool(waiting)).drain(150)
    assert not any(network.ended(role) for role in Role)
    (told,) = network.every(Role.CLIENT, ControlMessage)
    assert told.message == AuthPending(200)
    assert network.server is not None
    network.let_in(network.server, waiting[0], network.now)
    network.connected()


def test_pending_login_asks_the_person() -> None:
    network = Network()

    def pend(session: ServerSession, _asked: AuthRequired, now: float) -> None:
        session.pend(now, 60, CrText("pin?", response_required=True))

    network.decide = pend
    network.run(lambda: len(network.every(Role.CLIENT, ControlMessage)) == 2)
    told, question = (event.message for event in network.every(Role.CLIENT, ControlMessage))
    assert (told, question) == (AuthPending(60), InfoPre("CR_TEXT:R:pin?"))
    network.client.send(CrResponse("1234"), network.now)
    network.run(lambda: bool(network.every(Role.SERVER, ControlMessage)))
    assert network.every(Role.SERVER, ControlMessage)[0].message == CrResponse("1234")
    assert network.server is not None
    asked = network.every(Role.SERVER, AuthRequired)[0]
    network.let_in(network.server, asked, network.now)
    network.connected()


def test_failed_renegotiation_leaves_the_old_key() -> None:
    timers = {"timers": KeyTimers(reneg_s=0, hand_window_s=20, tran_window_s=100)}
    network = Network(client=timers, server=timers).connected().drain()
    network.client.renegotiate()
    network.drain(0.01)
    for link in network.links.values():
        link.loss = 1.0
    network.run(lambda: all(network.every(role, RenegotiationFailed) for role in Role))
    assert network.has_key(0)
    assert not network.ended(Role.CLIENT)
    network.run(lambda: network.ended(Role.CLIENT))
    assert reason(network, Role.CLIENT) is EndReason.KEY_EXPIRED


def test_other_messages_are_handed_on() -> None:
    network = Network().connected().drain()
    assert network.server is not None
    network.server.send(Info("hello"), network.now)
    network.drain()
    assert [event.message for event in network.every(Role.CLIENT, ControlMessage)] == [
        Info("hello")
    ]


def test_v2_client_key_goes_with_message_one_only() -> None:
    network = Network("tls-crypt-v2").connected()
    network.client.renegotiate()
    network.run(lambda: network.has_key(1)).drain()
    opcodes = [data[0] >> 3 for data in network.sent[Role.CLIENT]]
    assert opcodes[0] == Opcode.HARD_RESET_CLIENT_V3
    assert opcodes.count(Opcode.CONTROL_WKC_V1) == 1
    assert max(map(len, network.sent[Role.CLIENT])) <= 1222
    assert not network.refused


def test_token_takes_the_place_of_the_password() -> None:
    network = Network()
    network.decide = lambda session, asked, now: session.accept(
        now, username="alice", options=["auth-token first"] if asked.key_id == 0 else []
    )
    network.connected().drain()
    assert network.server is not None
    network.client.renegotiate()
    network.run(lambda: network.has_key(1)).drain()
    network.server.send(PushReply(("auth-token second",)), network.now)
    network.drain()
    assert len(network.every(Role.CLIENT, TokenRenewed)) == 1
    assert network.client.login == LOGIN.token_pushed("second")
    network.server.renegotiate()
    network.run(lambda: network.has_key(2))
    passwords = [event.password for event in network.every(Role.SERVER, AuthRequired)]
    assert passwords == ["secret", "first", "second"]
    again = Network(login=network.client.login).connected()
    assert again.every(Role.SERVER, AuthRequired)[0].password == "second"


def test_long_push_comes_in_several_messages() -> None:
    network = Network()
    routes = tuple(f"route 10.{number}.0.0 255.255.0.0" for number in range(200))
    network.decide = lambda session, asked, now: session.accept(
        now, username="alice", options=(*OPTIONS, *routes)
    )
    network.connected()
    (pushed,) = network.every(Role.CLIENT, PushReceived)
    assert len(pushed.options.routes) == 200


def test_push_that_cannot_be_used_ends_the_session() -> None:
    network = Network(client={"ciphers": (Cipher.CHACHA20_POLY1305,)})
    network.run(lambda: network.ended(Role.CLIENT))
    assert reason(network, Role.CLIENT) is EndReason.DISAGREEMENT


UPDATING = {
    "client": {"features": FULL | IvProto.PUSH_UPDATE},
    "server": {"features": FULL | IvProto.PUSH_UPDATE},
}


def update(network: Network, *options: str) -> Network:
    assert network.server is not None
    for message in build_push(PushUpdate, options):
        network.server.send(message, network.now)
    return network.drain()


@pytest.mark.parametrize("seed", range(4))
def test_options_change_while_connected(seed: int) -> None:
    network = Network(seed=seed, **UPDATING, **LOSSY).connected()
    update(network, "ifconfig 10.8.0.9 255.255.255.0", "route 192.168.9.0 255.255.255.0")
    update(network, "-route", *(f"dhcp-option DNS 192.0.2.{n}" for n in range(1, 60)))
    first, second = (event.options for event in network.every(Role.CLIENT, PushUpdated))
    assert str(first.tunnel_ipv4.interface) == "10.8.0.9/24"
    assert [str(route.network) for route in first.routes] == ["192.168.9.0/24"]
    assert first.number("peer-id") == 7
    assert second.routes == ()
    assert len(second.dns.servers[0].addresses) > 1
    assert not network.ended(Role.CLIENT)


def test_update_that_cannot_be_used_ends_the_session() -> None:
    network = update(Network(**UPDATING).connected(), "route 192.168.9.0", "cipher AES-128-GCM")
    (ended,) = network.every(Role.CLIENT, Ended)
    assert ended.reason is EndReason.DISAGREEMENT
    assert not network.every(Role.CLIENT, PushUpdated)


def test_update_that_was_not_announced_changes_nothing() -> None:
    network = update(Network(client={"features": FULL}).connected(), "-ifconfig")
    assert not network.every(Role.CLIENT, PushUpdated)
    assert [type(event.message) for event in network.every(Role.CLIENT, ControlMessage)] == [
        PushUpdate
    ]


def test_update_respects_what_is_not_pulled() -> None:
    network = Network(**UPDATING)
    network.client._profile = replace(network.client._profile, no_pull=True)
    update(network.connected(), "route 192.168.9.0 255.255.255.0", "keepalive 7 30")
    (event,) = network.every(Role.CLIENT, PushUpdated)
    assert (event.options.routes, event.options.number("ping")) == ((), 7)


def test_option_that_cannot_be_pushed_is_the_owners_mistake() -> None:
    network = Network()
    waiting: list[AuthRequired] = []
    network.decide = lambda session, asked, now: waiting.append(asked)
    network.run(lambda: bool(waiting))
    assert network.server is not None
    with pytest.raises(TextRefused):
        network.server.accept(network.now, username="alice", options=["a,b"])
    network.let_in(network.server, waiting[0], network.now)
    network.connected()
