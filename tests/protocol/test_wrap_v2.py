"""tls-crypt-v2: the client key in its two packets, what the server asks for, and who is let in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from control_packets import (
    CLIENT_KEY,
    KEY,
    NOW,
    SERVER_KEY,
    attempt,
    client_reset,
    control,
    server_reset,
)
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.protocol.early_negotiation import (
    ResetFlag,
    decode_reset_flags,
    encode_reset_flags,
    is_cookie_capable,
)
from ovpn_dco.protocol.errors import MalformedPacket, ProtocolError, Refusal
from ovpn_dco.protocol.statickey import ClientKey, Metadata
from ovpn_dco.protocol.wire import Opcode
from ovpn_dco.protocol.wrap.front import ServerFront
from ovpn_dco.protocol.wrap.tls_auth import TlsAuth
from ovpn_dco.protocol.wrap.tls_crypt_v2 import TlsCryptV2Client, TlsCryptV2Opener

RESET = client_reset(Opcode.HARD_RESET_CLIENT_V3)
ASKS = server_reset(payload=encode_reset_flags(ResetFlag.RESEND_WKC))
WRAPPED = CLIENT_KEY.wrapped


def asked_client() -> TlsCryptV2Client:
    client = TlsCryptV2Client(CLIENT_KEY)
    client.wrap(RESET, NOW)
    client.learn_from_reset(ASKS)
    return client


def test_reset_announces_the_cookie_and_carries_the_key() -> None:
    data = TlsCryptV2Client(CLIENT_KEY).wrap(RESET, NOW)
    assert data[0] == 0x50
    assert data[9:17].hex() == "0f0000015f000000"
    assert data.endswith(WRAPPED)
    assert len(data) == 54 + 299


def test_flags_layout() -> None:
    assert encode_reset_flags(ResetFlag.RESEND_WKC).hex() == "000100020001"
    assert decode_reset_flags(b"") == ResetFlag.NONE


@pytest.mark.parametrize(
    ("payload", "resends"),
    [
        ("000100020001", True),
        ("000100020000", False),
        ("000100020003", True),
        ("7777000378797a000100020001", True),
        ("00010002000188880000", True),
        ("7777000378797a", False),
        ("", False),
    ],
)
def test_client_reads_the_flags(payload: str, resends: bool) -> None:
    client = TlsCryptV2Client(CLIENT_KEY)
    client.learn_from_reset(server_reset(payload=bytes.fromhex(payload)))
    assert client.resends_client_key is resends


@pytest.mark.parametrize(
    "payload", ["00", "000100", "00010002", "0001000200", "000100010000", "0001"]
)
def test_malformed_flags(payload: str) -> None:
    client = TlsCryptV2Client(CLIENT_KEY)
    with pytest.raises(MalformedPacket) as caught:
        client.learn_from_reset(server_reset(payload=bytes.fromhex(payload)))
    assert caught.value.reason is Refusal.FLAGS_MALFORMED
    assert not client.resends_client_key


@given(st.binary(max_size=40))
def test_any_payload_is_flags_or_refused(payload: bytes) -> None:
    outcome = attempt(decode_reset_flags, payload)
    assert isinstance(outcome, ResetFlag) or outcome is Refusal.FLAGS_MALFORMED


def test_only_a_servers_reset_has_flags() -> None:
    with pytest.raises(ProtocolError):
        TlsCryptV2Client(CLIENT_KEY).learn_from_reset(control(payload=ASKS.payload))


def test_key_is_resent_in_message_one_of_key_id_zero_only() -> None:
    client = asked_client()
    for _ in range(3):  # all retransmissions
        data = client.wrap(control(), NOW)
        assert data[0] == 0x58
        assert data.endswith(WRAPPED)
    assert client.overhead_of(key_id=0, message_id=1) == 40 + 299
    for packet in (control(message_id=2), control(key_id=1)):
        data = client.wrap(packet, NOW)
        assert data[0] >> 3 == Opcode.CONTROL_V1
        assert not data.endswith(WRAPPED)
        assert client.overhead_of(key_id=packet.key_id, message_id=packet.message_id or 0) == 40


def test_key_is_not_resent_unasked() -> None:
    client = TlsCryptV2Client(CLIENT_KEY)
    client.learn_from_reset(server_reset())
    assert client.wrap(control(), NOW)[0] == 0x20
    assert client.overhead_of(key_id=0, message_id=1) == 40


def test_marker_of_cookies() -> None:
    assert is_cookie_capable(0x0F000001)
    assert is_cookie_capable(0x0F00FFFF)
    assert not is_cookie_capable(1)
    assert not is_cookie_capable(0x0E000001)


# The server


def front(**options: Callable[[Metadata], bool] | float | None) -> ServerFront:
    return ServerFront.tls_crypt_v2(TlsCryptV2Opener(SERVER_KEY, **options))  # type: ignore[arg-type]


def test_session_goes_on_where_the_answer_was() -> None:
    client = TlsCryptV2Client(CLIENT_KEY)
    greeting = front().open(client.wrap(RESET, NOW))
    assert greeting.packet == RESET
    assert greeting.metadata == Metadata.timestamp(NOW)
    answer = greeting.answer(ASKS, NOW)
    assert len(answer) == 72
    assert answer[9:17].hex() == "000000015f000000"
    client.learn_from_reset(client.unwrap(answer, NOW))
    first = client.wrap(control(), NOW)
    greeting = front().open(first)
    session = greeting.begin_session(NOW)
    with pytest.raises(ProtocolError) as caught:
        session.unwrap(first, NOW)
    assert caught.value.reason is Refusal.REPLAY_SEEN
    reply = session.wrap(server_reset(), NOW)
    assert reply[9:17].hex() == "000000025f000000"
    assert client.unwrap(reply, NOW) == server_reset()
    # A duplicate of the message, in a transmission of its own.
    again = session.unwrap(client.wrap(control(), NOW), NOW)
    assert (again.opcode, again.payload) == (Opcode.CONTROL_WKC_V1, control().payload)
    later = control(message_id=2)
    assert session.unwrap(client.wrap(later, NOW), NOW) == later


def test_front_chooses_by_opcode() -> None:
    both = ServerFront.tls_auth(KEY, v2=TlsCryptV2Opener(SERVER_KEY))
    assert both.open(TlsCryptV2Client(CLIENT_KEY).wrap(RESET, NOW)).metadata is not None
    assert both.open(TlsAuth(KEY).wrap(client_reset(), NOW)).metadata is None
    with_crypt = ServerFront.tls_crypt(KEY, v2=TlsCryptV2Opener(SERVER_KEY))
    assert with_crypt.open(TlsCryptV2Client(CLIENT_KEY).wrap(RESET, NOW)).packet == RESET


@pytest.mark.parametrize(
    ("server", "data"),
    [
        (ServerFront.plain(), TlsCryptV2Client(CLIENT_KEY).wrap(RESET, NOW)),
        (ServerFront.tls_crypt(KEY), TlsCryptV2Client(CLIENT_KEY).wrap(RESET, NOW)),
        (front(), TlsAuth(KEY).wrap(client_reset(), NOW)),
    ],
)
def test_front_without_the_protection(server: ServerFront, data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        server.open(data)
    assert caught.value.reason is Refusal.NO_WRAPPING


def verdict(opener: ServerFront, now: float = NOW, key: ClientKey = CLIENT_KEY) -> Refusal | None:
    greeting = opener.open(TlsCryptV2Client(key).wrap(RESET, NOW))
    greeting.answer(ASKS, now)
    try:
        greeting.begin_session(now)
    except ProtocolError as error:
        return error.reason
    return None


def test_hook_sees_the_metadata_and_decides() -> None:
    seen: list[Metadata] = []

    def verify(metadata: Metadata) -> bool:
        seen.append(metadata)
        return metadata.data == b"alice"

    alice = ClientKey(KEY, SERVER_KEY.wrap(KEY, Metadata.user(b"alice")))
    mallory = ClientKey(KEY, SERVER_KEY.wrap(KEY, Metadata.user(b"mallory")))
    assert verdict(front(verify=verify), key=alice) is None
    assert verdict(front(verify=verify), key=mallory) is Refusal.CLIENT_KEY_REFUSED
    assert seen == [Metadata.user(b"alice"), Metadata.user(b"mallory")]


def test_hook_that_fails_or_says_something_else_is_a_no() -> None:
    def fails(metadata: Metadata) -> bool:
        raise LookupError("no database")

    assert verdict(front(verify=fails)) is Refusal.CLIENT_KEY_REFUSED
    assert verdict(front(verify=lambda _: 1)) is Refusal.CLIENT_KEY_REFUSED  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("age_s", "reason"), [(0, None), (-100, None), (3600, None), (3601, Refusal.CLIENT_KEY_TOO_OLD)]
)
def test_age_of_a_key(age_s: int, reason: Refusal | None) -> None:
    assert verdict(front(max_age_s=3600.0), NOW + age_s) is reason


def test_key_of_unknown_age_is_refused_where_age_matters() -> None:
    ageless = ClientKey(KEY, SERVER_KEY.wrap(KEY, Metadata.user(b"alice")))
    assert verdict(front(max_age_s=3600.0), key=ageless) is Refusal.CLIENT_KEY_TOO_OLD
    assert verdict(front(), key=ageless) is None
