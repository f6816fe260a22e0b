"""What the project wants to reach, as ratios on the same machine in the same run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovpn_dco.bench.figures import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ovpn_dco.bench.figures import Samples
    from ovpn_dco.bench.scenarios import CryptoCost

#: Our own work per packet above bare EVP, at every size, nanoseconds; where both run the same
#: cipher, since with another one the difference says nothing about our work.
CRYPTO_EXTRA_NS = 70.0


@dataclass(frozen=True)
class Target:
    """Ours against one rival on one course; the ratio of medians must reach, or stay within."""

    course: str
    metric: str
    rival: str
    bound: float


TARGETS = (
    Target("veth", "tcp", "openvpn", 9.0),
    Target("veth", "tcp", "wireguard-go", 1.6),
    Target("veth", "cpu", "openvpn", 1 / 9),
    Target("veth", "cpu", "wireguard-go", 5 / 8),
    Target("jumbo", "tcp", "openvpn-tuned", 3.0),
    Target("bare", "tcp", "openvpn", 4.0),
    Target("bare", "tcp", "wireguard-go", 2.0),
    Target("veth", "udp64", "openvpn", 4.0),
    Target("bare", "udp64", "openvpn", 4.0),
    Target("veth", "rtt", "openvpn", 1.0),
    Target("tcp veth", "tcp", "openvpn", 4.0),
    Target("tcp veth", "cpu", "openvpn", 1 / 4),
    Target("tcp veth", "rtt", "openvpn", 1.0),
    Target("tcp veth", "rtt-load", "openvpn", 1.0),
    Target("tcp bare", "tcp", "openvpn", 4.0),
    Target("veth", "handshakes", "openvpn", 0.7),
    Target("veth", "handshakes-capacity", "openvpn", 0.7),
)

IDLE_COURSES = ("veth", "tcp veth")


@dataclass(frozen=True)
class Limit:
    """What a figure of ours, by itself, may not exceed; the median of rounds counts."""

    metric: str
    bound: float
    courses: tuple[str, ...] = ("veth",)


LIMITS = (
    Limit("wakeups", 0.0, IDLE_COURSES),
    Limit("wakeups-keepalive", 1.0, IDLE_COURSES),
    Limit("storm-loss", 0.1),
    Limit("storm-p99-ratio", 2.0),
)


@dataclass(frozen=True)
class Verdict:
    """A target, what was measured, and whether it is enough; None: it cannot be said."""

    what: str
    wanted: str
    measured: str
    worst: str
    reached: bool | None


def judge(
    samples: Samples, costs: Sequence[CryptoCost], caveats: Mapping[str, str]
) -> list[Verdict]:
    """One verdict for each target that this run has figures for.

    `caveats` names the subjects whose figures do not count as beaten, and why.
    """
    verdicts = [v for target in TARGETS if (v := _judge_ratio(target, samples, caveats))]
    verdicts += [
        verdict
        for limit in LIMITS
        for course in limit.courses
        if (verdict := _judge_limit(limit, course, samples))
    ]
    extras = [cost.extra_ns for cost in costs if cost.same_code]
    if extras:
        verdicts.append(
            Verdict(
                "seal, open with OpenSSL: above EVP, every size",
                f"<= {CRYPTO_EXTRA_NS:g} ns",
                f"{sorted(extras)[len(extras) // 2]:.0f} ns",
                f"{max(extras):.0f} ns",
                max(extras) <= CRYPTO_EXTRA_NS,
            )
        )
    return verdicts


def _judge_limit(limit: Limit, course: str, samples: Samples) -> Verdict | None:
    spread = samples.spread(course, samples.ours(), limit.metric)
    if spread is None:
        return None
    metric = METRICS[limit.metric]
    unit = metric.unit.removeprefix("1")
    worst = f"{spread.high:.2f}" if spread.count > 1 else ""
    return Verdict(
        f"{course}: {metric.title}",
        f"<= {limit.bound:g} {unit}",
        f"{spread.median:.2f}",
        worst,
        spread.median <= limit.bound,
    )


def _judge_ratio(target: Target, samples: Samples, caveats: Mapping[str, str]) -> Verdict | None:
    ratio = samples.ratio(target.course, target.metric, samples.ours(), target.rival)
    if ratio is None:
        return None
    metric = METRICS[target.metric]
    what = f"{target.course}: {metric.title}, {target.rival}"
    reached: bool | None
    if target.rival in caveats:
        what += f" ({caveats[target.rival]})"
        reached = None
    elif metric.more_is_better:
        reached = ratio.of_medians >= target.bound
    else:
        reached = ratio.of_medians <= target.bound
    sign = ">=" if metric.more_is_better else "<="
    worst = ratio.worst(more_is_better=metric.more_is_better)
    return Verdict(
        what, f"{sign} {target.bound:.3g}x", f"{ratio.of_medians:.3g}x", f"{worst:.3g}x", reached
    )
