"""What a live session takes from whom, and that the peer of a session stays who it was."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import certificate_lab as lab
import pytest
from control_packets import ADDRESS, CLIENT_SID, NOW, attempt, control, server_reset
from session_link import FULL, SERVER_ADDRESS, WRAPPINGS, Network

from ovpn_dco.errors import DcoError
from ovpn_dco.protocol.authtoken import ClientLogin
from ovpn_dco.protocol.errors import Refusal
from ovpn_dco.protocol.peerinfo import IvProto
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session_events import AuthRequired, Ended, EndReason, KeyReady
from ovpn_dco.protocol.session_server import ServerSession
from ovpn_dco.protocol.statickey import ClientKey, Metadata, ServerKey, StaticKey
from ovpn_dco.protocol.tlscontext import TlsContext
from ovpn_dco.protocol.wire import ControlPacket, Opcode
from ovpn_dco.protocol.wrap.plain import Plain
from ovpn_dco.protocol.wrap.tls_auth import TlsAuth
from ovpn_dco.protocol.wrap.tls_crypt import TlsCrypt
from ovpn_dco.protocol.wrap.tls_crypt_v2 import TlsCryptV2Client

WRONG = StaticKey(bytes(range(255, -1, -1)))
STRANGER = lab.Leaf(lab.name_of("client-1"), lab.CLIENT)


def plain() -> Network:
    """Connected and at rest, without protection: the checks of the session stand alone."""
    return Network("plain", proto=FULL & ~IvProto.DYN_TLS_CRYPT).connected().drain()


def from_client(network: Network, **changes: Any) -> bytes:
    ids = {
        "session_id": network.client.session_id,
        "remote_session_id": network.client.remote_session_id,
        "message_id": 50,
    }
    return Plain().wrap(control(**ids | changes), network.now)


def at_server(network: Network, data: bytes, address: tuple[str, int] = ADDRESS) -> Any:
    assert network.server is not None
    return attempt(network.server.receive, data, address, network.now)


def test_echoed_session_id_must_be_ours() -> None:
    network = plain()
    forged = from_client(network, remote_session_id=bytes(range(30, 38)))
    assert at_server(network, forged) is Refusal.SESSION_ECHO
    assert at_server(network, from_client(network)) is Refusal.MESSAGE_ID_AHEAD


def test_session_id_must_be_the_peers() -> None:
    network = plain()
    assert at_server(network, from_client(network, session_id=CLIENT_SID)) is (
        Refusal.SESSION_UNKNOWN
    )


def test_control_packets_do_not_float() -> None:
    network = plain()
    elsewhere = ("198.51.100.8", 41194)
    assert at_server(network, from_client(network), elsewhere) is Refusal.SESSION_ADDRESS
    assert network.server is not None
    network.server.move(elsewhere)
    assert at_server(network, from_client(network), elsewhere) is Refusal.MESSAGE_ID_AHEAD


def test_reset_must_echo_the_clients_session_id() -> None:
    network = Network("plain")
    client, now = network.client, network.now
    silent = Plain().wrap(server_reset(acks=(), remote_session_id=None), now)
    assert attempt(client.receive, silent, SERVER_ADDRESS, now) is Refusal.SESSION_ECHO
    other = Plain().wrap(server_reset(remote_session_id=CLIENT_SID), now)
    assert attempt(client.receive, other, SERVER_ADDRESS, now) is Refusal.SESSION_ECHO
    assert client.remote_session_id is None
    network.connected()


@pytest.mark.parametrize(
    "opcode",
    [Opcode.HARD_RESET_CLIENT_V2, Opcode.HARD_RESET_SERVER_V2, Opcode.HARD_RESET_CLIENT_V3],
)
def test_opcodes_have_a_direction(opcode: Opcode) -> None:
    network = plain()
    client, server = network.client, network.server
    assert server is not None
    for session, address, is_own in (
        (client, SERVER_ADDRESS, opcode is not Opcode.HARD_RESET_SERVER_V2),
        (server, ADDRESS, opcode is Opcode.HARD_RESET_SERVER_V2),
    ):
        assert session.remote_session_id is not None
        packet = ControlPacket(opcode, 0, session.remote_session_id, message_id=0)
        data = Plain().wrap(packet, network.now) + bytes(300)
        outcome = attempt(session.receive, data, address, network.now)
        if is_own:
            assert outcome is Refusal.UNEXPECTED_OPCODE


@pytest.mark.parametrize("key_id", [2, 3, 7])
def test_renegotiation_out_of_turn(key_id: int) -> None:
    network = plain()
    soft = {"opcode": Opcode.SOFT_RESET_V1, "acks": (), "remote_session_id": None}
    reset = from_client(network, **soft, key_id=key_id, message_id=0)
    assert at_server(network, reset) is Refusal.UNEXPECTED_OPCODE
    late = from_client(network, **soft, key_id=1, message_id=1)
    assert at_server(network, late) is Refusal.UNEXPECTED_OPCODE
    acks = from_client(network, opcode=Opcode.SOFT_RESET_V1, key_id=1, message_id=0)
    assert at_server(network, acks) is Refusal.UNEXPECTED_OPCODE
    assert network.server is not None
    assert network.server._primary.key_id == 0
    network.client.renegotiate()
    network.run(lambda: network.has_key(1))


@pytest.mark.parametrize("kind", WRAPPINGS[1:])
def test_wrong_key_is_answered_with_silence(kind: str) -> None:
    network = Network(kind)
    wrong = {
        "tls-auth": lambda: TlsAuth(WRONG, digest="SHA256"),
        "tls-crypt": lambda: TlsCrypt(WRONG, Role.CLIENT),
        "tls-crypt-v2": lambda: TlsCryptV2Client(
            ClientKey(WRONG, ServerKey(WRONG.data[:128]).wrap(WRONG, Metadata.timestamp(NOW)))
        ),
    }[kind]()
    network.client._wrapping._original = wrong
    network.run(lambda: network.ended(Role.CLIENT))
    assert network.server is None
    assert len(network.sent[Role.CLIENT]) > 2
    assert network.links[Role.SERVER]._count == 0
    assert network.refused


@pytest.mark.parametrize("kind", WRAPPINGS)
def test_noise_has_no_effect(kind: str) -> None:
    network = Network(kind).connected().drain()
    drawn = random.Random(kind)
    recorded = network.sent[Role.CLIENT] + network.sent[Role.SERVER]
    for _ in range(400):
        data = bytearray(drawn.choice(recorded))
        for _ in range(drawn.randint(1, 4)):
            data[drawn.randrange(len(data))] = drawn.randrange(256)
        for session, address in ((network.client, SERVER_ADDRESS), (network.server, ADDRESS)):
            assert session is not None
            try:
                session.receive(bytes(data), address, network.now)
            except DcoError:
                continue
    if kind != "plain":
        network.client.renegotiate()
        network.run(lambda: network.has_key(1))


# Identity


def renegotiated(network: Network) -> Network:
    network.client.renegotiate()
    return network.run(lambda: all(network.ended(role) for role in Role)).drain(10)


def assert_deauthenticated(network: Network) -> None:
    (ended,) = network.every(Role.SERVER, Ended)
    assert ended.reason is EndReason.IDENTITY_CHANGED
    (told,) = network.every(Role.CLIENT, Ended)
    assert told.reason is EndReason.AUTH_FAILED
    assert [event.key_id for event in network.every(Role.SERVER, KeyReady)] == [0]
    assert not network.engines[Role.SERVER].slots


def test_username_stays_the_same() -> None:
    network = Network().connected().drain()
    network.client._login = ClientLogin("mallory", "secret")
    assert_deauthenticated(renegotiated(network))


def test_certificate_of_the_client_stays_the_same() -> None:
    """The same name is not enough: it is another key."""
    network = Network().connected().drain()
    other = TlsContext(lab.settings(Role.CLIENT, lab.sign(STRANGER, lab.authority())))
    network.client._settings = replace(network.client._settings, tls=other)
    assert_deauthenticated(renegotiated(network))
    assert len(network.every(Role.SERVER, AuthRequired)) == 1


def test_certificate_of_the_server_stays_the_same() -> None:
    """The client gives its password to nobody else."""
    network = Network().connected().drain()
    leaf = lab.Leaf(lab.name_of("Server-1"), lab.SERVER)
    other = TlsContext(lab.settings(Role.SERVER, lab.sign(leaf, lab.authority())))
    assert network.server is not None
    network.server._settings = replace(network.server._settings, tls=other)
    network.client.renegotiate()
    network.run(lambda: network.ended(Role.CLIENT)).drain(10)
    (ended,) = network.every(Role.CLIENT, Ended)
    assert ended.reason is EndReason.IDENTITY_CHANGED
    assert len(network.every(Role.SERVER, AuthRequired)) == 1


def test_each_login_is_decided_anew() -> None:
    """An earlier yes gives no key to a renegotiation."""
    network = Network().connected().drain()
    network.decide = lambda session, asked, now: None
    network.client.renegotiate()
    network.drain(20)
    assert [event.key_id for event in network.every(Role.SERVER, KeyReady)] == [0]
    assert network.every(Role.SERVER, AuthRequired)[-1].key_id == 1
    network.run(lambda: network.ended(Role.SERVER))
    assert not network.engines[Role.SERVER].slots


def test_no_key_before_the_decision() -> None:
    network = Network()
    network.decide = lambda session, asked, now: None
    network.run(lambda: bool(network.events[Role.SERVER])).drain(20)
    assert network.server is not None
    assert not any(network.every(role, KeyReady) for role in Role)


def test_refusal_at_a_renegotiation_takes_the_keys_away() -> None:
    network = Network().connected().drain()

    def refuse(session: ServerSession, asked: AuthRequired, now: float) -> None:
        session.refuse(now)

    network.decide = refuse
    renegotiated(network)
    assert not any(engine.slots for engine in network.engines.values())


def test_credentials_have_no_line_breaks() -> None:
    network = Network(login=ClientLogin("al\u2028ice\nroot", "se\u2029cret")).connected()
    (asked,) = network.every(Role.SERVER, AuthRequired)
    assert (asked.username, asked.password) == ("al_ice_root", "se_cret")


def test_session_ends_once() -> None:
    network = Network().connected().drain()
    for _ in range(2):
        network.client._primary.send_message(b"EXIT", network.now)
    network.drain()
    assert len(network.every(Role.SERVER, Ended)) == 1
