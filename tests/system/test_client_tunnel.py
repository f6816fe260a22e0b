"""Addresses and routes of a client, on real interfaces: in effect, replaced, and undone."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from support import needs_root, needs_tool

import ovpn_dco as dco
from ovpn_dco.client import tunnel as tunnel_module
from ovpn_dco.client.tunnel import Tunnel
from ovpn_dco.config import ClientConfig, MtuConfig, RouteConfig, RoutesConfig
from ovpn_dco.model import Address
from ovpn_dco.net import routing
from ovpn_dco.net.routing import (
    Change,
    LinkMtu,
    LinkUp,
    Routing,
    SystemAddress,
    SystemRoute,
)
from ovpn_dco.net.rtnetlink import Hop
from ovpn_dco.protocol.push import Pushed, parse_options
from ovpn_dco.testing import Namespace, Topology

pytestmark = [needs_root, pytest.mark.system, needs_tool("ping", "ip")]

NAME = "vpn0"
SERVER: Address = ("203.0.113.1", 1194)
SERVER_IPV6: Address = ("2001:db8::1", 1194, 0, 0)
ELSEWHERE, ELSEWHERE_IPV6 = "198.51.100.9", "2001:db8:9::9"
SUBNET = ("topology subnet", "ifconfig 10.9.0.2 255.255.255.0", "route-gateway 10.9.0.1")
NO_GATEWAY = "route 192.0.2.0 255.255.255.0 10.6.6.6"  # none that the kernel takes: not on a link
IPV6 = ("ifconfig-ipv6 fd09::2/64 fd09::1",)


@dataclass
class Host:
    """A client's host: behind a gateway, with a TUN interface, and a server beyond the gateway."""

    topology: Topology
    device: dco.Device

    @property
    def namespace(self) -> Namespace:
        return self.topology.left

    def ip(self, *words: str) -> str:
        return self.namespace.run(["ip", *words]).stdout

    def dump(self) -> str:
        """All that may differ: addresses, MTUs, and every route of every table."""
        return "\n".join(
            (
                self.ip("addr"),
                self.ip("-4", "route", "show", "table", "all"),
                self.ip("-6", "route", "show", "table", "all"),
            )
        )

    def way(self, address: str) -> str:
        """Of packets to this address, as the kernel says; empty if there is none."""
        got = self.namespace.run(["ip", "route", "get", address], check=False)
        return got.stdout

    def reaches(self, address: str) -> bool:
        ping = ["ping", "-c1", "-W2", address]
        return self.namespace.run(ping, check=False).returncode == 0

    def tunnel(self, config: ClientConfig | None = None, *, same: bool = True) -> Tunnel:
        """`same`: with sockets in the namespace of the interface, as without `netns`."""
        config = config or ClientConfig()
        if not same:
            return Tunnel(NAME, config, netns=self.namespace.fd)
        with self.namespace.enter():
            return Tunnel(NAME, config, netns=self.namespace.fd)

    def routing(self) -> Routing:
        return Routing(NAME, namespace=self.namespace.fd)


@pytest.fixture
def host() -> Iterator[Host]:
    with Topology() as topology:
        link = topology.link
        right = topology.right
        right.add_address("lo", f"{SERVER[0]}/32")
        right.add_address("lo", f"{SERVER_IPV6[0]}/128")
        topology.left.add_route("0.0.0.0/0", via=link.right_ipv4)
        topology.left.add_route("::/0", via=link.right_ipv6)
        with dco.Device.open(NAME, mode=dco.Mode.P2P, netns=topology.left.fd) as device:
            host = Host(topology, device)
            # The first time up leaves a queue and a multicast route that no undo is to remove.
            topology.left.set_up(NAME)
            topology.left.set_up(NAME, up=False)
            assert host.reaches(SERVER[0])
            assert host.reaches(SERVER_IPV6[0])
            yield host


def push(*options: str) -> Pushed:
    pushed = parse_options(options)
    assert not pushed.ignored
    return pushed


def via(host: Host) -> str:
    return f"via {host.topology.link.right_ipv4} dev {host.topology.link.left_name}"


# All of it


