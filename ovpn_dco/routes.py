"""Routes to the networks behind peers (OpenVPN's iroutes)."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from .backend.base import PeerRef
from .errors import NotFound
from .interface import InnerSide
from .model import Mode
from .peer import Peer, Peers
from .validation.arguments import pack, prefix_of
from .validation.rules import refuse
from .watched import Prefix

if TYPE_CHECKING:
    from .route_follower import RouteFollower


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
        self._watched = peers.watched
        self._owners: dict[Prefix, PeerRef] = {}
        self._watch: RouteFollower | None = None

    @property
    def in_system(self) -> bool:
        """Whether the system's routes are the only ones, so that `add` makes one there, by way of
        the peer's VPN address, metric 100: with the kernel's driver. Those of the system itself are
        in effect without `watch`, and go by their metric."""
        return self._peers.backend.system_routes

    def close(self) -> None:
        """Ends the watch, if there is one."""
        if self._watch is not None:
            self._watch.close()

    def forget(self) -> None:
        """In a forked child, where a lock may be held by a thread that is not there."""
        self._watched.forget()
        if self._watch is not None:
            self._watch.forget()

    def add(self, prefix: object, peer: Peer) -> None:
        """Routes the network to the peer; goes before what `watch` has found. InvalidArgument for
        a prefix with host bits, AlreadyExists when it has an owner, NotFound when the peer was
        deleted."""
        key = prefix_of(prefix)
        if not isinstance(peer, Peer) or not peer.belongs_to(self._peers):
            raise refuse(errno.EINVAL, "peer", "must be a peer of this device")
        with self._watched.lock:
            self._watched.withdraw(key)
            try:
                self._peers.backend.add_route(key, peer.ref)
            except BaseException:
                self._watched.try_again()
                raise
            self._owners.pop(key, None)  # of a peer that is gone; the new one goes to the end
            self._owners[key] = peer.ref

    def remove(self, prefix: object) -> None:
        """Takes a route away that was added here. NotFound when there is none."""
        key = prefix_of(prefix)
        with self._watched.lock:
            if key in self._watched.installed():
                raise refuse(errno.ENOENT, "prefix", "is routed by the system: remove it there")
            self._peers.backend.delete_route(key)
            self._owners.pop(key, None)
            self._watched.try_again()

    # The system's

    def watch(self) -> RouteFollower:
        """Follows the routes of the system into the interface, until it is closed:

            with device.routes.watch():
                ...                       # ip route add 192.168.9.0/24 via 10.8.0.2 dev ovpn0

        A route whose gateway is the VPN address of a peer makes the network that peer's, as soon as
        both are there. Routes of all tables count, those without a gateway do not: there the
        destination itself is the peer's address. Of several for one network the lowest metric wins
        among those whose gateway is a peer; of one with several gateways the first that is. Routes
        that are added here, and addresses that are peers' own, go before them.

        In MULTIPEER mode, and one watch at a time. UnsupportedError where there is no interface,
        InvalidArgument, Busy, DcoError for a system that does not tell."""
        from .route_follower import RouteFollower

        with self._watched.lock:
            if self._peers.mode is not Mode.MULTIPEER:
                raise refuse(errno.EINVAL, "mode", "P2P has no routes: the peer owns everything")
            if self._watch is not None and not self._watch.closed:
                raise refuse(errno.EBUSY, "routes", "of the system are watched already")
            self._watch = RouteFollower(self._peers, self._inner.monitor_routes())
        self._watch.start()
        return self._watch

    @property
    def watched(self) -> list[Route]:
        """What the system's routes have added."""
        present, found = set(self._peers.backend.peers()), self._watched.installed()
        return self._routes({key: ref for key, ref in found.items() if ref in present})

    # State

    def by_owner(self) -> dict[PeerRef, list[Prefix]]:
        """Prefixes, packed, of each peer that has any by `add`."""
        with self._watched.lock:
            self._alive()
            return _turned(self._owners)

    def watched_by_owner(self) -> dict[PeerRef, list[Prefix]]:
        """The same of what `watch` has found."""
        return _turned(self._watched.installed())

    def restored(self, owners: Mapping[Prefix, PeerRef], watched: Mapping[Prefix, PeerRef]) -> None:
        """Routes that the engine has already."""
        with self._watched.lock:
            self._owners.update(owners)
            self._watched.restored(watched)

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
        with self._watched.lock:
            present = set(self._peers.backend.peers())
            self._owners = {key: ref for key, ref in self._owners.items() if ref in present}
            return self._routes(self._owners)

    def _routes(self, owners: Mapping[Prefix, PeerRef]) -> list[Route]:
        return [Route(_text(*key), Peer(self._peers, ref)) for key, ref in owners.items()]


def _turned(owners: Mapping[Prefix, PeerRef]) -> dict[PeerRef, list[Prefix]]:
    owned: dict[PeerRef, list[Prefix]] = {}
    for prefix, ref in owners.items():
        owned.setdefault(ref, []).append(prefix)
    return owned


def _text(ip: bytes, bits: int) -> str:
    return f"{ipaddress.ip_address(ip)}/{bits}"
