"""A listening socket, and the connections that it brings while they are on trial."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ...model import Address, TransportInfo, TransportKind
from ...validation.answers import answer
from .port import Port, adopt, check
from .tcp import TcpPort

ACCEPTS = 64
"""Connections that are taken at one time, so that others get their turn."""
_SOURCE = {4: 24, 6: 56}  # bits of an address that are one source
_PASSING = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR)  # of accept(2): others wait
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True)
class TrialLimits:
    """Of connections without a peer; see `Device.listen_tcp`."""

    trials_max: int
    trials_per_source_max: int
    deadline_s: int


@dataclass
class Trial:
    """A connection without a peer, from where, and until when (monotonic seconds)."""

    source: str
    until_s: float


class Listener(Port):
    """Accepts connections, as many as may be on trial at one time.

    Trials are looked through whenever somebody knocks: only then does it matter who has had his
    time."""

    kind = TransportKind.LISTENER

    def __init__(self, sock: socket.socket, limits: TrialLimits) -> None:
        check(sock, "listen_tcp", socket.IPPROTO_TCP)
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise answer("listen_tcp", errno.EINVAL, "")
        super().__init__(sock)
        self._limits = limits
        self._trials: dict[TcpPort, Trial] = {}
        self._sources: Counter[str] = Counter()
        self._accepted = self._refused = self._expired = 0
        self._ready = select.poll()
        self._ready.register(sock, select.POLLIN)
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def trials(self) -> list[TcpPort]:
        """Connections without a peer."""
        return list(self._trials)

    def expired(self) -> list[TcpPort]:
        """Those whose time is over."""
        now_s = time.monotonic()
        over = [port for port, trial in self._trials.items() if trial.until_s <= now_s]
        self._expired += len(over)
        return over

    def end_trial(self, port: TcpPort) -> None:
        """It has a peer now, or is closed. Idempotent."""
        trial = self._trials.pop(port, None)
        if trial is not None:
            self._sources[trial.source] -= 1
            if not self._sources[trial.source]:
                del self._sources[trial.source]

    def accept(self) -> Iterator[TcpPort]:
        """Those that have come, each on trial from now on."""
        for _ in range(ACCEPTS):
            sock = self._next()
            if sock is None:
                return
            port = self._admit(sock)
            if port is not None:
                yield port

    def _next(self) -> socket.socket | None:
        # A socket that others share may be blocking, and accept(2) knows no MSG_DONTWAIT.
        while self._ready.poll(0):
            try:
                return adopt(self.sock.accept()[0].detach())
            except OSError as error:
                if error.errno in _FULL:
                    self._turn_away()
                elif error.errno not in _PASSING:
                    self.ended = error.errno or errno.EIO
                    return None
        return None

    def _turn_away(self) -> None:
        """The process has no descriptor left: with the spare one the first that waits is closed,
        since it would wake us again and again."""
        self._let_spare_go()
        with contextlib.suppress(OSError):
            self.sock.accept()[0].close()
            self._refused += 1
        with contextlib.suppress(OSError):  # another thread was faster
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _let_spare_go(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1

    def _admit(self, sock: socket.socket) -> TcpPort | None:
        try:
            port = TcpPort(sock, accepted=True)
        except OSError:  # it has gone again
            sock.close()
            return None
        source = _source_of(port.remote)
        limits = self._limits
        if (
            len(self._trials) >= limits.trials_max
            or self._sources[source] >= limits.trials_per_source_max
        ):
            self._refused += 1
            port.close()
            return None
        self._trials[port] = Trial(source, time.monotonic() + limits.deadline_s)
        self._sources[source] += 1
        self._accepted += 1
        return port

    def forget(self) -> None:
        super().forget()
        self._let_spare_go()

    def close(self) -> None:
        super().close()
        self._let_spare_go()

    def info(self) -> TransportInfo:
        return replace(
            self._info(),
            trials=len(self._trials),
            accepted=self._accepted,
            refused=self._refused,
            expired=self._expired,
        )


def _source_of(remote: Address | None) -> str:
    if remote is None:
        return ""
    host = ipaddress.ip_address(remote[0])
    return str(ipaddress.ip_network(f"{host}/{_SOURCE[host.version]}", strict=False))
