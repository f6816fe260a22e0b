"""One session with one peer, without I/O: what clients and servers have in common.

A session is a pair of session ids, a protection, and key-states: the primary, whose control channel
lives, and the lame duck, whose data key still opens late packets. While the primary has no data key
yet there may be two lame ducks: the peer may seal with the older one until it answers the reset.
Both ends keep the ids and the protection for as long as the session lasts; each renegotiation
brings the next key id. `session_client` and `session_server` add who logs in and who pushes.

How to drive one: `receive` for each datagram; after that, and at `next_timeout`, call
`handle_timeout`, act upon `next_event` until it gives None, and send all of `packets_to_send`, on
which the peer may seal with a key. Stop when `is_finished`. `now` is Unix time, which must not
jump."""

from __future__ import annotations

import errno
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from ovpn_dco.errors import DcoError, InvalidArgument
from ovpn_dco.model import Address, KeySlot

from .errors import Refusal, SequenceExhausted, refused
from .keyevents import (
    DataFormat,
    HandshakeCompleted,
    KeyActive,
    KeyEvent,
    KeyExpired,
    KeyFailed,
    KeyMessageReceived,
    KeyPromotionDue,
    KeyStage,
    MessageReceived,
    NegotiationTimedOut,
    RenegotiationDue,
    ResetReceived,
    SoftReset,
)
from .keymaterial import next_key_id
from .keystate import KeyState
from .messages import Message, MessageReader, Refused, encode
from .ncp import Agreement
from .reliable import Outgoing, Receipt
from .role import Role
from .session_events import (
    ControlMessage,
    Ended,
    EndReason,
    KeyReady,
    RenegotiationFailed,
    SessionEvent,
)
from .session_settings import SessionSettings
from .wire import HEADER_SIZE, ControlPacket, Header, Opcode, decode_header
from .wrap.base import Wrapping
from .wrap.dynamic import EXPORTER_LABEL, EXPORTER_SIZE, DynamicTlsCrypt

__all__ = ["Session", "SessionSettings"]

EXIT_LINGER_S = 1.0
"""How long a client that leaves waits for the acknowledgement of its EXIT."""
LINGER_S = 5.0
"""How long a server answers a client that is on its way out."""
RECHECK_S = 1.0
# So many times as long, if what was said last has not arrived by then.
PATIENCE = 8

# What only the other end may send.
_FROM_PEER = {
    Role.CLIENT: frozenset({Opcode.HARD_RESET_SERVER_V2}),
    Role.SERVER: frozenset(
        {Opcode.HARD_RESET_CLIENT_V2, Opcode.HARD_RESET_CLIENT_V3, Opcode.CONTROL_WKC_V1}
    ),
}
_FROM_BOTH = frozenset({Opcode.SOFT_RESET_V1, Opcode.CONTROL_V1, Opcode.ACK_V1})


