"""What the bench asks of a subject, and what it gets: a tunnel between two namespaces."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Protocol

from ovpn_dco.bench.datagrams import DatagramPath
from ovpn_dco.bench.errors import MeasurementError
from ovpn_dco.bench.measure import wait_for_answer
from ovpn_dco.testing import Namespace, Topology

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Self


@dataclass(frozen=True)
class Course:
    """The conditions of a comparison: the wire, the MTU inside the tunnel, bytes, and what carries
    the tunnel: "udp" or "tcp".
    """

    name: str
    title: str
    bare: bool
    wire_mtu: int
    inner_mtu: int
    transport: str = "udp"

    @property
    def jumbo(self) -> bool:
        """Whether its packets are larger than Ethernet's."""
        return self.wire_mtu > 1500

    def over_tcp(self) -> Course:
        """The same wire, with tunnels that are TCP connections."""
        name, title = f"tcp {self.name}", f"tunnel over TCP, {self.title}"
        return replace(self, name=name, title=title, transport="tcp")


COURSES = {
    course.name: course
    for course in (
        Course("veth", "veth as it is, inner MTU 1420", False, 1500, 1420),
        Course("bare", "every datagram alone on the wire, inner MTU 1420", True, 1500, 1420),
        # A wire that takes openvpn's 9000-byte packets whole too: nobody has to fragment.
        Course("jumbo", "jumbo veth, inner MTU 8900", False, 9216, 8900),
    )
}
TCP_COURSES = {name: course.over_tcp() for name, course in COURSES.items()}
#: By the names that samples have.
ALL_COURSES = {c.name: c for c in (*COURSES.values(), *TCP_COURSES.values())}


class Tunnel:
    """A subject at work: `server` (left) and `client` (right) reach each other through it; with
    several peers the others of `clients` reach the server too.

    Processes started by :meth:`spawn` are its endpoints: their CPU time is charged to it.
    """

    server_ipv4, client_ipv4 = "10.97.0.1", "10.97.0.2"
    server_ipv6, client_ipv6 = "fd97::1", "fd97::2"

    def __init__(self, course: Course, *, peers: int = 1) -> None:
        self.course = course
        self._stack = ExitStack()
        self.topology = self._stack.enter_context(
            Topology(spokes=peers, bare=course.bare, mtu=course.wire_mtu)
        )
        self.server, self.client = self.topology.left, self.topology.right
        self.clients = self.topology.spokes
        self.processes: list[subprocess.Popen[Any]] = []
        self._logs: list[IO[bytes]] = []

    def server_ipv4_for(self, number: int) -> str:
        """The server as one of the clients calls it."""
        return self.server_ipv4

    @property
    def pids(self) -> list[int]:
        """The endpoints."""
        return [process.pid for process in self.processes]

    def spawn(
        self,
        namespace: Namespace,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start an endpoint; what it prints is kept for error messages."""
        log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the tunnel
        self._stack.enter_context(log)
        options.setdefault("stdout", log)
        process = namespace.popen(argv, stderr=log, env=env, **options)
        self.processes.append(process)
        self._logs.append(log)
        return process

    def wait_until(self, ready: Callable[[], bool], what: str, *, timeout_s: float = 10) -> None:
        """Poll a condition while the endpoints live. Raises MeasurementError."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check_alive()
            if time.monotonic() > deadline:
                raise MeasurementError(f"{what} not there within {timeout_s:g} s{self._said()}")
            time.sleep(0.02)

    def wait_connected(self, *, timeout_s: float = 20) -> None:
        """Wait until pings pass, both ways and in both address families."""
        for number, client in enumerate(self.clients):
            self.wait_reached(client, self.server_ipv4_for(number), timeout_s=timeout_s)
        self.wait_reached(self.server, self.client_ipv6, timeout_s=timeout_s)

    def wait_reached(self, source: Namespace, address: str, *, timeout_s: float = 20) -> None:
        """Wait until an address answers. Raises MeasurementError with what endpoints said."""
        try:
            wait_for_answer(source, address, timeout_s=timeout_s)
        except MeasurementError as error:
            self.check_alive()
            raise MeasurementError(f"{error}{self._said()}") from error

    def check_alive(self) -> None:
        """Raises MeasurementError when an endpoint has ended."""
        for process in self.processes:
            if process.poll() is not None:
                raise MeasurementError(
                    f"an endpoint ended with status {process.returncode}{self._said()}"
                )

    def _said(self) -> str:
        lines: list[str] = []
        for log in self._logs:
            log.seek(0)
            lines += log.read().decode(errors="replace").splitlines()[-8:]
        return "".join(f"\n    {line}" for line in lines)

    @cached_property
    def datagrams(self) -> DatagramPath:
        """The UDP generator, from server to client."""
        return DatagramPath(self.server, self.client, self.client_ipv4)

    def close(self) -> None:
        """Stop the endpoints and take everything down. Idempotent."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Subject(Protocol):
    """Something that makes tunnels."""

    name: str
    title: str

    def obstacle(self, transport: str) -> str | None:
        """Why it cannot take part here with such a transport, or None."""

    def caveat(self) -> str | None:
        """Why its figures do not count as beaten, or None."""

    def version(self) -> str:
        """Name and version of what is measured."""

    def open(self, course: Course) -> Tunnel:
        """A tunnel through which pings pass. Raises MeasurementError."""
