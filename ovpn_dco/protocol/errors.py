"""Why a control packet was refused: one `Refusal` for each check, and an exception around it."""

from __future__ import annotations

import enum
import errno
from typing import ClassVar

from ovpn_dco.errors import DcoError, InvalidArgument

__all__ = [
    "AuthenticationFailed",
    "ClientRefused",
    "KeyFileError",
    "MalformedPacket",
    "ProtocolError",
    "RateLimited",
    "Refusal",
    "ReplayedPacket",
    "SequenceExhausted",
    "UnexpectedPacket",
    "refused",
]


@enum.unique
class Refusal(enum.Enum):
    """One reason to drop a packet. The value is for people, `label` for counters and metrics."""

    # The bytes make no packet.
    EMPTY = "no bytes"
    TOO_SHORT = "shorter than the smallest packet of its kind"
    OVERSIZED = "longer than any control packet"
    UNKNOWN_OPCODE = "no opcode of the protocol"
    OBSOLETE_OPCODE = "opcode of key method 1"
    DATA_OPCODE = "data packet where a control packet belongs"
    SESSION_ID_ZERO = "session id of zeros"
    KEY_ID_NOT_ZERO = "key id other than 0 in a packet that opens a session"
    KEY_ID_ZERO = "key id 0 in a soft reset"
    TOO_MANY_ACKS = "more than eight acknowledgements"
    ACKS_TRUNCATED = "acknowledgements longer than the packet"
    MESSAGE_ID_TRUNCATED = "message id cut off"
    RESET_MESSAGE_ID = "hard reset with a message id other than 0"
    CLIENT_KEY_MESSAGE_ID = "wrapped client key with a message id other than 1"
    ACK_WITH_PAYLOAD = "bytes after an acknowledgement"
    FLAGS_MALFORMED = "malformed list of flags in the server's reset"
    CLIENT_KEY_LENGTH = "length of the wrapped client key does not fit the packet"
    CLIENT_KEY_METADATA = "malformed metadata in the wrapped client key"
    # A packet, but not from who it should be.
    TAG_MISMATCH = "authentication tag does not fit"
    CLIENT_KEY_TAG = "wrapped client key was not made with this server's key"
    # Authentic, but not for the first time.
    REPLAY_ID_ZERO = "replay id 0"
    REPLAY_TIME = "replay time before that of an earlier packet"
    REPLAY_BEHIND = "replay id behind the window"
    REPLAY_LATE = "replay id later than the window lasts"
    REPLAY_SEEN = "replay id seen before"
    # Authentic and new, but not here or now.
    UNEXPECTED_OPCODE = "opcode has no place here"
    CLIENT_KEY_CHANGED = "another wrapped client key on a live session"
    SESSION_ADDRESS = "not from the address of this session"
    SESSION_UNKNOWN = "session id of another session"
    SESSION_ECHO = "echoes a session id that is not ours"
    NOT_LISTENING = "session or key id is over, or has not begun"
    MESSAGE_ID_AHEAD = "message id beyond the window"
    KEY_ID_NOT_CURRENT = "key id that is not being negotiated"
    NO_WRAPPING = "no protection of this kind is configured"
    COOKIE_WITHOUT_ACK = "no acknowledgement, so no cookie"
    COOKIE_ACK_ID = "acknowledges a message that nobody has sent yet"
    COOKIE_MESSAGE_ID = "message id too high for a first message"
    COOKIE_KEY_ID = "key id other than 0 from an unknown address"
    SESSION_OVER = "belongs to a session that has ended"
    # By decision of this server.
    COOKIE_MISMATCH = "session id is no cookie for this client, address and time"
    COOKIE_UNSUPPORTED = "client cannot answer a cookie"
    CLIENT_KEY_TOO_OLD = "client key older than allowed"
    CLIENT_KEY_REFUSED = "client key refused by the verification"
    RATE_LIMITED = "too many first packets from this part of the network"
    TABLE_FULL = "too many sessions are being negotiated"

    @property
    def label(self) -> str:
        """The name as metrics spell it."""
        return self.name.lower()


