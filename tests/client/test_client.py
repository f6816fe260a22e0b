"""The life of a client, without privileges: it connects, is cancelled anywhere, and ends clean."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from dataclasses import replace
from typing import Any

import pytest
from client_lab import (
    Hooks,
    LabClient,
    config_for,
    ignore,
    refuse,
    run,
    served,
    until,
    unused,
)

from ovpn_dco.client import client as client_module
from ovpn_dco.config import (
    AuthConfig,
    ClientHooks,
    ConfigError,
    Credentials,
    Material,
)
from ovpn_dco.errors import ConnectionFailed, DcoError, InterfaceMissing, InvalidArgument
from ovpn_dco.model import InterfaceGone
from ovpn_dco.protocol.messages import Halt


def descriptors() -> dict[str, str]:
    there = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            there[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return there


def vanish(client: LabClient) -> None:
    client.receive_event(InterfaceGone(sequence=0, errno=19), 0.0)


def test_it_connects_and_says_goodbye() -> None:
    async def test() -> None:
        async with served() as server:
            client = LabClient(config_for(server.remote))
            assert client.tunnel is None
            async with client:
                assert client.connected
                assert client.tunnel is not None
                assert client.tunnel.remote is not None
                assert client.remote == ("127.0.0.1", server.port)
                assert client.stats() is not None
            assert [ended.reason.name for ended in server.ended] == ["PEER_EXIT"]
            assert client.fake.steps == ["apply", "undo", "close"]
            assert client.lab_device is not None
            assert client.lab_device.closed
            assert not client.connected
            assert client.remote is client.tunnel is client.stats() is None
            await client.wait_closed()

    run(test)


def test_nothing_is_left_of_it() -> None:
    async def test() -> None:
        async with served() as server:

            async def once() -> None:
                async with LabClient(config_for(server.remote)):
                    pass

            await once()  # threads of the executor, caches
            await asyncio.sleep(0)
            gc.collect()
            before, threads = descriptors(), threading.active_count()
            await once()
            gc.collect()
            assert descriptors() == before
            assert threading.active_count() == threads

    run(test)


def test_it_starts_once() -> None:
    async def test() -> None:
        async with served() as server, LabClient(config_for(server.remote)) as client:
            with pytest.raises(InvalidArgument, match="started before"):
                await client.start()
            await client.close()
            with pytest.raises(InvalidArgument, match="started before"):
                await client.start()

    run(test)


def test_one_that_was_closed_does_not_start() -> None:
    async def test() -> None:
        client = LabClient(config_for(unused()))
        with pytest.raises(InvalidArgument, match="not started"):
            await client.wait_closed()
        await client.close()
        with pytest.raises(InvalidArgument, match="started before"):
            await client.start()

    run(test)


def test_closing_while_it_starts() -> None:
    async def test() -> None:
        client = LabClient(config_for(unused()))
        starting = asyncio.ensure_future(client.start())
        await until(lambda: client.remote)
        await client.close()
        with pytest.raises(ConnectionFailed, match="was closed"):
            await starting
        assert client.lab_device is not None
        assert client.lab_device.closed

    run(test)


@pytest.mark.parametrize("answers", [True, False])
def test_cancelling_the_start(answers: bool) -> None:
    async def test() -> None:
        async with served(ignore) as server:
            client = LabClient(config_for(server.remote if answers else unused()))
            starting = asyncio.ensure_future(client.start())
            await until(lambda: server.logins if answers else client.remote)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            assert client.lab_device is not None
            assert client.lab_device.closed

    run(test)


def test_cancelling_the_end_does_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loses patience with `close` must not leave an interface behind."""
    monkeypatch.setattr(client_module, "FAREWELL_S", 0.2)

    async def test() -> None:
        async with served() as server:
            client = LabClient(config_for(server.remote))
            await client.start()
            server.deaf = True  # so that the goodbye takes a while
            closing = asyncio.ensure_future(client.close())
            await until(lambda: not client.connected)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert client.lab_device is not None
            await until(lambda: client.lab_device.closed)
            await client.close()
            assert client.fake.steps == ["apply", "undo", "close"]

    run(test)


