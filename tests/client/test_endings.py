"""What a client does about what a server says: refusals, questions, restarts, limits."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest
from client_lab import (
    Decide,
    LabClient,
    ScriptedServer,
    config_for,
    ignore,
    let_in,
    refuse,
    run,
    served,
    until,
    unused,
)

from ovpn_dco.client import dialogue
from ovpn_dco.config import AuthConfig, Credentials, KeepaliveConfig
from ovpn_dco.errors import ConnectionFailed, LoginRefused
from ovpn_dco.model import AuthRetry, DeleteReason, PeerDeleted
from ovpn_dco.protocol.challenge import CrText, DynamicChallenge, OpenUrl
from ovpn_dco.protocol.messages import (
    Advance,
    AuthFailed,
    AuthFailedTemporarily,
    CrResponse,
    Halt,
    Info,
    Restart,
    SessionExpired,
    challenge_message,
)

TOKEN = "SESS_ID_AT_" + "x" * 20


def auth(**changes: Any) -> AuthConfig:
    credentials = Credentials("alice", "secret")
    return AuthConfig(**{"user_pass": True, "credentials": credentials, **changes})


def sent(server: ScriptedServer) -> list[tuple[str, str]]:
    return [(login.username, login.password) for login in server.logins]


# Refusals


def test_a_refusal_is_told_to_the_user() -> None:
    async def test() -> None:
        async with served(refuse(AuthFailed("no such user"))) as server:
            with pytest.raises(LoginRefused) as caught:
                await LabClient(config_for(server.remote, auth=auth())).start()
            assert caught.value.reason == "no such user"
            assert sent(server) == [("alice", "secret")]

    run(test)


@pytest.mark.parametrize(
    ("retry", "delays"), [(AuthRetry.NOINTERACT, [10.0]), (AuthRetry.INTERACT, [])]
)
def test_auth_retry(retry: AuthRetry, delays: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the client asks the user; what it can try again itself it does after a while."""

    async def test() -> None:
        slept = hurried(monkeypatch)
        async with served(refuse(), let_in()) as server:
            client = LabClient(config_for(server.remote, auth=auth(retry=retry)))
            if delays:
                async with client:
                    assert sent(server) == [("alice", "secret")] * 2
            else:
                with pytest.raises(LoginRefused):
                    await client.start()
            assert [time for time in slept if time > 1] == delays

    run(test)


def hurried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody sleeps for more than a moment; how long they meant to."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def sleep_less(delay_s: float) -> None:
        slept.append(delay_s)
        await sleep(min(delay_s, 0.01))

    monkeypatch.setattr(asyncio, "sleep", sleep_less)
    return slept


