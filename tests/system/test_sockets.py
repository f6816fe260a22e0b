"""What a caller has set on its socket is honoured, and what we set is taken back."""

from __future__ import annotations

import socket
import struct
import time

import pytest
from system.tunnel import (
    PORT,
    SERVER_IPV4,
    SYSTEM,
    Pair,
    RunningPing,
    Sniffer,
    Tunnel,
    assert_no_answer,
    eventually,
    iperf3,
    join,
    open_tunnel,
    ping,
    try_ping,
)

import ovpn_dco as dco
from ovpn_dco import DeleteReason, DropReason, PeerDeleted
from ovpn_dco.testing import Namespace

pytestmark = SYSTEM

MARK = 1056
SO_RXQ_OVFL, UDP_SEGMENT, UDP_GRO = 40, 103, 104
IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTOS = 8, 10, 11, 13
IPV6_MTU_DISCOVER, IPV6_RECVERR, IPV6_RECVPKTINFO, IPV6_RECVTCLASS = 23, 25, 49, 66


def only_marked(mark: int) -> bytes:
    """A classic BPF program that keeps the packets with this mark."""
    skf_ad_mark = 0xFFFFF000 + 20
    program = [(0x20, 0, 0, skf_ad_mark), (0x15, 0, 1, mark), (0x06, 0, 0, 65535), (0x06, 0, 0, 0)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def test_datagrams_carry_the_mark(tunnel: Tunnel) -> None:
    """Also a mark that is set while the socket is attached."""
    server, wire = tunnel.server, tunnel.topology.link.left_name
    for mark in (MARK, MARK + 1):
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        with Sniffer(server.namespace, wire, only_marked(mark)) as sniffer:
            ping(tunnel.client.namespace, SERVER_IPV4, count=20)
            iperf3(server.namespace, tunnel.client.namespace, SERVER_IPV4, reverse=True)
            assert len(sniffer.datagrams()) > 20
        with Sniffer(server.namespace, wire, only_marked(0)) as sniffer:
            ping(tunnel.client.namespace, SERVER_IPV4)
            assert not [data for outgoing, data in sniffer.datagrams() if outgoing]


def test_bound_device_is_the_only_way(make_tunnel) -> None:
    """A server bound to the link of the first client neither hears nor reaches the second."""

    def bind(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"veth0\0")

    tunnel: Tunnel = make_tunnel(spokes=2, server={"prepare": bind})
    ping(tunnel.clients[0].namespace, SERVER_IPV4)
    assert_no_answer(tunnel.clients[1].namespace, SERVER_IPV4)
    assert tunnel.pairs[1].at_server.stats().link_rx_packets == 0
    assert_no_answer(tunnel.server.namespace, tunnel.clients[1].ipv4)
    assert tunnel.pairs[1].at_client.stats().link_rx_packets == 0


@pytest.mark.parametrize("outer", ["ipv4", "ipv6"])
def test_answers_come_from_the_address_that_was_asked(make_tunnel, outer: str) -> None:
    """A server with two addresses on one interface, and a client that knows the second."""
    tunnel: Tunnel = make_tunnel(outer=outer)
    link = tunnel.topology.link
    first = link.left_ipv4 if outer == "ipv4" else link.left_ipv6
    second = first + "00"
    tunnel.server.namespace.add_address(link.left_name, f"{second}/{24 if outer == 'ipv4' else 64}")
    tunnel.pair.at_client.set(remote=(second, PORT))
    with Sniffer(tunnel.client.namespace, link.right_name) as sniffer:
        ping(tunnel.client.namespace, SERVER_IPV4, count=20)
        packets = [p for outgoing, p in sniffer.packets() if not outgoing]
    family, begin, end = (socket.AF_INET, 12, 16) if outer == "ipv4" else (socket.AF_INET6, 8, 24)
    version = 4 if outer == "ipv4" else 6
    protocol = 9 if outer == "ipv4" else 6
    sources = {
        socket.inet_ntop(family, packet[begin:end])
        for packet in packets
        if packet[0] >> 4 == version and packet[protocol] == socket.IPPROTO_UDP
    }
    spelled = socket.inet_ntop(family, socket.inet_pton(family, second))
    assert sources == {spelled}
    local = tunnel.pair.at_server.local
    assert local
    assert local[0] == spelled
    assert tunnel.pair.at_client.stats().float_count == 0
    assert not tunnel.client.device.poll_events()


def test_preferred_source_of_a_peer(tunnel: Tunnel) -> None:
    """`local` decides before the peer has said anything."""
    link = tunnel.topology.link
    second = link.left_ipv4 + "00"
    tunnel.server.namespace.add_address(link.left_name, f"{second}/24")
    tunnel.pair.at_server.set(remote=(link.right_ipv4, PORT), local=second)
    with Sniffer(tunnel.client.namespace, link.right_name) as sniffer:
        tunnel.server.namespace.popen(["ping", "-c1", "-W1", tunnel.client.ipv4], stdout=-3)
        seen: list[bytes] = []
        eventually(
            lambda: (
                seen.extend(
                    packet
                    for outgoing, packet in sniffer.packets()
                    if not outgoing and packet[9] == 17
                )
                or seen
            ),
            what="a datagram",
        )
    assert socket.inet_ntoa(seen[0][12:16]) == second


def test_source_address_that_went_away(tunnel: Tunnel) -> None:
    """The kernel chooses again, and traffic goes on."""
    link, server = tunnel.topology.link, tunnel.server
    second = link.left_ipv4 + "00"
    server.namespace.add_address(link.left_name, f"{second}/24")
    tunnel.pair.at_client.set(remote=(second, PORT))
    ping(tunnel.client.namespace, SERVER_IPV4)
    with server.namespace.iproute() as ipr:
        index = ipr.link_lookup(ifname=link.left_name)[0]
        ipr.addr("del", index=index, address=second, prefixlen=24)
    before = tunnel.pair.at_client.stats().vpn_rx_packets
    server.namespace.popen(["ping", "-c3", "-i0.1", "-W1", tunnel.client.ipv4], stdout=-3)
    eventually(
        lambda: tunnel.pair.at_client.stats().vpn_rx_packets >= before + 3, what="three requests"
    )
    assert server.device.stats().send_retries >= 1


@pytest.mark.parametrize("outer", ["ipv4", "ipv6"])
def test_datagrams_larger_than_the_wire(make_tunnel, outer: str) -> None:
    """Inner MTU 1500 on a wire of 1500: outer fragments, and GSO gives way to single sends."""
    tunnel: Tunnel = make_tunnel(mtu=1500, outer=outer)
    client, server = tunnel.client.namespace, tunnel.server.namespace
    ping(client, SERVER_IPV4, count=20, size=1472, options=("-M", "do"))
    for reverse in (False, True):
        iperf3(server, client, SERVER_IPV4, megabytes=4, reverse=reverse)
    for site, peer in (
        (tunnel.server, tunnel.pair.at_server),
        (tunnel.client, tunnel.pair.at_client),
    ):
        stats = site.device.stats()
        assert stats.oversize_sends > 0
        assert peer.stats().tx_gso_errors == 0
        assert dco.Offload.UDP_GSO in stats.offloads.active, "only this size on this route"
        assert stats.drops[DropReason.TX_TOO_BIG] == 0
    # Smaller ones still leave in trains.
    before = tunnel.client.device.stats()
    iperf3(server, client, SERVER_IPV4, megabytes=4, options=("-M", "1200"))
    after = tunnel.client.device.stats()
    assert after.udp_send_packets - before.udp_send_packets > after.udp_sends - before.udp_sends


def test_df_learns_the_path(make_tunnel) -> None:
    """With DF set a datagram that is too big is not fragmented but dropped and counted."""
    tunnel: Tunnel = make_tunnel(mtu=1500, client={"attach": {"df": True}})
    client = tunnel.client
    ping(client.namespace, SERVER_IPV4, size=1000)
    assert_no_large_answer(client.namespace)
    assert client.device.stats().drops[DropReason.TX_TOO_BIG] >= 3
    ping(client.namespace, SERVER_IPV4, size=1000)


def assert_no_large_answer(namespace: Namespace) -> None:
    answer = try_ping(namespace, SERVER_IPV4, count=3, size=1472, options=("-W", "0.3"))
    assert answer.received == 0


# Giving back

OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_SNDBUF),
    (socket.SOL_SOCKET, socket.SO_RCVBUF),
    (socket.SOL_SOCKET, SO_RXQ_OVFL),
    (socket.IPPROTO_IP, IP_PKTINFO),
    (socket.IPPROTO_IP, IP_MTU_DISCOVER),
    (socket.IPPROTO_IP, IP_RECVERR),
    (socket.IPPROTO_IP, IP_RECVTOS),
    (socket.IPPROTO_UDP, UDP_GRO),
    (socket.IPPROTO_UDP, UDP_SEGMENT),
]
OPTIONS_IPV6 = [
    *OPTIONS,
    (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER),
    (socket.IPPROTO_IPV6, IPV6_RECVERR),
    (socket.IPPROTO_IPV6, IPV6_RECVTCLASS),
    (socket.IPPROTO_IPV6, IPV6_RECVPKTINFO),
]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.98.0.1"])
@pytest.mark.parametrize("buffers", [None, 1 << 20])
def test_detach_restores_every_option(make_tunnel, host: str, buffers: int | None) -> None:
    """Also those that the caller had set to something else than the default."""
    options = OPTIONS_IPV6 if host == "::" else OPTIONS
    before: dict[tuple[int, int], int] = {}

    def prepare(sock: socket.socket) -> None:
        if buffers:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 200_000)
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 2)
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        before.update({option: sock.getsockopt(*option) for option in options})

    attach = {"send_buffer": buffers, "receive_buffer": buffers}
    tunnel: Tunnel = make_tunnel(server={"host": host, "prepare": prepare, "attach": attach})
    server = tunnel.server
    ping(tunnel.client.namespace, SERVER_IPV4)
    during = {option: server.socket.getsockopt(*option) for option in options}
    assert during != before
    blocking = server.socket.getblocking()
    server.transport.detach()
    after = {option: server.socket.getsockopt(*option) for option in options}
    assert after == before
    assert server.socket.getblocking() == blocking
    assert server.events(PeerDeleted)[0].reason is DeleteReason.TRANSPORT_DISCONNECT
    assert server.transport.closed


