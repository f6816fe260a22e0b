"""A clock that stands still until a test moves it."""

from __future__ import annotations

import math

__all__ = ["FakeClock"]


class FakeClock:
    """A `runtime.clock.Clock` that begins at `start_s`, Unix time in seconds."""

    def __init__(self, start_s: float = 1.6e9) -> None:
        self._now_s = start_s

    def now(self) -> float:
        """See `Clock`."""
        return self._now_s

    def advance(self, seconds: float) -> float:
        """Lets so much time go by and gives the new one; ValueError for less than nothing."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"a clock does not go on by {seconds} seconds")
        self._now_s += seconds
        return self._now_s
