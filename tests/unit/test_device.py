"""Lifecycle, arguments, peers and routes of a device that has no TUN and no privileges."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from loopback import Host, eventually, forge, host, ipv4, key_pair, tunnel, udp_socket

import ovpn_dco as dco
from ovpn_dco import Feature, KeySlot, Mode

ANYWHERE = ("127.0.0.1", 9)


@pytest.fixture
def server() -> Iterator[Host]:
    with host() as h:
        yield h


def add(h: Host, peer_id: int = 1, **more: Any) -> dco.Peer:
    more.setdefault("remote", ANYWHERE)
    more.setdefault("vpn_ipv4", f"10.8.{peer_id >> 8 & 255}.{peer_id & 255}")
    return h.device.add_peer(peer_id, h.transport, **more)


def refused(kind: type[dco.DcoError], attribute: str, call: Callable[[], object]) -> dco.DcoError:
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.attribute == attribute
    assert attribute in str(caught.value)
    return caught.value


# Opening


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
        ({"workers": 2}, dco.UnsupportedError, "workers"),
        ({"backend": "kernel"}, dco.UnsupportedError, "backend"),
        ({"backend": "dpdk"}, dco.InvalidArgument, "backend"),
        ({"require": {Feature.TCP}}, dco.UnsupportedError, "require"),
        ({"require": {Feature.EPOCH_KEYS}}, dco.UnsupportedError, "require"),
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
    ],
    ids=str,
)
def test_bad_arguments_of_open(
    change: dict[str, Any], kind: type[dco.DcoError], attribute: str
) -> None:
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
    with caplog.at_level("INFO", "ovpn_dco"), host(require={Feature.UDP, Feature.IROUTES}) as h:
        assert h.device.backend == "userspace"
        assert Feature.UDP in h.device.features
        assert Feature.TCP not in h.device.features
    assert [record.getMessage() for record in caplog.records] == [
        "test: userspace back end, MULTIPEER mode"
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
        assert len(os.listdir("/proc/self/task")) == threads + 2
        assert far.recv(2000)
        h.device.start()
        assert len(os.listdir("/proc/self/task")) == threads + 2


# Closing


def _everything(h: Host, peer: dco.Peer) -> dict[str, Callable[[], object]]:
    device = h.device
    return {
        "start": device.start,
        "ifindex": lambda: device.ifindex,
        "mtu": lambda: device.mtu,
        "set mtu": lambda: setattr(device, "mtu", 1300),
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
            assert len(os.listdir("/proc/self/task")) == threads + 4
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


# Transports


def test_bad_sockets_are_refused(server: Host) -> None:
    attach = server.device.attach_udp
    refused(dco.NotASocket, "sock", lambda: attach("socket"))  # type: ignore[arg-type]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        error = refused(dco.DcoError, "sock", lambda: attach(sock))
        assert "bound" in str(error)
    refused(dco.NotASocket, "sock", lambda: attach(sock))
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        refused(dco.UnsupportedError, "sock", lambda: attach(tcp))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
        refused(dco.UnsupportedError, "sock", lambda: attach(unix))
    with udp_socket() as sock:
        refused(dco.OutOfRange, "send_buffer", lambda: attach(sock, send_buffer=0))
        refused(dco.OutOfRange, "receive_buffer", lambda: attach(sock, receive_buffer=1 << 30))
    with open("/dev/null", "rb") as file:
        refused(dco.NotASocket, "sock", lambda: attach(file))  # type: ignore[arg-type]


def test_detach_gives_the_socket_back_as_it_was(server: Host) -> None:
    options = [
        (socket.SOL_SOCKET, socket.SO_SNDBUF),
        (socket.SOL_SOCKET, socket.SO_RCVBUF),
        (socket.IPPROTO_IP, socket.IP_MTU_DISCOVER if hasattr(socket, "IP_MTU_DISCOVER") else 10),
        (socket.IPPROTO_IP, 8),  # IP_PKTINFO
        (socket.IPPROTO_IP, 11),  # IP_RECVERR
        (socket.SOL_SOCKET, 40),  # SO_RXQ_OVFL
        (socket.IPPROTO_UDP, 104),  # UDP_GRO
    ]

    def values(sock: socket.socket) -> list[int]:
        return [sock.getsockopt(level, name) for level, name in options]

    with udp_socket() as sock, udp_socket() as far:
        before = values(sock)
        transport = server.device.attach_udp(sock, df=True)
        assert values(sock) != before
        peer = server.device.add_peer(3, transport, remote=ANYWHERE, vpn_ipv4="10.8.0.3")
        assert transport.info().peers == 1
        transport.detach()
        assert values(sock) == before
        assert transport.closed
        event = server.event(dco.PeerDeleted)
        assert (event.peer_id, event.reason) == (3, dco.DeleteReason.TRANSPORT_DISCONNECT)
        with pytest.raises(dco.NotFound):
            peer.info()
        for call in (
            transport.info,
            lambda: transport.send_control(b"x", ANYWHERE),
            lambda: server.device.add_peer(9, transport, remote=ANYWHERE, vpn_ipv4="10.8.0.9"),
        ):
            with pytest.raises(dco.NotASocket):
                call()
        far.sendto(b"still works", sock.getsockname())
        assert sock.recv(100) == b"still works"
        # And it can be attached again.
        server.device.attach_udp(sock).close()


def test_closing_the_callers_socket_changes_nothing() -> None:
    with tunnel() as t:
        t.install()
        t.client.sock.close()
        t.up()
        t.down()


def test_buffer_sizes_in_effect(server: Host) -> None:
    with udp_socket() as sock:
        transport = server.device.attach_udp(sock, send_buffer=65536, receive_buffer=131072)
        info = transport.info()
        assert (info.send_buffer, info.receive_buffer) == (2 * 65536, 2 * 131072)
        assert info.local == sock.getsockname()
        assert not info.failed


def test_control_packets_that_cannot_be_sent(server: Host) -> None:
    send = server.transport.send_control
    refused(dco.InvalidArgument, "remote", lambda: send(b"x", None))
    refused(dco.InvalidArgument, "remote", lambda: send(b"x", "127.0.0.1"))
    refused(dco.InvalidArgument, "remote", lambda: send(b"x", ("localhost", 9)))
    refused(dco.InvalidArgument, "remote", lambda: send(b"x", ("127.0.0.1", 0)))
    refused(dco.OutOfRange, "remote", lambda: send(b"x", ("127.0.0.1", 65536)))
    refused(dco.UnsupportedError, "remote", lambda: send(b"x", ("::1", 9)))
    refused(dco.InvalidArgument, "data", lambda: send("text", ANYWHERE))  # type: ignore[arg-type]
    refused(dco.MessageTooBig, "data", lambda: send(bytes(65508), ANYWHERE))
    refused(dco.InvalidArgument, "local", lambda: send(b"x", ANYWHERE, "here"))


def test_one_socket_is_one_transport(server: Host) -> None:
    with host() as other, udp_socket() as sock:
        transport = server.device.attach_udp(sock)
        refused(dco.Busy, "sock", lambda: server.device.attach_udp(sock))
        refused(dco.Busy, "sock", lambda: other.device.attach_udp(sock))
        with sock.dup() as same:
            refused(dco.Busy, "sock", lambda: other.device.attach_udp(same))
        transport.close()
        other.device.attach_udp(sock)


def test_many_transports(server: Host) -> None:
    with contextlib.ExitStack() as stack:
        attached = [server.transport]
        while len(attached) < 64:
            sock = stack.enter_context(udp_socket())
            attached.append(server.device.attach_udp(sock, receive_buffer=4096))
        sock = stack.enter_context(udp_socket())
        refused(dco.LimitReached, "sock", lambda: server.device.attach_udp(sock))
        assert server.device.stats().transports == 64
        for transport in attached:
            transport.close()
        assert server.device.stats().transports == 0


# Peers


def test_bad_arguments_of_peers(server: Host) -> None:
    rows: list[tuple[type[dco.DcoError], str, dict[str, Any]]] = [
        (dco.InvalidArgument, "peer_id", {"peer_id": "1"}),
        (dco.InvalidArgument, "peer_id", {"peer_id": None}),
        (dco.OutOfRange, "peer_id", {"peer_id": 1 << 24}),
        (dco.InvalidArgument, "peer_id", {"peer_id": 0xFFFFFF}),
        (dco.InvalidArgument, "remote", {"remote": None}),
        (dco.InvalidArgument, "remote", {"remote": "127.0.0.1"}),
        (dco.InvalidArgument, "remote", {"remote": ("vpn.example.org", 1194)}),
        (dco.OutOfRange, "remote", {"remote": ("127.0.0.1", 0)}),
        (dco.InvalidArgument, "remote", {"remote": ("127.0.0.1", "1194")}),
        (dco.InvalidArgument, "remote", {"remote": ("127.0.0.1", 1, 2)}),
        (dco.UnsupportedError, "remote", {"remote": ("::1", 1194)}),
        (dco.InvalidArgument, "local", {"local": "::1"}),
        (dco.InvalidArgument, "local", {"local": "here"}),
        (dco.InvalidArgument, "vpn_ipv4", {"vpn_ipv4": None}),
        (dco.InvalidArgument, "vpn_ipv4", {"vpn_ipv4": "fd00::1"}),
        (dco.InvalidArgument, "vpn_ipv4", {"vpn_ipv4": "10.8.0.0/24"}),
        (dco.InvalidArgument, "vpn_ipv6", {"vpn_ipv6": "10.8.0.7"}),
        (dco.OutOfRange, "tx_id", {"tx_id": -1}),
        (dco.InvalidArgument, "keepalive_timeout_s", {"keepalive_interval_s": 1}),
        (dco.InvalidArgument, "transport", {"transport": None}),
        (dco.InvalidArgument, "transport", {"transport": 0}),
    ]
    good: dict[str, Any] = {
        "peer_id": 1,
        "transport": server.transport,
        "remote": ANYWHERE,
        "vpn_ipv4": "10.8.0.7",
    }
    for kind, attribute, change in rows:
        arguments = good | change
        refused(kind, attribute, lambda arguments=arguments: server.device.add_peer(**arguments))
    assert len(server.device.peers) == 0
    server.device.add_peer(**good)


def test_a_transport_of_another_device_is_refused(server: Host) -> None:
    with host() as other:
        refused(
            dco.InvalidArgument,
            "transport",
            lambda: server.device.add_peer(1, other.transport, remote=ANYWHERE),
        )


def test_what_only_the_engine_can_refuse(server: Host) -> None:
    one = add(server, 1, vpn_ipv4="10.8.0.1", vpn_ipv6="fd00::1")
    two = add(server, 2, vpn_ipv4="10.8.0.2")
    refused(dco.AlreadyExists, "peer_id", lambda: add(server, 1, vpn_ipv4="10.8.0.9"))
    refused(dco.AddressInUse, "vpn_ipv4", lambda: add(server, 3, vpn_ipv4="10.8.0.1"))
    refused(dco.AddressInUse, "vpn_ipv4", lambda: add(server, 3, vpn_ipv6="fd00::1"))
    refused(dco.AddressInUse, "vpn_ipv4", lambda: two.set(vpn_ipv4="10.8.0.1"))
    refused(dco.InvalidArgument, "vpn_ipv4", lambda: two.set(vpn_ipv4="0.0.0.0"))
    one.set(vpn_ipv4="0.0.0.0")
    assert (one.info().vpn_ipv4, one.info().vpn_ipv6) == (None, "fd00::1")
    refused(dco.InvalidArgument, "vpn_ipv4", lambda: one.set(vpn_ipv6="::"))
    two.set(vpn_ipv4="10.8.0.1")
    one.set(vpn_ipv4="10.8.0.2", vpn_ipv6="::")
    assert server.device.routes.lookup("10.8.0.1") == two
    assert server.device.routes.lookup("10.8.0.2") == one
    assert server.device.routes.lookup("fd00::1") is None


def test_a_refused_change_changes_nothing(server: Host) -> None:
    one = add(server, 1)
    add(server, 2, vpn_ipv4="10.8.0.2")
    before = one.info()
    with pytest.raises(dco.AddressInUse):
        one.set(
            tx_id=9,
            vpn_ipv6="fd00::7",
            vpn_ipv4="10.8.0.2",
            remote=("127.0.0.1", 99),
            keepalive_interval_s=1,
            keepalive_timeout_s=2,
        )
    after = one.info()
    assert (after.tx_id, after.remote, after.vpn_ipv4, after.vpn_ipv6) == (
        before.tx_id,
        before.remote,
        before.vpn_ipv4,
        None,
    )
    assert (after.keepalive_interval_s, after.keepalive_timeout_s) == (0, 0)


def test_settings_are_read_back(server: Host) -> None:
    peer = add(server, 5, tx_id=6, local="127.0.0.1", vpn_ipv6="fd00::5",
               keepalive_interval_s=10, keepalive_timeout_s=60)  # fmt: skip
    info = peer.info()
    assert (info.peer_id, info.tx_id, info.generation) == (5, 6, peer.generation)
    assert info.remote == ANYWHERE == peer.remote
    assert info.local == ("127.0.0.1", 0) == peer.local
    assert (info.vpn_ipv4, info.vpn_ipv6) == ("10.8.0.5", "fd00::5")
    assert (info.keepalive_interval_s, info.keepalive_timeout_s) == (10, 60)
    assert (info.last_received_s, info.last_sent_s) == (None, None)
    assert peer.transport is server.transport
    peer.set(remote=("::ffff:127.0.0.2", 1, 0, 0))
    assert (peer.remote, peer.local) == (("127.0.0.2", 1), None)
    peer.set_keepalive(interval_s=0, timeout_s=7)
    info = peer.info()
    assert (info.keepalive_interval_s, info.keepalive_timeout_s) == (0, 7)


def test_handles_do_not_outlive_their_peer(server: Host) -> None:
    old = add(server)
    old.delete()
    new = add(server)
    assert old != new
    assert old.generation != new.generation
    assert len({old, new, server.device.peers[1]}) == 2
    for call in (
        old.info,
        old.delete,
        old.swap_keys,
        lambda: old.set(tx_id=5),
        lambda: old.install_key(KeySlot.PRIMARY, key_pair()[0]),
        lambda: old.delete_key(KeySlot.PRIMARY),
        lambda: old.key(KeySlot.PRIMARY),
        lambda: server.device.routes.add("192.168.0.0/24", old),
        lambda: server.device.delete_peers([old]),
    ):
        with pytest.raises(dco.NotFound):
            call()
    assert new.info().tx_id == 1
    event = server.event(dco.PeerDeleted)
    assert event.generation == old.generation
    assert event.reason is dco.DeleteReason.USERSPACE


def test_the_mapping_of_peers(server: Host) -> None:
    peers = server.device.peers
    added = [add(server, number) for number in (3, 1, 2)]
    assert list(peers) == [3, 1, 2]
    assert [peers[number] for number in (3, 1, 2)] == added
    assert len(peers) == 3
    assert 3 in peers
    for missing in (4, -1, 1 << 24, "3"):
        assert missing not in peers
    assert peers.get(4) is None
    assert repr(peers) == "<Peers [3, 1, 2]>"


def test_many_at_once_all_or_none(server: Host) -> None:
    def spec(number: int, vpn: int) -> dco.PeerSpec:
        return dco.PeerSpec(
            peer_id=number,
            transport=server.transport,
            remote=ANYWHERE,
            vpn_ipv4=f"10.9.{vpn >> 8}.{vpn & 255}",
        )

    peers = server.device.add_peers(spec(n, n) for n in range(1, 501))
    assert [peer.peer_id for peer in peers] == list(range(1, 501))
    with pytest.raises(dco.AddressInUse):
        server.device.add_peers([spec(600, 600), spec(601, 1)])
    with pytest.raises(dco.OutOfRange):
        server.device.add_peers([spec(600, 600), spec(1 << 24, 601)])
    assert len(server.device.peers) == 500
    with pytest.raises(dco.NotFound):
        server.device.delete_peers([peers[0], 700])
    assert len(server.device.peers) == 500
    assert server.device.stats_table()["id"].tolist() == list(range(1, 501))
    server.device.delete_peers([peers[0], 2, *peers[2:]])
    assert len(server.device.peers) == 0
    deleted = [server.event(dco.PeerDeleted).peer_id for _ in range(501)]
    assert sorted(deleted) == sorted([*range(1, 501), 600])


def test_the_second_p2p_peer_takes_the_place_of_the_first() -> None:
    with host(Mode.P2P) as h:
        first = h.device.add_peer(1, h.transport, remote=ANYWHERE)
        second = h.device.add_peer(2, h.transport, remote=ANYWHERE)
        event = h.event(dco.PeerDeleted)
        assert (event.peer_id, event.reason) == (1, dco.DeleteReason.TEARDOWN)
        assert list(h.device.peers) == [2]
        with pytest.raises(dco.NotFound):
            first.info()
        assert second.info().peer_id == 2
        refused(dco.InvalidArgument, "vpn_ipv4", lambda: second.set(vpn_ipv4="10.0.0.1"))
        refused(dco.InvalidArgument, "prefix", lambda: h.device.routes.add("10.0.0.0/8", second))


def test_unread_deletions_are_bounded() -> None:
    with host(max_peers=3) as h:
        for number in range(3):
            add(h, number + 1)
        refused(dco.LimitReached, "max_peers", lambda: add(h, 9))
        h.device.delete_peers([1, 2, 3])
        eventually(lambda: h.device.stats().retired == 0)
        refused(dco.LimitReached, "max_peers", lambda: add(h, 9))
        assert len(h.device.poll_events(timeout_s=1)) == 3
        add(h, 9)


# Routes


def test_bad_routes(server: Host) -> None:
    peer = add(server)
    routes = server.device.routes
    refused(dco.InvalidArgument, "prefix", lambda: routes.add("192.168.1.1/24", peer))
    refused(dco.InvalidArgument, "prefix", lambda: routes.add("192.168.1.0/33", peer))
    refused(dco.InvalidArgument, "prefix", lambda: routes.add(None, peer))
    refused(dco.InvalidArgument, "peer", lambda: routes.add("192.168.1.0/24", 1))  # type: ignore[arg-type]
    refused(dco.NotFound, "prefix", lambda: routes.remove("192.168.1.0/24"))
    refused(dco.InvalidArgument, "address", lambda: routes.lookup("nowhere"))
    with host() as other:
        stranger = add(other)
        refused(dco.InvalidArgument, "peer", lambda: routes.add("192.168.1.0/24", stranger))
    routes.add("192.168.1.0/24", peer)
    refused(dco.AlreadyExists, "prefix", lambda: routes.add("192.168.1.0/24", peer))
    refused(dco.AlreadyExists, "prefix", lambda: routes.add("10.8.0.1/32", peer))
    refused(dco.NotFound, "prefix", lambda: routes.remove("10.8.0.1/32"))


def test_routes_are_listed_and_go_with_their_peer(server: Host) -> None:
    one, two = add(server, 1), add(server, 2)
    routes = server.device.routes
    routes.add("192.168.0.0/16", one)
    routes.add("fd00:9::/48", two)
    routes.add("0.0.0.0/0", two)
    assert list(routes) == [
        dco.Route("192.168.0.0/16", one),
        dco.Route("fd00:9::/48", two),
        dco.Route("0.0.0.0/0", two),
    ]
    assert "fd00:9::/48" in routes
    assert routes.lookup("192.168.3.4") == one
    assert routes.lookup("8.8.8.8") == two
    two.delete()
    assert [route.prefix for route in routes] == ["192.168.0.0/16"]
    assert routes.lookup("8.8.8.8") is None
    routes.remove("192.168.0.0/16")
    assert len(routes) == 0
    assert routes.lookup("192.168.3.4") is None
    routes.add("fd00:9::/48", one)
    assert routes.lookup("fd00:9::1") == one


# Others


def test_a_late_packet_of_a_deleted_peer_is_unknown(server: Host) -> None:
    mine, theirs = key_pair()
    with udp_socket() as far:
        peer = add(server, 7, remote=far.getsockname())
        peer.install_key(KeySlot.PRIMARY, mine)
        peer.delete()
        far.sendto(forge(theirs, 1, ipv4("10.8.0.7", "10.8.0.1")), server.address)
        eventually(lambda: server.drops() == {dco.DropReason.RX_UNKNOWN_PEER: 1})


def test_ten_thousand_peers_come_and_go() -> None:
    with host(max_peers=10_000) as h:
        specs = [
            dco.PeerSpec(
                peer_id=n,
                transport=h.transport,
                remote=("127.0.0.1", 1 + n % 60000),
                vpn_ipv4=socket.inet_ntoa(struct.pack("!I", 0x0A080000 + n)),
            )
            for n in range(1, 10_001)
        ]
        peers = h.device.add_peers(specs)
        table = h.device.stats_table()
        assert len(table["id"]) == table.peers == 10_000
        assert sum(table["id"]) == sum(range(1, 10_001))
        h.device.delete_peers(peers)
        read = 0
        while read < 10_000:
            events = h.device.poll_events(timeout_s=5)
            assert events
            read += len(events)
        assert h.device.stats().peers == 0
        h.device.add_peers(specs[:10])


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
