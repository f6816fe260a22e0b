"""Clients change their address: the peer follows, and traffic goes on."""

from __future__ import annotations

import ipaddress

import pytest
from security.forge import opposite_keys
from system.tunnel import (
    PORT,
    SERVER_IPV4,
    SYSTEM,
    RunningPing,
    Site,
    Tunnel,
    eventually,
    join,
    ping,
)

import ovpn_dco as dco
from ovpn_dco import PeerFloated, PeerFloatRefused

pytestmark = SYSTEM


def plain(address: str) -> str:
    """In its shortest spelling, which is the one that is reported."""
    return str(ipaddress.ip_address(address))


@pytest.mark.parametrize("outer", ["ipv4", "ipv6"])
def test_address_of_the_client_changes(make_tunnel, outer: str) -> None:
    tunnel: Tunnel = make_tunnel(outer=outer)
    link, namespace = tunnel.topology.link, tunnel.client.namespace
    old = plain(link.right_ipv4 if outer == "ipv4" else link.right_ipv6)
    new = old[:-1] + "3"
    running = RunningPing(namespace, SERVER_IPV4)
    peer = tunnel.pair.at_server
    eventually(lambda: peer.stats().vpn_rx_packets > 5, what="pings")
    assert peer.remote[:2] == (old, PORT)
    namespace.replace_address(link.right_name, old, new)
    (event,) = tunnel.server.events(PeerFloated)
    assert (event.peer_id, event.generation) == peer.ref
    assert event.remote[:2] == (new, PORT)
    assert peer.remote == event.remote
    ping(namespace, SERVER_IPV4, count=20)
    ping(tunnel.server.namespace, tunnel.client.ipv4, count=20)
    result = running.stop()
    assert result.received > 10
    assert peer.stats().float_count == 1
    assert tunnel.pair.at_client.stats().float_count == 0, "the server stayed where it was"
    assert not tunnel.server.device.poll_events()


def test_client_comes_back(tunnel: Tunnel) -> None:
    """To the address where it was: that is no other peer's."""
    link, namespace = tunnel.topology.link, tunnel.client.namespace
    old, new = link.right_ipv4, link.right_ipv4[:-1] + "3"
    ping(namespace, SERVER_IPV4)
    for one, other in ((old, new), (new, old)):
        namespace.replace_address(link.right_name, one, other)
        ping(namespace, SERVER_IPV4)
        assert tunnel.pair.at_server.remote == (other, PORT)
    assert tunnel.pair.at_server.stats().float_count == 2


def test_new_port(tunnel: Tunnel) -> None:
    """A restarted client: a new socket, and a peer and a key of the same session."""
    client, link = tunnel.client, tunnel.topology.link
    client.transport.close()
    client.socket.close()
    client.socket = client.namespace.socket()
    client.socket.bind(("0.0.0.0", 5555))
    client.transport = client.device.attach_udp(client.socket)
    peer = client.device.add_peer(client.number, client.transport, remote=(link.left_ipv4, PORT))
    ours, theirs = opposite_keys(1)
    peer.install_key(dco.KeySlot.PRIMARY, theirs)
    tunnel.pair.at_server.install_key(dco.KeySlot.SECONDARY, ours)
    tunnel.pair.at_server.swap_keys()
    ping(client.namespace, SERVER_IPV4)
    (event,) = tunnel.server.events(PeerFloated)
    assert event.remote == (link.right_ipv4, 5555)


def test_place_of_a_live_peer_is_refused(make_tunnel) -> None:
    """The second client takes the address of the first, by a router between them gone mad."""
    tunnel: Tunnel = make_tunnel(spokes=2)
    first, second = tunnel.pairs
    victim = first.at_server.remote
    for client in tunnel.clients:
        ping(client.namespace, SERVER_IPV4)
    # In the first client's namespace a device of another peer, on the first's port.
    tunnel.clients[0].transport.close()
    tunnel.clients[0].socket.close()
    second.at_server.delete()
    impostor = Site(tunnel.clients[0].namespace, 9, mode=dco.Mode.P2P)
    try:
        pair = join(tunnel.server, impostor, tunnel.topology.links[1])
        pair.at_client.set(remote=(tunnel.topology.links[0].left_ipv4, PORT))
        before = pair.at_server.remote
        running = RunningPing(impostor.namespace, SERVER_IPV4, options=("-I", impostor.name))
        event = tunnel.server.events(PeerFloatRefused)[0]
        assert event.peer_id == 9
        assert event.remote == victim
        running.stop()
        assert pair.at_server.remote == before
        assert first.at_server.remote == victim
    finally:
        impostor.close()


def test_float_across_families(make_tunnel) -> None:
    """On dual-stack sockets a client may come back by the other family."""
    tunnel: Tunnel = make_tunnel(host="::")
    link = tunnel.topology.link
    ping(tunnel.client.namespace, SERVER_IPV4)
    tunnel.pair.at_client.set(remote=(link.left_ipv6, PORT))
    ping(tunnel.client.namespace, SERVER_IPV4, count=20)
    (event,) = tunnel.server.events(PeerFloated)
    assert event.remote == (plain(link.right_ipv6), PORT, 0, 0)
    tunnel.pair.at_client.set(remote=(link.left_ipv4, PORT))
    ping(tunnel.client.namespace, SERVER_IPV4, count=20)
    assert tunnel.pair.at_server.remote == (link.right_ipv4, PORT)
