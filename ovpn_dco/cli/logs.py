"""Where log lines go, how they look there, and how many there are: `verb`, `log` and `mute`."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from ovpn_dco.config import LoggingConfig

__all__ = ["Mute", "write_logs"]

_ROOT = "ovpn_dco"
# What an operator wants to see; other loggers are of its insides.
_OPERATION = ("ovpn_dco.server", "ovpn_dco.client", "ovpn_dco.cli", "ovpn_dco.backend")
_TIME = "%Y-%m-%d %H:%M:%S"
_UNUSED = ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks", "_srcfile")
_VERB_INSIDES = 3
_VERB_DEBUG = 4


@contextlib.contextmanager
def write_logs(logging_: LoggingConfig, folder: Path) -> Iterator[None]:
    """Writes what the package logs, to a file or to the standard error, until the end of the block.

    `folder` is that of the configuration, to which the path of a log is relative. OSError if the
    file cannot be written."""
    handler = _handler(logging_, folder)
    if logging_.mute:
        handler.addFilter(Mute(logging_.mute, handler))
    levels = _levels(logging_.verb)
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger(_ROOT).addHandler(handler)
    try:
        with _without_what_no_line_shows():
            yield
    finally:
        logging.getLogger(_ROOT).removeHandler(handler)
        handler.close()
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _without_what_no_line_shows() -> Iterator[None]:
    """Half of what a line costs: where it comes from, in which thread, process and task."""
    # See "Optimization" in the documentation of logging. Not every Python has all of them.
    known = {name: value for name, value in vars(logging).items() if name in _UNUSED}
    vars(logging).update(dict.fromkeys(known))
    try:
        yield
    finally:
        vars(logging).update(known)


def _levels(verb: int) -> dict[str, int]:
    """Of loggers, by name."""
    if verb >= _VERB_DEBUG:
        operation = insides = logging.DEBUG
    elif verb == 0:
        operation = insides = logging.ERROR
    else:
        operation = logging.INFO
        insides = logging.INFO if verb >= _VERB_INSIDES else logging.WARNING
    return {_ROOT: insides, **dict.fromkeys(_OPERATION, operation)}


def _handler(logging_: LoggingConfig, folder: Path) -> logging.Handler:
    if logging_.path is not None:
        mode = "a" if logging_.append else "w"
        return _plain(logging.FileHandler(folder / logging_.path, mode, encoding="utf-8"))
    if sys.stderr.isatty():
        return RichHandler(
            console=Console(stderr=True),
            show_path=False,
            omit_repeated_times=False,
            log_time_format=_TIME,
        )
    return _plain(logging.StreamHandler(), timed=not _is_journal())


def _plain(handler: logging.Handler, *, timed: bool = True) -> logging.Handler:
    text = "%(asctime)s %(levelname)s %(message)s" if timed else "%(levelname)s %(message)s"
    handler.setFormatter(logging.Formatter(text, _TIME))
    return handler


def _is_journal() -> bool:
    """Whether the standard error is systemd's journal, which has the time by itself.

    The variable alone says little: it is inherited by processes that write elsewhere."""
    try:
        where = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{where.st_dev}:{where.st_ino}"


class Mute(logging.Filter):
    """Lets no more than `most` lines of one kind pass in a row, and says how many it kept back.

    Lines are of one kind if only their arguments differ."""

    def __init__(self, most: int, handler: logging.Handler) -> None:
        super().__init__()
        self._most = most
        self._handler = handler
        self._kind: tuple[str, int, object] | None = None
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one passes."""
        kind = record.name, record.levelno, record.msg
        if kind != self._kind:
            self._tell(record)
            self._kind, self._count = kind, 0
        self._count += 1
        return self._count <= self._most

    def _tell(self, successor: logging.LogRecord) -> None:
        muted = self._count - self._most
        if muted > 0:
            text = f"{muted} more of the line before"
            values = {**vars(successor), "msg": text, "args": None, "exc_info": None}
            self._handler.emit(logging.makeLogRecord(values))
