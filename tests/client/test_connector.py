"""Names, and sockets that cannot be had."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from client_lab import LabClient, config_for, run, served, until, unused

from ovpn_dco.client import connector as connector_module
from ovpn_dco.config import ConnectionConfig, Protocol, RemoteConfig, TransportConfig
from ovpn_dco.errors import ConnectionFailed
from ovpn_dco.runtime.sockets import connect_tcp

ONCE = {"connect_retry_rounds": 1}


class Names:
    """In the place of the system's; `failures` look-ups fail before one succeeds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: int = 0) -> None:
        self.asked: list[str] = []
        self.failures = failures
        self.known: dict[str, str] = {}
        self._monkeypatch = monkeypatch

    def install(self) -> None:
        """On the running loop."""
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo

        async def getaddrinfo(host: Any, *arguments: Any, **more: Any) -> Any:
            if host not in self.known:
                return await real(host, *arguments, **more)
            self.asked.append(host)
            if len(self.asked) <= self.failures:
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return await real(self.known[host], *arguments, **more)

        self._monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("name", ["vpn.test", "x" * 64 + ".test", "a..b"])
def test_a_name_that_does_not_exist_is_said(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Labels that are empty or too long are refused before anybody is asked."""

    async def test() -> None:
        names = Names(monkeypatch, failures=1)
        names.known["vpn.test"] = "127.0.0.1"
        names.install()
        config = config_for(RemoteConfig(host=name), transport=ONCE)
        with pytest.raises(ConnectionFailed):
            await LabClient(config).start()

    run(test)
    assert f"{name} cannot be resolved: " in caplog.text
    assert "EHOSTUNREACH" in caplog.text


def test_the_next_remote_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        names = Names(monkeypatch, failures=100)
        names.known["vpn.test"] = "127.0.0.1"
        names.install()
        async with served() as server:
            config = config_for(RemoteConfig(host="vpn.test"), server.remote)
            async with LabClient(config) as client:
                assert names.asked == ["vpn.test"]
                assert client.remote == ("127.0.0.1", server.port)

    run(test)


@pytest.mark.parametrize(("patience_s", "looked_up"), [(None, 1), (0, 1), (60, 3)])
def test_resolv_retry_is_patience_with_one_name(
    patience_s: int | None, looked_up: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_module, "RESOLVE_EVERY_S", 0.01)

    async def test() -> None:
        names = Names(monkeypatch, failures=2)
        names.install()
        async with served() as server, served() as other:
            names.known["vpn.test"] = "127.0.0.1"
            config = config_for(
                RemoteConfig(host="vpn.test", port=server.port),
                other.remote,
                connection=ConnectionConfig(resolve_retry_s=patience_s),
            )
            async with LabClient(config) as client:
                assert len(names.asked) == looked_up
                expected = server if looked_up == 3 else other
                assert client.remote == ("127.0.0.1", expected.port)

    run(test)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector_module, "RESOLVE_EVERY_S", 0.6)

    async def test() -> None:
        names = Names(monkeypatch, failures=100)
        names.known["vpn.test"] = "127.0.0.1"
        names.install()
        config = config_for(
            RemoteConfig(host="vpn.test"),
            connection=ConnectionConfig(resolve_retry_s=1),
            transport=ONCE,
        )
        with pytest.raises(ConnectionFailed):
            await LabClient(config).start()
        assert len(names.asked) == 2

    run(test)


def test_a_tcp_server_that_refuses_is_followed_by_the_next() -> None:
    async def test() -> None:
        async with served() as server:
            dead = RemoteConfig(host="127.0.0.1", port=unused().port, protocol=Protocol.TCP)
            async with LabClient(config_for(dead, server.remote)) as client:
                assert client.remote == ("127.0.0.1", server.port)

    run(test)


def test_a_tcp_server_that_hangs_up_is_tried_again() -> None:
    """It was no connection yet, so the next remote has its turn."""

    async def test() -> None:
        calls = 0

        async def hang_up(reader: Any, writer: asyncio.StreamWriter) -> None:
            nonlocal calls
            calls += 1
            writer.close()

        listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with listener, served() as server:
            rude = RemoteConfig(host="127.0.0.1", port=port, protocol=Protocol.TCP)
            async with LabClient(config_for(rude, server.remote)) as client:
                assert client.remote == ("127.0.0.1", server.port)
                assert calls == 1

    run(test)


def test_cancelling_a_connection_closes_its_socket() -> None:
    async def test() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            remote = RemoteConfig(
                host="127.0.0.1", port=full.getsockname()[1], protocol=Protocol.TCP
            )
            with socket.socket() as one, socket.socket() as two:
                for sock in (one, two):
                    sock.setblocking(False)
                    sock.connect_ex(full.getsockname())
                client = LabClient(config_for(remote))
                starting = asyncio.ensure_future(client.start())
                await until(lambda: client.lab_device)
                await asyncio.sleep(0.05)
                starting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await starting

    run(test)


def test_a_fixed_port_can_be_used_again_at_once() -> None:
    """The kernel remembers the last connection of the port for a minute."""

    async def test() -> None:
        with socket.socket() as listener, socket.socket() as probe:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            probe.close()
            config = TransportConfig(protocol=Protocol.TCP, bind=True, local_port=port)
            for _ in range(2):
                address = listener.getsockname()
                sock = await connect_tcp(config, Protocol.TCP, address, timeout_s=5)
                there, _ = listener.accept()
                sock.close()
                assert there.recv(1) == b""
                there.close()

    run(test)
