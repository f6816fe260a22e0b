"""One check taken out, and the test that must fail then."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """In `file` the text `old`, which occurs once, becomes `new`; then `test` must fail."""

    name: str
    test: str
    file: str
    old: str
    new: str
    more: tuple[tuple[str, str, str], ...] = ()

    @property
    def changes(self) -> tuple[tuple[str, str, str], ...]:
        return ((self.file, self.old, self.new), *self.more)
