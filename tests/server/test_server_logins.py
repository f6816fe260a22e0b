"""Who a `Server` lets in: passwords, tokens, certificates, and what is particular to a client."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import certificate_lab as lab
import pytest
from server_lab import Caller, configuration, eventually, leaf, run, serving

from ovpn_dco.config import (
    AuthConfig,
    ClientOverrides,
    Material,
    Protocol,
    ServerConfig,
    ServerHooks,
    VerifyConfig,
)
from ovpn_dco.errors import LoginRefused
from ovpn_dco.model import Address
from ovpn_dco.protocol.authtoken import ClientLogin
from ovpn_dco.protocol.challenge import CrText
from ovpn_dco.protocol.messages import AuthPending, CrResponse, InfoPre, SessionExpired
from ovpn_dco.protocol.session_events import (
    Ended,
    EndReason,
    KeyReady,
    PushReceived,
    RenegotiationFailed,
)
from ovpn_dco.protocol.text import TextRefused
from ovpn_dco.server import DisconnectNotice, LoginRequest, ResponseNotice

RIGHT = "right"


async def right(request: LoginRequest) -> bool:
    await asyncio.sleep(0)
    return request.password == RIGHT


def asking(hook: Any, *lines: str, **auth: Any) -> ServerConfig:
    """A server that asks `hook` about passwords."""
    return configuration(*lines, auth=AuthConfig(user_pass_hook=hook, **auth))


# Passwords


def test_a_password() -> None:
    async def body() -> None:
        async with serving(config=asking(right)) as server:
            async with Caller(server, "alice", password=RIGHT):
                (client,) = server.clients
                assert (client.common_name, client.username) == ("alice", "alice")
            wrong = Caller(server, "bob", password="wrong")
            assert (await wrong.refusal()).reason == ""
            await wrong.vanish()

    run(body)


def test_the_reason_of_a_refusal_reaches_the_user() -> None:
    async def refuse(_: LoginRequest) -> bool:
        raise LoginRefused("the account is locked")

    async def body() -> None:
        async with serving(config=asking(refuse)) as server:
            caller = Caller(server, "alice", password=RIGHT)
            assert (await caller.refusal()).reason == "the account is locked"
            await caller.vanish()

    run(body)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_hook_that_raises_refuses_one_client(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    def plain(request: LoginRequest) -> bool:
        if request.username == "mallory":
            raise KeyError(request.password)
        return True

    async def in_loop(request: LoginRequest) -> bool:
        return plain(request)

    async def body() -> None:
        async with serving(config=asking(plain if kind == "plain" else in_loop)) as server:
            caller = Caller(server, "mallory", password="hunter2")
            await caller.refusal()
            await caller.vanish()
            async with Caller(server, "alice", password=RIGHT):
                pass

    run(body)
    assert "KeyError" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_hook_that_takes_too_long() -> None:
    cancelled: list[str] = []

    async def for_ever(request: LoginRequest) -> bool:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(request.username)
            raise
        return True

    async def body() -> None:
        async with serving(config=asking(for_ever, "hand-window 1")) as server:
            caller = Caller(server, "alice", password=RIGHT)
            await caller.refusal()
            await caller.vanish()
            assert cancelled == ["alice"]

    run(body)


def test_the_end_cancels_logins_that_wait() -> None:
    cancelled: list[str] = []

    async def body() -> None:
        asked = asyncio.Event()

        async def for_ever(request: LoginRequest) -> bool:
            asked.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(request.username)
                raise
            return True

        async with serving(config=asking(for_ever, "explicit-exit-notify 1")) as server:
            caller = await Caller(server, "alice", password=RIGHT).start()
            await asked.wait()
            await server.close()
            await caller.vanish()
        assert cancelled == ["alice"]

    run(body)


def test_a_client_that_leaves_before_the_verdict_is_not_let_in() -> None:
    async def body() -> None:
        asked, verdict = asyncio.Event(), asyncio.Event()

        async def hook(_: LoginRequest) -> bool:
            asked.set()
            await asyncio.shield(verdict.wait())
            return True

        async with serving(config=asking(hook)) as server:
            caller = await Caller(server, "alice", password=RIGHT).start()
            await asked.wait()
            await caller.vanish()
            (connection,) = server._connections.values()
            connection.close(EndReason.TRANSPORT_GONE)
            verdict.set()
            await eventually(lambda: not server._shared.logins)  # type: ignore[union-attr]
            assert not server.clients
            assert not server._shared.pool._leases  # type: ignore[union-attr]

    run(body)


@pytest.mark.parametrize("protocol", [Protocol.UDP4, Protocol.TCP4])
def test_a_login_that_a_person_has_to_confirm(protocol: Protocol) -> None:
    """It takes longer than the hand-window, which must not close a TCP connection either."""

    async def hook(request: LoginRequest) -> bool:
        request.pend(20)
        await asyncio.sleep(2.2)
        return True

    async def body() -> None:
        config = configuration(
            "hand-window 1", protocols=(protocol,), auth=AuthConfig(user_pass_hook=hook)
        )
        async with serving(config=config) as server:
            caller = Caller(server, "alice", "hand-window 30", password=RIGHT)
            async with caller:
                assert AuthPending(20) in caller.messages()
                assert len(server.clients) == 1

    run(body)


def test_a_question_while_the_login_waits() -> None:
    """Asked by the one hook, answered to the other, which knows who it was."""

    async def body() -> None:
        answers: dict[Address, asyncio.Future[str]] = {}

        async def hook(request: LoginRequest) -> bool:
            answers[request.remote] = asyncio.get_running_loop().create_future()
            with pytest.raises(TextRefused):
                request.pend(20, CrText("two\nlines"))
            request.pend(20, CrText("pin?", response_required=True))
            return await answers[request.remote] == "1234"

        async def answered(notice: ResponseNotice) -> None:
            answers[notice.remote].set_result(notice.response)

        config = replace(asking(hook), hooks=ServerHooks(client_response=answered))
        async with serving(config=config) as server:
            for answer in ("1234", "4321"):
                caller = await Caller(server, "alice", password=RIGHT).start()
                question = InfoPre("CR_TEXT:R:pin?")
                await eventually(lambda: question in caller.messages())  # noqa: B023
                caller.send(CrResponse(answer))
                if answer == "1234":
                    await caller.connected()
                else:
                    await caller.refusal()
                await caller.vanish()

    run(body)


def test_a_verdict_that_comes_too_late_does_not_end_the_session() -> None:
    """The renegotiation failed meanwhile; the key before it is still good."""

    async def body() -> None:
        verdict = asyncio.Event()

        async def hook(request: LoginRequest) -> bool:
            if request.renegotiation:
                request.pend(20)
                await verdict.wait()
            return True

        async with serving(config=asking(hook, "hand-window 1")) as server:
            async with Caller(server, "alice", "hand-window 30", password=RIGHT) as caller:
                (connection,) = server._connections.values()
                failed: list[object] = []
                take = connection.take

                def watch(event: Any, now: float) -> None:
                    failed.extend([event] if isinstance(event, RenegotiationFailed) else [])
                    take(event, now)

                connection.take = watch  # type: ignore[method-assign]
                caller.session.renegotiate()
                caller._wake.set()
                await eventually(lambda: connection._tasks, "the question")
                connection.session._primary.fail(LoginRefused("as if it had timed out"))
                connection.session.handle_timeout(server._clock.now())
                server._shared.table.touch(connection.session)  # type: ignore[union-attr]
                server._shared.wake()  # type: ignore[union-attr]
                await eventually(lambda: failed)
                verdict.set()
                await eventually(lambda: not connection._tasks)
                assert [one.common_name for one in server.clients] == ["alice"]
                assert not caller.said(Ended)

    run(body)


# Tokens


def test_a_token_stands_for_the_password() -> None:
    """At a renegotiation and at the next connection, so that nobody is asked again."""
    asked: list[str] = []

    async def hook(request: LoginRequest) -> bool:
        asked.append(request.password)
        return request.password == RIGHT

    async def body() -> None:
        async with serving(config=asking(hook, generate_token=True)) as server:
            async with Caller(server, "alice", password=RIGHT) as first:
                await first.renegotiate()
                await eventually(lambda: first.tokens, "a fresh token")
                login = first.session.login
            async with Caller(server, "alice", login=login) as second:
                assert second.address == first.address
        assert asked == [RIGHT]

    run(body)


def test_a_token_of_another_server_is_refused() -> None:
    async def body() -> None:
        login: ClientLogin | None = None
        async with serving(config=asking(right, generate_token=True)) as server:
            async with Caller(server, "alice", password=RIGHT) as caller:
                login = caller.session.login
        async with serving(config=asking(right, generate_token=True)) as server:
            caller = Caller(server, "alice", login=login)
            assert isinstance(await caller.refusal(), SessionExpired)
            await caller.vanish()

    run(body)


def test_names_instead_of_certificates() -> None:
    async def body() -> None:
        config = asking(right, username_as_common_name=True)
        async with serving(config=config) as server:
            async with Caller(server, "alice", password=RIGHT, mine=leaf("shared")) as first:
                async with Caller(server, "bob", password=RIGHT, mine=leaf("shared")) as second:
                    assert [one.common_name for one in server.clients] == ["alice", "bob"]
                    assert first.address != second.address

    run(body)


# Certificates


def issued(name: str, issuer: lab.Issued, **more: Any) -> lab.Issued:
    return lab.sign(lab.Leaf(lab.name_of(name), lab.CLIENT, **more), issuer)


BAD = {
    "expired": lambda: issued("late", lab.authority(), after=lab.NOW - lab.DAY / 2),
    "unknown authority": lambda: issued("stranger", lab.authority("Another CA")),
    "of a server": lambda: lab.server_leaf(),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_certificate_that_is_refused(kind: str) -> None:
    async def body() -> None:
        async with serving() as server:
            caller = await Caller(server, mine=BAD[kind]()).start()
            await eventually(lambda: server.stats().accepted and not server._connections)
            assert not caller.said(KeyReady)
            assert not server.clients
            await caller.vanish()

    run(body)


def test_a_revocation_list_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "crl.pem"

    async def body() -> None:
        path.write_bytes(lab.revocation_list(lab.authority()))
        async with serving(config=configuration(verify=crl_of(path))) as server:
            async with Caller(server, "alice"):
                pass
            path.write_bytes(lab.revocation_list(lab.authority(), leaf("alice")))
            os.utime(path, (1, 1))
            caller = await Caller(server, "alice").start()
            await eventually(
                lambda: server.stats().accepted == 2 and not server.stats().negotiating
            )
            assert not caller.said(KeyReady)
            await caller.vanish()
            async with Caller(server, "bob"):
                pass

    run(body)


def crl_of(path: Path) -> VerifyConfig:
    return VerifyConfig(crl=Material(path.read_bytes(), str(path)))


# What is particular to a client


def test_files_of_clients(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text('ifconfig-push 10.8.0.77 255.255.255.0\npush "echo hello"\n')
    (tmp_path / "mallory").write_text("disable\n")

    async def body() -> None:
        lines = (f"client-config-dir {tmp_path}", "ccd-exclusive")
        async with serving(*lines) as server:
            async with Caller(server, "alice") as alice:
                assert alice.address == "10.8.0.77"
                (pushed,) = alice.said(PushReceived)
                assert "hello" in str(pushed.options)
            for name in ("mallory", "nobody"):
                caller = Caller(server, name)
                await caller.refusal()
                await caller.vanish()

    run(body)


def test_a_hook_in_the_place_of_files() -> None:
    told: list[Any] = []

    async def connect(request: Any) -> ClientOverrides | None:
        told.append(request.common_name)
        return ClientOverrides(ipv4=IPv4Interface("10.8.0.99/24"))

    async def body() -> None:
        gone: list[DisconnectNotice] = []
        hooks = ServerHooks(client_connect=connect, client_disconnect=gone.append)
        async with serving(hooks=hooks) as server:
            async with Caller(server, "alice") as alice:
                assert alice.address == "10.8.0.99"
            server.disconnect(server.clients[0].peer_id)
            await eventually(lambda: gone)
        assert told == ["alice"]
        assert (gone[0].client.common_name, gone[0].reason) == ("alice", EndReason.LOCAL)

    run(body)
