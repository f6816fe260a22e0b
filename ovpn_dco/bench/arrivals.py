"""Clients that arrive at a server, connect in full, and leave: as many as a process can play.

``python -m ovpn_dco.bench.arrivals`` is such a process, with orders and answers as in
:mod:`ovpn_dco.bench.datagrams`. Each client is a session and a socket of its own, since a server
tells clients apart by their addresses. There is no event loop but epoll, so that the generator is
not what is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovpn_dco.bench.credentials import CredentialFiles
from ovpn_dco.errors import DcoError
from ovpn_dco.model import DEFAULT_CIPHERS, TlsVersion
from ovpn_dco.protocol.authtoken import ClientLogin
from ovpn_dco.protocol.occ import describe
from ovpn_dco.protocol.peerinfo import OUR_PROTO, announce
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session import SessionSettings
from ovpn_dco.protocol.session_client import ClientProfile, ClientSession
from ovpn_dco.protocol.session_events import Ended, KeyReady
from ovpn_dco.protocol.statickey import StaticKey
from ovpn_dco.protocol.tls import TlsContext, TlsSettings
from ovpn_dco.protocol.wrap.tls_crypt import TlsCrypt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovpn_dco.model import Address

_DATAGRAM_MAX = 2048
#: How often repetitions and timeouts are looked for; both are of seconds.
_SWEEP_S = 0.1


@dataclass
class Outcome:
    """What a crowd of clients came to. `seconds` from the first to the last of them, and the CPU
    time of the process in between.
    """

    completed: int = 0
    failed: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Identity:
    """What all clients of a process have in common."""

    settings: SessionSettings
    profile: ClientProfile
    tls_crypt: StaticKey

    @classmethod
    @cache
    def load(cls, folder: Path) -> Identity:
        """Of the client whose files are in a folder."""
        files = CredentialFiles(folder)
        tls = TlsSettings(
            role=Role.CLIENT,
            ca=files.authority.read_bytes(),
            certificate=files.certificate("client").read_bytes(),
            private_key=files.private_key("client").read_bytes(),
            minimum=TlsVersion.V1_3,
            # The same exchange with every server. Left to themselves the newest of both libraries
            # decides, which may be one that costs more than all the rest.
            groups=("secp256r1",),
        )
        settings = SessionSettings(
            tls=TlsContext(tls), random_bytes=os.urandom, compatibility=describe(server=False)
        )
        said = announce(version="bench", platform="linux", proto=OUR_PROTO, ciphers=DEFAULT_CIPHERS)
        key = StaticKey.parse(files.tls_crypt.read_text())
        return cls(settings, ClientProfile(announcement=said), key)


class Arrival:
    """One client on its way in."""

    def __init__(self, identity: Identity, server: Address, port: int) -> None:
        self._server = server
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(("", port))
        self.socket.connect(server)
        wrapping = TlsCrypt(identity.tls_crypt, Role.CLIENT)
        self._session = ClientSession(
            identity.settings,
            ClientLogin("", ""),
            identity.profile,
            wrapping=wrapping,
            address=server,
        )
        self.completed: bool | None = None
        """None: still on its way."""
        now = time.time()
        self._session.start(now)
        self._send(now)

    def receive(self) -> None:
        """Takes what has come, and answers."""
        now = time.time()
        try:
            while True:
                data = self.socket.recv(_DATAGRAM_MAX)
                # One that is refused counts as lost.
                with contextlib.suppress(DcoError):
                    self._session.receive(data, self._server, now)
        except OSError:
            pass  # no more, or nobody listens: then the hand-window ends it
        self.advance(now)

    def advance(self, now: float) -> None:
        """What is due, sent or has happened."""
        self._session.handle_timeout(now)
        self._send(now)
        while self.completed is None and (event := self._session.next_event()) is not None:
            if isinstance(event, KeyReady):
                self._leave(now)
            elif isinstance(event, Ended):
                self.completed = False

    def _leave(self, now: float) -> None:
        self.completed = True
        self._session.leave(now)
        self._send(now)

    def _send(self, now: float) -> None:
        for packet in self._session.packets_to_send(now):
            with contextlib.suppress(OSError):
                self.socket.send(packet)


class Crowd:
    """So many clients at one time, each replaced as soon as it has left.

    `ports` are those that they come from. A port should come again late: a server remembers who
    has left for some seconds, and is slow with another one from there."""

    def __init__(
        self, identity: Identity, server: Address, *, in_flight: int, ports: Iterator[int]
    ) -> None:
        self._identity, self._server = identity, server
        self._in_flight, self._ports = in_flight, ports
        self._arrivals: dict[int, Arrival] = {}
        self._outcome = Outcome()
        self._begun = 0

    def run(self, *, seconds: float, limit: int, rate: float = 0.0) -> Outcome:
        """Clients begin for so many seconds, and not more than `limit` of them; those that have
        begun may finish. `rate`: so many begin in a second, where there is room; 0: as there is
        room.
        """
        start, cpu = time.monotonic(), time.process_time()
        end = start + seconds
        pause = min(_SWEEP_S, 1 / rate) if rate else _SWEEP_S
        with select.epoll() as poll:
            sweep = start
            while True:
                now = time.monotonic()
                if now < end:
                    due = 1 + int((now - start) * rate) if rate else limit
                    self._fill(poll, min(due, limit))
                if not self._arrivals and (now >= end or self._begun >= limit):
                    break
                for descriptor, _ in poll.poll(pause):
                    self._arrivals[descriptor].receive()
                    self._settle(descriptor)
                if now >= sweep:
                    sweep = now + _SWEEP_S
                    self._sweep()
        self._outcome.seconds = time.monotonic() - start
        self._outcome.cpu_s = time.process_time() - cpu
        return self._outcome

    def _fill(self, poll: select.epoll, limit: int) -> None:
        while len(self._arrivals) < self._in_flight and self._begun < limit:
            self._begun += 1
            arrival = Arrival(self._identity, self._server, next(self._ports))
            self._arrivals[arrival.socket.fileno()] = arrival
            poll.register(arrival.socket, select.EPOLLIN)

    def _sweep(self) -> None:
        now = time.time()
        for descriptor in list(self._arrivals):
            self._arrivals[descriptor].advance(now)
            self._settle(descriptor)

    def _settle(self, descriptor: int) -> None:
        """One that is done makes room; closing takes its socket out of the poll."""
        completed = self._arrivals[descriptor].completed
        if completed is None:
            return
        self._arrivals.pop(descriptor).socket.close()
        self._outcome.completed += completed
        self._outcome.failed += not completed


@cache
def _ports(first: int, last: int) -> Iterator[int]:
    """One cycle through all orders."""
    return cycle(range(first, last))


def _run(order: dict[str, Any]) -> Outcome:
    crowd = Crowd(
        Identity.load(Path(order["credentials"])),
        tuple(order["server"]),
        in_flight=order["in_flight"],
        ports=_ports(*order["ports"]),
    )
    return crowd.run(seconds=order["seconds"], limit=order["limit"], rate=order["rate"])


def main() -> None:
    """Serve orders until standard input ends."""
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = asdict(_run(json.loads(line)))
        except (DcoError, OSError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
