"""Real traffic: floods of ping, several at once, and iperf3."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence

from scenarios.effort import EFFORT
from system.tunnel import (
    PATIENCE_S,
    Pings,
    echo_replies,
    eventually,
    iperf3,
    ping_command,
    ping_result,
)

from ovpn_dco.testing import Namespace

SIZE, LARGE = 56, 3000  # bytes of payload

Route = tuple[Namespace, str]
"""Who pings, and which address."""


def try_flood(
    routes: Iterable[Route], *, count: int, size: int = SIZE, options: Sequence[str] = ()
) -> list[Pings]:
    """Floods every address, all at once, answered or not."""
    command = ping_command("", count=count, size=size, interval_s=0, options=options)[:-1]
    running = [
        namespace.popen([*command, address], stdout=subprocess.PIPE, text=True)
        for namespace, address in routes
    ]
    return [ping_result(process.communicate(timeout=PATIENCE_S)[0]) for process in running]


def flood(routes: Sequence[Route], *, count: int | None = None, size: int = SIZE) -> None:
    """The same, and fails unless every request is answered.

    ping may end before the last answers are there: then the kernel is asked whether they came."""
    count = count or EFFORT.pings
    before = {namespace: echo_replies(namespace) for namespace, _ in routes}
    results = try_flood(routes, count=count, size=size)
    assert all(result.sent == count for result in results), results
    if any(result.received < count for result in results):
        for namespace, times in Counter(namespace for namespace, _ in routes).items():
            expected = before[namespace] + times * count
            eventually(
                lambda: echo_replies(namespace) >= expected,  # noqa: B023
                what=f"every answer: {results}",
            )


def transfer(server: Namespace, client: Namespace, address: str) -> None:
    """One stream of iperf3 from the client, with zero copy."""
    iperf3(server, client, address, megabytes=EFFORT.megabytes, options=("-Z",))


def assert_unreachable(routes: Sequence[Route]) -> None:
    """Nothing comes back from any of them."""
    results = try_flood(routes, count=10, options=("-W", "0.3"))
    assert [result.received for result in results] == [0] * len(routes)
    assert all(result.sent for result in results)
