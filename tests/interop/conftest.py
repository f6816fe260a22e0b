"""Fixtures of the tests against stock openvpn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from interop.cases import Case
from interop.stage import Stage


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """`Stage` of a case and options of `Topology`, closed at the end."""
    with contextlib.ExitStack() as cleanup:

        def make(case: Case, **topology: Any) -> Stage:
            stage = Stage(tmp_path, case, **topology)
            cleanup.callback(stage.close)
            return stage

        yield make
