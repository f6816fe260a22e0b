"""A link that loses, doubles, reorders and delays packets, all from one seed."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Packet = TypeVar("Packet")


@dataclass
class LossyLink(Generic[Packet]):
    """One direction. Probabilities are per packet, delays are seconds."""

    random: random.Random
    loss: float = 0.0
    doubling: float = 0.0
    delay_s: float = 0.05
    jitter_s: float = 0.0
    lost: int = 0
    doubled: int = 0
    _flying: list[tuple[float, int, Packet]] = field(default_factory=list)
    _count: int = 0

    def send(self, packet: Packet, now: float) -> None:
        if self.random.random() < self.loss:
            self.lost += 1
            return
        copies = 2 if self.random.random() < self.doubling else 1
        self.doubled += copies - 1
        for _ in range(copies):
            self._count += 1
            arrival_s = now + self.delay_s + self.random.random() * self.jitter_s
            heapq.heappush(self._flying, (arrival_s, self._count, packet))

    def arrivals(self, now: float) -> list[Packet]:
        arrived = []
        while self._flying and self._flying[0][0] <= now:
            arrived.append(heapq.heappop(self._flying)[2])
        return arrived

    def next_arrival(self) -> float | None:
        return self._flying[0][0] if self._flying else None
