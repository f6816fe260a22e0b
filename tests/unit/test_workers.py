"""Several workers on one device, more of them than cores, with and without siblings and steering;
and the work of one worker in a single thread."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import (
    Host,
    eventually,
    forge,
    host,
    ipv4,
    key_pair,
    tunnel,
    udp_socket,
    unseal,
)

import ovpn_dco as dco
from ovpn_dco import Offload

WORKERS = 3
PEERS = 12
ROUNDS = 40
WAYS = {
    "steered": Offload.ALL,
    "hashed": Offload.ALL & ~Offload.UDP_STEERING,
    "one socket": Offload.ALL & ~Offload.UDP_SIBLINGS,
}
way = pytest.mark.parametrize("offloads", WAYS.values(), ids=WAYS.keys())
KEYS = [key_pair(seed=10 + n) for n in range(PEERS)]


def inner(n: int) -> str:
    return f"10.8.0.{n + 10}"


@contextlib.contextmanager
def crowd(offloads: Offload, workers: int = WORKERS) -> Iterator[tuple[Host, list[socket.socket]]]:
    """A server with a peer on each of many sockets."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(host(workers=workers, offloads=offloads))
        far = [stack.enter_context(udp_socket()) for _ in range(PEERS)]
        for n, sock in enumerate(far):
            peer = server.device.add_peer(
                n, server.transport, remote=sock.getsockname(), vpn_ipv4=inner(n)
            )
            peer.install_key(dco.KeySlot.PRIMARY, KEYS[n][0])
        yield server, far


def in_background(work: object) -> threading.Thread:
    thread = threading.Thread(target=work)  # type: ignore[arg-type]
    thread.start()
    return thread


@way
def test_each_peer_gets_its_packets_in_the_order_of_their_ids(offloads: Offload) -> None:
    with crowd(offloads) as (server, far):
        for round_ in range(ROUNDS):
            for n in range(PEERS):
                server.send(ipv4("10.8.0.1", inner(n), struct.pack("!II", n, round_)))
        for n, sock in enumerate(far):
            for round_ in range(ROUNDS):
                _, peer_id, packet_id, plain = unseal(KEYS[n][1], sock.recv(2048))
                assert (peer_id, packet_id) == (n, round_ + 1)
                assert plain[20:] == struct.pack("!II", n, round_)
        assert not any(server.device.stats().drops.values())


@way
def test_what_peers_send_arrives_whoever_receives_it(offloads: Offload) -> None:
    with crowd(offloads) as (server, far):

        def send() -> None:
            for round_ in range(1, ROUNDS + 1):
                for n, sock in enumerate(far):
                    plain = ipv4(inner(n), "10.8.0.1", struct.pack("!II", n, round_))
                    sock.sendto(forge(KEYS[n][1], round_, plain, peer_id=n), server.address)

        sender = in_background(send)
        order = defaultdict(list)
        for _ in range(PEERS * ROUNDS):
            n, round_ = struct.unpack("!II", server.receive()[20:])
            order[n].append(round_)
        sender.join()
        # One socket keeps a peer's order, one worker opens for it: nothing overtakes.
        assert order == {n: list(range(1, ROUNDS + 1)) for n in range(PEERS)}
        stats = server.device.stats()
        assert not any(stats.drops.values())
        if offloads & Offload.UDP_SIBLINGS and offloads & Offload.UDP_STEERING:
            assert stats.handed_to_open == 0
        if not offloads & Offload.UDP_SIBLINGS:
            others = sum(n % WORKERS != 0 for n in range(PEERS))
            assert stats.handed_to_open == others * ROUNDS


@pytest.mark.parametrize("_round", range(8))
def test_a_halt_loses_nothing_between_workers(_round: int) -> None:
    """What was read from a socket or the TUN is in no queue of the kernel any more."""
    with crowd(Offload.ALL & ~Offload.UDP_SIBLINGS) as (server, far):
        for number in range(1, ROUNDS + 1):
            for n, sock in enumerate(far):
                plain = ipv4(inner(n), "10.8.0.1", b"in")
                sock.sendto(forge(KEYS[n][1], number, plain, peer_id=n), server.address)
                server.send(ipv4("10.8.0.1", inner(n), b"out"))
        server.device.export_state()
        stats, table = server.device.stats(), server.device.stats_table()
        assert stats.handed_to_open > 0
        # Nobody reads the inner side here, so that some find no room there.
        backlog = stats.drops[dco.DropReason.RX_TUN_BACKLOG]
        assert sum(table["vpn_rx_packets"]) + backlog == stats.udp_receive_packets
        assert sum(table["vpn_tx_packets"]) == stats.tun_read_packets
        assert sum(stats.drops.values()) == backlog


@way
def test_offloads_tell_what_is_in_effect(offloads: Offload) -> None:
    with host(workers=WORKERS, offloads=offloads) as server:
        both = Offload.UDP_SIBLINGS | Offload.UDP_STEERING
        expected = offloads & both if offloads & Offload.UDP_SIBLINGS else Offload.NONE
        assert server.device.offloads.active & both == expected
        sockets = WORKERS if offloads & Offload.UDP_SIBLINGS else 1
        assert server.transport.info().sockets == sockets


