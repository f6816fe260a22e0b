"""A policy at work: it is asked about pairs of peers, and what it says becomes permits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from .backend.base import PeerRef
from .errors import DcoError, DeviceClosed, NotFound
from .peer import Peer, Peers

if TYPE_CHECKING:
    from typing_extensions import Self

    from .forwarding import Forwarding

logger = logging.getLogger("ovpn_dco")

Policy: TypeAlias = Callable[[Peer, Peer], Awaitable[bool]]

RETRY_S = 1.0


class Governor:
    """Made by `Forwarding.govern`. The policy runs in the loop of the context, whatever thread
    peers come by."""

    def __init__(self, forwarding: Forwarding, peers: Peers, policy: Policy) -> None:
        self._forwarding = forwarding
        self._peers = peers
        self._policy = policy
        self._allowed: dict[PeerRef, set[PeerRef]] = {}
        self._news: set[PeerRef] = set()  # peers to be asked about
        self._due: set[PeerRef] = set()  # sources of whose permits the engine knows too few
        self._loop: asyncio.AbstractEventLoop
        self._wake: asyncio.Event
        self._turn: asyncio.Lock
        self._task: asyncio.Task[None] | None = None
        self._governs = False

    async def start(self) -> None:
        """Returns when all that are there have been judged; `async with` does the same."""
        self._loop = asyncio.get_running_loop()
        self._wake, self._turn = asyncio.Event(), asyncio.Lock()
        self._forwarding.claim(self)
        self._governs = True
        self._allowed.clear()
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
        if task is None:
            return
        task.cancel()
        try:
            await asyncio.wait({task})
        finally:
            self._give_up()
        if not task.cancelled():
            task.result()  # raises what has ended it too early

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def judge_all(self) -> None:
        """Asks about every pair anew: what the policy goes by has changed."""
        self._news.update(self._peers.backend.peers())
        await self._catch_up()

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
        for source in self._part(ref):
            self._permit(source)
        self._news.add(ref)
        self._wake.set()

    def _go(self, ref: PeerRef) -> None:
        self._part(ref)
        self._allowed.pop(ref, None)
        self._news.discard(ref)

    def _part(self, ref: PeerRef) -> list[PeerRef]:
        """What was said of its pairs is void. Sources that have lost something."""
        losers = [source for source, targets in self._allowed.items() if ref in targets]
        for source in losers:
            self._allowed[source].remove(ref)
        if self._allowed.get(ref):
            self._allowed[ref].clear()
            losers.append(ref)
        return losers

    # Steps

    def _give_up(self) -> None:
        self._governs = False
        self._peers.observers.remove(self)
        self._forwarding.release()

    async def _follow(self) -> None:
        with contextlib.suppress(DeviceClosed):
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._catch_up()

    async def _catch_up(self) -> None:
        async with self._turn:
            try:
                while self._news or self._due:
                    if self._due:
                        self._permit(self._due.pop())
                        await asyncio.sleep(0)  # with many peers others want their turn between
                    else:
                        await self._judge(self._news.pop())
            finally:
                if self._news or self._due:
                    self._wake.set()  # for the task, where another one was cancelled

    async def _judge(self, ref: PeerRef) -> None:
        """Asks about its pairs; of two that are new, with the second one."""
        try:
            self._peers.backend.peer_info(ref)
        except NotFound:
            return
        self._allowed.setdefault(ref, set())
        others = self._allowed.keys() - self._news - {ref}
        pairs = [pair for other in others for pair in ((ref, other), (other, ref))]
        questions = [self._loop.create_task(self._ask(*pair)) for pair in pairs]
        try:
            if questions:
                await asyncio.wait(questions)
        except asyncio.CancelledError:
            self._news.add(ref)
            for question in questions:
                question.cancel()
            raise

    async def _ask(self, source: PeerRef, target: PeerRef) -> None:
        """A no takes effect at once, a yes soon; none where it will be asked about anew."""
        answer = await self._answer(source, target)
        allowed = self._allowed.get(source)
        if allowed is None or target not in self._allowed or answer == (target in allowed):
            return
        if not answer:
            allowed.remove(target)
            self._permit(source)
        elif self._news.isdisjoint((source, target)):
            allowed.add(target)
            self._due.add(source)

    async def _answer(self, source: PeerRef, target: PeerRef) -> bool:
        try:
            return bool(await self._policy(Peer(self._peers, source), Peer(self._peers, target)))
        except (Exception, asyncio.CancelledError) as error:
            anew = not self._news.isdisjoint((source, target))
            if anew and isinstance(error, asyncio.CancelledError):
                raise  # by `_judge`
            # Its text may repeat what a peer has sent.
            logger.error(
                "from peer %d to peer %d nothing goes: the policy failed with %s",
                source[0],
                target[0],
                type(error).__name__,
            )
            return False

    def _permit(self, source: PeerRef) -> None:
        if not self._governs:
            return  # a question, or news, has come too late
        try:
            self._forwarding.permit_quietly(source, frozenset(self._allowed.get(source, ())))
        except DeviceClosed:
            pass  # nothing goes anywhere
        except DcoError as error:
            logger.error("what peer %d may reach is not set yet: %s", source[0], error)
            self._loop.call_later(RETRY_S, self._fall_due, source)

    def _fall_due(self, source: PeerRef) -> None:
        self._due.add(source)
        self._wake.set()
