"""`make test` is two runs of pytest, of which one may have nothing to do; what make needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import needs_tool

ROOT = Path(__file__).parents[2]
NO_TESTS = int(pytest.ExitCode.NO_TESTS_COLLECTED)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@needs_tool("make")
@pytest.mark.parametrize(
    ("jobs", "alone", "beside", "passes"),
    [
        (2, 0, 0, True),
        (2, 0, NO_TESTS, True),
        (2, NO_TESTS, 0, True),
        (2, NO_TESTS, NO_TESTS, False),
        (2, 1, 0, False),
        (2, 0, 1, False),
        (2, NO_TESTS, 1, False),
        (2, 1, NO_TESTS, False),
        (0, 1, 0, True),  # nobody asks for a run of its own
        (0, 0, NO_TESTS, False),
    ],
)
def test_both_runs_are_judged(
    tmp_path: Path, jobs: int, alone: int, beside: int, passes: bool
) -> None:
    shutil.copy2(ROOT / "Makefile", tmp_path)
    program(tmp_path / "tools/system-packages", "exit 0")
    pytest_says = f'case "$*" in *--alone*) exit {alone} ;; *) exit {beside} ;; esac'
    program(tmp_path / "venv/bin/python", pytest_says)
    made_already = ["-o", "build", "-o", "venv/.extra-test"]
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    done = subprocess.run(
        ["make", "test", "VENV=venv", f"TEST_JOBS={jobs}", *made_already],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    if passes:
        assert ("--alone" in done.stderr) == bool(jobs)


@needs_tool("gcc")
def test_a_wrapper_may_stand_before_the_compiler(tmp_path: Path) -> None:
    program(tmp_path / "bin/id", "echo 1000")  # nothing is installed
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        [ROOT / "tools/system-packages", "build"],
        env={**os.environ, "PATH": path, "CC": "env gcc"},
        capture_output=True,
        text=True,
    )
    assert "gcc" not in done.stderr.split()
