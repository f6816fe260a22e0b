"""The page about the kernel driver's own tests names tests that exist, and those know no engine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from proofs import ROOT, is_there

PAGE = (ROOT / "docs/conformance.md").read_text()
SCENARIOS = sorted((ROOT / "tests/scenarios").glob("*.py"))
REFERENCES = sorted(set(re.findall(r"`([\w/]+\.(?:py|c)(?:::\w+)?)`", PAGE)))


@pytest.mark.parametrize("name", REFERENCES)
def test_what_the_page_names_is_there(name: str) -> None:
    if "/" not in name:
        name = f"scenarios/{name}"
    assert is_there(name if name.startswith("ext/") else f"tests/{name}")


def test_every_scenario_is_on_the_page() -> None:
    named = {name.partition("::")[0] for name in REFERENCES}
    tests = {f"scenarios/{path.name}" for path in SCENARIOS if path.name.startswith("test_")}
    assert tests - named == {"scenarios/test_matrix.py"}


def test_every_case_has_tests() -> None:
    assert re.findall(r"^\| (\w)\. ", PAGE, re.MULTILINE) == list("abcdefghijklmn")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name)
def test_scenarios_know_the_public_api_only(path: Path) -> None:
    ours = {name for name in imported(path) if name.split(".")[0] == "ovpn_dco"}
    assert ours <= {"ovpn_dco", "ovpn_dco.testing"}
