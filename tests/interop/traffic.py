"""A stream through a tunnel that goes on until it is stopped, and what became of it."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

from ovpn_dco.testing import Namespace

_PATIENCE_S = 20.0


class Stream:
    """iperf3 with one TCP stream each way, so slow and in such small writes that no queue fills:
    loss would be a fault."""

    def __init__(self, server: Namespace, client: Namespace, host: str) -> None:
        self._server = server.popen(
            ["iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, text=True
        )
        assert self._server.stdout
        while "listening" not in (line := self._server.stdout.readline()):
            assert line, "iperf3 does not listen"
        self._client = client.popen(
            ["iperf3", "-c", host, "-t", "60", "-b", "5M", "-l", "4K", "--bidir", "-J"],
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> dict[str, list[int]]:
        """Bytes of each whole second, by direction."""
        self._client.send_signal(signal.SIGINT)
        output, _ = self._client.communicate(timeout=_PATIENCE_S)
        self._server.communicate(timeout=_PATIENCE_S)
        report: dict[str, Any] = json.loads(output)
        return {
            direction: [
                int(interval[key]["bytes"])
                for interval in report["intervals"]
                if interval[key]["seconds"] > 0.9
            ]
            for direction, key in (("up", "sum"), ("down", "sum_bidir_reverse"))
        }
