"""Nothing is left behind: descriptors, threads, memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import threading
from collections import Counter
from pathlib import Path

import pytest
from security.forge import opposite_keys
from system.tunnel import (
    SERVER_IPV4,
    SYSTEM,
    RunningPing,
    Tunnel,
    eventually,
    iperf3,
    listening_iperf3,
    open_tunnel,
    ping,
)

import ovpn_dco as dco
from ovpn_dco import KeySlot, PeerSpec

pytestmark = SYSTEM

libc = ctypes.CDLL(None)
PAGE = os.sysconf("SC_PAGESIZE")


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class MallocInfo(ctypes.Structure):
    """What mallinfo2(3) tells; `uordblks` is what is in use, in bytes."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]  # fmt: skip


def allocated_bytes() -> int:
    """What malloc has given out, to the byte; without what Python's own allocator keeps."""
    gc.collect()
    libc.mallinfo2.restype = MallocInfo
    return int(libc.mallinfo2().uordblks)


def trimmed_bytes() -> int:
    """Resident, after the C library has let go of what it only keeps for later."""
    gc.collect()
    libc.malloc_trim(0)
    return resident_bytes()


def descriptors() -> Counter[str]:
    """What kinds of descriptors are open, and how many of each."""
    gc.collect()
    kinds: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            kinds[re.sub(r"\d+", "N", os.readlink(f"/proc/self/fd/{name}"))] += 1
    return kinds


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_devices_come_and_go() -> None:
    """Opened, used and closed again and again; and a device that never started."""

    def once(start: bool) -> None:
        with open_tunnel(start=start) as tunnel:
            if start:
                ping(tunnel.client.namespace, SERVER_IPV4, count=2)

    for _ in range(3):
        once(True)
    once(False)
    gc.collect()
    before = descriptors(), threads(), threading.active_count()
    memory = resident_bytes()
    for _ in range(15):
        once(True)
    once(False)
    gc.collect()
    assert (descriptors(), threads(), threading.active_count()) == before
    assert resident_bytes() - memory < 8 << 20


def test_refused_openings_leave_nothing(tunnel: Tunnel) -> None:
    namespace = tunnel.server.namespace

    def refused() -> None:
        for options in (
            {"name": "ovpn1"},
            {"name": "ovpn7", "addresses": ("10.9.0.7/24", "10.9.0.7/24")},
            {"name": "ovpn7", "tun_fd": 0},
            {"name": "x" * 16},
        ):
            try:
                dco.Device.open(mode=dco.Mode.P2P, netns=namespace.fd, **options).close()
            except dco.DcoError:
                continue

    refused()
    before = descriptors(), threads()
    for _ in range(20):
        refused()
    assert (descriptors(), threads()) == before
    assert not namespace.has_interface("ovpn7")


def test_ten_thousand_peers_added_and_deleted_under_traffic(tunnel: Tunnel) -> None:
    """Each with a key, a route and its events read, while another peer's pings go on."""
    server, transport = tunnel.server.device, tunnel.server.transport
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4, interval_s=0.005)
    key, _ = opposite_keys()

    def round_of(count: int) -> None:
        specs = [
            PeerSpec(
                peer_id=1000 + number,
                transport=transport,
                remote=("10.98.0.99", 1 + number),
                vpn_ipv4=f"10.77.{number // 200}.{1 + number % 200}",
            )
            for number in range(count)
        ]
        peers = server.add_peers(specs)
        for number, peer in enumerate(peers):
            peer.install_key(KeySlot.PRIMARY, key)
            server.routes.add(f"10.78.{number}.0/24", peer)
            peer.set(remote=("10.98.0.99", 30_000 + number))
        server.delete_peers(peers)
        read = 0
        while read < count:
            read += len(server.poll_events(timeout_s=1))

    size, rounds = 200, 50
    for _ in range(5):
        round_of(size)
    memory, before = resident_bytes(), (descriptors(), threads())
    for _ in range(rounds):
        round_of(size)
    assert resident_bytes() - memory < 4 << 20
    assert (descriptors(), threads()) == before
    running.stop_without_loss()
    assert len(server.peers) == 1
    assert len(server.routes) == 0
    eventually(lambda: server.stats().retired == 0, what="everything released")


