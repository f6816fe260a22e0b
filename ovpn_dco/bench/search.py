"""The highest rate that a path carries within a loss limit: RFC 2544, section 26.1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Share of the offered packets that may be lost: 0.5 %.
LOSS_LIMIT = 0.005


@dataclass(frozen=True)
class Trial:
    """What one offered rate came to."""

    offered_pps: float
    received_pps: float
    loss: float
    """Share of the packets offered that did not arrive, 0 to 1."""


@dataclass(frozen=True)
class Rates:
    """The outcome of a search, packets per second."""

    bounded_pps: float
    """Received at the highest offered rate within the loss limit; 0: none was found."""
    overload_pps: float
    """Received while the sender offered all that it could."""
    trials: tuple[Trial, ...]


def highest_rate(
    run: Callable[[float], Trial],
    *,
    loss_limit: float = LOSS_LIMIT,
    precision: float = 0.05,
    attempts: int = 2,
    lowest_pps: float = 500.0,
) -> Rates:
    """Search by bisection, on a logarithmic scale.

    `run` makes one trial at a rate, 0 meaning flat out. A rate passes as soon as one of `attempts`
    trials does, so that a hiccup of a small machine is not taken for the limit; every subject has
    the same chances. The search ends when the bracket is narrower than `precision`, or below
    `lowest_pps`.
    """
    trials: list[Trial] = []

    def passes(rate_pps: float) -> Trial | None:
        for _ in range(attempts):
            trials.append(run(rate_pps))
            if trials[-1].loss <= loss_limit:
                return trials[-1]
        return None

    overload = run(0.0)
    trials.append(overload)
    if overload.loss <= loss_limit:
        return Rates(overload.received_pps, overload.received_pps, tuple(trials))

    # What got through under overload is a good first guess: the limit is rarely far above it.
    best: Trial | None = None
    low, high = lowest_pps, max(overload.offered_pps, lowest_pps)
    rate = min(max(overload.received_pps, lowest_pps), high)
    while True:
        good = passes(rate)
        if good is None:
            high = rate
        else:
            low = rate
            if best is None or good.received_pps > best.received_pps:
                best = good
        if high <= low * (1 + precision):
            break
        # Until something has passed the lower end is only assumed: come down by halves.
        rate = max(high / 2, low) if best is None else math.sqrt(low * high)
    bounded = best.received_pps if best else 0.0
    return Rates(bounded, overload.received_pps, tuple(trials))
