"""One attempt to be connected: a socket, the session through it, and the peer that comes of it.

It ends once, for a reason; whether and where another one follows is the client's decision."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ..config import ClientConfig
from ..device import Device
from ..errors import DcoError
from ..model import (
    Address,
    ControlPacket,
    ControlTransport,
    DeleteReason,
    KeySwapNeeded,
    Limit,
    PeerDeleted,
    PeerEvent,
    PeerFloated,
    PeerLimitReached,
    PeerLimits,
    PeerStats,
    TransportKind,
)
from ..protocol.authtoken import ClientLogin
from ..protocol.datamessage import is_exit
from ..protocol.errors import ProtocolError
from ..protocol.keyevents import KeyExpired, KeyPromotionDue
from ..protocol.messages import CrResponse, Message, Refused
from ..protocol.ncp import Agreement
from ..protocol.push import Pushed
from ..protocol.session_client import ClientSession
from ..protocol.session_events import (
    ControlMessage,
    Ended,
    EndReason,
    KeyReady,
    PeerReady,
    PushReceived,
    PushUpdated,
    RenegotiationFailed,
    SessionEvent,
    TokenRenewed,
)
from ..runtime.control import ControlDriver
from ..runtime.data_channel import DataChannel
from ..runtime.limits import ENDING, RENEWING, describe, limits_of, set_limits, set_shaper
from ..runtime.marking import ecn_of_server, set_marking
from ..runtime.path import set_path
from ..runtime.profile import check_agreement
from ..transport import Transport
from .farewell import MOST, REPEAT_S, Farewell

__all__ = ["Attempt", "Established"]

_log = logging.getLogger("ovpn_dco.client")


@dataclass(frozen=True)
class Established:
    """The data channel as it is: what was pushed, what was agreed, and where the server is."""

    options: Pushed
    agreement: Agreement
    remote: Address


class Attempt:
    """Drives `session` through `transport`. `ended` tells why it is over."""

    def __init__(
        self,
        config: ClientConfig,
        device: Device,
        session: ClientSession,
        transport: Transport,
        driver: ControlDriver,
        clock: Callable[[], float],
    ) -> None:
        """`config` is that of its remote (`for_remote`)."""
        self.config = config
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        """What the server says besides, to be shown or answered."""
        self._device = device
        self._session = session
        self._transport = transport
        self._driver = driver
        self._clock = clock
        self._pushed: Pushed | None = None
        self._agreement: Agreement | None = None
        self._channel: DataChannel | None = None
        self._established: Established | None = None
        self._farewell: Farewell | None = None
        self._limits = PeerLimits()
        self._limit: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()

    @property
    def address(self) -> Address:
        """Of the server."""
        return self._session.address

    @property
    def login(self) -> ClientLogin:
        """As it stands, for the next attempt."""
        return self._session.login

    @property
    def was_answered(self) -> bool:
        """Whether the server has said anything."""
        return self._session.remote_session_id is not None

    @property
    def was_connected(self) -> bool:
        """Whether the data channel was there."""
        return self._established is not None

    async def established(self) -> Established:
        """Waits until the data channel is there, and later until it is another: of other options,
        or to a server that has moved."""
        await self._changed.wait()
        self._changed.clear()
        assert self._established is not None
        return self._established

    @property
    def exits_when_silent(self) -> bool:
        """Whether the client ends when nothing comes from the server: `ping-exit`."""
        if self._pushed is not None and self._pushed.number("ping-restart") is not None:
            return False
        pushed = self._pushed.number("ping-exit") if self._pushed else None
        own = self.config.keepalive
        return bool(pushed) or bool(own.exit_s and not own.restart_s)

    @property
    def may_leave_politely(self) -> bool:
        """Whether something is left to send, or was sent and may not have arrived."""
        said = self._session.is_finished or self._session.has_arrived
        return self._farewell is not None or not said

    @property
    def farewell_s(self) -> float:
        """How long it takes to say goodbye; nothing of the time in which that arrives."""
        return self._exit_messages() * REPEAT_S

    async def limit_reached(self) -> str:
        """Waits for a limit that ends the connection, for ever if there is none; says which."""
        await asyncio.wait({self._limit})
        return self._limit.result()

    def stats(self) -> PeerStats | None:
        """Counters of the peer; None without one."""
        return self._channel.stats() if self._channel else None

    def start(self) -> None:
        """Begins."""
        self._session.start(self._clock())
        self._driver.wake()

    def leave(self) -> None:
        """Says goodbye."""
        now, times = self._clock(), self._exit_messages()
        if times and self._channel is not None:
            self._farewell = self._farewell or Farewell(self._channel.peer, times, now)
        else:
            self._session.leave(now)
        self._driver.wake()

    def abandon(self, reason: EndReason) -> None:
        """Ends without a word."""
        self._session.abandon(reason)
        self._driver.wake()

    def hurry(self) -> None:
        """Gives up a server that has not answered at all."""
        if not self.was_answered:
            self.abandon(EndReason.NEGOTIATION_TIMEOUT)

    def fail(self, error: DcoError) -> None:
        """Ends for a reason of this machine's, which no other server will mend."""
        self._session.leave(self._clock())
        self._finish(Ended(reason=EndReason.LOCAL, error=error))
        self._driver.wake()

    def answer(self, response: str) -> None:
        """Answers a CR_TEXT."""
        self._session.send(CrResponse(response), self._clock())
        self._driver.wake()

    def close(self) -> None:
        """Gives peer and socket back. Idempotent."""
        self._close_channel()
        self._transport.close()

    # What the driver does

    def receive_packet(self, packet: ControlPacket, now: float) -> None:
        """A packet of the control channel, or a message of the server inside the data channel."""
        if not self._is_mine(packet.transport):
            return
        if packet.peer_id is not None:
            if is_exit(packet.data):
                self.abandon(EndReason.PEER_EXIT)
            return
        try:
            self._session.receive(packet.data, packet.remote or self.address, now)
        except ProtocolError as error:
            _log.debug("dropped a packet: %s", error)

    def receive_event(self, event: PeerEvent, now: float) -> None:
        """Something happened to a peer."""
        if self._channel is None or self._channel.generation != event.generation:
            return
        match event:
            case PeerDeleted(reason=DeleteReason.EXPIRED):
                self.abandon(EndReason.EXPIRED)
            case PeerDeleted():
                self.abandon(EndReason.TRANSPORT_GONE)
            case PeerFloated():
                self._session.move(event.remote)
                self._establish()
            case KeySwapNeeded():
                self._session.renegotiate()
            case PeerLimitReached():
                self._heed(event.limits)

    def lose(self, transport: ControlTransport | None) -> None:
        """A socket died."""
        if self._is_mine(transport):
            self.abandon(EndReason.TRANSPORT_GONE)

    def handle_timeout(self, now: float) -> None:
        """The session's time has come."""
        self._session.handle_timeout(now)

    def next_timeout(self) -> float | None:
        """See `ControlHandler`."""
        due_s = self._session.next_timeout()
        if self._farewell is None:
            return due_s
        return self._farewell.due_s if due_s is None else min(due_s, self._farewell.due_s)

    def flush(self, now: float) -> None:
        """Acts on events, and sends."""
        if self._farewell is not None and self._farewell.say(now):
            self._farewell = None
            self._session.leave(now)
        while (event := self._session.next_event()) is not None:
            self._take(event, now)
        remote = None if self._transport.kind is TransportKind.TCP else self.address
        for data in self._session.packets_to_send(now):
            self._driver.send(self._transport, data, remote)

    # Steps

    def _is_mine(self, transport: ControlTransport | None) -> bool:
        return transport is not None and transport.transport_id == self._transport.transport_id

    def _take(self, event: SessionEvent, now: float) -> None:
        try:
            self._act(event)
        except DcoError as error:
            _log.error("%s", error)
            self._session.leave(now)
            self._finish(Ended(reason=EndReason.DISAGREEMENT, error=error))

    def _act(self, event: SessionEvent) -> None:
        match event:
            case PushReceived():
                self._pushed = event.options
                for ignored in event.options.ignored:
                    _log.info("pushed option without effect: %s", ignored)
            case PushUpdated():
                self._update(event.options)
            case PeerReady():
                self._open(event)
            case KeyReady() | KeyPromotionDue() | KeyExpired():
                self._change_key(event)
            case RenegotiationFailed():
                _log.warning("renegotiation failed: %s", event.error)
            case TokenRenewed():
                _log.debug("the server has renewed the token")
            case ControlMessage(message=Refused() as message):
                _log.warning("the server sent something that was refused: %s", message.reason)
            case ControlMessage(message=message) if not isinstance(message, Refused):
                self.messages.put_nowait(message)
            case Ended():
                self._finish(event)

    def _exit_messages(self) -> int:
        """How often to say goodbye inside the data channel: not over TCP, where there is no need,
        and not where the control channel has a word for it."""
        if self._agreement is None or self._agreement.exit_message or self._pushed is None:
            return 0
        if self._transport.kind is TransportKind.TCP:
            return 0
        pushed = self._pushed.number("explicit-exit-notify")
        return min(self.config.transport.explicit_exit_notify if pushed is None else pushed, MOST)

    def _open(self, event: PeerReady) -> None:
        check_agreement(self.config.data, event.agreement)
        interval_s, timeout_s = self._keepalive()
        self._channel = DataChannel(
            self._device,
            event.peer_id,
            self._transport,
            remote=None if self._transport.kind is TransportKind.TCP else self.address,
            keepalive_interval_s=interval_s,
            keepalive_timeout_s=timeout_s,
        )
        assert self._pushed is not None
        set_marking(
            self._channel.peer,
            self._device.features,
            ecn=ecn_of_server(self._pushed),
            dscp=self.config.transport.passtos,
        )
        df = self._transport.kind is TransportKind.UDP and self.config.transport.df
        set_path(self._channel.peer, self._device.features, self.config.mtu, df=df)
        self._limits = limits_of(self.config.data, self.config.keepalive, self._pushed)
        set_limits(self._channel.peer, self._device.features, self._limits)
        shaper = self.config.transport.shaper_bytes_per_s
        set_shaper(self._channel.peer, self._device.features, shaper)
        self._agreement = event.agreement

    def _heed(self, reached: Limit) -> None:
        if reached & RENEWING:
            self._session.renew()
        if reached & ENDING and not self._limit.done():
            self._limit.set_result(describe(reached, self._limits))

    def _keepalive(self) -> tuple[int, int]:
        """(interval, timeout) in seconds: what was pushed, and else what is configured."""
        pushed, own = self._pushed, self.config.keepalive
        assert pushed is not None
        interval_s, timeout_s = pushed.number("ping"), pushed.number("ping-restart")
        if timeout_s is None:
            timeout_s = pushed.number("ping-exit")
        return (
            own.ping_s if interval_s is None else interval_s,
            (own.restart_s or own.exit_s) if timeout_s is None else timeout_s,
        )

    def _update(self, options: Pushed) -> None:
        self._pushed = options
        if self._channel is not None:
            interval_s, timeout_s = self._keepalive()
            self._channel.peer.set_keepalive(interval_s=interval_s, timeout_s=timeout_s)
        if self._established is not None:
            self._establish()

    def _change_key(self, event: KeyReady | KeyPromotionDue | KeyExpired) -> None:
        if self._channel is None:
            return
        self._channel.take(event)
        _log.debug("%s %d", type(event).__name__, event.key_id)
        if self._established is None:
            self._establish()

    def _establish(self) -> None:
        if self._pushed is not None and self._agreement is not None:
            self._established = Established(self._pushed, self._agreement, self.address)
            self._changed.set()

    def _close_channel(self) -> None:
        self._farewell = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _finish(self, event: Ended) -> None:
        self._close_channel()
        if not self.ended.done():
            self.ended.set_result(event)
