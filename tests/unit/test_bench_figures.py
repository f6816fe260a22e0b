"""Medians, pairs and verdicts."""

from __future__ import annotations

import pytest

from ovpn_dco.bench.figures import METRICS, Sample, Samples
from ovpn_dco.bench.scenarios import CryptoCost
from ovpn_dco.bench.subjects import ALL_COURSES
from ovpn_dco.bench.targets import IDLE_COURSES, LIMITS, TARGETS, judge


def samples_of(course: str, metric: str, **values: list[float]) -> Samples:
    return Samples(
        Sample(course, subject.replace("_", "-"), metric, number, value)
        for subject, figures in values.items()
        for number, value in enumerate(figures)
    )


def test_spread_is_median_and_extremes() -> None:
    spread = samples_of("veth", "tcp", ours=[3.0, 1.0, 2.0]).spread("veth", "ours", "tcp")
    assert spread is not None
    assert (spread.median, spread.low, spread.high, spread.count) == (2.0, 1.0, 3.0, 3)
    assert Samples().spread("veth", "ours", "tcp") is None


def test_ratio_compares_medians_and_pairs_of_the_same_round() -> None:
    samples = samples_of("veth", "tcp", ours=[4.0, 2.0, 6.0], openvpn=[1.0, 0.5, 3.0])
    ratio = samples.ratio("veth", "tcp", "ours", "openvpn")
    assert ratio is not None
    assert ratio.of_medians == 4.0
    # Rounds give 4, 4 and 2; crossing rounds would have given 2 / 3 as the worst.
    assert (ratio.low, ratio.high) == (2.0, 4.0)
    assert ratio.worst(more_is_better=True) == 2.0
    assert ratio.worst(more_is_better=False) == 4.0


def test_ratio_uses_only_rounds_that_both_have() -> None:
    samples = samples_of("veth", "tcp", ours=[4.0, 100.0], openvpn=[2.0])
    ratio = samples.ratio("veth", "tcp", "ours", "openvpn")
    assert ratio is not None
    assert ratio.of_medians == ratio.low == ratio.high == 2.0


@pytest.mark.parametrize("theirs", [[], [0.0, 1.0]])
def test_no_ratio_without_figures_or_against_zero(theirs: list[float]) -> None:
    samples = samples_of("veth", "tcp", ours=[1.0, 1.0], openvpn=theirs)
    assert samples.ratio("veth", "tcp", "ours", "openvpn") is None


def test_every_target_names_a_known_metric_and_course() -> None:
    assert {target.metric for target in TARGETS} <= METRICS.keys()
    assert {target.course for target in TARGETS} <= ALL_COURSES.keys()
    assert {limit.metric for limit in LIMITS} <= METRICS.keys()
    assert {course for limit in LIMITS for course in limit.courses} <= ALL_COURSES.keys()


@pytest.mark.parametrize("course", ["tcp veth", "tcp bare"])
@pytest.mark.parametrize(("ours", "reached"), [(4.0, True), (3.9, False)])
def test_over_tcp_it_must_be_four_times_as_fast(course: str, ours: float, reached: bool) -> None:
    (verdict,) = judge(samples_of(course, "tcp", ours=[ours], openvpn=[1.0]), [], {})
    assert verdict.reached is reached
    assert verdict.what == f"{course}: one TCP stream, openvpn"
    assert verdict.wanted == ">= 4x"


@pytest.mark.parametrize("name", ["ours", "ours, 2 workers", "ours, single thread"])
def test_a_variant_of_ours_is_judged_as_ours(name: str) -> None:
    samples = samples_of("veth", "tcp", openvpn=[1.0])
    samples.add(Sample("veth", name, "tcp", 0, 8.0))
    assert samples.ours() == name
    (verdict,) = judge(samples, [], {})
    assert verdict.reached is False
    assert samples_of("veth", "tcp", openvpn=[1.0]).ours() == "ours"


@pytest.mark.parametrize(("ours", "reached"), [(9.0, True), (8.9, False)])
def test_more_must_reach_the_bound(ours: float, reached: bool) -> None:
    (verdict,) = judge(samples_of("veth", "tcp", ours=[ours], openvpn=[1.0]), [], {})
    assert verdict.reached is reached


@pytest.mark.parametrize(("ours", "reached"), [(1.0, True), (1.01, False)])
def test_less_must_stay_within_the_bound(ours: float, reached: bool) -> None:
    (verdict,) = judge(samples_of("veth", "rtt", ours=[ours], openvpn=[1.0]), [], {})
    assert verdict.reached is reached


def test_a_rival_with_a_caveat_is_never_beaten() -> None:
    samples = samples_of("veth", "tcp", ours=[100.0], wireguard_go=[1.0])
    (verdict,) = judge(samples, [], {"wireguard-go": "too old: without offloads"})
    assert verdict.reached is None
    assert "too old" in verdict.what


@pytest.mark.parametrize("course", IDLE_COURSES)
@pytest.mark.parametrize(("per_second", "reached"), [(0.0, True), (0.1, False)])
def test_idle_without_keepalive_means_no_wake_up_at_all(
    course: str, per_second: float, reached: bool
) -> None:
    (verdict,) = judge(samples_of(course, "wakeups", ours=[per_second]), [], {})
    assert verdict.reached is reached


@pytest.mark.parametrize(
    ("metric", "values", "wanted", "reached"),
    [
        ("storm-loss", [0.0, 0.05, 3.0], "<= 0.1 %", True),
        ("storm-loss", [0.0, 0.2, 0.2], "<= 0.1 %", False),
        ("storm-p99-ratio", [1.0, 2.0, 9.0], "<= 2 x", True),
        ("storm-p99-ratio", [2.1, 2.1, 1.0], "<= 2 x", False),
    ],
)
def test_a_storm_is_judged_by_the_median_of_its_rounds(
    metric: str, values: list[float], wanted: str, reached: bool
) -> None:
    (verdict,) = judge(samples_of("veth", metric, ours=values, openvpn=[9.0] * 3), [], {})
    assert (verdict.wanted, verdict.reached) == (wanted, reached)
    assert verdict.worst == f"{max(values):.2f}"


def test_crypto_is_judged_by_its_worst_size() -> None:
    costs = [
        CryptoCost("AES-256-GCM", "seal", 64, raw_ns=200, core_ns=210),
        CryptoCost("AES-256-GCM", "seal", 1400, raw_ns=600, core_ns=671),
    ]
    (verdict,) = judge(Samples(), costs, {})
    assert verdict.reached is False
    assert verdict.worst == "71 ns"
    assert costs[0].gbps == pytest.approx(64 * 8 / 210)


def test_only_work_around_the_same_cipher_is_judged() -> None:
    same = CryptoCost("AES-256-GCM", "seal", 64, raw_ns=200, core_ns=210)
    own = CryptoCost("AES-256-GCM", "seal", 64, raw_ns=20, core_ns=110, code="own, 512 bit")
    (verdict,) = judge(Samples(), [same, own], {})
    assert verdict.reached
    assert verdict.worst == "10 ns"
    assert not judge(Samples(), [own], {})
