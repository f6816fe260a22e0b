"""Full handshakes of whole servers: reset, cookie, TLS, key messages, options, keys; then the
client leaves. A server has one processor to itself and the clients have the others.

What a handshake costs a server in CPU time does not depend on how fast clients come, so that is
what is judged; their rate only where the server's processor was busy, else it is the generator's.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ovpn_dco.bench.arrivals import Outcome
from ovpn_dco.bench.datagrams import Agent
from ovpn_dco.bench.errors import MeasurementError, UnavailableError
from ovpn_dco.bench.measure import cpu_seconds
from ovpn_dco.bench.scenarios import Recorder
from ovpn_dco.bench.subjects.server import on_cpus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovpn_dco.bench.figures import Samples
    from ovpn_dco.bench.scenarios import Watch
    from ovpn_dco.bench.subjects import Course, ServerTunnel, VpnServer

#: From which share of its processor a server is what limits the rate.
_BUSY = 0.9
#: A server keeps those that said goodbye for 5 s, in case that its answer was lost.
GOODBYE_S = 6.5
WARM_UP = 20
_NICEST = 19
_NO_LIMIT = 10**9
#: That clients come from.
_PORTS = range(5000, 65000)


@dataclass(frozen=True)
class HandshakeEffort:
    """How long and how often. `in_flight` clients at one time, shared by the `generators`, which
    are processes.
    """

    rounds: int = 5
    seconds: float = 5.0
    in_flight: int = 32
    generators: int = 1


# One processor is the server's.
_GENERATORS = max(1, len(os.sched_getaffinity(0)) - 1)
FULL = HandshakeEffort(generators=_GENERATORS)
SHORT = replace(FULL, rounds=2, seconds=2.0)


@dataclass(frozen=True)
class Processors:
    """Who runs where."""

    server: frozenset[int]
    others: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Processors:
        """Raises UnavailableError with a single one."""
        first, *others = sorted(os.sched_getaffinity(0))
        if not others:
            raise UnavailableError("a server and its clients need two processors")
        return cls(frozenset({first}), frozenset(others))


class Generators:
    """Processes in the clients' network that play clients."""

    def __init__(
        self, tunnel: ServerTunnel, count: int, cpus: frozenset[int] | None = None
    ) -> None:
        self._tunnel = tunnel
        with on_cpus(cpus):
            self._agents = [Agent(tunnel.client, "ovpn_dco.bench.arrivals") for _ in range(count)]

    def step_aside(self) -> None:
        """Everything else on their processors goes first from now on."""
        for agent in self._agents:
            os.setpriority(os.PRIO_PROCESS, agent.pid, _NICEST)
            # Where sessions are scheduled as groups, the group is what has to be nice.
            with suppress(OSError):
                Path(f"/proc/{agent.pid}/autogroup").write_text(str(_NICEST))

    def run(self, *, in_flight: int, seconds: float, limit: int = _NO_LIMIT) -> Outcome:
        """As `Crowd.run`, of all together. Raises MeasurementError where nobody gets in."""
        self.start(in_flight=in_flight, seconds=seconds, limit=limit)
        return self.finish()

    def start(self, *, in_flight: int, seconds: float, limit: int, rate: float = 0.0) -> None:
        """Let them begin; `rate` is that of all together."""
        count = len(self._agents)
        each = len(_PORTS) // count
        for number, agent in enumerate(self._agents):
            ports = _PORTS[number * each : (number + 1) * each]
            agent.order(
                ports=[ports.start, ports.stop],
                credentials=str(self._tunnel.credentials.folder),
                server=self._tunnel.address(),
                in_flight=max(1, in_flight // count),
                seconds=seconds,
                limit=max(1, limit // count),
                rate=rate / count,
            )

    def finish(self) -> Outcome:
        """Wait for the last."""
        parts = [Outcome(**agent.answer()) for agent in self._agents]
        whole = Outcome(
            completed=sum(part.completed for part in parts),
            failed=sum(part.failed for part in parts),
            seconds=max(part.seconds for part in parts),
            cpu_s=sum(part.cpu_s for part in parts),
        )
        self._tunnel.check_alive()
        if not whole.completed:
            raise MeasurementError(f"the server let nobody in, {whole.failed} have tried")
        return whole


def handshakes(
    servers: Sequence[VpnServer],
    course: Course,
    effort: HandshakeEffort,
    samples: Samples,
    watch: Watch,
) -> list[dict[str, object]]:
    """All servers, interleaved; samples are added as they come. Returns what the generators did."""
    processors = Processors.of_this_machine()
    if not servers:
        raise UnavailableError("no server to measure")
    watch.expect(len(servers) * (1 + effort.rounds))
    outcomes: list[dict[str, object]] = []
    with ExitStack() as stack:
        entrants = []
        for server in servers:
            watch.step(f"{server.title} starts")
            tunnel = stack.enter_context(server.open(course, cpus=processors.server))
            generators = Generators(tunnel, effort.generators, processors.others)
            generators.run(in_flight=effort.generators, seconds=10, limit=WARM_UP)
            entrants.append((server, tunnel, generators))
        for number in range(effort.rounds):
            first = number % len(entrants)
            for server, tunnel, generators in entrants[first:] + entrants[:first]:
                watch.step(f"round {number + 1} of {effort.rounds}: {server.title}")
                record = Recorder(samples, course.name, server.name)
                outcome = _measure(tunnel, generators, effort, record, number)
                outcomes.append({"subject": server.name, "round": number, **vars(outcome)})
    return outcomes


def _measure(
    tunnel: ServerTunnel,
    generators: Generators,
    effort: HandshakeEffort,
    record: Recorder,
    number: int,
) -> Outcome:
    before = cpu_seconds(tunnel.pids)
    outcome = generators.run(in_flight=effort.in_flight, seconds=effort.seconds)
    meanwhile = cpu_seconds(tunnel.pids) - before
    time.sleep(GOODBYE_S)  # to forget a client is a part of its cost
    whole = cpu_seconds(tunnel.pids) - before
    busy = meanwhile / outcome.seconds
    metric = "handshakes" if busy >= _BUSY else "handshakes-generator"
    record(metric, number, outcome.completed / outcome.seconds)
    record("handshakes-busy", number, busy * 100)
    record("handshake-cpu", number, whole / outcome.completed * 1000)
    record("handshakes-capacity", number, outcome.completed / whole)
    return outcome
