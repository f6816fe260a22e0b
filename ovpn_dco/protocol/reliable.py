"""Reliable, ordered messages of one key-state over datagrams that get lost, doubled and mixed up.

Messages are numbered from 0 for each key id. At most six are in flight, each is sent again until
its acknowledgement arrives, and acknowledgements ride on messages or go alone as ACK_V1. The same
rules hold over TCP. No clock and no I/O: the caller says what time it is, in seconds, and wraps
what `packets_to_send` gives, anew for each transmission. Source: the OpenVPN protocol's control
channel, as docs/architecture.md describes it."""

from __future__ import annotations

import enum
import errno
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ovpn_dco.errors import InvalidArgument, LimitReached, MessageTooBig

from .errors import Refusal, refused
from .wire import MAX_ACKS, SESSION_ID_SIZE, Opcode

__all__ = [
    "Incoming",
    "Outgoing",
    "Receipt",
    "ReliableLayer",
    "ReliableReceiver",
    "ReliableSender",
]

# Peers exist that store eight messages beyond the one they wait for, so six in flight always fit.
SEND_WINDOW = 6
RECEIVE_WINDOW = 12
ACKS_ON_MESSAGE = 4
ACKS_PER_PACKET = MAX_ACKS
# A lost acknowledgement brings a duplicate, which is acknowledged again; this many may wait.
PENDING_ACKS = 2 * RECEIVE_WINDOW
SKIPS_BEFORE_RESEND = 3
FIRST_TIMEOUT_S = 2.0
# Fifteen attempts fit into a hand-window of a minute; with doubling for ever it would be five, and
# on a link that loses every fourth packet one handshake in a hundred would fail.
LONGEST_TIMEOUT_S = 4.0
# Nobody sends control packets above an Ethernet frame; a store of twelve then stays below 50 KB.
PAYLOAD_LIMIT = 4096
LAST_ID = 0xFFFFFFFF

MESSAGE_ID_SIZE = 4
ACK_SIZE = 4
ACK_COUNT_SIZE = 1


class Receipt(enum.Enum):
    """What became of a packet that was taken."""

    STORED = "new message"
    DUPLICATE = "message that came before, to be acknowledged again"
    ACKS_ONLY = "acknowledgements alone"


class Outgoing(NamedTuple):
    """A packet to wrap and send: with `message_id` None an ACK_V1, whose payload is empty."""

    opcode: Opcode
    message_id: int | None
    acks: tuple[int, ...]
    payload: bytes


class Incoming(NamedTuple):
    """A message that was delivered in order."""

    opcode: Opcode
    message_id: int
    payload: bytes


@dataclass
class _Sent:
    """A message in the send window. `next_s` is when it is due, `skipped` how many later ones were
    acknowledged since it left, `reserve` the bytes that the caller appends to it."""

    opcode: Opcode
    payload: bytes
    reserve: int
    timeout_s: float
    next_s: float = -math.inf
    skipped: int = 0
    attempts: int = 0


