"""Peers come and go while traffic flows: many at once, networks behind them, deletion."""

from __future__ import annotations

import subprocess

import pytest
from system.tunnel import (
    PATIENCE_S,
    SERVER_IPV4,
    SYSTEM,
    RunningPing,
    Site,
    Tunnel,
    assert_no_answer,
    eventually,
    join,
    ping,
    ping_command,
    ping_result,
    try_ping,
)

import ovpn_dco as dco
from ovpn_dco import DeleteReason, DropReason, PeerDeleted
from ovpn_dco.testing import Topology

pytestmark = SYSTEM

LAN, LAN_HOST = "192.168.9.0/24", "192.168.9.1"


def test_hundred_peers_at_once() -> None:
    """One server, and a hundred clients in one namespace, all pinging at the same time."""
    count = 100
    with Topology() as topology:
        sites = [Site(topology.left, 1, mode=dco.Mode.MULTIPEER, prefixes=(24, 64))]
        try:
            server = sites[0]
            for number in range(2, count + 2):
                client = Site(
                    topology.right, number, mode=dco.Mode.P2P, port=2000 + number, max_peers=1
                )
                sites.append(client)
                join(server, client, topology.link)
            # While the address of the other end is not resolved, the wire queues only so much.
            ping(topology.right, topology.link.left_ipv4, count=1)
            pings = [
                topology.right.popen(
                    ping_command(
                        SERVER_IPV4,
                        count=20,
                        size=500,
                        interval_s=0.02,
                        options=("-I", client.name),
                    ),
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for client in sites[1:]
            ]
            for process in pings:
                output, _ = process.communicate(timeout=PATIENCE_S)
                result = ping_result(output)
                # Each of the raw sockets is offered the answers of all: ping may miss one. What
                # the interfaces took, below, is exact.
                assert result.sent == 20
                assert result.received > 15, output
            for client in sites[1:]:
                assert client.device.peers[client.number].stats().vpn_rx_packets == 20
            assert len(server.device.peers) == count
            table = server.device.stats_table()
            assert list(table["vpn_rx_packets"]) == [20] * count
            assert list(table["vpn_tx_packets"]) == [20] * count
            server.device.delete_peers(list(server.device.peers))
            events = server.events(PeerDeleted, count)
            assert {event.peer_id for event in events} == set(range(2, count + 2))
        finally:
            for site in sites:
                site.close()


@pytest.fixture
def lan(tunnel: Tunnel) -> Tunnel:
    """The same with a network behind the client, which the server's kernel sends to the device."""
    tunnel.client.namespace.add_address("lo", f"{LAN_HOST}/24")
    tunnel.server.namespace.add_route(LAN, device=tunnel.server.name)
    return tunnel


def test_network_behind_a_peer(lan: Tunnel) -> None:
    server, peer = lan.server, lan.pair.at_server
    assert_no_answer(server.namespace, LAN_HOST)
    assert server.device.stats().drops[DropReason.TX_NO_PEER] >= 3
    server.device.routes.add(LAN, peer)
    ping(server.namespace, LAN_HOST, size=3000)
    ping(lan.client.namespace, SERVER_IPV4, options=("-I", LAN_HOST))
    assert server.device.routes.lookup("192.168.9.77") == peer
    server.device.routes.remove(LAN)
    assert_no_answer(server.namespace, LAN_HOST)


def test_source_check_strict_and_off(lan: Tunnel) -> None:
    """What the client sends from an address that is not routed to it."""
    server = lan.server
    from_lan = ("-I", LAN_HOST, "-W", "0.3")
    assert try_ping(lan.client.namespace, SERVER_IPV4, options=from_lan).received == 0
    stats = server.device.stats()
    assert stats.drops[DropReason.RX_SOURCE] == 5
    assert stats.drops[DropReason.TX_NO_PEER] == 0, "no request came through, so no answer either"
    assert lan.pair.at_server.stats().rx_source_errors == 5

    server.device.set_source_check("off")
    assert try_ping(lan.client.namespace, SERVER_IPV4, options=from_lan).received == 0
    stats = server.device.stats()
    assert stats.drops[DropReason.RX_SOURCE] == 5
    assert stats.drops[DropReason.TX_NO_PEER] == 5, "the answers have nowhere to go"


def test_delete_under_flood(make_tunnel) -> None:
    """The flood stops, the other client notices nothing, and the id can be used again at once."""
    tunnel = make_tunnel(spokes=2)
    server, (first, second) = tunnel.server, tunnel.clients
    flood = RunningPing(first.namespace, SERVER_IPV4, interval_s=0)
    other = RunningPing(second.namespace, SERVER_IPV4)
    peer = tunnel.pairs[0].at_server
    eventually(lambda: peer.stats().vpn_rx_packets > 200, what="the flood under way")
    bystander = tunnel.pairs[1].at_server
    for _ in range(10):
        seen = peer.stats()
        peer.delete()
        (event,) = server.events(PeerDeleted)
        assert (event.peer_id, event.generation) == peer.ref
        assert event.reason is DeleteReason.USERSPACE
        assert event.stats.vpn_rx_packets >= seen.vpn_rx_packets
        with pytest.raises(dco.NotFound):
            peer.stats()
        unknown = server.device.stats().drops[DropReason.RX_UNKNOWN_PEER]
        eventually(
            lambda: server.device.stats().drops[DropReason.RX_UNKNOWN_PEER] > unknown,  # noqa: B023
            what="packets of a peer that is gone",
        )
        tunnel.pairs[0].at_client.delete()
        peer = join(server, first, tunnel.topology.links[0]).at_server
        tunnel.pairs[0] = type(tunnel.pairs[0])(peer, first.device.peers[first.number])
        eventually(lambda: peer.stats().vpn_rx_packets > 20, what="the flood again")  # noqa: B023
    assert flood.stop().received > 200
    heard = other.stop_without_loss()
    assert bystander.stats().vpn_rx_packets >= heard.received


def test_clients_own_peer_is_replaced(tunnel: Tunnel) -> None:
    """In P2P mode the next peer takes the place of the first."""
    before = tunnel.pair.at_client
    tunnel.pair.at_server.delete()
    tunnel.pairs[0] = join(tunnel.server, tunnel.client, tunnel.topology.link)
    (event,) = tunnel.client.events(PeerDeleted)
    assert event.generation == before.generation
    assert event.reason is DeleteReason.TEARDOWN
    ping(tunnel.client.namespace, SERVER_IPV4)


def test_vpn_address_changes_while_traffic_flows(tunnel: Tunnel) -> None:
    namespace = tunnel.client.namespace
    namespace.add_address(tunnel.client.name, "10.9.0.77/32")
    running = RunningPing(namespace, SERVER_IPV4)
    tunnel.pair.at_server.set(vpn_ipv4="10.9.0.77")
    ping(namespace, SERVER_IPV4, options=("-I", "10.9.0.77"))
    assert (
        try_ping(namespace, SERVER_IPV4, options=("-I", tunnel.client.ipv4, "-W", "0.3")).received
        == 0
    )
    tunnel.pair.at_server.set(vpn_ipv4=tunnel.client.ipv4)
    ping(namespace, SERVER_IPV4)
    running.stop()
