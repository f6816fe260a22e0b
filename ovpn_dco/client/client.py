"""A client: connects, keeps connected, and puts the tunnel on the system."""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path as FilePath
from typing import Any, TypeAlias

from ..config import ClientConfig, check, parse_client
from ..device import Device
from ..errors import ConnectionFailed, DcoError, InterfaceMissing, InvalidArgument
from ..model import (
    Address,
    ControlPacket,
    Event,
    Feature,
    InterfaceGone,
    Mode,
    Offload,
    PeerEvent,
    PeerStats,
    TransportFailed,
)
from ..net import Netns
from ..protocol.authtoken import ClientLogin
from ..protocol.challenge import CrText, DynamicChallenge, parse_pending_request
from ..protocol.messages import Info, InfoPre, Message
from ..protocol.session_client import ClientSession
from ..protocol.session_events import Ended, EndReason
from ..runtime.clock import Clock, SystemClock
from ..runtime.control import ControlDriver
from ..runtime.profile import client_login, client_profile, for_remote, session_settings
from ..runtime.sockets import connect_tcp, family_of, open_udp
from ..runtime.tls_profile import ReloadingTls
from ..runtime.wrap_profile import client_wrapping
from .attempt import Attempt, Established
from .limits import Limits, reach
from .remotes import RemoteSequence
from .retry import Again, Verdict, judge
from .tunnel import Tunnel, TunnelInfo

__all__ = ["Answer", "Client"]

Answer: TypeAlias = Callable[[CrText | DynamicChallenge], str | Awaitable[str]]
"""Asks the user what the server wants to know, and returns the answer."""

FAREWELL_S = 2.0
"""How long a client that leaves waits for the server to hear of it."""
DEVICE_MTU = 1500

_log = logging.getLogger("ovpn_dco.client")