class ReliableSender:
    """The send window: keeps each message until it is acknowledged."""

    def __init__(
        self,
        *,
        first_id: int = 0,
        first_timeout_s: float = FIRST_TIMEOUT_S,
        longest_timeout_s: float = LONGEST_TIMEOUT_S,
    ) -> None:
        if not 0 < first_timeout_s <= longest_timeout_s:
            raise InvalidArgument(errno.EINVAL, "timeouts must be positive and in order")
        self._next_id = first_id
        self._first_timeout_s = first_timeout_s
        self._longest_timeout_s = longest_timeout_s
        self._sent: dict[int, _Sent] = {}

    @property
    def next_id(self) -> int:
        """The id that the next message gets."""
        return self._next_id

    @property
    def room(self) -> int:
        """How many messages the window takes now: the ids in flight span at most six."""
        return min(self.oldest_id + SEND_WINDOW, LAST_ID + 1) - self._next_id

    @property
    def unacknowledged(self) -> int:
        """Messages that the peer may not have yet."""
        return len(self._sent)

    @property
    def oldest_id(self) -> int:
        """The first id that was not acknowledged; all below it were."""
        return next(iter(self._sent), self._next_id)

    def add(self, opcode: Opcode, payload: bytes, reserve: int = 0) -> int:
        """Takes a message and gives its id; LimitReached (ENOBUFS) without `room`."""
        if self.room <= 0:
            raise LimitReached(errno.ENOBUFS, "send window is full")
        message_id = self._next_id
        self._sent[message_id] = _Sent(opcode, payload, reserve, self._first_timeout_s)
        self._next_id += 1
        return message_id

    def acknowledge(self, acks: Iterable[int]) -> None:
        """Forgets messages that arrived, and counts that earlier ones were skipped.

        Repeated acknowledgements are usual, and count nothing: only the first one says that the
        path delivered something since."""
        for ack in acks:
            if self._sent.pop(ack, None) is None:
                continue
            for message_id, sent in self._sent.items():
                if message_id < ack and sent.attempts:
                    sent.skipped += 1

    def make_due(self) -> None:
        """Everything is due at once, with timeouts as in the beginning: the peer just woke up."""
        for sent in self._sent.values():
            sent.next_s = -math.inf
            sent.timeout_s = self._first_timeout_s

    def due(self, now: float) -> list[tuple[Opcode, int, bytes, int]]:
        """(opcode, message id, payload, reserve) of all that is due now, lowest id first.

        A message that timed out waits twice as long the next time; one that others overtook is
        known to be lost on a path that works, so its timeout stays."""
        ready = []
        for message_id, sent in self._sent.items():
            timed_out = now >= sent.next_s
            if not timed_out and sent.skipped < SKIPS_BEFORE_RESEND:
                continue
            sent.next_s = now + sent.timeout_s
            if timed_out:
                sent.timeout_s = min(2 * sent.timeout_s, self._longest_timeout_s)
            sent.skipped = 0
            sent.attempts += 1
            ready.append((sent.opcode, message_id, sent.payload, sent.reserve))
        return ready

    def next_timeout(self) -> float | None:
        """When `due` gives something, in the caller's seconds; -inf: at once, None: never."""
        earliest = None
        for sent in self._sent.values():
            if sent.skipped >= SKIPS_BEFORE_RESEND:
                return -math.inf
            if earliest is None or sent.next_s < earliest:
                earliest = sent.next_s
        return earliest

    def clear(self) -> None:
        """Forgets all messages; nobody waits for them any more."""
        self._sent.clear()


class ReliableReceiver:
    """The receive window: stores what is ahead of its turn, and what must be acknowledged."""

    def __init__(self, *, first_id: int = 0) -> None:
        self._next_id = first_id
        self._stored: dict[int, Incoming] = {}
        self._pending: deque[int] = deque()
        # The latest first: they fill packets that have room, so that a lost one hurts less.
        self._recent: deque[int] = deque(maxlen=ACKS_PER_PACKET)

    @property
    def next_id(self) -> int:
        """The id of the next message to be delivered."""
        return self._next_id

    @property
    def pending_acks(self) -> int:
        """How many acknowledgements wait for a packet."""
        return len(self._pending)

    def check(self, message_id: int, payload: bytes) -> None:
        """Raises `ProtocolError` for a message that cannot be stored, and so not acknowledged."""
        if message_id >= self._next_id + RECEIVE_WINDOW:
            raise refused(Refusal.MESSAGE_ID_AHEAD, str(message_id))
        if len(payload) > PAYLOAD_LIMIT:
            raise refused(Refusal.OVERSIZED, f"payload of {len(payload)} bytes")

    def receive(self, opcode: Opcode, message_id: int, payload: bytes) -> Receipt:
        """Stores a message that `check` lets pass, and sees that it is acknowledged."""
        if message_id not in self._pending and len(self._pending) < PENDING_ACKS:
            self._pending.append(message_id)
        if message_id < self._next_id or message_id in self._stored:
            return Receipt.DUPLICATE
        self._stored[message_id] = Incoming(opcode, message_id, bytes(payload))
        return Receipt.STORED

    def peek(self) -> Incoming | None:
        """The next message in order if it is here; it stays."""
        return self._stored.get(self._next_id)

    def deliver(self) -> Incoming | None:
        """The next message in order if it is here; the window moves on."""
        message = self._stored.pop(self._next_id, None)
        if message is not None:
            self._next_id += 1
        return message

    def take_acks(self, fresh: int, total: int) -> tuple[int, ...]:
        """At most `fresh` that wait, filled up to `total` with those that were sent lately."""
        for _ in range(min(fresh, total, len(self._pending))):
            ack = self._pending.popleft()
            if ack in self._recent:
                self._recent.remove(ack)
            self._recent.appendleft(ack)
        return tuple(self._recent)[:total]


