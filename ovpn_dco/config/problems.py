"""What is wrong with a configuration, as values: each names its file, line and directive.

`ConfigError` carries every problem of a file, not only the first. Reasons repeat arguments only
where those cannot be secret."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InvalidArgument

__all__ = ["ConfigError", "ConfigWarning", "Problem", "Refusal"]


class Refusal(ValueError):
    """A word or a combination of words that a directive does not take; the message says why."""


@dataclass(frozen=True)
class Problem:
    """Why a configuration is refused. `line` counts from 1; 0: something is missing altogether."""

    source: str
    line: int
    directive: str | None
    reason: str

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}" if self.line else self.source
        return (
            f"{where}: {self.directive}: {self.reason}"
            if self.directive
            else (f"{where}: {self.reason}")
        )


@dataclass(frozen=True)
class ConfigWarning:
    """Something that was accepted, but not as it was meant; `line` 0: of the file as a whole."""

    source: str
    line: int
    directive: str
    text: str

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}" if self.line else self.source
        return f"{where}: {self.directive}: {self.text}"


class ConfigError(InvalidArgument):
    """A configuration that is refused, with all its problems in the order of their lines.

    `source`, `line`, `directive` and `reason` are those of the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(errno.EINVAL, str(first), attribute=first.directive)
        self.source = first.source
        self.line = first.line
        self.directive = first.directive
        self.reason = first.reason

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))
