"""A client: connects, keeps connected, and puts the tunnel on the system."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from pathlib import Path as FilePath
from typing import Any, NoReturn

from ..backend.choice import AUTO, USERSPACE
from ..config import ClientConfig, check, parse_client
from ..device import Device
from ..errors import ConnectionFailed, DcoError, InterfaceMissing, InvalidArgument
from ..model import (
    Address,
    ControlPacket,
    Event,
    InterfaceGone,
    Mode,
    Offload,
    PeerEvent,
    PeerStats,
    TransportFailed,
)
from ..net import Netns
from ..protocol.authtoken import ClientLogin
from ..protocol.session_events import Ended, EndReason
from ..runtime.clock import Clock, SystemClock
from ..runtime.control import ControlDriver
from ..runtime.route_watch import RouteWatch
from ..runtime.tls_profile import ReloadingTls
from .attempt import Attempt, Established
from .connector import Connector
from .dialogue import Answer, Dialogue, first_login, with_token_of
from .hooked_tunnel import HookedTunnel
from .remotes import RemoteSequence
from .retry import Again, Verdict, judge
from .tasks import first_of
from .tunnel import Tunnel, address_of
from .tunnel_info import TunnelInfo

__all__ = ["Client"]

FAREWELL_S = 2.0
"""How long a client that leaves waits for the server to hear of it, beside the time that it takes
to say so."""

SETTLING_S = 0.1
"""How long after a change of routes the next ones of the same cause are waited for."""

_log = logging.getLogger("ovpn_dco.client")


class Client:
    """A client as `config` says, connected for as long as the context lasts.

        async with Client.from_file("office.ovpn") as client:
            await client.wait_closed()

    The context begins when the tunnel is there for the first time. The interface is made in
    `netns`, the sockets in the namespace of the calling thread. `backend`, `workers` and `offloads`
    are those of `Device.open`. `answer` is asked what the server wants to know of the user; without
    it such a login is refused. Hooks of the configuration are plain or async callables; a plain one
    runs in a thread, and the client does nothing to its tunnel until it returns.

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
        if config.device.disable_dco and backend == AUTO:
            backend = USERSPACE
        self._device_options: dict[str, Any] = {
            "netns": netns,
            "backend": backend,
            "workers": workers,
            "offloads": offloads,
        }
        self._dialogue = Dialogue(answer)
        self._clock = clock or SystemClock()
        self._remotes = RemoteSequence(config)
        self._login = first_login(config)
        self._answered: ClientLogin | None = None
        self._device: Device | None = None
        self._driver: ControlDriver | None = None
        self._tunnel: HookedTunnel | None = None
        self._attempt: Attempt | None = None
        self._connected = False
        self._last_failure = ""
        self._fault: DcoError | None = None
        self._ready: asyncio.Future[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

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
        if self._ready is not None or self._closing is not None:
            raise InvalidArgument(errno.EINVAL, "the client was started before")
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        try:
            connector = self._open()
            self._running = loop.create_task(self._run(connector))
            # Whoever does not wait for the end is not to read of it in the log of asyncio.
            self._running.add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.wait({self._running, self._ready}, return_when=asyncio.FIRST_COMPLETED)
            if self._running.done():
                if not self._running.cancelled():
                    self._running.result()
                raise ConnectionFailed(errno.ENOTCONN, "the client was closed")
        except BaseException:
            await self.close()
            raise

    async def wait_closed(self) -> None:
        """Until all is removed by `close`, or until the client has given up: raises why."""
        if self._running is None:
            raise InvalidArgument(errno.EINVAL, "the client was not started")
        await asyncio.wait({self._running})
        if self._closing is not None:
            await asyncio.shield(self._closing)
        if not self._running.cancelled():
            self._running.result()

    async def close(self) -> None:
        """Says goodbye, and removes everything, also if the caller is cancelled. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._shut_down())
        await asyncio.shield(self._closing)

    # Start and end

    def _open(self) -> Connector:
        tls = ReloadingTls(self._config)
        device = self._device = self._open_device()
        self._driver = ControlDriver(device, self, self._clock.now)
        self._tunnel = HookedTunnel(self._tunnel_of(device), self._config.hooks)
        return Connector(
            self._config,
            device,
            self._driver,
            tls,
            self._clock.now,
            sso_methods=self._dialogue.sso_methods,
        )

    def _open_device(self) -> Device:
        config = self._config
        return Device.open(
            config.device.name or "tun%d",
            mode=Mode.P2P,
            mtu=config.mtu.tun_mtu,
            require=config.requirements(),
            **self._device_options,
        )

    def _tunnel_of(self, device: Device) -> Tunnel:
        return Tunnel(device.name, self._config, netns=self._netns)

    async def _shut_down(self) -> None:
        try:
            if self._attempt is not None:
                self._attempt.leave()
                await self._linger(self._attempt)
            if self._running is not None:
                self._running.cancel()
                await asyncio.wait({self._running})
        finally:
            await self._tear_down()

    async def _tear_down(self) -> None:
        """No step keeps the next one from its turn."""
        try:
            self._let_go()
            if self._tunnel is not None:
                await self._tunnel.close()
        finally:
            if self._driver is not None:
                self._driver.close()
            if self._device is not None:
                self._device.close()
            self._tunnel = self._driver = self._device = None

    # Attempts

    async def _run(self, connector: Connector) -> None:
        """One attempt after the other, until one ends for good."""
        try:
            while isinstance(verdict := await self._try(connector), Again):
                await self._prepare(verdict)
        except asyncio.CancelledError:
            if self._fault is None:
                raise
            raise self._fault from None
        if verdict.error is not None:
            raise verdict.error

    async def _try(self, connector: Connector) -> Verdict:
        """One attempt, from the name of the server to the end of the connection."""
        try:
            attempt = self._attempt = await self._begin(connector)
        except ConnectionFailed as error:
            _log.warning("%s", error)
            self._last_failure = error.strerror or ""
            return Again()
        try:
            await first_of(_end_of(attempt), self._serve(attempt))
        finally:
            self._connected = False
            self._login = with_token_of(attempt.login, self._login)
        outcome = attempt.ended.result()
        await self._linger(attempt)
        self._let_go()
        self._last_failure = _explained(outcome)
        _log.info("%s", self._last_failure)
        if not self._config.lifecycle.persist_tun:
            await self._the_tunnel.down()
        return judge(
            outcome,
            self._config,
            self._login,
            was_connected=attempt.was_connected,
            can_ask=self._dialogue.can_ask,
            exit_when_silent=attempt.exits_when_silent,
        )

    async def _begin(self, connector: Connector) -> Attempt:
        """A tunnel that was kept stays for the address that it knows the way to. Where that fails
        it goes: that way may be one that there is no more."""
        if self._remotes.address is None:
            # A question for the name would go into a tunnel that nobody is at the end of.
            await self._the_tunnel.down()
        address = await connector.resolve(self._remotes)
        info = self._the_tunnel.info
        same = info is not None and info.remote == address_of(address)
        if not (same and await self._the_tunnel.leads_to_server()):
            await self._the_tunnel.down()
        login, self._answered = self._answered or self._login, None
        return await connector.connect(self._remotes, address, login)

    def _let_go(self) -> None:
        if self._attempt is not None:
            self._attempt.close()
            self._attempt = None

    async def _linger(self, attempt: Attempt) -> None:
        """Lets what was said last arrive."""
        end_s = self._clock.now() + attempt.farewell_s + FAREWELL_S
        while attempt.may_leave_politely and self._clock.now() < end_s:
            await asyncio.sleep(0.01)

    async def _prepare(self, verdict: Again) -> None:
        """What has to be done before the next attempt."""
        if verdict.login is not None:
            self._login = verdict.login
        if verdict.question is not None:
            self._answered = await self._dialogue.log_in_again(verdict.question)
        self._remotes.advance(verdict.advance)
        if self._remotes.is_exhausted:
            text = f"no server of the configuration can be had, at last: {self._last_failure}"
            raise ConnectionFailed(errno.EHOSTUNREACH, text)
        pause_s = max(verdict.delay_s, self._remotes.pause_s)
        _log.info("connecting again in %g s", pause_s)
        await asyncio.sleep(pause_s)

    # A connection

    async def _serve(self, attempt: Attempt) -> None:
        """What an attempt needs besides packets: patience, the system, and answers."""
        try:
            why = await first_of(self._carry(attempt), self._dialogue.converse(attempt))
            _log.info("leaving: %s", why)
            attempt.leave()
        except DcoError as error:
            _log.error("%s", error)
            attempt.fail(error)
        await _end_of(attempt)

    async def _carry(self, attempt: Attempt) -> str:
        """Until a limit is reached: says which."""
        established = await self._contact(attempt)
        await self._come_up(attempt, established)
        return await first_of(attempt.limit_reached(), self._follow(attempt), self._guard(attempt))

    async def _contact(self, attempt: Attempt) -> Established:
        """Not for longer than `connect-timeout` without any answer."""
        timeout_s = attempt.config.transport.connect_timeout_s
        impatience = asyncio.get_running_loop().call_later(timeout_s, attempt.hurry)
        try:
            return await attempt.established()
        finally:
            impatience.cancel()

    async def _follow(self, attempt: Attempt) -> NoReturn:
        """The server may push other options, or move, at any time."""
        while True:
            await self._come_up(attempt, await attempt.established())

    async def _guard(self, attempt: Attempt) -> NoReturn:
        """Connects anew where the network around has changed so that there is no way any more."""
        with RouteWatch() as routes:
            while True:
                if not await self._the_tunnel.leads_to_server():
                    _log.warning("the way to the server is gone")
                    attempt.abandon(EndReason.TRANSPORT_GONE)
                await routes.changed()
                await asyncio.sleep(SETTLING_S)

    async def _come_up(self, attempt: Attempt, established: Established) -> None:
        mtu = attempt.config.mtu
        info = await self._the_tunnel.up(established.options, established.remote, mtu=mtu)
        self._remotes.connected()
        self._connected = True
        addresses = " ".join(str(one.ip) for one in (info.ipv4, info.ipv6) if one is not None)
        cipher = established.agreement.cipher.value
        _log.info("connected as %s on %s, %s", addresses, info.interface, cipher)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    @property
    def _the_tunnel(self) -> HookedTunnel:
        assert self._tunnel is not None
        return self._tunnel

    # ControlHandler

    def receive_packet(self, packet: ControlPacket, now: float) -> None:
        """See `ControlHandler`."""
        if self._attempt is not None:
            self._attempt.receive_packet(packet, now)

    def receive_event(self, event: Event, now: float) -> None:
        """See `ControlHandler`."""
        if isinstance(event, InterfaceGone) and self._running is not None:
            self._fault = InterfaceMissing(event.errno, "the interface is gone")
            self._running.cancel()
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


async def _end_of(attempt: Attempt) -> None:
    await asyncio.wait({attempt.ended})


def _explained(outcome: Ended) -> str:
    return f"{outcome.reason.value}: {outcome.error}" if outcome.error else outcome.reason.value
