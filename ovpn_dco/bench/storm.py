"""A storm of full handshakes beside the traffic of two clients that are connected: one offers UDP
at a fixed rate, the other one pings. What the storm does to both is measured against the same
traffic right before it.

Nobody is pinned here: all share the processors of the server. The clients that are connected, who
sends, who receives and who pings stand for other machines, and go first where that is permitted, so
that it is the server that waits. Those that storm go last.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ovpn_dco.bench.datagrams import DatagramPath
from ovpn_dco.bench.errors import UnavailableError
from ovpn_dco.bench.handshake import GOODBYE_S, WARM_UP, Generators
from ovpn_dco.bench.measure import PingRun, Pings, cpu_seconds
from ovpn_dco.bench.scenarios import Recorder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovpn_dco.bench.arrivals import Outcome
    from ovpn_dco.bench.figures import Samples
    from ovpn_dco.bench.scenarios import Watch
    from ovpn_dco.bench.search import Trial
    from ovpn_dco.bench.subjects import Course, ServerTunnel, VpnServer

#: The networks of clients: where the storm comes from, who sends, and who pings.
_SPOKES = 3
_SENDER, _PINGER = 1, 2
_PAYLOAD = 1200
#: No storm takes longer, whatever its rate.
_LONGEST_S = 60.0


@dataclass(frozen=True)
class StormEffort:
    """A storm is of so many `clients`, `in_flight` of them at one time, shared by the `generators`,
    which are processes. They arrive at a `rate`, 1/s; 0: as fast as they get in. `mbps` of UDP
    payload are offered meanwhile, and before it for `quiet_s`.
    """

    rounds: int = 5
    clients: int = 500
    in_flight: int = 32
    generators: int = 1
    rate: float = 0.0
    quiet_s: float = 4.0
    mbps: float = 300.0


FULL = StormEffort()
SHORT = replace(FULL, rounds=2, quiet_s=2.0)


@dataclass(frozen=True)
class Window:
    """What came of the traffic for a while, and the CPU time of the server in it."""

    udp: Trial
    pings: Pings
    seconds: float
    server_cpu_s: float

    def record(self, record: Recorder, when: str, number: int) -> None:
        """As samples, "quiet" or "storm"."""
        record(f"{when}-offered", number, self.udp.offered_pps * _PAYLOAD * 8 / 1e6)
        record(f"{when}-loss", number, self.udp.loss * 100)
        record(f"{when}-rtt", number, self.pings.percentile(50))
        record(f"{when}-p99", number, self.pings.percentile(99))

    def summary(self) -> dict[str, object]:
        """What samples do not say."""
        return {
            "seconds": self.seconds,
            "server_cpu_s": self.server_cpu_s,
            "pings": len(self.pings.times_us),
            "pings_lost": self.pings.lost,
        }


class Traffic:
    """Of the clients that are connected, to the server."""

    def __init__(self, tunnel: ServerTunnel, mbps: float) -> None:
        self._tunnel = tunnel
        self._rate_pps = mbps * 1e6 / 8 / _PAYLOAD
        self._path = DatagramPath(tunnel.clients[_SENDER], tunnel.server, tunnel.server_ipv4)
        for pid in (*tunnel.pids[1:], *self._path.pids):
            go_first(pid)

    def start(self) -> None:
        """Both begin."""
        self._begun = time.monotonic()
        self._cpu_s = self._server_cpu_s()
        self._pings = PingRun(self._tunnel.clients[_PINGER], self._tunnel.server_ipv4)
        go_first(self._pings.pid)
        self._path.start(self._rate_pps, size=_PAYLOAD)

    def stop(self) -> Window:
        """Both end."""
        seconds = time.monotonic() - self._begun
        cpu_s = self._server_cpu_s() - self._cpu_s
        pings = self._pings.finish()
        return Window(self._path.stop(), pings, seconds, cpu_s)

    def _server_cpu_s(self) -> float:
        return cpu_seconds(self._tunnel.pids[:1])


def go_first(pid: int) -> None:
    """Before all that is of an ordinary priority, with every thread; it takes privilege."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(1))


def storms(
    servers: Sequence[VpnServer],
    course: Course,
    effort: StormEffort,
    samples: Samples,
    watch: Watch,
) -> list[dict[str, object]]:
    """All servers, interleaved; samples are added as they come. Returns what each window and each
    storm were like.
    """
    if not servers:
        raise UnavailableError("no server to measure")
    watch.expect(len(servers) * (1 + effort.rounds))
    outcomes: list[dict[str, object]] = []
    with ExitStack() as stack:
        entrants = []
        for server in servers:
            watch.step(f"{server.title} starts")
            tunnel = stack.enter_context(server.open(course, spokes=_SPOKES))
            for spoke in (_SENDER, _PINGER):
                tunnel.connect(spoke, server.client_command)
            generators = Generators(tunnel, effort.generators)
            generators.step_aside()
            generators.run(in_flight=effort.generators, seconds=10, limit=WARM_UP)
            entrants.append((server, Traffic(tunnel, effort.mbps), generators))
        for number in range(effort.rounds):
            first = number % len(entrants)
            for server, traffic, generators in entrants[first:] + entrants[:first]:
                watch.step(f"round {number + 1} of {effort.rounds}: {server.title}")
                record = Recorder(samples, course.name, server.name)
                outcome = _round(traffic, generators, effort, record, number)
                outcomes.append({"subject": server.name, "round": number, **outcome})
    return outcomes


def _round(
    traffic: Traffic, generators: Generators, effort: StormEffort, record: Recorder, number: int
) -> dict[str, object]:
    time.sleep(GOODBYE_S)  # until those of before are forgotten
    traffic.start()
    time.sleep(effort.quiet_s)
    quiet = traffic.stop()
    traffic.start()
    storm = _storm(generators, effort)
    stormy = traffic.stop()
    quiet.record(record, "quiet", number)
    stormy.record(record, "storm", number)
    record("storm-p99-ratio", number, stormy.pings.percentile(99) / quiet.pings.percentile(99))
    record("storm-s", number, storm.seconds)
    return {"quiet": quiet.summary(), "storm": {**stormy.summary(), **vars(storm)}}


def _storm(generators: Generators, effort: StormEffort) -> Outcome:
    generators.start(
        in_flight=effort.in_flight, seconds=_LONGEST_S, limit=effort.clients, rate=effort.rate
    )
    return generators.finish()
