"""UDP rates, by the compiled generator, in processes of their own.

``python -m ovpn_dco.bench.datagrams`` is such a process: it sits in a namespace, takes one order
per line of JSON on its standard input, and answers each by one line. Between orders it sleeps in a
read, so that it may stay through all rounds without weighing on other figures.
"""

from __future__ import annotations

import contextlib
import json
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

    def trial(self, rate_pps: float, *, size: int, seconds: float) -> Trial:
        """Offer datagrams of `size` payload bytes at a rate, 0: flat out; count what arrives."""
        self._run += 1
        common = {"address": self._address, "run": self._run}
        self._receiver.order(do="receive", limit_s=seconds + 2, quiet_s=_QUIET_S, **common)
        self._receiver.answer()
        self._sender.order(do="send", size=size, rate_pps=rate_pps, seconds=seconds, **common)
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
    work = {"send": _send, "receive": _receive}
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = work[order["do"]](order)
        except OSError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
