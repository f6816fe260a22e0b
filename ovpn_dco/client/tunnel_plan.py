"""What a push and the configuration make of the system: a list of changes, made without it.

Nothing here has an effect; `tunnel` applies the list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Interface, ip_address

from ..config import ClientConfig, MtuConfig, RedirectConfig
from ..net.routing import Change, LinkMtu, LinkUp, SystemAddress
from ..net.rtnetlink import IpAddress
from ..net.surroundings import Surroundings
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
from ..protocol.text import TextRefused
from .tunnel_info import TunnelInfo
from .tunnel_routes import RoutePlanner, WantedRoute

IPV6_MIN_MTU = 1280  # the kernel takes IPv6 away from an interface below it


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
    sockets_here: bool = True,
    bypass: Iterable[IpAddress] = (),
    mtu: MtuConfig | None = None,
) -> TunnelPlan:
    """The changes that make the tunnel.

    `remote` is the server; `sockets_here`: its packets pass the routes of this namespace. `bypass`
    are other addresses that stay outside of the tunnel. `mtu`: of the connection, if it has its
    own. TextRefused for addresses that no host can have, or that do not fit the topology."""
    pushed = _with_topology(pushed, config)
    sizes = mtu or config.mtu
    size = pushed.tun_mtu(announced_max=sizes.tun_mtu_max, default=sizes.tun_mtu)
    ipv4, ipv6 = _ipv4(pushed, config), _ipv6(pushed, config)
    if not (around.takes_ipv6 and size >= IPV6_MIN_MTU):
        ipv6 = None
    blocks_ipv6 = pushed.has("block-ipv6") or config.routes.block_ipv6
    if ipv6 and blocks_ipv6:
        ipv6 = replace(ipv6, local=IPv6Interface(ipv6.local.ip))  # nor its network
    planner = RoutePlanner(
        around=around,
        remote=remote if sockets_here else None,
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
    found, local = pushed.tunnel_ipv4, config.device.ipv4
    if found is None and local is not None:
        found = TunnelIpv4(local, config.device.ipv4_peer)
    if found:
        _check_host(found.interface.ip, "ifconfig")
        _check_host(found.peer, "ifconfig")
    return found


def _ipv6(pushed: Pushed, config: ClientConfig) -> IfconfigIpv6 | None:
    found, local = pushed.tunnel_ipv6, config.device.ipv6
    if found is None and local is not None:
        found = IfconfigIpv6(local, config.device.ipv6_peer)
    if found:
        _check_host(found.local.ip, "ifconfig-ipv6")
    return found


def _check_host(address: IpAddress | None, what: str) -> None:
    """The kernel would take some of these."""
    if address and (address.is_loopback or address.is_multicast or address.is_unspecified):
        raise TextRefused(what, f"has no address of a host: {address}")


def _vpn_gateway(
    pushed: Pushed, config: ClientConfig, ipv4: TunnelIpv4 | None
) -> IPv4Address | None:
    if pushed.route_gateway:
        return pushed.route_gateway
    if config.routes.gateway not in {None, "dhcp"}:
        return IPv4Address(config.routes.gateway)
    return ipv4.peer if ipv4 else None


def _wanted(pushed: Pushed, config: ClientConfig) -> Iterator[WantedRoute]:
    """Local ones first."""
    metric = pushed.number("route-metric")
    if metric is None:
        metric = config.routes.metric
    keywords = {keyword.value: keyword for keyword in Gateway}
    for local in config.routes.routes:
        gateway: IpAddress | Gateway | None = None
        if local.gateway is not None:
            gateway = keywords.get(local.gateway) or ip_address(local.gateway)
        yield WantedRoute(local.network, gateway, metric if local.metric is None else local.metric)
    routes: tuple[Route | RouteIpv6, ...] = (*pushed.routes, *pushed.routes_ipv6)
    for route in routes:
        own = metric if route.metric is None else route.metric
        yield WantedRoute(route.network, route.gateway, own)


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
