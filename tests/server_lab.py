"""A `Server` without an interface, on the loopback, and clients that only have a control channel.

The server's inner side is one end of a socket pair, so that no privilege is needed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import certificate_lab as lab
import profile_lab
import pytest
from control_packets import KEY

import ovpn_dco as dco
from ovpn_dco.config import ClientConfig, Credentials, ListenConfig, Protocol, ServerConfig
from ovpn_dco.errors import DcoError
from ovpn_dco.model import Address
from ovpn_dco.protocol.authtoken import ClientLogin
from ovpn_dco.protocol.messages import AuthFailed, Message
from ovpn_dco.protocol.session_client import ClientSession
from ovpn_dco.protocol.session_events import (
    ControlMessage,
    Ended,
    EndReason,
    KeyReady,
    PushReceived,
    SessionEvent,
    TokenRenewed,
)
from ovpn_dco.protocol.statickey import StaticKey
from ovpn_dco.runtime.clock import SystemClock
from ovpn_dco.runtime.profile import client_login, client_profile, for_remote, session_settings
from ovpn_dco.runtime.tls_profile import ReloadingTls
from ovpn_dco.runtime.wrap_profile import client_wrapping
from ovpn_dco.server import Server

PATIENCE_S = 20.0  # for something that is certain to come; says nothing about speed
T = TypeVar("T")
E = TypeVar("E", bound=SessionEvent)


async def eventually(look: Callable[[], T], what: str = "") -> T:
    """What `look` returns as soon as it is true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while not (result := look()):
        assert loop.time() < deadline, f"never came about: {what or look}; last: {result!r}"
        await asyncio.sleep(0.002)
    return result


