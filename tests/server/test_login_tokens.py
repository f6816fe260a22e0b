"""Tokens of a server: who gets one, what it is good for, and what external verifiers see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from login_lab import START, Session, asked, certificate, right_password, server

from ovpn_dco.config import DataChannelConfig, Material, ServerConfig
from ovpn_dco.protocol.authtoken import TokenState, build_token_secret
from ovpn_dco.protocol.errors import KeyFileError
from ovpn_dco.protocol.messages import AuthFailed, SessionExpired, encode
from ovpn_dco.protocol.text import encode_base64
from ovpn_dco.server.authentication import Authenticator, Identity, LoginRequest
from ovpn_dco.server.hooks import LoginDenied

SECRET = Material(build_token_secret(bytes(range(128))).encode())


def with_tokens(hook: Any = right_password, **auth: Any) -> ServerConfig:
    return server(hook, generate_token=True, **{"token_secret": SECRET, **auth})


def text_of(identity: Identity) -> str:
    assert identity.token is not None
    return identity.token.text


def expired(session: Session, question: Any, now: float = START) -> None:
    with pytest.raises(LoginDenied) as caught:
        session.enter(question, now)
    assert caught.value.message == SessionExpired("token expired")
    assert encode(caught.value.message) == b"AUTH_FAILED,SESSION: token expired\0"


def test_password_earns_a_token_and_the_token_logs_in() -> None:
    first = Session(with_tokens()).enter(asked())
    assert first.pushed_options == (f"auth-token {text_of(first)}",)
    assert "SESS_ID" not in repr(first)
    again = Session(with_tokens()).enter(asked(password=text_of(first)), START + 60)
    assert again.username == "alice"
    assert again.token is not None
    assert first.token is not None
    assert again.token.session_id == first.token.session_id
    assert (again.token.first_issued, again.token.issued) == (START, START + 60)


def test_without_generation_a_token_is_a_password() -> None:
    token = text_of(Session(with_tokens()).enter(asked()))
    session = Session(server(right_password))
    with pytest.raises(LoginDenied) as caught:
        session.enter(asked(password=token))
    assert caught.value.message == AuthFailed()
    assert session.enter(asked()).pushed_options == ()


def test_servers_without_passwords_give_no_tokens() -> None:
    config = server(generate_token=True)
    assert Session(config).enter(asked(peer=certificate())).token is None


def test_each_renegotiation_renews_the_token() -> None:
    session = Session(with_tokens())
    identity = session.enter(asked())
    for round_ in range(1, 5):
        now = START + round_ * 3500
        renewed = session.enter(asked(password=text_of(identity), key_id=1), now)
        assert renewed.token is not None
        assert identity.token is not None
        assert renewed.token.issued == now
        assert renewed.token.session_id == identity.token.session_id
        identity = renewed


def test_password_at_a_renegotiation_continues_the_session_of_tokens() -> None:
    session = Session(with_tokens(token_lifetime_s=5000))
    first = session.enter(asked()).token
    second = session.enter(asked(key_id=1), START + 100).token
    assert first is not None
    assert second is not None
    assert (second.session_id, second.first_issued) == (first.session_id, START)
    third = session.enter(asked(key_id=2), START + 6000).token
    assert third is not None
    assert third.first_issued == START + 6000


def test_token_of_another_session_is_refused_within_one() -> None:
    other = Session(with_tokens()).enter(asked())
    session = Session(with_tokens())
    session.enter(asked())
    expired(session, asked(password=text_of(other), key_id=1))


@pytest.mark.parametrize(
    ("settings", "seconds", "good"),
    [
        ({}, 7199, True),
        ({}, 7200, False),
        ({"token_renewal_s": 10}, 19, True),
        ({"token_renewal_s": 10}, 20, False),
        ({"token_lifetime_s": 30}, 29, True),
        ({"token_lifetime_s": 30}, 30, False),
    ],
)
def test_time_of_a_token(settings: dict[str, int], seconds: int, good: bool) -> None:
    token = text_of(Session(with_tokens()).enter(asked()))
    session, question = Session(with_tokens(**settings)), asked(password=token)
    if good:
        session.enter(question, START + seconds)
    else:
        expired(session, question, START + seconds)


@pytest.mark.parametrize(("renegotiate_s", "good_s"), [(100, 199), (0, 7199)])
def test_renewal_follows_the_renegotiation(renegotiate_s: int, good_s: int) -> None:
    config = replace(with_tokens(), data=DataChannelConfig(renegotiate_s=renegotiate_s))
    token = text_of(Session(config).enter(asked()))
    Session(config).enter(asked(password=token), START + good_s)
    expired(Session(config), asked(password=token), START + good_s + 1)


def test_token_of_another_user_or_secret_is_refused() -> None:
    token = text_of(Session(with_tokens()).enter(asked()))
    expired(Session(with_tokens()), asked("bob", token))
    expired(Session(with_tokens(token_secret=None)), asked(password=token))


def test_secret_of_its_own_lasts_as_long_as_the_server() -> None:
    authenticator = Authenticator(with_tokens(token_secret=None))
    session, again = Session(with_tokens()), Session(with_tokens())
    session.login._authenticator = again.login._authenticator = authenticator
    again.enter(asked(password=text_of(session.enter(asked()))))


def test_secret_that_is_none() -> None:
    with pytest.raises(KeyFileError, match="auth-token server key"):
        Authenticator(with_tokens(token_secret=Material(b"\xff")))


def test_token_for_no_name_proves_none() -> None:
    config = with_tokens(lambda request: request.username == "", user_pass_optional=True)
    token = text_of(Session(config).enter(asked("", "")))
    identity = Session(config).enter(asked("root", token))
    assert identity.username == ""


def test_renamed_client_is_told_the_name_of_its_token() -> None:
    session = Session(with_tokens())
    session.enter(asked())
    renamed = session.login.rename("bob", now=START)
    token = text_of(renamed)
    assert renamed.pushed_options == (
        f"auth-token {token}",
        f"auth-token-user {encode_base64('bob')}",
    )
    for claimed in ("alice", "bob"):
        assert session.enter(asked(claimed, text_of(renamed), key_id=1)).username == "bob"
    assert Session(with_tokens()).enter(asked("bob", token)).username == "bob"
    expired(Session(with_tokens()), asked("alice", token))


# External authentication


def external(answer: bool, seen: list[LoginRequest], **auth: Any) -> ServerConfig:
    def hook(request: LoginRequest) -> bool:
        seen.append(request)
        return answer

    return with_tokens(hook, token_external_auth=True, **auth)


@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize(
    ("seconds", "session_state"),
    [(0, TokenState.VALID), (7200, TokenState.EXPIRED)],
)
def test_external_verifier_decides_knowing_the_state(
    answer: bool, seconds: int, session_state: TokenState
) -> None:
    token = text_of(Session(with_tokens()).enter(asked()))
    seen: list[LoginRequest] = []
    session = Session(external(answer, seen))
    if answer:
        assert session.enter(asked(password=token), START + seconds).token is not None
    else:
        with pytest.raises(LoginDenied):
            session.enter(asked(password=token), START + seconds)
    assert [request.token_state for request in seen] == [session_state]


def test_external_verifier_sees_forged_tokens_and_first_logins() -> None:
    seen: list[LoginRequest] = []
    session = Session(external(True, seen))
    session.enter(asked())
    session.enter(asked(password="SESS_ID_AT_forged", key_id=1))
    states = [request.token_state for request in seen]
    assert states == [TokenState.NO_TOKEN, TokenState.INVALID]


def test_external_verifier_is_not_told_a_name_that_nothing_proves() -> None:
    seen: list[LoginRequest] = []
    config = external(True, seen, user_pass_optional=True)
    token = text_of(Session(config).enter(asked("", "")))
    assert Session(config).enter(asked("root", token)).username == ""
    assert (seen[1].username, seen[1].token_state) == ("", TokenState.VALID_EMPTY_USERNAME)
