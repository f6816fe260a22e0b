"""Values around a key-state: where it stands, its timers, and what happens to it, for the session
above it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ovpn_dco.errors import DcoError

from .certificates import PeerCertificate
from .keymaterial import KeyMessage
from .wire import Opcode

__all__ = [
    "DataFormat",
    "HandshakeCompleted",
    "KeyActive",
    "KeyEvent",
    "KeyExpired",
    "KeyFailed",
    "KeyMessageReceived",
    "KeyPromotionDue",
    "KeyStage",
    "KeyTimers",
    "MessageReceived",
    "NegotiationTimedOut",
    "RenegotiationDue",
    "ResetReceived",
    "SoftReset",
]


class NegotiationTimedOut(DcoError):
    """ETIMEDOUT: the key-state was not ready within the hand-window."""


class KeyStage(enum.Enum):
    """Where a key-state stands. A client sends its key message first, a server gets one first."""

    INITIAL = "not started"
    PRE_START = "waits for the acknowledgement of its reset"
    START = "TLS handshake"
    SENT_KEY = "own key message was written"
    GOT_KEY = "the peer's key message was read"
    ACTIVE = "all that was sent has arrived"
    LAME_DUCK = "replaced; its data key only opens"
    EXPIRED = "over"
    FAILED = "given up"


class SoftReset(enum.Enum):
    """What a SOFT_RESET_V1 means to the primary key-state; see `KeyState.judge_soft_reset`."""

    ROTATE = "start a key-state with that id, and let that one receive"
    PROOF = "all of this key-state has arrived at the peer: conclude it, then judge again"
    ANSWER = "belongs to this key-state"
    STALE = "late, or out of turn: to be dropped"


class DataFormat(enum.Enum):
    """Of data packets: `cipher` alone, or with `aead-epoch`."""

    CLASSIC = "classic"
    EPOCH = "epoch"


@dataclass(frozen=True, kw_only=True)
class KeyTimers:
    """Seconds, by the names of the options. `reneg_s` 0: nobody here starts a renegotiation."""

    hand_window_s: float = 60.0
    tran_window_s: float = 3600.0
    reneg_s: float = 3600.0
    tls_timeout_s: float = 2.0


@dataclass(frozen=True)
class KeyEvent:
    """Something happened to the key-state with this id."""

    key_id: int


@dataclass(frozen=True)
class ResetReceived(KeyEvent):
    """The peer's reset came; in `payload` a server may ask for the wrapped client key."""

    opcode: Opcode
    payload: bytes


@dataclass(frozen=True)
class HandshakeCompleted(KeyEvent):
    """TLS is done, and the peer's certificate accepted; None where it needs none and has none."""

    peer: PeerCertificate | None


@dataclass(frozen=True)
class KeyMessageReceived(KeyEvent):
    """The peer's key method 2 message; a server authenticates, then answers with its own."""

    message: KeyMessage


@dataclass(frozen=True)
class KeyActive(KeyEvent):
    """All of the negotiation has arrived: control messages flow, data keys can be derived."""


@dataclass(frozen=True)
class MessageReceived(KeyEvent):
    """A control message without its NUL. It may contain a secret, and is not shown."""

    data: bytes = field(repr=False)


@dataclass(frozen=True)
class KeyPromotionDue(KeyEvent):
    """Of a later key id: the peer certainly opens with the key now, so sealing may begin."""


@dataclass(frozen=True)
class RenegotiationDue(KeyEvent):
    """`reneg_s` is over; whether to renegotiate is the session's decision."""


@dataclass(frozen=True)
class KeyExpired(KeyEvent):
    """The tran-window of a lame duck is over: its data key must be deleted."""


@dataclass(frozen=True)
class KeyFailed(KeyEvent):
    """The negotiation was given up; `error` says why."""

    error: DcoError
