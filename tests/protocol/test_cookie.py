"""The stateless server: the exchange of resets, and the cookie by itself."""

from __future__ import annotations

import pytest
from control_packets import (
    ADDRESS,
    CLIENT_KEY,
    CLIENT_SID,
    FRONTS,
    NOW,
    FirstContact,
    admitted,
    attempt,
    client_reset,
    control,
    seeded,
    server_reset,
    stateless,
)
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.errors import InvalidArgument
from ovpn_dco.model import Address
from ovpn_dco.protocol.cookie import Answer, ResetCookie
from ovpn_dco.protocol.errors import ProtocolError, Refusal
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.statickey import Metadata
from ovpn_dco.protocol.wire import Opcode
from ovpn_dco.protocol.wrap.tls_crypt import TlsCrypt

START = 60 * (NOW // 60)
"""The beginning of a slot of the default lifetime."""


@pytest.mark.parametrize("kind", FRONTS)
def test_exchange(kind: str) -> None:
    server = stateless(kind)
    client = FirstContact(kind, server)
    payload = bytes.fromhex("000100020001") if kind == "tls-crypt-v2" else b""
    session_id = client.server_reset.session_id
    assert client.server_reset == server_reset(session_id=session_id, payload=payload)
    outcome = admitted(server.receive(client.first_message(), ADDRESS, NOW))
    assert outcome.is_validated
    assert outcome.session_id == session_id
    assert outcome.remote_session_id == CLIENT_SID
    assert outcome.packet.payload == control().payload
    assert outcome.packet.message_id == 1
    reply = control(session_id=session_id, remote_session_id=CLIENT_SID)
    assert client.wrapping.unwrap(outcome.wrapping.wrap(reply, NOW), NOW) == reply
    more = control(message_id=2, remote_session_id=session_id)
    assert outcome.wrapping.unwrap(client.wrapping.wrap(more, NOW), NOW) == more


@pytest.mark.parametrize("kind", [kind for kind in FRONTS if kind != "tls-crypt-v2"])
def test_acknowledgement_alone_is_enough(kind: str) -> None:
    server = stateless(kind)
    client = FirstContact(kind, server)
    data = client.first_message(opcode=Opcode.ACK_V1, message_id=None, payload=b"")
    assert admitted(server.receive(data, ADDRESS, NOW)).packet.opcode is Opcode.ACK_V1


def test_first_message_may_be_empty() -> None:
    server = stateless("tls-crypt-v2")
    data = FirstContact("tls-crypt-v2", server).first_message(payload=b"")
    assert admitted(server.receive(data, ADDRESS, NOW)).packet.payload == b""


@pytest.mark.parametrize("kind", FRONTS)
def test_same_reset_gets_the_same_answer(kind: str) -> None:
    """Nothing is kept, so nothing can differ: also after a thousand others."""
    server = stateless(kind)
    first = FirstContact(kind, server)
    for port in range(1, 20):
        FirstContact(kind, server, ("198.51.100.7", port))
    again = server.receive(first.reset, ADDRESS, NOW)
    assert again == Answer(first.answer)


@pytest.mark.parametrize(
    ("kind", "asked", "answered"),
    [("plain", 14, 26), ("tls-auth", 54, 66), ("tls-crypt", 54, 66), ("tls-crypt-v2", 353, 72)],
)
def test_amplification(kind: str, asked: int, answered: int) -> None:
    client = FirstContact(kind, stateless(kind))
    assert (len(client.reset), len(client.answer)) == (asked, answered)


def test_client_that_cannot_answer_a_cookie() -> None:
    """tls-crypt-v2 of before 2.6: its first replay id is 1."""
    old = TlsCrypt(CLIENT_KEY.key, Role.CLIENT)
    data = old.wrap(client_reset(Opcode.HARD_RESET_CLIENT_V3), NOW) + CLIENT_KEY.wrapped
    with pytest.raises(ProtocolError) as caught:
        stateless("tls-crypt-v2").receive(data, ADDRESS, NOW)
    assert caught.value.reason is Refusal.COOKIE_UNSUPPORTED
    server = stateless("tls-crypt-v2", allow_noncookie=True, burst=1)
    outcome = admitted(server.receive(data, ADDRESS, NOW))
    assert not outcome.is_validated
    assert outcome.packet.opcode is Opcode.HARD_RESET_CLIENT_V3
    reset = server_reset(session_id=outcome.session_id)
    assert old.unwrap(outcome.wrapping.wrap(reset, NOW), NOW) == reset
    with pytest.raises(ProtocolError) as caught:
        server.receive(data, ADDRESS, NOW)
    assert caught.value.reason is Refusal.RATE_LIMITED


@pytest.mark.parametrize("kind", FRONTS)
@given(first=st.integers(0, 255), rest=st.binary(max_size=400))
def test_any_bytes_are_answered_admitted_or_refused(kind: str, first: int, rest: bytes) -> None:
    data = bytes((first,)) + rest
    outcome = attempt(stateless(kind).receive, data, ADDRESS, NOW)
    if not isinstance(outcome, Refusal):
        assert kind == "plain"
        assert isinstance(outcome, Answer)
        assert len(outcome.data) <= len(data) + 12


def test_metadata_are_verified_after_the_cookie_only() -> None:
    asked: list[Metadata] = []

    def verify(metadata: Metadata) -> bool:
        asked.append(metadata)
        return False

    server = stateless("tls-crypt-v2", verify=verify)
    client = FirstContact("tls-crypt-v2", server)
    assert asked == []
    with pytest.raises(ProtocolError) as caught:
        server.receive(client.first_message(), ("203.0.113.1", 1), NOW)
    assert caught.value.reason is Refusal.COOKIE_MISMATCH
    assert asked == []
    with pytest.raises(ProtocolError) as caught:
        server.receive(client.first_message(), ADDRESS, NOW)
    assert caught.value.reason is Refusal.CLIENT_KEY_REFUSED
    assert asked == [Metadata.timestamp(NOW)]


# The cookie by itself


def test_cookie_holds_for_its_lifetime_and_less_than_two() -> None:
    cookie = ResetCookie(seeded())
    for made in (START, START + 30.5, START + 59.9):
        session_id = cookie.make(ADDRESS, CLIENT_SID, made)
        for now, valid in (
            (made, True),
            (made + 60, True),
            (START + 119.9, True),
            (START + 120, False),
            (START + 1e6, False),
            (START - 0.1, False),
            (START - 60, False),
        ):
            assert cookie.check(ADDRESS, CLIENT_SID, session_id, now) is valid


@pytest.mark.parametrize(
    ("address", "other"),
    [
        (("192.0.2.1", 1), ("192.0.2.2", 1)),
        (("192.0.2.1", 1), ("192.0.2.1", 2)),
        (("192.0.2.1", 1), ("192.0.2.1", 257)),
        (("2001:db8::1", 1, 0, 0), ("2001:db8::2", 1, 0, 0)),
        (("fe80::1", 1, 0, 2), ("fe80::1", 1, 0, 3)),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::1%eth1", 1, 0, 2)),
        (("192.0.2.1", 1), ("::ffff:192.0.2.1", 1, 0, 0)),
    ],
)
def test_cookie_is_bound_to_its_address(address: Address, other: Address) -> None:
    cookie = ResetCookie(seeded())
    session_id = cookie.make(address, CLIENT_SID, NOW)
    assert cookie.check(address, CLIENT_SID, session_id, NOW)
    assert not cookie.check(other, CLIENT_SID, session_id, NOW)


def test_flow_label_may_change() -> None:
    cookie = ResetCookie(seeded())
    session_id = cookie.make(("2001:db8::1", 1, 5, 0), CLIENT_SID, NOW)
    assert cookie.check(("2001:db8::1", 1, 6, 0), CLIENT_SID, session_id, NOW)


def test_rotation_keeps_what_was_made_before_for_its_time() -> None:
    cookie = ResetCookie(seeded())
    old = cookie.make(ADDRESS, CLIENT_SID, START)
    cookie.rotate(START)
    new = cookie.make(ADDRESS, CLIENT_SID, START)
    assert old != new
    assert all(cookie.check(ADDRESS, CLIENT_SID, each, START + 119) for each in (old, new))
    late = START + 120
    cookie.rotate(late)
    cookie.rotate(late)
    made = cookie.make(ADDRESS, CLIENT_SID, late)
    assert cookie.check(ADDRESS, CLIENT_SID, made, late)
    assert not cookie.check(ADDRESS, CLIENT_SID, new, late)


def test_secrets_differ_and_are_not_shown() -> None:
    draw = seeded()
    one, other = ResetCookie(draw), ResetCookie(draw)
    assert one.make(ADDRESS, CLIENT_SID, NOW) != other.make(ADDRESS, CLIENT_SID, NOW)
    assert repr(one) == "ResetCookie(lifetime_s=60)"
    with pytest.raises(InvalidArgument):
        ResetCookie(lambda size: b"")
    with pytest.raises(InvalidArgument):
        ResetCookie(draw, lifetime_s=0)
