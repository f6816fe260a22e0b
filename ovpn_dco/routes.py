"""Routes to the networks behind peers (OpenVPN's iroutes)."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .backend.base import PeerRef
from .errors import AddressInUse, AlreadyExists, NotFound
from .interface import InnerSide
from .model import Mode
from .peer import Peer, Peers
from .validation.arguments import pack, prefix_of
from .validation.rules import refuse

if TYPE_CHECKING:
    from .route_follower import RouteFollower


Prefix: TypeAlias = tuple[bytes, int]


class Route(NamedTuple):
    """A network, such as "192.168.9.0/24", and the peer behind which it is."""

    prefix: str
    peer: Peer


class Routes:
    """What of a MULTIPEER device's inner side belongs to whom, besides the peers' own addresses.

    The longest prefix wins. A route goes with its peer. Iterating gives `Route`s in the order in
    which they were added; those that `watch` has found are in `watched`."""

    def __init__(self, peers: Peers, inner: InnerSide) -> None:
        self._peers = peers
        self._inner = inner
        self._lock = threading.RLock()
        self._owners: dict[Prefix, PeerRef] = {}
        self._wanted: dict[Prefix, PeerRef] = {}  # by routes of the system
        self._installed: set[Prefix] = set()  # of those
        self._watch: RouteFollower | None = None

    def close(self) -> None:
        """Ends the watch, if there is one."""
        if self._watch is not None:
            self._watch.close()

    def forget(self) -> None:
        """In a forked child, where the lock may be held by a thread that is not there."""
        self._lock = threading.RLock()
        if self._watch is not None:
            self._watch.forget()

    def add(self, prefix: object, peer: Peer) -> None:
        """Routes the network to the peer; goes before what `watch` has found. InvalidArgument for
        a prefix with host bits, AlreadyExists when it has an owner, NotFound when the peer was
        deleted."""
        key = prefix_of(prefix)
        if not isinstance(peer, Peer) or not peer.belongs_to(self._peers):
            raise refuse(errno.EINVAL, "peer", "must be a peer of this device")
        with self._lock:
            self._withdraw(key)
            try:
                self._peers.backend.add_route(key, peer.ref)
            except BaseException:
                self._install(key)
                raise
            self._owners.pop(key, None)  # of a peer that is gone; the new one goes to the end
            self._owners[key] = peer.ref

    def remove(self, prefix: object) -> None:
        """Takes a route away that was added here. NotFound when there is none."""
        key = prefix_of(prefix)
        with self._lock:
            if key in self._installed:
                raise refuse(errno.ENOENT, "prefix", "is routed by the system: remove it there")
            self._peers.backend.delete_route(key)
            self._owners.pop(key, None)
            self._install(key)

    # The system's

    def watch(self) -> RouteFollower:
        """Follows the routes of the system into the interface, until it is closed:

            with device.routes.watch():
                ...                       # ip route add 192.168.9.0/24 via 10.8.0.2 dev ovpn0

        A route whose gateway is the VPN address of a peer makes the network that peer's, as soon as
        both are there. Routes of all tables count, those without a gateway do not: there the
        destination itself is the peer's address. Of several for one network the lowest metric wins
        among those whose gateway is a peer; of one with several gateways the first that is. Routes
        that are added here go before them.

        In MULTIPEER mode, and one watch at a time. UnsupportedError where there is no interface,
        InvalidArgument, Busy, DcoError for a system that does not tell."""
        from .route_follower import RouteFollower

        with self._lock:
            if self._peers.mode is not Mode.MULTIPEER:
                raise refuse(errno.EINVAL, "mode", "P2P has no routes: the peer owns everything")
            if self._watch is not None and not self._watch.closed:
                raise refuse(errno.EBUSY, "routes", "of the system are watched already")
            self._watch = RouteFollower(self, self._peers, self._inner.monitor_routes())
        self._watch.start()
        return self._watch

    @property
    def watched(self) -> list[Route]:
        """What the system's routes have added."""
        with self._lock:
            present = set(self._peers.backend.peers())
            found = {key: self._wanted[key] for key in self._wanted if key in self._installed}
            return self._routes({key: ref for key, ref in found.items() if ref in present})

    def follow(self, changes: Mapping[Prefix, PeerRef | None]) -> None:
        """What the watch has found; None: no peer's any more."""
        with self._lock:
            for key, ref in changes.items():
                self._withdraw(key)
                self._wanted.pop(key, None)
                if ref is not None:
                    self._wanted[key] = ref
                self._install(key)

    def release(self, ref: PeerRef) -> None:
        """The peer is gone, and its routes with it: others may take their place."""
        with self._lock:
            gone = [key for key, owner in self._owners.items() if owner == ref]
            for key in gone:
                del self._owners[key]
                self._install(key)

    def found(self) -> dict[Prefix, PeerRef]:
        """What the system's routes have wanted so far."""
        with self._lock:
            return dict(self._wanted)

    def _withdraw(self, key: Prefix) -> None:
        if key in self._installed:
            self._installed.discard(key)
            with contextlib.suppress(NotFound):  # it has gone with its peer
                self._peers.backend.delete_route(key)

    def _install(self, key: Prefix) -> None:
        ref = self._wanted.get(key)
        if ref is None:
            return
        # One that was added here, or an address of a peer, goes before it; a peer may be gone.
        with contextlib.suppress(AlreadyExists, AddressInUse, NotFound):
            self._peers.backend.add_route(key, ref)
            self._installed.add(key)

    # State

    def by_owner(self) -> dict[PeerRef, list[Prefix]]:
        """Prefixes, packed, of each peer that has any by `add`."""
        self._alive()
        return self._turned(self._owners)

    def watched_by_owner(self) -> dict[PeerRef, list[Prefix]]:
        """The same of what `watch` has found."""
        return self._turned({key: self._wanted[key] for key in self._installed})

    def _turned(self, owners: Mapping[Prefix, PeerRef]) -> dict[PeerRef, list[Prefix]]:
        owned: dict[PeerRef, list[Prefix]] = {}
        with self._lock:
            for prefix, ref in owners.items():
                owned.setdefault(ref, []).append(prefix)
        return owned

    def restored(self, owners: Mapping[Prefix, PeerRef], watched: Mapping[Prefix, PeerRef]) -> None:
        """Routes that the engine has already; the watched ones stay until a watch knows better."""
        with self._lock:
            self._owners.update(owners)
            self._wanted.update(watched)
            self._installed.update(watched)

    # Reading

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
            return self._routes(self._owners)

    def _routes(self, owners: Mapping[Prefix, PeerRef]) -> list[Route]:
        return [Route(_text(*key), Peer(self._peers, ref)) for key, ref in owners.items()]


def _text(ip: bytes, bits: int) -> str:
    return f"{ipaddress.ip_address(ip)}/{bits}"
