"""What runs, in which order. Subjects take turns in every round, so that a machine that becomes
slower or faster does so for all of them.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Protocol

from ovpn_dco.backend.userspace import bench_crypto, probe_gcm
from ovpn_dco.bench.figures import Sample, Samples
from ovpn_dco.bench.measure import (
    IperfRun,
    cpu_seconds,
    iperf_together,
    ping,
    ping_median,
    voluntary_switches,
)
from ovpn_dco.bench.search import Rates, highest_rate
from ovpn_dco.bench.subjects import Course, Ours, RawLink, Subject, Tunnel
from ovpn_dco.model import Cipher

if TYPE_CHECKING:
    from collections.abc import Sequence

CRYPTO_CIPHERS = (Cipher.AES_128_GCM, Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305)
CRYPTO_SIZES = (64, 512, 1400, 8900)

OPENSSL = "OpenSSL"

_PEERS_PORT = 5210  # of the first peer's iperf3


class Watch(Protocol):
    """Who is told how far a scenario has come."""

    def expect(self, steps: int) -> None:
        """So many more steps will follow."""

    def step(self, text: str) -> None:
        """Another step begins."""


@dataclass(frozen=True)
class Effort:
    """How long and how often: the difference between a first look and a result."""

    rounds: int
    tcp_s: float
    udp_rounds: int
    udp_s: float
    """One trial. Queues hide loss for some 10 ms, so a trial must be much longer."""
    precision: float
    pings: int
    idle_s: float


SHORT = Effort(rounds=2, tcp_s=1.5, udp_rounds=1, udp_s=0.3, precision=0.15, pings=60, idle_s=3)
FULL = Effort(rounds=5, tcp_s=3.0, udp_rounds=5, udp_s=0.8, precision=0.05, pings=200, idle_s=10)


@dataclass(frozen=True)
class CryptoCost:
    """Nanoseconds per packet, medians: EVP alone, and the core with its own work around it.

    `code` is whose cipher the core calls: OpenSSL's, as EVP does, or for AES-GCM our own."""

    cipher: str
    way: str
    size: int
    raw_ns: float
    core_ns: float
    code: str = OPENSSL

    @property
    def extra_ns(self) -> float:
        """The difference."""
        return self.core_ns - self.raw_ns

    @property
    def same_code(self) -> bool:
        """Whether both figures hold the same cipher, so that their difference is our own work."""
        return self.code == OPENSSL

    @property
    def gbps(self) -> float:
        """Inner bits per second of one core."""
        return self.size * 8 / self.core_ns


def crypto(watch: Watch, *, batches: int = 400) -> list[CryptoCost]:
    """Seal and open, every cipher and size, by every code that a device here may use."""
    work = [
        (cipher, own, way, size)
        for cipher in CRYPTO_CIPHERS
        for own in crypto_codes(cipher)
        for way in ("seal", "open")
        for size in CRYPTO_SIZES
    ]
    watch.expect(len(work))
    costs = []
    for cipher, own, way, size in work:
        code = f"own, {own} bit" if own else OPENSSL
        watch.step(f"{cipher.value} ({code}): {way} {size} B")
        raw_ns, core_ns = bench_crypto(
            cipher.number, cipher.key_size, size, batches, way == "seal", own=own
        )
        costs.append(CryptoCost(cipher.value, way, size, raw_ns, core_ns, code))
    return costs


def crypto_codes(cipher: Cipher) -> tuple[int, ...]:
    """Register widths of our own code that is in use here, and 0 for OpenSSL's."""
    own = probe_gcm() if cipher is not Cipher.CHACHA20_POLY1305 else 0
    return (0, own) if own else (0,)


class Recorder:
    """Puts samples of one course and subject into the collection."""

    def __init__(self, samples: Samples, course: str, subject: str) -> None:
        self._samples, self._course, self._subject = samples, course, subject

    def __call__(self, metric: str, round_number: int, value: float) -> None:
        """Add one figure."""
        self._samples.add(Sample(self._course, self._subject, metric, round_number, value))


