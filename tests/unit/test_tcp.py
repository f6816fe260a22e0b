"""TCP transports on loopback: framing, binding, back-pressure, ends, listeners."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from loopback import (
    ANYWHERE,
    PATIENCE_S,
    Host,
    eventually,
    forge,
    host,
    ipv4,
    key_pair,
    refused,
    udp_socket,
    unseal,
)

import ovpn_dco as dco
from ovpn_dco import DeleteReason, DropReason, KeySlot, Mode, TransportKind

RESET = b"\x38" + bytes(13)  # P_CONTROL_HARD_RESET_CLIENT_V2
PAIR = key_pair()


def frame(packet: bytes) -> bytes:
    return struct.pack("!H", len(packet)) + packet


def read_frame(sock: socket.socket) -> bytes:
    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = sock.recv(size - len(data))
            assert part, "end of stream"
            data += part
        return data

    return exactly(struct.unpack("!H", exactly(2))[0])


def connection(family: int = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    """Both ends of a loopback connection: the one that connected, and the one accepted."""
    with socket.create_server(("127.0.0.1" if family == socket.AF_INET else "::1", 0),
                              family=family) as server:  # fmt: skip
        far = socket.create_connection(server.getsockname()[:2])
        near, _ = server.accept()
    far.settimeout(PATIENCE_S)
    return far, near


@dataclass
class Line:
    """A server whose peer 7 is at the far end of a TCP connection."""

    host: Host
    far: socket.socket
    transport: dco.Transport
    peer: dco.Peer

    def sends(self, packet_id: int, payload: bytes = b"up", **more: Any) -> bytes:
        return forge(PAIR[1], packet_id, ipv4("10.8.0.2", "10.8.0.1", payload), **more)

    def down(self, payload: bytes = b"down") -> None:
        self.host.send(ipv4("10.8.0.1", "10.8.0.2", payload))


@contextlib.contextmanager
def line(
    *, family: int = socket.AF_INET, near_options: Any = None, **options: Any
) -> Iterator[Line]:
    far, near = connection(family)
    with host(**options) as server, far, near:
        transport = server.device.attach_tcp(near, **(near_options or {}))
        peer = server.device.add_peer(7, transport, vpn_ipv4="10.8.0.2")
        peer.install_key(KeySlot.PRIMARY, PAIR[0])
        yield Line(server, far, transport, peer)


# Traffic


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_packets_both_ways(family: int) -> None:
    with line(family=family) as ends:
        for n in range(1, 20):
            ends.far.sendall(frame(ends.sends(n, b"up %d" % n)))
            assert ends.host.receive()[20:] == b"up %d" % n
            ends.down(b"down %d" % n)
            assert unseal(PAIR[1], read_frame(ends.far))[2:] == (
                n,
                ipv4("10.8.0.1", "10.8.0.2", b"down %d" % n),
            )
        eventually(lambda: ends.host.device.stats().tcp_send_packets == 19)
        info = ends.peer.info()
        assert info.remote == (ends.far.getsockname()[:2] if family == socket.AF_INET
                               else ends.far.getsockname())  # fmt: skip
        stats = info.stats
        # The prefix is the transport's, not the packet's.
        size = len(ends.sends(1, b"up 1"))
        assert stats.link_rx_bytes == sum(len(ends.sends(n, b"up %d" % n)) for n in range(1, 20))
        assert stats.link_rx_packets == stats.link_tx_packets == 19
        assert stats.vpn_rx_bytes == stats.link_rx_bytes - 24 * 19
        assert size == 24 + 20 + 4
        device = ends.host.device.stats()
        assert device.tcp_receive_packets == device.tcp_send_packets == 19


@pytest.mark.parametrize("seed", range(5))
def test_any_split_of_the_stream_gives_the_same_packets(seed: int) -> None:
    chance = random.Random(seed)
    with line() as ends:
        payloads = [chance.randbytes(chance.choice([0, 1, 100, 1400, 9000])) for _ in range(60)]
        stream = b"".join(frame(ends.sends(n, p)) for n, p in enumerate(payloads, 1))
        sent = received = 0
        ends.far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while received < len(payloads):
            if sent < len(stream):
                size = chance.choice([1, 2, 3, 700, 5000, 40000])
                ends.far.sendall(stream[sent : sent + size])
                sent += size
            while received < len(payloads) and select.select([ends.host.app], [], [], 0)[0]:
                assert ends.host.receive()[20:] == payloads[received]
                received += 1
        assert not ends.host.drops()


def test_a_byte_at_a_time() -> None:
    with line() as ends:
        ends.far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for n in range(1, 4):
            for byte in frame(ends.sends(n)):
                ends.far.sendall(bytes([byte]))
                time.sleep(0.0002)
            assert ends.host.receive()[20:] == b"up"


def test_the_largest_frames() -> None:
    with line() as ends:
        largest = 65535 - 24
        plain = ipv4("10.8.0.2", "10.8.0.1", bytes(largest - 20))
        for n in (1, 2, 3):
            ends.far.sendall(frame(forge(PAIR[1], n, plain)))
            assert ends.host.receive() == plain
        back = ipv4("10.8.0.1", "10.8.0.2", bytes(largest - 20))
        ends.host.send(back)
        assert unseal(PAIR[1], read_frame(ends.far))[3] == back
        ends.host.send(ipv4("10.8.0.1", "10.8.0.2", bytes(largest - 19)))
        eventually(lambda: ends.host.drops() == {DropReason.TX_TOO_BIG: 1})


def test_the_socket_names_the_peer_whatever_the_packet_says() -> None:
    with line() as ends:
        ends.far.sendall(frame(ends.sends(1, peer_id=99)))
        assert ends.host.receive()[20:] == b"up"


def test_udp_and_tcp_peers_of_both_families_on_one_device() -> None:
    with line() as ends, contextlib.ExitStack() as stack:
        device = ends.host.device
        far6, near6 = connection(socket.AF_INET6)
        stack.enter_context(far6)
        stack.enter_context(near6)
        udp = stack.enter_context(udp_socket())
        peers = {
            8: (device.add_peer(8, device.attach_tcp(near6), vpn_ipv4="10.8.0.8"), far6),
            9: (
                device.add_peer(
                    9, ends.host.transport, remote=udp.getsockname(), vpn_ipv4="10.8.0.9"
                ),
                udp,
            ),
        }
        for number, (peer, sock) in peers.items():
            peer.install_key(KeySlot.PRIMARY, PAIR[0])
            plain = ipv4(f"10.8.0.{number}", "10.8.0.1")
            packet = forge(PAIR[1], 1, plain, peer_id=number)
            if sock is udp:
                sock.sendto(packet, ends.host.address)
            else:
                sock.sendall(frame(packet))
            assert ends.host.receive() == plain
            back = ipv4("10.8.0.1", f"10.8.0.{number}")
            ends.host.send(back)
            got = udp.recv(2048) if sock is udp else read_frame(sock)
            assert unseal(PAIR[1], got)[3] == back
        ends.down()
        assert unseal(PAIR[1], read_frame(ends.far))[3][20:] == b"down"
        assert peers[9][0].transport is ends.host.transport
        assert ends.peer.transport is ends.transport


def test_keepalive_and_expiry() -> None:
    with line() as ends:
        ends.peer.set_keepalive(interval_s=1, timeout_s=2)
        assert unseal(PAIR[1], read_frame(ends.far))[3] == bytes.fromhex(
            "2a187bf3641eb4cb07ed2d0a981fc748"
        )
        deleted = ends.host.event(dco.PeerDeleted)
        assert deleted.reason is DeleteReason.EXPIRED
        assert not ends.transport.closed
        # The connection stays, and may have another peer.
        again = ends.host.device.add_peer(8, ends.transport, vpn_ipv4="10.8.0.2")
        again.install_key(KeySlot.PRIMARY, PAIR[0])
        ends.far.sendall(frame(ends.sends(50)))
        assert ends.host.receive()[20:] == b"up"


def test_a_message_of_the_peer_comes_up_with_the_connection() -> None:
    with line() as ends:
        ends.far.sendall(frame(forge(PAIR[1], 1, b"hello")))
        (packet,) = ends.host.control()
        assert (packet.data, packet.peer_id, packet.transport) == (b"hello", 7, ends.transport)


# Control packets


def test_control_packets_both_ways() -> None:
    with line() as ends:
        ends.far.sendall(frame(RESET) + frame(RESET + b"2"))
        first, second = ends.host.control(2)
        assert (first.data, second.data) == (RESET, RESET + b"2")
        assert first.transport is ends.transport
        assert first.remote == ends.far.getsockname()
        assert first.local == ends.far.getpeername()
        assert first.peer_id is None
        ends.transport.send_control(b"\x40answer")
        assert read_frame(ends.far) == b"\x40answer"


def test_bad_arguments_of_send_control() -> None:
    with line() as ends:
        send = ends.transport.send_control
        refused(dco.InvalidArgument, "remote", lambda: send(b"x", ("127.0.0.1", 1)))
        refused(dco.InvalidArgument, "remote", lambda: send(b"x", None, ("127.0.0.1", 1)))
        refused(dco.InvalidArgument, "data", lambda: send(b""))
        refused(dco.MessageTooBig, "data", lambda: send(bytes(65535)))
        send(bytes(65534))
        assert read_frame(ends.far) == bytes(65534)


def fill(ends: Line) -> int:
    """Data until nothing more is taken; how many packets were sealed."""
    sent = 0
    while not ends.host.drops().get(DropReason.TX_BACKLOG):
        for _ in range(50):
            ends.down(struct.pack("!I", sent) + bytes(1396))
            sent += 1
    eventually(lambda: ends.peer.stats().vpn_tx_packets == sent)
    return sent


def test_a_slow_reader_gets_control_first_and_every_frame_whole() -> None:
    with line(near_options={"send_buffer": 65536}) as ends:
        sealed = fill(ends)
        assert ends.transport.info().waiting > 0
        for n in range(10):
            ends.transport.send_control(b"\x40control %d" % n)
        dropped = ends.host.drops()[DropReason.TX_BACKLOG]
        seen, control, behind = [], [], 0
        while len(seen) < sealed - dropped or len(control) < 10:
            packet = read_frame(ends.far)
            if packet[0] >> 3 == 8:
                control.append(packet)
            else:
                seen.append(unseal(PAIR[1], packet)[2])
                behind += len(control) == 10
        assert control == [b"\x40control %d" % n for n in range(10)]
        # In the order of sending it would be none; how many wait here is the kernel's affair.
        assert behind > 10, "control packets overtook what waited"
        assert seen == sorted(seen)
        assert len(set(seen)) == len(seen) == ends.peer.stats().link_tx_packets
        assert ends.transport.info().waiting == 0


def test_control_packets_have_a_bound_of_their_own() -> None:
    with line(near_options={"send_buffer": 65536}) as ends:
        fill(ends)
        sent = 0
        with contextlib.suppress(dco.TryAgain):
            while sent < 10000:
                ends.transport.send_control(b"\x40" + bytes(999))
                sent += 1
        assert 30 <= sent <= 70  # 64 KiB of them
        control = 0
        while control < sent:
            control += read_frame(ends.far)[0] >> 3 == 8
        assert DropReason.TX_CONTROL not in ends.host.drops()
        ends.transport.send_control(b"\x40again")


# Before there is a peer


@contextlib.contextmanager
def unbound(**options: Any) -> Iterator[tuple[Host, socket.socket, dco.Transport]]:
    far, near = connection()
    with host(**options) as server, far, near:
        yield server, far, server.device.attach_tcp(near)


def test_data_that_waits_is_the_first_that_the_peer_gets() -> None:
    """Control, data, control: the first comes up at once, the others when the peer has a key."""
    with unbound() as (server, far, transport):
        plains = [ipv4("10.8.0.2", "10.8.0.1", b"%d" % n) for n in range(1, 301)]
        stream = frame(RESET)
        stream += b"".join(frame(forge(PAIR[1], n, p)) for n, p in enumerate(plains, 1))
        far.sendall(stream + frame(RESET + b"late"))
        assert [p.data for p in server.control()] == [RESET]
        time.sleep(0.05)
        assert server.quiet()
        assert not server.device.control.receive()
        peer = server.device.add_peer(7, transport, vpn_ipv4="10.8.0.2")
        time.sleep(0.02)
        assert server.quiet()
        peer.install_key(KeySlot.PRIMARY, PAIR[0])
        # Nothing twice, nothing out of order, nothing lost but what this does not read in time.
        received = []
        while not any(p.data == RESET + b"late" for p in server.device.control.receive()):
            while select.select([server.app], [], [], 0.01)[0]:
                received.append(server.receive())
        while select.select([server.app], [], [], 0.05)[0]:
            received.append(server.receive())
        order = [plains.index(packet) for packet in received]
        assert order == sorted(set(order))
        assert len(order) + sum(server.drops().values()) == 300
        assert set(server.drops()) <= {DropReason.RX_TUN_BACKLOG}
        assert order[:10] == list(range(10))
        assert peer.stats().link_rx_packets == 300


def test_data_that_waited_until_the_end_is_counted() -> None:
    with unbound() as (server, far, transport):
        server.device.add_peer(7, transport, vpn_ipv4="10.8.0.2")
        frames = [frame(forge(PAIR[1], n, ipv4("10.8.0.2", "10.8.0.1"))) for n in (1, 2, 3)]
        far.sendall(frame(RESET) + b"".join(frames))
        server.control()
        eventually(lambda: server.device.stats().tcp_receives >= 1)
        time.sleep(0.02)  # for the reading to have stopped
        transport.close()
        drops = server.drops()
        assert set(drops) == {DropReason.RX_HELD}
        # Those that had come with the first read; the kernel had the others.
        assert 1 <= drops[DropReason.RX_HELD] <= 3


def test_data_of_a_connection_that_nobody_has_taken_is_counted() -> None:
    with listening(deadline_s=1) as (server, _, address), clients(address, 1) as (client,):
        client.sendall(frame(forge(PAIR[1], 1, ipv4("10.8.0.2", "10.8.0.1"))))
        eventually(lambda: server.drops().get(DropReason.RX_HELD) == 1)


def test_data_that_came_before_the_engine_started() -> None:
    with unbound(start=False) as (server, far, transport):
        plains = [ipv4("10.8.0.2", "10.8.0.1", b"%d" % n) for n in range(1, 31)]
        far.sendall(b"".join(frame(forge(PAIR[1], n, p)) for n, p in enumerate(plains, 1)))
        peer = server.device.add_peer(7, transport, vpn_ipv4="10.8.0.2")
        peer.install_key(KeySlot.PRIMARY, PAIR[0])
        server.device.start()
        assert [server.receive() for _ in plains] == plains


@pytest.mark.parametrize("size", [2040, 9000, 65535 - 24])
def test_a_packet_of_any_size_waits_for_the_key(size: int) -> None:
    with unbound() as (server, far, transport):
        peer = server.device.add_peer(7, transport, vpn_ipv4="10.8.0.2")
        plains = [ipv4("10.8.0.2", "10.8.0.1", bytes([n]) * (size - 20)) for n in range(3)]
        far.sendall(b"".join(frame(forge(PAIR[1], n, p)) for n, p in enumerate(plains, 1)))
        time.sleep(0.05)
        assert server.quiet()
        peer.install_key(KeySlot.PRIMARY, PAIR[0])
        assert [server.receive() for _ in plains] == plains
        assert not server.drops()


def test_frames_without_a_peer_are_at_most_2048_bytes() -> None:
    with unbound() as (server, far, transport):
        refused(dco.MessageTooBig, "data", lambda: transport.send_control(bytes(2049)))
        transport.send_control(bytes(2048))
        assert read_frame(far) == bytes(2048)
        far.sendall(frame(b"\x38" + bytes(2047)))
        assert len(server.control()[0].data) == 2048
        far.sendall(struct.pack("!H", 2049))
        assert server.event(dco.TransportFailed).errno != 0
        assert server.drops() == {DropReason.RX_STREAM: 1}


def test_a_closed_connection_without_a_peer_is_told() -> None:
    with unbound() as (server, far, transport):
        far.sendall(frame(RESET)[:-1])
        far.close()
        failed = server.event(dco.TransportFailed)
        assert failed.transport is transport
        refused(dco.NotASocket, "transport",
                lambda: server.device.add_peer(7, transport, vpn_ipv4="10.8.0.2"))  # fmt: skip


def test_one_peer_for_each_connection() -> None:
    with line() as ends:
        device = ends.host.device
        refused(dco.Busy, "transport",
                lambda: device.add_peer(8, ends.transport, vpn_ipv4="10.8.0.8"))  # fmt: skip
        refused(dco.InvalidArgument, "remote",
                lambda: device.add_peer(8, ends.transport, remote=ANYWHERE,
                                        vpn_ipv4="10.8.0.8"))  # fmt: skip
        refused(dco.InvalidArgument, "remote", lambda: ends.peer.set(remote=ANYWHERE))


def test_in_p2p_mode_a_peer_gives_way_on_its_connection() -> None:
    with unbound(mode=Mode.P2P) as (client, far, transport):
        client.device.add_peer(7, transport)
        second = client.device.add_peer(8, transport)
        second.install_key(KeySlot.PRIMARY, PAIR[0])
        assert client.event(dco.PeerDeleted).reason is DeleteReason.TEARDOWN
        far.sendall(frame(forge(PAIR[1], 1, ipv4("10.0.0.1", "10.0.0.2"), peer_id=8)))
        assert client.receive() == ipv4("10.0.0.1", "10.0.0.2")


# Ends


def expect_gone(ends: Line, reason: DeleteReason) -> None:
    deleted = ends.host.event(dco.PeerDeleted)
    assert (deleted.peer_id, deleted.reason) == (7, reason)
    assert ends.host.event(dco.TransportFailed).transport is ends.transport
    assert ends.transport.info().failed


def test_half_close_comes_behind_the_last_packet() -> None:
    with line() as ends:
        ends.far.sendall(b"".join(frame(ends.sends(n)) for n in range(1, 100)) + frame(RESET))
        ends.far.shutdown(socket.SHUT_WR)
        for _ in range(1, 100):
            assert ends.host.receive()[20:] == b"up"
        expect_gone(ends, DeleteReason.TRANSPORT_DISCONNECT)
        assert ends.host.control()[0].data == RESET


def test_reset() -> None:
    with line() as ends:
        ends.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ends.far.close()
        expect_gone(ends, DeleteReason.TRANSPORT_DISCONNECT)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"\0\0", DropReason.RX_STREAM),
        (frame(b"\x48"), DropReason.RX_RUNT),
        (frame(b"\x48\0\0"), DropReason.RX_RUNT),
        (frame(b"\x30" + bytes(30)), DropReason.RX_DATA_V1),
    ],
    ids=["length 0", "length 1", "length 3", "DATA_V1"],
)
def test_a_broken_stream_ends_the_peer(stream: bytes, reason: DropReason) -> None:
    with line() as ends:
        ends.far.sendall(frame(ends.sends(1)) + stream + frame(ends.sends(2)))
        assert ends.host.receive()[20:] == b"up"
        expect_gone(ends, DeleteReason.TRANSPORT_ERROR)
        assert ends.host.drops() == {reason: 1}
        assert ends.host.quiet()


def test_what_fails_to_authenticate_ends_nothing() -> None:
    with line() as ends:
        bad = bytearray(ends.sends(1))
        bad[30] ^= 1
        ends.far.sendall(frame(bytes(bad)) + frame(ends.sends(2)) + frame(ends.sends(2)))
        assert ends.host.receive()[20:] == b"up"
        eventually(lambda: ends.host.drops() == {DropReason.RX_DECRYPT: 1, DropReason.RX_REPLAY: 1})
        assert not ends.transport.info().failed


def test_detach_gives_the_connection_back() -> None:
    with line() as ends:
        names = [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY),
            (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT),
            (socket.SOL_SOCKET, socket.SO_RCVLOWAT),
        ]
        far, near = connection()
        with far, near:
            before = [near.getsockopt(*name) for name in names]
            transport = ends.host.device.attach_tcp(near)
            assert [near.getsockopt(*name) for name in names] != before
            refused(dco.Busy, "sock", lambda: ends.host.device.attach_tcp(near))
            transport.detach()
            assert [near.getsockopt(*name) for name in names] == before
            far.sendall(b"as before")
            assert near.recv(100) == b"as before"
            near.sendall(b"and back")
            assert far.recv(100) == b"and back"


def test_closing_the_transport_ends_peer_and_connection() -> None:
    far, near = connection()
    with host() as server, far:
        transport = server.device.attach_tcp(near)
        near.close()
        server.device.add_peer(7, transport, vpn_ipv4="10.8.0.2")
        transport.close()
        assert server.event(dco.PeerDeleted).reason is DeleteReason.TRANSPORT_DISCONNECT
        assert far.recv(10) == b""


def test_a_peer_deleted_while_its_connection_is_full() -> None:
    with line(near_options={"send_buffer": 65536}) as ends:
        fill(ends)
        ends.peer.delete()
        assert ends.host.event(dco.PeerDeleted).reason is DeleteReason.USERSPACE
        # What was sealed for it still goes out; data that comes in has no peer.
        ends.far.sendall(frame(ends.sends(1)) + frame(RESET))
        assert ends.host.control()[0].data == RESET
        assert ends.host.drops()[DropReason.RX_UNKNOWN_PEER] == 1
        while ends.transport.info().waiting:
            read_frame(ends.far)
        ends.transport.close()
        assert ends.host.device.stats().transports == 1


def test_close_under_load_with_full_queues() -> None:
    for _ in range(3):
        with line(near_options={"send_buffer": 65536}) as ends:
            fill(ends)
            ends.host.device.close()


def test_bad_sockets_are_refused() -> None:
    with host() as server, contextlib.ExitStack() as stack:
        attach, listen = server.device.attach_tcp, server.device.listen_tcp
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        idle = stack.enter_context(socket.socket())
        udp = stack.enter_context(udp_socket())
        refused(dco.InvalidArgument, "sock", lambda: attach(listening))
        refused(dco.InvalidArgument, "sock", lambda: attach(idle))
        refused(dco.UnsupportedError, "sock", lambda: attach(udp))
        refused(dco.NotASocket, "sock", lambda: attach(3))  # type: ignore[arg-type]
        refused(dco.InvalidArgument, "sock", lambda: listen(idle))
        refused(dco.UnsupportedError, "sock", lambda: listen(udp))
        for name in ("trials_max", "trials_per_source_max", "deadline_s"):
            refused(dco.OutOfRange, name, lambda name=name: listen(listening, **{name: 0}))
        far, near = connection()
        stack.enter_context(near)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        refused(dco.InvalidArgument, "sock", lambda: attach(near))


# Listeners


@contextlib.contextmanager
def listening(**limits: Any) -> Iterator[tuple[Host, dco.Transport, Any]]:
    options = {name: limits.pop(name) for name in ("workers",) if name in limits}
    with host(**options) as server, socket.create_server(("127.0.0.1", 0)) as sock:
        yield server, server.device.listen_tcp(sock, **limits), sock.getsockname()


@contextlib.contextmanager
def clients(address: Any, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            sock = stack.enter_context(socket.create_connection(address))
            sock.settimeout(PATIENCE_S)
            found.append(sock)
        yield found


@pytest.mark.parametrize("workers", [1, 3])
def test_connections_become_transports_by_their_first_packet(workers: int) -> None:
    with listening(workers=workers) as (server, listener, address), clients(address, 6) as far:
        assert listener.kind is TransportKind.LISTENER
        eventually(lambda: listener.info().trials == 6)
        for n, sock in enumerate(far):
            sock.sendall(frame(RESET + bytes([n])))
            (packet,) = server.control()
            transport = packet.transport
            assert isinstance(transport, dco.Transport)
            assert (transport.kind, packet.remote) == (TransportKind.TCP, sock.getsockname())
            transport.send_control(b"\x40 welcome")
            assert read_frame(sock) == b"\x40 welcome"
            peer = server.device.add_peer(n, transport, vpn_ipv4=f"10.8.0.{n + 10}")
            peer.install_key(KeySlot.PRIMARY, PAIR[0])
            assert peer.transport is transport
            plain = ipv4(f"10.8.0.{n + 10}", "10.8.0.1")
            sock.sendall(frame(forge(PAIR[1], 1, plain, peer_id=n)))
            assert server.receive() == plain
            server.send(ipv4("10.8.0.1", f"10.8.0.{n + 10}"))
            assert unseal(PAIR[1], read_frame(sock))[1] == n
        assert listener.info().trials == 0
        assert listener.info().accepted == 6
        # Peers live on without the listener.
        listener.close()
        server.send(ipv4("10.8.0.1", "10.8.0.10", b"still"))
        assert unseal(PAIR[1], read_frame(far[0]))[3][20:] == b"still"


def closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_trials_are_bounded() -> None:
    with listening(trials_max=3) as (server, listener, address), clients(address, 5) as far:
        eventually(lambda: listener.info().refused == 2)
        assert (listener.info().accepted, listener.info().trials) == (3, 3)
        assert [closed(sock) for sock in far[3:]] == [True, True]
        far[0].sendall(frame(RESET))
        transport: Any = server.control()[0].transport
        server.device.add_peer(1, transport, vpn_ipv4="10.8.0.9")
        with clients(address, 1):
            eventually(lambda: listener.info().accepted == 4)


def test_trials_of_one_source_are_bounded() -> None:
    with listening(trials_per_source_max=2) as (_, listener, address), clients(address, 3):
        eventually(lambda: listener.info().refused == 1)
        # 127.0.1.x is another /24 than 127.0.0.x.
        with socket.create_connection(address, source_address=("127.0.1.1", 0)):
            eventually(lambda: listener.info().accepted == 3)
        with socket.create_connection(address, source_address=("127.0.0.77", 0)):
            eventually(lambda: listener.info().refused == 2)


def test_a_trial_has_a_deadline() -> None:
    with listening(deadline_s=1) as (server, listener, address), clients(address, 2) as far:
        far[1].sendall(frame(RESET))
        transport = server.control()[0].transport
        assert [closed(sock) for sock in far] == [True, True]
        info = listener.info()
        assert (info.expired, info.trials) == (2, 0)
        # Who was told of the connection is told of its end; nobody knew of the other.
        failed = server.event(dco.TransportFailed)
        assert failed.transport is transport
        assert server.device.stats().transports == 3
        transport.close()  # type: ignore[union-attr]
        eventually(lambda: server.device.stats().transports == 2)


def test_nothing_is_sent_before_the_client_speaks() -> None:
    with listening() as (server, _, address), clients(address, 1) as (sock,):
        sock.sendall(frame(RESET)[:5])
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert server.device.stats().transports == 3
        sock.sendall(frame(RESET)[5:])
        assert server.control()[0].data == RESET


def test_a_silent_client_that_leaves_leaves_nothing() -> None:
    with listening() as (server, listener, address):
        with clients(address, 4):
            eventually(lambda: listener.info().trials == 4)
        eventually(lambda: listener.info().trials == 0)
        assert server.device.stats().transports == 2
        eventually(lambda: server.device.stats().retired == 0)
        assert not server.device.poll_events()


def test_closing_the_listener_closes_what_nobody_has_taken() -> None:
    with listening() as (server, listener, address), clients(address, 3) as far:
        eventually(lambda: listener.info().trials == 3)
        listener.close()
        assert all(closed(sock) for sock in far)
        assert server.device.stats().transports == 1


def test_a_listener_has_no_peers_and_sends_nothing() -> None:
    with listening() as (server, listener, _):
        refused(dco.InvalidArgument, "transport",
                lambda: server.device.add_peer(7, listener, vpn_ipv4="10.8.0.2"))  # fmt: skip
        refused(dco.UnsupportedError, "transport", lambda: listener.send_control(b"x"))
