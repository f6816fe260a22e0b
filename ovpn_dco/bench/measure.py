"""How one figure is taken: iperf3, ping, CPU time and context switches of processes."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from ovpn_dco.bench.errors import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from ovpn_dco.testing import Namespace

_PORT = 5201
_LOST_US = 1e6
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class TcpRun:
    """What iperf3 saw arrive."""

    gbps: float
    bytes: int


class IperfRun:
    """One iperf3 measurement: :meth:`start` begins it and :meth:`finish` waits for its end."""

    def __init__(
        self,
        client: Namespace,
        server: Namespace,
        server_address: str,
        *,
        seconds: float,
        streams: int = 1,
        reverse: bool = False,
        port: int = _PORT,
    ) -> None:
        """Make a one-off server that listens; `reverse` lets it send.

        The congestion control is named, since its default differs between machines.
        """
        self._seconds = seconds
        self._namespace = client
        self._server = server.popen(
            ["iperf3", "--server", "--one-off", "--bind", server_address, "--port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait_for_listener(self._server.pid, port, ":" in server_address)
        self._command = ["iperf3", "--client", server_address, "--port", str(port), "--json"]
        self._command += ["--congestion", "cubic", "--parallel", str(streams), "--interval", "0"]
        whole = math.ceil(seconds)  # iperf3 reads an integer, and 0 is for ever
        self._command += ["--time", str(whole), *(["--reverse"] if reverse else [])]

    def start(self) -> Self:
        """Let the client begin; returns itself."""
        self._client = self._namespace.popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return self

    def finish(self) -> TcpRun:
        """Wait for the end. Raises MeasurementError with what iperf3 says."""
        try:
            output, _ = self._client.communicate(timeout=self._seconds + 20)
            self._server.wait(timeout=5)
        except subprocess.TimeoutExpired as error:
            raise MeasurementError("iperf3 does not come to an end") from error
        finally:
            for process in (self._client, self._server):
                process.kill()
                process.wait()
        return read_iperf(output)


def read_iperf(output: bytes) -> TcpRun:
    """Take the figures from iperf3's JSON."""
    try:
        report = json.loads(output)
    except ValueError as error:
        raise MeasurementError("iperf3 printed no JSON") from error
    if "error" in report:
        raise MeasurementError(f"iperf3: {report['error']}")
    received = report["end"]["sum_received"]
    return TcpRun(received["bits_per_second"] / 1e9, int(received["bytes"]))


def iperf_together(runs: Sequence[IperfRun]) -> TcpRun:
    """Start all, and add up what they come to: rates of the same time, but for the start."""
    for run in runs:
        run.start()
    ends = [run.finish() for run in runs]
    return TcpRun(sum(end.gbps for end in ends), sum(end.bytes for end in ends))


def _wait_for_listener(pid: int, port: int, ipv6: bool, timeout_s: float = 5.0) -> None:
    """Wait until a process's namespace has a socket in state LISTEN (0A) on the port."""
    table = Path(f"/proc/{pid}/net/tcp{'6' if ipv6 else ''}")
    pattern = re.compile(rf":{port:04X} [0-9A-F]+:0000 0A ")
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if pattern.search(table.read_text()):
            return
        time.sleep(0.01)
    raise MeasurementError("the iperf3 server does not listen")


def ping(source: Namespace, address: str, *, count: int, interval_s: float = 0.01) -> list[float]:
    """Round trips in microseconds. Raises MeasurementError when nothing is answered."""
    arguments = ["-n", "-c", str(count), "-i", f"{interval_s:g}", "-W", "1"]
    result = source.run(["ping", *arguments, address], check=False, timeout_s=60)
    times = read_ping(result.stdout)
    if not times:
        raise MeasurementError(f"no answer from {address}: {result.stderr.strip()}")
    return times


class PingRun:
    """Pings from now until :meth:`finish`."""

    def __init__(self, source: Namespace, address: str, *, interval_s: float = 0.005) -> None:
        self._address = address
        # Not a pipe, which would be full after some seconds, and ping would stand still.
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - until `finish`
        self._process = source.popen(
            ["ping", "-n", "-i", f"{interval_s:g}", address],
            stdout=self._output,
            stderr=subprocess.DEVNULL,
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def finish(self) -> Pings:
        """Raises MeasurementError when nothing was answered."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=10)
        finally:
            self._process.kill()
        with self._output:
            self._output.seek(0)
            pings = Pings.read(self._output.read())
        if not pings.times_us:
            raise MeasurementError(f"no answer from {self._address}")
        return pings


@dataclass(frozen=True)
class Pings:
    """Round trips in microseconds, and how many requests before the last answer had none."""

    times_us: tuple[float, ...]
    lost: int

    @classmethod
    def read(cls, output: str) -> Pings:
        """Of what ping prints."""
        numbers = [int(number) for number in re.findall(r"icmp_seq=(\d+) .*time=", output)]
        return cls(tuple(read_ping(output)), max(numbers, default=0) - len(set(numbers)))

    def percentile(self, percent: float) -> float:
        """So many of 100 pings were as fast or faster; one without an answer took a second."""
        return percentile([*self.times_us, *([_LOST_US] * self.lost)], percent)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that so many percent of them do not exceed; above 0, up to 100."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def read_ping(output: str) -> list[float]:
    """Take the round trips, microseconds, from what ping prints."""
    return [float(value) * 1000 for value in re.findall(r"time=([0-9.]+) ms", output)]


def ping_median(source: Namespace, address: str, *, count: int, interval_s: float = 0.01) -> float:
    """Median round trip in microseconds."""
    return median(ping(source, address, count=count, interval_s=interval_s))


def wait_for_answer(source: Namespace, address: str, *, timeout_s: float) -> None:
    """Ping until the other side answers. Raises MeasurementError after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        command = ["ping", "-n", "-c", "1", "-W", "0.25", address]
        if source.run(command, check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise MeasurementError(f"no answer from {address} within {timeout_s:g} s")


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time of processes with all their threads, user and system: /proc/PID/stat, proc(5)."""
    total = 0
    for pid in pids:
        # The command name may hold spaces and parentheses; the fields start after the last one.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * _TICK_S


def voluntary_switches(pids: Sequence[int]) -> int:
    """How often the threads of processes have gone to sleep: each wake-up ends in one of these."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.M)
            total += int(found[1]) if found else 0
    return total