class ReliableLayer:
    """Both windows of one key-state.

    `max_size` bytes is what the caller has for everything behind the sender's session id:
    acknowledgements, message id, payload. No packet of `packets_to_send` exceeds it.
    `ack_slots` is how many acknowledgements a packet may carry; four for a client without wrapping
    and key export, since servers exist that drop packets with more. A server that answered the
    reset by cookie starts with `first_send_id=1, first_receive_id=1`."""

    def __init__(
        self,
        *,
        max_size: int = 1150,
        ack_slots: int = ACKS_PER_PACKET,
        first_send_id: int = 0,
        first_receive_id: int = 0,
        first_timeout_s: float = FIRST_TIMEOUT_S,
    ) -> None:
        if not ACKS_ON_MESSAGE <= ack_slots <= ACKS_PER_PACKET:
            raise InvalidArgument(errno.EINVAL, "packets carry four to eight acknowledgements")
        self._max_size = max_size
        self._ack_slots = ack_slots
        if self.payload_limit < 1:
            raise InvalidArgument(errno.EINVAL, f"no packet fits into {max_size} bytes")
        self._sender = ReliableSender(
            first_id=first_send_id,
            first_timeout_s=first_timeout_s,
            longest_timeout_s=max(first_timeout_s, LONGEST_TIMEOUT_S),
        )
        self._receiver = ReliableReceiver(first_id=first_receive_id)

    @property
    def payload_limit(self) -> int:
        """Bytes that a message may have, so that four acknowledgements always fit beside it."""
        return min(self._max_size - self._head(ACKS_ON_MESSAGE) - MESSAGE_ID_SIZE, PAYLOAD_LIMIT)

    @property
    def room(self) -> int:
        """How many messages `send` takes now."""
        return self._sender.room

    @property
    def next_send_id(self) -> int:
        """The id that the next message gets."""
        return self._sender.next_id

    @property
    def oldest_unacknowledged(self) -> int:
        """The first id that the peer did not acknowledge; it has all below."""
        return self._sender.oldest_id

    @property
    def unacknowledged(self) -> int:
        """Messages that were taken and not acknowledged yet."""
        return self._sender.unacknowledged

    @property
    def pending_acks(self) -> int:
        """Acknowledgements that wait for a packet."""
        return self._receiver.pending_acks

    def send(self, payload: bytes, opcode: Opcode, *, reserve: int = 0) -> int:
        """Takes a message and gives its id; `reserve` bytes of the packet stay free for what the
        caller appends. LimitReached (ENOBUFS) without `room`; MessageTooBig (EMSGSIZE) if both
        together exceed `payload_limit`, except that an empty payload may always go."""
        if payload and len(payload) + reserve > self.payload_limit:
            raise MessageTooBig(errno.EMSGSIZE, f"control message of {len(payload)} bytes")
        return self._sender.add(opcode, bytes(payload), reserve)

    def receive(
        self,
        *,
        opcode: Opcode,
        message_id: int | None,
        acks: Sequence[int],
        payload: bytes,
    ) -> Receipt:
        """Takes a packet that was unwrapped; `message_id` is None for ACK_V1.

        Raises `ProtocolError` for a message that cannot be stored; then its acknowledgements do not
        count, either."""
        if message_id is not None:
            self._receiver.check(message_id, payload)
        self._sender.acknowledge(acks)
        if message_id is None:
            return Receipt.ACKS_ONLY
        return self._receiver.receive(opcode, message_id, payload)

    def peek(self) -> Incoming | None:
        """The next message in order, which stays; None while it is missing."""
        return self._receiver.peek()

    def deliver(self) -> Incoming | None:
        """The next message in order; None while it is missing."""
        return self._receiver.deliver()

    def packets_to_send(self, now: float) -> list[Outgoing]:
        """Messages that are due, with acknowledgements on them, then ACK_V1 for what is left."""
        packets = []
        for opcode, message_id, payload, reserve in self._sender.due(now):
            room = self._max_size - len(payload) - reserve - MESSAGE_ID_SIZE
            acks = self._receiver.take_acks(ACKS_ON_MESSAGE, self._acks_within(room))
            packets.append(Outgoing(opcode, message_id, acks, payload))
        while self._receiver.pending_acks:
            slots = self._acks_within(self._max_size)
            acks = self._receiver.take_acks(slots, slots)
            packets.append(Outgoing(Opcode.ACK_V1, None, acks, b""))
        return packets

    def make_due(self) -> None:
        """Sends everything in flight again at once: the first packet of the peer has come."""
        self._sender.make_due()

    def next_timeout(self) -> float | None:
        """When `packets_to_send` has something; -inf: at once, None: not before something comes."""
        if self._receiver.pending_acks:
            return -math.inf
        return self._sender.next_timeout()

    def stop_sending(self) -> None:
        """Forgets all messages in flight; acknowledgements go on."""
        self._sender.clear()

    @staticmethod
    def _head(acks: int) -> int:
        return ACK_COUNT_SIZE + acks * ACK_SIZE + (SESSION_ID_SIZE if acks else 0)

    def _acks_within(self, size: int) -> int:
        fitting = (size - self._head(1)) // ACK_SIZE + 1
        return max(0, min(fitting, self._ack_slots))
