"""A client without privileges: a device on a socketpair, a tunnel that only writes down what it is
told, and on loopback a server that does what the test says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Interface
from typing import Any

import profile_lab
from control_packets import stateless
from session_link import OPTIONS, settings

from ovpn_dco import Device
from ovpn_dco.client import Client, TunnelInfo
from ovpn_dco.client.tunnel import address_of
from ovpn_dco.config import ClientConfig, ClientHooks, RemoteConfig
from ovpn_dco.errors import DcoError
from ovpn_dco.model import Mode
from ovpn_dco.protocol.cookie import Answer
from ovpn_dco.protocol.messages import Message
from ovpn_dco.protocol.push import Pushed
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session_events import AuthRequired, ControlMessage, Ended, SessionEvent
from ovpn_dco.protocol.session_server import ServerSession

Decide = Callable[[ServerSession, AuthRequired, float], None]
LOOPBACK = "127.0.0.1"
PATIENCE_S = 20.0


def let_in(*options: str) -> Decide:
    def decide(session: ServerSession, asked: AuthRequired, now: float) -> None:
        session.accept(now, username=asked.username, peer_id=7, options=(*OPTIONS, *options))

    return decide


def refuse(message: Any = None) -> Decide:
    return lambda session, asked, now: session.refuse(now, message)


def ignore(session: ServerSession, asked: AuthRequired, now: float) -> None:
    """Leaves the login undecided."""


class ScriptedServer(asyncio.DatagramProtocol):
    """Server sessions on a UDP socket. The n-th login is decided by the n-th of `decisions`, those
    after the last by the last."""

    def __init__(self, *decisions: Decide, **more: Any) -> None:
        self.decisions = list(decisions or [let_in()])
        self.logins: list[AuthRequired] = []
        self.sessions: dict[Any, ServerSession] = {}
        self.last: ServerSession | None = None
        self.ended: list[Ended] = []
        self.heard: list[Message] = []
        self.deaf = False
        self._front = stateless("plain")
        self._settings = settings(Role.SERVER, **({"random_bytes": os.urandom} | more))
        self._timer: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        return int(self.transport.get_extra_info("sockname")[1])

    @property
    def remote(self) -> RemoteConfig:
        host, port = self.transport.get_extra_info("sockname")
        return RemoteConfig(host=host, port=port)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        if self.deaf:
            return
        now = time.time()
        with contextlib.suppress(DcoError):
            if address in self.sessions:
                self.sessions[address].receive(data, address, now)
            else:
                outcome = self._front.receive(data, address, now)
                if isinstance(outcome, Answer):
                    self.transport.sendto(outcome.data, address)
                else:
                    self.last = ServerSession(self._settings, outcome, address=address, now=now)
                    self.sessions[address] = self.last
        self.settle()

    def do(self, step: Callable[[ServerSession, float], object]) -> None:
        """Something with the session that came last."""
        assert self.last is not None
        step(self.last, time.time())
        self.settle()

    def settle(self) -> None:
        """Decides, answers, and comes back when something is due."""
        now, due = time.time(), []
        for address, session in self.sessions.items():
            session.handle_timeout(now)
            while (event := session.next_event()) is not None:
                self._take(session, event, now)
            for data in session.packets_to_send(now):
                if not self.deaf:
                    self.transport.sendto(data, address)
            due.append(session.next_timeout())
        if self._timer is not None:
            self._timer.cancel()
        times = [time_s for time_s in due if time_s is not None]
        if times:
            delay_s = max(0.001, min(times) - now)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.settle)

    def _take(self, session: ServerSession, event: SessionEvent, now: float) -> None:
        if isinstance(event, AuthRequired):
            number = min(len(self.logins), len(self.decisions) - 1)
            self.logins.append(event)
            self.decisions[number](session, event, now)
        elif isinstance(event, Ended):
            self.ended.append(event)
        elif isinstance(event, ControlMessage):
            self.heard.append(event.message)  # type: ignore[arg-type]

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.transport.close()


@contextlib.asynccontextmanager
async def served(
    *decisions: Decide, host: str = LOOPBACK, **more: Any
) -> AsyncIterator[ScriptedServer]:
    loop = asyncio.get_running_loop()
    _, server = await loop.create_datagram_endpoint(
        lambda: ScriptedServer(*decisions, **more), local_addr=(host, 0)
    )
    try:
        yield server
    finally:
        server.close()


def unused() -> RemoteConfig:
    """Where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        return RemoteConfig(host=LOOPBACK, port=sock.getsockname()[1])


