"""Tests as the pages name them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def is_there(proof: str) -> bool:
    """Whether `tests/FOLDER/FILE.py::function` is, or a function of a C test in `ext/tests`; a file
    alone stands for all that is in it."""
    name, _, function = proof.partition("::")
    path = ROOT / name
    if not (name.startswith(("tests/", "ext/tests/")) and path.is_file()):
        return False
    start = rf"^ *(async def|def|static void) {function or '[a-z_]+'}\("
    return bool(re.search(start, path.read_text(), re.MULTILINE))
