"""Who may come in: certificates, passwords and the hook that knows them, and renegotiations."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from login_lab import REMOTE, START, Session, asked, certificate, right_password, server

from ovpn_dco.config import ClientCert, ManagementConfig, ServerConfig
from ovpn_dco.errors import InvalidArgument, LoginRefused
from ovpn_dco.protocol.authtoken import TokenState
from ovpn_dco.protocol.challenge import DynamicAnswer, DynamicChallenge, StaticAnswer
from ovpn_dco.protocol.messages import AuthFailed, ChallengeIssued, encode
from ovpn_dco.server.authentication import LoginRequest
from ovpn_dco.server.hooks import LoginDenied


def denied(config: ServerConfig, question: Any) -> LoginDenied:
    with pytest.raises(LoginDenied) as caught:
        Session(config).enter(question)
    encode(caught.value.message)
    return caught.value


def names(config: ServerConfig, question: Any) -> tuple[str, str]:
    identity = Session(config).enter(question)
    return identity.common_name, identity.username


# Certificates and names


def test_certificate_alone_names_the_client_and_no_claim_counts() -> None:
    config = server(client_cert=ClientCert.REQUIRE)
    assert names(config, asked("root", peer=certificate("bob"))) == ("bob", "")


def test_required_certificate_is_required() -> None:
    config = server(right_password, client_cert=ClientCert.REQUIRE)
    assert "no certificate" in str(denied(config, asked()))
    assert names(config, asked(peer=certificate())) == ("client-1", "alice")


@pytest.mark.parametrize("client_cert", [ClientCert.OPTIONAL, ClientCert.NONE])
def test_nobody_comes_in_without_certificate_and_password(client_cert: ClientCert) -> None:
    assert "neither" in str(denied(server(client_cert=client_cert), asked()))
    assert names(server(right_password, client_cert=client_cert), asked()) == ("UNDEF", "alice")


def test_optional_certificate_gives_the_name_where_there_is_one() -> None:
    config = server(right_password, client_cert=ClientCert.OPTIONAL)
    assert names(config, asked(peer=certificate("bob"))) == ("bob", "alice")


def test_username_as_common_name() -> None:
    config = server(right_password, username_as_common_name=True)
    assert names(config, asked(peer=certificate("bob"))) == ("alice", "alice")
    assert names(config, asked("é" * 32)) == ("é" * 32, "é" * 32)
    assert "64 bytes" in str(denied(config, asked("é" * 32 + "x")))


def test_name_that_nobody_checks_is_no_common_name() -> None:
    config = server(client_cert=ClientCert.REQUIRE, username_as_common_name=True)
    assert names(config, asked("root", peer=certificate("bob"))) == ("bob", "")


@pytest.mark.parametrize("answer", [True, False, None, 1])
def test_hook_about_the_certificate(answer: object) -> None:
    seen: list[object] = []
    config = server(
        right_password, verify_hook=lambda peer: [seen.append(peer), answer][1]
    )  # fmt: skip
    question = asked(peer=certificate())
    if answer is True:
        Session(config).enter(question)
    else:
        assert "VerifyConfig.hook" in str(denied(config, question))
    assert seen == [certificate()]


def test_hook_about_the_certificate_comes_before_the_password() -> None:
    def never(_: object) -> bool:
        raise AssertionError("was asked")

    denied(server(never, verify_hook=lambda _: False), asked(peer=certificate()))


def test_management_without_a_hook_lets_nobody_in() -> None:
    config = ServerConfig(management=ManagementConfig(host="x", client_auth=True))
    assert "nobody is there" in str(denied(config, asked(peer=certificate())))


# Form of a login


def test_credentials_that_are_too_long() -> None:
    config = server(lambda _: True, user_pass_optional=True)
    assert "too long" in str(denied(config, asked("", "", too_long=True)))


@pytest.mark.parametrize(("username", "password"), [("", "x"), ("x", ""), ("", "")])
def test_missing_credentials(username: str, password: str) -> None:
    assert "missing" in str(denied(server(lambda _: True), asked(username, password)))
    optional = server(lambda _: True, user_pass_optional=True)
    assert names(optional, asked(username, password)) == ("UNDEF", username)


# The hook


def test_what_the_hook_is_told() -> None:
    seen: list[LoginRequest] = []
    config = server(lambda request: bool(seen.append(request)) or True)
    session = Session(config)
    session.enter(asked(peer=certificate("bob", serial=9)))
    session.enter(asked(peer=certificate("bob", serial=9), key_id=1))
    first, second = seen
    assert (first.username, first.password, first.common_name) == ("alice", "right", "bob")
    assert first.certificate == certificate("bob", serial=9)
    assert (first.remote, first.token_state) == (REMOTE, TokenState.NO_TOKEN)
    assert dict(first.environment) == {"IV_VER": "2.6.14", "UV_OS": "x"}
    assert (first.renegotiation, second.renegotiation) == (False, True)
    assert (first.response, first.answer) == (None, None)


def in_thread(request: LoginRequest) -> bool:
    return threading.current_thread() is not threading.main_thread()


async def in_loop(request: LoginRequest) -> bool:
    await asyncio.sleep(0)
    return threading.current_thread() is threading.main_thread()


class Callables:
    async def __call__(self, request: LoginRequest) -> bool:
        return await in_loop(request)

    async def method(self, request: LoginRequest) -> bool:
        return await in_loop(request)


@pytest.mark.parametrize(
    "hook",
    [
        in_thread,
        in_loop,
        Callables(),
        Callables().method,
        functools.partial(in_loop),
        lambda request: in_loop(request),
    ],
)
def test_kinds_of_hooks(hook: Callable[..., object]) -> None:
    assert names(server(hook), asked()) == ("UNDEF", "alice")


def test_plain_hook_does_not_hold_up_the_loop() -> None:
    release = threading.Event()

    async def both() -> None:
        login = asyncio.ensure_future(Session(server(lambda _: release.wait(60))).ask(asked()))
        await asyncio.sleep(0)
        release.set()  # by the loop, while the hook waits for it
        assert await login is not None

    asyncio.run(both())


def returning(value: object) -> Callable[[object], object]:
    return lambda _: value


def raising(error: Exception) -> Callable[[object], object]:
    def hook(_: object) -> object:
        raise error

    return hook


@pytest.mark.parametrize(
    ("hook", "message", "why"),
    [
        (returning(False), AuthFailed(), "user_pass_hook refused"),
        (returning(None), AuthFailed(), "returned NoneType"),
        (returning(1), AuthFailed(), "returned int"),
        (returning("yes"), AuthFailed(), "returned str"),
        (returning(LoginRefused("locked")), AuthFailed("locked"), "refused: locked"),
        (raising(LoginRefused("locked")), AuthFailed("locked"), "refused: locked"),
        (raising(LoginRefused()), AuthFailed(), "refused"),
        (raising(LoginRefused("a\nb")), AuthFailed(), r"refused: a\nb"),
        (raising(LoginRefused("TEMP")), AuthFailed(), "refused: TEMP"),
        (raising(LoginRefused("x" * 2000)), AuthFailed(), "refused: xxx"),
        (raising(KeyError("x")), AuthFailed(), "failed: KeyError at"),
        (raising(asyncio.CancelledError()), AuthFailed(), "failed: CancelledError"),  # type: ignore[arg-type]
    ],
)
def test_refusals_of_the_hook(hook: Callable[..., object], message: AuthFailed, why: str) -> None:
    error = denied(server(hook), asked())
    assert error.message == message
    assert why in str(error)

    async def same(request: object) -> object:
        return hook(request)

    assert denied(server(same), asked()).message == message


def test_hook_that_asks_a_question() -> None:
    challenge = DynamicChallenge("state", "alice", "PIN?", response_required=True)
    error = denied(server(returning(challenge)), asked())
    assert isinstance(error.message, ChallengeIssued)
    assert error.message.challenge == challenge
    bad = denied(server(returning(DynamicChallenge("a:b", "alice", "PIN?"))), asked())
    assert bad.message == AuthFailed()
    assert "cannot be sent" in str(bad)


def test_answers_to_challenges_are_taken_apart() -> None:
    seen: list[LoginRequest] = []
    config = server(lambda request: bool(seen.append(request)) or True)
    static = StaticAnswer("right", "123456").as_password()
    Session(config).enter(asked(password=static))
    Session(config).enter(asked(password=DynamicAnswer("state", "123456").as_password()))
    assert (seen[0].password, seen[0].response) == ("right", "123456")
    assert seen[1].answer == DynamicAnswer("state", "123456")
    assert seen[1].password == "CRV1::state::123456"


@pytest.mark.parametrize("password", ["SCRV1:x", "SCRV1:?:?", "CRV1::", "CRV1::a b::x"])
def test_malformed_answers_are_refused(password: str) -> None:
    assert "malformed" in str(denied(server(lambda _: True), asked(password=password)))


def test_failures_are_logged_without_the_password(caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: LoginRequest) -> bool:
        raise ValueError(f"bad password {request.password!r} in {request}")

    with caplog.at_level(logging.DEBUG):
        error = denied(server(fail), asked(password="s3cret"))
    assert "ValueError" in caplog.text
    assert "test_authentication.py:" in caplog.text
    assert "s3cret" not in caplog.text + repr(error) + str(error)


# Time


async def for_ever(_: LoginRequest) -> bool:
    await asyncio.Event().wait()
    return True


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_hook_that_takes_too_long_refuses(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()
    hook = for_ever if kind == "async" else lambda _: release.wait(60)

    async def attempt() -> None:
        try:
            with pytest.raises(LoginDenied, match="took too long"):
                await Session(server(hook, hand_window_s=0.01)).ask(asked())
        finally:
            release.set()

    asyncio.run(attempt())
    assert "user_pass_hook took too long" in caplog.text


def test_exception_after_the_end_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn(request: LoginRequest) -> bool:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError(request.password) from None
        return True

    async def attempt() -> None:
        with pytest.raises(LoginDenied):
            await Session(server(stubborn, hand_window_s=0.01)).ask(asked(password="s3cret"))
        await asyncio.sleep(0)  # the hook ends here
        gc.collect()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(attempt())
    assert "s3cret" not in caplog.text


def test_cancelled_login_cancels_the_hook() -> None:
    ended = []

    async def hook(request: LoginRequest) -> bool:
        try:
            return await for_ever(request)
        finally:
            ended.append(True)

    async def cancel() -> None:
        login = asyncio.ensure_future(Session(server(hook)).ask(asked()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        login.cancel()
        with pytest.raises(asyncio.CancelledError):
            await login
        await asyncio.sleep(0)

    asyncio.run(cancel())
    assert ended == [True]


def pend_in_thread(request: LoginRequest) -> bool:
    request.pend(300)
    return True


async def pend_in_loop(request: LoginRequest) -> bool:
    request.pend(300)
    await asyncio.sleep(0.05)
    return True


@pytest.mark.parametrize("hook", [pend_in_loop, pend_in_thread])
def test_pending_login_tells_the_client_and_has_more_time(hook: Callable[..., object]) -> None:
    session = Session(server(hook, hand_window_s=0.04 if hook is pend_in_loop else 60))
    session.enter(asked())
    assert session.pended == [300]


def test_pending_is_limited_to_what_clients_wait() -> None:
    def hook(request: LoginRequest) -> bool:
        request.pend(10**6)
        return True

    session = Session(server(hook))
    session.enter(asked())
    assert session.pended == [1800]


@pytest.mark.parametrize("timeout_s", [0, -1])
def test_pending_for_no_time_is_a_mistake(timeout_s: int) -> None:
    def hook(request: LoginRequest) -> bool:
        with pytest.raises(InvalidArgument):
            request.pend(timeout_s)
        return True

    session = Session(server(hook))
    session.enter(asked())
    assert session.pended == []


def test_slow_hooks_hold_up_nobody_else() -> None:
    """There are more of them than a loop has threads, which it needs for files and names."""
    verdict = threading.Event()

    def hook(_: LoginRequest) -> bool:
        return verdict.wait(20)

    async def body() -> None:
        logins = [asyncio.ensure_future(Session(server(hook)).ask(asked())) for _ in range(40)]
        try:
            await asyncio.sleep(0)
            await asyncio.wait_for(asyncio.to_thread(int), 10)
            assert not any(login.done() for login in logins)
        finally:
            verdict.set()
        assert all(await asyncio.gather(*logins))

    asyncio.run(body())


def test_pending_after_the_verdict_reaches_nobody() -> None:
    kept: list[LoginRequest] = []
    session = Session(server(lambda request: bool(kept.append(request)) or True))

    async def late() -> None:
        await session.ask(asked())
        kept[0].pend(5)
        await asyncio.sleep(0)

    asyncio.run(late())
    kept[0].pend(5)  # and no error once the loop is gone
    assert session.pended == []


# Renegotiation


def test_the_same_client_may_renegotiate() -> None:
    session = Session(server(right_password))
    assert session.enter(asked()) == session.enter(asked(key_id=1))


@pytest.mark.parametrize(
    ("question", "why"),
    [
        (asked("bob", key_id=1, peer=certificate()), "another user name"),
        (asked("", key_id=1, peer=certificate()), "another user name"),
        (asked("alice", key_id=1, peer=certificate("client-2")), "another common name"),
        (asked("alice", key_id=1), "another common name"),
    ],
)
def test_another_client_is_refused_before_anybody_is_asked(question: Any, why: str) -> None:
    seen: list[LoginRequest] = []
    config = server(
        lambda request: bool(seen.append(request)) or True,
        client_cert=ClientCert.OPTIONAL,
        user_pass_optional=True,
    )
    session = Session(config)
    session.enter(asked(peer=certificate()))
    with pytest.raises(LoginDenied, match=why):
        session.enter(question)
    assert len(seen) == 1


def test_refused_renegotiation_does_not_change_who_it_is() -> None:
    session = Session(server(right_password))
    identity = session.enter(asked())
    with pytest.raises(LoginDenied):
        session.enter(asked(password="wrong", key_id=1))
    assert session.login.identity == identity


def test_renamed_client_renegotiates_under_either_name() -> None:
    session = Session(server(lambda _: True, username_as_common_name=True))
    session.enter(asked())
    renamed = session.login.rename("bob", now=START)
    assert (renamed.common_name, renamed.username) == ("bob", "bob")
    for claimed in ("alice", "bob"):
        assert session.enter(asked(claimed, key_id=1)) == renamed
    with pytest.raises(LoginDenied, match="another user name"):
        session.enter(asked("carol", key_id=1))


def test_only_a_client_can_be_renamed() -> None:
    session = Session(server(right_password))
    with pytest.raises(InvalidArgument):
        session.login.rename("bob", now=START)
