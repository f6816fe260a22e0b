"""The life of one key id: reset, TLS handshake, key method 2, data keys, and the end.

A session has one `KeyState` for each negotiation. The last one is the primary, others are lame
ducks whose keys still open late packets. It wraps what `packets_to_send` gives and unwraps what it
hands to `receive`, and never looks into TLS.

    client                                       server
    start() -> reset                             start() -> reset
    send_key_message(...) any time before        KeyMessageReceived -> authenticate
      TLS is done: it leaves with Finished         -> send_key_message(...)
    KeyActive -> derive_data_key(...)            KeyActive -> derive_data_key(...)

How two ends that renegotiate at the same time find together: both move on to `next_key_id` of the
same id, so that each one's SOFT_RESET_V1 is the answer to the other's. `judge_soft_reset` tells
a request from an answer. TLS roles never change, so the VPN client starts the handshake in every
case. Times are the caller's seconds, of any clock that does not jump."""

from __future__ import annotations

import errno
import math
from collections import deque
from collections.abc import Callable, Sequence

from ovpn_dco.errors import DcoError, InvalidArgument, LimitReached, MessageTooBig
from ovpn_dco.model import Cipher, DataKey, EpochKey

from . import keymaterial
from .errors import Refusal, refused
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
    KeyTimers,
    MessageReceived,
    NegotiationTimedOut,
    RenegotiationDue,
    ResetReceived,
    SoftReset,
)
from .keymaterial import KeyMessage, KeyMessageError, KeySource, next_key_id
from .places import has_place, reset_of
from .reliable import Outgoing, Receipt, ReliableLayer
from .role import Role
from .tls import PeerCertificate, TlsContext, TlsEndpoint, TlsError
from .wire import Opcode

__all__ = ["DataFormat", "KeyStage", "KeyState", "KeyTimers", "NegotiationTimedOut", "SoftReset"]

MESSAGE_LIMIT = 1024
QUEUED_MESSAGES = 64
# A server renegotiates up to a tenth early, so that its clients do not come all at once.
JITTER_PART = 10


_NEGOTIATING = (KeyStage.PRE_START, KeyStage.START, KeyStage.SENT_KEY, KeyStage.GOT_KEY)
_LISTENING = (*_NEGOTIATING, KeyStage.ACTIVE)
_OPENING = (KeyStage.ACTIVE, KeyStage.LAME_DUCK)