def test_detached_socket_is_usable_again(tunnel: Tunnel) -> None:
    """By its owner, undisturbed by the device; and it can be attached once more."""
    server, link = tunnel.server, tunnel.topology.link
    ping(tunnel.client.namespace, SERVER_IPV4)
    server.transport.detach()
    server.transport.detach()
    before = server.device.stats().udp_receives
    with tunnel.client.namespace.socket() as other:
        for number in range(50):
            other.sendto(bytes([number]), (link.left_ipv4, PORT))
            server.socket.settimeout(10)
            data, address = server.socket.recvfrom(2048)
            while data[0] >> 3 == 9:  # what the client still sends
                data, address = server.socket.recvfrom(2048)
            assert data == bytes([number])
            server.socket.sendto(b"answer", address)
            other.settimeout(10)
            assert other.recv(2048) == b"answer"
    assert server.device.stats().udp_receives == before
    server.transport = server.device.attach_udp(server.socket)
    tunnel.client.device.peers[tunnel.client.number].delete()
    tunnel.pairs[0] = join(server, tunnel.client, link)
    ping(tunnel.client.namespace, SERVER_IPV4)


def test_two_transports_of_one_device(tunnel: Tunnel) -> None:
    """A peer on each; closing one leaves the other alone."""
    server, link = tunnel.server, tunnel.topology.link
    with server.namespace.socket() as sock:
        sock.bind(("0.0.0.0", 1195))
        second = server.device.attach_udp(sock)
    ping(tunnel.client.namespace, SERVER_IPV4)
    other = server.device.add_peer(99, second, remote=(link.right_ipv4, 4000), vpn_ipv4="10.9.0.99")
    assert other.transport is second
    second.close()
    (event,) = server.events(PeerDeleted)
    assert (event.peer_id, event.reason) == (99, DeleteReason.TRANSPORT_DISCONNECT)
    ping(tunnel.client.namespace, SERVER_IPV4)


