"""What can be set for one peer beside addresses, keepalive and keys: a value for each feature.

The fields stand in the order in which the engine takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .kinds import SourceCheck


@dataclass(frozen=True)
class RateLimit:
    """How much of inner packets may pass each way, in bits per second; 0: no limit.

    The bursts are bytes that may pass at once after silence."""

    transmit_bits_per_s: int = 0
    transmit_burst_bytes: int = 0
    receive_bits_per_s: int = 0
    receive_burst_bytes: int = 0


PeerSetting: TypeAlias = RateLimit | SourceCheck
"""Each is the field of `PeerInfo` with its name, and is handed over with the peer."""
