"""Events that wait to be read: bounded, since of each kind a peer has one."""

from __future__ import annotations

from ...model import Event, PeerDeleted
from .bell import Bell

Key = tuple[object, ...]


class EventQueue:
    """In the order in which they happened. A later event with the same key takes the place of one
    that nobody has read."""

    def __init__(self) -> None:
        self.bell = Bell()
        """Rings while events wait, and for ever after `ring`."""
        self._events: dict[Key, tuple[int, Event]] = {}
        self._deletions = 0
        self._rings = False

    @property
    def deletions(self) -> int:
        """Peers whose going nobody has read of."""
        return self._deletions

    def put(self, event: Event, *of: object, transport: int = 0) -> None:
        """`of`: what it is about."""
        key = type(event), *of
        self._deletions += isinstance(event, PeerDeleted) and key not in self._events
        self._events.pop(key, None)
        self._events[key] = transport, event
        self._announce(True)

    def take(self, maximum: int) -> list[tuple[int, Event]]:
        """The oldest, each with the number of the transport that it is about."""
        found = [self._events.pop(key) for key in list(self._events)[:maximum]]
        self._deletions -= sum(isinstance(event, PeerDeleted) for _, event in found)
        if not self._events:
            self._announce(False)
        return found

    def ring(self) -> None:
        """Whoever waits is woken, from now on."""
        self._announce(True)
        self._rings = True

    def close(self) -> None:
        """Lets go of the descriptor. Idempotent."""
        self.bell.close()

    def _announce(self, waiting: bool) -> None:
        if self._rings:
            return
        if waiting:
            self.bell.ring()
        else:
            self.bell.silence()
