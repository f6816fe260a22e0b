"""What directives write into: values by the path of their field, with the directive they came from.

`build` makes the frozen configuration of it. The small parsers below are the common ones: each is
made for a field, such as `into("tls.cert_profile", choice(CertProfile))`."""

from __future__ import annotations

import enum
import functools
import os
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias, TypeVar, cast, get_type_hints

from . import values
from .lexer import Directive
from .options import Material
from .problems import ConfigWarning, Problem, Refusal

ReadFile: TypeAlias = Callable[[str], bytes]
T = TypeVar("T")

FILE_MAX = 16 << 20  # revocation lists are the largest of what is read


class Role(enum.Flag):
    """Where a directive may stand."""

    CLIENT = 1
    SERVER = 2
    CCD = 4
    """A file of `client-config-dir`."""
    BOTH = CLIENT | SERVER


class Settings:
    """Values by path (`tls.ca`), the last directive of each name, problems and warnings."""

    def __init__(self, role: Role, source: str, read_file: ReadFile, folder: str = "") -> None:
        self.role = role
        self.source = source
        self.read_file = read_file
        self.folder = folder
        self.values: dict[str, Any] = {}
        self.given: dict[str, Directive] = {}
        self.problems: list[Problem] = []
        self.warnings: list[ConfigWarning] = []
        self.said: set[tuple[str, str]] = set()
        self.tolerated: set[str] = set()
        self.tolerates_all = False

    def set(self, path: str, value: Any) -> None:
        """The last one counts."""
        self.values[path] = value

    def append(self, path: str, *more: Any) -> None:
        """All count."""
        self.values[path] = (*self.values.get(path, ()), *more)

    def warn(self, directive: Directive, text: str) -> None:
        """Notes a warning; the same about the same directive is said once."""
        if (directive.name, text) not in self.said:
            self.said.add((directive.name, text))
            warning = ConfigWarning(directive.source, directive.line, directive.name, text)
            self.warnings.append(warning)

    def refuse(self, directive: Directive, reason: str) -> None:
        """Notes a problem."""
        problem = Problem(directive.source, directive.line, directive.name, reason)
        self.problems.append(problem)

    def read(self, name: str) -> bytes:
        """The content of a file that the configuration names."""
        try:
            data = self.read_file(values.path(name))
        except OSError as error:
            raise Refusal(f"cannot read {name!r}: {error.strerror or 'no such file'}") from None
        if len(data) > FILE_MAX:
            raise Refusal(f"{name!r} is larger than {FILE_MAX} bytes")
        return data

    def path(self, name: str) -> str:
        """The name of a file or folder as it can be opened later, from the current folder."""
        return os.path.join(self.folder, values.path(name))

    def material(self, directive: Directive) -> Material:
        """Inline content, or that of the file that is the first argument."""
        if directive.inline is not None:
            return Material(directive.inline.encode())
        name = directive.arguments[0]
        return Material(self.read(name), self.path(name))

    def text(self, directive: Directive) -> list[str]:
        """The lines of inline content or of a file, without those at the end that are empty."""
        try:
            lines = self.material(directive).data.decode("utf-8").rstrip("\r\n").split("\n")
        except UnicodeDecodeError:
            raise Refusal("file is not UTF-8") from None
        if any("\0" in line for line in lines):
            raise Refusal("file has a NUL character inside")
        return [line.removesuffix("\r") for line in lines]


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def build(kind: type[T], given: Mapping[str, Any], prefix: str = "") -> T:
    """The dataclass `kind` of the values under `prefix`, its parts made the same way."""
    arguments: dict[str, Any] = {}
    hints = _hints(cast(Hashable, kind))
    for item in fields(kind):  # type: ignore[arg-type]
        name = prefix + item.name
        part = hints[item.name]
        if isinstance(part, type) and is_dataclass(part):
            arguments[item.name] = build(part, given, f"{name}.")
        elif name in given:
            arguments[item.name] = given[name]
    return kind(**arguments)


# Parsers of one field

Parser: TypeAlias = Callable[[Directive, Settings], None]


def into(path: str, read: Callable[[str], Any] = values.text) -> Parser:
    """The first argument becomes the field."""

    def parse(directive: Directive, settings: Settings) -> None:
        settings.set(path, read(directive.arguments[0]))

    return parse


def path_into(path: str) -> Parser:
    """The first argument, the name of a file or folder, becomes the field."""

    def parse(directive: Directive, settings: Settings) -> None:
        settings.set(path, settings.path(directive.arguments[0]))

    return parse


def pair(first: str, second: str, read: Callable[[str], Any]) -> Parser:
    """The first argument becomes one field, and the second, if it is there, another."""

    def parse(directive: Directive, settings: Settings) -> None:
        for path, word in zip((first, second), directive.arguments, strict=False):
            settings.set(path, read(word))

    return parse


def flag(path: str, *, value: bool = True) -> Parser:
    """That the directive is there becomes the field."""

    def parse(_directive: Directive, settings: Settings) -> None:
        settings.set(path, value)

    return parse


def every(path: str, read: Callable[[str], Any] = values.text) -> Parser:
    """All arguments become the field."""

    def parse(directive: Directive, settings: Settings) -> None:
        settings.set(path, tuple(read(word) for word in directive.arguments))

    return parse


def frequency(path: str) -> Parser:
    """A number and the seconds in which it counts."""

    def parse(directive: Directive, settings: Settings) -> None:
        count, window = directive.arguments
        settings.set(path, (values.integer(1)(count), values.integer(1)(window)))

    return parse


def material(path: str) -> Parser:
    """A file or an inline block becomes the field."""

    def parse(directive: Directive, settings: Settings) -> None:
        content = settings.material(directive)
        if not content.data.strip():
            raise Refusal("is empty")
        settings.set(path, content)

    return parse
