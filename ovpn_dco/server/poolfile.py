"""The file of `ifconfig-pool-persist`: which client had which addresses, over a restart.

Lines are `common name,IPv4,IPv6`, either address may be empty or left out; `#` and `;` begin
comments. They are hints: a client whose addresses are taken gets others."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import shutil
import tempfile
from pathlib import Path

from ovpn_dco.config import PoolConfig, Problem
from ovpn_dco.errors import DcoError, error_for
from ovpn_dco.protocol.text import TextRefused, check_text, decode_text

from .pool import AddressPool, Remembered

__all__ = ["PoolFile"]

MAX_NAME = 255
MAX_LINE = MAX_NAME + 64

_log = logging.getLogger("ovpn_dco.server")


class PoolFile:
    """Reads once, and writes when the pool has changed: at the interval, and at the end.

    Without `persist_path` nothing happens; with an interval of 0 nothing is ever written."""

    def __init__(self, pool: AddressPool, config: PoolConfig, *, now: float) -> None:
        self._pool = pool
        self._path = config.persist_path
        self._interval_s = config.persist_interval_s
        self._saved_revision = pool.revision
        self._saved_at_s = now

    def load(self) -> tuple[Problem, ...]:
        """Reads the file, if there is one. Bad lines are logged, returned and passed over.

        DcoError for a file that cannot be read."""
        if self._path is None:
            return ()
        try:
            data = Path(self._path).read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise error_for(error.errno or 0, f"{self._path}: {error.strerror}") from error
        problems = tuple(
            problem
            for number, line in enumerate(data.split(b"\n"), 1)
            if (problem := self._take(line, number)) is not None
        )
        for problem in problems:
            _log.warning("ifconfig-pool-persist: %s", problem)
        self._saved_revision = self._pool.revision
        return problems

    @property
    def due_s(self) -> float | None:
        """When to call `save`; None while nothing has changed."""
        if self._path is None or not self._interval_s:
            return None
        if self._pool.revision == self._saved_revision:
            return None
        return self._saved_at_s + self._interval_s

    async def save(self, now: float) -> None:
        """Writes the file in place of the old one, as a whole or not at all, if there is news.

        A failure is logged, and tried again after the next interval."""
        if self._path is None or self.due_s is None:
            return
        revision, text = self._pool.revision, "".join(map(_line, self._pool.remembered()))
        self._saved_at_s = now
        try:
            await asyncio.to_thread(_replace, Path(os.path.realpath(self._path)), text)
        except OSError as error:
            _log.error("ifconfig-pool-persist: %s: %s", self._path, error.strerror)
        else:
            self._saved_revision = revision

    def _take(self, line: bytes, number: int) -> Problem | None:
        try:
            entry = _parse(line)
            if entry is not None:
                self._pool.remember(entry)
        except DcoError as error:
            return Problem(str(self._path), number, None, error.strerror or "")
        return None


def _parse(line: bytes) -> Remembered | None:
    """None for a comment or an empty line; TextRefused for what is neither that nor an entry."""
    text = decode_text(line.rstrip(b"\r"), "line", max_bytes=MAX_LINE).strip(" ")
    if not text or text[0] in "#;":
        return None
    name, *addresses = text.split(",")
    if not name or not 1 <= len(addresses) <= 2:
        raise TextRefused("line", "must be a name, an IPv4 and an IPv6 address")
    ipv4, ipv6 = (*addresses, "")[:2]
    try:
        return Remembered(
            check_text(name, "name", max_bytes=MAX_NAME),
            ipaddress.IPv4Address(ipv4) if ipv4 else None,
            ipaddress.IPv6Address(ipv6) if ipv6 else None,
        )
    except ipaddress.AddressValueError:
        raise TextRefused("line", "has an address that is none") from None


def _line(entry: Remembered) -> str:
    """The line of an entry; nothing for a name that it could not be read from again."""
    line = f"{entry.common_name},{entry.ipv4 or ''},{entry.ipv6 or ''}"
    try:
        return line + "\n" if _parse(line.encode()) == entry else ""
    except (TextRefused, UnicodeEncodeError):
        return ""


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, name)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
