"""Fixtures of the security tests; what they stand on is in `lab.py` and `forge.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from security.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A MULTIPEER device with strict source check."""
    with Lab() as laboratory:
        yield laboratory
