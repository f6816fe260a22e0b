"""Calls of functions that the user gave: plain or async, for a limited time, at one client's cost.

A hook that fails, or takes too long, refuses the client that it was asked about and nobody else."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NoReturn

from ovpn_dco.errors import DcoError, LoginRefused
from ovpn_dco.protocol.messages import AuthFailed, encode
from ovpn_dco.protocol.text import TextRefused, shown

__all__ = ["LoginDenied", "TimeLimit", "ask", "misfit"]

THREADS = 64
"""Plain hooks that run at one time; more of them wait for their turn, within their limit."""

_log = logging.getLogger("ovpn_dco.server")
# Not those of the loop: hooks that are slow must not hold up files, routes and names.
_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ovpn_dco-hook")


class LoginDenied(DcoError):
    """EACCES: this client may not come in.

    `message` is the AUTH_FAILED to send, for `ServerSession.refuse`. The text of the exception
    is for the log: it says more, but never a password."""

    def __init__(self, why: str, message: AuthFailed | None = None) -> None:
        super().__init__(errno.EACCES, why)
        self.message = message or AuthFailed()

    def __reduce__(self) -> tuple[type[LoginDenied], tuple[str, AuthFailed]]:
        return type(self), (self.strerror or "", self.message)


class TimeLimit:
    """Seconds that a hook may take from now on; more if it asked for more. To be made, and its
    end to be awaited, in the event loop; `extend` may be called from a thread."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._until_s = self._loop.time() + seconds

    def extend(self, seconds: float) -> None:
        """At least so many seconds from now."""
        self._until_s = max(self._until_s, self._loop.time() + seconds)

    async def wait(self, task: asyncio.Task[object]) -> bool:
        """Whether the task has come to its end within the limit."""
        while not task.done():
            left_s = self._until_s - self._loop.time()
            if left_s <= 0:
                return False
            await asyncio.wait({task}, timeout=left_s)
        return True


async def ask(hook: Callable[..., object], request: object, name: str, limit: TimeLimit) -> object:
    """What the hook returns for `request`. A plain one runs in a thread, an async one in the loop.

    LoginDenied for False, for a `LoginRefused` that it raises or returns, for every other
    exception, which is logged, and once the time is over. To cancel the call cancels an async
    hook; a plain one goes on, but nobody listens any more."""
    task = asyncio.ensure_future(_run(hook, request))
    # An exception that comes after the end is nobody's; asyncio would log its text.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        in_time = await limit.wait(task)
    finally:
        task.cancel()
    if not in_time:
        _log.error("%s took too long", name)
        raise LoginDenied(f"{name} took too long")
    answer = _outcome(task, name)
    if answer is False:
        raise LoginDenied(f"{name} refused")
    if isinstance(answer, LoginRefused):
        raise LoginDenied(f"{name} refused: {shown(answer.reason)}", _failed(answer.reason, name))
    return answer


def misfit(answer: object, name: str) -> NoReturn:
    """LoginDenied for an answer of a kind that the hook must not give."""
    kind = type(answer).__name__
    _log.error("%s returned %s, which means nothing", name, kind)
    raise LoginDenied(f"{name} returned {kind}, which means nothing")


async def _run(hook: Callable[..., Any], request: object) -> object:
    if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(
        getattr(hook, "__call__", None)  # noqa: B004 - of an object with an async __call__
    ):
        return await hook(request)
    call = partial(contextvars.copy_context().run, hook, request)
    answer = await asyncio.get_running_loop().run_in_executor(_threads, call)
    return await answer if inspect.isawaitable(answer) else answer


def _outcome(task: asyncio.Task[object], name: str) -> object:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is None:
        return task.result()
    if isinstance(error, LoginRefused):
        return error
    # Its text may repeat what the hook was given, a password for one.
    failure = f"{name} failed: {type(error).__name__}{_place(error)}"
    _log.error("%s", failure)
    raise LoginDenied(failure)


def _place(error: BaseException) -> str:
    """Where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""


def _failed(reason: str, name: str) -> AuthFailed:
    """The message with this reason; without one where it cannot be sent as it is."""
    message = AuthFailed(reason)
    try:
        encode(message)
    except TextRefused as error:
        _log.error("%s gave a reason that cannot be sent: %s", name, error.strerror)
        return AuthFailed()
    return message
