"""What notifications mean to who keeps peers, and what was missed when some were lost.

No socket and no clock: commands and notifications go in, and after an overrun a look at what the
driver has; notices come out, each with the generation of its peer, as if none had been lost. They
wait in here until they are told, since the look behind them may fail. What a look cannot show is
left out: where a peer was in between, and why it went, unless its owner did it.

A peer gives exactly one notification when it goes, and its id may have been given to another by
then. So the peers of an id form a queue: what is told of an id that goes is told of the oldest."""

from __future__ import annotations

import errno
import ipaddress
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..errors import error_for
from ..model import Address, DeleteReason, KeySlot
from .values import DeletedNotice, FloatedNotice, KeySwapNotice, Notice, Overrun, PeerState


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
        self._told: list[Told] = []
        self.behind = False
        """Whether something was lost, or is doubted, and only a look shows what has happened."""

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

    def take(self, read: Iterable[Notice | Overrun]) -> None:
        """What the event socket has; of peers that are not known it means nothing."""
        for one in read:
            if isinstance(one, Overrun):
                self.behind = True
            elif one.ifindex == self._ifindex:
                self._take(one, self._peers.get(one.peer_id, []))

    def tell(self) -> list[Told]:
        """What has come to be known since the last call."""
        told, self._told = self._told, []
        return told

    def look(
        self,
        found: Iterable[PeerState],
        keys: Mapping[int, Mapping[KeySlot, int]],
        meanwhile: Iterable[Notice | Overrun] = (),
    ) -> None:
        """What was missed, if nothing in `meanwhile` asks for another look.

        `found` are the peers that the driver has, `keys` what is in the slots of those that
        `with_keys` named, and `meanwhile` what the event socket held after both were read."""
        # What was told of these came before the answer to the command that doomed them, so it has
        # been read by now, or is lost.
        for peer in [peer for peer in self._all() if peer.doomed]:
            self._delete(peer)
        there = {peer.peer_id: peer for peer in found}
        for peer in self._all():
            if peer.peer_id in there:  # what was heard was of an earlier one
                peer.heard, peer.reason = False, None
        before = len(self._told)
        self.behind = False
        self.take(meanwhile)
        news = self._told[before:]
        moved = {one.generation for one in news if isinstance(one.notice, FloatedNotice)}
        for peer in list(self._all()):
            state = there.get(peer.peer_id)
            if state is None:
                if not peer.heard:
                    self._unsure.add(peer.peer_id)
                self._delete(peer)
                continue
            if peer.generation not in moved:  # else the look is older
                self._move(peer, state)
            self._lose_keys(peer, keys.get(peer.peer_id))

    def _take(self, notice: Notice, peers: list[_Peer]) -> None:
        # Which of several is meant cannot be known when one of their notifications may be lost.
        if not peers or (self.behind and len(peers) > 1):
            return
        peer = peers[0]
        if isinstance(notice, DeletedNotice) and self._doubts(notice, peer):
            self.behind = True
        elif self._apply(notice, peer):
            self._told.append(Told(peer.generation, notice))

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
            self._forget(peer)
        elif peer.doomed:
            return False
        elif isinstance(notice, FloatedNotice):
            peer.remote = notice.remote
        elif isinstance(notice, KeySwapNotice):
            if notice.key_id not in peer.keys.values():
                return False  # replaced, or told already
            peer.keys = {slot: key for slot, key in peer.keys.items() if key != notice.key_id}
        return True

    def _delete(self, peer: _Peer) -> None:
        self._forget(peer)
        notice = DeletedNotice(ifindex=self._ifindex, peer_id=peer.peer_id, reason=peer.reason)
        self._told.append(Told(peer.generation, notice))

    def _move(self, peer: _Peer, state: PeerState) -> None:
        if state.remote is not None and _place(state.remote) != _place(peer.remote):
            peer.remote = state.remote
            notice = FloatedNotice(ifindex=self._ifindex, peer_id=peer.peer_id, remote=state.remote)
            self._told.append(Told(peer.generation, notice))

    def _lose_keys(self, peer: _Peer, keys: Mapping[KeySlot, int] | None) -> None:
        if keys is None:
            return
        for slot, key_id in list(peer.keys.items()):
            if keys.get(slot) != key_id:
                del peer.keys[slot]
                notice = KeySwapNotice(ifindex=self._ifindex, peer_id=peer.peer_id, key_id=key_id)
                self._told.append(Told(peer.generation, notice))

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


def _place(remote: Address | None) -> tuple[object, ...] | None:
    """What all spellings of an address have in common; the driver knows no IPv4-mapped ones."""
    if remote is None:
        return None
    host = ipaddress.ip_address(remote[0])
    if isinstance(host, ipaddress.IPv4Address):
        return host, remote[1]
    if host.ipv4_mapped is not None:
        return host.ipv4_mapped, remote[1]
    return host, remote[1], remote[3] if len(remote) == 4 else 0
