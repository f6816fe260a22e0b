"""A run's outcome, as tables on the terminal, as JSON, and as Markdown for the documentation."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ovpn_dco.bench.figures import METRICS, Samples
from ovpn_dco.bench.targets import Verdict, judge

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from ovpn_dco.bench.scenarios import CryptoCost

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

    A cell may have two lines.
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
    tables += [_course_grid(report, course) for course in report.samples.outline()]
    verdicts = report.verdicts()
    if verdicts:
        rows = tuple((v.what, v.wanted, v.measured, v.worst, _MARKS[v.reached]) for v in verdicts)
        columns = ("target", "wanted", "ratio of medians", "worst pair", "")
        tables.append(Grid("Targets", columns, rows))
    return tables


def _crypto_grid(report: Report) -> Grid:
    rows = tuple(
        (
            f"{cost.cipher} {cost.way} {cost.size} B",
            f"{cost.raw_ns:.0f}",
            f"{cost.core_ns:.0f}",
            f"{cost.extra_ns:+.0f}",
            f"{cost.gbps:.2f}",
        )
        for cost in report.crypto
    )
    columns = ("one core", "EVP alone, ns", "ours, ns", "difference, ns", "ours, Gb/s")
    return Grid("Seal and open, per packet", columns, rows)


def _course_grid(report: Report, course: str) -> Grid:
    outline = report.samples.outline()[course]
    subjects = list(dict.fromkeys(s for names in outline.values() for s in names))
    rows = []
    for name in sorted(outline, key=list(METRICS).index):
        metric = METRICS[name]
        cells = [f"{metric.title}, {metric.unit}"]
        for subject in subjects:
            spread = report.samples.spread(course, subject, name)
            cell = "" if spread is None else number(spread.median)
            if spread is not None and spread.count > 1:
                cell += f"\n({number(spread.low)} to {number(spread.high)})"
            cells.append(cell)
        rows.append(tuple(cells))
    title = f"{course}: median (min to max)"
    return Grid(title, ("", *subjects), tuple(rows))


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    console.print(", ".join(f"{name} {value}" for name, value in report.machine.items()))
    for subject, version in report.versions.items():
        caveat = f" ({report.caveats[subject]})" if subject in report.caveats else ""
        console.print(f"{subject}: {version}{caveat}")
    for subject, reason in report.absent.items():
        console.print(f"{subject}: did not take part: {reason}")
    for grid in grids(report):
        table = Table(title=grid.title, title_justify="left")
        for index, column in enumerate(grid.columns):
            table.add_column(column, justify="right" if index else "left", no_wrap=not index)
        for row in grid.rows:
            missed = row[-1] == _MARKS[False]
            table.add_row(*row, style="red" if missed else None)
        console.print()
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
        lines += ["| " + " | ".join(row).replace("\n", " ") + " |" for row in grid.rows]
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
        "samples": [asdict(sample) for sample in report.samples.all],
        "verdicts": [asdict(verdict) for verdict in report.verdicts()],
        "endpoints": report.endpoints,
    }


def write_json(report: Report, path: Path) -> None:
    """Write everything to a file."""
    path.write_text(json.dumps(as_dict(report), indent=2) + "\n", encoding="utf-8")
