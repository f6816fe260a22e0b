"""Every packet is accounted for: delivered, sent, handed up, or dropped with a reason."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import fields

import pytest
from security.forge import ip, opposite_keys
from system.tunnel import (
    PORT,
    SERVER_IPV4,
    SERVER_IPV6,
    SYSTEM,
    RunningPing,
    Site,
    Tunnel,
    connect,
    eventually,
    frame,
    iperf3,
    join_tcp,
    ping,
)

import ovpn_dco as dco
from ovpn_dco import DropReason, KeySlot, PeerDeleted
from ovpn_dco.testing import Link, Namespace

pytestmark = SYSTEM

# Drops of received datagrams; the others of RX_ and all of TX_ are named by their prefix.
RECEIVED = [r for r in DropReason if r.name.startswith("RX_")] + [DropReason.CONTROL_FULL]
SENT = [r for r in DropReason if r.name.startswith("TX_")]


def totals(site: Site, gone: list[PeerDeleted]) -> dict[str, int]:
    gone.extend(e for e in site.device.poll_events() if isinstance(e, PeerDeleted))
    stats = [peer.stats() for peer in site.device.peers.values()]
    stats += [event.stats for event in gone]
    return {f.name: sum(getattr(s, f.name) for s in stats) for f in fields(dco.PeerStats)}


def unaccounted(site: Site, gone: list[PeerDeleted]) -> dict[str, int]:
    """What does not add up, by direction; 0 each when all does."""
    stats, peers = site.device.stats(), totals(site, gone)
    sent = peers["link_tx_packets"] + sum(stats.drops[reason] for reason in SENT)
    received = (
        stats.tun_write_packets
        + stats.control_packets
        + peers["keepalive_rx"]
        + stats.forwarded_packets
        + sum(stats.drops[reason] for reason in RECEIVED)
    )
    # A length that cannot be ends a stream, and is no packet.
    arrived = (
        stats.udp_receive_packets + stats.tcp_receive_packets + stats.drops[DropReason.RX_STREAM]
    )
    of_peers = sum(
        peers[name]
        for name in ("vpn_rx_packets", "keepalive_rx", "rx_unsupported_protocol", "rx_dropped")
    )
    left = stats.udp_send_packets + stats.tcp_send_packets
    inner = stats.tun_read_packets + peers["keepalive_tx"] + stats.peer_messages
    return {
        "to be sealed": inner - sent,
        "received by the socket": arrived - received,
        "sent by the socket": left - peers["link_tx_packets"],
        "received of peers": peers["link_rx_packets"] - of_peers,
        "delivered to the interface": stats.tun_write_packets - peers["vpn_rx_packets"],
    }


def quiet(site: Site) -> bool:
    """Whether nothing moved for a moment."""

    def reading() -> tuple[int, ...]:
        stats = site.device.stats()
        return stats.tun_reads, stats.udp_receives, stats.tcp_receives, stats.wakeups

    before = reading()
    time.sleep(0.1)
    return reading() == before


def assert_all_accounted(tunnel: Tunnel, gone: dict[Site, list[PeerDeleted]]) -> None:
    for site in tunnel.sites:
        eventually(lambda: quiet(site), what="silence")  # noqa: B023
        odd = unaccounted(site, gone[site])
        assert not any(odd.values()), f"{site.name}: {odd}"


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("tcp", [False, True], ids=["UDP", "TCP"])
def test_quiet_run(make_tunnel, tcp: bool, workers: int) -> None:
    """Both ends agree to the byte. Nothing is lost, but where one stream fills another: what finds
    the queue of a connection full."""
    tunnel: Tunnel = make_tunnel(tcp=tcp, workers=workers)
    gone: dict[Site, list[PeerDeleted]] = {site: [] for site in tunnel.sites}
    ping(tunnel.client.namespace, SERVER_IPV4, count=50)
    ping(tunnel.client.namespace, SERVER_IPV6, count=50, size=3000)
    iperf3(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4)
    iperf3(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV6, reverse=True)
    assert_all_accounted(tunnel, gone)
    at_server, at_client = tunnel.pair.at_server.stats(), tunnel.pair.at_client.stats()
    for one, other, sender in (
        (at_server, at_client, tunnel.client),
        (at_client, at_server, tunnel.server),
    ):
        full = sender.device.stats().drops[DropReason.TX_BACKLOG]
        assert one.link_rx_packets == other.link_tx_packets
        assert one.link_rx_bytes == other.link_tx_bytes
        assert one.vpn_rx_packets == other.vpn_tx_packets - full == one.link_rx_packets
        assert full or one.vpn_rx_bytes == other.vpn_tx_bytes
        assert one.link_rx_bytes == one.vpn_rx_bytes + 24 * one.link_rx_packets
    for site in tunnel.sites:
        stats = site.device.stats()
        assert sum(stats.drops.values()) == (stats.drops[DropReason.TX_BACKLOG] if tcp else 0)
        if tcp:
            assert stats.tcp_send_packets > stats.tcp_sends
            assert stats.tcp_receive_packets > stats.tcp_receives
        else:
            assert sum(stats.rx_batches) == stats.udp_receives
            assert stats.packets_per_send > 1
            assert stats.packets_per_receive > 1


def test_messy_run(make_tunnel) -> None:
    """Load both ways while keys, peers, routes and interfaces come and go, amid garbage."""
    tunnel: Tunnel = make_tunnel(spokes=2)
    gone: dict[Site, list[PeerDeleted]] = {site: [] for site in tunnel.sites}
    server, (first, second) = tunnel.server, tunnel.clients
    floods = [
        RunningPing(first.namespace, SERVER_IPV4, interval_s=0),
        RunningPing(server.namespace, second.ipv4, interval_s=0.002),
        RunningPing(server.namespace, "10.9.0.77", interval_s=0.01),  # nobody's
        RunningPing(second.namespace, SERVER_IPV6, interval_s=0),
    ]
    second.namespace.add_address("lo", "192.168.9.1/32")
    floods.append(
        RunningPing(second.namespace, SERVER_IPV4, options=("-I", "192.168.9.1"))
    )  # not routed to it
    for number in range(3):
        garbage(tunnel)
        iperf3(
            server.namespace,
            first.namespace,
            SERVER_IPV4,
            udp=True,
            megabytes=4,
            reverse=bool(number % 2),
        )
        tunnel.pairs[0].install(KeySlot.PRIMARY, number)
        tunnel.pairs[1].at_server.delete_key(KeySlot.PRIMARY)
        garbage(tunnel)
        down = server.device.stats().drops[DropReason.RX_TUN_DOWN]
        server.namespace.set_up(server.name, up=False)
        garbage(tunnel)
        eventually(
            lambda: server.device.stats().drops[DropReason.RX_TUN_DOWN] > down,  # noqa: B023
            what="packets for an interface that is down",
        )
        server.namespace.set_up(server.name)
        # Down, the interface forgets its IPv6 address.
        server.namespace.add_address(server.name, f"{SERVER_IPV6}/64")
        tunnel.pairs[1].install(KeySlot.PRIMARY, number)
        peer = tunnel.pairs[1].at_server
        peer.delete()
        garbage(tunnel)
        again = server.device.add_peer(
            peer.peer_id,
            server.transport,
            remote=(tunnel.topology.links[1].right_ipv4, PORT),
            vpn_ipv4=second.ipv4,
            vpn_ipv6=second.ipv6,
        )
        tunnel.pairs[1] = type(tunnel.pairs[1])(again, tunnel.pairs[1].at_client)
        tunnel.pairs[1].install(KeySlot.PRIMARY, 7 - number)
        ping(first.namespace, SERVER_IPV4)
        ping(second.namespace, SERVER_IPV4)
    for flood in floods:
        flood.stop()
    assert_all_accounted(tunnel, gone)
    drops = server.device.stats().drops
    expected = (
        "TX_NO_PEER TX_NO_KEY RX_RUNT RX_DATA_V1 RX_UNKNOWN_PEER RX_UNKNOWN_KEY RX_DECRYPT "
        "RX_SOURCE RX_TUN_DOWN"
    )
    for name in expected.split():
        assert drops[DropReason[name]] > 0, f"the run was meant to have {name}"
    assert server.device.stats().control_packets > 0


@pytest.mark.parametrize("workers", [1, 3])
def test_messy_run_over_tcp(make_tunnel, workers: int) -> None:
    """Load both ways while keys and peers come and go, one peer does not read, and connections
    say what they should not."""
    tunnel: Tunnel = make_tunnel(spokes=3, tcp=True, workers=workers)
    gone: dict[Site, list[PeerDeleted]] = {site: [] for site in tunnel.sites}
    server, (first, second, third) = tunnel.server, tunnel.clients
    links = tunnel.topology.links
    floods = [
        RunningPing(first.namespace, SERVER_IPV4, interval_s=0),
        RunningPing(server.namespace, second.ipv4, interval_s=0.002),
        RunningPing(server.namespace, "10.9.0.77", interval_s=0.01),  # nobody's
        RunningPing(second.namespace, SERVER_IPV6, interval_s=0),
    ]
    with contextlib.ExitStack() as stack:
        near, blocked = connect(server.namespace, third.namespace, links[2])
        stack.enter_context(blocked)
        peer = server.device.add_peer(88, server.device.attach_tcp(near), vpn_ipv4="10.9.0.88")
        near.close()
        peer.install_key(KeySlot.PRIMARY, opposite_keys()[0])
        for number in range(4):
            iperf3(
                server.namespace,
                first.namespace,
                SERVER_IPV4,
                udp=True,
                megabytes=4,
                reverse=bool(number % 2),
            )
            tunnel.pairs[0].install(KeySlot.PRIMARY, number)
            tunnel.pairs[1].at_server.delete_key(KeySlot.PRIMARY)
            broken_streams(server, third.namespace, links[2])
            eventually(lambda: server.device.stats().drops[DropReason.TX_NO_KEY] > 0)
            tunnel.pairs[1].at_server.delete()
            eventually(lambda: server.device.stats().drops[DropReason.RX_UNKNOWN_PEER] > 0)
            tunnel.pairs[1].at_client.transport.close()
            tunnel.pairs[1] = join_tcp(server, second, links[1])
            ping(second.namespace, SERVER_IPV6)
        # More than the queue and all that the kernel lets its buffers grow to.
        with server.namespace.socket() as sock:
            while not server.device.stats().drops[DropReason.TX_BACKLOG]:
                sock.sendto(bytes(1300), ("10.9.0.88", 9))
        for flood in floods:
            flood.stop()
        assert_all_accounted(tunnel, gone)
    drops = server.device.stats().drops
    expected = (
        "TX_NO_PEER TX_NO_KEY TX_BACKLOG RX_RUNT RX_DATA_V1 RX_STREAM RX_UNKNOWN_PEER "
        "RX_UNKNOWN_KEY RX_DECRYPT"
    )
    for name in expected.split():
        assert drops[DropReason[name]] > 0, f"the run was meant to have {name}"
    assert server.device.stats().control_packets > 0


def broken_streams(server: Site, namespace: Namespace, link: Link) -> None:
    """Connections that say all that nobody wants, one way each of coming to an end."""
    inner = ip("10.9.0.99", SERVER_IPV4)
    said = b"".join(
        frame(packet)
        for packet in (
            b"\x38" + inner,
            bytes([0x4F, 0, 0, 99]) + inner,
            bytes([0x48, 0, 0, 99]) + bytes(8) + inner,
            bytes([0x48, 0, 0, 1]) + bytes(20) + inner,
        )
    )
    for end in (frame(b"\x48"), frame(b"\x30" + inner), b"\0\0", b"\0\7abc"):
        near, far = connect(server.namespace, namespace, link)
        with near, far:
            transport = server.device.attach_tcp(near)
            peer = server.device.add_peer(99, transport, vpn_ipv4="10.9.0.99")
            peer.install_key(KeySlot.PRIMARY, opposite_keys()[0])
            far.sendall(said + end)
            far.shutdown(socket.SHUT_WR)
            eventually(lambda: transport.info().failed)  # noqa: B023
            transport.close()
    while server.device.control.receive():
        pass


def garbage(tunnel: Tunnel) -> None:
    """A hundred datagrams of each kind that nobody wants."""
    target = (tunnel.topology.link.left_ipv4, PORT)
    inner = ip(tunnel.client.ipv4, SERVER_IPV4)
    first = tunnel.pairs[0].at_server.peer_id
    kinds = [
        b"\x48",
        b"\x30" + inner,
        b"\x48\0\0\x63" + inner,
        bytes([0x4D, 0, 0, first]) + inner,
        bytes([0x48, 0, 0, first]) + bytes(8) + inner,
        bytes([0x4F, 0, 0, first]) + inner,
        b"\x38" + inner,
        b"",
    ]
    with tunnel.client.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for kind in kinds:
            for _ in range(100):
                sock.sendto(kind, target)
    while tunnel.server.device.control.receive():
        pass
