"""Changes of the system's routes, as they are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from support import needs_root, needs_tool

from ovpn_dco.runtime.route_watch import RouteWatch
from ovpn_dco.testing import Namespace

pytestmark = [needs_root, needs_tool("ip")]

Test = Callable[[Namespace, RouteWatch], Awaitable[None]]


def watching(test: Test) -> None:
    """Runs a test in a namespace that is watched."""

    async def watched(namespace: Namespace) -> None:
        with RouteWatch() as watch:
            await asyncio.wait_for(test(namespace, watch), 20)

    with Namespace("here") as namespace, namespace.enter():
        asyncio.run(watched(namespace))


def test_changes_at_once_are_told_once() -> None:
    async def test(namespace: Namespace, watch: RouteWatch) -> None:
        namespace.run(["ip", "address", "add", "192.0.2.1/32", "dev", "lo"])
        namespace.run(["ip", "route", "add", "198.51.100.0/24", "dev", "lo"])
        await watch.changed()
        waiting = asyncio.ensure_future(watch.changed())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        namespace.run(["ip", "link", "set", "lo", "down"])
        await waiting

    watching(test)


async def tells(watch: RouteWatch) -> bool:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(watch.changed(), 0.1)
        return True
    return False


def test_more_than_it_can_hold_is_a_change() -> None:
    async def test(namespace: Namespace, watch: RouteWatch) -> None:
        networks = [f"10.{n // 250}.{n % 250}.0/24" for n in range(2500)]
        lines = [f"route add {network} dev lo" for network in networks]
        namespace.run(["ip", "-batch", "-"], input_text="\n".join(lines))
        await watch.changed()
        # That something was lost is told, and then what was not.
        while await tells(watch):
            pass
        namespace.run(["ip", "link", "set", "lo", "down"])
        await watch.changed()

    watching(test)


def test_nothing_is_left_of_it() -> None:
    async def test(namespace: Namespace, watch: RouteWatch) -> None:
        with RouteWatch() as other, pytest.raises(ZeroDivisionError):
            raise ZeroDivisionError
        with pytest.raises(OSError, match="descriptor"):
            other._sock.getsockname()
        namespace.run(["ip", "link", "set", "lo", "down"])
        await watch.changed()

    watching(test)
