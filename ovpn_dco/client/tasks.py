"""Tasks that leave nothing behind: the first of several, and threads that cannot be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["call", "first_of", "in_thread"]

T = TypeVar("T")


async def first_of(*coroutines: Coroutine[Any, Any, T]) -> T:
    """What the first of them to end returns or raises. The others are cancelled, and have ended
    when this does."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(one) for one in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Calls in a thread, to its end: a cancellation takes effect only then, since nothing stops a
    thread and what comes next must not meet it."""
    running = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({running})
        running.exception()
        raise


async def call(
    function: Callable[..., Any],
    *arguments: Any,
    thread: Callable[..., Awaitable[Any]] = in_thread,
) -> Any:
    """Calls what a user gave: a plain callable in a thread, an async one here. `thread` is
    `in_thread`, or `asyncio.to_thread` for what may be left alone when it is cancelled."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    result = await thread(function, *arguments)
    return await result if inspect.isawaitable(result) else result
