"""Events after an overrun are those of a listener that has lost nothing."""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ovpn_dco.errors import LimitReached, NotFound, error_for
from ovpn_dco.model import Address, DeleteReason, KeySlot
from ovpn_dco.netlink import (
    DeletedNotice,
    FloatedNotice,
    KeySwapNotice,
    Notice,
    Overrun,
    PeerState,
    PeerTracker,
    Told,
)
from ovpn_dco.netlink.interface import follow

T = TypeVar("T")
IFINDEX = 4
IDS = st.integers(1, 3)
REMOTES = st.integers(1, 3).map(lambda n: (f"192.0.2.{n}", 1194))
SLOTS = st.sampled_from(KeySlot)


@dataclass
class Living:
    generation: int
    remote: Address
    keys: dict[KeySlot, int] = field(default_factory=dict)


class Queue:
    """A netlink socket. Once something did not fit all is lost until it has been read empty, and
    the error comes before what had fitted."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.waiting: list[Notice] = []
        self.congested = self.error = False

    def put(self, notice: Notice) -> None:
        if self.congested or len(self.waiting) >= self.room:
            self.error |= not self.congested
            self.congested = True
        else:
            self.waiting.append(notice)

    def read(self) -> list[Notice | Overrun]:
        found: list[Notice | Overrun] = [Overrun()] if self.error else []
        found += self.waiting
        self.waiting, self.congested, self.error = [], False, False
        return found


class Driver:
    """What the kernel has, and what it has told two listeners: one has room for everything."""

    def __init__(self, room: int) -> None:
        self.peers: dict[int, Living] = {}
        self.queue = Queue(room)
        self.during_dump: list[int] = []

    def tell(self, notice: Notice) -> None:
        self.queue.put(notice)

    def remove(self, peer_id: int, reason: DeleteReason) -> None:
        if self.peers.pop(peer_id, None) is not None:
            self.tell(DeletedNotice(ifindex=IFINDEX, peer_id=peer_id, reason=reason))

    def dump(self) -> tuple[list[PeerState], dict[int, dict[KeySlot, int]]]:
        found = [PeerState(peer_id=i, remote=peer.remote) for i, peer in self.peers.items()]
        keys = {i: dict(peer.keys) for i, peer in self.peers.items()}
        for peer_id in self.during_dump:  # changes that the dump has not seen
            self.remove(peer_id, DeleteReason.EXPIRED)
        self.during_dump = []
        return found, keys


def failing(after: int, call: Callable[[], T]) -> Callable[[], T]:
    """A call that works so many times."""
    left = iter(range(after))

    def work() -> T:
        if next(left, None) is None:
            raise error_for(errno.ENOMEM, "no memory")
        return call()

    return work


class Overruns(RuleBasedStateMachine):
    """Few ids and hardly any room, so that ids are used again while all that is told is lost."""

    p2p = False
    room = 2

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver(self.room)
        self.tracker = PeerTracker(IFINDEX, p2p=self.p2p)
        self.told: list[Told] = []
        self.gone: dict[int, DeleteReason] = {}
        self.added: dict[int, int] = {}
        self.exhausted: Counter[tuple[int, int]] = Counter()
        self.key_ids = 0
        self.owners_keys: dict[tuple[int, KeySlot], int] = {}
        self.replaced: set[tuple[int, int]] = set()

    def _gone(self, peer_id: int, reason: DeleteReason) -> None:
        peer = self.driver.peers.get(peer_id)
        if peer is not None:
            self.gone[peer.generation] = reason
            self.driver.remove(peer_id, reason)

    # The owner

    @rule(peer_id=IDS, remote=REMOTES)
    def add(self, peer_id: int, remote: Address) -> None:
        generation = self.tracker.adding(peer_id, remote)
        if not self.p2p and peer_id in self.driver.peers:
            self.tracker.refused(peer_id, generation)
            return
        if self.p2p:
            for other in list(self.driver.peers):
                self._gone(other, DeleteReason.TEARDOWN)
        self.driver.peers[peer_id] = Living(generation, remote)
        self.tracker.added(peer_id, generation)
        self.added[generation] = peer_id

    @rule(peer_id=IDS)
    def delete(self, peer_id: int) -> None:
        peer = self.driver.peers.get(peer_id)
        if peer is not None:
            self._gone(peer_id, DeleteReason.USERSPACE)
            self.tracker.deleted(peer_id, peer.generation)

    @rule(peer_id=IDS, slot=SLOTS)
    def install_key(self, peer_id: int, slot: KeySlot) -> None:
        peer = self.driver.peers.get(peer_id)
        if peer is not None:
            self.key_ids += 1
            place = peer.generation, slot
            if place in self.owners_keys:  # nobody need be told of it any more
                self.replaced.add((peer.generation, self.owners_keys[place]))
            self.owners_keys[place] = self.key_ids
            peer.keys[slot] = self.key_ids
            self.tracker.key_installed(peer_id, peer.generation, slot, self.key_ids)

    @rule(peer_id=IDS)
    def swap_keys(self, peer_id: int) -> None:
        peer = self.driver.peers.get(peer_id)
        if peer is not None:
            peer.keys = {KeySlot(1 - slot): key for slot, key in peer.keys.items()}
            self.tracker.keys_swapped(peer_id, peer.generation)
            known = [self.owners_keys.pop((peer.generation, slot), None) for slot in KeySlot]
            for slot, key_id in zip(reversed(KeySlot), known, strict=True):
                if key_id is not None:
                    self.owners_keys[peer.generation, slot] = key_id

    # The driver by itself

    @rule(peer_id=IDS, reason=st.sampled_from([DeleteReason.EXPIRED, DeleteReason.TRANSPORT_ERROR]))
    def vanish(self, peer_id: int, reason: DeleteReason) -> None:
        self._gone(peer_id, reason)

    @rule(peer_id=IDS, remote=REMOTES)
    def move(self, peer_id: int, remote: Address) -> None:
        peer = self.driver.peers.get(peer_id)
        if peer is not None and peer.remote != remote:
            peer.remote = remote
            self.driver.tell(FloatedNotice(ifindex=IFINDEX, peer_id=peer_id, remote=remote))

    @rule(peer_id=IDS)
    def exhaust(self, peer_id: int) -> None:
        peer = self.driver.peers.get(peer_id)
        if peer is not None and KeySlot.PRIMARY in peer.keys:
            key_id = peer.keys.pop(KeySlot.PRIMARY)
            self.exhausted[peer.generation, key_id] += 1
            self.driver.tell(KeySwapNotice(ifindex=IFINDEX, peer_id=peer_id, key_id=key_id))

    @rule(peer_id=IDS)
    def vanish_during_the_dump(self, peer_id: int) -> None:
        peer = self.driver.peers.get(peer_id)
        if peer is not None and self.driver.queue.error:
            self.driver.during_dump.append(peer_id)
            self.read()

    @rule()
    def read(self) -> None:
        before = dict(self.driver.peers)
        self.told += follow(self.tracker, self.driver.queue.read, self.driver.dump)
        for peer_id in before.keys() - self.driver.peers.keys():
            self.gone[before[peer_id].generation] = DeleteReason.EXPIRED
        self._check()

    @rule(looks=st.integers(0, 1))
    def fail(self, looks: int) -> None:
        """In a look, or in the read behind it."""
        read, look = self.driver.queue.read, self.driver.dump
        with contextlib.suppress(LimitReached):
            self.told += follow(self.tracker, failing(1, read), failing(looks, look))

    def _check(self) -> None:
        """Nothing waits, so all is known."""
        assert not self.driver.queue.waiting
        told: dict[type[Notice], list[Told]] = {}
        for one in self.told:
            told.setdefault(type(one.notice), []).append(one)
        deleted = told.get(DeletedNotice, [])
        assert Counter(one.generation for one in deleted) == Counter(self.gone.keys())
        for one in deleted:
            assert isinstance(one.notice, DeletedNotice)
            assert one.notice.peer_id == self.added[one.generation]
            own = self.gone[one.generation] is DeleteReason.USERSPACE
            assert one.notice.reason in {
                self.gone[one.generation],
                DeleteReason.USERSPACE if own else None,
            }
        where = {one.generation: one.notice.remote for one in told.get(FloatedNotice, [])
                 if isinstance(one.notice, FloatedNotice)}  # fmt: skip
        for peer_id, peer in self.driver.peers.items():
            assert self.tracker.current(peer_id) == peer.generation
            assert where.get(peer.generation, peer.remote) == peer.remote
        keys = Counter(
            (one.generation, one.notice.key_id)
            for one in told.get(KeySwapNotice, [])
            if isinstance(one.notice, KeySwapNotice)
        )
        alive = {peer.generation for peer in self.driver.peers.values()}
        due = {key for key in self.exhausted if key[0] in alive} - self.replaced
        assert due <= keys.keys()
        assert not keys - self.exhausted

    @invariant()
    def nobody_is_told_twice(self) -> None:
        generations = [one.generation for one in self.told if isinstance(one.notice, DeletedNotice)]
        assert len(generations) == len(set(generations))


class OverrunsP2P(Overruns):
    p2p = True


class NothingLost(Overruns):
    room = 1000

    def read(self) -> None:
        super().read()
        for one in self.told:
            if isinstance(one.notice, DeletedNotice):
                assert one.notice.reason is self.gone[one.generation]


for machine in (Overruns, OverrunsP2P, NothingLost):
    machine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestOverruns = Overruns.TestCase
TestOverrunsP2P = OverrunsP2P.TestCase
TestNothingLost = NothingLost.TestCase


# By hand

ONE: Address = ("192.0.2.1", 1194)


@pytest.fixture
def tracker() -> PeerTracker:
    return PeerTracker(IFINDEX, p2p=False)


def added(tracker: PeerTracker, peer_id: int = 1) -> int:
    generation = tracker.adding(peer_id, ONE)
    tracker.added(peer_id, generation)
    return generation


def deletion(peer_id: int = 1, ifindex: int = IFINDEX) -> DeletedNotice:
    return DeletedNotice(ifindex=ifindex, peer_id=peer_id, reason=DeleteReason.EXPIRED)


def test_other_interfaces_and_unknown_peers_are_nobodys(tracker: PeerTracker) -> None:
    added(tracker)
    tracker.take([deletion(ifindex=5), deletion(peer_id=2)])
    assert (tracker.tell(), tracker.behind) == ([], False)


def test_late_notification_is_of_the_former_peer(tracker: PeerTracker) -> None:
    """Id in use again before the notification was read."""
    first = added(tracker)
    second = added(tracker)
    tracker.take([deletion()])
    assert [one.generation for one in tracker.tell()] == [first]
    assert tracker.current(1) == second
    tracker.check(1, second)
    with pytest.raises(NotFound):
        tracker.check(1, first)


def test_notification_behind_a_look_does_not_end_the_next_peer(tracker: PeerTracker) -> None:
    """The kernel takes a peer out of its table, then tells of it; a look may come between."""
    first = added(tracker)
    tracker.look([], {})
    assert [one.generation for one in tracker.tell()] == [first]
    assert not tracker.behind
    second = added(tracker)
    tracker.take([deletion()])
    assert (tracker.tell(), tracker.behind) == ([], True)
    tracker.look([PeerState(peer_id=1, remote=ONE)], {})
    assert (tracker.tell(), tracker.behind) == ([], False)
    assert tracker.current(1) == second
    tracker.take([deletion()])
    assert [one.generation for one in tracker.tell()] == [second]


def test_doubted_notification_keeps_its_reason(tracker: PeerTracker) -> None:
    added(tracker)
    tracker.look([], {})
    second = added(tracker)
    tracker.tell()
    tracker.take([deletion()])
    tracker.look([], {})
    assert (tracker.tell(), tracker.behind) == ([Told(second, deletion())], False)


def test_float_that_a_look_has_not_seen_stays(tracker: PeerTracker) -> None:
    added(tracker)
    there: Address = ("192.0.2.9", 1)
    floated = FloatedNotice(ifindex=IFINDEX, peer_id=1, remote=there)
    tracker.look([PeerState(peer_id=1, remote=ONE)], {}, [floated])
    assert [one.notice for one in tracker.tell()] == [floated]


def test_what_comes_during_a_look_is_of_the_present_peer(tracker: PeerTracker) -> None:
    """What was told of the former one is lost: it would have been read before the look."""
    first = added(tracker)
    tracker.deleted(1, first)
    second = added(tracker)
    tracker.look([PeerState(peer_id=1, remote=ONE)], {}, [deletion()])
    told = tracker.tell()
    assert [one.generation for one in told] == [first, second]
    assert not tracker.behind
    assert told[0].notice == DeletedNotice(
        ifindex=IFINDEX, peer_id=1, reason=DeleteReason.USERSPACE
    )


@pytest.mark.parametrize("looks", [0, 1], ids=["look", "read"])
def test_what_is_known_waits_while_the_rest_cannot_be_found(
    tracker: PeerTracker, looks: int
) -> None:
    first, second = added(tracker), added(tracker, 2)
    queue = Queue(1)
    for peer_id in (1, 2):
        queue.put(deletion(peer_id))
    with pytest.raises(LimitReached):
        follow(tracker, failing(1, queue.read), failing(looks, lambda: ([], {})))
    told = follow(tracker, queue.read, lambda: ([], {}))
    assert [one.generation for one in told] == [first, second]
    assert follow(tracker, queue.read, failing(0, lambda: ([], {}))) == []


def test_reason_is_not_of_a_later_peer_with_the_id(tracker: PeerTracker) -> None:
    """After a loss, what is told may be of any that has had it."""
    first = added(tracker)
    tracker.take([Overrun()])
    tracker.deleted(1, first)
    second = added(tracker)
    tracker.take([deletion()])
    tracker.look([], {})
    assert {one.generation: one.notice for one in tracker.tell()} == {
        first: DeletedNotice(ifindex=IFINDEX, peer_id=1, reason=DeleteReason.USERSPACE),
        second: DeletedNotice(ifindex=IFINDEX, peer_id=1, reason=None),
    }


PLACES: list[list[Address]] = [
    [("192.0.2.1", 1194), ("::ffff:192.0.2.1", 1194, 0, 0), ("::ffff:c000:201", 1194)],
    [("192.0.2.1", 1195)],
    [("2001:db8::1", 1194, 0, 0), ("2001:DB8:0:0::0001", 1194), ("2001:db8::1", 1194, 7, 0)],
    [("fe80::1", 1194, 0, 1), ("FE80::1", 1194, 0, 1)],
    [("fe80::1", 1194, 0, 2)],
]


@pytest.mark.parametrize("given", [one for place in PLACES for one in place], ids=str)
def test_another_spelling_is_no_move(given: Address, tracker: PeerTracker) -> None:
    tracker.added(1, tracker.adding(1, given))
    for place in PLACES:
        told_of = place[0]  # as the driver spells it
        tracker.moved(1, 1, given)
        tracker.look([PeerState(peer_id=1, remote=told_of)], {})
        moves = [] if given in place else [told_of]
        assert [getattr(one.notice, "remote", None) for one in tracker.tell()] == moves
