"""``server`` and ``client``: a configuration file, run until a signal or an error ends it."""

from __future__ import annotations

import contextlib
import enum
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click

from ovpn_dco import config
from ovpn_dco.cli import questions
from ovpn_dco.cli.logs import write_logs
from ovpn_dco.cli.metrics import Place, place_of, serving
from ovpn_dco.cli.privileges import Identity
from ovpn_dco.cli.runner import LOOPS, Endpoint, run
from ovpn_dco.errors import DcoError, LoginRefused
from ovpn_dco.validation.rules import WORKERS_MAX

__all__ = ["ExitStatus", "Surroundings", "client", "server"]

_Function = TypeVar("_Function", bound="Callable[..., Any]")
_Config = TypeVar("_Config", config.ClientConfig, config.ServerConfig)

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_VERB_TRACEBACK = 5
logger = logging.getLogger("ovpn_dco.cli")


class ExitStatus(enum.IntEnum):
    """Of the process."""

    ENDED = 0
    FAILED = 1
    WRONG = 2
    LOGIN_REFUSED = 3


# Of the two only the one that runs is loaded.


def _server(chosen: config.ServerConfig, **options: Any) -> Endpoint:
    made: Endpoint = import_module("ovpn_dco").Server(chosen, **options)
    return made


def _client(chosen: config.ClientConfig, **options: Any) -> Endpoint:
    made: Endpoint = import_module("ovpn_dco").Client(chosen, **options)
    return made


@dataclass(frozen=True)
class Surroundings:
    """What the commands stand on; another one is given as the `obj` of click."""

    server: Callable[..., Endpoint] = _server
    client: Callable[..., Endpoint] = _client
    ask: questions.Ask = questions.ask_at_terminal


@dataclass(frozen=True)
class _Options:
    """Of the command line; `device` are arguments of the endpoint."""

    file: Path
    verb: int | None
    check: bool
    loop: str
    trace: Path | None
    trace_sample: float
    metrics: Place | None
    device: dict[str, Any]


class _Refused(click.ClickException):
    """A configuration with problems, which speak for themselves."""

    exit_code = ExitStatus.WRONG

    def show(self, file: Any = None) -> None:
        """One line each."""
        click.echo(self.message, file=file, err=True)


def _run_options(function: _Function) -> _Function:
    for option in (
        click.option("--loop", type=click.Choice(LOOPS), default="auto", show_default=True,
                     help="Event loop; auto is uvloop where it is installed."),
        click.option("--check", is_flag=True, help="Only judge the file: exit status 0 or 2."),
        click.option("--netns", metavar="NAME", help="Network namespace of the interface."),
        click.option("--workers", type=click.IntRange(1, WORKERS_MAX),
                     help="Threads share the peers among them.  [default: 1]"),
        click.option("--backend", type=click.Choice(["auto", "kernel", "userspace"]),
                     default="auto", show_default=True, help="What carries the packets: auto is "
                     "the kernel's driver where it can do all that FILE asks for."),
        click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), metavar="PCAPNG",
                     help="Write packets there, with what became of them, while it runs: inner "
                     "ones in plain text."),
        click.option("--trace-sample", type=click.FloatRange(0, 1, min_open=True), default=1.0,
                     help="The share of packets that are written.  [default: 1]"),
        click.option("--metrics", callback=place_of, metavar="[HOST:]PORT",
                     help="Serve metrics for Prometheus there, to whoever can reach it; HOST is "
                     "127.0.0.1 unless given."),
        click.option("--verb", type=click.IntRange(0, 6),
                     help="How much is logged, whatever the file says: 0 errors, 1 to 3 what "
                     "happens, 4 all of it, 5 with tracebacks."),
        click.argument("file", type=_FILE),
    ):  # fmt: skip
        function = option(function)
    return function


@click.command()
@_run_options
@click.pass_context
def server(ctx: click.Context, /, **values: Any) -> None:
    """Run the server that FILE describes.

    SIGINT, SIGTERM and SIGHUP end it in order: clients are told, the interface is removed. A second
    signal ends it at once. Nothing is read again while it runs: restart it. With `user` and `group`
    it drops its privileges when it listens.

    Exit status: 0 ended on request; 1 failed while running; 2 wrong usage or configuration.
    """
    options = _options(**values)
    chosen = _read(config.parse_server, options)
    with _refusing():
        identity = Identity.find(chosen.lifecycle, str(options.file))
    if options.check:
        click.echo(f"{options.file}: accepted, warnings: {len(chosen.warnings)}")
        return
    surroundings = ctx.ensure_object(Surroundings)
    chosen = questions.with_key_password(chosen, surroundings.ask)
    with _logs(chosen, options):
        status = _run(surroundings.server, chosen, options, identity.take)
    ctx.exit(status)


