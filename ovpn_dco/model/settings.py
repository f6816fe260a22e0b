"""What can be set for one peer beside addresses, keepalive and keys: a value for each feature.

The fields stand in the order in which the engine takes them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from .kinds import Ecn, SourceCheck


@dataclass(frozen=True)
class RateLimit:
    """How much of inner packets may pass each way, in bits per second; 0: no limit.

    The bursts are bytes that may pass at once after silence."""

    transmit_bits_per_s: int = 0
    transmit_burst_bytes: int = 0
    receive_bits_per_s: int = 0
    receive_burst_bytes: int = 0


@dataclass(frozen=True)
class Marking:
    """What outer headers have of inner ones over UDP, and what marks of routers do.

    `dscp`: outer headers tell what kind of traffic is inside."""

    ecn: Ecn = Ecn.NORMAL
    dscp: bool = False

    @classmethod
    def numbered(cls, ecn: int, dscp: int) -> Marking:
        """From the numbers of the core."""
        return cls(Ecn(ecn), dscp=bool(dscp))


class Limit(enum.Flag):
    """What a peer may use, and is told of by `PeerLimitReached` when it has."""

    INACTIVE = enum.auto()
    """For so long too few bytes have crossed the tunnel."""
    SESSION = enum.auto()
    """So much time has passed."""
    QUOTA_BYTES = enum.auto()
    QUOTA_PACKETS = enum.auto()
    RENEGOTIATE_BYTES = enum.auto()
    """So much has crossed the tunnel since the last key was installed."""
    RENEGOTIATE_PACKETS = enum.auto()


@dataclass(frozen=True)
class PeerLimits:
    """The limits of a peer, see `Peer.set_limits`; 0: off. None, in a change alone: stays."""

    inactive_s: int | None = None
    session_s: int | None = None
    quota_bytes: int | None = None
    quota_packets: int | None = None
    renegotiate_bytes: int | None = None
    renegotiate_packets: int | None = None
    inactive_bytes: int | None = None


class Measure(enum.IntEnum):
    """What a size counts, as the three forms of `mssfix` do."""

    OUTER = 0
    """All of what goes over the wire, from the outer IP header on: `mssfix N mtu`."""
    DATAGRAM = 1
    """The payload of the UDP datagram, or of the TCP connection, around it: `mssfix N`."""
    INNER = 2
    """The packet inside the tunnel: `mssfix N fixed`."""


@dataclass(frozen=True)
class MssClamp:
    """How large TCP segments inside the tunnel make what `measure` counts, bytes; 0: any size."""

    size: int = 0
    measure: Measure = Measure.OUTER

    @classmethod
    def numbered(cls, size: int, measure: int) -> MssClamp:
        """From the numbers of the core."""
        return cls(size, Measure(measure))


@dataclass(frozen=True)
class PathLimit:
    """What the path to the peer is set to carry, bytes from the outer IP header on; 0: unknown."""

    mtu: int = 0


@dataclass(frozen=True)
class Multicast:
    """Whether a peer gets copies of multicast and broadcast, where its device makes them."""

    received: bool = True


PeerSetting: TypeAlias = (
    RateLimit | SourceCheck | Marking | PeerLimits | MssClamp | PathLimit | Multicast
)
"""Each is the field of `PeerInfo` with its name, and is handed over with the peer."""
