"""What an engine tells: control packets and events."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Protocol

from .kinds import Address, Buffer, DeleteReason
from .settings import Limit
from .statistics import PeerStats


class ControlTransport(Protocol):
    """What a control packet came through, and can be answered through."""

    @property
    def transport_id(self) -> int:
        """The engine's number for it."""

    def send_control(self, data: Buffer, remote: Any = None, local: Any = None) -> None:
        """Sends one packet."""


@dataclass(frozen=True)
class ControlPacket:
    """A packet that is not DATA_V2, or a message of a peer inside the data channel.

    `peer_id` is None for the former: nobody has authenticated it. `transport` is None if it was
    closed in the meantime. `sequence` orders packets and events by when they happened."""

    data: bytes
    transport: ControlTransport | None
    remote: Address | None
    local: Address | None
    peer_id: int | None
    sequence: int


class KeySwapReason(enum.Enum):
    """SOON: 7/8 of the packet ids or of the usage limit; of an `EpochKey` from epoch 0xF000 on, and
    where there is no next epoch to go to. EXHAUSTED: the key seals no more."""

    SOON = "soon"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened. `sequence` orders events and control packets."""

    sequence: int


@dataclass(frozen=True, kw_only=True)
class PeerEvent(Event):
    """Something happened to a peer; `generation` tells it from a later one with the same id."""

    peer_id: int
    generation: int


@dataclass(frozen=True, kw_only=True)
class PeerDeleted(PeerEvent):
    """A peer went, with its final counters."""

    reason: DeleteReason
    stats: PeerStats


@dataclass(frozen=True, kw_only=True)
class PeerFloated(PeerEvent):
    """An authenticated packet came from a new address, which is the endpoint from now on."""

    remote: Address
    local: Address | None


@dataclass(frozen=True, kw_only=True)
class PeerFloatRefused(PeerEvent):
    """A peer wanted to move onto the address of another one; it stays where it was."""

    remote: Address
    local: Address | None


@dataclass(frozen=True, kw_only=True)
class KeySwapNeeded(PeerEvent):
    """A key comes to its end."""

    key_id: int
    reason: KeySwapReason


@dataclass(frozen=True, kw_only=True)
class PeerLimitReached(PeerEvent):
    """A peer has used what its limits give, see `Peer.set_limits`. Nothing else happens."""

    limits: Limit


@dataclass(frozen=True, kw_only=True)
class TransportFailed(Event):
    """A socket died; `errno` says how. `transport` is None if it was closed in the meantime."""

    transport: ControlTransport | None
    errno: int


@dataclass(frozen=True, kw_only=True)
class InterfaceGone(Event):
    """The TUN interface was deleted, or the other end of the packet descriptor closed."""

    errno: int
