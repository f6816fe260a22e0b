"""The list of mutations fits the source; `mutations.py` itself runs them, which takes minutes."""

from __future__ import annotations

import pytest
from security.mutation_list import MUTATIONS, ROOT, Mutation

pytestmark = pytest.mark.security


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_place_and_test_are_there(mutation: Mutation) -> None:
    for file, old, new in mutation.changes:
        assert (ROOT / file).read_text().count(old) == 1
        assert old != new
    path, _, name = mutation.test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text()


def test_names_are_unique() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(set(names)) == len(names)
