"""The driver between a device and a loop: what it does about mistakes of what it drives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import pytest
from server_lab import WithoutInterface, eventually, run

import ovpn_dco as dco
from ovpn_dco.model import ControlPacket, Event
from ovpn_dco.runtime.clock import SystemClock
from ovpn_dco.runtime.control import ControlDriver


class Handler:
    """Counts, and fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.flushes = 0

    def receive_packet(self, packet: ControlPacket, now: float) -> None: ...

    def receive_event(self, event: Event, now: float) -> None: ...

    def handle_timeout(self, now: float) -> None: ...

    def flush(self, now: float) -> None:
        self.flushes += 1
        if self.flushes <= self.failures:
            raise RuntimeError("a mistake")

    def next_timeout(self) -> float | None:
        return None


@contextlib.contextmanager
def driving(handler: Handler) -> Iterator[ControlDriver]:
    system = WithoutInterface()
    options = {"addresses": (), "up": False, "netns": None}
    with system.open("lab", mode=dco.Mode.MULTIPEER, **options) as device:
        driver = ControlDriver(device, handler, SystemClock().now)
        try:
            yield driver
        finally:
            driver.close()
            system.close()


def check(failures: int, look: Callable[[Handler], bool]) -> None:
    handler = Handler(failures)

    async def body() -> None:
        with driving(handler) as driver:
            driver.wake()
            await eventually(lambda: look(handler))

    run(body)


def test_a_flush_that_was_interrupted_is_done_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Others had something to send, too, and nothing else may come to wake it."""
    monkeypatch.setattr("ovpn_dco.runtime.control.RETRY_S", 0.01)
    check(2, lambda handler: handler.flushes == 3)
    assert caplog.text.count("RuntimeError: a mistake") == 2


def test_a_mistake_does_not_keep_the_loop_busy() -> None:
    handler = Handler(10**6)

    async def body() -> None:
        with driving(handler) as driver:
            driver.wake()
            for _ in range(50):
                await asyncio.sleep(0)
            assert handler.flushes == 1

    run(body)