@pytest.mark.slow
def test_ten_thousand_peers_at_once_again_and_again(make_tunnel) -> None:
    """All there together, each with a route and two keys, one of them rolled, then all deleted,
    while another peer carries bulk and pings. The first two times set the mark."""
    count = 10_000
    tunnel: Tunnel = make_tunnel(server={"max_peers": count + 1})
    server, transport = tunnel.server.device, tunnel.server.transport
    bystander = tunnel.pair.at_server
    keys = [opposite_keys(key_id)[0] for key_id in range(3)]
    specs = [
        PeerSpec(
            peer_id=1000 + number,
            transport=transport,
            remote=(f"10.98.{100 + number // 200}.{1 + number % 200}", 1194),
            vpn_ipv4=f"10.77.{number // 200}.{1 + number % 200}",
            vpn_ipv6=f"fd77::{number + 1:x}",
            keepalive_interval_s=0,
            keepalive_timeout_s=3600,
        )
        for number in range(count)
    ]

    def cycle() -> None:
        peers = server.add_peers(specs)
        for number, peer in enumerate(peers):
            peer.install_key(KeySlot.PRIMARY, keys[0])
            peer.install_key(KeySlot.SECONDARY, keys[1])
            server.routes.add(
                f"172.{16 + (number >> 12)}.{number >> 4 & 255}.{number & 15}/32", peer
            )
        for peer in peers:
            peer.swap_keys()
            peer.install_key(KeySlot.SECONDARY, keys[2])
        assert server.stats().peers == count + 1
        server.delete_peers(peers)
        read = 0
        while read < count:
            read += len(server.poll_events(timeout_s=1))
        eventually(lambda: server.stats().retired == 0, what="everything released")

    listener = listening_iperf3(tunnel.server.namespace)
    bulk = tunnel.client.namespace.popen(
        ["iperf3", "-c", SERVER_IPV4, "-b", "200M", "-t", "600"], stdout=-3, stderr=-3
    )
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4, interval_s=0.005)
    eventually(lambda: bystander.stats().vpn_rx_bytes > 10 << 20, what="bulk traffic")
    cycle()
    cycle()
    before = descriptors(), threads()
    resident, allocated = [trimmed_bytes()], allocated_bytes()
    for _ in range(5):
        carried = bystander.stats().vpn_rx_bytes
        cycle()
        assert bystander.stats().vpn_rx_bytes > carried
        resident.append(trimmed_bytes())
        # Ten bytes for each peer: less than the smallest thing that could be forgotten of one.
        assert allocated_bytes() - allocated < 10 * count
        assert (descriptors(), threads()) == before
    # What is forgotten adds up; a step in between is Python's own allocator, late in a long run.
    assert max(resident[3:]) - max(resident[:3]) < 2 << 20
    bulk.kill()
    listener.kill()
    running.stop_without_loss()
    assert len(server.peers) == 1
    assert len(server.routes) == 0
    ping(tunnel.client.namespace, SERVER_IPV4)


def test_keys_replaced_under_load(tunnel: Tunnel) -> None:
    """Two thousand keys pass through the slots of a peer that carries traffic."""
    running = RunningPing(tunnel.server.namespace, tunnel.client.ipv4, interval_s=0)
    pair = tunnel.pair

    def roll(count: int) -> None:
        for number in range(count):
            pair.install(KeySlot.SECONDARY, 1 + number % 7)
            for end in (pair.at_client, pair.at_server):
                end.swap_keys()
            for end in (pair.at_client, pair.at_server):
                end.delete_key(KeySlot.SECONDARY)

    roll(100)
    memory = resident_bytes()
    roll(1000)
    assert resident_bytes() - memory < 2 << 20
    running.stop()
    ping(tunnel.client.namespace, SERVER_IPV4)


def test_bulk_traffic_needs_no_more_memory(tunnel: Tunnel) -> None:
    def load() -> None:
        iperf3(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4, megabytes=64)

    load()
    memory = resident_bytes()
    for _ in range(3):
        load()
    assert resident_bytes() - memory < 2 << 20