class ProtocolError(DcoError):
    """A control packet that was dropped; `reason` says why, and nothing was changed by it."""

    number: ClassVar[int] = errno.EPROTO

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        super().__init__(self.number, f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[ProtocolError], tuple[Refusal, str]]:
        return type(self), (self.reason, self.detail)


class MalformedPacket(ProtocolError):
    """EPROTO: the bytes break the format."""


class AuthenticationFailed(ProtocolError):
    """EBADMSG: made without the key, or changed on the way."""

    number = errno.EBADMSG


class ReplayedPacket(ProtocolError):
    """ESTALE: authentic, and seen before or too late to tell."""

    number = errno.ESTALE


class UnexpectedPacket(ProtocolError):
    """ENOMSG: well-formed, and out of place."""

    number = errno.ENOMSG


class ClientRefused(ProtocolError):
    """EACCES: this client may not, or not with this cookie."""

    number = errno.EACCES


class RateLimited(ProtocolError):
    """EBUSY: too many, too fast."""

    number = errno.EBUSY


class SequenceExhausted(DcoError):
    """EOVERFLOW: no replay id is left; the session must end."""


class KeyFileError(InvalidArgument):
    """EINVAL: a key file that cannot be used.

    `line` counts from 1, and is None where the fault is in no single line. The message names the
    fault and never quotes key material."""

    def __init__(self, fault: str, *, line: int | None = None) -> None:
        super().__init__(errno.EINVAL, f"line {line}: {fault}" if line else fault)
        self.fault = fault
        self.line = line


_CLASSES: dict[Refusal, type[ProtocolError]] = {
    Refusal.TAG_MISMATCH: AuthenticationFailed,
    Refusal.CLIENT_KEY_TAG: AuthenticationFailed,
    Refusal.REPLAY_ID_ZERO: ReplayedPacket,
    Refusal.REPLAY_TIME: ReplayedPacket,
    Refusal.REPLAY_BEHIND: ReplayedPacket,
    Refusal.REPLAY_LATE: ReplayedPacket,
    Refusal.REPLAY_SEEN: ReplayedPacket,
    Refusal.UNEXPECTED_OPCODE: UnexpectedPacket,
    Refusal.CLIENT_KEY_CHANGED: UnexpectedPacket,
    Refusal.SESSION_ADDRESS: UnexpectedPacket,
    Refusal.SESSION_UNKNOWN: UnexpectedPacket,
    Refusal.SESSION_ECHO: UnexpectedPacket,
    Refusal.SESSION_OVER: UnexpectedPacket,
    Refusal.NOT_LISTENING: UnexpectedPacket,
    Refusal.MESSAGE_ID_AHEAD: UnexpectedPacket,
    Refusal.KEY_ID_NOT_CURRENT: UnexpectedPacket,
    Refusal.NO_WRAPPING: UnexpectedPacket,
    Refusal.COOKIE_WITHOUT_ACK: UnexpectedPacket,
    Refusal.COOKIE_ACK_ID: UnexpectedPacket,
    Refusal.COOKIE_MESSAGE_ID: UnexpectedPacket,
    Refusal.COOKIE_KEY_ID: UnexpectedPacket,
    Refusal.COOKIE_MISMATCH: ClientRefused,
    Refusal.COOKIE_UNSUPPORTED: ClientRefused,
    Refusal.CLIENT_KEY_TOO_OLD: ClientRefused,
    Refusal.CLIENT_KEY_REFUSED: ClientRefused,
    Refusal.RATE_LIMITED: RateLimited,
    Refusal.TABLE_FULL: RateLimited,
}


def refused(reason: Refusal, detail: str = "") -> ProtocolError:
    """The exception of the class that fits `reason`."""
    return _CLASSES.get(reason, MalformedPacket)(reason, detail)
