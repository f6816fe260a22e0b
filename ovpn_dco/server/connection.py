"""One client of a server: its session, and all that the server holds for it until that ends.

    AuthRequired -> who is it? -> addresses, peer id -> accept -> PeerReady, KeyReady -> traffic

Each login is decided in a task of its own, so that a slow hook holds up one client."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..config import ClientOverrides, ServerConfig
from ..device import Device
from ..errors import AlreadyExists, DcoError, InvalidArgument, NotFound
from ..model import Address, Cipher, ControlTransport, Ecn, Limit, PeerEvent, PeerStats
from ..net.rtnetlink import IpNetwork
from ..peer import Peer
from ..protocol.challenge import PendingRequest
from ..protocol.keyevents import KeyExpired, KeyPromotionDue
from ..protocol.messages import (
    AuthFailed,
    AuthFailedTemporarily,
    CrResponse,
    Halt,
    PushReply,
    Refused,
    Restart,
)
from ..protocol.peerinfo import Announcement
from ..protocol.session_events import (
    AuthRequired,
    ControlMessage,
    Ended,
    EndReason,
    KeyReady,
    PeerReady,
    RenegotiationFailed,
    SessionEvent,
)
from ..protocol.session_server import ServerSession
from ..protocol.table import Path, SessionTable
from ..runtime.clock import Clock
from ..runtime.control import ControlDriver
from ..runtime.data_channel import DataChannel
from ..runtime.limits import RENEWING, limits_of, set_limits
from ..runtime.marking import ecn_of_client, pushed_to, set_marking
from ..runtime.path import set_path
from ..runtime.profile import check_agreement
from .authentication import NO_NAME, Authenticator, Identity, SessionLogin
from .hooks import LoginDenied
from .listeners import is_stream, shown
from .notices import ConnectedClient, Notifier
from .overrides import ClientSettings, ConnectRequest, OverrideReader, apply_limits
from .pool import AddressPool, Lease, PeerIds
from .system_routes import SystemRoutes, networks_of

__all__ = ["Connection", "Facilities"]

_log = logging.getLogger("ovpn_dco.server")
_TUN_MTU = re.compile(r"tun-mtu\s+\d+$")  # as an option to be pushed


@dataclass(kw_only=True)
class Facilities:
    """What all connections of a server share. `wake` makes the driver look after the table."""

    config: ServerConfig
    device: Device
    table: SessionTable
    clock: Clock
    pool: AddressPool
    peer_ids: PeerIds
    authenticator: Authenticator
    overrides: OverrideReader
    notifier: Notifier
    system_routes: SystemRoutes
    wake: Callable[[], None]
    by_peer: dict[int, Connection] = field(default_factory=dict)
    by_name: dict[str, Connection] = field(default_factory=dict)
    logins: set[asyncio.Task[None]] = field(default_factory=set)


class Connection:
    """A client from its first admitted packet on. `close` ends it without a word."""

    def __init__(
        self,
        shared: Facilities,
        session: ServerSession,
        path: Path,
        transport: ControlTransport,
        local: Address | None,
    ) -> None:
        self.session = session
        self.transport = transport
        self.local = local
        self._shared = shared
        self.path = path
        self._since = shared.clock.now()
        self._login = SessionLogin(shared.authenticator)
        self._tasks: set[asyncio.Task[None]] = set()
        self._settings: ClientSettings | None = None
        self._ecn = Ecn.COMPATIBILITY
        self._networks: tuple[IpNetwork, ...] = ()
        self._lease: Lease | None = None
        self._peer_id: int | None = None
        self._channel: DataChannel | None = None
        self._cipher: Cipher | None = None
        self._over = False

    def __str__(self) -> str:
        identity = self._login.identity
        where = shown(self.path.address)
        return where if identity is None else f"{identity.common_name}/{where}"

    @property
    def is_connected(self) -> bool:
        """Whether it has a peer, so that data can flow."""
        return self._channel is not None

    def view(self) -> ConnectedClient:
        """What is to be told about it; only while it is connected."""
        identity, lease, channel = self._login.identity, self._lease, self._channel
        assert identity is not None
        assert lease is not None
        assert channel is not None
        return ConnectedClient(
            peer_id=channel.peer.peer_id,
            common_name=identity.common_name,
            username=identity.username,
            remote=self.path.address,
            ipv4=lease.ipv4,
            ipv6=lease.ipv6,
            since=self._since,
            cipher=self._cipher,
            stats=channel.stats() or PeerStats(),
        )

    # What happens

    def take(self, event: SessionEvent, now: float) -> None:
        """An event of the session."""
        if self._over:
            return
        match event:
            case AuthRequired():
                self._start(self._decide(event))
            case PeerReady():
                self._attempt(lambda: self._open(event), now)
            case KeyReady() | KeyPromotionDue() | KeyExpired():
                self._attempt(lambda: self._change_key(event), now)
            case RenegotiationFailed():
                _log.warning("%s: renegotiation failed: %s", self, event.error)
            case ControlMessage(message=CrResponse() as message):
                client = self.view() if self.is_connected else None
                self._shared.notifier.responded(client, self.path.address, message)
            case ControlMessage(message=Refused() as message):
                _log.info("%s: sent something that was refused: %s", self, message.reason)
            case ControlMessage():
                _log.debug("%s: %s", self, event.message)
            case Ended():
                self._end(event)

    def send(self, driver: ControlDriver, data: bytes) -> None:
        """A packet of the session."""
        if is_stream(self.transport):
            driver.send(self.transport, data)
        else:
            driver.send(self.transport, data, self.path.address, self.local)

    def moved(self, remote: Address, local: Address | None) -> None:
        """The client has another address, as its data packets prove."""
        _log.info("%s: is at %s now", self, shown(remote))
        self.path, self.local = self.path._replace(address=remote), local
        self._shared.table.move(self.session, self.path)

    def take_address(self, remote: Address, local: Address | None) -> None:
        """Moves the peer onto an address that the engine kept for another one."""
        if self._channel is None:
            return
        try:
            self._channel.peer.set(remote=remote)
        except (NotFound, InvalidArgument) as error:
            _log.warning("%s: cannot be moved to %s: %s", self, shown(remote), error)
        else:
            self.moved(remote, local)

    def is_about(self, event: PeerEvent) -> bool:
        """Whether the event is about the peer of this connection, and not an earlier one."""
        return self._channel is not None and self._channel.generation == event.generation

    def resists(self, other: Connection) -> bool:
        """Whether `other` may be somebody else, who must not take this one's address."""
        mine, theirs = self._login.identity, other._login.identity
        if mine is None or theirs is None or self._shared.config.pool.duplicate_cn:
            return True
        same = (mine.common_name, mine.username) == (theirs.common_name, theirs.username)
        return not same or mine.common_name == NO_NAME

    def close(self, reason: EndReason, stats: PeerStats | None = None) -> None:
        """Ends without a word, and gives everything back at once. `stats` are the last counters of
        a peer that is gone already."""
        self.session.abandon(reason)
        self._end(Ended(reason=reason), stats)
        self._shared.table.touch(self.session)

    def renegotiate(self) -> None:
        """New keys soon."""
        self.session.renegotiate()
        self._shared.table.touch(self.session)

    def heed(self, reached: Limit) -> None:
        """Limits were reached. Who is idle is to stop; whose time is up may log in anew."""
        self._shared.notifier.reached(self.view(), reached)
        if reached & RENEWING:
            self.session.renew()
            self._shared.table.touch(self.session)
        if Limit.SESSION in reached:
            self.dismiss(Restart(), EndReason.SESSION_TIMEOUT)
        elif Limit.INACTIVE in reached:
            self.dismiss(Halt("inactive"), EndReason.INACTIVE)

    def dismiss(self, message: Restart | Halt, reason: EndReason = EndReason.LOCAL) -> None:
        """Tells the client to come again or to stop, and ends."""
        self.session.dismiss(self._shared.clock.now(), message, reason)
        self._shared.table.touch(self.session)

    # The login

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        for running in (self._tasks, self._shared.logins):
            running.add(task)
            task.add_done_callback(running.discard)

    async def _decide(self, asked: AuthRequired) -> None:
        try:
            await self._judge(asked)
        except LoginDenied as denied:
            _log.warning("%s: refused: %s", self, denied.strerror)
            self._refuse(denied.message)
        except DcoError as error:
            _log.error("%s: cannot be let in: %s", self, error)
            self._refuse(AuthFailedTemporarily("the server has no room"))
        except Exception:
            _log.exception("%s: unexpected error at the login", self)
            self._refuse(None)
        finally:
            self._shared.table.touch(self.session)
            self._shared.wake()

    async def _judge(self, asked: AuthRequired) -> None:
        remote = self.path.address
        now = self._shared.clock.now()
        identity = await self._login.authenticate(asked, now=now, remote=remote, pend=self._pend)
        if identity is None or not self.session.waits_for(asked):
            return
        if asked.key_id:
            self._accept_again(identity)
            return
        request = ConnectRequest(
            common_name=identity.common_name,
            username=identity.username,
            certificate=asked.peer,
            remote=remote,
            environment=asked.announcement.environment,
        )
        settings = await self._shared.overrides.read(request)
        if not self.session.is_undecided:
            return
        # The way to the client must be there before the client can be told that it is.
        device, pool = self._shared.device, self._shared.config.pool
        self._networks = networks_of(settings.overrides, pool, iroutes=not device.routes.in_system)
        await self._shared.system_routes.hold(self._networks)
        if self.session.is_undecided:
            self._accept(identity, settings, asked.announcement)

    def _accept(self, identity: Identity, settings: ClientSettings, said: Announcement) -> None:
        """Lets the client in; what it was before goes only if nothing speaks against that."""
        shared, now = self._shared, self._shared.clock.now()
        agreement = self.session.agree(now)
        if agreement is None:
            return
        try:
            check_agreement(shared.config.data, agreement)
        except DcoError as error:
            raise LoginDenied(str(error)) from None
        if settings.overrides.username is not None:
            identity = self._login.rename(settings.overrides.username, now=now)
        self._settings, self._ecn = settings, ecn_of_client(said)
        lease = self._take_place(identity, settings.overrides)
        self.session.accept(
            now,
            username=identity.username,
            peer_id=self._peer_id or 0,
            options=(*self._options(settings, lease, said), *identity.pushed_options),
        )

    def _take_place(self, identity: Identity, overrides: ClientOverrides) -> Lease:
        """Peer id and addresses. A client that connects anew takes the place of what it was, and
        its addresses; if it cannot, that one stays."""
        shared, name = self._shared, identity.common_name
        has_one_place = not shared.config.pool.duplicate_cn and name != NO_NAME
        before = shared.by_name.get(name) if has_one_place else None
        self._peer_id = shared.peer_ids.acquire(instead_of=before._peer_id if before else None)
        self._lease = shared.pool.acquire(
            name,
            ipv4=overrides.ipv4,
            ipv6=overrides.ipv6,
            instead_of=before._lease if before else None,
        )
        if before is not None:
            before.close(EndReason.SUPERSEDED)
        if has_one_place:
            shared.by_name[name] = self
        return self._lease

    def _options(self, settings: ClientSettings, lease: Lease, said: Announcement) -> Iterator[str]:
        """What is pushed; the token is a secret and comes apart."""
        config = self._shared.config
        sizes = [option.split()[1] for option in settings.options if _TUN_MTU.match(option)]
        yield from (option for option in settings.options if not _TUN_MTU.match(option))
        server = config.pool.local_ipv6
        yield from lease.pushed_options(
            settings.overrides.ipv6_remote or (server.ip if server else None)
        )
        if said.mtu_max is not None:  # a size that is too large for it ends the connection
            size = int(sizes[-1]) if sizes else config.mtu.tun_mtu
            yield f"tun-mtu {min(said.mtu_max, size)}"
        yield from pushed_to(said, self._shared.device.features)

    def _accept_again(self, identity: Identity) -> None:
        now = self._shared.clock.now()
        self.session.accept(now, username=identity.username)
        if identity.pushed_options:
            self.session.send(PushReply(identity.pushed_options), now)

    def _refuse(self, message: AuthFailed | None) -> None:
        """Unless nobody waits for the answer any more."""
        if self.session.is_undecided:
            self.session.refuse(self._shared.clock.now(), message)

    def _pend(self, timeout_s: int, request: PendingRequest | None = None) -> None:
        if self.session.is_undecided:
            self.session.pend(self._shared.clock.now(), timeout_s, request)
            self._shared.table.touch(self.session)
            self._shared.wake()

    # The data channel

    def _open(self, event: PeerReady) -> None:
        """The peer, its keepalive, and the networks behind it; the key follows."""
        shared, lease = self._shared, self._lease
        assert lease is not None
        assert self._settings is not None
        keepalive, udp = shared.config.keepalive, not is_stream(self.transport)
        multihome = udp and shared.config.transport.multihome
        channel = DataChannel(
            shared.device,
            event.peer_id,
            self.transport,
            remote=self.path.address if udp else None,
            local=self.local[0] if multihome and self.local else None,
            vpn_ipv4=str(lease.ipv4.ip) if lease.ipv4 else None,
            vpn_ipv6=str(lease.ipv6.ip) if lease.ipv6 else None,
            keepalive_interval_s=keepalive.ping_s,
            keepalive_timeout_s=keepalive.restart_s or keepalive.exit_s,
        )
        try:
            self._set_up(channel.peer, self._settings.overrides)
        except BaseException:
            channel.close()  # nobody else knows of it yet
            raise
        self._channel, self._cipher = channel, event.agreement.cipher
        shared.by_peer[event.peer_id] = self
        self._own_networks(channel, self._settings.overrides.iroutes)
        addresses = " ".join(map(str, lease.addresses))
        _log.info("%s: connected as %s, %s", self, addresses, event.agreement.cipher.value)
        if shared.notifier.has_listeners:
            shared.notifier.connected(self.view())

    def _set_up(self, peer: Peer, overrides: ClientOverrides) -> None:
        config, features = self._shared.config, self._shared.device.features
        set_marking(peer, features, ecn=self._ecn, dscp=config.transport.passtos)
        df = config.transport.df and not is_stream(self.transport)
        set_path(peer, features, config.mtu, df=df)
        set_limits(peer, features, limits_of(config.data, config.keepalive))
        apply_limits(peer, overrides)

    def _own_networks(self, channel: DataChannel, networks: Iterable[IpNetwork]) -> None:
        routes = self._shared.device.routes
        if routes.in_system and not self._shared.config.routes.apply:
            return
        for network in networks:
            try:
                routes.add(str(network), channel.peer)
            except AlreadyExists:
                _log.warning("%s: %s is behind another client already", self, network)
            except DcoError as error:
                _log.warning("%s: no route to %s behind it: %s", self, network, error)

    def _change_key(self, event: KeyReady | KeyPromotionDue | KeyExpired) -> None:
        if self._channel is not None:
            self._channel.take(event)
            _log.debug("%s: %s %d", self, type(event).__name__, event.key_id)

    def _attempt(self, step: Callable[[], None], now: float) -> None:
        """What fails for one client ends that client only."""
        try:
            step()
        except DcoError as error:
            _log.error("%s: %s", self, error)
            self.session.dismiss(now, Restart())
            self._shared.table.touch(self.session)

    # The end

    def _end(self, event: Ended, stats: PeerStats | None = None) -> None:
        if self._over:
            return
        self._over = True
        shared = self._shared
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        told = self.is_connected or event.error is not None
        level = logging.INFO if told else logging.DEBUG
        detail = f": {event.error}" if event.error else ""
        _log.log(level, "%s: ended, %s%s", self, event.reason.value, detail)
        self._give_back(event.reason, stats)
        identity = self._login.identity
        if identity is not None and shared.by_name.get(identity.common_name) is self:
            del shared.by_name[identity.common_name]

    def _give_back(self, reason: EndReason, last: PeerStats | None) -> None:
        shared, channel = self._shared, self._channel
        if channel is not None:
            view = self.view() if shared.notifier.has_listeners else None
            self._channel = None
            channel.close()
            del shared.by_peer[channel.peer.peer_id]
            if view is not None:
                shared.notifier.disconnected(view, reason, last or view.stats)
        shared.system_routes.release(self._networks)
        self._networks = ()
        if self._lease is not None and self._lease in shared.pool:
            shared.pool.release(self._lease)
        self._lease = None
        if self._peer_id is not None:
            shared.peer_ids.release(self._peer_id)
            self._peer_id = None