def test_two_that_close_at_once() -> None:
    async def test() -> None:
        async with served() as server:
            client = LabClient(config_for(server.remote))
            await client.start()
            await asyncio.gather(client.close(), client.close())
            assert client.fake.steps == ["apply", "undo", "close"]

    run(test)


def test_waiting_lasts_until_all_is_removed() -> None:
    async def test() -> None:
        async with served() as server:
            client = LabClient(config_for(server.remote))
            await client.start()
            waiting = asyncio.ensure_future(client.wait_closed())
            closing = asyncio.ensure_future(client.close())
            await waiting
            assert client.lab_device is not None
            assert client.lab_device.closed
            await closing

    run(test)


def test_cancelling_who_waits_does_not_end_it() -> None:
    async def test() -> None:
        async with served() as server, LabClient(config_for(server.remote)) as client:
            waiting = asyncio.ensure_future(client.wait_closed())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert client.connected

    run(test)


def test_who_waits_learns_what_ended_it() -> None:
    async def test() -> None:
        async with served() as server, LabClient(config_for(server.remote)) as client:
            server.do(lambda session, now: session.dismiss(now, Halt("maintenance")))
            with pytest.raises(ConnectionFailed, match="maintenance"):
                await client.wait_closed()
            assert client.tunnel is None

    run(test)


