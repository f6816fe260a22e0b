"""What notifications mean to who keeps peers, and what was missed when some were lost.

No socket and no clock: commands and notifications go in, and after an overrun a look at what the
driver has; notices come out, each with the generation of its peer, as if none had been lost. What
a look cannot show is left out: where a peer was in between, and why it went, unless its owner did
it.

A peer gives exactly one notification when it goes, and its id may have been given to another by
then. So the peers of an id form a queue: what is told of an id that goes is told of the oldest."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..errors import error_for
from ..model import Address, DeleteReason, KeySlot
from .values import DeletedNotice, FloatedNotice, KeySwapNotice, Notice, PeerState


@dataclass(frozen=True)
class Told:
    """A notice, and the generation of the peer that it is about."""

    generation: int
    notice: Notice


@dataclass
class _Peer:
    """One use of an id. `doomed`: gone by what its owner did, and not yet told; `reason` is why.
    `heard`: a notification of its going has come, and is doubted."""

    peer_id: int
    generation: int
    remote: Address | None
    keys: dict[KeySlot, int] = field(default_factory=dict)
    doomed: bool = False
    heard: bool = False
    reason: DeleteReason | None = None


class PeerTracker:
    """The peers of one interface as their owner and the driver have made them.

    The owner says what it does: `adding` before the command, as a peer may be gone when the answer
    is read, the others after it. All calls are made under one lock with the commands themselves."""

    def __init__(self, ifindex: int, *, p2p: bool) -> None:
        self._ifindex = ifindex
        self._p2p = p2p
        self._generations = itertools.count(1)
        self._peers: dict[int, list[_Peer]] = {}
        # Ids of peers whose going was found by a look: a notification that was on its way then
        # must not be taken for one of the next peer with this id.
        self._unsure: set[int] = set()

    # What the owner does

    def adding(self, peer_id: int, remote: Address | None) -> int:
        """The generation of a peer that is about to be added."""
        peer = _Peer(peer_id, next(self._generations), remote)
        self._peers.setdefault(peer_id, []).append(peer)
        return peer.generation

    def refused(self, peer_id: int, generation: int) -> None:
        """There is no such peer after all."""
        peer = self._find(peer_id, generation)
        if peer is not None:
            self._forget(peer)

    def added(self, peer_id: int, generation: int) -> None:
        """There is. Whoever had the id before is gone, and on a P2P interface whoever was there."""
        for peer in list(self._all()):
            if peer.generation < generation and (peer.peer_id == peer_id or self._p2p):
                peer.doomed = True

    def deleted(self, peer_id: int, generation: int) -> None:
        """A peer was deleted by command."""
        peer = self._find(peer_id, generation)
        if peer is not None:
            peer.doomed, peer.reason = True, DeleteReason.USERSPACE

    def moved(self, peer_id: int, generation: int, remote: Address) -> None:
        """A peer was given another endpoint."""
        peer = self._find(peer_id, generation)
        if peer is not None:
            peer.remote = remote

    def key_installed(self, peer_id: int, generation: int, slot: KeySlot, key_id: int) -> None:
        """A slot has this key now."""
        peer = self._find(peer_id, generation)
        if peer is not None:
            peer.keys[slot] = key_id

    def keys_swapped(self, peer_id: int, generation: int) -> None:
        """Each slot has what the other had."""
        peer = self._find(peer_id, generation)
        if peer is not None:
            peer.keys = {KeySlot(1 - slot): key_id for slot, key_id in peer.keys.items()}

    def key_deleted(self, peer_id: int, generation: int, slot: KeySlot) -> None:
        """A slot is empty."""
        peer = self._find(peer_id, generation)
        if peer is not None:
            peer.keys.pop(slot, None)

    def current(self, peer_id: int) -> int | None:
        """The generation of the peer that has the id, as far as is known."""
        peers = self._peers.get(peer_id)
        return peers[-1].generation if peers and not peers[-1].doomed else None

    def check(self, peer_id: int, generation: int) -> None:
        """NotFound unless the peer is the one that has the id now."""
        if self.current(peer_id) != generation:
            raise error_for(errno.ENOENT, f"peer {peer_id} is gone", attribute="peer_id")

    def with_keys(self) -> list[tuple[int, tuple[KeySlot, ...]]]:
        """(peer id, slots) of peers that should have keys: what `look` wants to know of."""
        return [(peer.peer_id, tuple(peer.keys)) for peer in self._living() if peer.keys]

    # What the driver tells

    def take(self, notices: Iterable[Notice]) -> tuple[list[Told], bool]:
        """What notifications mean; of peers that are not known, nothing. True: there is one that
        cannot be told without a look."""
        told: list[Told] = []
        doubt = False
        for notice in notices:
            peers = self._peers.get(notice.peer_id)
            if notice.ifindex != self._ifindex or not peers:
                continue
            if isinstance(notice, DeletedNotice) and self._doubts(notice, peers[0]):
                doubt = True
            elif self._apply(notice, peers[0]):
                told.append(Told(peers[0].generation, notice))
                if isinstance(notice, DeletedNotice):
                    self._forget(peers[0])
        return told, doubt

    def look(
        self,
        found: Iterable[PeerState],
        keys: Mapping[int, Mapping[KeySlot, int]],
        meanwhile: Iterable[Notice] = (),
    ) -> tuple[list[Told], bool]:
        """What was missed, and as `take` whether to look again.

        `found` are the peers that the driver has, `keys` what is in the slots of those that
        `with_keys` named, and `meanwhile` what the event socket held after both were read."""
        # What was told of these came before the answer to the command that doomed them, so it has
        # been read by now, or is lost.
        told = [self._deletion(peer) for peer in list(self._all()) if peer.doomed]
        more, doubt = self.take(meanwhile)
        told += more
        moved = {one.generation for one in told if isinstance(one.notice, FloatedNotice)}
        there = {peer.peer_id: peer for peer in found}
        for peer in list(self._all()):
            state = there.get(peer.peer_id)
            if state is None:
                if not peer.heard:
                    self._unsure.add(peer.peer_id)
                told.append(self._deletion(peer))
                continue
            if not doubt:
                peer.heard, peer.reason = False, None
            if peer.generation not in moved:  # else the look is older
                told += self._move(peer, state)
            told += self._lost_keys(peer, keys.get(peer.peer_id))
        return told, doubt

    def _doubts(self, notice: DeletedNotice, peer: _Peer) -> bool:
        """Whether it may be of an earlier peer with this id, whose going a look has found."""
        if notice.peer_id not in self._unsure or peer.doomed:
            self._unsure.discard(notice.peer_id)
            return False
        self._unsure.discard(notice.peer_id)
        peer.heard, peer.reason = True, notice.reason
        return True

    def _apply(self, notice: Notice, peer: _Peer) -> bool:
        """False: of no interest any more."""
        if isinstance(notice, DeletedNotice):
            return True
        if peer.doomed:
            return False
        if isinstance(notice, FloatedNotice):
            peer.remote = notice.remote
        elif isinstance(notice, KeySwapNotice):
            if notice.key_id not in peer.keys.values():
                return False  # replaced, or told already
            peer.keys = {slot: key for slot, key in peer.keys.items() if key != notice.key_id}
        return True

    def _deletion(self, peer: _Peer) -> Told:
        self._forget(peer)
        notice = DeletedNotice(ifindex=self._ifindex, peer_id=peer.peer_id, reason=peer.reason)
        return Told(peer.generation, notice)

    def _move(self, peer: _Peer, state: PeerState) -> Iterator[Told]:
        if state.remote is not None and state.remote != peer.remote:
            peer.remote = state.remote
            notice = FloatedNotice(ifindex=self._ifindex, peer_id=peer.peer_id, remote=state.remote)
            yield Told(peer.generation, notice)

    def _lost_keys(self, peer: _Peer, keys: Mapping[KeySlot, int] | None) -> Iterator[Told]:
        if keys is None:
            return
        for slot, key_id in list(peer.keys.items()):
            if keys.get(slot) != key_id:
                del peer.keys[slot]
                notice = KeySwapNotice(ifindex=self._ifindex, peer_id=peer.peer_id, key_id=key_id)
                yield Told(peer.generation, notice)

    # Peers

    def _all(self) -> Iterator[_Peer]:
        return itertools.chain.from_iterable(self._peers.values())

    def _living(self) -> Iterator[_Peer]:
        return (peers[-1] for peers in self._peers.values() if not peers[-1].doomed)

    def _find(self, peer_id: int, generation: int) -> _Peer | None:
        of_id = self._peers.get(peer_id, ())
        return next((peer for peer in of_id if peer.generation == generation), None)

    def _forget(self, peer: _Peer) -> None:
        of_id = self._peers[peer.peer_id]
        of_id.remove(peer)
        if not of_id:
            del self._peers[peer.peer_id]
