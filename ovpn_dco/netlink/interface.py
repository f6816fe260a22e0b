"""One interface of the driver: its commands, and what happens to its peers, with nothing missed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from ..errors import InterfaceMissing, NotFound
from ..model import DataKey, KeySlot, Mode
from .commands import Commands
from .link import Link, create_link, delete_link, find_link
from .probe import find_family
from .sockets import EVENT_BUFFER, EventSocket
from .tracker import PeerTracker, Told
from .values import KeyState, Notice, Overrun, PeerAttributes, PeerState

_LOOKS = 10


class Interface:
    """An interface whose peers this object alone adds and deletes.

    Made in the namespace of the calling thread. Notifications go to the namespace of a peer's
    socket: of another one than that `listen` has to be told. A peer is named by its id and the
    generation that `add_peer` returned; commands for one that is known to be gone are NotFound.
    Calls may come from any thread. Refusals are as in `Commands`."""

    def __init__(self, link: Link, *, owned: bool, event_buffer: int = EVENT_BUFFER) -> None:
        family = self._family = find_family()
        self.link = link
        self._event_buffer = event_buffer
        self._owned = owned
        self._lock = threading.Lock()
        self._tracker = PeerTracker(link.ifindex, p2p=link.mode is Mode.P2P)
        with contextlib.ExitStack() as undo:
            self._events = [EventSocket(family.number, family.peers_group, buffer=event_buffer)]
            undo.callback(self._events[0].close)
            self._commands = Commands(family.number)
            undo.pop_all()

    @classmethod
    def create(cls, name: str, mode: Mode, *, event_buffer: int = EVENT_BUFFER) -> Interface:
        """A new interface, which `close` takes away."""
        find_family()  # the kernel loads the driver for a family, not for a link
        link = create_link(name, mode)
        try:
            return cls(link, owned=True, event_buffer=event_buffer)
        except BaseException:
            delete_link(link.ifindex)
            raise

    @classmethod
    def adopt(cls, name: str, *, event_buffer: int = EVENT_BUFFER) -> Interface:
        """One that is there, and stays. Peers that it has already are not told of."""
        return cls(find_link(name), owned=False, event_buffer=event_buffer)

    def __enter__(self) -> Interface:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, *, keep: bool = False) -> None:
        """Takes away an interface that was created, unless it is to be kept; idempotent. To be
        called in the namespace in which it was made."""
        with self._lock:
            if self._owned and not keep:
                with contextlib.suppress(OSError):
                    delete_link(self.link.ifindex)
            self._owned = False
            self._close_sockets()

    def forget(self) -> None:
        """In a forked child: closes what was inherited, without effect on the parent."""
        self._lock = threading.Lock()
        self._owned = False
        self._close_sockets()

    def _close_sockets(self) -> None:
        self._commands.close()
        for events in self._events:
            events.close()

    # Peers

    def add_peer(self, peer: PeerAttributes) -> int:
        """Adds a peer; its generation."""
        with self._lock:
            generation = self._tracker.adding(peer.peer_id, peer.remote)
            try:
                self._commands.add_peer(self.link.ifindex, peer)
            except BaseException:
                self._tracker.refused(peer.peer_id, generation)
                raise
            self._tracker.added(peer.peer_id, generation)
            return generation

    def set_peer(self, generation: int, peer: PeerAttributes) -> None:
        """Changes what is not None."""
        with self._using(peer.peer_id, generation):
            self._commands.set_peer(self.link.ifindex, peer)
            if peer.remote is not None:
                self._tracker.moved(peer.peer_id, generation, peer.remote)

    def delete_peer(self, peer_id: int, generation: int) -> None:
        """Deletes a peer."""
        with self._using(peer_id, generation):
            self._commands.delete_peer(self.link.ifindex, peer_id)
            self._tracker.deleted(peer_id, generation)

    def get_peer(self, peer_id: int) -> PeerState:
        """What the driver knows of a peer."""
        return self._commands.get_peer(self.link.ifindex, peer_id)

    def get_peers(self) -> list[PeerState]:
        """The same of all."""
        return self._commands.get_peers(self.link.ifindex)

    # Keys

    def install_key(self, peer_id: int, generation: int, slot: KeySlot, key: DataKey) -> None:
        """Installs a key; what was in the slot goes."""
        with self._using(peer_id, generation):
            self._commands.install_key(self.link.ifindex, peer_id, slot, key)
            self._tracker.key_installed(peer_id, generation, slot, key.key_id)

    def swap_keys(self, peer_id: int, generation: int) -> None:
        """Swaps the slots."""
        with self._using(peer_id, generation):
            self._commands.swap_keys(self.link.ifindex, peer_id)
            self._tracker.keys_swapped(peer_id, generation)

    def delete_key(self, peer_id: int, generation: int, slot: KeySlot) -> None:
        """Empties a slot."""
        with self._using(peer_id, generation):
            self._commands.delete_key(self.link.ifindex, peer_id, slot)
            self._tracker.key_deleted(peer_id, generation, slot)

    def get_key(self, peer_id: int, slot: KeySlot) -> KeyState:
        """What is in a slot."""
        return self._commands.get_key(self.link.ifindex, peer_id, slot)

    # Events

    def fileno(self) -> int:
        """Readable while something has happened, to peers with sockets of the namespace in which
        this was made."""
        return self._events[0].fileno()

    def listen(self) -> int:
        """Hears of peers with sockets of the calling thread's namespace, too; what `fileno` is for
        those."""
        family = self._family
        events = EventSocket(family.number, family.peers_group, buffer=self._event_buffer)
        with self._lock:
            self._events.append(events)
        return events.fileno()

    def read_events(self) -> list[Told]:
        """What has happened since the last call, without waiting.

        Where notifications were lost the driver is asked what it has, so that nothing is missed: of
        a peer that went, the reason then is None unless it was deleted here. A call that fails
        leaves everything to the next one; `fileno` need not be readable then."""
        with self._lock:
            return follow(self._tracker, self._read, self._look)

    def _read(self) -> list[Notice | Overrun]:
        return [one for events in self._events for one in events.read()]

    def _look(self) -> tuple[list[PeerState], dict[int, dict[KeySlot, int]]]:
        try:
            found = self._commands.get_peers(self.link.ifindex)
            return found, self._keys({peer.peer_id for peer in found})
        except InterfaceMissing:  # somebody has deleted it, and its peers with it
            return [], {}

    def _keys(self, there: set[int]) -> dict[int, dict[KeySlot, int]]:
        keys: dict[int, dict[KeySlot, int]] = {}
        for peer_id, slots in self._tracker.with_keys():
            if peer_id in there:
                keys[peer_id] = {}
                for slot in slots:
                    with contextlib.suppress(NotFound):
                        keys[peer_id][slot] = self.get_key(peer_id, slot).key_id
        return keys

    @contextlib.contextmanager
    def _using(self, peer_id: int, generation: int) -> Iterator[None]:
        with self._lock:
            self._tracker.check(peer_id, generation)
            yield


def follow(
    tracker: PeerTracker,
    read: Callable[[], list[Notice | Overrun]],
    look: Callable[[], tuple[list[PeerState], dict[int, dict[KeySlot, int]]]],
) -> list[Told]:
    """Everything that `read` has, and after an overrun what `look` shows, until no more is lost
    meanwhile. Where one of them fails the tracker keeps what it knows, and that it is behind."""
    tracker.take(read())
    for _ in range(_LOOKS):
        if not tracker.behind:
            break
        found, keys = look()
        tracker.look(found, keys, read())
    return tracker.tell()
