"""A tunnel that is in effect, as one value, and as variables for hooks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface

from ..net.routing import SystemRoute
from ..net.rtnetlink import IpAddress
from ..protocol.dns import DhcpOption, DnsSettings


@dataclass(frozen=True)
class TunnelInfo:
    """The tunnel as it is in effect, for hooks and for people.

    `routes` are those of the plan; with `routes_applied` False (`route-noexec`) they are left to a
    hook. `dns` is what name resolution should be, which nothing here changes on the system;
    `dhcp_options` are the older form of it. `gateway` is that of the VPN, `net_gateway` the IPv4
    one outside of it. `variables` are of `setenv-safe`."""

    interface: str
    mtu: int
    remote: IpAddress | None = None
    ipv4: IPv4Interface | None = None
    ipv4_peer: IPv4Address | None = None
    ipv6: IPv6Interface | None = None
    ipv6_peer: IPv6Address | None = None
    gateway: IPv4Address | None = None
    net_gateway: IpAddress | None = None
    routes: tuple[SystemRoute, ...] = ()
    routes_applied: bool = True
    dns: DnsSettings = field(default_factory=DnsSettings)
    dhcp_options: tuple[DhcpOption, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Variables for hooks, with the names that programs of OpenVPN know."""
        return dict(self.variables) | {
            name: str(value) for name, value in self._variables() if value is not None
        }

    def _variables(self) -> Iterator[tuple[str, object]]:
        yield "dev", self.interface
        yield "tun_mtu", self.mtu
        if self.remote:
            yield "trusted_ip" if self.remote.version == 4 else "trusted_ip6", self.remote
        if self.ipv4:
            yield "ifconfig_local", self.ipv4.ip
            yield "ifconfig_remote", self.ipv4_peer
            if self.ipv4_peer is None:
                yield "ifconfig_netmask", self.ipv4.netmask
        if self.ipv6:
            yield "ifconfig_ipv6_local", self.ipv6.ip
            yield "ifconfig_ipv6_netbits", self.ipv6.network.prefixlen
            yield "ifconfig_ipv6_remote", self.ipv6_peer
        yield "route_vpn_gateway", self.gateway
        yield "route_net_gateway", self.net_gateway
        yield from self._route_variables()
        for number, option in enumerate(self.dhcp_options, 1):
            yield f"foreign_option_{number}", option
        yield from _dns_variables(self.dns)

    def _route_variables(self) -> Iterator[tuple[str, object]]:
        """No gateway: on an interface, as into the tunnel."""
        numbers = {4: itertools.count(1), 6: itertools.count(1)}
        for route in self.routes:
            network, number = route.network, next(numbers[route.network.version])
            if isinstance(network, IPv4Network):
                prefix = "route"
                yield f"route_network_{number}", network.network_address
                yield f"route_netmask_{number}", network.netmask
            else:
                prefix = "route_ipv6"
                yield f"route_ipv6_network_{number}", network
            yield f"{prefix}_gateway_{number}", route.hop and route.hop.gateway
            yield f"{prefix}_metric_{number}", route.metric


def _dns_variables(dns: DnsSettings) -> Iterator[tuple[str, object]]:
    for number, domain in enumerate(dns.search_domains, 1):
        yield f"dns_search_domain_{number}", domain
    for number, server in enumerate(dns.servers, 1):
        prefix = f"dns_server_{number}"
        for which, address in enumerate(server.addresses, 1):
            yield f"{prefix}_address_{which}", address.address
            yield f"{prefix}_port_{which}", address.port
        for which, domain in enumerate(server.resolve_domains, 1):
            yield f"{prefix}_resolve_domain_{which}", domain
        yield f"{prefix}_dnssec", server.dnssec
        yield f"{prefix}_transport", server.transport
        yield f"{prefix}_sni", server.sni
