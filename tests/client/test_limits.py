"""When a client leaves by itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable

import pytest

from ovpn_dco.client.limits import Limits, reach
from ovpn_dco.config import KeepaliveConfig
from ovpn_dco.protocol.push import parse_options

OWN = KeepaliveConfig(session_timeout_s=10, inactive_s=20, inactive_bytes=30)


@pytest.mark.parametrize(
    ("pushed", "expected"),
    [
        ([], Limits(10, 20, 30)),
        (["session-timeout 99"], Limits(99, 20, 30)),
        (["session-timeout 0", "inactive 0"], Limits()),
        (["inactive 7"], Limits(10, 7, 0)),
        (["inactive 7 1000"], Limits(10, 7, 1000)),
    ],
)
def test_what_is_pushed_counts(pushed: list[str], expected: Limits) -> None:
    assert Limits.of(OWN, parse_options(pushed)) == expected


class Time:
    """That of the loop's sleepers: each `pass_by` lets go those whose time has come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._real = asyncio.sleep
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, delay_s: float) -> None:
        waking = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.now + delay_s, waking))
        await waking

    async def pass_by(self, seconds: float) -> None:
        self.now += seconds
        for due_s, waking in self.sleepers:
            if due_s <= self.now and not waking.done():
                waking.set_result(None)
        for _ in range(20):
            await self._real(0)


def run(test: Awaitable[None]) -> None:
    async def checked() -> None:
        await test
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(checked())


def test_a_session_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        time = Time(monkeypatch)
        reaching = asyncio.ensure_future(reach(Limits(session_s=60), lambda: 0))
        await time.pass_by(0)
        await time.pass_by(59)
        assert not reaching.done()
        await time.pass_by(1)
        assert await reaching == "the session lasts 60 s at most"

    run(test())


@pytest.mark.parametrize(("least", "step", "ends"), [(0, 1, False), (0, 0, True), (9, 8, True)])
def test_silence_is_measured_in_bytes(
    least: int, step: int, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        time, crossed = Time(monkeypatch), itertools.count(100, step)
        limits = Limits(idle_s=30, idle_bytes=least)
        reaching = asyncio.ensure_future(reach(limits, lambda: next(crossed)))
        await time.pass_by(0)
        await time.pass_by(30)
        assert reaching.done() == ends
        reaching.cancel()
        await asyncio.wait({reaching})

    run(test())


def test_each_span_is_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        time, crossed = Time(monkeypatch), iter([0, 50, 51])
        limits = Limits(idle_s=30, idle_bytes=10)
        reaching = asyncio.ensure_future(reach(limits, lambda: next(crossed)))
        await time.pass_by(0)
        await time.pass_by(30)
        assert not reaching.done()
        await time.pass_by(30)
        assert await reaching == "too little has crossed the tunnel in 30 s"

    run(test())


def test_without_limits_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        time = Time(monkeypatch)
        reaching = asyncio.ensure_future(reach(Limits(), lambda: 0))
        await time.pass_by(0)
        assert time.sleepers == []
        assert not reaching.done()
        reaching.cancel()
        await asyncio.wait({reaching})

    run(test())