def test_one_worker_has_nothing_to_steer() -> None:
    with host(workers=1) as server:
        both = Offload.UDP_SIBLINGS | Offload.UDP_STEERING
        assert not server.device.offloads.active & both
        assert server.transport.info().sockets == 1


def test_steering_is_switched_while_traffic_flows() -> None:
    with crowd(Offload.ALL) as (server, far):
        for round_ in range(1, 9):
            steering = Offload.UDP_STEERING if round_ % 2 else Offload.NONE
            server.device.set_offloads(Offload.ALL & ~Offload.UDP_STEERING | steering)
            for n, sock in enumerate(far):
                plain = ipv4(inner(n), "10.8.0.1", struct.pack("!I", round_))
                sock.sendto(forge(KEYS[n][1], round_, plain, peer_id=n), server.address)
            for _ in range(PEERS):
                assert server.receive()[20:] == struct.pack("!I", round_)


def test_a_socket_in_a_group_of_its_owner_stays_alone() -> None:
    with host(workers=WORKERS) as server, socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        transport = server.device.attach_udp(sock)
        assert transport.info().sockets == 1


def test_siblings_go_with_the_transport() -> None:
    with host(workers=WORKERS) as server:
        fds = len(os.listdir("/proc/self/fd"))
        with udp_socket() as sock:
            sock_fds = len(os.listdir("/proc/self/fd"))
            transport = server.device.attach_udp(sock)
            assert transport.info().sockets == WORKERS
            assert len(os.listdir("/proc/self/fd")) == sock_fds + WORKERS
            transport.detach()
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
            # Alone on the port again: everything arrives here.
            with udp_socket() as other:
                for n in range(32):
                    other.sendto(bytes([n]), sock.getsockname())
                assert [sock.recv(16) for n in range(32)] == [bytes([n]) for n in range(32)]
        assert len(os.listdir("/proc/self/fd")) == fds


def test_control_packets_keep_their_order_across_workers() -> None:
    with host(workers=WORKERS) as server, contextlib.ExitStack() as stack:
        senders = [stack.enter_context(udp_socket()) for _ in range(6)]
        for n in range(120):
            # The first word decides the socket: 38 is P_CONTROL_HARD_RESET_CLIENT_V2.
            packet = struct.pack("!BBBBI", 0x38, 0, 0, n, n)
            senders[n % 6].sendto(packet, server.address)
            if n % 6 == 5:
                eventually(lambda n=n: server.device.stats().control_packets == n + 1)
        packets = server.control(120)
        assert [p.sequence for p in packets] == sorted(p.sequence for p in packets)
        rounds = [struct.unpack("!I", p.data[4:])[0] // 6 for p in packets]
        assert rounds == sorted(rounds)


def test_a_full_hand_off_is_counted() -> None:
    """One socket, everything for another worker's peers, faster than it is worked off: each packet
    is delivered or counted."""
    with crowd(WAYS["one socket"], workers=2) as (server, far):
        total = 6000
        plain = ipv4(inner(1), "10.8.0.1", bytes(1300))
        packets = [forge(KEYS[1][1], n, plain, peer_id=1) for n in range(1, total + 1)]
        for packet in packets:
            far[1].sendto(packet, server.address)

        def accounted() -> bool:
            stats = server.device.stats()
            peer = server.device.peers[1].stats()
            overflow = server.transport.info().receive_overflows
            dropped = sum(stats.drops.values())
            return peer.vpn_rx_packets + dropped + overflow == total

        server.app.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while server.receive():
                pass
        eventually(accounted)


# Single thread


def engine_threads() -> list[str]:
    names = (p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm"))
    return sorted(name for name in names if name.startswith("dco-"))


def test_a_single_thread_does_everything() -> None:
    with tunnel(single_thread=True) as ends:
        assert engine_threads() == ["dco-receive"] * 2
        pair = ends.install()
        for n in range(200):
            ends.up(b"up %d" % n)
            ends.down(b"down %d" % n)
        ends.server_peer.set_keepalive(interval_s=1, timeout_s=0)
        eventually(lambda: ends.client_peer.stats().keepalive_rx >= 1)
        ends.client_peer.install_key(dco.KeySlot.SECONDARY, key_pair(1)[0])
        assert pair[0].key_id == 0
        assert ends.server.device.stats().retired == 0


def test_one_core_means_one_thread() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        with host(workers=None) as server:
            assert engine_threads() == ["dco-receive"]
            assert not server.device.closed
        with host(single_thread=False, workers=1):
            assert engine_threads() == ["dco-receive", "dco-transmit"]
    finally:
        os.sched_setaffinity(0, allowed)


def test_threads_of_workers() -> None:
    with host(workers=4):
        assert engine_threads() == ["dco-receive"] * 4 + ["dco-transmit"] * 4
    assert engine_threads() == []


@pytest.mark.parametrize("workers", [1, 2, 16])
def test_tunnels_of_any_number_of_workers(workers: int) -> None:
    with tunnel(workers=workers) as ends:
        ends.install()
        for n in range(50):
            ends.up(b"up %d" % n)
            ends.down(b"down %d" % n)
        ends.server_peer.delete()
        deleted = ends.server.event(dco.PeerDeleted)
        assert deleted.stats.vpn_rx_packets == 50
