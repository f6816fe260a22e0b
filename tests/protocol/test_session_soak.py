"""The first of the scenarios that `make soak-control` runs by the thousand."""

from __future__ import annotations

import pytest
from control_soak import FEATURES, STARTERS, WRAPPINGS, Scenario, run

SEEDS = range(84)


@pytest.mark.parametrize("seed", SEEDS)
def test_pair_neither_sticks_nor_disagrees(seed: int) -> None:
    outcome = run(Scenario.of(seed))
    assert outcome.negotiations > 2


def test_scenarios_are_of_every_kind() -> None:
    scenarios = [Scenario.of(seed) for seed in SEEDS]
    kinds = {(scenario.wrapping, scenario.features) for scenario in scenarios}
    assert len(kinds) == len(WRAPPINGS) * len(FEATURES)
    plans = [plan for scenario in scenarios for plan in scenario.renegotiations]
    # With the first handshake of each.
    assert len(plans) + len(scenarios) >= 500
    assert {plan.starters for plan in plans} == set(STARTERS)
    assert {plan.again for plan in plans} == {True, False}
    assert any(plan.silence for plan in plans)
    assert max(scenario.loss for scenario in scenarios) > 0.2
