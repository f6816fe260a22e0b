"""A server: listens, lets clients in, and keeps a device as their sessions say."""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from ..backend.choice import AUTO, USERSPACE
from ..config import Protocol, ServerConfig, check, parse_server
from ..device import Device
from ..errors import DcoError, InterfaceMissing, InvalidArgument, NotFound, error_for
from ..model import (
    Address,
    ControlPacket,
    ControlTransport,
    DeleteReason,
    Event,
    InterfaceGone,
    KeySwapNeeded,
    Mode,
    Offload,
    PeerDeleted,
    PeerEvent,
    PeerFloated,
    PeerFloatRefused,
    PeerLimitReached,
    TransportFailed,
)
from ..net import Netns
from ..protocol.datamessage import is_exit
from ..protocol.messages import Halt, Restart
from ..protocol.ratelimit import TokenBucket
from ..protocol.session_events import EndReason
from ..protocol.session_server import ServerSession
from ..protocol.statickey import Metadata
from ..protocol.table import Path, SessionTable
from ..runtime.clock import Clock, SystemClock
from ..runtime.control import ControlDriver
from ..runtime.tls_profile import ReloadingTls
from ..runtime.wrap_profile import replay_window, server_front, stateless_server
from .authentication import Authenticator
from .between_clients import BetweenClients
from .connection import Connection, Facilities
from .listeners import Listeners, hang_up, is_stream
from .notices import ConnectedClient, Notifier
from .overrides import OverrideReader
from .pool import AddressPool, PeerIds
from .poolfile import PoolFile
from .refusals import RefusalReport
from .system_routes import SystemRoutes

__all__ = ["Server", "ServerStats"]

FAREWELL_S = 1.0
"""How long a server that goes down waits for its clients to hear of it."""
HEADROOM = 64
"""Sessions that may be negotiated at one time beyond what is connected."""

_log = logging.getLogger("ovpn_dco.server")


@dataclass(frozen=True, kw_only=True)
class ServerStats:
    """Counters of a server. `refusals` are control packets that were dropped, by
    `protocol.errors.Refusal.label`; `send_failures` those that a socket refused, by error class."""

    connected: int
    negotiating: int
    accepted: int
    refusals: Mapping[str, int]
    send_failures: Mapping[str, int]


