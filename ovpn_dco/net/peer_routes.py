"""Which networks lie behind which peer, by what the system's routes say of the interface.

A route `NET via GATEWAY` into the interface means the peer whose VPN address the gateway is,
whether the peer came before the route or comes later. Nothing here asks the system: messages of the
kernel and peers go in, changes come out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from .rtnetlink import MAIN_TABLE, IpAddress, IpNetwork

Owner = TypeVar("Owner", bound=Hashable)


class RouteKey(NamedTuple):
    """What the kernel tells routes of one network apart by, the better ones first when sorted.

    Of several tables the main one goes first: which of them a packet came by cannot be seen."""

    network: IpNetwork
    metric: int
    other_table: bool
    table: int
    tos: int


Gateways = tuple[IpAddress, ...]


@dataclass(frozen=True)
class SeenRoute:
    """A route as a message of the kernel has it. `gateways` are those that are reached through the
    interface, in the kernel's order: none where the route leads elsewhere."""

    network: IpNetwork
    metric: int = 0
    table: int = MAIN_TABLE
    tos: int = 0
    gateways: Gateways = ()

    @property
    def key(self) -> RouteKey:
        """Which route it is."""
        other = self.table != MAIN_TABLE
        return RouteKey(self.network, self.metric, other, self.table, self.tos)


class PeerRoutes(Generic[Owner]):
    """The owner of each network, followed.

    Of several routes to one network the lowest metric wins among those whose gateway is a peer
    that is there; of several gateways of one route the first that is."""

    def __init__(self, told: Mapping[IpNetwork, Owner] | None = None) -> None:
        """`told`: what the user of it has from elsewhere, and will drop if it is not so."""
        self._known: dict[RouteKey, list[Gateways]] = {}
        self._keys: defaultdict[IpNetwork, set[RouteKey]] = defaultdict(set)
        self._networks: defaultdict[IpAddress, set[IpNetwork]] = defaultdict(set)  # by gateway
        self._owners: dict[IpAddress, Owner] = {}
        self._addresses: dict[Owner, tuple[IpAddress, ...]] = {}
        self._told: dict[IpNetwork, Owner] = dict(told or {})
        self._touched: set[IpNetwork] = set(self._told)

    # In: routes

    def add(self, route: SeenRoute, *, replaces: bool = False) -> bool:
        """RTM_NEWROUTE; `replaces`: with NLM_F_REPLACE. False: all has to be looked at anew, since
        there may be several routes of one key, and it does not say which of them is gone.

        In IPv6 the message has the gateways that were there before, too; in IPv4 it is one more
        route of the key."""
        known = self._known.get(route.key, [])
        if replaces and known:
            return False
        if route.gateways and route.gateways not in known:
            others = known if route.network.version == 4 else []
            self._set(route.key, [*others, route.gateways])
        return True

    def remove(self, route: SeenRoute) -> None:
        """RTM_DELROUTE: in IPv4 one route of the key, in IPv6 some of its gateways or all."""
        known = self._known.get(route.key, [])
        if route.network.version == 4:
            left = [gateways for gateways in known if gateways != route.gateways]
        else:
            kept = (tuple(g for g in one if g not in route.gateways) for one in known)
            left = [gateways for gateways in kept if gateways]
        if left != known:
            self._set(route.key, left)

    def look(self, routes: Iterable[SeenRoute]) -> None:
        """All that there are: the answer to a dump."""
        found: dict[RouteKey, list[Gateways]] = {}
        for route in routes:
            if route.gateways:
                found.setdefault(route.key, []).append(route.gateways)
        for key in self._known.keys() | found.keys():
            self._set(key, found.get(key, []))

    # In: peers

    def set_addresses(self, owner: Owner, addresses: Collection[IpAddress]) -> None:
        """All VPN addresses of a peer from now on; none: it is gone. What another has by now stays
        with that one."""
        for address in self._addresses.pop(owner, ()):
            if self._owners.get(address) == owner:
                del self._owners[address]
                self._touched |= self._networks.get(address, set())
        for address in addresses:
            self._owners[address] = owner
            self._touched |= self._networks.get(address, set())
        if addresses:
            self._addresses[owner] = tuple(addresses)

    # Out

    def changes(self) -> dict[IpNetwork, Owner | None]:
        """Networks with another owner than when this was last asked; None: with none any more."""
        changed: dict[IpNetwork, Owner | None] = {}
        for network in self._touched:
            owner = self._owner(network)
            if owner != self._told.get(network):
                changed[network] = owner
                if owner is None:
                    del self._told[network]
                else:
                    self._told[network] = owner
        self._touched.clear()
        return changed

    def _owner(self, network: IpNetwork) -> Owner | None:
        for key in sorted(self._keys.get(network, ()), key=lambda key: key[1:]):
            for gateways in self._known[key]:
                for gateway in gateways:
                    if gateway in self._owners:
                        return self._owners[gateway]
        return None

    def _set(self, key: RouteKey, routes: Collection[Gateways]) -> None:
        network, before = key.network, self._known.pop(key, [])
        if routes:
            self._known[key] = list(routes)
            self._keys[network].add(key)
        elif before:
            self._keys[network].discard(key)
            if not self._keys[network]:
                del self._keys[network]
        for gateway in {gateway for gateways in before for gateway in gateways}:
            if not self._leads_to(network, gateway):
                self._networks[gateway].discard(network)
                if not self._networks[gateway]:
                    del self._networks[gateway]
        for gateway in {gateway for gateways in routes for gateway in gateways}:
            self._networks[gateway].add(network)
        self._touched.add(network)

    def _leads_to(self, network: IpNetwork, gateway: IpAddress) -> bool:
        keys = self._keys.get(network, ())
        return any(gateway in gateways for key in keys for gateways in self._known[key])