def _tcp(tunnel: Tunnel, record: Recorder, round_number: int, *, seconds: float) -> None:
    before = cpu_seconds(tunnel.pids)
    run = IperfRun(tunnel.client, tunnel.server, tunnel.server_ipv4, seconds=seconds)
    end = run.start().finish()
    spent = cpu_seconds(tunnel.pids) - before
    record("tcp", round_number, end.gbps)
    if tunnel.pids and end.bytes:
        record("cpu", round_number, spent / (end.bytes / 1e9))


def _loaded_round_trip(tunnel: Tunnel, record: Recorder, round_number: int) -> None:
    """Pings beside a TCP stream that fills the tunnel, in the direction of the requests."""
    load = IperfRun(tunnel.client, tunnel.server, tunnel.server_ipv4, seconds=2.5).start()
    time.sleep(0.5)
    times = sorted(ping(tunnel.client, tunnel.server_ipv4, count=100))
    load.finish()
    record("rtt-load", round_number, times[len(times) // 2])
    record("rtt-load-p95", round_number, times[len(times) * 95 // 100])


def _udp(tunnel: Tunnel, record: Recorder, round_number: int, *, size: int, effort: Effort) -> None:
    rates: Rates = highest_rate(
        lambda rate_pps: tunnel.datagrams.trial(rate_pps, size=size, seconds=effort.udp_s),
        precision=effort.precision,
    )
    record(f"udp{size}", round_number, rates.bounded_pps / 1e3)
    record(f"udp{size}-overload", round_number, rates.overload_pps / 1e3)


def compare(
    subjects: Sequence[Subject],
    courses: Sequence[Course],
    effort: Effort,
    samples: Samples,
    watch: Watch,
) -> None:
    """All subjects on all courses, interleaved; samples are added as they come."""
    for course in courses:
        runners = [s for s in subjects if _enters(s, course)]
        with_udp = not course.jumbo
        each_round = 1 + (course.transport == "tcp")
        steps = 1 + effort.rounds * each_round + effort.udp_rounds * with_udp
        watch.expect(len(runners) * steps)
        with ExitStack() as stack:
            tunnels = []
            for subject in runners:
                watch.step(f"{course.name}: {subject.title} starts")
                tunnels.append((subject, stack.enter_context(subject.open(course))))
            for number in range(effort.rounds):
                # Another one goes first in each round.
                first = number % len(tunnels)
                for subject, tunnel in tunnels[first:] + tunnels[:first]:
                    what = f"{course.name}, round {number + 1} of {effort.rounds}: {subject.title}"
                    record = Recorder(samples, course.name, subject.name)
                    watch.step(f"{what}, TCP")
                    _tcp(tunnel, record, number, seconds=effort.tcp_s)
                    rtt = ping_median(tunnel.client, tunnel.server_ipv4, count=effort.pings)
                    record("rtt", number, rtt)
                    if course.transport == "tcp":
                        watch.step(f"{what}, ping under load")
                        _loaded_round_trip(tunnel, record, number)
                    if with_udp and number < effort.udp_rounds:
                        watch.step(f"{what}, UDP")
                        _udp(tunnel, record, number, size=64, effort=effort)


def _enters(subject: Subject, course: Course) -> bool:
    """Openvpn as tuned is for jumbo packets, and its defaults are not."""
    if subject.name == "openvpn":
        return not course.jumbo
    if subject.name == "openvpn-tuned":
        return course.jumbo
    return True


def idle(
    subjects: Sequence[Subject], course: Course, effort: Effort, samples: Samples, watch: Watch
) -> None:
    """How often an endpoint wakes while nothing happens; ours with keepalives too."""
    watch.expect(1)
    watch.step(f"idle for {effort.idle_s:g} s")
    entrants: list[tuple[Subject, str]] = [(s, "wakeups") for s in subjects if s.name != "raw"]
    for subject in subjects:
        if isinstance(subject, Ours):
            entrants.append((subject.with_keepalive(1), "wakeups-keepalive"))
    with ExitStack() as stack:
        tunnels = [(s, m, stack.enter_context(s.open(course))) for s, m in entrants]
        time.sleep(1.5)  # the last handshakes, neighbour discovery and multicast reports
        before = [voluntary_switches(tunnel.pids) for _, _, tunnel in tunnels]
        time.sleep(effort.idle_s)
        for (subject, metric, tunnel), start in zip(tunnels, before, strict=True):
            per_second = (voluntary_switches(tunnel.pids) - start) / effort.idle_s
            record = Recorder(samples, course.name, subject.name)
            record(metric, 0, per_second / len(tunnel.pids))


def tunnel_matrix(
    ours: Ours, raw: RawLink, course: Course, effort: Effort, samples: Samples, watch: Watch
) -> list[dict[str, object]]:
    """Ours in every way beside the raw link; returns the statistics of our endpoints."""
    steps = 8 * effort.rounds + 2 * effort.udp_rounds + 2
    watch.expect(2 * steps)
    statistics: list[dict[str, object]] = []
    subjects: tuple[Subject, ...] = (ours, raw)
    with ExitStack() as stack:
        tunnels = [(s, stack.enter_context(s.open(course))) for s in subjects]
        for number, family, streams, way, (subject, tunnel) in product(
            range(effort.rounds), (4, 6), (1, 4), ("up", "down"), tunnels
        ):
            watch.step(f"{subject.title}: TCP x{streams} {way}load IPv{family}")
            run = IperfRun(
                tunnel.client,
                tunnel.server,
                tunnel.server_ipv4 if family == 4 else tunnel.server_ipv6,
                seconds=effort.tcp_s,
                streams=streams,
                reverse=way == "down",
            )
            record = Recorder(samples, course.name, subject.name)
            record(f"tcp{streams}-{way}-ipv{family}", number, run.start().finish().gbps)
        for subject, tunnel in tunnels:
            _datagrams_and_pings(subject, tunnel, course, effort, samples, watch)
        for _, tunnel in tunnels:
            if hasattr(tunnel, "statistics"):
                statistics += tunnel.statistics()
    return statistics


def _datagrams_and_pings(
    subject: Subject,
    tunnel: Tunnel,
    course: Course,
    effort: Effort,
    samples: Samples,
    watch: Watch,
) -> None:
    record = Recorder(samples, course.name, subject.name)
    for number in range(effort.udp_rounds):
        for size in (64, 1300):
            watch.step(f"{subject.title}: UDP {size} B")
            _udp(tunnel, record, number, size=size, effort=effort)
    watch.step(f"{subject.title}: ping")
    record("rtt", 0, ping_median(tunnel.client, tunnel.server_ipv4, count=effort.pings))
    watch.step(f"{subject.title}: ping under load")
    _loaded_round_trip(tunnel, record, 0)


def tunnel_peers(
    ours: Ours, raw: RawLink, course: Course, effort: Effort, samples: Samples, watch: Watch
) -> list[dict[str, object]]:
    """A server with several clients beside as many raw links: a TCP stream for each of them at
    one time. Returns the statistics of our endpoints, the server's first.
    """
    watch.expect(4 * effort.rounds)
    with ExitStack() as stack:
        tunnel = stack.enter_context(ours.open(course))
        subjects: tuple[tuple[Subject, Tunnel], ...] = (
            (ours, tunnel),
            (raw, stack.enter_context(raw.open(course))),
        )
        for number, way, (subject, measured) in product(
            range(effort.rounds), ("up", "down"), subjects
        ):
            watch.step(f"{subject.title}: {len(measured.clients)} peers, {way}load")
            record = Recorder(samples, course.name, subject.name)
            _peers(measured, record, number, way, seconds=effort.tcp_s)
        return tunnel.statistics()


def _peers(
    tunnel: Tunnel, record: Recorder, round_number: int, way: str, *, seconds: float
) -> None:
    runs = [
        IperfRun(
            client,
            tunnel.server,
            tunnel.server_ipv4_for(number),
            seconds=seconds,
            reverse=way == "down",
            port=_PEERS_PORT + number,
        )
        for number, client in enumerate(tunnel.clients)
    ]
    before = [cpu_seconds([pid]) for pid in tunnel.pids]
    end = iperf_together(runs)
    spent = [cpu_seconds([pid]) - b for pid, b in zip(tunnel.pids, before, strict=True)]
    record(f"peers-{way}", round_number, end.gbps)
    if spent and end.bytes:
        record(f"peers-{way}-cpu", round_number, sum(spent) / (end.bytes / 1e9))
        record(f"peers-{way}-server", round_number, spent[0] / (end.bytes / 1e9))
