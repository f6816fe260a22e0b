"""What a packet costs in our own code, counted: with its features off, it must not creep up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import needs_tool

ROOT = Path(__file__).parents[2]
PROBE = ROOT / "build/c/gcc/instructions"

sys.path.append(str(ROOT / "benchmarks/instructions"))
import instructions  # noqa: E402


@pytest.fixture(scope="module")
def probe() -> Path:
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    command = ["make", "--no-print-directory", "--silent", str(PROBE.relative_to(ROOT))]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return PROBE


@needs_tool("valgrind", "make", "gcc")
def test_no_figure_is_far_above_its_baseline(probe: Path) -> None:
    baseline = instructions.read_baseline()
    compiler = instructions.compiler_of(probe)
    if compiler != baseline.compiler:
        pytest.skip(f"instructions counted with {compiler}, the baseline is of {baseline.compiler}")
    figures = instructions.figures_of(instructions.count(probe))
    print(instructions.table(figures, baseline))
    assert figures.keys() == baseline.figures.keys()
    for name, figure in figures.items():
        more = instructions.difference(figure, baseline.figures[name])
        assert more <= instructions.LIMIT, f"{name}: {more:.1f} % above the baseline"
