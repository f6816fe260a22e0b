"""Shows how far a run has come: a bar on a terminal, one line a step elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from rich.console import Console
    from typing_extensions import Self


class ProgressDisplay:
    """The :class:`~ovpn_dco.bench.scenarios.Watch` of the command line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total = 0
        self._begun = 0
        self._bar = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            # Redrawing takes CPU time away from what is measured.
            refresh_per_second=1,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def expect(self, steps: int) -> None:
        """So many more steps will follow."""
        self._total += steps
        self._bar.update(self._task, total=self._total)

    def step(self, text: str) -> None:
        """The step before has ended, this one begins."""
        self._bar.update(self._task, completed=self._begun, description=text)
        self._begun += 1
        if not self._console.is_terminal:
            self._console.print(f"{self._begun}/{self._total} {text}", highlight=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()
