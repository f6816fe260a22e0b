"""From a file to a configuration: `parse_client`, `parse_server`; `check` for those made in code.

A refused file raises one `ConfigError` with all its problems. Files are read through one function
that the caller may replace; nothing else is opened, and nothing is ever run or written."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from .directives import DIRECTIVES, Row, Status
from .endpoints import PULL_RESTART_S, ClientConfig, ServerConfig
from .lexer import Directive, decode, lex
from .options import MtuConfig, TransportConfig, WrapConfig
from .problems import ConfigError, Problem, Refusal
from .rules import Rule, Severity, broken
from .settings import FILE_MAX, ReadFile, Role, Settings, build

DEPTH_MAX = 10
PROBLEMS_MAX = 100
# What may be a directive. A line of a key that lost its <key> is none, and no message repeats it.
_NAME = re.compile(r"(?![0-9a-f]{16})[a-z][a-z0-9_-]{1,39}", re.ASCII)
# Sections of which every <connection> has its own.
_CONNECTION = ("transport.", "mtu.", "wrap.")

C = TypeVar("C", ClientConfig, ServerConfig)


def parse_client(
    configuration: str | os.PathLike[str],
    *,
    source: str | None = None,
    read_file: ReadFile | None = None,
) -> ClientConfig:
    """The client of a text, or of a file if given a path.

    Names of files in it are relative to the folder of the file, or to the current one. `source` is
    the name of the text in messages. Raises `ConfigError`, and OSError for the file itself."""
    settings = load(configuration, Role.CLIENT, source, read_file)
    given = settings.given
    if settings.values.setdefault("pull.enabled", False) and "ping-exit" not in given:
        settings.values.setdefault("keepalive.restart_s", PULL_RESTART_S)
    settings.values.setdefault("keepalive.restart_s", 0)
    _bind(settings)
    return _judged(build(ClientConfig, settings.values), settings)


def parse_server(
    configuration: str | os.PathLike[str],
    *,
    source: str | None = None,
    read_file: ReadFile | None = None,
) -> ServerConfig:
    """The server of a text, or of a file if given a path; arguments as for `parse_client`."""
    settings = load(configuration, Role.SERVER, source, read_file)
    settings.values.setdefault("transport.bind", True)
    _listen(settings)
    return _judged(build(ServerConfig, settings.values), settings)


def check(config: ClientConfig | ServerConfig) -> None:
    """Raises `ConfigError` for what makes no sense in a configuration that is about to be used."""
    problems = [
        Problem("configuration", 0, rule.directive, rule.reason)
        for rule in broken(config)
        if rule.severity is not Severity.WARNING
    ]
    if problems:
        raise ConfigError(problems)


def load(
    configuration: str | os.PathLike[str],
    role: Role,
    source: str | None,
    read_file: ReadFile | None,
) -> Settings:
    """All directives of a text or file, applied."""
    if isinstance(configuration, str):
        settings = Settings(role, source or "<text>", read_file or reader(Path()))
        _run(configuration, settings.source, settings, 0)
        return settings
    path = Path(configuration)
    main = read_file(str(path)) if read_file else reader(Path())(str(path))
    folder = path.parent
    settings = Settings(role, source or str(path), read_file or reader(folder), str(folder))
    _run_bytes(main, settings.source, settings, 0)
    return settings


def reader(folder: Path) -> ReadFile:
    """A function that reads regular files, names relative to `folder`."""

    def read(name: str) -> bytes:
        with open(folder / name, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "is no regular file")
            return file.read(FILE_MAX + 1)

    return read


def _open_at_once(path: str, flags: int) -> int:
    # A FIFO without a writer would hold up the open itself.
    return os.open(path, flags | os.O_NONBLOCK)


def _run_bytes(data: bytes, source: str, settings: Settings, depth: int) -> None:
    text, problems = decode(data, source)
    settings.problems += problems
    _run(text, source, settings, depth)


def _run(text: str, source: str, settings: Settings, depth: int) -> None:
    directives, problems = lex(text, source)
    settings.problems += problems
    blocks = {directive.name for directive in directives if directive.inline is not None}
    for directive in directives:
        if len(settings.problems) >= PROBLEMS_MAX:
            settings.refuse(directive, "was not looked at, nor is anything after it")
            break
        if directive.arguments[:1] == ("[inline]",):
            _inline_marker(directive, blocks, settings)
        elif directive.name == "config":
            _nested(directive, settings, depth)
        else:
            apply(directive, settings)


def _inline_marker(directive: Directive, blocks: set[str], settings: Settings) -> None:
    """`ca [inline]` announces a block, and of tls-auth a direction."""
    if directive.name not in blocks:
        settings.refuse(directive, f"has no <{directive.name}> for its [inline]")
    elif directive.name == "tls-auth" and len(directive.arguments) > 1:
        direction = replace(directive, name="key-direction", arguments=directive.arguments[1:])
        apply(direction, settings)


def _nested(directive: Directive, settings: Settings, depth: int) -> None:
    reason = _misplaced(DIRECTIVES["config"], directive, settings)
    if reason is None and depth == DEPTH_MAX:
        reason = f"is nested more than {DEPTH_MAX} deep"
    if reason is not None:
        settings.refuse(directive, reason)
        return
    try:
        data = settings.read(directive.arguments[0])
    except ValueError as error:
        settings.refuse(directive, str(error))
        return
    _run_bytes(data, directive.arguments[0], settings, depth + 1)


def apply(directive: Directive, settings: Settings, *, connection: bool = False) -> None:
    """One directive into the settings, or to the problems."""
    optional = directive.name == "setenv" and directive.arguments[:1] == ("opt",)
    if optional and len(directive.arguments) > 1:
        name, *arguments = directive.arguments[1:]
        directive = replace(directive, name=name.removeprefix("--"), arguments=tuple(arguments))
    row = DIRECTIVES.get(directive.name)
    if row is None:
        _unknown(directive, settings, tolerated=optional)
        return
    reason = _misplaced(row, directive, settings, connection=connection)
    if reason is not None:
        settings.refuse(directive, reason)
        return
    settings.given[directive.name] = directive
    if row.status is Status.WARNED:
        settings.warn(directive, row.text)
    try:
        if row.name == "connection":
            _connection(directive, settings)
        elif row.parser is not None:
            row.parser(directive, settings)
    except ValueError as error:
        settings.refuse(directive, str(error))
    if row.connection and not connection and "connection" in settings.given:
        settings.warn(directive, "does not count for the <connection> blocks before it")


def _unknown(directive: Directive, settings: Settings, *, tolerated: bool) -> None:
    tolerated = tolerated or settings.tolerates_all or directive.name in settings.tolerated
    if _NAME.fullmatch(directive.name) is None:
        directive = replace(directive, name="(no name)")
    if tolerated:
        settings.warn(directive, "no effect: unknown directive")
        return
    near = get_close_matches(directive.name, DIRECTIVES, 1)
    hint = f", did you mean {near[0]}?" if near else ""
    settings.refuse(directive, f"unknown directive{hint}")


def _misplaced(
    row: Row, directive: Directive, settings: Settings, *, connection: bool = False
) -> str | None:
    """Why a directive cannot be here as it is, whatever its arguments mean."""
    if row.status is Status.REFUSED:
        return row.text
    if not settings.role & row.roles:
        return _WRONG_ROLE[row.roles]
    if connection and not row.connection:
        return "cannot stand in <connection>"
    if directive.inline is not None:
        return None if row.inline else "cannot be inline"
    if row.name == "connection":
        return "is a block: <connection> ... </connection>"
    count = len(directive.arguments)
    if count < row.least or (row.most is not None and count > row.most):
        return f"takes {_arity(row)}, not {count}"
    return None


_WRONG_ROLE = {
    Role.CLIENT: "is for clients",
    Role.SERVER: "is for servers",
    Role.CCD: "is for files of client-config-dir",
    Role.BOTH: "is not for files of client-config-dir",
    Role.SERVER | Role.CCD: "is for servers",
}


def _arity(row: Row) -> str:
    if row.most is None:
        return f"at least {row.least} arguments"
    if row.least == row.most:
        return f"{row.least or 'no'} argument{'s' if row.least != 1 else ''}"
    return f"{row.least} to {row.most} arguments"


def _connection(directive: Directive, settings: Settings) -> None:
    """A block: what was set so far is its default, and it changes nothing outside."""
    inner = Settings(settings.role, settings.source, settings.read_file)
    inner.values = {
        path: value for path, value in settings.values.items() if path.startswith(_CONNECTION)
    }
    inner.problems, inner.warnings = settings.problems, settings.warnings
    inner.said = settings.said
    directives, problems = lex(directive.inline or "", directive.source, directive.line + 1)
    settings.problems += problems
    for inside in directives:
        apply(inside, inner, connection=True)
    _bind(inner)
    remotes = inner.values.get("remotes", ())
    if remotes:
        own = replace(
            remotes[-1],
            transport=build(TransportConfig, inner.values, "transport."),
            mtu=build(MtuConfig, inner.values, "mtu."),
            wrap=build(WrapConfig, inner.values, "wrap."),
        )
        settings.append("remotes", own)
    elif "remote" not in {problem.directive for problem in settings.problems}:
        raise Refusal("has no remote inside")


def _listen(settings: Settings) -> None:
    """A single `local` of a server says where the transport is."""
    listeners = settings.values.get("listen", ())
    if len(listeners) != 1:
        return
    (only,) = listeners
    del settings.values["listen"]
    for name, value in (
        ("local_host", only.host),
        ("local_port", only.port),
        ("protocol", only.protocol),
    ):
        if value is not None:
            settings.set(f"transport.{name}", value)


def _bind(settings: Settings) -> None:
    """A client that names its address or port binds; else the system picks."""
    if "nobind" not in settings.given and settings.given.keys() & {"lport", "local"}:
        settings.set("transport.bind", True)


def _judged(config: C, settings: Settings) -> C:
    """The configuration with its warnings, or all problems as one error."""
    _judge(broken(config, settings.given.keys()), settings)
    raise_problems(settings)
    return replace(config, warnings=tuple(settings.warnings))


def _judge(rules: Iterable[Rule], settings: Settings) -> None:
    """Notes the broken rules, but those of directives that are refused anyway."""
    failed = {problem.directive for problem in settings.problems}
    for rule in rules:
        if failed & {rule.directive, *rule.also}:
            continue
        missing = Directive(rule.directive, line=0, source=settings.source)
        about = settings.given.get(rule.directive, missing)
        if rule.severity is Severity.ERROR:
            settings.refuse(about, rule.reason)
        else:
            settings.warn(about, rule.reason)


def raise_problems(settings: Settings) -> None:
    """Raises what there is: the main file first, by lines, what is missing at the end."""
    if settings.problems:
        raise ConfigError(_ordered(settings.problems, settings.source))


def _ordered(problems: Iterable[Problem], main: str) -> list[Problem]:
    def key(problem: Problem) -> tuple[bool, str, bool, int]:
        return problem.source != main, problem.source, not problem.line, problem.line

    return sorted(problems, key=key)
