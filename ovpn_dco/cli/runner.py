"""One endpoint from its start to its end, on an event loop, with the signals that end it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import importlib.util
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol

import click

from ovpn_dco.device import Device

__all__ = ["LOOPS", "Endpoint", "run"]

LOOPS = ("auto", "uvloop", "asyncio")
_NICE = 10
# Containers that come before those that are young are searched.
_YOUNG = 10_000
# A terminal that closes must leave no interface behind either; nothing is read again.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Endpoint(Protocol):
    """What a server and a client have in common."""

    @property
    def device(self) -> Device:
        """Once it has started."""
        ...

    async def __aenter__(self) -> object:
        """Starts."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends in order, and removes what it has set up."""
        ...

    async def wait_closed(self) -> None:
        """Until it has ended; raises why, if nobody asked for it."""
        ...


def run(make: Callable[[], Endpoint], on_start: Callable[[Endpoint], None], loop: str) -> None:
    """Makes an endpoint and runs it until it ends or a signal asks for that; raises what it raises.

    `on_start` is called with it when it has started. The first signal ends it in order, also while
    it starts; the second one ends the process."""
    with contextlib.closing(_new_loop(loop)) as event_loop:
        event_loop.run_until_complete(_run(make, on_start))


def _new_loop(name: str) -> asyncio.AbstractEventLoop:
    """Of uvloop, if that is wanted or there; UsageError if it is wanted and not there."""
    found = importlib.util.find_spec("uvloop") is not None
    if name == "uvloop" and not found:
        raise click.UsageError("--loop uvloop: it is not installed: pip install 'ovpn-dco[uvloop]'")
    if name == "asyncio" or not found:
        return asyncio.new_event_loop()
    made: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    return made


async def _run(make: Callable[[], Endpoint], on_start: Callable[[Endpoint], None]) -> None:
    task = asyncio.current_task()
    assert task is not None
    closed: asyncio.Future[None] | None = None
    with _signals(task) as received:
        try:
            endpoint = make()
            async with endpoint:
                with _standing_back(), _seldom_searching():
                    on_start(endpoint)
                    closed = asyncio.ensure_future(endpoint.wait_closed())
                    # Shielded: a signal ends the waiting here, and the endpoint by its own means.
                    await asyncio.shield(closed)
        except asyncio.CancelledError:
            if not received:
                raise
        if closed is not None:
            await closed


@contextlib.contextmanager
def _standing_back() -> Iterator[None]:
    """The engine's threads have started and keep their place: who has a connection goes before
    those who want one. Of this thread only, as setpriority(2) means it on Linux."""
    thread = threading.get_native_id()
    before = os.getpriority(os.PRIO_PROCESS, thread)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, max(before, _NICE))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the way back takes a privilege
            os.setpriority(os.PRIO_PROCESS, thread, before)


@contextlib.contextmanager
def _seldom_searching() -> Iterator[None]:
    """Sessions end without cycles, so that the collector finds nothing, with whatever effort: the
    program itself, most of what there is, is not searched, and the rest seldom."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextlib.contextmanager
def _signals(task: asyncio.Task[None]) -> Iterator[list[signal.Signals]]:
    """Signals that came; the first one cancels `task`."""
    received: list[signal.Signals] = []

    def receive(signum: signal.Signals) -> None:
        received.append(signum)
        if len(received) > 1:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        task.cancel()

    loop = asyncio.get_running_loop()
    for signum in _ENDING:
        loop.add_signal_handler(signum, receive, signum)
    try:
        yield received
    finally:
        for signum in _ENDING:
            loop.remove_signal_handler(signum)
