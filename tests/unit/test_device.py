"""Opening, closing and forking a device that has no TUN and no privileges."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from loopback import (
    ANYWHERE,
    Host,
    add,
    host,
    ipv4,
    key_pair,
    refused,
    tunnel,
    udp_socket,
)
from support import WORKERS

import ovpn_dco as dco
from ovpn_dco import Feature, KeySlot, Mode
from ovpn_dco.netlink import probe


@pytest.mark.parametrize(
    ("change", "kind", "attribute"),
    [
        ({"name": "a b"}, dco.InvalidArgument, "name"),
        ({"mode": 1}, dco.OutOfRange, "mode"),
        ({"mtu": 10}, dco.InvalidArgument, "mtu"),
        ({"mtu": "1420"}, dco.InvalidArgument, "mtu"),
        ({"mtu": 1420.0}, dco.InvalidArgument, "mtu"),
        ({"mtu": True}, dco.InvalidArgument, "mtu"),
        ({"addresses": "10.8.0.1/24"}, dco.InvalidArgument, "addresses"),
        ({"addresses": ["10.8.0.300/24"]}, dco.InvalidArgument, "addresses"),
        ({"addresses": ["10.8.0.1/24"]}, dco.InvalidArgument, "addresses"),
        ({"up": True}, dco.InvalidArgument, "up"),
        ({"workers": 17}, dco.OutOfRange, "workers"),
        ({"workers": 0}, dco.OutOfRange, "workers"),
        ({"workers": "2"}, dco.InvalidArgument, "workers"),
        ({"workers": 2, "single_thread": True}, dco.InvalidArgument, "single_thread"),
        ({"tun_fd": [3, 4]}, dco.InvalidArgument, "tun_fd"),
        ({"tun_fd": []}, dco.InvalidArgument, "tun_fd"),
        ({"backend": "kernel"}, dco.UnsupportedError, "backend"),
        ({"backend": "dpdk"}, dco.InvalidArgument, "backend"),
        ({"require": {"TCP"}}, dco.InvalidArgument, "require"),
        ({"offloads": ["warp"]}, dco.InvalidArgument, "offloads"),
        ({"offloads": "udp_gso"}, dco.InvalidArgument, "offloads"),
        ({"offloads": 3}, dco.InvalidArgument, "offloads"),
        ({"source_check": "lax"}, dco.InvalidArgument, "source_check"),
        ({"max_peers": 0}, dco.OutOfRange, "max_peers"),
        ({"netns": "no-such-namespace"}, dco.NotFound, "netns"),
        ({"netns": "/proc/self/ns/mnt"}, dco.InvalidArgument, "netns"),
        ({"netns": os.devnull}, dco.InvalidArgument, "netns"),
        ({"netns": 1 << 30}, dco.InvalidArgument, "netns"),
        ({"tun_fd": -1}, dco.InvalidArgument, "tun_fd"),
        ({"tun_fd": 1 << 20}, dco.InvalidArgument, "tun_fd"),
        ({"tun_fd": 1 << 80}, dco.InvalidArgument, "tun_fd"),
        ({"tun_fd": "3"}, dco.InvalidArgument, "tun_fd"),
        ({"persist": True}, dco.InvalidArgument, "persist"),
        ({"persist": 1}, dco.InvalidArgument, "persist"),
        ({"owner": 1000}, dco.InvalidArgument, "owner"),
        ({"owner": "root"}, dco.InvalidArgument, "owner"),
    ],
    ids=str,
)
def test_bad_arguments_of_open(
    change: dict[str, Any], kind: type[dco.DcoError], attribute: str
) -> None:
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    with _socketpair() as fd:
        arguments: dict[str, Any] = {"name": "test", "mode": Mode.P2P, "tun_fd": fd, **change}
        name = arguments.pop("name")
        refused(kind, attribute, lambda: dco.Device.open(name, **arguments))
    gc.collect()
    assert sorted(os.listdir("/proc/self/fd")) == before


class _socketpair:  # noqa: N801 - used like a function
    def __enter__(self) -> int:
        self.ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return self.ends[0].fileno()

    def __exit__(self, *_: object) -> None:
        for end in self.ends:
            end.close()


def test_a_file_is_no_packet_descriptor(tmp_path: Any) -> None:
    with open(tmp_path / "file", "wb") as file:
        fd = file.fileno()
        refused(dco.DcoError, "tun_fd", lambda: dco.Device.open("test", mode=Mode.P2P, tun_fd=fd))


def test_auto_takes_the_userspace_engine_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    reason = "tun_fd takes packets by a descriptor instead of an interface of its own, which "
    reason = probe().reason or f"{reason}the kernel's driver does not have"
    with caplog.at_level("INFO", "ovpn_dco"), host(require={Feature.UDP, Feature.IROUTES}) as h:
        assert h.device.backend == "userspace"
        assert {Feature.UDP, Feature.TCP, Feature.EPOCH_KEYS} <= h.device.features
    assert [record.getMessage() for record in caplog.records] == [
        f"test: userspace back end, MULTIPEER mode: {reason}"
    ]


def test_what_a_device_says_of_itself(server: Host) -> None:
    device = server.device
    assert (device.name, device.mode, device.ifindex, device.netns) == (
        "test",
        Mode.MULTIPEER,
        0,
        None,
    )
    assert device.mtu == 1420
    device.mtu = 1300
    assert device.mtu == 1300
    with pytest.raises(dco.InvalidArgument):
        device.mtu = 67
    assert device.mtu == 1300
    assert not device.persist
    refused(dco.InvalidArgument, "persist", lambda: setattr(device, "persist", True))
    assert repr(device) == "<Device test MULTIPEER userspace>"
    server.device.close()
    assert repr(device) == "<Device test MULTIPEER userspace closed>"


def test_nothing_flows_before_start() -> None:
    with host(Mode.P2P, start=False) as h, udp_socket() as far:
        threads = len(os.listdir("/proc/self/task"))
        peer = h.device.add_peer(7, h.transport, remote=far.getsockname())
        peer.install_key(KeySlot.PRIMARY, key_pair()[0])
        h.send(ipv4("10.0.0.1", "10.0.0.2"))
        time.sleep(0.05)
        assert peer.stats().link_tx_packets == 0
        h.device.start()
        assert len(os.listdir("/proc/self/task")) == threads + 2 * WORKERS
        assert far.recv(2000)
        h.device.start()
        assert len(os.listdir("/proc/self/task")) == threads + 2 * WORKERS


# Closing


def _everything(h: Host, peer: dco.Peer) -> dict[str, Callable[[], object]]:
    device = h.device
    return {
        "start": device.start,
        "ifindex": lambda: device.ifindex,
        "mtu": lambda: device.mtu,
        "set mtu": lambda: setattr(device, "mtu", 1300),
        "persist": lambda: device.persist,
        "set persist": lambda: setattr(device, "persist", False),
        "offloads": lambda: device.offloads,
        "set_offloads": lambda: device.set_offloads(None),
        "set_source_check": lambda: device.set_source_check("off"),
        "stats": device.stats,
        "stats_table": device.stats_table,
        "attach_udp": lambda: device.attach_udp(h.sock),
        "add_peer": lambda: device.add_peer(5, h.transport, remote=ANYWHERE),
        "add_peers": lambda: device.add_peers(
            [dco.PeerSpec(peer_id=5, transport=h.transport, remote=ANYWHERE)]
        ),
        "delete_peers": lambda: device.delete_peers([1]),
        "peers": lambda: list(device.peers),
        "peers[1]": lambda: device.peers[1],
        "fileno": device.fileno,
        "poll_events": lambda: device.poll_events(timeout_s=1),
        "control.fileno": device.control.fileno,
        "control.receive": device.control.receive,
        "routes.add": lambda: device.routes.add("192.168.0.0/24", peer),
        "routes.remove": lambda: device.routes.remove("192.168.0.0/24"),
        "routes.lookup": lambda: device.routes.lookup("10.8.0.1"),
        "routes": lambda: list(device.routes),
        "transport.info": h.transport.info,
        "transport.send_control": lambda: h.transport.send_control(b"x", ANYWHERE),
        "peer.info": peer.info,
        "peer.set": lambda: peer.set(tx_id=3),
        "peer.set_keepalive": lambda: peer.set_keepalive(interval_s=1, timeout_s=1),
        "peer.install_key": lambda: peer.install_key(KeySlot.PRIMARY, key_pair()[0]),
        "peer.swap_keys": peer.swap_keys,
        "peer.delete_key": lambda: peer.delete_key(KeySlot.PRIMARY),
        "peer.key": lambda: peer.key(KeySlot.PRIMARY),
        "peer.delete": peer.delete,
    }


def _still_open(h: Host, peer: dco.Peer) -> list[str]:
    answers = []
    for name, call in _everything(h, peer).items():
        try:
            call()
        except dco.DeviceClosed as error:
            if error.errno == errno.EBADF:
                continue
        answers.append(name)
    return answers


def test_after_close_every_call_raises_device_closed(server: Host) -> None:
    peer = add(server)
    server.device.close()
    assert server.device.closed
    assert server.transport.closed
    assert _still_open(server, peer) == []
    server.transport.close()
    server.transport.detach()
    server.device.close()


def test_in_a_forked_child_every_call_raises_device_closed() -> None:
    with tunnel() as t:
        t.install()
        t.up()
        fds = {t.client.device.fileno(), t.client.device.control.fileno()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: the point
            child = os.fork()
        if child == 0:
            status = 1
            try:
                inherited = {fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")}
                still = _still_open(t.client, t.client_peer) + _still_open(t.server, t.server_peer)
                t.client.device.close()
                status = 2 if inherited else 3 if still or not t.client.device.closed else 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        # The parent has not noticed.
        t.up()
        t.down()


def _until_closed(stop: threading.Event, call: Callable[[], object]) -> None:
    """Calls until the device is closed; anything but its refusals is raised."""
    gone = (dco.DeviceClosed, dco.NotASocket, BrokenPipeError, ConnectionError)
    with contextlib.suppress(*gone):
        while not stop.is_set():
            with contextlib.suppress(BlockingIOError, dco.NotFound, dco.AlreadyExists):
                call()


@pytest.mark.parametrize("attempt", range(5))
def test_close_from_many_threads_under_load(attempt: int) -> None:
    with tunnel() as t, ThreadPoolExecutor(16) as pool:
        t.install()
        stop = threading.Event()
        packet = ipv4("10.8.0.2", "10.8.0.1", bytes(1000))
        numbers = itertools.count(10)

        def churn() -> None:
            peer = add(t.server, next(numbers), vpn_ipv4="10.99.0.1")
            peer.install_key(KeySlot.PRIMARY, key_pair()[0])
            t.server.device.routes.add("172.16.0.0/16", peer)
            peer.delete()

        calls: list[Callable[[], object]] = [
            lambda: t.client.app.send(packet, socket.MSG_DONTWAIT),
            lambda: t.server.app.recv(65536, socket.MSG_DONTWAIT),
            t.server.device.stats,
            t.server.device.stats_table,
            lambda: t.server.device.poll_events(timeout_s=10),
            lambda: t.server.transport.send_control(b"\x38abc", t.client.address),
            t.client.device.control.receive,
            churn,
        ]
        running = [pool.submit(_until_closed, stop, call) for call in calls]
        time.sleep(0.05 + 0.02 * attempt)
        devices = (t.server.device, t.server.device, t.client.device)
        closing = [pool.submit(device.close) for device in devices]
        for future in closing:
            future.result(10)
        time.sleep(0.05)
        stop.set()
        for future in running:
            future.result(10)


def test_close_leaves_no_thread_and_no_descriptor() -> None:
    with tunnel() as t:  # whatever is made only once
        t.install()
    del t
    gc.collect()
    threads = len(os.listdir("/proc/self/task"))
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with tunnel() as t:
            t.install()
            t.up()
            assert len(os.listdir("/proc/self/task")) == threads + 4 * WORKERS
        del t
        gc.collect()
        assert len(os.listdir("/proc/self/task")) == threads
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_forgotten_device_is_closed_with_a_warning() -> None:
    inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    threads = len(os.listdir("/proc/self/task"))
    device = dco.Device.open("test", mode=Mode.P2P, tun_fd=inside.fileno())
    reference = [device]
    del device
    with pytest.warns(ResourceWarning, match="unclosed <Device test"):
        reference.clear()
    gc.collect()
    assert len(os.listdir("/proc/self/task")) == threads
    inside.close()
    outside.close()


def test_the_end_of_the_packet_descriptor_is_an_event() -> None:
    with host(Mode.P2P) as h:
        h.app.close()
        assert h.event(dco.InterfaceGone).sequence > 0
        h.device.stats()


def test_threads_block_signals() -> None:
    before = set(os.listdir("/proc/self/task"))
    with host():
        for thread in set(os.listdir("/proc/self/task")) - before:
            with open(f"/proc/self/task/{thread}/status", encoding="ascii") as status:
                blocked = next(line for line in status if line.startswith("SigBlk"))
            mask = int(blocked.split()[1], 16)
            for number in (1, 2, 10, 12, 14, 15, 17):
                assert mask >> (number - 1) & 1, f"signal {number}"


# Importing


def test_importing_is_light() -> None:
    program = "import sys, ovpn_dco; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={
            **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert "ovpn_dco.device" in loaded
    heavy = {"pyroute2", "asyncio", "OpenSSL", "cryptography", "click", "rich", "ovpn_dco._core"}
    assert not loaded & heavy
