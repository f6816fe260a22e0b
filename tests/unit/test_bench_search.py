"""The search for the highest rate, against paths whose limit is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.bench.search import LOSS_LIMIT, Trial, highest_rate


class Path:
    """Carries up to `capacity_pps`; the sender offers at most `sender_pps`."""

    def __init__(self, capacity_pps: float, sender_pps: float = 500e3) -> None:
        self.capacity_pps, self.sender_pps = capacity_pps, sender_pps
        self.rates: list[float] = []

    def __call__(self, rate_pps: float) -> Trial:
        self.rates.append(rate_pps)
        offered = min(rate_pps or self.sender_pps, self.sender_pps)
        received = min(offered, self.capacity_pps)
        return Trial(offered, received, 1 - received / offered)


@given(
    capacity_pps=st.floats(1e3, 400e3),
    precision=st.sampled_from([0.02, 0.05, 0.15]),
)
def test_finds_a_sharp_limit_within_its_precision(capacity_pps: float, precision: float) -> None:
    path = Path(capacity_pps)
    rates = highest_rate(path, precision=precision)
    assert rates.overload_pps == pytest.approx(capacity_pps)
    # A rate just above the limit loses less than is allowed, so it may be found too.
    assert capacity_pps / (1 + precision) <= rates.bounded_pps * (1 + 1e-9)
    assert rates.bounded_pps <= capacity_pps * (1 + 1e-9)
    assert len(path.rates) < 30


def test_a_path_faster_than_the_sender_needs_one_trial() -> None:
    path = Path(capacity_pps=1e6, sender_pps=200e3)
    rates = highest_rate(path)
    assert path.rates == [0.0]
    assert rates.bounded_pps == rates.overload_pps == 200e3


def test_a_path_that_collapses_under_overload_is_not_judged_by_it() -> None:
    """Receive livelock: the more is offered, the less arrives."""

    def run(rate_pps: float) -> Trial:
        offered = rate_pps or 500e3
        received = offered if offered <= 100e3 else 5e3
        return Trial(offered, received, 1 - received / offered)

    rates = highest_rate(run, precision=0.05)
    assert rates.overload_pps == 5e3
    assert 95e3 <= rates.bounded_pps <= 100e3


def test_a_path_that_always_loses_has_no_rate() -> None:
    rates = highest_rate(lambda rate_pps: Trial(rate_pps or 1e5, (rate_pps or 1e5) / 2, 0.5))
    assert rates.bounded_pps == 0
    assert rates.overload_pps == 5e4


def test_one_hiccup_is_forgiven_and_two_are_not() -> None:
    def path_with(failures: int) -> Path:
        class Hiccup(Path):
            def __call__(self, rate_pps: float) -> Trial:
                trial = super().__call__(rate_pps)
                if rate_pps and self.rates.count(rate_pps) <= failures:
                    return Trial(trial.offered_pps, trial.received_pps * 0.9, 0.1)
                return trial

        return Hiccup(100e3)

    assert highest_rate(path_with(1)).bounded_pps >= 95e3
    assert highest_rate(path_with(2)).bounded_pps == 0


def test_the_loss_limit_is_inclusive() -> None:
    at_the_limit = Trial(1000.0, 1000.0 * (1 - LOSS_LIMIT), LOSS_LIMIT)
    assert highest_rate(lambda _: at_the_limit).bounded_pps == at_the_limit.received_pps
