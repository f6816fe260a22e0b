"""The policing of skips in conftest.py, on a tree of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

SUITE = """
import pytest
from support import needs_tool

@needs_tool("no-such-tool")
def test_tool(): ...

@pytest.mark.skip(reason="the moon is full")
def test_moon(): ...

def test_that_runs(): ...
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    shutil.copy(TESTS.parent / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    for name in ("conftest.py", "support.py"):
        shutil.copy(TESTS / name, tmp_path / "tests")
    (tmp_path / "tests/test_suite.py").write_text(SUITE)
    return tmp_path


def run(tree: Path, expected: str, *arguments: str, ci: bool) -> subprocess.CompletedProcess[str]:
    (tree / "tests/expected_skips.txt").write_text(expected)
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=tree,
        env=environment | ({"CI": "true"} if ci else {}),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "side by side"])
def test_unannounced_skip_fails_ci(tree: Path, arguments: tuple[str, ...]) -> None:
    done = run(tree, "no-such-tool  # it does not exist\n", *arguments, ci=True)
    assert done.returncode == 1
    assert "test_moon: the moon is full" in done.stdout
    assert "test_tool: " not in done.stdout


def test_announced_skips_pass(tree: Path) -> None:
    done = run(tree, "# both\nno-such-tool\nmoon is (full|new)\n", ci=True)
    assert done.returncode == 0, done.stdout


def test_skips_are_free_outside_ci(tree: Path) -> None:
    assert run(tree, "", ci=False).returncode == 0
