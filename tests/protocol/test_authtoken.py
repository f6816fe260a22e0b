"""Auth tokens: the known answer, what is genuine and for how long, and what a client does."""

from __future__ import annotations

import base64
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.errors import InvalidArgument
from ovpn_dco.model import AuthRetry
from ovpn_dco.protocol.authtoken import (
    MAX_BACKOFF_S,
    TOKEN_CHARACTERS,
    TOKEN_PREFIX,
    AuthToken,
    ClientLogin,
    FailureAction,
    TokenIssuer,
    TokenState,
    TokenVerdict,
    build_token_secret,
    parse_token_secret,
)
from ovpn_dco.protocol.challenge import DynamicChallenge
from ovpn_dco.protocol.errors import KeyFileError
from ovpn_dco.protocol.messages import (
    Advance,
    AuthFailed,
    AuthFailedTemporarily,
    SessionExpired,
    challenge_message,
)
from ovpn_dco.protocol.text import TextRefused

SECRET = bytes(range(128))
START = 0x5F000000
KNOWN = (
    "SESS_ID_AT_AAECAwQFBgcICQoLAAAAAF8AAAAAAAAAXwAAAL7SrxBUQwjxaSAOEOHu7yBL0hCHazWEIBYLfUYeu/VD"
)


def issuer(**settings: int) -> TokenIssuer:
    return TokenIssuer(SECRET, random_bytes=lambda size: bytes(range(size)), **settings)


@pytest.fixture
def token() -> AuthToken:
    return issuer().issue("alice", now=START)


def state(verdict: TokenVerdict) -> TokenState:
    return verdict.state


def test_known_answer(token: AuthToken) -> None:
    assert token.text == KNOWN
    assert len(KNOWN) == TOKEN_CHARACTERS
    verdict = issuer().check(KNOWN, "alice", now=START)
    assert verdict == TokenVerdict(TokenState.VALID, token, "alice")
    assert verdict.accepted


def test_session_ids_are_drawn_anew() -> None:
    drawn = itertools.count()
    made = TokenIssuer(SECRET, random_bytes=lambda size: next(drawn).to_bytes(size, "big"))
    ids = {made.issue("alice", now=START).session_id for _ in range(5)}
    assert len(ids) == 5


def test_renewal_keeps_session_and_start(token: AuthToken) -> None:
    renewed = issuer().renew(token, "alice", now=START + 1800.9)
    assert (renewed.session_id, renewed.first_issued) == (token.session_id, START)
    assert renewed.issued == START + 1800
    assert issuer().check(renewed.text, "alice", now=START + 1801).accepted


def test_token_is_good_for_twice_the_renewal(token: AuthToken) -> None:
    times = {-1: False, 0: True, 7199.9: True, 7200: False, 10**9: False}
    for offset, good in times.items():
        verdict = issuer(renewal_s=3600).check(KNOWN, "alice", now=START + offset)
        assert verdict.accepted is good
        assert verdict.state is (TokenState.VALID if good else TokenState.EXPIRED)
        assert verdict.token == token


def test_lifetime_counts_from_the_login(token: AuthToken) -> None:
    made = issuer(renewal_s=3600, lifetime_s=5000)
    renewed = made.renew(token, "alice", now=START + 3000)
    assert made.check(renewed.text, "alice", now=START + 4999).accepted
    assert state(made.check(renewed.text, "alice", now=START + 5000)) is TokenState.EXPIRED


def test_token_that_was_renewed_before_it_was_issued() -> None:
    made = issuer()
    odd = made.renew(AuthToken("", bytes(12), START + 10, 0), "alice", now=START)
    assert state(made.check(odd.text, "alice", now=START + 20)) is TokenState.EXPIRED


def test_token_of_another_user_key_or_session(token: AuthToken) -> None:
    other = TokenIssuer(bytes(128), random_bytes=bytes)
    assert state(issuer().check(KNOWN, "bob", now=START)) is TokenState.INVALID
    assert state(issuer().check(KNOWN, "", now=START)) is TokenState.INVALID
    assert state(other.check(KNOWN, "alice", now=START)) is TokenState.INVALID
    check = issuer().check
    assert check(KNOWN, "alice", now=START, session_id=token.session_id).accepted
    wrong = check(KNOWN, "alice", now=START, session_id=bytes(12))
    assert wrong == TokenVerdict(TokenState.INVALID)


def test_token_of_no_username_proves_none() -> None:
    token = issuer().issue("", now=START)
    verdict = issuer().check(token.text, "admin", now=START)
    assert verdict.state is TokenState.VALID_EMPTY_USERNAME
    assert verdict.username == ""
    late = issuer().check(token.text, "admin", now=START + 10**6)
    assert late.state is TokenState.EXPIRED_EMPTY_USERNAME
    assert not late.accepted


def test_every_bit_counts() -> None:
    data = base64.b64decode(KNOWN[len(TOKEN_PREFIX) :])
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        text = TOKEN_PREFIX + base64.b64encode(changed).decode()
        assert state(issuer().check(text, "alice", now=START)) is TokenState.INVALID


