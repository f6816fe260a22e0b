"""What a trace of packets shows."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from .kinds import DropReason

PackedAddress: TypeAlias = tuple[bytes, int, int]
"""(ip of 4 or 16 bytes, port, IPv6 scope id)."""


class TracePoint(enum.Flag):
    """Where a packet is looked at.

    TX_INNER: as it comes from the interface, super-packets whole. TX_OUTER: sealed, with how
    sending it went. RX_OUTER: from the wire, before it is opened; control packets, too. RX_INNER:
    what was in it, on its way to the interface."""

    TX_INNER = 1 << 0
    TX_OUTER = 1 << 1
    RX_OUTER = 1 << 2
    RX_INNER = 1 << 3
    ALL = (1 << 4) - 1

    @property
    def is_inner(self) -> bool:
        """Of the interface's side."""
        return self in TracePoint.TX_INNER | TracePoint.RX_INNER

    @property
    def is_outbound(self) -> bool:
        """On its way from this host."""
        return self in TracePoint.TX_INNER | TracePoint.TX_OUTER


@dataclass(frozen=True)
class TraceSettings:
    """Which packets are recorded. `share`: of 2^32 packets so many, 0: all. `snap` is bytes of
    each, `buffer_bytes` a power of two for each thread. `peers`: (id, generation), empty: all."""

    points: TracePoint
    drops_only: bool
    share: int
    snap: int
    buffer_bytes: int
    peers: tuple[tuple[int, int], ...]


class TraceRecord(NamedTuple):
    """One packet at one point. Times are of the wall clock, sizes bytes; `data` is its beginning.

    `peer` is (id, generation). Key id and packet id are as a data packet shows them, before anybody
    has checked them; in the epoch format the packet id counts within `epoch`. A super-packet has
    several `packets`, and the id is that of the first. `drop` is why `lost` of them, or copies of a
    multicast packet, went no further. Addresses are those of the outer points; the local host may
    be unknown. `stream`: over TCP."""

    time_ns: int
    point: TracePoint
    drop: DropReason | None
    peer: tuple[int, int] | None
    key_id: int | None
    epoch: int | None
    packet_id: int | None
    stream: bool
    remote: PackedAddress | None
    local: PackedAddress | None
    size: int
    packets: int
    lost: int
    data: bytes
