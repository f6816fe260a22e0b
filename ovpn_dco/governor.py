"""A policy at work: it is asked about pairs of peers, and what it says becomes permits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from .backend.base import PeerRef
from .errors import DeviceClosed
from .peer import Peer, Peers

if TYPE_CHECKING:
    from typing_extensions import Self

    from .forwarding import Forwarding

logger = logging.getLogger("ovpn_dco")

Policy: TypeAlias = Callable[[Peer, Peer], Awaitable[bool]]


class Governor:
    """Made by `Forwarding.govern`. The policy runs in the loop of the context, whatever thread
    peers come by."""

    def __init__(self, forwarding: Forwarding, peers: Peers, policy: Policy) -> None:
        self._forwarding = forwarding
        self._peers = peers
        self._policy = policy
        self._allowed: dict[PeerRef, set[PeerRef]] = {}
        self._news: set[PeerRef] = set()
        self._loop: asyncio.AbstractEventLoop
        self._wake: asyncio.Event
        self._turn: asyncio.Lock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when all that are there have been judged; `async with` does the same."""
        self._loop = asyncio.get_running_loop()
        self._wake, self._turn = asyncio.Event(), asyncio.Lock()
        self._forwarding.claim(self)
        self._peers.observers.append(self)
        try:
            await self.judge_all()
        except BaseException:
            self._give_up()
            raise
        self._task = self._loop.create_task(self._follow())

    async def close(self) -> None:
        """Switches forwarding off. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            self._give_up()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def judge_all(self) -> None:
        """Asks about every pair anew: what the policy goes by has changed."""
        self._news.update(self._peers.backend.peers())
        await self._judge()

    # PeerObserver

    def peer_changed(self, ref: PeerRef) -> None:
        """See `PeerObserver`."""
        self._call(self._come, ref)

    def peer_deleted(self, ref: PeerRef) -> None:
        """See `PeerObserver`."""
        self._call(self._go, ref)

    def _call(self, function: Callable[[PeerRef], None], ref: PeerRef) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it all of this
            self._loop.call_soon_threadsafe(function, ref)

    def _come(self, ref: PeerRef) -> None:
        self._news.add(ref)
        self._wake.set()

    def _go(self, ref: PeerRef) -> None:
        self._news.discard(ref)
        self._allowed.pop(ref, None)

    # Steps

    def _give_up(self) -> None:
        self._peers.observers.remove(self)
        self._forwarding.release()

    async def _follow(self) -> None:
        with contextlib.suppress(DeviceClosed):
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._judge()

    async def _judge(self) -> None:
        async with self._turn:
            while self._news:
                news, self._news = self._news, set()
                news &= set(self._peers.backend.peers())
                for ref in news:
                    self._allowed.setdefault(ref, set())
                changed = set(news)
                for ref in news:
                    changed |= await self._judge_one(ref)
                self._bring_about(changed)

    async def _judge_one(self, ref: PeerRef) -> set[PeerRef]:
        """Those whose permits are others than before."""
        others = [other for other in self._allowed if other != ref]
        pairs = [(ref, other) for other in others] + [(other, ref) for other in others]
        answers = await asyncio.gather(*(self._ask(*pair) for pair in pairs))
        changed = set()
        for (source, target), answer in zip(pairs, answers, strict=True):
            allowed = self._allowed.get(source)  # None: it has gone meanwhile
            if allowed is not None and answer != (target in allowed):
                (allowed.add if answer else allowed.discard)(target)
                changed.add(source)
        return changed

    async def _ask(self, source: PeerRef, target: PeerRef) -> bool:
        try:
            return bool(await self._policy(Peer(self._peers, source), Peer(self._peers, target)))
        except Exception as error:
            # Its text may repeat what a peer has sent.
            logger.error(
                "from peer %d to peer %d nothing goes: the policy failed with %s",
                source[0],
                target[0],
                type(error).__name__,
            )
            return False

    def _bring_about(self, sources: set[PeerRef]) -> None:
        for source in sources & self._allowed.keys():
            self._allowed[source] &= self._allowed.keys()
            self._forwarding.permit_quietly(source, frozenset(self._allowed[source]))