class Client:
    """A client as `config` says, connected for as long as the context lasts.

        async with Client.from_file("office.ovpn") as client:
            await client.wait_closed()

    The context begins when the tunnel is there for the first time. The interface is made in
    `netns`, the sockets in the namespace of the calling thread. `backend`, `workers` and `offloads`
    are those of `Device.open`. `answer` is asked what the server wants to know of the user; without
    it such a login is refused. Hooks of the configuration are plain or async callables.

    Raises `ConfigError` for a configuration that breaks a rule."""

    def __init__(
        self,
        config: ClientConfig,
        *,
        netns: Netns = None,
        backend: str = "auto",
        workers: int | None = None,
        offloads: Offload | None = None,
        answer: Answer | None = None,
        clock: Clock | None = None,
    ) -> None:
        check(config)
        self._config = config
        self._netns = netns
        self._device_options: dict[str, Any] = {
            "netns": netns,
            "backend": backend,
            "workers": workers,
            "offloads": offloads,
        }
        self._answer = answer
        self._clock = clock or SystemClock()
        self._remotes = RemoteSequence(config)
        self._login = _first_login(config)
        self._device: Device | None = None
        self._driver: ControlDriver | None = None
        self._tunnel: Tunnel | None = None
        self._tls: ReloadingTls | None = None
        self._attempt: Attempt | None = None
        self._connected = False
        self._ready: asyncio.Future[None] | None = None
        self._running: asyncio.Task[None] | None = None

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Any) -> Client:
        """The client of a configuration file; `ConfigError` with all that is wrong in it."""
        return cls(parse_client(FilePath(path)), **options)

    # What it is

    @property
    def config(self) -> ClientConfig:
        """As given."""
        return self._config

    @property
    def device(self) -> Device:
        """The data channel; only while the client runs."""
        if self._device is None:
            raise InvalidArgument(errno.EINVAL, "the client does not run")
        return self._device

    @property
    def connected(self) -> bool:
        """Whether the tunnel is there now."""
        return self._connected

    @property
    def remote(self) -> Address | None:
        """The server that it is connected to, or tries."""
        return self._attempt.address if self._attempt else None

    @property
    def tunnel(self) -> TunnelInfo | None:
        """Addresses, routes and name servers that are in effect; None: nothing is."""
        return self._tunnel.info if self._tunnel else None

    def stats(self) -> PeerStats | None:
        """Counters of the connection; None while there is none."""
        return self._attempt.stats() if self._attempt else None

    # Lifecycle

    async def __aenter__(self) -> Client:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Returns when the tunnel is there.

        `ConnectionFailed` when the client gives up, `LoginRefused` when the server does not want
        it, other `DcoError`s for what the system refuses; nothing is left then."""
        if self._ready is not None:
            raise InvalidArgument(errno.EINVAL, "the client was started before")
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        try:
            self._open()
            self._running = loop.create_task(self._run())
            await asyncio.wait({self._running, self._ready}, return_when=asyncio.FIRST_COMPLETED)
            if self._running.done():
                await self._running
                raise ConnectionFailed(errno.ENOTCONN, "the client was closed")
        except BaseException:
            await self.close()
            raise

    async def wait_closed(self) -> None:
        """Until `close`, or until the client has given up: raises why."""
        if self._running is None:
            raise InvalidArgument(errno.EINVAL, "the client was not started")
        try:
            await asyncio.shield(self._running)
        except asyncio.CancelledError:
            if not self._running.cancelled():
                raise

    async def close(self) -> None:
        """Says goodbye, and removes everything. Idempotent."""
        if self._running is not None and not self._running.done():
            await self._say_goodbye()
            self._running.cancel()
            await asyncio.wait({self._running})
        await self._tear_down()

    def _open(self) -> None:
        config = self._config
        self._tls = ReloadingTls(config)
        self._device = Device.open(
            config.device.name or "tun%d",
            mode=Mode.P2P,
            mtu=DEVICE_MTU,
            require=config.requirements(),
            **self._device_options,
        )
        self._driver = ControlDriver(self._device, self, self._clock.now)
        self._tunnel = Tunnel(self._device.name, config, netns=self._netns)

    async def _say_goodbye(self) -> None:
        attempt = self._attempt
        if attempt is None or self._driver is None:
            return
        attempt.leave(self._clock.now())
        await self._linger(attempt)

    async def _tear_down(self) -> None:
        if self._attempt is not None:
            self._attempt.close()
            self._attempt = None
        if self._tunnel is not None:
            await self._go_down()
            await asyncio.to_thread(self._tunnel.close)
            self._tunnel = None
        if self._driver is not None:
            self._driver.close()
            self._driver = None
        if self._device is not None:
            self._device.close()
            self._device = None

    # Attempts

    async def _run(self) -> None:
        """One attempt after the other, until one ends for good."""
        while True:
            verdict = await self._try()
            if isinstance(verdict, Again):
                await self._prepare(verdict)
            elif verdict.error is not None:
                raise verdict.error
            else:
                return

    async def _try(self) -> Verdict:
        """One attempt, from the name of the server to the end of the connection."""
        try:
            attempt = await self._connect()
        except DcoError as error:
            _log.warning("%s", error)
            return Again()
        helper = asyncio.get_running_loop().create_task(self._serve(attempt))
        try:
            outcome = await attempt.ended
        finally:
            helper.cancel()
            await asyncio.wait({helper})
            self._login = attempt.login
            self._connected = False
        await self._linger(attempt)
        attempt.close()
        self._attempt = None
        _log.info("%s", _explained(outcome))
        return judge(
            outcome,
            self._config,
            self._login,
            was_connected=attempt.was_connected,
            can_ask=self._answer is not None,
            exit_when_silent=attempt.exits_when_silent,
        )

    async def _linger(self, attempt: Attempt) -> None:
        """Lets what was said last arrive."""
        end_s = self._clock.now() + FAREWELL_S
        while attempt.may_leave_politely and self._clock.now() < end_s:
            await asyncio.sleep(0.01)

    async def _prepare(self, verdict: Again) -> None:
        """What has to be done before the next attempt."""
        if verdict.login is not None:
            self._login = verdict.login
        if verdict.question is not None:
            self._login = await self._ask(verdict.question)
        if not self._config.lifecycle.persist_tun:
            await self._go_down()
        self._remotes.advance(verdict.advance)
        if self._remotes.is_exhausted:
            raise ConnectionFailed(errno.EHOSTUNREACH, "no server of the configuration can be had")
        pause_s = max(verdict.delay_s, self._remotes.pause_s)
        _log.info("connecting again in %g s", pause_s)
        await asyncio.sleep(pause_s)

    async def _connect(self) -> Attempt:
        """A session that begins, with a server that may be there."""
        if self._remotes.address is None:
            await self._resolve()
        config = for_remote(self._config, self._remotes.remote)
        address, transport = self._remotes.address, config.transport
        assert address is not None
        assert self._driver is not None
        assert self._tls is not None
        device = self.device
        await self._make_way(address)
        settings = session_settings(
            config,
            random_bytes=os.urandom,
            tls=self._tls,
            epoch=Feature.EPOCH_KEYS in device.features,
        )
        methods = ("openurl", "webauth", "crtext") if self._answer else ()
        session = ClientSession(
            settings,
            self._login,
            client_profile(config, settings, sso_methods=methods),
            wrapping=client_wrapping(config),
            address=address,
        )
        protocol = transport.protocol
        _log.info("connecting to %s port %d, %s", address[0], address[1], protocol.value)
        buffers: dict[str, Any] = {
            "send_buffer": transport.sndbuf or None,
            "receive_buffer": transport.rcvbuf or None,
        }
        if protocol.is_tcp:
            timeout_s = transport.connect_timeout_s
            with await connect_tcp(transport, protocol, address, timeout_s=timeout_s) as sock:
                attached = device.attach_tcp(sock, **buffers)
        else:
            with await open_udp(transport, protocol, address) as sock:
                attached = device.attach_udp(sock, **buffers)
        attempt = Attempt(config, device, session, attached, self._driver)
        self._attempt = attempt
        attempt.start(self._clock.now())
        return attempt

    async def _resolve(self) -> None:
        config = for_remote(self._config, self._remotes.remote)
        host, transport = self._remotes.remote.host, config.transport
        kind = socket.SOCK_STREAM if transport.protocol.is_tcp else socket.SOCK_DGRAM
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                host, transport.remote_port, family=family_of(transport.protocol), type=kind
            )
        except OSError as error:
            text = f"{host} cannot be resolved: {error.strerror or error}"
            raise DcoError(errno.EHOSTUNREACH, text) from None
        self._remotes.resolved(address for *_, address in found)  # type: ignore[misc]

    async def _make_way(self, address: Address) -> None:
        """A tunnel that stays over a restart knows the way to one server only."""
        info = self._tunnel.info if self._tunnel else None
        if info is not None and info.remote is not None and str(info.remote) != address[0]:
            await self._go_down()

    async def _serve(self, attempt: Attempt) -> None:
        """What an attempt needs besides packets: patience, the system, and answers."""
        timeout_s = for_remote(self._config, self._remotes.remote).transport.connect_timeout_s
        messages = asyncio.get_running_loop().create_task(self._converse(attempt))
        try:
            await asyncio.wait({attempt.established}, timeout=timeout_s)
            if not attempt.established.done():
                if not attempt.was_answered:
                    attempt.abandon(EndReason.NEGOTIATION_TIMEOUT)
                await attempt.established
            established = attempt.established.result()
            await self._come_up(attempt, established)
            limits = Limits.of(self._config.keepalive, established.options)
            _log.info("leaving: %s", await reach(limits, attempt.crossed_bytes))
            attempt.leave(self._clock.now())
        except DcoError as error:
            _log.error("%s", error)
            attempt.fail(error, self._clock.now())
        finally:
            messages.cancel()

    # The tunnel

    async def _come_up(self, attempt: Attempt, established: Established) -> None:
        assert self._tunnel is not None
        mtu = for_remote(self._config, self._remotes.remote).mtu
        was = self._tunnel.info
        info = await asyncio.to_thread(
            self._tunnel.apply, established.options, attempt.address, mtu=mtu
        )
        self._remotes.connected()
        self._connected = True
        addresses = " ".join(str(one.ip) for one in (info.ipv4, info.ipv6) if one is not None)
        cipher = established.agreement.cipher.value
        _log.info("connected as %s on %s, %s", addresses, info.interface, cipher)
        if info is not was:
            await self._call(self._config.hooks.up, info)
            await self._call(self._config.hooks.route_up, info)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    async def _go_down(self) -> None:
        if self._tunnel is None or self._tunnel.info is None:
            return
        info = self._tunnel.info
        await asyncio.to_thread(self._tunnel.undo)
        await self._call(self._config.hooks.down, info)

    @staticmethod
    async def _call(hook: Callable[..., Any] | None, info: TunnelInfo) -> None:
        """A hook that fails is no reason to lose the tunnel."""
        if hook is None:
            return
        try:
            if inspect.iscoroutinefunction(hook):
                await hook(info)
            else:
                result = await asyncio.to_thread(hook, info)
                if inspect.isawaitable(result):
                    await result
        except Exception as error:
            _log.error("hook %s: %r", getattr(hook, "__name__", hook), error)

    # The user

    async def _converse(self, attempt: Attempt) -> None:
        while True:
            message = await attempt.messages.get()
            try:
                await self._hear(attempt, message)
            except DcoError as error:
                _log.warning("%s", error)

    async def _hear(self, attempt: Attempt, message: Message) -> None:
        if not isinstance(message, (Info, InfoPre)):
            _log.debug("the server says %s", message)
            return
        request = parse_pending_request(message.text)
        if isinstance(request, CrText) and self._answer is not None:
            attempt.answer(await self._put(request), self._clock.now())
        else:
            _log.info("the server says: %s", message.text)

    async def _ask(self, question: DynamicChallenge) -> ClientLogin:
        response = await self._put(question)
        return ClientLogin(question.username, question.answer(response).as_password())

    async def _put(self, question: CrText | DynamicChallenge) -> str:
        assert self._answer is not None
        if inspect.iscoroutinefunction(self._answer):
            return str(await self._answer(question))
        answer = await asyncio.to_thread(self._answer, question)
        return str(await answer if inspect.isawaitable(answer) else answer)

    # ControlHandler

    def receive_packet(self, packet: ControlPacket, now: float) -> None:
        """See `ControlHandler`."""
        if self._attempt is not None:
            self._attempt.receive_packet(packet, now)

    def receive_event(self, event: Event, now: float) -> None:
        """See `ControlHandler`."""
        if isinstance(event, InterfaceGone) and self._running is not None:
            self._end_for_good(InterfaceMissing(event.errno, "the interface is gone"))
        elif self._attempt is not None:
            if isinstance(event, TransportFailed):
                self._attempt.lose(event.transport)
            elif isinstance(event, PeerEvent):
                self._attempt.receive_event(event, now)

    def handle_timeout(self, now: float) -> None:
        """See `ControlHandler`."""
        if self._attempt is not None:
            self._attempt.handle_timeout(now)

    def next_timeout(self) -> float | None:
        """See `ControlHandler`."""
        return self._attempt.next_timeout() if self._attempt else None

    def flush(self, now: float) -> None:
        """See `ControlHandler`."""
        if self._attempt is not None:
            self._attempt.flush(now)

    def _end_for_good(self, error: DcoError) -> None:
        if self._attempt is not None:
            self._attempt.fail(error, self._clock.now())


def _explained(outcome: Ended) -> str:
    return f"{outcome.reason.value}: {outcome.error}" if outcome.error else outcome.reason.value


def _first_login(config: ClientConfig) -> ClientLogin:
    """InvalidArgument (EINVAL) where a part of it would have to be asked for."""
    auth, known = config.auth, config.auth.credentials
    if auth.user_pass:
        missing = None
        if known is None:
            missing = "user name"
        elif known.password is None and not auth.username_only:
            missing = "password"
        elif auth.challenge is not None:
            missing = "answer to the static challenge"
        if missing is not None:
            message = f"{missing} is not known: give AuthConfig.credentials"
            raise InvalidArgument(errno.EINVAL, message, attribute="auth-user-pass")
    return client_login(config)
