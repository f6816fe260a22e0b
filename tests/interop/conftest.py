"""Fixtures of the tests against stock openvpn."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from interop.cases import Case
from interop.stage import Stage


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """`Stage` of a case and options of `Topology`, closed at the end."""
    number = itertools.count()
    with contextlib.ExitStack() as cleanup:

        def make(case: Case, **topology: Any) -> Stage:
            folder = tmp_path / str(next(number))
            folder.mkdir()
            stage = Stage(folder, case, **topology)
            cleanup.callback(stage.close)
            return stage

        yield make
