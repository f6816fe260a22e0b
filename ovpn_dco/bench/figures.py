"""Samples and what is said about them: medians, extremes, ratios of interleaved rounds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


#: Our subject, and how the names of its variants begin: "ours, 2 workers".
OURS = "ours"


@dataclass(frozen=True)
class Metric:
    """A kind of figure."""

    name: str
    title: str
    unit: str
    more_is_better: bool = True


METRICS = {
    metric.name: metric
    for metric in (
        Metric("tcp", "one TCP stream", "Gb/s"),
        Metric("cpu", "CPU of both ends", "s/GB", more_is_better=False),
        *(
            Metric(
                f"tcp{streams}-{way}-ipv{family}",
                f"TCP x{streams}, {way}load, IPv{family}",
                "Gb/s",
            )
            for family in (4, 6)
            for streams in (1, 4)
            for way in ("up", "down")
        ),
        *(
            metric
            for way in ("up", "down")
            for metric in (
                Metric(f"peers-{way}", f"TCP, a stream for each peer, {way}load", "Gb/s"),
                Metric(f"peers-{way}-cpu", f"CPU of all ends, {way}load", "s/GB", False),
                Metric(f"peers-{way}-server", f"CPU of the server, {way}load", "s/GB", False),
            )
        ),
        Metric("udp64", "UDP 64 B, < 0.5 % loss", "kpps"),
        Metric("udp64-overload", "UDP 64 B, overload", "kpps"),
        Metric("udp1300", "UDP 1300 B, < 0.5 % loss", "kpps"),
        Metric("udp1300-overload", "UDP 1300 B, overload", "kpps"),
        Metric("rtt", "round trip, idle", "us", more_is_better=False),
        Metric("rtt-load", "round trip, under load", "us", more_is_better=False),
        Metric("rtt-load-p95", "round trip, under load, 95 %", "us", more_is_better=False),
        Metric("wakeups", "wake-ups when idle", "1/s", more_is_better=False),
        Metric("wakeups-keepalive", "with keepalive of 1 s", "1/s", more_is_better=False),
        Metric("handshakes", "full handshakes, server's core busy", "1/s"),
        Metric("handshakes-generator", "full handshakes, generator too slow for more", "1/s"),
        Metric("handshakes-capacity", "full handshakes in a second of CPU", "1/s"),
        Metric("handshake-cpu", "CPU of the server, each handshake", "ms", more_is_better=False),
        Metric("handshakes-busy", "CPU of the server, share of its core", "%"),
        Metric("storm-s", "the storm of handshakes took", "s", more_is_better=False),
        *(
            metric
            for name, when in (("quiet", "before the storm"), ("storm", "in the storm"))
            for metric in (
                Metric(f"{name}-offered", f"UDP offered, {when}", "Mb/s"),
                Metric(f"{name}-loss", f"UDP lost, {when}", "%", more_is_better=False),
                Metric(f"{name}-rtt", f"round trip, {when}", "us", more_is_better=False),
                Metric(f"{name}-p99", f"round trip, 99 %, {when}", "us", more_is_better=False),
            )
        ),
        Metric("storm-p99-ratio", "round trip, 99 %, in it to before", "x", more_is_better=False),
    )
}


@dataclass(frozen=True)
class Sample:
    """One figure: on which course, of whom, what, in which round."""

    course: str
    subject: str
    metric: str
    round: int
    value: float


@dataclass(frozen=True)
class Spread:
    """Samples of one kind, of all rounds."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Ratio:
    """One subject against another; pairs are figures of one round, taken next to each other."""

    of_medians: float
    low: float
    high: float

    def worst(self, *, more_is_better: bool) -> float:
        """The pair that speaks least for the first subject."""
        return self.low if more_is_better else self.high


class Samples:
    """A collection of samples, with the questions asked of it."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self.all = list(samples)

    def add(self, sample: Sample) -> None:
        """Take one more."""
        self.all.append(sample)

    def values(self, course: str, subject: str, metric: str) -> dict[int, float]:
        """The figure of each round."""
        wanted = (course, subject, metric)
        return {s.round: s.value for s in self.all if (s.course, s.subject, s.metric) == wanted}

    def spread(self, course: str, subject: str, metric: str) -> Spread | None:
        """Median and extremes, or None when there is no such sample."""
        values = list(self.values(course, subject, metric).values())
        if not values:
            return None
        return Spread(median(values), min(values), max(values), len(values))

    def ratio(self, course: str, metric: str, ours: str, theirs: str) -> Ratio | None:
        """How `ours` stands against `theirs`, or None when either is missing or zero."""
        mine, other = (self.values(course, subject, metric) for subject in (ours, theirs))
        rounds = sorted(mine.keys() & other.keys())
        if not rounds or not all(other[i] > 0 for i in rounds):
            return None
        pairs = [mine[i] / other[i] for i in rounds]
        of_medians = median(mine[i] for i in rounds) / median(other[i] for i in rounds)
        return Ratio(of_medians, min(pairs), max(pairs))

    def ours(self) -> str:
        """The name of our subject, or of its variant: there is one in a run."""
        names = (s.subject for s in self.all if s.subject.split(",")[0] == OURS)
        return next(names, OURS)

    def outline(self) -> dict[str, dict[str, list[str]]]:
        """Courses, the metrics of each, and the subjects of each of these, in order of coming."""
        tree: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for sample in self.all:
            subjects = tree[sample.course][sample.metric]
            if sample.subject not in subjects:
                subjects.append(sample.subject)
        return {course: dict(metrics) for course, metrics in tree.items()}
