"""Routes of the system against a model of the kernel's table: whatever comes in whatever order,
each network belongs to the peer that a scan of all routes gives."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ovpn_dco.net.peer_routes import PeerRoutes, RouteKey, SeenRoute
from ovpn_dco.net.rtnetlink import MAIN_TABLE, IpAddress, IpNetwork

NETWORKS: list[IpNetwork] = [
    ipaddress.ip_network(text) for text in ("0.0.0.0/0", "10.1.2.0/24", "::/0", "fd01:2::/48")
]
GATEWAYS: dict[int, list[IpAddress]] = {
    4: [ipaddress.ip_address(f"10.8.0.{n}") for n in range(2, 6)],
    6: [ipaddress.ip_address(f"fd08::{n}") for n in range(2, 6)],
}
ADDRESSES = GATEWAYS[4] + GATEWAYS[6]


@st.composite
def routes(draw: st.DrawFn) -> SeenRoute:
    network = draw(st.sampled_from(NETWORKS))
    gateways = st.lists(st.sampled_from(GATEWAYS[network.version]), unique=True, max_size=2)
    return SeenRoute(
        network,
        metric=draw(st.sampled_from([50, 1024])),
        table=draw(st.sampled_from([MAIN_TABLE, 7])),
        gateways=tuple(draw(gateways)),
    )


class PeerRoutesMachine(RuleBasedStateMachine):
    """`table` is what the kernel has: of each key in IPv4 several routes, in IPv6 one with all its
    gateways. Routes that lead elsewhere stand in it as well, without gateways."""

    def __init__(self) -> None:
        super().__init__()
        self.table: list[SeenRoute] = []
        self.owners: dict[IpAddress, int] = {}
        self.subject: PeerRoutes[int] = PeerRoutes()
        self.owned: dict[IpNetwork, int] = {}
        self.deaf = False

    def same(self, key: RouteKey) -> list[int]:
        return [at for at, one in enumerate(self.table) if one.key == key]

    def tell_new(self, route: SeenRoute, *, replaces: bool = False) -> None:
        if not self.deaf and not self.subject.add(route, replaces=replaces):
            self.subject.look(self.table)

    def tell_gone(self, route: SeenRoute) -> None:
        if not self.deaf:
            self.subject.remove(route)

    @rule(route=routes())
    def append(self, route: SeenRoute) -> None:
        """ip route append"""
        if route in self.table:
            return  # EEXIST
        siblings = [at for at in self.same(route.key) if self.table[at].gateways and route.gateways]
        if route.network.version == 6 and siblings:
            before = self.table[siblings[0]]
            both = tuple(dict.fromkeys((*before.gateways, *route.gateways)))
            self.table[siblings[0]] = route = SeenRoute(*before.key[:2], before.table, 0, both)
        else:
            self.table.append(route)
        self.tell_new(route)

    @rule(route=routes())
    def replace(self, route: SeenRoute) -> None:
        """ip route replace: the first of the key makes way; in IPv6 that with gateways for one
        that has some, since there is only one such."""
        if route in self.table:
            return
        same = self.same(route.key)
        if route.network.version == 6 and route.gateways:
            same.sort(key=lambda at: not self.table[at].gateways)
        if same:
            self.table[same[0]] = route
        else:
            self.table.append(route)
        self.tell_new(route, replaces=bool(same))

    @precondition(lambda self: self.table)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """ip route del"""
        route = data.draw(st.sampled_from(self.table))
        at = self.table.index(route)
        if route.network.version == 6 and len(route.gateways) > 1 and data.draw(st.booleans()):
            part = SeenRoute(*route.key[:2], route.table, 0, route.gateways[:1])
            self.table[at] = SeenRoute(*route.key[:2], route.table, 0, route.gateways[1:])
            self.tell_gone(part)
        else:
            del self.table[at]
            self.tell_gone(route)

    @rule(owner=st.integers(1, 3), addresses=st.lists(st.sampled_from(ADDRESSES), max_size=2))
    def peer(self, owner: int, addresses: list[IpAddress]) -> None:
        """Comes, changes its addresses, or goes."""
        for address in [a for a, one in self.owners.items() if one == owner]:
            del self.owners[address]
        self.owners.update(dict.fromkeys(addresses, owner))
        self.subject.set_addresses(owner, addresses)

    @rule()
    def overflow(self) -> None:
        """ENOBUFS: from here on nothing is heard until the dump."""
        self.deaf = True

    @precondition(lambda self: self.deaf)
    @rule()
    def dump(self) -> None:
        self.deaf = False
        self.subject.look(self.table)

    @precondition(lambda self: not self.deaf)
    @invariant()
    def each_network_has_its_owner(self) -> None:
        for network, owner in self.subject.changes().items():
            assert self.owned.get(network) != owner
            if owner is None:
                del self.owned[network]
            else:
                self.owned[network] = owner
        expected = {network: self.expected(network) for network in NETWORKS}
        assert self.owned == {n: owners[0] for n, owners in expected.items() if owners}

    def expected(self, network: IpNetwork) -> list[int]:
        """Owners of its gateways, the best route first."""

        def gateways() -> Iterator[IpAddress]:
            found = [route for route in self.table if route.network == network]
            for route in sorted(found, key=lambda r: (r.metric, r.table != MAIN_TABLE, r.table)):
                yield from route.gateways

        return [self.owners[one] for one in gateways() if one in self.owners]


def test_against_a_scan_of_the_table() -> None:
    few = settings(max_examples=60, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(PeerRoutesMachine, settings=few)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_lowest_metric_wins(network: IpNetwork) -> None:
    """In whatever order they come, and while the others go."""
    gateways = GATEWAYS[network.version]
    metrics = [70, 20, 90, 30]
    for order in itertools.permutations(range(4)):
        subject: PeerRoutes[int] = PeerRoutes()
        for n in range(4):
            subject.set_addresses(metrics[n], [gateways[n]])
        for n in order:
            subject.add(SeenRoute(network, metric=metrics[n], gateways=(gateways[n],)))
        assert subject.changes() == {network: 20}
        subject.remove(SeenRoute(network, metric=20, gateways=(gateways[1],)))
        assert subject.changes() == {network: 30}
