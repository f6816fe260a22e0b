"""The ten lines of Python in README.md do run, and are as many as it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import needs_root

from ovpn_dco.testing import Topology

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture
def example() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return block


def test_example_is_short(example: str) -> None:
    assert len([line for line in example.splitlines() if line.strip()]) == 10


@needs_root
@pytest.mark.system
def test_example_runs(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Topology() as topology, topology.left.enter():
        exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "PeerStats(" in printed


def test_commands_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE))
    assert named
    assert named - targets == set()
