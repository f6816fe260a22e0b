"""Hostile logins at a server: tokens, names, text and verdicts that come out of their order."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from login_lab import REMOTE, START, Session, asked, right_password, server

from ovpn_dco.config import PoolConfig, ServerConfig
from ovpn_dco.errors import LoginRefused
from ovpn_dco.protocol.authtoken import TOKEN_PREFIX
from ovpn_dco.protocol.challenge import encode_base64
from ovpn_dco.protocol.messages import SessionExpired
from ovpn_dco.protocol.text import without_controls
from ovpn_dco.server.authentication import Identity, LoginRequest
from ovpn_dco.server.hooks import LoginDenied
from ovpn_dco.server.overrides import ConnectRequest, OverrideReader

pytestmark = pytest.mark.security


def entering(session: Session, username: str, password: str) -> Identity | LoginDenied:
    try:
        return session.enter(asked(username, password))
    except LoginDenied as error:
        return error


# Tokens (CVE-2026-13122)


@pytest.mark.parametrize("length", [*range(90), 91, 92, 127, 128, 4095])
def test_token_of_any_length_is_refused_and_nothing_else(length: int) -> None:
    session = Session(server(lambda _: True, generate_token=True))
    error = entering(session, "alice", TOKEN_PREFIX + "A" * length)
    assert isinstance(error, LoginDenied)
    assert isinstance(error.message, SessionExpired)


def test_tokens_do_not_outlive_a_server_without_a_secret() -> None:
    config = server(right_password, generate_token=True)
    first = Session(config).enter(asked())
    assert first.token is not None
    assert isinstance(entering(Session(config), "alice", first.token.text), LoginDenied)


# Passwords


@pytest.mark.parametrize("response", ["", "123456"])
def test_static_answer_hides_no_empty_password(response: str) -> None:
    """A directory that binds without a password says yes to anybody."""
    session = Session(server(lambda request: request.password in ("", "right")))
    password = f"SCRV1::{encode_base64(response)}"
    assert isinstance(entering(session, "alice", password), LoginDenied)


@settings(max_examples=50)
@given(st.text(max_size=40), st.text(max_size=40))
@example("alice", "SCRV1:" + "x" * 4000)
@example("alice\n>CLIENT:ESTABLISHED,0", "CRV1::a::b")
def test_only_the_right_password_comes_in(username: str, password: str) -> None:
    username, password = without_controls(username), without_controls(password)
    result = entering(Session(server(right_password, generate_token=True)), username, password)
    assert isinstance(result, Identity) == (bool(username) and password == "right")
    assert not isinstance(result, LoginDenied) or len(str(result).splitlines()) == 1


# Text of clients and hooks in the log (CVE-2024-5594)


def test_text_of_hooks_and_names_of_clients_make_no_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(request: LoginRequest) -> bool:
        raise LoginRefused("a\r\nb\x1b[2J\u2028" + request.username)

    with caplog.at_level(logging.DEBUG):
        error = entering(Session(server(hook)), "alice", "x")
        named = connecting(tmp_path, "a\r\nb\x1b[2J\u2028")
    for text in (str(error), str(named), *(record.getMessage() for record in caplog.records)):
        assert text.isascii()
        assert text.isprintable()


# Names as paths


def connecting(folder: Path, common_name: str) -> LoginDenied | None:
    reader = OverrideReader(ServerConfig(pool=PoolConfig(client_config_dir=str(folder))))
    request = ConnectRequest(
        common_name=common_name, username="", certificate=None, remote=REMOTE, environment={}
    )
    try:
        asyncio.run(reader.read(request))
    except LoginDenied as error:
        return error
    return None


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../outside", "/etc/passwd", "a/b", "..\\outside", "a\0b", "a\nb", "\udc80",
     "x" * 256],
)  # fmt: skip
def test_name_that_is_a_path_refuses_the_client(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_text("nonsense\n")
    folder = tmp_path / "ccd"
    folder.mkdir()
    (folder / "DEFAULT").touch()
    error = connecting(folder, name)
    assert error is not None
    assert "common name" in str(error)
    assert connecting(folder, "honest") is None


# One pending verdict (CVE-2022-0547)


class Verdicts:
    """A hook that answers when it is told to, each question by its own future."""

    def __init__(self) -> None:
        self.asked: list[tuple[LoginRequest, asyncio.Future[bool]]] = []

    async def __call__(self, request: LoginRequest) -> bool:
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.asked.append((request, answer))
        return await answer


async def two_logins(*, first: bool, second: bool, in_order: bool) -> tuple[object, object]:
    """What becomes of two questions of one session that wait at the same time."""
    verdicts = Verdicts()
    session = Session(server(verdicts))
    logins = []
    for key_id in (0, 1):
        logins.append(asyncio.ensure_future(session.ask(asked(key_id=key_id))))
        while len(verdicts.asked) <= key_id:
            await asyncio.sleep(0)
    verdicts.asked[0][0].pend(5)
    await asyncio.sleep(0)
    assert session.pended == []
    answers = [(0, first), (1, second)]
    for index, answer in answers if in_order else reversed(answers):
        verdicts.asked[index][1].set_result(answer)
        await asyncio.wait({logins[index]})
    results = await asyncio.gather(*logins, return_exceptions=True)
    assert (session.login.identity is None) == (not second)
    return results[0], results[1]


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_only_the_verdict_on_the_latest_login_counts(
    first: bool, second: bool, in_order: bool
) -> None:
    early, late = asyncio.run(two_logins(first=first, second=second, in_order=in_order))
    assert early is None
    assert isinstance(late, Identity if second else LoginDenied)


def test_clients_do_not_mix_their_verdicts() -> None:
    async def both() -> list[Identity | BaseException | None]:
        verdicts = Verdicts()
        logins = []
        for name in ("alice", "mallory"):
            session = Session(server(verdicts))
            logins.append(asyncio.ensure_future(session.ask(asked(name), START)))
        while len(verdicts.asked) < 2:
            await asyncio.sleep(0)
        for request, answer in reversed(verdicts.asked):
            answer.set_result(request.username == "alice")
        return await asyncio.gather(*logins, return_exceptions=True)

    alice, mallory = asyncio.run(both())
    assert isinstance(alice, Identity)
    assert isinstance(mallory, LoginDenied)
