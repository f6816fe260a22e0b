"""The end of a device: who waits for it, and what is left of it."""

from __future__ import annotations

import gc
import os
import select
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from loopback import add, eventually, host, tunnel, udp_socket

import ovpn_dco as dco
from ovpn_dco import Mode


def descriptors() -> Counter[str]:
    """What is open, by kind."""
    gc.collect()
    kinds: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            kinds[os.readlink(f"/proc/self/fd/{name}").partition("[")[0]] += 1
        except FileNotFoundError:
            continue  # the listing's own
    return kinds


def engine_threads() -> int:
    """Threads that /proc calls an engine's."""
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        try:
            names.append(path.read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return sum(name.startswith("dco-") for name in names)


@pytest.mark.parametrize("attempt", range(20))
def test_whoever_closes_second_finds_everything_done(attempt: int) -> None:
    """Threads stopped and the socket given back, for each of those who close at once."""
    with udp_socket() as sock:
        buffer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with inside, outside:
            device = dco.Device.open("test", mode=Mode.P2P, tun_fd=inside.fileno())
            device.attach_udp(sock)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) != buffer
            barrier = threading.Barrier(6)
            seen: list[tuple[int, int]] = []

            def close() -> None:
                barrier.wait()
                device.close()
                size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
                seen.append((engine_threads(), size))

            threads = [threading.Thread(target=close) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            assert seen == [(0, buffer)] * 6


def test_a_closed_device_keeps_no_descriptor() -> None:
    """While its object is still there, and events were waited for."""
    inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with inside, outside, udp_socket() as sock:
        before = descriptors()
        device = dco.Device.open("test", mode=Mode.P2P, tun_fd=inside.fileno())
        transport = device.attach_udp(sock)
        assert not device.poll_events(timeout_s=0.01)
        device.add_peer(7, transport, remote=("127.0.0.1", 9)).delete()
        assert device.poll_events(timeout_s=5)
        assert not device.control.receive()
        assert descriptors() != before
        device.close()
        assert descriptors() == before
        assert device.closed


@pytest.mark.parametrize("which", ["fileno", "control.fileno"])
def test_a_descriptor_that_was_given_away_stays_readable(which: str) -> None:
    """Whoever waits on it wakes up, whenever he comes to look; it goes with the object."""
    before = descriptors()
    with host() as h:
        ask = h.device.fileno if which == "fileno" else h.device.control.fileno
        fd = ask()
        inode = os.fstat(fd).st_ino
        with select.epoll() as waiter:
            waiter.register(fd, select.EPOLLIN)
            assert not waiter.poll(0.01)
            h.device.close()
            assert waiter.poll(5)
            assert waiter.poll(5)
        assert select.select([fd], [], [], 5)[0]
        assert os.fstat(fd).st_ino == inode
        with pytest.raises(dco.DeviceClosed):
            ask()
    del h, ask
    eventually(lambda: descriptors() == before, "everything closed")


def test_closing_wakes_all_who_wait() -> None:
    """Although events that are read meanwhile silence what wakes them."""
    with tunnel() as t:
        stop = threading.Event()
        outcomes: list[object] = []

        def wait() -> None:
            try:
                while True:
                    t.server.device.poll_events(timeout_s=None)
            except dco.DeviceClosed as error:
                outcomes.append(error.errno)

        def churn() -> None:
            numbers = iter(range(100, 1_000_000))
            while not stop.is_set():
                try:
                    add(t.server, next(numbers), vpn_ipv4="10.99.0.1").delete()
                except dco.DcoError:
                    return

        threads = [threading.Thread(target=wait) for _ in range(8)]
        threads.append(threading.Thread(target=churn))
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        t.server.device.close()
        stop.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert outcomes == [9] * 8  # EBADF