class Server:
    """A server as `config` says, for as long as the context lasts.

        async with Server.from_file("server.conf") as server:
            await server.wait_closed()

    The interface is made in `netns`, the sockets in the namespace of the calling thread. `backend`,
    `workers` and `offloads` are those of `Device.open`; `watch_routes` follows the system's routes
    to networks behind clients (`device.routes.watch`). Hooks of the configuration are plain or
    async callables; docs/embedding.md says what each gets.

    Raises `ConfigError` for a configuration that breaks a rule."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        netns: Netns = None,
        backend: str = "auto",
        workers: int | None = None,
        offloads: Offload | None = None,
        clock: Clock | None = None,
        watch_routes: bool = False,
    ) -> None:
        check(config)
        self._watch_routes = watch_routes
        self._between_clients: BetweenClients | None = None
        self._config = config
        if config.device.disable_dco and backend == AUTO:
            backend = USERSPACE
        self._device_options: dict[str, Any] = {
            "netns": netns,
            "backend": backend,
            "workers": workers,
            "offloads": offloads,
        }
        self._clock = clock or SystemClock()
        self._device: Device | None = None
        self._driver: ControlDriver | None = None
        self._shared: Facilities | None = None
        self._connections: dict[ServerSession, Connection] = {}
        self._listeners: Listeners | None = None
        self._pool_file: PoolFile | None = None
        self._refusals = RefusalReport()
        self._housekeeping: asyncio.Task[None] | None = None
        self._closed: asyncio.Future[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._accepted = 0

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Any) -> Server:
        """The server of a configuration file; `ConfigError` with all that is wrong in it."""
        return cls(parse_server(FilePath(path)), **options)

    # What it is

    @property
    def config(self) -> ServerConfig:
        """As given."""
        return self._config

    @property
    def device(self) -> Device:
        """The data channel; only while the server runs."""
        device = self._device  # once: metrics are read by other threads
        if device is None:
            raise InvalidArgument(errno.EINVAL, "the server does not run")
        return device

    @property
    def addresses(self) -> tuple[tuple[Protocol, Address], ...]:
        """What it listens on."""
        return self._listeners.addresses if self._listeners else ()

    @property
    def clients(self) -> tuple[ConnectedClient, ...]:
        """Those that are connected, by peer id."""
        if self._shared is None:
            return ()
        return tuple(one.view() for _, one in sorted(self._shared.by_peer.items()))

    def stats(self) -> ServerStats:
        """Counters since the start; any thread may ask."""
        shared, driver = self._running()
        return ServerStats(
            connected=len(shared.by_peer),
            negotiating=shared.table.negotiating,
            accepted=self._accepted,
            refusals=dict(shared.table.refusals),
            send_failures=dict(driver.send_failures),
        )

    # Lifecycle

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Makes the interface and listens. `DcoError` says what failed, and nothing is left."""
        if self._closed is not None:
            raise InvalidArgument(errno.EINVAL, "the server was started before")
        loop = asyncio.get_running_loop()
        self._closed = loop.create_future()
        try:
            self._open_device()
            await self._prepare()
        except BaseException:
            await self._tear_down()
            self._closed = None
            raise
        self._housekeeping = loop.create_task(self._keep_house())

    async def wait_closed(self) -> None:
        """Until `close`, or until the server cannot go on: raises why."""
        if self._closed is None:
            raise InvalidArgument(errno.EINVAL, "the server was not started")
        await asyncio.shield(self._closed)

    async def close(self) -> None:
        """Tells the clients, and removes everything. Idempotent."""
        if self._ending is None and self._device is not None:
            self._ending = asyncio.get_running_loop().create_task(self._end())
        if self._ending is not None:
            await asyncio.shield(self._ending)

    def disconnect(self, peer_id: int, *, message: Restart | Halt | None = None) -> None:
        """Sends a client away: to come again, unless `message` says otherwise. NotFound."""
        shared, driver = self._running()
        connection = shared.by_peer.get(peer_id)
        if connection is None:
            raise NotFound(errno.ENOENT, f"no client has peer id {peer_id}", attribute="peer_id")
        connection.dismiss(message or Restart())
        driver.wake()

    # Start and end

    def _running(self) -> tuple[Facilities, ControlDriver]:
        shared, driver = self._shared, self._driver
        if shared is None or driver is None:
            raise InvalidArgument(errno.EINVAL, "the server does not run")
        return shared, driver

    def _open_device(self) -> None:
        config, pool = self._config, self._config.pool
        addresses = [str(one) for one in (pool.local_ipv4, pool.local_ipv6) if one is not None]
        self._device = Device.open(
            config.device.name or "tun%d",
            mode=Mode.MULTIPEER,
            mtu=config.mtu.tun_mtu,
            addresses=addresses,
            up=True,
            require=config.requirements(),
            **self._device_options,
        )

    async def _prepare(self) -> None:
        config, device = self._config, self.device
        _warn_of_what_is_missing(config)
        self._driver = ControlDriver(device, self, self._clock.now)
        authenticator = Authenticator(config)
        listeners = Listeners(config, device, ReloadingTls(config), login_s=authenticator.longest_s)
        verify = config.hooks.tls_crypt_v2_verify
        front = server_front(config, verify_metadata=_plain(verify) if verify else None)
        frequency = config.limits.connect_frequency
        table = SessionTable(
            stateless_server(config, front, os.urandom),
            listeners.settings_for,
            window=lambda: replay_window(config.data),
            max_negotiating=config.pool.max_clients + HEADROOM,
            admissions=_bucket(frequency, self._clock.now()) if frequency else None,
        )
        pool = AddressPool(config.pool)
        self._pool_file = PoolFile(pool, config.pool, now=self._clock.now())
        self._pool_file.load()
        routes = SystemRoutes(config, device, self._device_options["netns"])
        self._shared = Facilities(
            config=config,
            device=device,
            table=table,
            clock=self._clock,
            pool=pool,
            peer_ids=PeerIds(config.pool.max_clients),
            authenticator=authenticator,
            overrides=OverrideReader(config),
            notifier=Notifier(config.hooks),
            system_routes=routes,
            wake=self._driver.wake,
        )
        await routes.open()
        self._between_clients = BetweenClients(config, device, self._shared.by_peer)
        await self._between_clients.open()
        if self._watch_routes:
            device.routes.watch()
        await listeners.open()
        self._listeners = listeners

    async def _say_goodbye(self) -> None:
        """RESTART to all that are connected, where the configuration wants it."""
        notify = self._config.transport.explicit_exit_notify
        if self._shared is None:
            return
        self._shared.table.stop_admitting()
        for connection in list(self._connections.values()):
            if not connection.is_connected:
                connection.close(EndReason.LOCAL)
        if not notify or not self._shared.by_peer:
            return
        message = Restart(next_remote=notify > 1)
        told = list(self._shared.by_peer.values())
        for connection in told:
            connection.dismiss(message)
        self._shared.wake()
        end_s = self._clock.now() + FAREWELL_S
        while self._clock.now() < end_s:
            await asyncio.sleep(0.02)
            if all(one.session.has_arrived for one in told):
                break

    async def _end(self) -> None:
        try:
            await self._say_goodbye()
        finally:
            await self._tear_down()
            if self._closed is not None and not self._closed.done():
                self._closed.set_result(None)

    async def _tear_down(self) -> None:
        """First all that needs no waiting, so that nothing of it is left whatever comes."""
        shared, device = self._shared, self._device
        if shared is not None:
            self._refusals.tell(shared.table.refusals)
        if self._driver is not None:
            self._driver.close()
        for connection in list(self._connections.values()):
            connection.close(EndReason.LOCAL)
        self._connections.clear()
        if device is not None:
            device.close()
        self._device = self._driver = self._shared = self._listeners = None
        if self._between_clients is not None:
            await self._between_clients.close()
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.wait({self._housekeeping})
        if self._pool_file is not None:
            await self._pool_file.save(self._clock.now())
        if shared is not None:
            await shared.system_routes.close()
            if shared.logins:
                await asyncio.wait(shared.logins)
            await shared.notifier.close()

    async def _keep_house(self) -> None:
        """What has to be done now and then."""
        while True:
            await asyncio.sleep(60)
            if self._shared is not None:
                self._refusals.tell(self._shared.table.refusals)
            due_s = self._pool_file.due_s if self._pool_file else None
            if self._pool_file is not None and due_s is not None and due_s <= self._clock.now():
                await self._pool_file.save(self._clock.now())

    def _fail(self, error: DcoError) -> None:
        if self._closed is not None and not self._closed.done():
            _log.error("%s", error)
            self._closed.set_exception(error)
            self._closed.exception()  # told already, if nobody waits for it

    # ControlHandler

    def receive_packet(self, packet: ControlPacket, now: float) -> None:
        """See `ControlHandler`."""
        shared, driver = self._running()
        transport, remote = packet.transport, packet.remote
        if packet.peer_id is not None:
            self._receive_message(packet.peer_id, packet.data)
        elif transport is not None and remote is not None:
            path = Path(transport.transport_id, remote)
            stream = is_stream(transport)
            outcome = shared.table.receive(packet.data, path, now, stream=stream)
            if isinstance(outcome, bytes):
                driver.send(transport, outcome, remote, packet.local)
            elif outcome is not None:
                self._meet(outcome, path, transport, packet.local)
            elif stream and not shared.table.has(path):
                hang_up(transport)
        self._follow(now)

    def receive_event(self, event: Event, now: float) -> None:
        """See `ControlHandler`."""
        match event:
            case TransportFailed():
                self._lose(event)
            case InterfaceGone():
                self._fail(InterfaceMissing(event.errno, "the interface is gone"))
            case PeerEvent():
                connection = self._running()[0].by_peer.get(event.peer_id)
                if connection is not None and connection.is_about(event):
                    self._follow_peer(connection, event)
        self._follow(now)

    def handle_timeout(self, now: float) -> None:
        """See `ControlHandler`."""
        self._running()[0].table.handle_timeout(now)

    def next_timeout(self) -> float | None:
        """See `ControlHandler`."""
        return self._shared.table.next_timeout() if self._shared else None

    def flush(self, now: float) -> None:
        """See `ControlHandler`."""
        if self._shared is None or self._driver is None:
            return
        self._follow(now)
        for session, data in self._shared.table.packets_to_send(now):
            self._connections[session].send(self._driver, data)
        self._forget_finished(self._shared.table)

    # Steps

    def _follow(self, now: float) -> None:
        """What the sessions have to say."""
        table = self._running()[0].table
        while (item := table.next_event()) is not None:
            session, event = item
            try:
                self._connections[session].take(event, now)
            except Exception:
                _log.exception("%s: unexpected error", self._connections[session])
                self._connections[session].close(EndReason.LOCAL)

    def _meet(
        self, session: ServerSession, path: Path, transport: ControlTransport, local: Address | None
    ) -> None:
        connection = self._connections.get(session)
        if connection is None:
            self._connections[session] = Connection(
                self._running()[0], session, path, transport, local
            )
            self._accepted += 1
        else:
            connection.local = local

    def _forget_finished(self, table: SessionTable) -> None:
        for session in table.take_finished():
            connection = self._connections.pop(session, None)
            if connection is not None:
                connection.close(EndReason.LOCAL)
                if is_stream(connection.transport):
                    hang_up(connection.transport)

    def _receive_message(self, peer_id: int, data: bytes) -> None:
        connection = self._running()[0].by_peer.get(peer_id)
        if connection is not None and is_exit(data):
            connection.close(EndReason.PEER_EXIT)

    def _follow_peer(self, connection: Connection, event: PeerEvent) -> None:
        match event:
            case PeerDeleted(reason=DeleteReason.EXPIRED):
                connection.close(EndReason.EXPIRED, event.stats)
            case PeerDeleted():
                connection.close(EndReason.TRANSPORT_GONE, event.stats)
            case KeySwapNeeded():
                connection.renegotiate()
            case PeerLimitReached():
                connection.heed(event.limits)
            case PeerFloated():
                connection.moved(event.remote, event.local)
            case PeerFloatRefused():
                self._judge_float(connection, event)

    def _judge_float(self, connection: Connection, event: PeerFloatRefused) -> None:
        """The address is another peer's: that of the same client, from before, makes room."""
        path = connection.path._replace(address=event.remote)
        session = self._running()[0].table.current(path)
        owner = self._connections.get(session) if session else None
        if owner is connection:  # it came there in the meantime
            return
        if owner is not None and owner.resists(connection):
            _log.warning("%s: may not take the address of %s", connection, owner)
            return
        if owner is not None:
            owner.close(EndReason.SUPERSEDED)
        connection.take_address(event.remote, event.local)

    def _lose(self, event: TransportFailed) -> None:
        transport = event.transport
        if transport is None:
            return
        if is_stream(transport):
            self._running()[0].table.end_stream(transport.transport_id)
            hang_up(transport)
        else:
            self._fail(error_for(event.errno, f"a socket died: {os.strerror(event.errno)}"))


def _bucket(frequency: tuple[int, int], now: float) -> TokenBucket:
    count, period_s = frequency
    return TokenBucket(rate_per_s=count / period_s, burst=count, now=now)


def _plain(hook: Callable[..., object]) -> Callable[[Metadata], bool]:
    """`tls_crypt_v2_verify` is asked in the middle of a packet, and cannot be waited for."""
    if inspect.iscoroutinefunction(hook):
        message = "must be a plain callable: it is asked before there is a session"
        raise InvalidArgument(errno.EINVAL, message, attribute="tls_crypt_v2_verify")

    def verify(metadata: Metadata) -> bool:
        try:
            return hook(metadata) is True
        except Exception as error:
            # Its text may repeat what the client has sent.
            _log.error("tls_crypt_v2_verify failed: %s", type(error).__name__)
            return False

    return verify


def _warn_of_what_is_missing(config: ServerConfig) -> None:
    """What was read from a file has its warnings already."""
    told = {warning.directive for warning in config.warnings}
    if config.logging.status_path is not None and "status" not in told:
        _log.warning("status: no effect: no such file is written yet")
    if config.management.host is not None and "management" not in told:
        _log.warning("management: no effect: there is no such interface yet")
