"""The data channel of one session: its peer in the device, and the keys of that peer.

What a session decides comes as events; here they become calls, in the order that the engine and
the kernel driver expect: the peer, its keepalive, the key (docs/architecture.md)."""

from __future__ import annotations

import contextlib
from typing import Any

from ..device import Device
from ..errors import DcoError, NotFound
from ..model import KeySlot, PeerStats
from ..peer import Peer
from ..protocol.keyevents import KeyExpired, KeyPromotionDue
from ..protocol.session_events import KeyReady

__all__ = ["DataChannel"]


class DataChannel:
    """A peer of `device`, from the moment it is added."""

    def __init__(self, device: Device, peer_id: int, transport: Any, **attributes: Any) -> None:
        """Adds the peer; `attributes` are those of `Device.add_peer`, which says what is raised."""
        self.peer: Peer = device.add_peer(peer_id, transport, **attributes)
        self._slots: dict[KeySlot, int] = {}

    @property
    def generation(self) -> int:
        """Tells the peer from others with its id."""
        return self.peer.generation

    def take(self, event: KeyReady | KeyPromotionDue | KeyExpired) -> None:
        """Does to the keys what the session says. A key is cleared here once the engine has its
        own copy. `DcoError` where the engine refuses."""
        match event:
            case KeyReady():
                self.peer.install_key(event.slot, event.key, consume=True)
                self._slots[event.slot] = event.key_id
            case KeyPromotionDue():
                self._promote(event.key_id)
            case KeyExpired():
                self._delete(event.key_id)

    def close(self) -> None:
        """Deletes the peer with its keys, if it is not gone already."""
        with contextlib.suppress(DcoError):
            self.peer.delete()

    def stats(self) -> PeerStats | None:
        """Its counters; None if it is gone."""
        try:
            return self.peer.stats()
        except NotFound:
            return None

    def _promote(self, key_id: int) -> None:
        if self._slots.get(KeySlot.SECONDARY) == key_id:
            self.peer.swap_keys()
            primary = self._slots.pop(KeySlot.PRIMARY, None)
            self._slots[KeySlot.PRIMARY] = self._slots.pop(KeySlot.SECONDARY)
            if primary is not None:
                self._slots[KeySlot.SECONDARY] = primary

    def _delete(self, key_id: int) -> None:
        for slot, installed in list(self._slots.items()):
            if installed == key_id:
                self.peer.delete_key(slot)
                del self._slots[slot]