def test_nobody_has_to_learn_it(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with served() as server, LabClient(config_for(server.remote)) as client:
            server.do(lambda session, now: session.dismiss(now, Halt()))
            await until(lambda: client.tunnel is None)

    run(test)
    gc.collect()
    assert "never retrieved" not in caplog.text


# The interface


def test_an_interface_that_vanishes_ends_it() -> None:
    async def test() -> None:
        async with served() as server, LabClient(config_for(server.remote)) as client:
            vanish(client)
            with pytest.raises(InterfaceMissing):
                await client.wait_closed()

    run(test)


def test_an_interface_that_vanishes_between_attempts_ends_it() -> None:
    async def test() -> None:
        config = config_for(unused(), transport={"connect_timeout_s": 0.01})
        client = LabClient(config)
        starting = asyncio.ensure_future(client.start())
        await until(lambda: client.remote)
        await until(lambda: client.remote is None)
        vanish(client)
        with pytest.raises(InterfaceMissing):
            await starting

    run(test)


# The tunnel and its hooks


def test_hooks_are_told_of_the_tunnel() -> None:
    async def test() -> None:
        told: list[tuple[str, Any]] = []

        async def route_up(info: Any) -> None:
            told.append(("route_up", info))

        hooks = ClientHooks(
            up=lambda info: told.append(("up", info)),
            route_up=route_up,
            down=lambda info: told.append(("down", info)),
        )
        async with served() as server:
            async with LabClient(config_for(server.remote, hooks=hooks)) as client:
                info = client.tunnel
            assert told == [("up", info), ("route_up", info), ("down", info)]

    run(test)


def test_a_hook_that_fails_is_no_reason_to_end(caplog: pytest.LogCaptureFixture) -> None:
    def fail(info: Any) -> None:
        raise RuntimeError("no such thing")

    async def test() -> None:
        hooks = ClientHooks(up=fail, down=fail)
        async with served() as server, LabClient(config_for(server.remote, hooks=hooks)) as client:
            assert client.connected

    run(test)
    assert caplog.text.count("no such thing") == 2


def test_the_tunnel_is_taken_down_only_when_it_is_made() -> None:
    """A cancelled attempt leaves its thread in the middle of the system's routes."""

    async def test() -> None:
        async with served() as server:
            hooks = Hooks()
            client = LabClient(config_for(server.remote, hooks=hooks.config))
            begun, go_on = threading.Event(), threading.Event()

            def slow() -> None:
                begun.set()
                go_on.wait(10)

            client.fake.on_apply = slow
            starting = asyncio.ensure_future(client.start())
            await until(begun.is_set)
            starting.cancel()
            await asyncio.sleep(0.05)
            assert client.fake.steps == ["apply"]
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await starting
            assert client.fake.steps == ["apply", "undo", "close"]
            assert hooks.told == [], "nobody is told of the end of what nobody was told of"

    run(test)


def test_the_end_waits_for_a_hook() -> None:
    async def test() -> None:
        begun, go_on = threading.Event(), threading.Event()
        hooks = Hooks(up=lambda info: (begun.set(), go_on.wait(10), hooks.told.append("up")))
        async with served() as server:
            client = LabClient(config_for(server.remote, hooks=hooks.config))
            starting = asyncio.ensure_future(client.start())
            await until(begun.is_set)
            starting.cancel()
            await asyncio.sleep(0.05)
            assert hooks.told == []
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await starting
            assert hooks.told == ["up", "down"]

    run(test)


def test_a_tunnel_that_cannot_be_made_ends_it() -> None:
    async def test() -> None:
        async with served() as server:
            client = LabClient(config_for(server.remote))

            def fail() -> None:
                raise DcoError(1, "tun refuses")

            client.fake.on_apply = fail
            with pytest.raises(DcoError, match="tun refuses"):
                await client.start()
            assert len(server.logins) == 1
            assert client.lab_device is not None
            assert client.lab_device.closed

    run(test)


def test_a_tunnel_that_cannot_be_undone_is_no_reason_to_keep_the_device() -> None:
    async def test() -> None:
        async with served() as server:
            client = LabClient(config_for(server.remote))

            def fail() -> None:
                raise DcoError(1, "tun keeps a route")

            async with client:
                client.fake.on_undo = fail
            assert client.lab_device is not None
            assert client.lab_device.closed

    run(test)


def test_a_mistake_in_the_tunnel_is_not_waited_for() -> None:
    """What is no DcoError must not end the task that would have told of it, and nothing else."""

    async def test() -> None:
        async with served() as server:
            client = LabClient(config_for(server.remote))

            def fail() -> None:
                raise ZeroDivisionError

            client.fake.on_apply = fail
            with pytest.raises(ZeroDivisionError):
                await client.start()

    run(test)


# What no attempt can mend


def test_a_key_that_cannot_be_read_is_found_at_the_start() -> None:
    async def test() -> None:
        config = config_for(unused())
        broken = replace(config, wrap=replace(config.wrap, tls_crypt=Material(b"no key")))
        with pytest.raises(ConfigError, match="tls-crypt"):
            await LabClient(broken).start()

    run(test)


def test_a_login_that_cannot_be_sent_is_not_tried_for_ever() -> None:
    async def test() -> None:
        auth = AuthConfig(user_pass=True, credentials=Credentials("alice", "x" * 200))
        config = config_for(unused(), auth=auth)
        with pytest.raises(InvalidArgument):
            await LabClient(config).start()

    run(test)


def test_a_login_that_nobody_knows_is_refused_at_once() -> None:
    config = config_for(unused(), lines="auth-user-pass")
    with pytest.raises(InvalidArgument, match="user name is not known"):
        LabClient(config)


def test_giving_up_says_so() -> None:
    async def test() -> None:
        rounds = {"connect_timeout_s": 0.01, "connect_retry_rounds": 2}
        client = LabClient(config_for(unused(), transport=rounds))
        with pytest.raises(ConnectionFailed, match=r"no server.*: the hand-window was over"):
            await client.start()
        assert client.lab_device is not None
        assert client.lab_device.closed

    run(test)


def test_refusals_leave_nothing_either() -> None:
    async def test() -> None:
        async with served(refuse()) as server:
            client = LabClient(config_for(server.remote))
            with pytest.raises(DcoError, match="login refused"):
                await client.start()
            assert client.lab_device is not None
            assert client.lab_device.closed
            assert client.fake.steps == ["close"]

    run(test)
