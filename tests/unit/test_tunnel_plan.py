"""From a push and a configuration to changes of the system, without one."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any

import pytest
from config_files import client

from ovpn_dco.client.tunnel_plan import TunnelPlan, plan_tunnel, redirection
from ovpn_dco.config import ClientConfig, MtuConfig, RedirectConfig
from ovpn_dco.net.routing import LinkMtu, LinkUp, SystemAddress, SystemRoute
from ovpn_dco.net.rtnetlink import Hop
from ovpn_dco.net.surroundings import Surroundings
from ovpn_dco.protocol.dns import DhcpOption
from ovpn_dco.protocol.push import parse_options
from ovpn_dco.protocol.text import TextRefused

TUN, ETH = 7, 2
SERVER, SERVER_IPV6 = IPv4Address("203.0.113.1"), IPv6Address("2001:db8::1")
NEIGHBOUR = IPv4Address("192.168.1.50")  # on the local link
RESOLVER = IPv4Address("192.0.2.53")
ROUTER, ROUTER_IPV6 = IPv4Address("192.168.1.1"), IPv6Address("fe80::1")
WAY, WAY_IPV6 = Hop(ETH, ROUTER), Hop(ETH, ROUTER_IPV6)
AROUND = Surroundings(
    index=TUN,
    ways={SERVER: WAY, SERVER_IPV6: WAY_IPV6, NEIGHBOUR: Hop(ETH), RESOLVER: WAY},
    default_ipv4=WAY,
    default_ipv6=WAY_IPV6,
    local_network=IPv4Network("192.168.1.0/24"),
)
SUBNET = ("topology subnet", "ifconfig 10.9.0.2 255.255.255.0", "route-gateway 10.9.0.1")
IPV6 = ("ifconfig-ipv6 fd09::2/64 fd09::1",)


def plan(
    *options: str,
    config: ClientConfig | None = None,
    around: Surroundings = AROUND,
    remote: IPv4Address | IPv6Address | None = SERVER,
    **more: Any,
) -> TunnelPlan:
    pushed = parse_options(options)
    assert not pushed.ignored
    return plan_tunnel("vpn0", pushed, config or ClientConfig(), around, remote=remote, **more)


def routes(*options: str, **more: Any) -> list[SystemRoute]:
    """Of a tunnel with an IPv4 address in a subnet."""
    return list(plan(*SUBNET, *options, **more).info.routes)


def inside(network: str, metric: int | None = None) -> SystemRoute:
    return SystemRoute(ip_network(network), Hop(TUN), metric)


def taken(network: str) -> SystemRoute:
    """Into the tunnel, before anything else."""
    return SystemRoute(ip_network(network), Hop(TUN), first=True)


def refused(network: str) -> SystemRoute:
    return SystemRoute(ip_network(network), None, first=True)


PIN = SystemRoute(IPv4Network("203.0.113.1/32"), WAY)
PIN_IPV6 = SystemRoute(IPv6Network("2001:db8::1/128"), WAY_IPV6)
HALVES = [taken("0.0.0.0/1"), taken("128.0.0.0/1")]


# Addresses and MTU


def test_a_stock_push() -> None:
    made = plan(*SUBNET, *IPV6, "route 192.168.77.0 255.255.255.0", "tun-mtu 1400")
    assert made.changes == (
        LinkMtu(1400),
        SystemAddress(IPv4Interface("10.9.0.2/24")),
        SystemAddress(IPv6Interface("fd09::2/64")),
        LinkUp(),
        inside("192.168.77.0/24"),
    )
    assert made.notes == ()
    info = made.info
    assert (info.interface, info.mtu, info.remote) == ("vpn0", 1400, SERVER)
    assert (info.ipv4, info.ipv4_peer) == (IPv4Interface("10.9.0.2/24"), None)
    assert (info.ipv6, info.ipv6_peer) == (IPv6Interface("fd09::2/64"), IPv6Address("fd09::1"))
    assert (info.gateway, info.net_gateway) == (IPv4Address("10.9.0.1"), ROUTER)
    assert info.routes == (inside("192.168.77.0/24"),)


@pytest.mark.parametrize("topology", ["topology net30", "topology p2p", None])
def test_addresses_of_two_ends(topology: str | None) -> None:
    made = plan(*filter(None, (topology, "ifconfig 10.8.0.6 10.8.0.5")))
    peer = IPv4Address("10.8.0.5")
    assert SystemAddress(IPv4Interface("10.8.0.6/32"), peer) in made.changes
    assert made.info.gateway == made.info.ipv4_peer == peer


def test_local_addresses_and_topology_count_where_none_are_pushed() -> None:
    config = client("ifconfig 10.5.0.2 10.5.0.1", "ifconfig-ipv6 fd05::2/64 fd05::1")
    made = plan(config=config)
    assert SystemAddress(IPv4Interface("10.5.0.2/32"), IPv4Address("10.5.0.1")) in made.changes
    assert SystemAddress(IPv6Interface("fd05::2/64")) in made.changes
    made = plan(*SUBNET, config=config)
    assert made.info.ipv4 == IPv4Interface("10.9.0.2/24")
    subnet = client("topology subnet")
    assert plan("ifconfig 10.9.0.2 255.255.255.0", config=subnet).info.ipv4 == made.info.ipv4
    assert plan("topology p2p", "ifconfig 10.9.0.2 10.9.0.1", config=subnet).info.ipv4_peer


def test_nothing_is_pushed() -> None:
    assert plan().changes == (LinkMtu(1500), LinkUp())


@pytest.mark.parametrize(
    "options",
    [
        ("topology subnet", "ifconfig 127.0.0.1 255.0.0.0"),
        ("topology subnet", "ifconfig 0.0.0.0 255.0.0.0"),
        ("topology subnet", "ifconfig 224.0.0.5 255.0.0.0"),
        ("ifconfig 10.0.0.1 127.0.0.1",),
        ("ifconfig-ipv6 ::1/64",),
        ("ifconfig-ipv6 ::/64",),
        ("ifconfig-ipv6 ff02::1/16",),
    ],
)
def test_addresses_that_no_host_has(options: tuple[str, ...]) -> None:
    with pytest.raises(TextRefused, match="no address of a host"):
        plan(*options)


def test_mtu() -> None:
    config = ClientConfig(mtu=MtuConfig(tun_mtu=1400, tun_mtu_max=1450))
    assert plan(config=config).info.mtu == 1400
    assert plan("tun-mtu 1420", config=config).info.mtu == 1420
    assert plan("tun-mtu 9000", config=config).info.mtu == 1450
    own = MtuConfig(tun_mtu=1300, tun_mtu_max=1300)
    assert plan("tun-mtu 9000", config=config, mtu=own).info.mtu == 1300


# Routes


def test_gateways() -> None:
    assert routes(
        "route 172.16.0.0 255.240.0.0",
        "route 172.17.0.0 255.255.0.0 vpn_gateway 5",
        "route 172.18.0.0 255.255.0.0 10.9.0.1",
        "route 172.19.0.0 255.255.0.0 10.9.0.77",
        "route 172.20.0.0 255.255.0.0 net_gateway",
        "route 172.21.0.0 255.255.0.0 192.168.1.254 3",
        "route-ipv6 fd70::/64",
        "route-ipv6 fd71::/64 fd09::1 9",
        "route-ipv6 fd72::/64 fe80::9",
        "route-ipv6 fd73::/64 fd55::1",
        *IPV6,
    ) == [
        inside("172.16.0.0/12"),
        inside("172.17.0.0/16", 5),
        inside("172.18.0.0/16"),
        inside("172.19.0.0/16"),
        SystemRoute(IPv4Network("172.20.0.0/16"), WAY),
        SystemRoute(IPv4Network("172.21.0.0/16"), Hop(0, IPv4Address("192.168.1.254")), 3),
        inside("fd70::/64"),
        inside("fd71::/64", 9),
        inside("fd72::/64"),
        SystemRoute(IPv6Network("fd73::/64"), Hop(0, IPv6Address("fd55::1"))),
    ]


def test_the_server_as_a_gateway() -> None:
    """That is a machine on the link, or none."""
    option = "route 172.16.0.0 255.240.0.0 remote_host"
    expected = SystemRoute(IPv4Network("172.16.0.0/12"), Hop(ETH, NEIGHBOUR))
    assert routes(option, remote=NEIGHBOUR) == [expected]
    made = plan(*SUBNET, option)
    assert made.info.routes == ()
    assert made.notes == ("route 172.16.0.0/12 has a gateway that is not known: remote_host",)


def test_a_gateway_that_there_is_not() -> None:
    made = plan("route 10.0.0.0 255.0.0.0 net_gateway", around=Surroundings(index=TUN))
    assert made.info.routes == ()
    assert "net_gateway" in made.notes[0]


def test_local_routes_come_first_and_stay_without_pulled_ones() -> None:
    config = client(
        "route 172.16.0.0 255.240.0.0",
        "route 172.17.0.0 255.255.0.0 net_gateway 4",
        "route 172.18.0.0 255.255.0.0 192.168.1.9",
        "route-ipv6 fd70::/64",
        "route-metric 20",
    )
    local = [
        inside("172.16.0.0/12", 20),
        SystemRoute(IPv4Network("172.17.0.0/16"), WAY, 4),
        SystemRoute(IPv4Network("172.18.0.0/16"), Hop(0, IPv4Address("192.168.1.9")), 20),
        inside("fd70::/64", 20),
    ]
    assert routes(*IPV6, config=config) == local
    pushed = routes(*IPV6, "route-metric 30", "route 172.30.0.0 255.255.0.0", config=config)
    assert pushed[0] == inside("172.16.0.0/12", 30)
    assert pushed[-1] == inside("172.30.0.0/16", 30)


def test_a_route_that_stands_twice_is_made_once() -> None:
    assert routes(*["route 172.16.0.0 255.240.0.0"] * 3) == [inside("172.16.0.0/12")]


def test_routes_left_to_a_hook() -> None:
    made = plan(*SUBNET, "redirect-gateway def1", config=client("route-noexec"))
    assert not any(isinstance(change, SystemRoute) for change in made.changes)
    assert LinkUp() in made.changes
    assert list(made.info.routes) == [PIN, *HALVES]
    assert not made.info.routes_applied


# The server's own packets


@pytest.mark.parametrize(
    "options",
    [
        ("route 203.0.113.0 255.255.255.0",),
        ("route 0.0.0.0 128.0.0.0", "route 128.0.0.0 128.0.0.0"),
        ("redirect-private",),
    ],
)
def test_the_server_stays_outside(options: tuple[str, ...]) -> None:
    assert routes(*options)[0] == PIN


def test_the_server_stays_outside_of_the_tunnels_own_network() -> None:
    made = plan("topology subnet", "ifconfig 203.0.113.77 255.255.255.0")
    assert made.info.routes == (PIN,)
    made = plan("ifconfig-ipv6 2001:db8::2/32", remote=SERVER_IPV6)
    assert made.info.routes == (PIN_IPV6,)


def test_no_pin_where_no_route_is_near() -> None:
    assert routes("route 172.16.0.0 255.240.0.0") == [inside("172.16.0.0/12")]
    outside = "route 203.0.113.0 255.255.255.0 net_gateway"
    assert routes(outside) == [SystemRoute(IPv4Network("203.0.113.0/24"), WAY)]


def test_the_server_itself_cannot_be_behind_the_tunnel() -> None:
    made = plan(*SUBNET, "route 203.0.113.1 255.255.255.255 vpn_gateway 1")
    assert made.info.routes == ()
    assert made.notes == ("route 203.0.113.1/32 would lead the server's packets to itself",)


def test_the_servers_way_is_not_known() -> None:
    made = plan(*SUBNET, "redirect-gateway def1", remote=IPv4Address("198.51.100.1"))
    assert list(made.info.routes) == HALVES
    assert "no way to 198.51.100.1" in made.notes[0]


def test_sockets_elsewhere() -> None:
    """No pin, and a route to the server itself is as good as any."""
    options = ("redirect-gateway def1", "route 203.0.113.1")
    assert routes(*options, sockets_here=False) == [inside("203.0.113.1/32"), *HALVES]
    assert plan(sockets_here=False).info.remote == SERVER


# Redirection


def test_redirect_gateway() -> None:
    assert routes("redirect-gateway def1") == [PIN, *HALVES]
    assert routes("redirect-gateway") == [PIN, taken("0.0.0.0/0")]
    assert routes("redirect-private def1") == [PIN]
    assert routes("redirect-gateway local def1") == HALVES


def test_autolocal_looks_whether_the_server_is_on_the_link() -> None:
    option = "redirect-gateway autolocal def1"
    assert routes(option) == [PIN, *HALVES]
    assert routes(option, remote=NEIGHBOUR) == HALVES
    pin = SystemRoute(IPv4Network("192.168.1.50/32"), Hop(ETH))
    assert routes("redirect-gateway def1", remote=NEIGHBOUR) == [pin, *HALVES]


def test_a_server_on_the_link_is_pinned_when_a_route_covers_it() -> None:
    """Whatever `local` says: the route is longer than that of the link."""
    pin = SystemRoute(IPv4Network("192.168.1.50/32"), Hop(ETH))
    made = routes("redirect-gateway local def1 block-local", remote=NEIGHBOUR)
    assert made[0] == pin


def test_block_local() -> None:
    assert routes("redirect-gateway def1 block-local") == [
        PIN,
        SystemRoute(IPv4Network("192.168.1.1/32"), Hop(ETH)),
        inside("192.168.1.0/25"),
        inside("192.168.1.128/25"),
        *HALVES,
    ]
    made = plan(*SUBNET, "redirect-gateway def1 block-local", around=Surroundings(index=TUN))
    assert "block-local: the local network is not known" in made.notes


def test_bypass() -> None:
    known = SystemRoute(IPv4Network("192.0.2.53/32"), WAY)
    made = routes("redirect-gateway def1", bypass=[RESOLVER, IPv4Address("127.0.0.53")])
    assert made == [PIN, known, *HALVES]


def test_redirected_ipv6() -> None:
    both = [taken("2000::/4"), taken("3000::/4")]
    assert routes("redirect-gateway def1 ipv6", *IPV6) == [PIN, *HALVES, *both]
    only = routes("redirect-gateway ipv6 !ipv4", *IPV6, remote=SERVER_IPV6)
    assert only == [PIN_IPV6, *both]


@pytest.mark.parametrize(
    ("options", "around"),
    [
        ((), AROUND),
        ((*IPV6, "block-ipv6"), AROUND),
        ((*IPV6, "tun-mtu 1279"), AROUND),
        (IPV6, Surroundings(index=TUN, ways=AROUND.ways, takes_ipv6=False)),
    ],
    ids=["no address", "blocked", "mtu", "switched off"],
)
def test_ipv6_that_is_not_carried_is_refused(
    options: tuple[str, ...], around: Surroundings
) -> None:
    made = plan(*SUBNET, "redirect-gateway def1 ipv6", *options, around=around)
    expected = [PIN, *HALVES, refused("2000::/4"), refused("3000::/4")]
    assert list(made.info.routes) == expected
    assert len(made.notes) == 1
    pushed = plan(*SUBNET, "route-ipv6 fd70::/64", *options, around=around)
    assert pushed.info.routes == (SystemRoute(IPv6Network("fd70::/64"), None),)


def test_blocked_ipv6_keeps_its_address_without_a_network() -> None:
    made = plan(*IPV6, "block-ipv6")
    assert SystemAddress(IPv6Interface("fd09::2/128")) in made.changes
    assert plan(*IPV6, config=client("block-ipv6")).changes == made.changes


def test_a_kernel_without_ipv6_is_not_asked_for_any() -> None:
    around = Surroundings(index=TUN, ways=AROUND.ways, has_ipv6=False, takes_ipv6=False)
    made = plan(*SUBNET, *IPV6, "redirect-gateway def1 ipv6", "route-ipv6 fd70::/64", around=around)
    assert list(made.info.routes) == [PIN, *HALVES]
    assert made.info.ipv6 is None
    assert made.notes == ()


def test_redirection_of_push_and_configuration_together() -> None:
    config = client("redirect-private bypass-dns ipv6")
    assert redirection(parse_options(()), ClientConfig()) is None
    local = redirection(parse_options(()), config)
    assert local == RedirectConfig(private=True, bypass_dns=True, ipv6=True)
    pushed = parse_options(["redirect-gateway def1 !ipv4", "redirect-private bypass-dhcp"])
    assert redirection(pushed, config) == RedirectConfig(
        def1=True, ipv4=False, bypass_dhcp=True, bypass_dns=True, ipv6=True
    )


# For hooks


def test_environment_of_hooks() -> None:
    made = plan(
        *SUBNET,
        *IPV6,
        "redirect-gateway",
        "route 172.16.0.0 255.240.0.0 default 9",
        "route-ipv6 fd70::/64",
        "dhcp-option DNS 10.9.0.1",
        "dhcp-option DOMAIN corp.example",
        "setenv-safe COLOUR blue",
    )
    assert made.info.environment() == {
        "dev": "vpn0",
        "tun_mtu": "1500",
        "trusted_ip": "203.0.113.1",
        "ifconfig_local": "10.9.0.2",
        "ifconfig_netmask": "255.255.255.0",
        "ifconfig_ipv6_local": "fd09::2",
        "ifconfig_ipv6_netbits": "64",
        "ifconfig_ipv6_remote": "fd09::1",
        "route_vpn_gateway": "10.9.0.1",
        "route_net_gateway": "192.168.1.1",
        "route_network_1": "203.0.113.1",
        "route_netmask_1": "255.255.255.255",
        "route_gateway_1": "192.168.1.1",
        "route_network_2": "172.16.0.0",
        "route_netmask_2": "255.240.0.0",
        "route_metric_2": "9",
        "route_network_3": "0.0.0.0",
        "route_netmask_3": "0.0.0.0",
        "route_ipv6_network_1": "fd70::/64",
        "foreign_option_1": "dhcp-option DNS 10.9.0.1",
        "foreign_option_2": "dhcp-option DOMAIN corp.example",
        "dns_server_1_address_1": "10.9.0.1",
        "dns_search_domain_1": "corp.example",
        "OPENVPN_COLOUR": "blue",
    }


def test_environment_between_two_addresses() -> None:
    made = plan("ifconfig 10.8.0.6 10.8.0.5", remote=SERVER_IPV6).info.environment()
    assert made["ifconfig_remote"] == "10.8.0.5"
    assert made["trusted_ip6"] == "2001:db8::1"
    assert not {"ifconfig_netmask", "ifconfig_ipv6_local", "trusted_ip"} & made.keys()


def test_name_servers_of_push_and_configuration_together() -> None:
    config = client(
        "dns server -5 address 10.1.1.1:5353 fd00::1",
        "dns server -5 dnssec yes",
        "dns server -5 resolve-domains a.example",
        "dns search-domains local.example",
        "dhcp-option NTP 10.1.1.2",
    )
    info = plan("dns server 3 address 10.9.0.1", "dns server 3 sni x.example", config=config).info
    assert [server.priority for server in info.dns.servers] == [-5, 3]
    assert info.dns.search_domains == ("local.example",)
    assert info.dhcp_options == (DhcpOption("NTP", "10.1.1.2"),)
    variables = info.environment()
    assert variables["dns_server_1_address_1"] == "10.1.1.1"
    assert variables["dns_server_1_port_1"] == "5353"
    assert variables["dns_server_1_address_2"] == str(ip_address("fd00::1"))
    assert variables["dns_server_1_dnssec"] == "yes"
    assert variables["dns_server_1_resolve_domain_1"] == "a.example"
    assert variables["dns_server_2_sni"] == "x.example"
    assert "dns_server_1_transport" not in variables