class Session(ABC):
    """The part that both roles share; make a `ClientSession` or a `ServerSession`.

    `receive` raises `ProtocolError` for packets that were dropped, with the `Refusal` to count;
    nothing else that a peer sends raises."""

    _role: Role

    def __init__(
        self,
        settings: SessionSettings,
        *,
        wrapping: Wrapping,
        session_id: bytes,
        remote_session_id: bytes | None,
        address: Address,
        after_cookie: bool = False,
        reset_opcode: Opcode | None = None,
    ) -> None:
        self._settings = settings
        self._session_id = session_id
        self._remote_session_id = remote_session_id
        self._address = address
        self._wrapping = DynamicTlsCrypt(wrapping, self._role)
        self._events: deque[SessionEvent] = deque()
        self._agreement: Agreement | None = None
        self._identity: tuple[bytes, ...] | None = None
        self._lame_ducks: list[KeyState] = []  # the older one first
        self._unpromoted: int | None = None
        self._renegotiation_wanted = False
        self._ended = self._finished = False
        self._finish_s = self._give_up_s = self._retry_s = 0.0
        self._primary = self._make_key_state(0, after_cookie, reset_opcode)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._session_id.hex()} {self._primary!r}>"

    @property
    def session_id(self) -> bytes:
        """Ours, eight bytes."""
        return self._session_id

    @property
    def remote_session_id(self) -> bytes | None:
        """The peer's; None until a client has the server's first packet."""
        return self._remote_session_id

    @property
    def address(self) -> Address:
        """Where packets go, and the only place from which control packets are taken."""
        return self._address

    @property
    def agreement(self) -> Agreement | None:
        """How the data channel works, once that is known."""
        return self._agreement

    @property
    def has_arrived(self) -> bool:
        """Whether the peer has acknowledged all that was sent."""
        return self._primary.settled

    @property
    def is_finished(self) -> bool:
        """Nothing is left to send or to wait for."""
        return self._finished

    def move(self, address: Address) -> None:
        """The peer has another address, as an authenticated data packet proved. Control packets
        prove no such thing: anybody can send a recorded one first."""
        self._address = address

    # Packets

    def receive(self, data: bytes, address: Address, now: float) -> Receipt:
        """Takes one datagram from `address`; a repeated one is as good as a new one.

        Raises `ProtocolError` if it was dropped without any effect."""
        if self._finished:
            raise refused(Refusal.NOT_LISTENING)
        self._check_header(decode_header(data), address)
        packet = self._wrapping.unwrap(data, now)
        self._check_echo(packet)
        self._meet(packet, now)
        receipt = self._dispatch(packet, now)
        self._pump(now)
        return receipt

    def packets_to_send(self, now: float) -> list[bytes]:
        """The datagrams that must go to `address` now."""
        if self._finished:
            return []
        try:
            packets = [self._wrap(packet, now) for packet in self._primary.packets_to_send(now)]
        except SequenceExhausted as error:
            self._end(Ended(reason=EndReason.EXHAUSTED, error=error), now)
            self._finished = True
            return []
        if self._ended and now >= self._finish_s:
            self._finish_or_wait(now)
        return packets

    def next_timeout(self) -> float | None:
        """When `handle_timeout` and `packets_to_send` must be called at the latest; -inf: at once;
        None: not before something arrives, or it is finished."""
        if self._finished:
            return None
        earliest = min([time for time in self._deadlines() if time is not None], default=math.inf)
        return None if earliest == math.inf else earliest

    def handle_timeout(self, now: float) -> None:
        """Does what is due by `now`; harmless if that is nothing."""
        for state in self._key_states():
            state.handle_timeout(now)
        self._pump(now)
        if not self._ended:
            self._handle_deadline(now)

    def next_event(self) -> SessionEvent | None:
        """What happened next, in order; None: nothing more."""
        return self._events.popleft() if self._events else None

    # What the owner does

    def renegotiate(self) -> None:
        """New keys as soon as the key-state in use allows it: when all that it has to say has
        arrived, or some time after it failed. `handle_timeout` starts it."""
        self._renegotiation_wanted = True

    def renew(self) -> None:
        """The same because the key that seals has carried enough: nothing if the next one waits for
        its promotion, or is on its way."""
        if self._primary.derived and self._unpromoted is None:
            self.renegotiate()

    def send(self, message: Message, now: float) -> None:
        """Sends a control message, CR_RESPONSE or INFO for instance. TextRefused for one that
        cannot be sent, `InvalidArgument` (EINVAL) if no key-state could carry it."""
        if self._ended:
            raise InvalidArgument(errno.EINVAL, "the session has ended")
        self._send(message, now)

    def abandon(self, reason: EndReason) -> None:
        """Ends without a word, because nobody is there to hear it."""
        if not self._ended:
            self._ended = True
            self._events.append(Ended(reason=reason))
        self._finished = True

    # Steps

    def _deadlines(self) -> list[float | None]:
        times = [state.next_timeout() for state in self._key_states()]
        if self._ended:
            return [*times, self._finish_s]
        times.append(self._next_deadline())
        if self._renegotiation_wanted:
            times.append(self._rotation_due())
        return times

    def _key_states(self) -> list[KeyState]:
        return [self._primary, *self._lame_ducks]

    def _make_key_state(
        self, key_id: int, after_cookie: bool = False, reset_opcode: Opcode | None = None
    ) -> KeyState:
        # Message 2 stands for any ordinary one: a client key makes room for itself.
        overhead = self._wrapping.overhead_of(key_id=key_id, message_id=2)
        return KeyState(
            role=self._role,
            key_id=key_id,
            tls=self._settings.tls.current(),
            random_bytes=self._settings.random_bytes,
            timers=self._settings.timers,
            max_size=self._settings.max_packet - HEADER_SIZE - overhead,
            after_cookie=after_cookie,
            reset_opcode=reset_opcode,
        )

    def _check_header(self, header: Header, address: Address) -> None:
        """What can be seen without keys; it comes first because it costs nothing."""
        if address != self._address and _place(address) != _place(self._address):
            raise refused(Refusal.SESSION_ADDRESS)
        if header.opcode not in _FROM_BOTH and header.opcode not in _FROM_PEER[self._role]:
            raise refused(Refusal.UNEXPECTED_OPCODE, header.opcode.name)
        if self._remote_session_id not in (None, header.session_id):
            raise refused(Refusal.SESSION_UNKNOWN)

    def _check_echo(self, packet: ControlPacket) -> None:
        """Acknowledgements of another session must not count for this one."""
        if packet.remote_session_id not in (None, self._session_id):
            raise refused(Refusal.SESSION_ECHO)

    def _dispatch(self, packet: ControlPacket, now: float) -> Receipt:
        if packet.opcode is Opcode.SOFT_RESET_V1 and not self._ended:
            self._judge(packet, now)
        if packet.key_id != self._primary.key_id:
            raise refused(Refusal.KEY_ID_NOT_CURRENT, str(packet.key_id))
        return self._primary.receive(
            opcode=packet.opcode,
            message_id=packet.message_id,
            acks=packet.acks,
            payload=packet.payload,
            now=now,
        )

    def _judge(self, packet: ControlPacket, now: float) -> None:
        # Only message 0 is a reset, and one that begins has nothing to acknowledge yet: a packet
        # that the new key-state would refuse must not bring it about.
        verdict = self._primary.judge_soft_reset(packet.key_id)
        begins = verdict is not SoftReset.ANSWER
        if verdict is SoftReset.STALE or packet.message_id or (begins and packet.acks):
            raise refused(Refusal.UNEXPECTED_OPCODE, packet.opcode.name)
        if verdict is SoftReset.PROOF:
            self._primary.conclude(now)
            self._pump(now)
            verdict = self._primary.judge_soft_reset(packet.key_id)
        if verdict is SoftReset.ROTATE:
            if not self._primary.derived:
                self._primary.fail(DcoError(errno.ECONNRESET, "the peer gave it up"))
                self._pump(now)
            self._rotate(packet.key_id, now)

    def _wrap(self, packet: Outgoing, now: float) -> bytes:
        # The echoed id goes with acknowledgements, and so does the knowledge of it.
        remote = self._remote_session_id if packet.acks else None
        control = ControlPacket(
            packet.opcode,
            self._primary.key_id,
            self._session_id,
            packet.acks,
            remote,
            packet.message_id,
            packet.payload,
        )
        return self._wrapping.wrap(control, now)

    def _rotation_due(self) -> float:
        """When a renegotiation that is wanted may begin; inf: something must arrive before."""
        state = self._primary
        if state.failed:
            return self._retry_s
        ready = state.stage is KeyStage.ACTIVE and state.derived and state.settled
        return -math.inf if ready else math.inf

    def _next_key_id(self) -> int:
        """The peer may not know about one that failed before it said anything: that one again."""
        key_id = self._primary.key_id
        unknown = self._primary.failed and not self._primary.heard
        return key_id if unknown else next_key_id(key_id)

    def _rotate(self, key_id: int, now: float) -> None:
        """`key_id` begins, and the primary becomes a lame duck. One that failed before it had a
        data key is forgotten instead. No key comes or goes, nor seals, before the peer is heard."""
        if self._ended:
            return
        self._renegotiation_wanted = False
        if self._primary.derived:
            self._primary.retire(now)
            self._lame_ducks.append(self._primary)
        self._primary = self._make_key_state(key_id)
        self._primary.start(now)

    # Events of key-states

    def _pump(self, now: float) -> None:
        while (event := self._next_key_event()) is not None:
            if not self._ended:
                self._take(event, now)
        if self._renegotiation_wanted and not self._ended and now >= self._rotation_due():
            self._rotate(self._next_key_id(), now)

    def _next_key_event(self) -> KeyEvent | None:
        for state in self._key_states():
            if (event := state.next_event()) is not None:
                return event
        return None

    def _take(self, event: KeyEvent, now: float) -> None:
        match event:
            case ResetReceived():
                # Whoever negotiates the next key has the one before.
                self._promote()
            case HandshakeCompleted():
                self._greet(now)
            case KeyMessageReceived():
                self._take_key_message(event, now)
            case KeyActive():
                self._activate(now)
            case MessageReceived():
                for message in MessageReader().receive(event.data + b"\0"):
                    if not self._ended:
                        self._take_message(message, now)
            case KeyPromotionDue(key_id) if key_id == self._unpromoted:
                self._promote()
            case RenegotiationDue():
                self._renegotiation_wanted = True
            case KeyExpired():
                self._expire(event, now)
            case KeyFailed():
                self._fail(event, now)

    def _promote(self) -> None:
        if self._unpromoted is not None:
            self._events.append(KeyPromotionDue(self._unpromoted))
            self._unpromoted = None

    def _expire(self, event: KeyExpired, now: float) -> None:
        self._lame_ducks = [state for state in self._lame_ducks if state.key_id != event.key_id]
        self._promote()
        self._events.append(event)
        if self._primary.failed and not self._lame_ducks:
            self._end(Ended(reason=EndReason.KEY_EXPIRED), now)

    def _fail(self, event: KeyFailed, now: float) -> None:
        """A renegotiation may fail: the key before it works on, and there will be another try."""
        if self._lame_ducks:
            self._events.append(RenegotiationFailed(key_id=event.key_id, error=event.error))
            # By then the peer has given up, too, so that it cannot take the next reset for a PROOF.
            self._retry_s = now + self._settings.timers.hand_window_s
            self._renegotiation_wanted = True
            return
        late = isinstance(event.error, NegotiationTimedOut)
        reason = EndReason.NEGOTIATION_TIMEOUT if late else EndReason.NEGOTIATION_FAILED
        self._end(Ended(reason=reason, error=event.error), now)

    def _has_changed(self) -> bool:
        """Whether the peer's certificate is another than at key id 0."""
        peer = self._primary.peer
        chain = peer.chain if peer else ()
        if self._identity is None:
            self._identity = chain
        return chain != self._identity

    def _make_key(self) -> None:
        """Derives the data key of the primary and hands it out."""
        agreement = self._agreement
        assert agreement is not None
        assert self._remote_session_id is not None
        ids = (self._session_id, self._remote_session_id)
        key_id = self._primary.key_id
        key = self._primary.derive_data_key(
            agreement.cipher,
            session_ids=self._of_client_first(ids) if not agreement.use_ekm else None,
            data_format=DataFormat.EPOCH if agreement.epoch else DataFormat.CLASSIC,
        )
        if key_id == 0 and agreement.dynamic_tls_crypt:
            exported = self._primary.export_keying_material(EXPORTER_LABEL, EXPORTER_SIZE)
            self._wrapping.install(exported)
        if key_id:
            self._make_room()
            self._unpromoted = key_id
        slot = KeySlot.SECONDARY if key_id else KeySlot.PRIMARY
        self._events.append(KeyReady(key_id=key_id, slot=slot, key=key))

    def _make_room(self) -> None:
        """For the next data key: by now both ends seal with the one before it."""
        for state in self._lame_ducks[:-1]:
            self._events.append(KeyExpired(state.key_id))
        del self._lame_ducks[:-1]

    def _of_client_first(self, ids: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        return ids if self._role is Role.CLIENT else ids[::-1]

    def _send(self, message: Message, now: float) -> None:
        self._primary.send_message(encode(message).removesuffix(b"\0"), now)

    # The end

    def _end(self, event: Ended, now: float, linger_s: float = 0.0) -> None:
        """The last event; packets go on for `linger_s` seconds."""
        if self._ended:
            return
        self._ended = True
        self._finish_s = now + linger_s
        self._give_up_s = now + PATIENCE * linger_s
        self._events.append(event)

    def _finish_or_wait(self, now: float) -> None:
        """What says why the session ends should arrive, however many packets are lost."""
        waits = not self._primary.failed and not self._primary.settled
        if waits and now < self._give_up_s:
            self._finish_s = now + RECHECK_S
        else:
            self._finished = True

    # What the roles add

    @abstractmethod
    def _meet(self, packet: ControlPacket, now: float) -> None:
        """A packet that may be the first of the peer."""

    @abstractmethod
    def _greet(self, now: float) -> None:
        """TLS is done: time to log in, or to judge who is there."""

    @abstractmethod
    def _take_key_message(self, event: KeyMessageReceived, now: float) -> None:
        """The peer's half of key method 2."""

    @abstractmethod
    def _activate(self, now: float) -> None:
        """Both halves are there."""

    @abstractmethod
    def _next_deadline(self) -> float | None:
        """When this role waits no longer; None: it does not wait."""

    @abstractmethod
    def _handle_deadline(self, now: float) -> None:
        """Gives up what was waited for, if it is time."""

    def _take_message(self, message: Message | Refused, now: float) -> None:
        self._events.append(ControlMessage(message=message))

    def _guarded(self, step: Callable[[], None], now: float) -> None:
        """Runs `step`; an agreement that cannot be had ends the session."""
        try:
            step()
        except DcoError as error:
            self._end(Ended(reason=EndReason.DISAGREEMENT, error=error), now)


def _place(address: Address) -> tuple[str | int, ...]:
    """Without the flow label of IPv6, which a peer may change."""
    return address[:2] + address[3:]
