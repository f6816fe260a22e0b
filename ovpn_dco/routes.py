"""Routes to the networks behind peers (OpenVPN's iroutes)."""

from __future__ import annotations

import errno
import ipaddress
import threading
from collections.abc import Iterator
from typing import NamedTuple

from .errors import NotFound
from .peer import Peer, Peers
from .validation.arguments import pack, prefix_of
from .validation.rules import refuse


class Route(NamedTuple):
    """A network, such as "192.168.9.0/24", and the peer behind which it is."""

    prefix: str
    peer: Peer


class Routes:
    """What of a MULTIPEER device's inner side belongs to whom, besides the peers' own addresses.

    The longest prefix wins. A route goes with its peer. Iterating gives `Route`s in the order in
    which they were added."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._lock = threading.Lock()
        self._owners: dict[tuple[bytes, int], tuple[int, int]] = {}

    def forget(self) -> None:
        """In a forked child, where the lock may be held by a thread that is not there."""
        self._lock = threading.Lock()

    def add(self, prefix: object, peer: Peer) -> None:
        """Routes the network to the peer. InvalidArgument for a prefix with host bits,
        AlreadyExists when it has an owner, NotFound when the peer was deleted."""
        key = prefix_of(prefix)
        if not isinstance(peer, Peer) or not peer.belongs_to(self._peers):
            raise refuse(errno.EINVAL, "peer", "must be a peer of this device")
        with self._lock:
            self._peers.backend.add_route(key, peer.ref)
            self._owners.pop(key, None)  # of a peer that is gone; the new one goes to the end
            self._owners[key] = peer.ref

    def remove(self, prefix: object) -> None:
        """Takes the route away. NotFound when there is none."""
        key = prefix_of(prefix)
        with self._lock:
            self._peers.backend.delete_route(key)
            self._owners.pop(key, None)

    def by_owner(self) -> dict[tuple[int, int], list[tuple[bytes, int]]]:
        """Prefixes, packed, of each peer that has any."""
        self._alive()
        owned: dict[tuple[int, int], list[tuple[bytes, int]]] = {}
        with self._lock:
            for prefix, ref in self._owners.items():
                owned.setdefault(ref, []).append(prefix)
        return owned

    def restored(self, owners: dict[tuple[bytes, int], tuple[int, int]]) -> None:
        """Routes that the engine has already."""
        with self._lock:
            self._owners.update(owners)

    def lookup(self, address: object) -> Peer | None:
        """Who owns an inner address, by route or as its own; None: nobody."""
        try:
            return Peer(self._peers, self._peers.backend.lookup_route(pack("address", address)))
        except NotFound:
            return None

    def __iter__(self) -> Iterator[Route]:
        return iter(self._alive())

    def __len__(self) -> int:
        return len(self._alive())

    def __contains__(self, prefix: object) -> bool:
        ip, bits = prefix_of(prefix)
        return any(route.prefix == _text(ip, bits) for route in self._alive())

    def __repr__(self) -> str:
        return f"<Routes {[route.prefix for route in self]}>"

    def _alive(self) -> list[Route]:
        # The engine drops a peer's routes with it; what is written down here follows.
        with self._lock:
            present = set(self._peers.backend.peers())
            self._owners = {key: ref for key, ref in self._owners.items() if ref in present}
            return [Route(_text(*key), Peer(self._peers, r)) for key, r in self._owners.items()]


def _text(ip: bytes, bits: int) -> str:
    return f"{ipaddress.ip_address(ip)}/{bits}"
