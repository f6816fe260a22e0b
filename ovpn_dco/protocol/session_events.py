"""What a session tells its owner, in the order in which it happened.

Key slots are those of the data channel: the first key is installed as PRIMARY, each later one as
SECONDARY, and `KeyPromotionDue` asks for the swap. `KeyExpired` names a key that must be deleted,
whichever slot it is in by then."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias

from ovpn_dco.errors import DcoError
from ovpn_dco.model import DataKey, EpochKey, KeySlot

from .certificates import PeerCertificate
from .keyevents import KeyExpired, KeyPromotionDue
from .messages import Message, Refused
from .ncp import Agreement
from .peerinfo import Announcement
from .push import Pushed

__all__ = [
    "AuthRequired",
    "ControlMessage",
    "EndReason",
    "Ended",
    "KeyReady",
    "PeerReady",
    "PushReceived",
    "PushUpdated",
    "RenegotiationFailed",
    "SessionEvent",
    "TokenRenewed",
]


class EndReason(enum.Enum):
    """Why a session is over."""

    LOCAL = "ended here"
    PEER_EXIT = "the peer has left"
    AUTH_FAILED = "the login was refused"
    IDENTITY_CHANGED = "the peer became another one at a renegotiation"
    RESTART = "the server asks to connect again"
    HALT = "the server asks to stop"
    NEGOTIATION_TIMEOUT = "the hand-window was over before keys were there"
    LOGIN_TIMEOUT = "the hand-window was over before options were pushed"
    NEGOTIATION_FAILED = "the TLS handshake or the key messages were refused"
    DISAGREEMENT = "no common data channel, or pushed options that cannot be used"
    KEY_EXPIRED = "the last key that worked came to its end"
    EXHAUSTED = "no replay id is left"
    SUPERSEDED = "the client has connected anew"
    EXPIRED = "nothing came from the peer for too long"
    INACTIVE = "too little has crossed the tunnel for too long"
    SESSION_TIMEOUT = "the session has lasted as long as it may"
    TRANSPORT_GONE = "the connection was lost"


@dataclass(frozen=True, kw_only=True)
class AuthRequired:
    """Server: decide, then call `ServerSession.accept` or `refuse`, unless that does not wait for
    this login any more (`waits_for`).

    `username` and `password` are the client's claim, without control characters. They are empty
    where `credentials_too_long`; such a login should be refused. `peer` is the verified
    certificate, None where the TLS settings ask for none."""

    key_id: int
    username: str
    password: str = field(repr=False)
    credentials_too_long: bool
    peer: PeerCertificate | None
    announcement: Announcement


@dataclass(frozen=True, kw_only=True)
class PushReceived:
    """Client: the options of a complete push. `ClientSession.login` has the token in them."""

    options: Pushed = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class PushUpdated:
    """Client: the server has changed options while connected. `options` are all that hold now;
    keys, cipher and peer id are as before."""

    options: Pushed = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class PeerReady:
    """The data channel may be set up: add the peer with this id; its first `KeyReady` follows.

    `options` are those pushed: as texts at the server, and in `PushReceived` at the client."""

    peer_id: int
    agreement: Agreement
    options: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class KeyReady:
    """Install `key` in `slot`. It opens at once; a SECONDARY one seals after its promotion."""

    key_id: int
    slot: KeySlot
    key: DataKey | EpochKey = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RenegotiationFailed:
    """The old key works on until its tran-window is over, and the session ends with it unless
    another renegotiation, which starts by itself, succeeds before. A login that this one asked for
    needs no decision any more."""

    key_id: int
    error: DcoError


@dataclass(frozen=True, kw_only=True)
class TokenRenewed:
    """Client: the server pushed another token, which `ClientSession.login` has from now on."""


@dataclass(frozen=True, kw_only=True)
class ControlMessage:
    """A message that the session does not act upon, or one that was refused."""

    message: Message | Refused = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """No data may flow any more: delete the peer. It comes once and is the last event.

    Packets may still have to be sent, so drive the session until `is_finished`. `message` is the
    peer's where one ended it, `error` says more where there is one."""

    reason: EndReason
    error: DcoError | None = None
    message: Message | None = field(default=None, repr=False)


SessionEvent: TypeAlias = (
    AuthRequired
    | PushReceived
    | PushUpdated
    | PeerReady
    | KeyReady
    | KeyPromotionDue
    | KeyExpired
    | RenegotiationFailed
    | TokenRenewed
    | ControlMessage
    | Ended
)
