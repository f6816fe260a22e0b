"""What can be set for one peer beside addresses, keepalive and keys: a value for each feature.

The fields stand in the order in which the engine takes them."""

from __future__ import annotations

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


PeerSetting: TypeAlias = RateLimit | SourceCheck | Marking
"""Each is the field of `PeerInfo` with its name, and is handed over with the peer."""
