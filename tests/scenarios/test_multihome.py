"""multihome-test.sh of the driver's first versions: a server with several addresses on a bridge,
and clients that each know another one. Answers come from the address that was asked."""

from __future__ import annotations

from scenarios.sequence import capture
from scenarios.traffic import flood
from scenarios.vpn import IPV6_CLIENTS, SERVER_VPN, Vpn, vpn_address
from scenarios.wire import source
from system.tunnel import SYSTEM

pytestmark = SYSTEM

BRIDGE = "br0"


def hosts(number: int) -> tuple[str, str]:
    """The server's address that the client knows, and the client's own."""
    if number in IPV6_CLIENTS:
        return f"fd00:20::{number}", f"fd00:20::1:{number}"
    return f"10.20.0.{number}", f"10.20.0.10{number}"


def join_by_a_bridge(vpn: Vpn) -> None:
    """Of all links, in place of what each has for itself."""
    server = vpn.server.namespace
    with server.iproute() as ipr:
        ipr.link("add", ifname=BRIDGE, kind="bridge")
        bridge = ipr.link_lookup(ifname=BRIDGE)[0]
        for number in vpn.numbers:
            port = ipr.link_lookup(ifname=vpn.link(number).left_name)[0]
            ipr.link("set", index=port, master=bridge)
    server.set_up(BRIDGE)
    for number, client in vpn.clients.items():
        near, far = hosts(number)
        length = 64 if ":" in near else 24
        server.add_address(BRIDGE, f"{near}/{length}")
        client.namespace.add_address(vpn.link(number).right_name, f"{far}/{length}")


def test_answers_come_from_the_address_that_was_asked(make_network) -> None:
    vpn: Vpn = make_network()
    join_by_a_bridge(vpn)
    shared = vpn.server.udp(ipv6=True)
    for number, client in vpn.clients.items():
        vpn.join(number, shared, client.udp(ipv6=number in IPV6_CLIENTS), hosts(number))
    captures = {number: capture(vpn, number) for number in vpn.numbers}
    flood([(client.namespace, SERVER_VPN) for client in vpn.clients.values()])
    flood([(vpn.server.namespace, vpn_address(number)) for number in vpn.numbers])
    for number, seen in captures.items():
        with seen:
            near, far = hosts(number)
            talk = {source(packet) for _, packet in seen.of_openvpn()}
            assert talk == {near, far}
        assert vpn.at_server[number].local[0] == near
    assert not [notice for party in vpn.parties for notice in party.listen()]