class FakeTunnel:
    """Remembers the steps. `on_apply` runs in the middle of one, on the thread that makes it."""

    def __init__(self) -> None:
        self.info: TunnelInfo | None = None
        self.steps: list[str] = []
        self.remotes: list[Any] = []
        self.on_apply: Callable[[], None] = lambda: None
        self.on_undo: Callable[[], None] = lambda: None
        self.made_of: Any = None
        self.busy = threading.Lock()

    def apply(self, pushed: Pushed, remote: Any, *, mtu: Any = None) -> TunnelInfo:
        assert self.busy.acquire(blocking=False), "from one thread at a time"
        try:
            made_of = pushed.digest(), address_of(remote)
            if self.info is not None and made_of == self.made_of:
                return self.info
            self.info = None
            self.steps.append("apply")
            self.on_apply()
            local = pushed.tunnel_ipv4
            ipv4 = IPv4Interface(local.interface) if local else None
            self.made_of = made_of
            self.info = TunnelInfo("lab", 1500, remote=address_of(remote), ipv4=ipv4)
            return self.info
        finally:
            self.busy.release()

    def leads_to_server(self) -> bool:
        return True

    def undo(self) -> None:
        assert self.busy.acquire(blocking=False), "from one thread at a time"
        try:
            if self.info is not None:
                self.steps.append("undo")
            self.info = None
            self.on_undo()
        finally:
            self.busy.release()

    def close(self) -> None:
        self.undo()
        self.steps.append("close")


class LabClient(Client):
    """A `Client` on nothing that needs a privilege."""

    def __init__(self, config: ClientConfig, **options: Any) -> None:
        super().__init__(config, **options)
        self.fake = FakeTunnel()
        self.lab_device: Device | None = None

    def _open_device(self) -> Device:
        inside, self.app = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with inside:
            self.lab_device = Device.open("lab", mode=Mode.P2P, tun_fd=inside.fileno())
        return self.lab_device

    def _tunnel_of(self, device: Device) -> Any:
        return self.fake

    async def _tear_down(self) -> None:
        try:
            await super()._tear_down()
        finally:
            if hasattr(self, "app"):
                self.app.close()


def config_for(*remotes: RemoteConfig, lines: str = "", **changes: Any) -> ClientConfig:
    """A client of these remotes that does not pause between attempts."""
    known = profile_lab.client(*lines.splitlines())
    transport = replace(known.transport, connect_retry_s=0, **changes.pop("transport", {}))
    return replace(known, remotes=remotes, transport=transport, **changes)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Runs a test, which may leave no task behind."""

    async def checked() -> None:
        await asyncio.wait_for(test(), PATIENCE_S)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(checked())


async def until(condition: Callable[[], Any]) -> Any:
    """The first true value; `run` is what ends this if there is none."""
    while not (value := condition()):
        await asyncio.sleep(0.002)
    return value


class Hooks:
    """Writes down what it is told of the tunnel."""

    def __init__(self, **instead: Callable[..., Any]) -> None:
        self.told: list[str] = []
        self.config = ClientHooks(**{name: self.hook(name) for name in ("up", "down")} | instead)

    def hook(self, name: str) -> Callable[[Any], None]:
        return lambda info: self.told.append(name)