def run(test: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs the test, and fails if it leaves a task or a descriptor behind."""

    async def body() -> T:
        result = await test()
        # One that was cancelled ends in the next round.
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        return result

    return asyncio.run(body(), debug=False)


def open_files() -> int:
    gc.collect()  # a device keeps what it has given away until then
    return len(os.listdir("/proc/self/fd"))


# The server


class WithoutInterface:
    """In the place of `Device`: what `open` gives has a socket pair as its inner side."""

    def __init__(self) -> None:
        self.inner: list[socket.socket] = []

    def open(self, name: str, **options: Any) -> dco.Device:
        for what in ("addresses", "up", "netns"):
            options.pop(what)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.inner.append(ours)
            return dco.Device.open("lab", tun_fd=theirs.fileno(), **options)

    def close(self) -> None:
        for sock in self.inner:
            sock.close()


def configuration(
    *lines: str, protocols: tuple[Protocol, ...] = (Protocol.UDP4,), **changes: Any
) -> ServerConfig:
    """A server of `profile_lab` on free ports; `changes` are parts of the configuration."""
    config = profile_lab.server("tls-crypt ta.key", "route-noexec", *lines)
    listen = tuple(ListenConfig(host="127.0.0.1", port=0, protocol=one) for one in protocols)
    return replace(config, listen=listen, **changes)


@contextlib.asynccontextmanager
async def serving(
    *lines: str, config: ServerConfig | None = None, **changes: Any
) -> AsyncIterator[Server]:
    """A server that runs, and leaves nothing behind."""
    system = WithoutInterface()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ovpn_dco.server.server.Device", system)
        patch.setattr("ovpn_dco.protocol.session_server.LINGER_S", 0.2)
        server = Server(config or configuration(*lines, **changes))
        try:
            async with server:
                yield server
        finally:
            system.close()


def assert_idle(server: Server) -> None:
    """Nothing is held for any client."""
    shared = server._shared
    assert shared is not None
    assert not server.clients
    assert not server._connections
    assert not shared.by_name
    assert not shared.logins
    assert len(shared.table) == shared.table.negotiating == 0
    assert not shared.table._places
    assert not shared.table._timers
    assert not shared.pool._leases
    assert not shared.peer_ids._held
    assert not server.device.peers
    assert len(server.device.transports) == len(server.addresses)


# Clients


@cache
def leaf(name: str) -> lab.Issued:
    return lab.sign(lab.Leaf(lab.name_of(name), lab.CLIENT), lab.authority())


def client_configuration(*lines: str, mine: lab.Issued, key: StaticKey = KEY) -> ClientConfig:
    files = {"own.crt": mine.pem, "own.key": mine.key_pem, "ta.key": key.format().encode()}
    return profile_lab.client("tls-crypt ta.key", *lines, **files)


class Caller:
    """A client up to the data channel."""

    def __init__(
        self,
        server: Server,
        name: str = "client-1",
        *lines: str,
        number: int = 0,
        mine: lab.Issued | None = None,
        login: ClientLogin | None = None,
        password: str = "",
        port: int = 0,
        key: StaticKey = KEY,
    ) -> None:
        """`number` chooses among the addresses of the server, `port` is the own one, `key` that of
        tls-crypt."""
        self.protocol, self.remote = server.addresses[number]
        config = client_configuration(*lines, mine=mine or leaf(name), key=key)
        config = for_remote(config, config.remotes[0])
        settings = session_settings(config, random_bytes=os.urandom, tls=ReloadingTls(config))
        self.session = ClientSession(
            settings,
            login or client_login(config, Credentials(name, password) if password else None),
            client_profile(config, settings, sso_methods=("crtext",)),
            wrapping=client_wrapping(config),
            address=self.remote,
        )
        self.port = port
        self.events: list[SessionEvent] = []
        self.refused: list[str] = []
        self.hung_up = False
        self.sock: socket.socket | None = None
        self._stream = b""
        self._task: asyncio.Task[None] | None = None
        self._clock = SystemClock()
        self._wake = asyncio.Event()

    # What a test does

    async def start(self) -> Caller:
        kind = socket.SOCK_STREAM if self.protocol.is_tcp else socket.SOCK_DGRAM
        self.sock = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
        self.sock.bind(("127.0.0.1", self.port))
        await asyncio.get_running_loop().sock_connect(self.sock, self.remote)
        self.port = self.sock.getsockname()[1]
        self.session.start(self._clock.now())
        self._task = asyncio.get_running_loop().create_task(self._run(self.sock))
        return self

    async def connected(self) -> Caller:
        """Has keys."""
        if self._task is None:
            await self.start()
        await eventually(lambda: self.said(KeyReady) or self.said(Ended), "keys")
        assert not self.said(Ended), self.events
        return self

    async def ended(self) -> Ended:
        if self._task is None:
            await self.start()
        await eventually(lambda: self.said(Ended), "the end")
        (end,) = self.said(Ended)
        return end

    async def refusal(self) -> AuthFailed:
        """What it is told instead of being let in."""
        end = await self.ended()
        assert end.reason is EndReason.AUTH_FAILED, end
        assert isinstance(end.message, AuthFailed)
        return end.message

    async def renegotiate(self) -> None:
        before = len(self.said(KeyReady))
        self.session.renegotiate()
        self._wake.set()
        await eventually(lambda: len(self.said(KeyReady)) > before, "another key")

    def send(self, message: Message) -> None:
        self.session.send(message, self._clock.now())
        self._wake.set()

    async def leave(self) -> None:
        """Says goodbye, and goes."""
        self.session.leave(self._clock.now())
        self._wake.set()
        assert self._task is not None
        await asyncio.wait({self._task}, timeout=PATIENCE_S)
        await self.vanish()

    async def vanish(self) -> None:
        """Goes without a word."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self.sock is not None:
            self.sock.close()

    async def __aenter__(self) -> Caller:
        return await self.connected()

    async def __aexit__(self, *_: object) -> None:
        await self.vanish()

    # What it has heard

    def said(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def messages(self) -> list[object]:
        return [event.message for event in self.said(ControlMessage)]

    @property
    def address(self) -> str:
        """The IPv4 address that was pushed."""
        (pushed,) = self.said(PushReceived)
        tunnel = pushed.options.tunnel_ipv4
        assert tunnel is not None
        return str(tunnel.interface.ip)

    @property
    def at(self) -> Address:
        """Where it is."""
        return "127.0.0.1", self.port

    @property
    def tokens(self) -> int:
        return len(self.said(TokenRenewed))

    # Steps

    async def _run(self, sock: socket.socket) -> None:
        while True:
            now = self._clock.now()
            self.session.handle_timeout(now)
            for data in self.session.packets_to_send(now):
                await self._send(sock, data)
            while (event := self.session.next_event()) is not None:
                self.events.append(event)
            if self.session.is_finished or self.hung_up:
                return
            due_s = self.session.next_timeout()
            await self._wait(sock, None if due_s is None else max(0.0, due_s - now))

    async def _wait(self, sock: socket.socket, timeout_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        waits = [
            loop.create_task(loop.sock_recv(sock, 65536)),
            loop.create_task(self._wake.wait()),
        ]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            self._wake.clear()
            if waits[0].done():
                with contextlib.suppress(ConnectionError):
                    self._take(waits[0].result())  # type: ignore[arg-type]
        finally:
            for one in waits:
                one.cancel()
            await asyncio.wait(waits)

    def _take(self, data: bytes) -> None:
        if not self.protocol.is_tcp:
            self._receive(data)
            return
        self.hung_up = not data
        self._stream += data
        while len(self._stream) >= 2:
            size = int.from_bytes(self._stream[:2], "big")
            if len(self._stream) < 2 + size:
                break
            packet, self._stream = self._stream[2 : 2 + size], self._stream[2 + size :]
            self._receive(packet)

    def _receive(self, data: bytes) -> None:
        try:
            self.session.receive(data, self.remote, self._clock.now())
        except DcoError as error:
            self.refused.append(str(error))

    async def _send(self, sock: socket.socket, data: bytes) -> None:
        if self.protocol.is_tcp:
            data = len(data).to_bytes(2, "big") + data
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(sock, data)
