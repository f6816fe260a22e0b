"""Real traffic over TCP connections: ping and iperf3 inside, listeners and mixed devices, keys that
roll, paths that are cut, peers that do not read."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
from collections.abc import Iterator

import pytest
from security.forge import Forge
from system.tunnel import (
    SERVER_IPV4,
    SERVER_IPV6,
    SYSTEM,
    Pair,
    RunningPing,
    Site,
    Tunnel,
    connect,
    eventually,
    frame,
    iperf3,
    join,
    join_tcp,
    open_tunnel,
    ping,
)

import ovpn_dco as dco
from ovpn_dco import DeleteReason, DropReason, KeySlot, PeerDeleted, TransportFailed
from ovpn_dco.testing import Link, Namespace, Topology

pytestmark = SYSTEM

DOOR = 1195
RESET = b"\x38" + bytes(13)  # P_CONTROL_HARD_RESET_CLIENT_V2
WORKERS = pytest.mark.parametrize("workers", [1, 3])


@pytest.fixture(scope="module", params=["ipv4", "ipv6"])
def standing(request: pytest.FixtureRequest) -> Iterator[Tunnel]:
    """One tunnel for each outer family, shared by the tests that leave it as it was."""
    with open_tunnel(outer=request.param, tcp=True) as tunnel:
        yield tunnel


@pytest.mark.parametrize("inner", [SERVER_IPV4, SERVER_IPV6], ids=["in4", "in6"])
class TestTraffic:
    @pytest.mark.parametrize("size", [56, 1372, 3000])
    def test_ping_both_ways(self, standing: Tunnel, inner: str, size: int) -> None:
        backward = standing.client.ipv4 if inner == SERVER_IPV4 else standing.client.ipv6
        quick = ("-w", "3")
        ping(standing.client.namespace, inner, count=100, size=size, interval_s=0, options=quick)
        ping(standing.server.namespace, backward, count=100, size=size, interval_s=0, options=quick)

    @pytest.mark.parametrize("reverse", [False, True], ids=["up", "down"])
    @pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
    def test_iperf3(self, standing: Tunnel, inner: str, udp: bool, reverse: bool) -> None:
        server, client = standing.server.namespace, standing.client.namespace
        report = iperf3(server, client, inner, udp=udp, reverse=reverse, megabytes=4)
        assert report["end"]["sum_received" if not udp else "sum"]["bytes"] > 0
        assert standing.pair.at_server.stats().rx_decrypt_errors == 0


@pytest.mark.parametrize("reverse", [False, True], ids=["up", "down"])
def test_four_streams(standing: Tunnel, reverse: bool) -> None:
    server, client = standing.server.namespace, standing.client.namespace
    iperf3(server, client, SERVER_IPV4, reverse=reverse, options=("-P", "4"))
    stats = standing.client.device.stats()
    assert stats.tcp_receive_packets > stats.tcp_receives, "reads are coalesced"
    assert stats.tcp_send_packets > stats.tcp_sends, "writes are gathered"
    assert stats.udp_receive_packets == stats.udp_send_packets == 0


# Listeners


class Server:
    """The server of some spokes that listens, and makes a peer of each client that speaks."""

    def __init__(self, tunnel: Tunnel, stack: contextlib.ExitStack) -> None:
        self.tunnel = tunnel
        self.site = tunnel.server
        self.site.device.control.receive()
        for pair in tunnel.pairs:
            pair.at_server.delete()
            pair.at_client.delete()
        self.site.events(PeerDeleted, len(tunnel.pairs))
        sock = stack.enter_context(self.site.namespace.socket(socket.AF_INET, socket.SOCK_STREAM))
        sock.bind(("0.0.0.0", DOOR))
        sock.listen(100)
        self.listener = self.site.device.listen_tcp(sock)

    def greet(self, number: int) -> Pair:
        """Spoke `number` connects and speaks; both ends get a peer and a key."""
        client, link = self.tunnel.clients[number], self.tunnel.topology.links[number]
        with client.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(20)
            sock.connect((link.left_ipv4, DOOR))
            name = sock.getsockname()
            transport = client.device.attach_tcp(sock)
        transport.send_control(RESET)
        (packet,) = eventually(self.site.device.control.receive, what="a control packet")
        assert (packet.data, packet.remote) == (RESET, name)
        assert packet.transport
        packet.transport.send_control(b"\x40 welcome")
        (answer,) = eventually(client.device.control.receive, what="an answer")
        assert answer.data == b"\x40 welcome"
        assert answer.transport is transport
        pair = Pair(
            self.site.device.add_peer(
                client.number, packet.transport, vpn_ipv4=client.ipv4, vpn_ipv6=client.ipv6
            ),
            client.device.add_peer(client.number, transport),
        )
        # The client first, so that it may send before the server has the key.
        pair.install(KeySlot.PRIMARY, 0)
        self.tunnel.pairs[number] = pair
        return pair


@WORKERS
def test_a_listener_and_several_clients(make_tunnel, workers: int) -> None:
    """They come, talk all at once, one comes again, and one leaves."""
    tunnel: Tunnel = make_tunnel(spokes=3, server={"workers": workers})
    with contextlib.ExitStack() as stack:
        server = Server(tunnel, stack)
        for number in range(3):
            server.greet(number)
        floods = [RunningPing(client.namespace, SERVER_IPV4) for client in tunnel.clients]
        for client in tunnel.clients:
            iperf3(tunnel.server.namespace, client.namespace, SERVER_IPV6, megabytes=4)
        for flood in floods:
            flood.stop_without_loss()
        # The second comes again, over a new connection.
        old = tunnel.pairs[1]
        old.at_client.transport.close()
        (gone,) = tunnel.server.events(PeerDeleted)
        assert gone.peer_id == old.at_server.peer_id
        assert gone.reason is DeleteReason.TRANSPORT_DISCONNECT
        server.greet(1)
        for client in tunnel.clients:
            ping(client.namespace, SERVER_IPV4, size=3000)
            ping(tunnel.server.namespace, client.ipv6)
        info = server.listener.info()
        assert (info.accepted, info.trials, info.refused, info.expired) == (4, 0, 0, 0)
        assert not any(tunnel.server.device.stats().drops.values())


@WORKERS
def test_one_device_with_everything(workers: int) -> None:
    """Peers over UDP and TCP, over IPv4 and IPv6, at the same time."""
    with open_tunnel(spokes=4, host="::", workers=workers) as tunnel:
        for number, (kind, outer) in enumerate(
            ((join, "ipv4"), (join, "ipv6"), (join_tcp, "ipv4"), (join_tcp, "ipv6"))
        ):
            client, link = tunnel.clients[number], tunnel.topology.links[number]
            tunnel.pairs[number].at_server.delete()
            tunnel.pairs[number].at_client.delete()
            tunnel.pairs[number] = kind(tunnel.server, client, link, outer=outer)
        floods = [RunningPing(client.namespace, SERVER_IPV4) for client in tunnel.clients]
        for client in tunnel.clients:
            for reverse in (False, True):
                iperf3(
                    tunnel.server.namespace,
                    client.namespace,
                    SERVER_IPV6,
                    megabytes=2,
                    reverse=reverse,
                )
        for flood in floods:
            flood.stop_without_loss()
        for pair in tunnel.pairs:
            stats = pair.at_server.stats()
            assert stats.vpn_rx_packets > 100
            assert stats.vpn_tx_packets > 100
            assert stats.float_count == 0
        stats = tunnel.server.device.stats()
        assert stats.udp_receive_packets > 200
        assert stats.tcp_receive_packets > 200


# Changes under traffic


@WORKERS
def test_keys_roll_under_traffic(make_tunnel, workers: int) -> None:
    """Both ends change at different moments, and nothing is lost."""
    tunnel: Tunnel = make_tunnel(tcp=True, workers=workers)
    up = RunningPing(tunnel.client.namespace, SERVER_IPV4, interval_s=0.002)
    down = RunningPing(tunnel.server.namespace, tunnel.client.ipv4, interval_s=0.002)
    for number in range(1, 30):
        tunnel.pair.install(KeySlot.SECONDARY, number % 8)
        tunnel.pair.at_server.swap_keys()
        ping(tunnel.client.namespace, SERVER_IPV6, count=2)
        tunnel.pair.at_client.swap_keys()
        # A stream has no overtaking: behind this nothing of the key before is on the way.
        ping(tunnel.client.namespace, SERVER_IPV6)
    up.stop_without_loss()
    down.stop_without_loss()
    for site in tunnel.sites:
        assert not any(site.device.stats().drops.values())


@WORKERS
def test_a_peer_is_deleted_under_a_flood(make_tunnel, workers: int) -> None:
    """And comes again on the same connection, which stays."""
    tunnel: Tunnel = make_tunnel(tcp=True, workers=workers)
    server, client = tunnel.server, tunnel.client
    floods = [
        RunningPing(client.namespace, SERVER_IPV4, interval_s=0),
        RunningPing(server.namespace, client.ipv4, interval_s=0),
    ]
    transport = tunnel.pair.at_server.transport
    for number in range(5):
        peer = tunnel.pair.at_server
        eventually(lambda: peer.stats().vpn_rx_packets > 100, what="traffic")  # noqa: B023
        peer.delete()
        (gone,) = server.events(PeerDeleted)
        assert (gone.generation, gone.reason) == (peer.ref[1], DeleteReason.USERSPACE)
        again = server.device.add_peer(
            client.number, transport, vpn_ipv4=client.ipv4, vpn_ipv6=client.ipv6
        )
        tunnel.pairs[0] = Pair(again, tunnel.pair.at_client)
        tunnel.pair.install(KeySlot.PRIMARY, number)
    for flood in floods:
        flood.stop()
    ping(client.namespace, SERVER_IPV4)
    assert not transport.info().failed


def stranger(tunnel: Tunnel, number: int) -> tuple[socket.socket, dco.Peer, Forge]:
    """A plain socket in a spoke as the other end of peer 77, which owns 10.9.0.77."""
    server, spoke = tunnel.server, tunnel.clients[number]
    near, far = connect(server.namespace, spoke.namespace, tunnel.topology.links[number])
    with near:
        peer = server.device.add_peer(77, server.device.attach_tcp(near), vpn_ipv4="10.9.0.77")
    forge = Forge(77)
    peer.install_key(KeySlot.PRIMARY, forge.key())
    return far, peer, forge


def frames_of(sock: socket.socket, count: int) -> Iterator[bytes]:
    """The next so many frames, read exactly."""

    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = sock.recv(size - len(data))
            assert part, "end of stream"
            data += part
        return data

    for _ in range(count):
        yield exactly(struct.unpack("!H", exactly(2))[0])


@contextlib.contextmanager
def flood(namespace: Namespace, address: str) -> Iterator[None]:
    """Large datagrams without end, to whom nobody listens."""
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.001):
            for _ in range(50):
                with contextlib.suppress(BlockingIOError):
                    sock.sendto(bytes(1300), (address, 9))

    with namespace.socket() as sock:
        sock.setblocking(False)
        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield
        finally:
            stop.set()
            sender.join()


@WORKERS
def test_one_who_does_not_read_costs_others_nothing(make_tunnel, workers: int) -> None:
    tunnel: Tunnel = make_tunnel(spokes=2, tcp=True, workers=workers)
    server, first = tunnel.server, tunnel.clients[0]
    far, peer, forge = stranger(tunnel, 1)
    with far:
        with flood(server.namespace, "10.9.0.77"):
            others = RunningPing(first.namespace, SERVER_IPV4, interval_s=0.005)
            eventually(
                lambda: server.device.stats().drops[DropReason.TX_BACKLOG] > 1000,
                what="a full queue",
            )
            iperf3(server.namespace, first.namespace, SERVER_IPV4, megabytes=8)
            iperf3(server.namespace, first.namespace, SERVER_IPV4, megabytes=8, reverse=True)
            assert others.stop_without_loss().received > 10
        drops = server.device.stats().drops
        assert peer.transport.info().waiting <= (512 + 64 + 64) << 10
        assert sum(drops.values()) == drops[DropReason.TX_BACKLOG]
        # When it reads at last, every frame is whole and in order.
        sent = peer.stats().link_tx_packets
        ids = [forge.open(packet).packet_id for packet in frames_of(far, sent)]
        assert len(ids) == sent
        assert ids == sorted(set(ids))
        assert peer.transport.info().waiting == 0


def test_what_is_on_the_wire(make_tunnel) -> None:
    """Two bytes of length and the packet, again and again: with the ids from 1, none left out."""
    tunnel: Tunnel = make_tunnel()
    far, _, forge = stranger(tunnel, 0)
    with far:
        options = ("-I", SERVER_IPV4, "-W", "0.1")
        running = RunningPing(tunnel.server.namespace, "10.9.0.77", options=options)
        opened = [forge.open(packet) for packet in frames_of(far, 100)]
        running.stop()
        assert [packet.packet_id for packet in opened] == list(range(1, 101))
        for packet in opened:
            assert packet.peer_id == 77
            assert packet.payload[9] == socket.IPPROTO_ICMP
            assert packet.payload[16:20] == socket.inet_aton("10.9.0.77")
        # And back: an answer in two parts.
        request = opened[0].payload
        reply = bytearray(request)
        reply[12:16], reply[16:20] = request[16:20], request[12:16]
        data = frame(forge.seal(bytes(reply)))
        before = tunnel.server.device.stats().tun_write_packets
        far.sendall(data[:1])
        far.sendall(data[1:])
        eventually(lambda: tunnel.server.device.stats().tun_write_packets == before + 1)


# Ends


def test_a_path_that_is_cut(make_tunnel) -> None:
    """No packet says so, but silence does; the connection lives, and the path comes back."""
    tunnel: Tunnel = make_tunnel(tcp=True)
    server, link = tunnel.server, tunnel.topology.link
    ping(tunnel.client.namespace, SERVER_IPV4)
    peer, transport = tunnel.pair.at_server, tunnel.pair.at_server.transport
    peer.set_keepalive(interval_s=1, timeout_s=2)
    tunnel.client.namespace.set_up(link.right_name, up=False)
    (gone,) = server.events(PeerDeleted)
    assert gone.reason is DeleteReason.EXPIRED
    assert not transport.info().failed
    tunnel.client.namespace.set_up(link.right_name)
    client = tunnel.client
    again = server.device.add_peer(
        client.number, transport, vpn_ipv4=client.ipv4, vpn_ipv6=client.ipv6
    )
    tunnel.pairs[0] = Pair(again, tunnel.pair.at_client)
    tunnel.pair.install(KeySlot.PRIMARY, 1)
    ping(client.namespace, SERVER_IPV4)


@pytest.mark.parametrize("end", ["process killed", "reset", "half close"])
def test_the_end_of_the_other_side(make_tunnel, end: str) -> None:
    """Told once, whatever it is; others stay."""
    tunnel: Tunnel = make_tunnel(spokes=2, tcp=True)
    server, spoke, link = tunnel.server, tunnel.clients[1], tunnel.topology.links[1]
    running = RunningPing(tunnel.clients[0].namespace, SERVER_IPV4)
    eventually(lambda: tunnel.pair.at_server.stats().vpn_rx_packets > 5, what="pings")
    if end == "process killed":
        killed(server, spoke, link)
    else:
        far, _, _ = stranger(tunnel, 1)
        if end == "reset":
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
        else:
            far.shutdown(socket.SHUT_WR)
    (gone, failed) = both_events(server)
    assert (gone.peer_id, gone.reason) == (77, DeleteReason.TRANSPORT_DISCONNECT)
    assert failed.transport
    assert failed.transport.info().failed
    failed.transport.close()
    running.stop_without_loss()
    ping(tunnel.clients[0].namespace, SERVER_IPV4)


def both_events(server: Site) -> tuple[PeerDeleted, TransportFailed]:
    found: list[dco.Event] = []
    eventually(
        lambda: found.extend(server.device.poll_events(timeout_s=0.2)) or len(found) >= 2,
        what="two events",
    )
    (gone,) = (event for event in found if isinstance(event, PeerDeleted))
    (failed,) = (event for event in found if isinstance(event, TransportFailed))
    return gone, failed


def killed(server: Site, spoke: Site, link: Link) -> None:
    """A process of its own has the other end, and is killed with all that it has."""
    with server.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((link.left_ipv4, 0))
        listener.listen()
        port = listener.getsockname()[1]
        program = (
            "import socket, time\n"
            f"sock = socket.create_connection(({link.left_ipv4!r}, {port}))\n"
            "time.sleep(60)\n"
        )
        process = spoke.namespace.popen([sys.executable, "-c", program])
        listener.settimeout(20)
        near, _ = listener.accept()
    with near:
        server.device.add_peer(77, server.device.attach_tcp(near), vpn_ipv4="10.9.0.77")
    process.kill()
    process.wait()


def test_connections_outlive_the_namespace_of_their_making() -> None:
    """Descriptors hold it: traffic goes on when nothing else does."""
    with Topology() as topology:
        near, far = connect(topology.left, topology.right, topology.link)
        with near, far, contextlib.ExitStack() as stack:
            devices = []
            for namespace, name in ((topology.left, "ovpn1"), (topology.right, "ovpn2")):
                device = dco.Device.open(name, mode=dco.Mode.P2P, netns=namespace.fd)
                devices.append(stack.enter_context(device))
            transports = [d.attach_tcp(s) for d, s in zip(devices, (near, far), strict=True)]
            transports[0].send_control(RESET)
            (packet,) = eventually(devices[1].control.receive, what="a control packet")
            assert packet.transport is transports[1]