def test_plain_passwords() -> None:
    for password in ("", "secret", "SESS_ID_AT", "sess_id_at_x", " " + KNOWN):
        assert state(issuer().check(password, "alice", now=START)) is TokenState.NO_TOKEN


@given(st.text(max_size=120), st.text(max_size=20), st.integers(0, 2**64))
def test_any_text_behind_the_prefix(rest: str, username: str, now: int) -> None:
    verdict = issuer().check(TOKEN_PREFIX + rest, username, now=now)
    assert verdict == TokenVerdict(TokenState.INVALID)


@given(st.text(max_size=60), st.integers(0, 2**40), st.integers(0, 7199))
def test_what_was_issued_is_genuine(username: str, start: int, later: int) -> None:
    token = issuer().issue(username, now=start)
    assert issuer().check(token.text, username, now=start + later).accepted


# Secret


def test_secret_file() -> None:
    text = build_token_secret(SECRET)
    assert text.startswith("-----BEGIN OpenVPN auth-token server key-----\n")
    assert parse_token_secret(text) == SECRET
    assert parse_token_secret(text.encode()) == SECRET
    assert parse_token_secret("\n" + text.replace("\n", "\r\n")) == SECRET


@pytest.mark.parametrize("change", [("auth-token", "tls-crypt-v2"), ("END", "STOP"), ("AAEC",
"@@@@"),
                                    ("AAEC", "AAECAAEC"), ("AAEC", "\u00e4")])  # fmt: skip
def test_secret_file_with_a_bad_form(change: tuple[str, str]) -> None:
    with pytest.raises(KeyFileError):
        parse_token_secret(build_token_secret(SECRET).replace(*change))


@pytest.mark.parametrize("size", [0, 32, 127, 129])
def test_secret_of_another_size(size: int) -> None:
    with pytest.raises(InvalidArgument, match="128 bytes"):
        TokenIssuer(bytes(size), random_bytes=bytes)
    with pytest.raises(InvalidArgument, match="128 bytes"):
        build_token_secret(bytes(size))


@pytest.mark.parametrize("settings", [{"renewal_s": 0}, {"lifetime_s": -1}])
def test_times_without_sense(settings: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument, match="renewal"):
        issuer(**settings)


# Client

LOGIN = ClientLogin("alice", "hunter2")


def test_token_takes_the_place_of_the_password() -> None:
    assert LOGIN.credentials == ("alice", "hunter2")
    with_token = LOGIN.token_pushed("T1")
    assert with_token.credentials == ("alice", "T1")
    named = with_token.token_pushed("T2", "alice@realm").token_pushed("T3")
    assert named.credentials == ("alice@realm", "T3")
    assert "hunter2" not in repr(named)
    assert "T3" not in repr(named)


@pytest.mark.parametrize("token", ["", "x" * 128, "a\nb", "a\0"])
def test_token_that_a_client_does_not_take(token: str) -> None:
    with pytest.raises(TextRefused, match="auth-token"):
        LOGIN.token_pushed(token)


@pytest.mark.parametrize("failure", [AuthFailed("no"), SessionExpired("token expired")])
def test_refused_token_gives_way_to_the_password(failure: AuthFailed) -> None:
    login, attempt = LOGIN.token_pushed("T").after_failure(failure)
    assert login == LOGIN
    assert attempt.action is FailureAction.RECONNECT
    login, attempt = ClientLogin("alice", "", token="T").after_failure(failure)
    assert attempt.action is FailureAction.ASK


@pytest.mark.parametrize(
    ("auth_retry", "action", "delay_s"),
    [
        (AuthRetry.NONE, FailureAction.STOP, 0),
        (AuthRetry.NOINTERACT, FailureAction.RECONNECT, 10),
        (AuthRetry.INTERACT, FailureAction.ASK, 0),
    ],
)
def test_refused_password(auth_retry: AuthRetry, action: FailureAction, delay_s: int) -> None:
    login, attempt = LOGIN.after_failure(AuthFailed(), auth_retry=auth_retry)
    assert login == LOGIN
    assert (attempt.action, attempt.delay_s) == (action, delay_s)


def test_temporary_failure_keeps_the_token() -> None:
    before = LOGIN.token_pushed("T")
    failure = AuthFailedTemporarily(backoff_s=42, advance=Advance.REMOTE)
    login, attempt = before.after_failure(failure)
    assert login == before
    assert (attempt.delay_s, attempt.advance) == (42, Advance.REMOTE)
    forever = AuthFailedTemporarily(backoff_s=10**8)
    assert before.after_failure(forever)[1].delay_s == MAX_BACKOFF_S


def test_challenge_is_answered() -> None:
    failure = challenge_message(DynamicChallenge("id", "alice", "PIN"))
    assert LOGIN.token_pushed("T").after_failure(failure)[1].action is FailureAction.ANSWER
