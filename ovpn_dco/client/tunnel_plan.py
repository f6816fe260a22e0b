"""What a push and the configuration make of the system: a list of changes, made without it.

Nothing here has an effect; `tunnel` applies the list. A gateway means nothing on a TUN interface,
so routes into the tunnel name the interface only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)

from ..config import ClientConfig, MtuConfig, RedirectConfig
from ..net.routing import (
    Change,
    Hop,
    IpAddress,
    IpNetwork,
    LinkMtu,
    LinkUp,
    Surroundings,
    SystemAddress,
    SystemRoute,
)
from ..protocol.dns import (
    DhcpOption,
    DnsAddress,
    DnsSearch,
    DnsServerPart,
    dns_settings,
)
from ..protocol.options import (
    Gateway,
    IfconfigIpv6,
    Option,
    Route,
    RouteIpv6,
    Topology,
    TopologyOption,
)
from ..protocol.push import Pushed, TunnelIpv4
from .tunnel_info import TunnelInfo

IPV6_MIN_MTU = 1280  # the kernel takes IPv6 away from an interface below it

_ALL = (IPv4Network("0.0.0.0/0"),)
_HALVES = (IPv4Network("0.0.0.0/1"), IPv4Network("128.0.0.0/1"))
_GLOBAL_IPV6 = (IPv6Network("2000::/4"), IPv6Network("3000::/4"))


@dataclass(frozen=True)
class TunnelPlan:
    """Changes in the order in which they are to be made, what they amount to, and `notes`: what
    was asked for and is not done."""

    changes: tuple[Change, ...]
    info: TunnelInfo
    notes: tuple[str, ...] = ()


def plan_tunnel(
    interface: str,
    pushed: Pushed,
    config: ClientConfig,
    around: Surroundings,
    *,
    remote: IpAddress | None = None,
    bypass: Iterable[IpAddress] = (),
    mtu: MtuConfig | None = None,
) -> TunnelPlan:
    """The changes that make the tunnel.

    `remote` is the server, None where its packets cannot get into the tunnel. `bypass` are other
    addresses that stay outside of it. `mtu`: of the connection, if it has its own. TextRefused if
    the topology and the addresses do not fit."""
    pushed = _with_topology(pushed, config)
    sizes = mtu or config.mtu
    size = pushed.tun_mtu(announced_max=sizes.tun_mtu_max, default=sizes.tun_mtu)
    ipv4, ipv6 = _ipv4(pushed, config), _ipv6(pushed, config)
    if not (around.takes_ipv6 and size >= IPV6_MIN_MTU):
        ipv6 = None
    blocks_ipv6 = pushed.has("block-ipv6") or config.routes.block_ipv6
    if ipv6 and blocks_ipv6:
        ipv6 = replace(ipv6, local=IPv6Interface(ipv6.local.ip))  # nor its network
    planner = _RoutePlanner(
        around=around,
        remote=remote,
        gateway=_vpn_gateway(pushed, config, ipv4),
        ipv4=ipv4,
        ipv6=ipv6,
        carries_ipv6=ipv6 is not None and not blocks_ipv6,
    )
    routes = planner.plan(_wanted(pushed, config), redirection(pushed, config), bypass)
    changes: list[Change] = [LinkMtu(size)]
    if ipv4:
        changes.append(SystemAddress(ipv4.interface, ipv4.peer))
    if ipv6:
        changes.append(SystemAddress(ipv6.local))
    changes.append(LinkUp())
    if config.routes.apply:
        changes += routes
    info = TunnelInfo(
        interface=interface,
        mtu=size,
        remote=remote,
        ipv4=ipv4.interface if ipv4 else None,
        ipv4_peer=ipv4.peer if ipv4 else None,
        ipv6=ipv6.local if ipv6 else None,
        ipv6_peer=ipv6.gateway if ipv6 else None,
        gateway=planner.gateway,
        net_gateway=around.default_ipv4.gateway if around.default_ipv4 else None,
        routes=routes,
        routes_applied=config.routes.apply,
        dns=dns_settings((*_local_dns(config), *pushed.options)),
        dhcp_options=(*_local_dhcp(config), *pushed.every(DhcpOption)),
        variables=pushed.environment,
    )
    return TunnelPlan(tuple(changes), info, tuple(planner.notes))


# What the push and the configuration say together


def _with_topology(pushed: Pushed, config: ClientConfig) -> Pushed:
    """The local topology counts where none is pushed."""
    local = config.device.topology
    if local is None or pushed.last(TopologyOption):
        return pushed
    return replace(pushed, options=(TopologyOption(Topology(local.value)), *pushed.options))


def _ipv4(pushed: Pushed, config: ClientConfig) -> TunnelIpv4 | None:
    local = config.device.ipv4
    if pushed.tunnel_ipv4 or local is None:
        return pushed.tunnel_ipv4
    return TunnelIpv4(local, config.device.ipv4_peer)


def _ipv6(pushed: Pushed, config: ClientConfig) -> IfconfigIpv6 | None:
    local = config.device.ipv6
    if pushed.tunnel_ipv6 or local is None:
        return pushed.tunnel_ipv6
    return IfconfigIpv6(local, config.device.ipv6_peer)


def _vpn_gateway(
    pushed: Pushed, config: ClientConfig, ipv4: TunnelIpv4 | None
) -> IPv4Address | None:
    if pushed.route_gateway:
        return pushed.route_gateway
    if config.routes.gateway not in {None, "dhcp"}:
        return IPv4Address(config.routes.gateway)
    return ipv4.peer if ipv4 else None


@dataclass(frozen=True)
class _Wanted:
    """A route as it was written, of either family."""

    network: IpNetwork
    gateway: IpAddress | Gateway | None
    metric: int | None


def _wanted(pushed: Pushed, config: ClientConfig) -> Iterator[_Wanted]:
    """Local ones first."""
    metric = pushed.number("route-metric")
    if metric is None:
        metric = config.routes.metric
    keywords = {keyword.value: keyword for keyword in Gateway}
    for local in config.routes.routes:
        gateway: IpAddress | Gateway | None = None
        if local.gateway is not None:
            gateway = keywords.get(local.gateway) or ip_address(local.gateway)
        yield _Wanted(local.network, gateway, metric if local.metric is None else local.metric)
    routes: tuple[Route | RouteIpv6, ...] = (*pushed.routes, *pushed.routes_ipv6)
    for route in routes:
        own = metric if route.metric is None else route.metric
        yield _Wanted(route.network, route.gateway, own)


def redirection(pushed: Pushed, config: ClientConfig) -> RedirectConfig | None:
    """What is to be redirected by the push and the configuration together; None: nothing."""
    said = [config.routes.redirect] if config.routes.redirect else []
    for name in ("redirect-gateway", "redirect-private"):
        flags = pushed.redirect(name)
        if flags is not None:
            said.append(_redirect_of(flags, private=name == "redirect-private"))
    if not said:
        return None
    return RedirectConfig(
        private=all(each.private for each in said),
        ipv4=all(each.ipv4 for each in said),
        local=any(each.local for each in said),
        autolocal=any(each.autolocal for each in said),
        def1=any(each.def1 for each in said),
        bypass_dhcp=any(each.bypass_dhcp for each in said),
        bypass_dns=any(each.bypass_dns for each in said),
        block_local=any(each.block_local for each in said),
        ipv6=any(each.ipv6 for each in said),
    )


def _redirect_of(flags: frozenset[str], *, private: bool) -> RedirectConfig:
    names = {flag.replace("-", "_"): True for flag in flags - {"!ipv4"}}
    return RedirectConfig(private=private, ipv4="!ipv4" not in flags, **names)


def _local_dhcp(config: ClientConfig) -> tuple[DhcpOption, ...]:
    return tuple(DhcpOption(kind, value) for kind, value in config.routes.dhcp_options)


def _local_dns(config: ClientConfig) -> Iterator[Option]:
    """As options, so that they count together with pushed ones."""
    yield from _local_dhcp(config)
    if config.routes.search_domains:
        yield DnsSearch(config.routes.search_domains)
    for server in config.routes.dns_servers:
        addresses = [str(DnsAddress(ip_address(host), port)) for host, port in server.addresses]
        said: dict[str, tuple[str, ...]] = {
            "address": tuple(addresses),
            "resolve-domains": server.resolve_domains,
            "dnssec": (server.dnssec,) if server.dnssec else (),
            "transport": (server.transport,) if server.transport else (),
            "sni": (server.sni,) if server.sni else (),
        }
        for kind, values in said.items():
            if values:
                yield DnsServerPart(server.priority, kind, values)


# Routes


def _host(address: IpAddress) -> IpNetwork:
    return ip_network(address)


@dataclass
class _RoutePlanner:
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
        wanted: Iterable[_Wanted],
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

    def _route(self, wanted: _Wanted) -> SystemRoute | None:
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
