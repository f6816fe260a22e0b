"""A picture of a report; needs matplotlib."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from ovpn_dco.bench.errors import UnavailableError
from ovpn_dco.bench.figures import METRICS

if TYPE_CHECKING:
    from pathlib import Path

    from ovpn_dco.bench.report import Report


def require_matplotlib() -> None:
    """Raises UnavailableError, so that nobody measures for minutes to learn that it is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UnavailableError("--plot needs matplotlib: pip install 'ovpn-dco[plot]'")


def write_plot(report: Report, path: Path) -> None:
    """One panel for each course and metric: medians as bars, extremes as whiskers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    outline = report.samples.outline()
    panels = [(course, metric) for course, metrics in outline.items() for metric in metrics]
    drawings = [d for d, figures in ((_draw_crypto, report.crypto), (_draw_memory, report.memory))
                if figures]  # fmt: skip
    count = len(panels) + len(drawings)
    columns = min(4, max(count, 1))
    rows = -(-max(count, 1) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid[count:]:
        axes.set_visible(False)
    for axes, draw in zip(grid, drawings, strict=False):
        draw(axes, report)
    for axes, (course, metric) in zip(grid[len(drawings) :], panels, strict=False):
        _draw_metric(axes, report, course, metric, outline[course][metric])
    figure.suptitle(f"{report.machine['processor']}, Linux {report.machine['kernel']}")
    figure.savefig(path, dpi=110)


def _draw_metric(axes: Any, report: Report, course: str, metric: str, subjects: list[str]) -> None:
    found = [(s, report.samples.spread(course, s, metric)) for s in subjects]
    spreads = [(subject, spread) for subject, spread in found if spread is not None]
    heights = [spread.median for _, spread in spreads]
    whiskers = [
        [spread.median - spread.low for _, spread in spreads],
        [spread.high - spread.median for _, spread in spreads],
    ]
    names = [subject for subject, _ in spreads]
    colors = ["tab:blue" if subject == report.samples.ours() else "tab:gray" for subject in names]
    several = any(spread.count > 1 for _, spread in spreads)
    axes.bar(names, heights, yerr=whiskers if several else None, color=colors, capsize=4)
    axes.margins(x=0.6 / len(names))
    axes.set_title(f"{course}: {METRICS[metric].title}", fontsize=9)
    axes.set_ylabel(METRICS[metric].unit)
    axes.tick_params(axis="x", labelsize=7)


def _draw_crypto(axes: Any, report: Report) -> None:
    costs = [cost for cost in report.crypto if cost.cipher == "AES-256-GCM"] or report.crypto
    # What a device uses: our own code where there is some.
    costs = [cost for cost in costs if cost.code == costs[-1].code]
    names = [f"{cost.way}\n{cost.size} B" for cost in costs]
    raw = [cost.raw_ns for cost in costs]
    axes.bar(names, [cost.core_ns for cost in costs], color="tab:blue", label="ours")
    axes.bar(names, raw, color="tab:gray", label="EVP alone", width=0.5)
    axes.set_title(f"{costs[0].cipher} ({costs[0].code}): time per packet", fontsize=9)
    axes.set_ylabel("ns")
    axes.tick_params(axis="x", labelsize=7)
    axes.legend(fontsize=7)


def _draw_memory(axes: Any, report: Report) -> None:
    names = [cost.case.title.replace(", ", "\n", 1) for cost in report.memory]
    left = [0.0] * len(names)
    for part in ("connection", "peer", "key"):
        widths = [getattr(cost, part) for cost in report.memory]
        axes.barh(names, widths, left=left, label=part)  # lying: the names are long
        left = [before + width for before, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_title("memory of each peer", fontsize=9)
    axes.set_xlabel("bytes")
    axes.tick_params(axis="y", labelsize=6)
    axes.legend(fontsize=7)