@pytest.mark.parametrize(
    ("advance", "second"),
    [
        (None, "one"),
        (Advance.NO, "one"),
        (Advance.ADDRESS, "two"),
        (Advance.REMOTE, "two"),
    ],
)
def test_a_refusal_for_now_says_where_and_when(
    advance: Advance | None, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        slept = hurried(monkeypatch)
        later = AuthFailedTemporarily("busy", backoff_s=42, advance=advance)
        async with served(refuse(later), let_in()) as one, served() as two:
            async with LabClient(config_for(one.remote, two.remote, auth=auth())):
                assert slept.count(42) == 1
                assert len(one.logins) == (2 if second == "one" else 1)
                assert len(two.logins) == (1 if second == "two" else 0)

    run(test)


# Tokens


def test_a_token_is_used_for_the_next_connection() -> None:
    async def test() -> None:
        pushed = let_in(f"auth-token {TOKEN}")
        async with served(pushed) as server:
            async with LabClient(config_for(server.remote, auth=auth())) as client:
                server.do(lambda session, now: session.dismiss(now, Restart()))
                await until(lambda: len(server.logins) == 2 and client.connected)
            assert sent(server) == [("alice", "secret"), ("alice", TOKEN)]

    run(test)


@pytest.mark.parametrize("refusal", [AuthFailed("no"), SessionExpired("SESSION: expired")])
def test_a_token_that_is_refused_gives_way_to_the_password(refusal: AuthFailed) -> None:
    async def test() -> None:
        pushed = let_in(f"auth-token {TOKEN}")
        async with served(pushed, refuse(refusal), let_in()) as server:
            async with LabClient(config_for(server.remote, auth=auth())) as client:
                server.do(lambda session, now: session.dismiss(now, Restart()))
                await until(lambda: len(server.logins) == 3 and client.connected)
            assert [password for _, password in sent(server)] == ["secret", TOKEN, "secret"]

    run(test)


def test_without_a_password_a_refused_token_is_the_end() -> None:
    async def test() -> None:
        async with served(refuse(AuthFailed("too old"))) as server:
            known = auth(user_pass=False, credentials=None, token=TOKEN, token_user="alice")
            with pytest.raises(LoginRefused, match="too old"):
                await LabClient(config_for(server.remote, auth=known)).start()
            assert sent(server) == [("alice", TOKEN)]

    run(test)


# Questions

CHALLENGE = DynamicChallenge("Om01u7Fh4LrG", "alice", "Token?", response_required=True)


class User:
    """Answers, and remembers what was asked."""

    def __init__(self, reply: str = "8675309") -> None:
        self.reply = reply
        self.asked: list[Any] = []

    def plain(self, question: Any) -> str:
        self.asked.append(question)
        return self.reply

    async def waited_for(self, question: Any) -> str:
        await asyncio.sleep(0)
        return self.plain(question)


@pytest.mark.parametrize("kind", ["plain", "waited_for"])
def test_a_challenge_is_answered_in_the_next_attempt(kind: str) -> None:
    async def test() -> None:
        user = User()
        async with served(refuse(challenge_message(CHALLENGE)), let_in()) as server:
            config = config_for(server.remote, auth=auth())
            async with LabClient(config, answer=getattr(user, kind)):
                assert user.asked == [CHALLENGE]
                assert sent(server)[1] == ("alice", "CRV1::Om01u7Fh4LrG::8675309")

    run(test)


def test_a_challenge_that_nobody_answers_is_a_refusal() -> None:
    async def test() -> None:
        async with served(refuse(challenge_message(CHALLENGE))) as server:
            with pytest.raises(LoginRefused):
                await LabClient(config_for(server.remote, auth=auth())).start()

    run(test)


def test_a_user_who_does_not_want_to_answer_ends_it() -> None:
    class Unwilling(Exception):
        pass

    def refuse_to_answer(question: Any) -> str:
        raise Unwilling

    async def test() -> None:
        async with served(refuse(challenge_message(CHALLENGE))) as server:
            client = LabClient(config_for(server.remote, auth=auth()), answer=refuse_to_answer)
            with pytest.raises(Unwilling):
                await client.start()
            assert client.lab_device is not None
            assert client.lab_device.closed

    run(test)


def test_nobody_waits_for_a_user_who_does_not_answer() -> None:
    async def test() -> None:
        asked, go_on, answered = (threading.Event() for _ in range(3))

        def think(question: Any) -> str:
            asked.set()
            go_on.wait(10)
            answered.set()
            return ""

        async with served(refuse(challenge_message(CHALLENGE))) as server:
            client = LabClient(config_for(server.remote, auth=auth()), answer=think)
            starting = asyncio.ensure_future(client.start())
            await until(asked.is_set)
            try:
                await client.close()
                assert not answered.is_set()
                assert client.lab_device is not None
                assert client.lab_device.closed
                with pytest.raises(ConnectionFailed, match="was closed"):
                    await starting
            finally:
                go_on.set()

    run(test)


def pending(request: Any) -> Decide:
    return lambda session, asked, now: session.pend(now, 30, request)


def test_a_question_of_a_pending_login_is_answered() -> None:
    async def test() -> None:
        user = User()
        question = CrText("One more thing", response_required=True)
        async with served(pending(question)) as server:
            client = LabClient(config_for(server.remote, auth=auth()), answer=user.plain)
            starting = asyncio.ensure_future(client.start())
            await until(lambda: CrResponse("8675309") in server.heard)
            assert server.logins[0].announcement.sso_methods >= set(dialogue.SSO_METHODS)
            server.do(lambda session, now: let_in()(session, server.logins[0], now))
            await starting
            await client.close()
            assert user.asked == [question]

    run(test)


def test_a_page_to_open_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with served(pending(OpenUrl("https://vpn.example/login"))) as server:
            client = LabClient(config_for(server.remote, auth=auth()), answer=User().plain)
            starting = asyncio.ensure_future(client.start())
            await until(lambda: "https://vpn.example/login" in caplog.text)
            starting.cancel()
            await asyncio.wait({starting})

    with caplog.at_level("INFO"):
        run(test)


def test_an_answer_that_cannot_be_sent_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        user = User("x" * 2000)
        async with served(pending(CrText("?"))) as server:
            client = LabClient(config_for(server.remote, auth=auth()), answer=user.plain)
            starting = asyncio.ensure_future(client.start())
            await until(lambda: caplog.records and caplog.records[-1].levelname == "WARNING")
            assert "x" * 100 not in caplog.text
            starting.cancel()
            await asyncio.wait({starting})

    run(test)


def test_a_question_after_the_login_is_answered_too() -> None:
    async def test() -> None:
        user = User()
        async with served() as server:
            config = config_for(server.remote, auth=auth())
            async with LabClient(config, answer=user.plain):
                server.do(lambda session, now: session.send(Info("CR_TEXT:R:Again?"), now))
                await until(lambda: CrResponse("8675309") in server.heard)

    run(test)


def test_a_challenge_is_no_login_for_a_second_time() -> None:
    """The answer is good once; the next connection needs a token or asks again."""

    async def test() -> None:
        user = User()
        ask = refuse(challenge_message(CHALLENGE))
        async with served(ask, let_in(), ask, let_in()) as server:
            config = config_for(server.remote, auth=auth())
            async with LabClient(config, answer=user.plain) as client:
                server.do(lambda session, now: session.dismiss(now, Restart()))
                await until(lambda: len(server.logins) == 4 and client.connected)
            answer = ("alice", "CRV1::Om01u7Fh4LrG::8675309")
            assert sent(server) == [("alice", "secret"), answer] * 2

    run(test)


def test_a_token_of_an_answer_is_of_the_user_who_answered() -> None:
    async def test() -> None:
        ask = refuse(challenge_message(replace(CHALLENGE, username="bob")))
        async with served(ask, let_in(f"auth-token {TOKEN}")) as server:
            config = config_for(server.remote, auth=auth())
            async with LabClient(config, answer=User().plain) as client:
                server.do(lambda session, now: session.dismiss(now, Restart()))
                await until(lambda: len(server.logins) == 3 and client.connected)
            assert sent(server)[2] == ("bob", TOKEN)

    run(test)


# Restarts and ends


def test_a_halt_is_the_end() -> None:
    async def test() -> None:
        async with served() as server, LabClient(config_for(server.remote)) as client:
            server.do(lambda session, now: session.dismiss(now, Halt("go away")))
            with pytest.raises(ConnectionFailed, match="go away"):
                await client.wait_closed()

    run(test)


@pytest.mark.parametrize("next_remote", [False, True])
def test_a_restart_says_where(next_remote: bool) -> None:
    async def test() -> None:
        async with served() as one, served() as two:
            async with LabClient(config_for(one.remote, two.remote)) as client:
                message = Restart(next_remote=next_remote)
                one.do(lambda session, now: session.dismiss(now, message))
                other = two if next_remote else one
                await until(lambda: len(other.logins) == 2 - next_remote and client.connected)

    run(test)


def test_a_dead_server_is_followed_by_the_next_one() -> None:
    async def test() -> None:
        async with served() as server:
            hurry = {"connect_timeout_s": 0.05}
            async with LabClient(config_for(unused(), server.remote, transport=hurry)) as client:
                assert client.remote == ("127.0.0.1", server.port)

    run(test)


def test_a_server_that_answers_gets_its_time() -> None:
    """`connect-timeout` is about a server that says nothing: a login takes as long as it takes."""

    async def test() -> None:
        async with served(ignore) as server:
            client = LabClient(config_for(server.remote, transport={"connect_timeout_s": 0.05}))
            starting = asyncio.ensure_future(client.start())
            await until(lambda: server.logins)
            await asyncio.sleep(0.1)
            server.do(lambda session, now: let_in()(session, server.logins[0], now))
            await starting
            assert len(server.logins) == 1
            await client.close()

    run(test)


@pytest.mark.parametrize(
    ("pushed", "own", "ends"),
    [
        (["ping-exit 60"], {}, True),
        (["ping-restart 60"], {"exit_s": 60}, False),
        ([], {"exit_s": 60}, True),
        ([], {"restart_s": 60}, False),
    ],
)
def test_silence_of_the_server(pushed: list[str], own: dict[str, int], ends: bool) -> None:
    async def test() -> None:
        async with served(let_in(*pushed)) as server:
            config = config_for(server.remote, keepalive=KeepaliveConfig(**own))
            async with LabClient(config) as client:
                peer = client.device.peers[7]
                gone = PeerDeleted(
                    sequence=0,
                    peer_id=7,
                    generation=peer.generation,
                    reason=DeleteReason.EXPIRED,
                    stats=peer.stats(),
                )
                client.receive_event(gone, 0.0)
                if ends:
                    with pytest.raises(ConnectionFailed, match="ping-exit"):
                        await client.wait_closed()
                else:
                    await until(lambda: len(server.logins) == 2 and client.connected)

    run(test)


@pytest.mark.parametrize(("pushed", "own"), [(["session-timeout 1"], {}), ([], {"inactive_s": 1})])
def test_a_limit_ends_it_in_peace(pushed: list[str], own: dict[str, int]) -> None:
    async def test() -> None:
        async with served(let_in(*pushed)) as server:
            config = config_for(server.remote, keepalive=KeepaliveConfig(**own))
            async with LabClient(config) as client:
                await client.wait_closed()
                await until(lambda: server.ended)
            assert [ended.reason.name for ended in server.ended] == ["PEER_EXIT"]

    run(test)


def test_options_that_cannot_be_used_are_followed_by_the_next_server() -> None:
    async def test() -> None:
        wrong = let_in("ifconfig 10.8.0.2 nonsense")
        async with served(wrong) as one, served() as two:
            async with LabClient(config_for(one.remote, two.remote)) as client:
                assert client.remote == ("127.0.0.1", two.port)

    run(test)


def test_secrets_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with served(let_in(f"auth-token {TOKEN}"), refuse()) as server:
            async with LabClient(config_for(server.remote, auth=auth())) as client:
                server.do(lambda session, now: session.dismiss(now, Restart()))
                with pytest.raises(LoginRefused):
                    await client.wait_closed()

    with caplog.at_level("DEBUG"):
        run(test)
    assert "connecting to" in caplog.text
    assert TOKEN not in caplog.text
    assert "secret" not in caplog.text
