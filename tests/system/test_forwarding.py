"""Clients that reach each other through the server's device, while its host forwards nothing."""

from __future__ import annotations

import socket

import pytest
from system.tunnel import SYSTEM, Tunnel, assert_no_answer, eventually, iperf3, ping

import ovpn_dco as dco

pytestmark = SYSTEM

GROUP = "239.9.9.9"


@pytest.fixture(
    params=[{}, {"tcp": True}, {"server": {"workers": 2}}], ids=["udp", "tcp", "workers"]
)
def three(make_tunnel, request: pytest.FixtureRequest) -> Tunnel:
    """Three clients, which send all of the inner network into the tunnel."""
    tunnel = make_tunnel(spokes=3, **request.param)
    tunnel.server.namespace.run(["sysctl", "-qw", "net.ipv4.ip_forward=0"])
    return tunnel


def test_pings_between_clients(three: Tunnel) -> None:
    first, second, third = three.clients
    device = three.server.device
    assert_no_answer(first.namespace, second.ipv4)
    device.forwarding.set_mode("all")
    for host in (second.ipv4, second.ipv6, third.ipv4):
        ping(first.namespace, host, size=3000)
    ping(third.namespace, second.ipv4)
    ping(first.namespace, three.server.ipv4)
    device.forwarding.set_mode("permitted")
    pairs = [pair.at_server for pair in three.pairs]
    device.forwarding.permit(pairs[0], pairs[1:2])
    device.forwarding.permit(pairs[1], pairs[:1])
    ping(first.namespace, second.ipv4)
    assert_no_answer(first.namespace, third.ipv4)
    assert_no_answer(third.namespace, second.ipv4)
    assert pairs[2].stats().rx_forward_denied >= 3
    device.forwarding.set_mode("off")
    assert_no_answer(first.namespace, second.ipv4)


def test_the_hosts_routing_does_it_where_it_may(three: Tunnel) -> None:
    """Past the device's own forwarding, which is off: out of the interface and in again."""
    first, second, _ = three.clients
    three.server.namespace.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    ping(first.namespace, second.ipv4, size=3000)
    assert three.server.device.stats().forwarded_packets == 0


def test_bulk_between_clients(make_tunnel) -> None:
    """One flow of TCP: what comes and what goes adds up, and the interface has no part in it."""
    tunnel = make_tunnel(spokes=2)
    first, second = tunnel.clients
    device = tunnel.server.device
    device.forwarding.set_mode("all")
    before = device.stats()
    iperf3(second.namespace, first.namespace, second.ipv4)
    after = device.stats()
    assert after.forwarded_bytes - before.forwarded_bytes > 1_000_000
    assert after.tun_read_packets - before.tun_read_packets < 20
    assert after.packets_per_send > 2, "trains, as from the interface"
    drops = {r: n for r, n in after.drops.items() if n != before.drops[r]}
    sent = sum(pair.at_server.stats().vpn_tx_packets for pair in tunnel.pairs)
    lost = sum(n for reason, n in drops.items() if reason.name.startswith("TX_"))
    assert sent + lost == after.forwarded_packets + after.tun_read_packets


def test_multicast_and_broadcast(three: Tunnel) -> None:
    """From a client to the others and the server; from the server to all."""
    device = three.server.device
    device.forwarding.set_mode("all")
    device.set_multicast(on=True)
    sites = three.sites
    listeners = []
    for site in sites:
        sock = site.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(20)
        sock.bind(("", 5000))
        own = socket.inet_aton(site.ipv4)
        member = socket.inet_aton(GROUP) + own
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        listeners.append(sock)
    for target in (GROUP, "10.9.0.255"):
        for n, sender in enumerate(sites):
            word = f"{target} by {sender.number}".encode()
            listeners[n].sendto(word, (target, 5000))
            for m, receiver in enumerate(listeners):
                if m != n or target != GROUP:  # its own host tells the sender of a broadcast
                    assert receiver.recv(100) == word
    for sock in listeners:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(100)
        sock.close()
    eventually(lambda: device.stats().replicated_packets >= 2 * (3 + 2 * 3))
    assert not any(
        count
        for reason, count in device.stats().drops.items()
        if reason is dco.DropReason.TX_GROUP_LIMIT
    )