REDIRECTIONS = {
    "def1": ("redirect-gateway def1",),
    "default": ("redirect-gateway",),
    "both families": ("redirect-gateway def1 ipv6",),
    "a route over the server": ("route 203.0.113.0 255.255.255.0",),
    "block-local": ("redirect-gateway def1 block-local",),
    "the local network": ("route 10.98.0.0 255.255.255.0 vpn_gateway 0",),
}


@pytest.mark.parametrize("options", REDIRECTIONS.values(), ids=REDIRECTIONS)
def test_the_server_stays_reachable_and_undo_restores_everything(
    host: Host, options: tuple[str, ...]
) -> None:
    before = host.dump()
    tunnel = host.tunnel()
    for _ in range(2):
        tunnel.apply(push(*SUBNET, *IPV6, *options), SERVER)
        assert host.dump() != before
        assert via(host) in host.way(SERVER[0])
        assert host.reaches(SERVER[0])
        tunnel.undo()
        assert tunnel.info is None
        assert host.dump() == before
    tunnel.close()
    assert host.dump() == before


@pytest.mark.parametrize("flags", ["def1", "", "def1 bypass-dhcp"])
def test_everything_else_goes_into_the_tunnel(host: Host, flags: str) -> None:
    tunnel = host.tunnel()
    info = tunnel.apply(push(*SUBNET, f"redirect-gateway {flags}".strip()), SERVER)
    assert f"dev {NAME} src 10.9.0.2" in host.way(ELSEWHERE)
    assert f"dev {host.topology.link.left_name}" in host.way(ELSEWHERE_IPV6)
    assert tunnel.info is info
    assert info.net_gateway == IPv4Address(host.topology.link.right_ipv4)
    tunnel.close()
    assert via(host) in host.way(ELSEWHERE)


def test_ipv6_goes_into_the_tunnel_and_the_server_does_not(host: Host) -> None:
    before = host.dump()
    tunnel = host.tunnel()
    tunnel.apply(push(*SUBNET, *IPV6, "redirect-gateway ipv6 !ipv4"), SERVER_IPV6)
    assert f"dev {NAME}" in host.way(ELSEWHERE_IPV6)
    assert via(host) in host.way(ELSEWHERE)
    assert host.reaches(SERVER_IPV6[0])
    tunnel.close()
    assert host.dump() == before


@pytest.mark.parametrize("options", [(*IPV6, "block-ipv6"), ()], ids=["blocked", "no address"])
def test_ipv6_that_the_tunnel_does_not_carry_is_refused(
    host: Host, options: tuple[str, ...]
) -> None:
    """Neither sent in the clear, nor into a tunnel that swallows it."""
    before = host.dump()
    tunnel = host.tunnel()
    tunnel.apply(push(*SUBNET, *options, "redirect-gateway def1 ipv6"), SERVER_IPV6)
    assert host.way(ELSEWHERE_IPV6) == ""
    assert host.reaches(SERVER_IPV6[0])
    tunnel.close()
    assert host.dump() == before


def test_a_tunnel_between_two_addresses(host: Host) -> None:
    before = host.dump()
    tunnel = host.tunnel()
    options = ("ifconfig 10.8.0.6 10.8.0.5", "route 10.8.0.1", "route 172.16.0.0 255.240.0.0")
    info = tunnel.apply(push(*options), SERVER)
    assert "inet 10.8.0.6 peer 10.8.0.5/32" in host.ip("addr", "show", NAME)
    for address in ("10.8.0.5", "10.8.0.1", "172.17.1.1"):
        assert f"dev {NAME} src 10.8.0.6" in host.way(address)
    assert info.gateway == info.ipv4_peer == IPv4Address("10.8.0.5")
    tunnel.close()
    assert host.dump() == before


def test_gateways_and_metrics(host: Host) -> None:
    link = host.topology.link
    tunnel = host.tunnel()
    options = (
        "route-metric 50",
        "route 172.16.0.0 255.240.0.0",
        "route 192.0.2.0 255.255.255.0 net_gateway 7",
        f"route 192.0.3.0 255.255.255.0 {link.right_ipv4}",
        "route-ipv6 fd77::/64",
    )
    tunnel.apply(push(*SUBNET, *IPV6, *options), SERVER)
    routes = host.ip("route") + host.ip("-6", "route")
    assert f"172.16.0.0/12 dev {NAME} proto static scope link metric 50" in routes
    assert f"192.0.2.0/24 {via(host)} proto static metric 7" in routes
    assert f"192.0.3.0/24 {via(host)} proto static metric 50" in routes
    assert f"fd77::/64 dev {NAME} proto static metric 50" in routes
    tunnel.close()


