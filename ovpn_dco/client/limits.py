"""When a client leaves by itself: after a time, or for want of traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ..config import KeepaliveConfig
from ..protocol.push import Pushed
from .tasks import first_of

__all__ = ["Limits", "reach"]


@dataclass(frozen=True)
class Limits:
    """`session_s`: the longest connection in seconds; `idle_s` and `idle_bytes`: leave when fewer
    bytes than that crossed the tunnel in so many seconds. 0: no limit."""

    session_s: int = 0
    idle_s: int = 0
    idle_bytes: int = 0

    @classmethod
    def of(cls, own: KeepaliveConfig, pushed: Pushed) -> Limits:
        """What was pushed counts, and else what is configured."""
        session_s = pushed.number("session-timeout")
        inactive = pushed.inactive
        return cls(
            session_s=own.session_timeout_s if session_s is None else session_s,
            idle_s=inactive.timeout_s if inactive else own.inactive_s,
            idle_bytes=inactive.least_bytes if inactive else own.inactive_bytes,
        )


async def reach(limits: Limits, crossed: Callable[[], int]) -> str:
    """Waits until a limit is reached, for ever if there is none, and says which.

    `crossed()` is how many bytes have crossed the tunnel."""
    waits = [_for_ever()]
    if limits.session_s:
        waits.append(_session(limits.session_s))
    if limits.idle_s:
        waits.append(_idle(limits, crossed))
    return await first_of(*waits)


async def _for_ever() -> str:
    never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    return await never


async def _session(limit_s: int) -> str:
    await asyncio.sleep(limit_s)
    return f"the session lasts {limit_s} s at most"


async def _idle(limits: Limits, crossed: Callable[[], int]) -> str:
    before = crossed()
    while True:
        await asyncio.sleep(limits.idle_s)
        now = crossed()
        if now - before < max(1, limits.idle_bytes):
            return f"too little has crossed the tunnel in {limits.idle_s} s"
        before = now
