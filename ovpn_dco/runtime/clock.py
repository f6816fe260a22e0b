"""The time that sessions live by: Unix time that does not jump."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What tells the time."""

    def now(self) -> float:
        """Unix time in seconds. It never goes back, and never on by more than what went by."""


class SystemClock:
    """The wall clock as it was when this was made, and the time since, that of a suspended system
    included: whoever sets the wall clock, no timer notices."""

    def __init__(self) -> None:
        self._started_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> float:
        """See `Clock`."""
        return self._started_s + time.clock_gettime(time.CLOCK_BOOTTIME)
