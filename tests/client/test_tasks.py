"""Tasks that leave nothing behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ovpn_dco.client.tasks import call, first_of, in_thread


async def value(number: int) -> int:
    return number


async def failing() -> int:
    raise KeyError


class Patient:
    """Waits for ever, and tells when that ends."""

    def __init__(self) -> None:
        self.ended = False

    async def wait(self) -> int:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            self.ended = True
        return 0


def test_the_first_counts_and_the_others_have_ended() -> None:
    async def test() -> None:
        other = Patient()
        assert await first_of(other.wait(), value(7)) == 7
        assert other.ended

    asyncio.run(test())


def test_of_two_at_once_the_one_named_first_counts() -> None:
    assert asyncio.run(first_of(value(1), value(2))) == 1


def test_what_the_first_raises_is_raised() -> None:
    async def test() -> None:
        other = Patient()
        with pytest.raises(KeyError):
            await first_of(failing(), other.wait())
        assert other.ended

    asyncio.run(test())


def test_a_cancellation_reaches_them_all() -> None:
    async def test() -> None:
        one, other = Patient(), Patient()
        waiting = asyncio.ensure_future(first_of(one.wait(), other.wait()))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert one.ended
        assert other.ended

    asyncio.run(test())


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("times", [1, 3])
def test_a_thread_is_waited_for_however_often_it_is_cancelled(fails: bool, times: int) -> None:
    async def test() -> None:
        begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            go_on.wait(10)
            ended.set()
            if fails:
                raise KeyError

        waiting = asyncio.ensure_future(in_thread(work))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        for _ in range(times):
            waiting.cancel()
            await asyncio.sleep(0.01)
        assert not waiting.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert ended.is_set()

    asyncio.run(test())


def test_plain_and_async_callables_are_called_alike() -> None:
    async def waited_for(number: int) -> tuple[int, int]:
        return number, threading.get_ident()

    def plain(number: int) -> tuple[int, int]:
        return number, threading.get_ident()

    async def test() -> None:
        here = threading.get_ident()
        assert await call(waited_for, 5) == (5, here)
        assert await call(lambda number: waited_for(number), 5) == (5, here)
        number, there = await call(plain, 5)
        assert number == 5
        assert there != here

    asyncio.run(test())
