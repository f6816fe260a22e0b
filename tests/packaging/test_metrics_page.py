"""The page of metrics and the table in the code say the same."""

from __future__ import annotations

import pytest
from proofs import ROOT

from ovpn_dco.observe import metrics

PAGE = ROOT / "docs" / "observe.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the source tree")


@pytest.mark.parametrize("group", ["DEVICE", "PEER", "SERVER"])
def test_the_page_lists_them(group: str) -> None:
    rows = [
        f"| `{metric.wire_name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.text} |"
        for metric in getattr(metrics, group)
    ]
    table = "\n".join(["| metric | kind | labels | meaning |", "|---|---|---|---|", *rows, ""])
    assert table in PAGE.read_text() + "\n"
