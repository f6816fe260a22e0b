"""One line for all packets that were refused since the last."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from ovpn_dco.server.refusals import RefusalReport


def test_news_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ovpn_dco.server")
    report, counted = RefusalReport(), Counter({"tag_mismatch": 2})
    report.tell(counted)
    report.tell(counted)
    counted.update({"tag_mismatch": 1, "too_short": 5})
    report.tell(counted)
    assert caplog.messages == [
        "refused packets: 2 tag_mismatch",
        "refused packets: 5 too_short, 1 tag_mismatch",
    ]
