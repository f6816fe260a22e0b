"""test-bind.sh, test-bind-addr.sh of the driver's development tree: a server whose socket is bound
to the link of one client, or to an address of it."""

from __future__ import annotations

import socket

import pytest
from scenarios.sequence import capture
from scenarios.traffic import Route, assert_unreachable, flood
from scenarios.vpn import PORT, SERVER_VPN, Vpn, vpn_address
from system.tunnel import SYSTEM

pytestmark = SYSTEM


def inward(vpn: Vpn, number: int) -> Route:
    return vpn.clients[number].namespace, SERVER_VPN


def outward(vpn: Vpn, number: int) -> Route:
    return vpn.server.namespace, vpn_address(number)


def bind(vpn: Vpn, number: int | None) -> None:
    """Binds the server's socket to a client's link, or to none, while it is attached."""
    sock, _ = vpn.server.sockets[0]
    name = b"" if number is None else vpn.link(number).left_name.encode()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)


def test_to_a_device(make_vpn, back_end) -> None:
    if not back_end.honours_bound_device:
        pytest.skip("the engine sends past the interface that its socket is bound to")
    vpn: Vpn = make_vpn(clients=(1, 2))
    for chosen, other in ((1, 2), (2, 1)):
        bind(vpn, chosen)
        silent = vpn.at_server[other].stats().link_rx_packets
        with capture(vpn, other) as seen:
            flood([inward(vpn, chosen), outward(vpn, chosen)])
            assert_unreachable([inward(vpn, other), outward(vpn, other)])
            assert not seen.headers(to_server=False), "nothing leaves by the other link"
            assert seen.headers(to_server=True), "and what comes by it"
        assert vpn.at_server[other].stats().link_rx_packets == silent, "is not heard"
    bind(vpn, None)
    flood([inward(vpn, number) for number in vpn.numbers])
    flood([outward(vpn, number) for number in vpn.numbers])


def test_to_an_address(make_network) -> None:
    """Whoever sends to it is heard, by whichever link, and whoever sends to another is not."""
    vpn: Vpn = make_network(clients=(1, 2))
    near = vpn.link(1).left_ipv4
    shared = vpn.server.udp(ipv6=False, host=near)
    for number, client in vpn.clients.items():
        vpn.join(number, shared, client.udp(ipv6=False))
    flood([inward(vpn, 1), outward(vpn, 1)])
    assert_unreachable([inward(vpn, 2)])
    assert vpn.at_server[2].stats().link_rx_packets == 0

    vpn.clients[2].namespace.add_route(f"{near}/32", via=vpn.link(2).left_ipv4)
    vpn.at_client[2].set(remote=(near, PORT))
    flood([inward(vpn, 2), outward(vpn, 2)])
    assert not [notice for party in vpn.parties for notice in party.listen()]
