"""The table of features: each row says what we do and names the test that proves it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from proofs import ROOT, is_there

PAGE = ROOT / "docs" / "features.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the source tree")


class Row(NamedTuple):
    feature: str
    platforms: tuple[str, ...]
    proofs: tuple[str, ...]


def rows(text: str) -> Iterator[Row]:
    """The rows of all tables of the page."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0] != "feature" and set(cells[0]) != {"-"}:
            yield Row(cells[0], tuple(cells[1:-1]), tuple(re.findall(r"`([^`]+)`", cells[-1])))


ROWS = tuple(rows(PAGE.read_text())) if PAGE.exists() else ()


def test_the_page_has_all_platforms_in_each_row() -> None:
    assert len(ROWS) > 30
    assert {len(row.platforms) for row in ROWS} == {5}
    assert all(cell for row in ROWS for cell in row.platforms)


@pytest.mark.parametrize("row", ROWS, ids=[row.feature for row in ROWS])
def test_each_claim_of_ours_has_its_test(row: Row) -> None:
    assert row.proofs
    assert all(re.search(r"/test_\w+\.(py|c)(::test_|$)", proof) for proof in row.proofs)
    assert [proof for proof in row.proofs if not is_there(proof)] == []


def test_a_proof_that_is_not_there_is_noticed() -> None:
    assert is_there("tests/packaging/test_features.py::test_a_proof_that_is_not_there_is_noticed")
    assert not is_there("tests/packaging/test_features.py::test_of_nothing")
    assert not is_there("tests/packaging/nothing.py")
    assert is_there("ext/tests/test_clock.c::test_suspend_expires")
    assert not is_there("ext/tests/test_clock.c::test_suspend")
    assert not is_there("ovpn_dco/device.py")
