"""A run's outcome, as tables on the terminal, as JSON, and as Markdown for the documentation."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from ovpn_dco.bench.figures import METRICS, Samples
from ovpn_dco.bench.subjects import ALL_COURSES
from ovpn_dco.bench.targets import Verdict, judge

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from ovpn_dco.bench.memory import MemoryCost
    from ovpn_dco.bench.scenarios import CryptoCost

INDENT = "  "
_MARKS = {True: "reached", False: "MISSED", None: "not judged"}


@dataclass
class Report:
    """Everything that a run has found out."""

    machine: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict)
    """What each subject is."""
    absent: dict[str, str] = field(default_factory=dict)
    """Subjects that could not take part, and why."""
    caveats: dict[str, str] = field(default_factory=dict)
    """Subjects whose figures do not count as beaten, and why."""
    settings: dict[str, Any] = field(default_factory=dict)
    crypto: list[CryptoCost] = field(default_factory=list)
    memory: list[MemoryCost] = field(default_factory=list)
    samples: Samples = field(default_factory=Samples)
    endpoints: list[dict[str, Any]] = field(default_factory=list)
    """Statistics of our endpoints, where they were asked."""

    def verdicts(self) -> list[Verdict]:
        """The targets that this run has figures for."""
        return judge(self.samples, self.crypto, self.caveats)

    def reached(self) -> bool:
        """Whether no target was missed."""
        return all(verdict.reached is not False for verdict in self.verdicts())


@dataclass(frozen=True)
class Grid:
    """A table before it is drawn; the first column is text, the others are figures.

    A row with nothing but text is the heading of those that follow.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def number(value: float) -> str:
    """Three significant digits, never in exponents."""
    if value >= 100 or value == 0:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def grids(report: Report) -> list[Grid]:
    """All tables of a report."""
    tables = [_crypto_grid(report)] if report.crypto else []
    tables += [_memory_grid(report)] if report.memory else []
    tables += [_course_grid(report, course) for course in report.samples.outline()]
    verdicts = report.verdicts()
    if verdicts:
        rows = tuple((v.what, v.wanted, v.measured, v.worst, _MARKS[v.reached]) for v in verdicts)
        columns = ("ours against theirs", "wanted", "medians", "worst pair", "")
        tables.append(Grid("Targets", columns, rows))
    return tables


def _crypto_grid(report: Report) -> Grid:
    rows = tuple(
        (
            f"{cost.cipher} {cost.way} {cost.size} B",
            cost.code,
            f"{cost.raw_ns:.0f}",
            f"{cost.core_ns:.0f}",
            f"{cost.extra_ns:+.0f}",
            f"{cost.gbps:.2f}",
        )
        for cost in report.crypto
    )
    columns = ("one core", "our cipher", "EVP, ns", "ours, ns", "extra, ns", "Gb/s")
    return Grid("Seal and open, per packet", columns, rows)


def _memory_grid(report: Report) -> Grid:
    rows = tuple(
        (
            cost.case.title,
            str(cost.case.peers),
            *(f"{size:.0f}" for size in (cost.connection, cost.peer, cost.key, cost.whole_peer)),
            f"{cost.device / 2**20:.1f}",
            f"{cost.total / 2**20:.1f}",
        )
        for cost in report.memory
    )
    columns = (
        "bytes", "peers", "connection", "peer", "key", "together", "device, MiB", "all, MiB"
    )  # fmt: skip
    return Grid("Memory of each peer", columns, rows)


def _course_grid(report: Report, course: str) -> Grid:
    """One group of rows for each metric: its name, then who came to what."""
    samples, outline = report.samples, report.samples.outline()[course]
    ours = samples.ours()
    rows: list[tuple[str, ...]] = []
    for name in sorted(outline, key=list(METRICS).index):
        metric = METRICS[name]
        rows.append((f"{metric.title}, {metric.unit}", "", "", "", "", ""))
        for subject in outline[name]:
            spread = samples.spread(course, subject, name)
            assert spread is not None
            cells = [number(value) for value in (spread.median, spread.low, spread.high)]
            ratio = None if subject == ours else samples.ratio(course, name, ours, subject)
            cells += ["", ""]
            if ratio is not None:
                worst = ratio.worst(more_is_better=metric.more_is_better)
                cells[3:] = [f"{number(ratio.of_medians)}x", f"{number(worst)}x"]
            rows.append((f"{INDENT}{subject}", *cells))
    columns = ("", "median", "min", "max", "ours to it", "worst pair")
    return Grid(f"{course}: {ALL_COURSES[course].title}", columns, tuple(rows))


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    console.print(", ".join(f"{name} {value}" for name, value in report.machine.items()))
    for subject, version in report.versions.items():
        caveat = f" ({report.caveats[subject]})" if subject in report.caveats else ""
        console.print(f"{subject}: {version}{caveat}")
    for subject, reason in report.absent.items():
        console.print(f"{subject}: did not take part: {reason}")
    for grid in grids(report):
        table = Table(title=grid.title, title_justify="left", box=box.SIMPLE_HEAD)
        for index, column in enumerate(grid.columns):
            table.add_column(column, justify="right" if index else "left")
        for row in grid.rows:
            style = "bold" if not any(row[1:]) else "red" if row[-1] == _MARKS[False] else None
            table.add_row(*row, style=style)
        console.print(table)


def markdown(report: Report) -> str:
    """The same tables for a document."""
    lines = [f"- {name}: {value}" for name, value in report.machine.items()]
    for subject, version in report.versions.items():
        caveat = f" ({report.caveats[subject]})" if subject in report.caveats else ""
        lines.append(f"- {subject}: {version}{caveat}")
    lines += [f"- {subject}: did not take part: {why}" for subject, why in report.absent.items()]
    for grid in grids(report):
        lines += ["", f"### {grid.title}", ""]
        lines.append("| " + " | ".join(grid.columns) + " |")
        lines.append("|---|" + "---:|" * (len(grid.columns) - 1))
        for row in grid.rows:
            first = row[0].strip() if any(row[1:]) else f"**{row[0]}**"
            lines.append("| " + " | ".join((first, *row[1:])) + " |")
    return "\n".join(lines) + "\n"


def as_dict(report: Report) -> dict[str, Any]:
    """Everything, single samples included."""
    return {
        "machine": report.machine,
        "versions": report.versions,
        "absent": report.absent,
        "caveats": report.caveats,
        "settings": report.settings,
        "crypto": [asdict(cost) for cost in report.crypto],
        "memory": [asdict(cost) for cost in report.memory],
        "samples": [asdict(sample) for sample in report.samples.all],
        "verdicts": [asdict(verdict) for verdict in report.verdicts()],
        "endpoints": report.endpoints,
    }


def write_json(report: Report, path: Path) -> None:
    """Write everything to a file."""
    path.write_text(json.dumps(as_dict(report), indent=2) + "\n", encoding="utf-8")
