"""Routes of a tunnel: what goes into it, and what has to stay outside so that it works.

A gateway means nothing on a TUN interface, so routes into the tunnel name the interface only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from ..config import RedirectConfig
from ..net.routing import SystemRoute
from ..net.rtnetlink import Hop, IpAddress, IpNetwork
from ..net.surroundings import Surroundings
from ..protocol.options import Gateway, IfconfigIpv6
from ..protocol.push import TunnelIpv4

_ALL = (IPv4Network("0.0.0.0/0"),)
_HALVES = (IPv4Network("0.0.0.0/1"), IPv4Network("128.0.0.0/1"))
_GLOBAL_IPV6 = (IPv6Network("2000::/4"), IPv6Network("3000::/4"))


@dataclass(frozen=True)
class WantedRoute:
    """A route as it was written, of either family."""

    network: IpNetwork
    gateway: IpAddress | Gateway | None
    metric: int | None


def _host(address: IpAddress) -> IpNetwork:
    return ip_network(address)


@dataclass
class RoutePlanner:
    """Routes of a tunnel with these addresses. IPv6 that it does not carry is unreachable for who
    sends it: it would otherwise leave in the clear, or vanish."""

    around: Surroundings
    remote: IpAddress | None
    gateway: IPv4Address | None
    ipv4: TunnelIpv4 | None
    ipv6: IfconfigIpv6 | None
    carries_ipv6: bool
    notes: list[str] = field(default_factory=list)

    def plan(
        self,
        wanted: Iterable[WantedRoute],
        redirect: RedirectConfig | None,
        bypass: Iterable[IpAddress],
    ) -> tuple[SystemRoute, ...]:
        """What stays outside comes first, so that it is never led inside in between."""
        routes = [*filter(None, map(self._route, wanted))]
        outside = [SystemRoute(_host(a), way) for a in bypass if (way := self.around.ways.get(a))]
        if redirect and redirect.block_local:
            gateway, halves = self._local_network()
            outside += gateway
            routes += halves
        if self.remote and self._needs_pin(self.remote, redirect, routes):
            outside = [*self._pin(self.remote), *outside]
        default = self._default(redirect) if redirect else []
        return tuple(dict.fromkeys((*outside, *routes, *default)))

    def _inside(
        self, network: IpNetwork, metric: int | None = None, *, first: bool = False
    ) -> SystemRoute | None:
        """A route into the tunnel; None if there is no IPv6 at all, and so nothing to lead."""
        if network.version == 4 or self.carries_ipv6:
            return SystemRoute(network, Hop(self.around.index), metric, first)
        if not self.around.has_ipv6:
            return None
        return SystemRoute(network, None, metric, first)

    def _route(self, wanted: WantedRoute) -> SystemRoute | None:
        network, gateway = wanted.network, wanted.gateway
        if gateway is None or gateway is Gateway.VPN or self._is_inside(gateway):
            if self.remote and network == _host(self.remote):
                self.notes.append(f"route {network} would lead the server's packets to itself")
                return None
            return self._inside(network, wanted.metric)
        hop = self._hop_outside(network, gateway)
        if hop is None:
            name = gateway.value if isinstance(gateway, Gateway) else gateway
            self.notes.append(f"route {network} has a gateway that is not known: {name}")
            return None
        return SystemRoute(network, hop, wanted.metric)

    def _is_inside(self, gateway: IpAddress | Gateway) -> bool:
        if isinstance(gateway, Gateway):
            return False
        if isinstance(gateway, IPv6Address) and gateway.is_link_local:
            return True  # no option can say on which link
        ends = {
            self.gateway,
            self.ipv4.peer if self.ipv4 else None,
            self.ipv6.gateway if self.ipv6 else None,
        }
        return gateway in ends or any(gateway in network for network in self._networks())

    def _networks(self) -> list[IpNetwork]:
        """Those that the interface is in by its addresses."""
        networks: list[IpNetwork] = []
        if self.ipv4:
            networks.append(self.ipv4.interface.network)
        if self.ipv6:
            networks.append(self.ipv6.local.network)
        return networks

    def _hop_outside(self, network: IpNetwork, gateway: IpAddress | Gateway) -> Hop | None:
        if not isinstance(gateway, Gateway):
            return Hop(0, gateway)
        if gateway is Gateway.NET:
            around = self.around
            return around.default_ipv4 if network.version == 4 else around.default_ipv6
        way = self.around.ways.get(self.remote) if self.remote else None
        if way is None or way.gateway is not None:
            return None
        return Hop(way.index, self.remote)

    def _default(self, redirect: RedirectConfig) -> list[SystemRoute]:
        if redirect.private:
            return []
        networks: list[IpNetwork] = []
        if redirect.ipv4:
            networks += _HALVES if redirect.def1 else _ALL
        if redirect.ipv6:
            networks += _GLOBAL_IPV6
            if self.around.has_ipv6 and not self.carries_ipv6:
                self.notes.append("the tunnel carries no IPv6: it is unreachable meanwhile")
        return [r for network in networks if (r := self._inside(network, first=True))]

    def _local_network(self) -> tuple[list[SystemRoute], list[SystemRoute]]:
        """The route to the gateway that stays, and both halves of its network into the tunnel."""
        network, default = self.around.local_network, self.around.default_ipv4
        if network is None or default is None or default.gateway is None:
            self.notes.append("block-local: the local network is not known")
            return [], []
        if network.prefixlen >= 31:
            return [], []
        halves = [self._inside(half) for half in network.subnets()]
        return [SystemRoute(_host(default.gateway), Hop(default.index))], [*filter(None, halves)]

    def _needs_pin(
        self,
        remote: IpAddress,
        redirect: RedirectConfig | None,
        routes: list[SystemRoute],
    ) -> bool:
        """`local` and `autolocal` say that the default does not touch the server, no more."""
        inside = (None, Hop(self.around.index))
        networks = [route.network for route in routes if route.hop in inside]
        if any(remote in network for network in (*networks, *self._networks())):
            return True
        if redirect is None or redirect.local:
            return False
        way = self.around.ways.get(remote)
        return not (redirect.autolocal and way is not None and way.gateway is None)

    def _pin(self, remote: IpAddress) -> list[SystemRoute]:
        way = self.around.ways.get(remote)
        if way is None:
            self.notes.append(f"there is no way to {remote} that could be kept out of the tunnel")
            return []
        return [SystemRoute(_host(remote), way)]
