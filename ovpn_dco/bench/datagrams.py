"""UDP rates, by the compiled generator, in processes of their own.

``python -m ovpn_dco.bench.datagrams`` is such a process: it sits in a namespace, takes one order
per line of JSON on its standard input, and answers each by one line. Between orders it sleeps in a
read, so that it may stay through all rounds without weighing on other figures.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from ovpn_dco.backend.userspace import bench_receive, bench_send
from ovpn_dco.bench.errors import MeasurementError
from ovpn_dco.bench.search import Trial

if TYPE_CHECKING:
    from ovpn_dco.testing import Namespace

_PORT = 5202
#: The run is over for the receiver when nothing came for this long.
_QUIET_S = 0.15
#: The same where the path may stand still for a while and go on.
_STALL_S = 1.0
#: How long a sender goes on without looking whether it should stop.
_SLICE_S = 0.1
#: Nobody waits longer for a sender that is not stopped.
_LONGEST_S = 120.0
#: SO_RCVBUFFORCE of asm-generic/socket.h; missing in the socket module.
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 8 * 1024 * 1024


class Agent:
    """A process that takes orders, seen from the bench: this module, or another of the kind."""

    def __init__(self, namespace: Namespace, module: str = "ovpn_dco.bench.datagrams") -> None:
        self._module = module
        self._process = namespace.popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def order(self, **order: Any) -> None:
        """Give an order."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            raise MeasurementError(f"{self._module}: {answer['error']}")
        return answer


class DatagramPath:
    """A sender in one namespace and a receiver in another."""

    def __init__(self, source: Namespace, target: Namespace, target_address: str) -> None:
        self._sender, self._receiver = Agent(source), Agent(target)
        self._address = target_address
        self._run = 0

    @property
    def pids(self) -> tuple[int, int]:
        """Sender and receiver."""
        return self._sender.pid, self._receiver.pid

    def trial(self, rate_pps: float, *, size: int, seconds: float) -> Trial:
        """Offer datagrams of `size` payload bytes at a rate, 0: flat out; count what arrives."""
        self._start("send", rate_pps, size, seconds, _QUIET_S)
        return self._count()

    def start(self, rate_pps: float, *, size: int) -> None:
        """As `trial`, until :meth:`stop`."""
        self._start("send until told", rate_pps, size, _LONGEST_S, _STALL_S)
        self._sender.answer()

    def stop(self) -> Trial:
        """End what :meth:`start` has begun; what came of it."""
        self._sender.order(do="stop")
        return self._count()

    def _start(self, do: str, rate_pps: float, size: int, seconds: float, quiet_s: float) -> None:
        self._run += 1
        common = {"address": self._address, "run": self._run}
        self._receiver.order(do="receive", limit_s=seconds + 2, quiet_s=quiet_s, **common)
        self._receiver.answer()
        self._sender.order(do=do, size=size, rate_pps=rate_pps, seconds=seconds, **common)

    def _count(self) -> Trial:
        sent, counted = self._sender.answer(), self._receiver.answer()
        offered, received = sent["packets"], counted["packets"]
        return Trial(
            offered_pps=offered / sent["seconds"],
            received_pps=received / sent["seconds"],
            loss=1 - received / offered if offered else 1.0,
        )


def _socket(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)


def _send(order: dict[str, Any]) -> dict[str, Any]:
    with _socket(order["address"]) as sock:
        sock.connect((order["address"], _PORT))
        packets, refused, seconds = bench_send(
            sock.fileno(), order["size"], order["run"], order["rate_pps"], order["seconds"]
        )
    return {"packets": packets, "refused": refused, "seconds": seconds}


def _send_until_told(order: dict[str, Any]) -> dict[str, Any]:
    """In slices, between which the next line of standard input, whatever it says, is looked for."""
    print(json.dumps({"ready": True}), flush=True)
    piece = {**order, "seconds": _SLICE_S}
    whole = _send(piece)
    while whole["seconds"] < order["seconds"] and not _is_told():
        whole = {name: value + whole[name] for name, value in _send(piece).items()}
    sys.stdin.readline()
    return whole


def _is_told() -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable)


def _receive(order: dict[str, Any]) -> dict[str, Any]:
    with _socket(order["address"]) as sock:
        # The tunnel is measured, not the receiver: its buffer must not be what overflows.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        sock.bind((order["address"], _PORT))
        print(json.dumps({"ready": True}), flush=True)
        packets, size, reordered, strangers, seconds = bench_receive(
            sock.fileno(), order["run"], order["limit_s"], order["quiet_s"]
        )
    return {
        "packets": packets,
        "bytes": size,
        "reordered": reordered,
        "strangers": strangers,
        "seconds": seconds,
    }


def main() -> None:
    """Serve orders until standard input ends."""
    work = {"send": _send, "send until told": _send_until_told, "receive": _receive}
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = work[order["do"]](order)
        except OSError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