class KeyState:
    """One key id of a session, from its reset to its end.

    `random_bytes(n)` gives n random bytes. `max_size` is the room in bytes behind the sender's
    session id, once header and wrapping are taken off. `after_cookie` is for a UDP server whose
    reset was answered by cookie: message 0 of both sides is done. `reset_opcode` is 10 for a
    client with tls-crypt-v2, and follows from role and key id otherwise.

    Call `next_event` until None and `packets_to_send` after each other call, and `handle_timeout`
    at `next_timeout`. What the peer sends raises nothing but `ProtocolError`, for a packet that
    changed nothing; a failed negotiation is the event `KeyFailed`, after which `packets_to_send`
    gives the TLS alert once."""

    def __init__(
        self,
        *,
        role: Role,
        key_id: int,
        tls: TlsContext,
        random_bytes: Callable[[int], bytes],
        timers: KeyTimers | None = None,
        max_size: int = 1150,
        ack_slots: int = 8,
        after_cookie: bool = False,
        reset_opcode: Opcode | None = None,
    ) -> None:
        if not 0 <= key_id <= 7:
            raise InvalidArgument(errno.EINVAL, "key ids have three bits", attribute="key_id")
        if tls.settings.role is not role:
            raise InvalidArgument(errno.EINVAL, "TLS is for the other role", attribute="tls")
        self.role = role
        self.key_id = key_id
        self._timers = timers or KeyTimers()
        self._random_bytes = random_bytes
        self._stage = KeyStage.INITIAL
        self._events: deque[KeyEvent] = deque()
        self._tls = TlsEndpoint(tls)
        first = 1 if after_cookie else 0
        self._after_cookie = after_cookie
        self._reliable = ReliableLayer(
            max_size=max_size,
            ack_slots=ack_slots,
            first_send_id=first,
            first_receive_id=first,
            first_timeout_s=self._timers.tls_timeout_s,
        )
        self._reset_opcode = reset_opcode or reset_of(role, key_id)
        self._client_key_size = 0
        self._source: KeySource | None = KeySource.generate(role, random_bytes)
        self._peer_source: KeySource | None = None
        self._key_message: bytes | None = None
        self._sent_key = self._got_key = self._derived = False
        self._heard = self._greeted = self._said_farewell = False
        self._queued: deque[bytes] = deque()
        self._started_s = self._handshake_end_s = math.inf
        self._promote_s = self._renegotiate_s = self._must_die_s = math.inf

    def __repr__(self) -> str:
        return f"<KeyState {self.key_id} {self.role.value} {self._stage.name}>"

    @property
    def stage(self) -> KeyStage:
        """Where it stands."""
        return self._stage

    @property
    def failed(self) -> bool:
        """Whether it was given up; a data key that it has is good all the same."""
        return self._stage is KeyStage.FAILED

    @property
    def heard(self) -> bool:
        """Whether the peer said anything about this key id, so that it knows it."""
        return self._heard

    @property
    def exchanged(self) -> bool:
        """Whether both key messages went over the wire, so that data keys can be derived."""
        return self._sent_key and self._got_key

    @property
    def settled(self) -> bool:
        """Whether all that was handed in has arrived at the peer, and the peer was told of all
        that arrived here: without the last acknowledgement it would wait for it."""
        return not self._queued and self._all_arrived() and not self._reliable.pending_acks

    @property
    def derived(self) -> bool:
        """Whether `derive_data_key` was called."""
        return self._derived

    @property
    def peer(self) -> PeerCertificate | None:
        """The certificate of the peer once TLS is done; a renegotiation must repeat its chain."""
        return self._tls.peer

    # What the session does

    def start(self, now: float) -> None:
        """Begins: the reset will be sent, and the hand-window runs."""
        if self._stage is not KeyStage.INITIAL:
            raise InvalidArgument(errno.EINVAL, "key-state was started before")
        self._stage = KeyStage.PRE_START
        self._started_s = now
        self._handshake_end_s = now + self._timers.hand_window_s
        if not self._after_cookie:
            self._reliable.send(b"", self._reset_opcode)
        self._step(now)

    def append_client_key(self, size: int) -> None:
        """The server wants the wrapped client key of `size` bytes again: message 1 of key id 0
        gets opcode 11 in `packets_to_send`, and leaves room for what the session appends. To be
        called for `ResetReceived`, before packets are taken."""
        if self.key_id or self._reliable.next_send_id != 1:
            raise InvalidArgument(errno.EINVAL, "only message 1 of key id 0 carries a client key")
        self._client_key_size = size

    def send_key_message(
        self,
        *,
        now: float,
        options: str,
        username: str = "",
        password: str = "",
        peer_info: str = "",
    ) -> None:
        """Hands in our key method 2 message; the random bytes are added here. The client's leaves
        as soon as TLS is done, the server's at once, after `KeyMessageReceived` only."""
        if self._key_message is not None or self._source is None:
            raise InvalidArgument(errno.EINVAL, "key message was handed in before, or too late")
        if self.role is Role.SERVER and not self._got_key:
            raise InvalidArgument(errno.EINVAL, "the client's key message comes first")
        message = KeyMessage(
            source=self._source,
            options=options,
            username=username,
            password=password,
            peer_info=peer_info,
        )
        self._key_message = keymaterial.encode_key_message(message, self.role)
        self._step(now)

    def send_message(self, message: bytes, now: float) -> None:
        """Sends a control message, PUSH_REQUEST for instance, as one TLS record with a NUL. It
        waits until the key-state is ACTIVE."""
        if len(message) >= MESSAGE_LIMIT:
            raise MessageTooBig(errno.EMSGSIZE, f"control message of {len(message)} bytes")
        if not message or b"\0" in message:
            raise InvalidArgument(errno.EINVAL, "control message is empty or contains a NUL")
        if self._stage not in _LISTENING:
            raise InvalidArgument(errno.EINVAL, f"key-state is {self._stage.name}")
        if len(self._queued) >= QUEUED_MESSAGES:
            raise LimitReached(errno.ENOBUFS, "too many control messages wait")
        self._queued.append(message + b"\0")
        self._step(now)

    def derive_data_key(
        self,
        cipher: Cipher,
        *,
        session_ids: tuple[bytes, bytes] | None = None,
        data_format: DataFormat = DataFormat.CLASSIC,
        future_epochs: int = 4,
    ) -> DataKey | EpochKey:
        """The data key of this side, once: for key id 0 when the options were pushed, later right
        at `KeyActive`. It comes from the TLS exporter, or with `session_ids` (the client's, the
        server's) out of the key messages, for peers without `tls-ekm`."""
        if not self.exchanged or self._derived or self._stage not in _LISTENING:
            raise InvalidArgument(errno.EINVAL, "no key messages yet, or keys were derived before")
        if session_ids is None:
            block = keymaterial.key_block_from_tls(self._tls.export_keying_material)
        else:
            block = self._block_from_messages(*session_ids)
        key: DataKey | EpochKey
        if data_format is DataFormat.EPOCH:
            key = keymaterial.epoch_key(
                block, self.role, key_id=self.key_id, cipher=cipher, future_epochs=future_epochs
            )
        else:
            key = keymaterial.data_key(block, self.role, key_id=self.key_id, cipher=cipher)
        self._derived = True
        self._source = self._peer_source = None
        return key

    def export_keying_material(self, label: bytes, size: int) -> bytes:
        """Of this key-state's TLS session; key id 0 gives the key of dynamic tls-crypt."""
        return self._tls.export_keying_material(label, size)

    def judge_soft_reset(self, key_id: int) -> SoftReset:
        """What a SOFT_RESET_V1 with this key id means while this is the primary key-state.

        A repeated reset of the current id must not begin another negotiation, and only the next id
        does; or the same, where both tried it and neither heard of the other. A peer that begins
        the next one while this one still goes on here has completed it, if it can have all of ours:
        then it does not acknowledge this key id any more. If it cannot, it gave this one up."""
        if key_id == self.key_id and key_id > 0:
            unknown = self.failed and not self._heard
            return SoftReset.ROTATE if unknown else SoftReset.ANSWER
        if key_id != next_key_id(self.key_id):
            return SoftReset.STALE
        if self._stage in _NEGOTIATING:
            if self.exchanged and not self._tls.output_size:
                return SoftReset.PROOF
            return SoftReset.ROTATE if self.key_id else SoftReset.STALE
        ready = self.failed or (self._stage is KeyStage.ACTIVE and self._derived)
        return SoftReset.ROTATE if ready else SoftReset.STALE

    def conclude(self, now: float) -> None:
        """Everything has arrived, as `SoftReset.PROOF` says, whatever was acknowledged."""
        self._reliable.stop_sending()
        self._step(now)

    def retire(self, now: float) -> None:
        """Becomes a lame duck: the control channel of this key id is over, its data key opens
        packets until `KeyExpired`, after the tran-window."""
        if self._stage is not KeyStage.ACTIVE and not (self._derived and self.failed):
            raise InvalidArgument(errno.EINVAL, f"key-state is {self._stage.name}")
        self._stage = KeyStage.LAME_DUCK
        self._must_die_s = now + self._timers.tran_window_s
        self._tls.release()
        self._forget()

    def fail(self, error: DcoError) -> None:
        """Gives up, for a reason of the session's or our own. Does nothing if it is over."""
        if self._stage in (KeyStage.EXPIRED, KeyStage.FAILED):
            return
        # An alert is worth a last packet; a negotiation that nobody answered is not.
        self._said_farewell = self._stage not in _LISTENING or not self._tls.output_size
        self._stage = KeyStage.FAILED
        self._events.append(KeyFailed(self.key_id, error))
        self._forget()

    # What the network does

    def receive(
        self,
        *,
        opcode: Opcode,
        message_id: int | None,
        acks: Sequence[int],
        payload: bytes,
        now: float,
    ) -> Receipt:
        """Takes an unwrapped control packet of this key id whose session ids were checked.

        Raises `ProtocolError` if it was dropped."""
        if self._stage not in _LISTENING:
            raise refused(Refusal.NOT_LISTENING, self._stage.value)
        if not has_place(self.role, self.key_id, opcode, message_id):
            raise refused(Refusal.UNEXPECTED_OPCODE, opcode.name)
        receipt = self._reliable.receive(
            opcode=opcode, message_id=message_id, acks=acks, payload=payload
        )
        self._heard = True
        if message_id == 0 and receipt is Receipt.STORED:
            # The peer is there, so what was sent into the void goes again without waiting.
            self._reliable.make_due()
        self._step(now)
        return receipt

    def packets_to_send(self, now: float) -> list[Outgoing]:
        """What must be wrapped and sent now. Opcode 11 asks for the wrapped client key behind."""
        if self._stage is KeyStage.FAILED:
            return self._farewell(now)
        if self._stage not in _LISTENING:
            return []
        self._fill_window()
        return self._reliable.packets_to_send(now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` and `packets_to_send` must be called; -inf: at once."""
        times = [math.inf]
        if self._stage is KeyStage.FAILED and not self._said_farewell:
            return -math.inf
        if self._stage in _LISTENING:
            if self._tls.output_size and self._reliable.room:
                return -math.inf
            resend_s = self._reliable.next_timeout()
            times += [] if resend_s is None else [resend_s]
        if self._derived and self._stage in _OPENING:
            times.append(self._promote_s)
        if self._stage in _NEGOTIATING:
            times.append(self._handshake_end_s)
        elif self._stage is KeyStage.ACTIVE:
            times.append(self._renegotiate_s)
        elif self._stage is KeyStage.LAME_DUCK:
            times.append(self._must_die_s)
        earliest = min(times)
        return None if earliest == math.inf else earliest

    def handle_timeout(self, now: float) -> None:
        """Does what is due: gives up, asks for a promotion or renegotiation, or expires."""
        if self._derived and self._stage in _OPENING and now >= self._promote_s:
            self._promote_s = math.inf
            self._events.append(KeyPromotionDue(self.key_id))
        if self._stage in _NEGOTIATING and now >= self._handshake_end_s:
            self.fail(NegotiationTimedOut(errno.ETIMEDOUT, f"stuck: {self._stage.value}"))
        elif self._stage is KeyStage.ACTIVE and now >= self._renegotiate_s:
            self._renegotiate_s = math.inf
            self._events.append(RenegotiationDue(self.key_id))
        elif self._stage is KeyStage.LAME_DUCK and now >= self._must_die_s:
            self._stage = KeyStage.EXPIRED
            self._events.append(KeyExpired(self.key_id))

    def next_event(self) -> KeyEvent | None:
        """The next thing that happened, in order."""
        return self._events.popleft() if self._events else None

    # Steps

    def _step(self, now: float) -> None:
        """All that what is here allows."""
        try:
            self._settle(now)
            while self._stage in _LISTENING and self._take_message(now):
                self._settle(now)
        except (TlsError, KeyMessageError) as error:
            self.fail(error)

    def _take_message(self, now: float) -> bool:
        message = self._reliable.peek()
        if message is None or (message.message_id and self._stage is KeyStage.PRE_START):
            return False
        self._reliable.deliver()
        if message.message_id == 0:
            self._events.append(ResetReceived(self.key_id, message.opcode, message.payload))
            return True
        self._tls.receive(message.payload)
        self._greet()
        while (record := self._tls.read()) is not None:
            self._settle(now)
            self._take_record(record)
        return True

    def _take_record(self, record: bytes) -> None:
        if self._got_key:
            # A peer may put several messages into a record; a NUL ends each.
            messages = [part for part in record.split(b"\0") if part]
            self._events.extend(MessageReceived(self.key_id, part) for part in messages)
            return
        if self.role is Role.CLIENT and not self._sent_key:
            raise KeyMessageError("key message of the server before ours")
        message = keymaterial.decode_key_message(record, self.role.other)
        self._peer_source = message.source
        self._got_key = True
        self._stage = KeyStage.GOT_KEY
        self._events.append(KeyMessageReceived(self.key_id, message))

    def _settle(self, now: float) -> None:
        """Steps that need no further message."""
        if self._stage is KeyStage.PRE_START and self._reliable.oldest_unacknowledged > 0:
            self._stage = KeyStage.START
            self._tls.start()
        self._greet()
        if self._key_message is not None and not self._sent_key and self._tls.handshake_done:
            self._tls.write(self._key_message)
            self._key_message = b""
            self._sent_key = True
            self._stage = KeyStage.SENT_KEY
        if self._stage in _NEGOTIATING and self.exchanged and self._all_arrived():
            self._activate(now)
        while self._stage is KeyStage.ACTIVE and self._queued:
            self._tls.write(self._queued.popleft())

    def _greet(self) -> None:
        if self._tls.handshake_done and not self._greeted:
            self._greeted = True
            self._events.append(HandshakeCompleted(self.key_id, self._tls.peer))

    def _all_arrived(self) -> bool:
        return not self._tls.output_size and not self._reliable.unacknowledged

    def _activate(self, now: float) -> None:
        self._stage = KeyStage.ACTIVE
        self._events.append(KeyActive(self.key_id))
        timers = self._timers
        if self.key_id:
            # The peer may not open with the new key yet, so sealing with the old one goes on.
            delay_s = min(timers.hand_window_s, timers.reneg_s / 2 or math.inf)
            self._promote_s = self._started_s + delay_s
        if timers.reneg_s:
            early_s = self._jitter() if self.role is Role.SERVER else 0.0
            self._renegotiate_s = now + timers.reneg_s - early_s

    def _jitter(self) -> float:
        part = int.from_bytes(self._random_bytes(4), "big") / (1 << 32)
        return part * self._timers.reneg_s / JITTER_PART

    def _fill_window(self) -> None:
        """Cuts the TLS stream into messages while the window has room."""
        while (self._tls.output_size or self._must_send_client_key()) and self._reliable.room:
            carries_key = self._client_key_size > 0 and self._reliable.next_send_id == 1
            reserve = self._client_key_size if carries_key else 0
            payload = self._tls.data_to_send(self._reliable.payload_limit - reserve)
            opcode = Opcode.CONTROL_WKC_V1 if carries_key else Opcode.CONTROL_V1
            self._reliable.send(payload, opcode, reserve=reserve)

    def _must_send_client_key(self) -> bool:
        """An ACK_V1 proves nothing to a server that keeps no state: an empty message 1 does."""
        waits = self._client_key_size > 0 and self._reliable.next_send_id == 1
        return waits and self._reliable.pending_acks > 0

    def _farewell(self, now: float) -> list[Outgoing]:
        """The alert that says why, with all that it comes after, once and for all."""
        if self._said_farewell:
            return []
        self._said_farewell = True
        self._fill_window()
        self._reliable.make_due()
        packets = self._reliable.packets_to_send(now)
        self._reliable.stop_sending()
        return packets

    def _block_from_messages(self, client_id: bytes, server_id: bytes) -> bytes:
        assert self._source is not None
        assert self._peer_source is not None
        mine_first = self.role is Role.CLIENT
        pair = (self._source, self._peer_source)
        client, server = pair if mine_first else pair[::-1]
        return keymaterial.key_block_from_sources(
            client, server, client_session_id=client_id, server_session_id=server_id
        )

    def _forget(self) -> None:
        """Random bytes, credentials and messages that nobody will send."""
        self._source = self._peer_source = self._key_message = None
        self._queued.clear()