def test_peers_by_two_sockets(make_tunnel) -> None:
    """Each peer by its own, both ways."""
    tunnel: Tunnel = make_tunnel(spokes=2)
    server, client, link = tunnel.server, tunnel.clients[1], tunnel.topology.links[1]
    tunnel.pairs[1].at_server.delete()
    with server.namespace.socket() as sock:
        sock.bind(("0.0.0.0", PORT + 1))
        second = server.device.attach_udp(sock)
    at_server = server.device.add_peer(
        client.number, second, remote=(link.right_ipv4, client.port), vpn_ipv4=client.ipv4
    )
    at_client = tunnel.pairs[1].at_client
    at_client.set(remote=(link.left_ipv4, PORT + 1))
    Pair(at_server, at_client).install(dco.KeySlot.PRIMARY, 1)
    for one in tunnel.clients:
        ping(one.namespace, SERVER_IPV4)
        ping(server.namespace, one.ipv4)
    assert at_client.remote == (link.left_ipv4, PORT + 1), "where the answers came from"


def test_control_packets_both_ways(tunnel: Tunnel) -> None:
    """From the attached sockets, between data packets, with the addresses to answer to."""
    server, client, link = tunnel.server, tunnel.client, tunnel.topology.link
    flood = RunningPing(client.namespace, SERVER_IPV4, interval_s=0)
    for number in range(100):
        body = b"\x38" + number.to_bytes(2, "big") + bytes(1000)
        client.transport.send_control(body, (link.left_ipv4, PORT))
        (packet,) = eventually(server.device.control.receive, what="a control packet")
        assert packet.data == body
        assert packet.peer_id is None
        assert packet.transport is server.transport
        assert packet.remote == (link.right_ipv4, PORT)
        assert packet.local
        assert packet.local[0] == link.left_ipv4
        server.transport.send_control(b"\x28answer", packet.remote, packet.local)
        (answer,) = eventually(client.device.control.receive, what="an answer")
        assert answer.data == b"\x28answer"
    flood.stop()
    assert server.device.stats().control_packets == 100


def test_receive_buffer_overflow_is_counted() -> None:
    """Datagrams that the kernel had to drop show up in the transport's figures."""
    with open_tunnel(server={"attach": {"receive_buffer": 4096}, "start": False}) as tunnel:
        link = tunnel.topology.link
        with tunnel.client.namespace.socket() as sock:
            for _ in range(200):
                sock.sendto(b"\x38" + bytes(1200), (link.left_ipv4, PORT))
            tunnel.server.device.start()
            eventually(lambda: tunnel.server.device.stats().control_packets > 0, what="what fitted")

            # The figure comes with the next datagram.
            def overflowed() -> int:
                sock.sendto(b"\x38", (link.left_ipv4, PORT))
                time.sleep(0.01)
                return tunnel.server.transport.info().receive_overflows

            eventually(overflowed, what="counted overflow")