@click.command()
@_run_options
@click.pass_context
def client(ctx: click.Context, /, **values: Any) -> None:
    """Run the client that FILE describes.

    User name, password, passphrase of the key and the answer to a challenge are asked for on the
    terminal where FILE leaves them open. SIGINT, SIGTERM and SIGHUP end it in order: the server is
    told, routes and interface are removed. A second signal ends it at once. When the connection is
    lost it connects again by itself.

    Exit status: 0 ended on request; 1 failed while running; 2 wrong usage or configuration; 3 the
    server refused the login.
    """
    options = _options(**values)
    chosen = _read(config.parse_client, options)
    if (chosen.lifecycle.user, chosen.lifecycle.group) != (None, None):
        click.echo(f"{options.file}: user, group: no effect on a client: it stays privileged, to "
                   "remove its routes at the end", err=True)  # fmt: skip
    if options.check:
        click.echo(f"{options.file}: accepted, warnings: {len(chosen.warnings)}")
        return
    surroundings = ctx.ensure_object(Surroundings)
    chosen = questions.with_key_password(chosen, surroundings.ask)
    with _logs(chosen, options):
        status = _run_client(surroundings, chosen, options)
    ctx.exit(status)


def _run_client(
    surroundings: Surroundings, chosen: config.ClientConfig, options: _Options
) -> ExitStatus:
    """Once, or with `auth-retry interact` until the login is taken."""
    answer = partial(questions.answer, surroundings.ask) if questions.has_terminal() else None
    options = replace(options, device={**options.device, "answer": answer})
    while True:
        complete = questions.with_login(chosen, surroundings.ask)
        status = _run(surroundings.client, complete, options)
        asks_again = chosen.auth.user_pass and chosen.auth.retry is config.AuthRetry.INTERACT
        if status is not ExitStatus.LOGIN_REFUSED or not asks_again:
            return status
        chosen = replace(chosen, auth=replace(chosen.auth, credentials=None))


def _options(
    file: Path,
    verb: int | None,
    check: bool,
    loop: str,
    trace: Path | None,
    trace_sample: float,
    metrics: Place | None,
    **device: Any,
) -> _Options:
    return _Options(file, verb, check, loop, trace, trace_sample, metrics, device)


def _read(parse: Callable[[Path], _Config], options: _Options) -> _Config:
    """The configuration, judged, its warnings on the standard error."""
    with _refusing():
        try:
            chosen = parse(options.file)
        except config.ConfigError:
            raise
        except OSError as error:
            raise _Refused(f"{options.file}: {error.strerror}") from error
        for warning in chosen.warnings:
            click.echo(str(warning), err=True)
        # What a file leaves to code is missing here for good.
        config.check(chosen)
    if options.verb is None:
        return chosen
    return replace(chosen, logging=replace(chosen.logging, verb=options.verb))


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except config.ConfigError as error:
        raise _Refused(str(error)) from error


@contextlib.contextmanager
def _logs(chosen: config.ClientConfig | config.ServerConfig, options: _Options) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(write_logs(chosen.logging, options.file.parent))
        except OSError as error:
            raise _Refused(f"{options.file}: log: {error.filename}: {error.strerror}") from error
        yield


def _run(
    make: Callable[..., Endpoint],
    chosen: config.ClientConfig | config.ServerConfig,
    options: _Options,
    on_start: Callable[[], None] = lambda: None,
) -> ExitStatus:
    """An endpoint until it ends. An error is one line, in the log and on the standard error."""
    is_server = isinstance(chosen, config.ServerConfig)

    def start(endpoint: Endpoint) -> None:
        if options.metrics is not None:  # the port may take the privileges that go below
            stack.enter_context(serving(options.metrics, endpoint, server=is_server))
        if options.trace is not None:
            endpoint.device.trace(options.trace, sample=options.trace_sample)
        on_start()

    try:
        with contextlib.ExitStack() as stack, _refusing():
            run(lambda: make(chosen, **options.device), start, options.loop)
    except OSError as error:
        text = _explain(error)
        traced = chosen.logging.verb >= _VERB_TRACEBACK
        logger.error("%s", text, exc_info=error if traced else None)
        if chosen.logging.path is not None:
            click.echo(text, err=True)
        refused = isinstance(error, LoginRefused)
        return ExitStatus.LOGIN_REFUSED if refused else ExitStatus.FAILED
    return ExitStatus.ENDED


def _explain(error: OSError) -> str:
    """One line, with what can be done about it."""
    text = str(error)
    if not isinstance(error, DcoError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, PermissionError) and not isinstance(error, LoginRefused):
        return f"{text}: run it as root"
    return text