def test_name_servers_that_stay_outside(
    host: Host, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text(
        "# nameserver 192.0.2.1\nsearch x\nnameserver 192.0.2.53\nnameserver 127.0.0.53\n"
        "nameserver nonsense; reboot\nnameserver\n\n"
    )
    monkeypatch.setattr(tunnel_module, "RESOLVER_FILE", resolver)
    before = host.dump()
    tunnel = host.tunnel()
    tunnel.apply(push(*SUBNET, "redirect-gateway def1 bypass-dns"), SERVER)
    assert via(host) in host.way("192.0.2.53")
    assert f"dev {NAME}" in host.way("192.0.2.1")
    tunnel.close()
    assert host.dump() == before


def test_mtu(host: Host) -> None:
    tunnel = host.tunnel(ClientConfig(mtu=MtuConfig(tun_mtu=1400, tun_mtu_max=1450)))
    before = host.device.mtu
    assert tunnel.apply(push(*SUBNET), SERVER).mtu == host.device.mtu == 1400
    assert tunnel.apply(push(*SUBNET, "tun-mtu 1430"), SERVER).mtu == host.device.mtu == 1430
    assert tunnel.apply(push(*SUBNET, "tun-mtu 1500"), SERVER).mtu == host.device.mtu == 1450
    tunnel.close()
    assert host.device.mtu == before


def test_an_mtu_too_small_for_ipv6(host: Host) -> None:
    before = host.dump()
    tunnel = host.tunnel()
    info = tunnel.apply(push(*SUBNET, *IPV6, "tun-mtu 1200", "route-ipv6 fd77::/64"), SERVER)
    assert info.ipv6 is None
    assert host.way("fd77::1") == ""
    tunnel.close()
    assert host.dump() == before


def test_an_interface_without_ipv6(host: Host) -> None:
    """As in many containers."""
    before = host.dump()
    path = f"/proc/sys/net/ipv6/conf/{NAME}/disable_ipv6"
    host.namespace.run(["sh", "-c", f"echo 1 > {path}"])
    tunnel = host.tunnel()
    info = tunnel.apply(push(*SUBNET, *IPV6, "redirect-gateway def1 ipv6"), SERVER)
    assert (info.ipv4, info.ipv6) == (IPv4Interface("10.9.0.2/24"), None)
    assert host.way(ELSEWHERE_IPV6) == ""
    tunnel.close()
    host.namespace.run(["sh", "-c", f"echo 0 > {path}"])
    assert host.dump() == before


def test_routes_are_left_to_a_hook(host: Host) -> None:
    tunnel = host.tunnel(ClientConfig(routes=RoutesConfig(apply=False)))
    info = tunnel.apply(push(*SUBNET, "redirect-gateway def1", "route 172.16.0.0"), SERVER)
    assert via(host) in host.way(ELSEWHERE)
    assert f"dev {NAME}" in host.way("10.9.0.77")
    assert not info.routes_applied
    assert info.environment()["route_network_2"] == "172.16.0.0"
    tunnel.close()


def test_sockets_in_another_namespace_need_no_way(host: Host) -> None:
    tunnel = host.tunnel(same=False)
    info = tunnel.apply(push(*SUBNET, "redirect-gateway def1"), SERVER)
    assert f"dev {NAME}" in host.way(SERVER[0])
    assert info.remote == IPv4Address(SERVER[0])
    assert {route.network.prefixlen for route in info.routes} == {1}
    tunnel.close()


# Again


def test_the_same_push_touches_nothing(host: Host) -> None:
    """Nothing at all is sent to the kernel: a monitor of it stays silent."""
    tunnel = host.tunnel()
    first = tunnel.apply(push(*SUBNET, *IPV6, "redirect-gateway def1", "peer-id 1"), SERVER)
    with host.namespace.iproute() as monitor:
        monitor.bind()
        again = push(*SUBNET, *IPV6, "redirect-gateway def1", "peer-id 2", "auth-token x")
        assert tunnel.apply(again, SERVER) is first
        assert tunnel.apply(again, (SERVER[0], 443)) is first
        host.ip("route", "add", "blackhole", "192.0.2.7")  # a sign that the monitor hears
        (message, *_) = monitor.get()
        assert message.get_attr("RTA_DST") == "192.0.2.7"
    tunnel.close()


def test_another_push_replaces_the_first(host: Host) -> None:
    before = host.dump()
    tunnel = host.tunnel()
    tunnel.apply(push(*SUBNET, *IPV6, "redirect-gateway def1"), SERVER)
    tunnel.apply(push("topology subnet", "ifconfig 10.7.0.2 255.255.0.0"), SERVER)
    assert via(host) in host.way(ELSEWHERE)
    assert via(host) in host.way("10.9.0.1")
    assert f"dev {NAME} src 10.7.0.2" in host.way("10.7.9.9")
    assert "fd09" not in host.dump()
    tunnel.close()
    assert host.dump() == before


def test_another_server_is_kept_out_instead_of_the_first(host: Host) -> None:
    tunnel = host.tunnel()
    pushed = push(*SUBNET, "redirect-gateway def1")
    tunnel.apply(pushed, SERVER)
    tunnel.apply(pushed, ("203.0.113.2", 1194))
    assert via(host) in host.way("203.0.113.2")
    assert f"dev {NAME}" in host.way(SERVER[0])
    tunnel.close()


# When something is in the way


def test_failure_in_the_middle_restores_everything(host: Host) -> None:
    before = host.dump()
    tunnel = host.tunnel()
    options = (*SUBNET, *IPV6, "redirect-gateway def1", NO_GATEWAY)
    with pytest.raises(dco.DcoError, match=r"vpn0 refuses route 192\.0\.2\.0/24 via 10\.6\.6\.6"):
        tunnel.apply(push(*options), SERVER)
    assert tunnel.info is None
    assert host.dump() == before
    tunnel.apply(push(*SUBNET, *IPV6, "redirect-gateway def1"), SERVER)
    tunnel.close()
    assert host.dump() == before


def test_failure_of_a_second_push_restores_everything(host: Host) -> None:
    before = host.dump()
    tunnel = host.tunnel()
    tunnel.apply(push(*SUBNET, "redirect-gateway"), SERVER)
    with pytest.raises(dco.DcoError, match=r"refuses route 192\.0\.2\.0/24"):
        tunnel.apply(push(*SUBNET, NO_GATEWAY), SERVER)
    assert host.dump() == before
    tunnel.close()


@pytest.mark.parametrize("down_to", range(4))
def test_all_or_nothing_wherever_it_fails(host: Host, down_to: int) -> None:
    changes: list[Change] = [
        LinkMtu(1300),
        SystemAddress(IPv4Interface("10.9.0.2/24")),
        LinkUp(),
        SystemRoute(IPv4Network("172.16.0.0/12"), Hop(host.device.ifindex)),
    ]
    before = host.dump()
    routing_ = host.routing()
    bad = SystemRoute(IPv4Network("192.0.2.0/24"), Hop(9999))
    with pytest.raises(dco.InterfaceMissing, match=r"refuses route 192\.0\.2\.0/24"):
        routing_.apply([*changes[:down_to], bad])
    assert routing_.applied == ()
    assert host.dump() == before


def test_what_is_there_already_stays(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """An exact route and an address of somebody else are used, and not removed."""
    host.namespace.set_up(NAME)
    host.namespace.add_address(NAME, "10.9.0.2/24")
    host.ip("route", "add", "172.16.0.0/12", "dev", NAME, "proto", "static", "scope", "link")
    host.ip("-6", "route", "add", "2000::/4", "dev", NAME, "proto", "static")
    host.ip("route", "add", "192.0.2.0/24", "via", host.topology.link.right_ipv4)
    before = host.dump()
    tunnel = host.tunnel()
    options = ("route 172.16.0.0 255.240.0.0", "route 192.0.2.0 255.255.255.0")
    tunnel.apply(push(*SUBNET, *IPV6, *options, "redirect-gateway def1 ipv6"), SERVER)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == [
        "address 10.9.0.2/24 is there already, and is left alone",
        "route 172.16.0.0/12 is there already, and is left alone",
        "route 192.0.2.0/24 is not made: another route of the same metric is there",
        "route 2000::/4 is there already, and is left alone",
    ]
    assert via(host) in host.way("192.0.2.1")
    tunnel.close()
    assert host.dump() == before


def test_another_tunnel_has_the_default_ipv6(host: Host) -> None:
    """Half a redirection would send in the clear what was to be hidden."""
    host.ip("-6", "route", "add", "3000::/4", "dev", host.topology.link.left_name)
    before = host.dump()
    tunnel = host.tunnel()
    with pytest.raises(dco.AlreadyExists, match="3000::/4 would come after another route"):
        tunnel.apply(push(*SUBNET, *IPV6, "redirect-gateway ipv6"), SERVER)
    assert host.dump() == before


def test_a_default_of_another_tunnel_comes_second(host: Host) -> None:
    host.ip("route", "add", "0.0.0.0/1", "dev", host.topology.link.left_name)
    before = host.dump()
    tunnel = host.tunnel()
    tunnel.apply(push(*SUBNET, "redirect-gateway def1"), SERVER)
    assert f"dev {NAME}" in host.way("1.2.3.4")
    tunnel.close()
    assert host.dump() == before


def test_the_interface_is_deleted_first(host: Host) -> None:
    """Its routes went with it; those on other interfaces are ours to remove."""
    tunnel = host.tunnel()
    tunnel.apply(push(*SUBNET, *IPV6, "redirect-gateway def1"), SERVER)
    assert "203.0.113.1" in host.ip("route")
    host.ip("link", "del", NAME)
    tunnel.undo()
    assert "203.0.113.1" not in host.ip("route")
    with pytest.raises(dco.InterfaceMissing):
        tunnel.apply(push(*SUBNET), SERVER)
    tunnel.close()


def test_somebody_else_removed_some_of_it(host: Host) -> None:
    before = host.dump()
    tunnel = host.tunnel()
    tunnel.apply(push(*SUBNET, *IPV6, "redirect-gateway def1"), SERVER)
    host.ip("route", "del", "203.0.113.1")
    host.ip("route", "del", "0.0.0.0/1")
    host.ip("addr", "del", "10.9.0.2/24", "dev", NAME)
    tunnel.close()
    assert host.dump() == before


def test_the_interface_was_renamed(host: Host) -> None:
    tunnel = host.tunnel()
    tunnel.apply(push(*SUBNET, "redirect-gateway def1"), SERVER)
    host.ip("link", "set", NAME, "name", "other0")
    tunnel.close()
    assert "10.9.0" not in host.dump()
    assert via(host) in host.way(ELSEWHERE)


def test_what_cannot_be_undone_is_tried_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before = host.dump()
    tunnel = host.tunnel()
    tunnel.apply(push(*SUBNET, "redirect-gateway def1"), SERVER)
    monkeypatch.setattr(routing, "rtnetlink", without_privilege(routing.rtnetlink))
    with pytest.raises(dco.PermissionDenied, match=r"vpn0 keeps route 128\.0\.0\.0/1"):
        tunnel.undo()
    monkeypatch.undo()
    tunnel.close()
    assert host.dump() == before


def without_privilege(netlink):
    """A netlink whose routes cannot be deleted: what a process without CAP_NET_ADMIN meets."""
    from contextlib import contextmanager

    from pyroute2.netlink.exceptions import NetlinkError

    class Refusing:
        def __init__(self, real) -> None:
            self.real = real

        def __getattr__(self, name: str):
            return getattr(self.real, name)

        def route(self, command: str, **words):
            if command == "del":
                raise NetlinkError(1)
            return self.real.route(command, **words)

    @contextmanager
    def refusing():
        with netlink() as real:
            yield Refusing(real)

    return refusing


def test_no_such_interface(host: Host) -> None:
    with pytest.raises(dco.InterfaceMissing, match="nosuch0"):
        Tunnel("nosuch0", ClientConfig(), netns=host.namespace.fd)
    with pytest.raises(dco.NotFound, match="netns"):
        Tunnel(NAME, ClientConfig(), netns="no-such-namespace")


# Nothing of a server's text gets anywhere but as an address


def test_no_program_runs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    tunnel = host.tunnel()
    config = RoutesConfig(routes=(RouteConfig(network=ip_network("172.16.0.0/12")),))
    before = host.dump()

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a program was to be run")

    with monkeypatch.context() as patched:
        for name in ("system", "popen", "posix_spawn", "posix_spawnp", "fork", "execve"):
            patched.setattr(f"os.{name}", refused)
        patched.setattr(subprocess, "Popen", refused)
        other = host.tunnel(ClientConfig(routes=config))
        for each in (tunnel, other):
            pushed = push(*SUBNET, *IPV6, "redirect-gateway def1 ipv6 bypass-dns block-local")
            each.apply(pushed, SERVER)
            each.close()
    assert host.dump() == before


def test_surroundings(host: Host) -> None:
    link = host.topology.link
    with host.namespace.iproute() as route:
        (veth,) = route.link_lookup(ifname=link.left_name)
    way = Hop(veth, IPv4Address(link.right_ipv4))
    addresses = [
        IPv4Address(SERVER[0]),
        IPv4Address(link.right_ipv4),
        IPv4Address(link.left_ipv4),
        IPv4Address("127.0.0.1"),
        IPv6Address(SERVER_IPV6[0]),
    ]
    around = host.routing().look(addresses)
    assert around.index == host.device.ifindex
    assert around.ways == {
        addresses[0]: way,
        addresses[1]: Hop(veth),
        addresses[4]: Hop(veth, IPv6Address(link.right_ipv6)),
    }
    assert around.default_ipv4 == way
    assert around.default_ipv6 == Hop(veth, IPv6Address(link.right_ipv6))
    assert around.local_network == IPv4Network("10.98.0.0/24")
    assert (around.has_ipv6, around.takes_ipv6) == (True, True)


def test_surroundings_of_odd_routes(host: Host) -> None:
    """Several hops, IPv4 by way of IPv6, the interface itself, and no way at all."""
    link = host.topology.link
    host.namespace.set_up(NAME)
    host.ip("route", "add", "192.0.2.0/24", "via", "inet6", link.right_ipv6, "dev", link.left_name)
    host.ip("route", "add", "192.0.3.0/24", "dev", NAME)
    host.ip("route", "del", "default")
    host.ip("route", "add", "default", "nexthop", "via", link.right_ipv4, "nexthop", "via",
            "10.98.0.3")  # fmt: skip
    host.ip("-6", "route", "del", "default")
    host.ip("-6", "route", "add", "default", "dev", NAME)
    by_ipv6, inside, nowhere = map(IPv4Address, ("192.0.2.1", "192.0.3.1", "192.0.4.1"))
    host.ip("route", "add", "unreachable", "192.0.4.0/24")
    routing_ = host.routing()
    around = routing_.look([by_ipv6, inside, nowhere])
    assert set(around.ways) == {by_ipv6}
    assert around.ways[by_ipv6].gateway == IPv6Address(link.right_ipv6)
    assert around.default_ipv4
    assert around.default_ipv4.gateway == IPv4Address(link.right_ipv4)
    assert around.default_ipv6 is None
    pin = SystemRoute(IPv4Network("192.0.2.1/32"), around.ways[by_ipv6])
    before = host.dump()
    routing_.apply([pin, SystemRoute(IPv6Network("fd88::/64"), None)])
    assert f"192.0.2.1 via inet6 {IPv6Address(link.right_ipv6)} dev {link.left_name}" in host.ip(
        "route"
    )
    assert "unreachable fd88::/64" in host.ip("-6", "route")
    routing_.undo()
    assert host.dump() == before


def test_some_of_the_changes_are_taken_back(host: Host) -> None:
    routing, dump = host.routing(), host.dump()
    index = host.device.ifindex
    networks = [ip_network(text) for text in ("192.0.2.0/25", "192.0.2.128/25", "2001:db8:5::/48")]
    routes = [SystemRoute(network, Hop(index), 100) for network in networks]
    routing.apply([LinkUp()])
    routing.apply(routes)
    routing.undo([routes[0], routes[2]])
    assert routing.applied == (LinkUp(), routes[1])
    assert f"dev {NAME}" not in host.way("192.0.2.5")
    assert f"dev {NAME}" in host.way("192.0.2.200")
    routing.undo([routes[0]])
    routing.undo()
    assert routing.applied == ()
    assert host.dump() == dump
