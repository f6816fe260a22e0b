"""`Device` on the kernel's driver: when it is taken, and what becomes of its interface."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kernel.guest import GUEST, KERNEL, USERSPACE
from loopback import key_pair
from server_lab import open_files
from system.endpoints import Office
from system.tunnel import PATIENCE_S, SERVER_IPV4, Site, eventually, join, open_tunnel, ping

import ovpn_dco as dco
from ovpn_dco import DeleteReason, Feature, InterfaceGone, KeySlot, Mode, PeerDeleted
from ovpn_dco.testing import Namespace, Topology

pytestmark = [*GUEST, pytest.mark.root]

MANY = 500
CHILD_S = 60


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace("kernel") as made:
        made.set_up("lo")
        yield made


def open_device(namespace: Namespace, name: str = "ovpn0", **options: Any) -> dco.Device:
    options = {"mode": Mode.MULTIPEER, "netns": namespace.fd} | options
    return dco.Device.open(name, **options)


def bound(namespace: Namespace) -> socket.socket:
    sock = namespace.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


# Which back end


def chosen(caplog: pytest.LogCaptureFixture) -> str:
    (line,) = [one for one in caplog.messages if "back end" in one]
    return line


def test_the_driver_is_taken_where_it_does_all_that_is_asked_for(
    namespace: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ovpn_dco")
    has = {Feature.UDP, Feature.TCP, Feature.IROUTES, Feature.ASYMMETRIC_IDS}
    with open_device(namespace, require=has, source_check="strict") as device:
        assert device.backend == KERNEL
        assert device.features == has
    assert chosen(caplog) == "ovpn0: kernel back end, MULTIPEER mode: it does all that is asked for"


LACKING = {
    "require": ({"require": {Feature.EPOCH_KEYS}}, Feature.EPOCH_KEYS),
    "source_check": ({"source_check": "loose"}, Feature.SOURCE_CHECK_LOOSE),
    "source_check off": ({"source_check": "off"}, Feature.SOURCE_CHECK_OFF),
    "icmp_unreachable": ({"icmp_unreachable": True}, Feature.ICMP_UNREACHABLE),
    "start": ({"start": False}, Feature.UNPRIVILEGED),
    "owner": ({"owner": 1, "persist": True}, Feature.UNPRIVILEGED),
}


@pytest.mark.parametrize("argument", LACKING)
def test_what_the_driver_lacks(
    namespace: Namespace, caplog: pytest.LogCaptureFixture, argument: str
) -> None:
    """Our engine is taken, and the log says why; who insists on the driver is refused."""
    caplog.set_level(logging.INFO, "ovpn_dco")
    options, feature = LACKING[argument]
    with open_device(namespace, **options) as device:
        assert device.backend == USERSPACE
        if device.persist:
            device.persist = False
    assert f"takes {feature.value}, which the kernel's driver does not have" in chosen(caplog)
    with pytest.raises(dco.UnsupportedError) as caught:
        open_device(namespace, "ovpn1", backend=KERNEL, **options)
    assert caught.value.attribute == argument.split()[0]
    assert not namespace.has_interface("ovpn1")


def test_a_descriptor_is_for_our_engine(namespace: Namespace) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        with open_device(namespace, tun_fd=ours.fileno()) as device:
            assert device.backend == USERSPACE
        with pytest.raises(dco.UnsupportedError) as caught:
            open_device(namespace, tun_fd=ours.fileno(), backend=KERNEL)
    assert caught.value.attribute == "tun_fd"


@pytest.mark.parametrize(
    ("lines", "backend"),
    [((), KERNEL), (("mssfix 1300",), USERSPACE), (("disable-dco",), USERSPACE)],
    ids=["nothing", "mssfix", "disable-dco"],
)
def test_what_a_configuration_asks_for(lines: tuple[str, ...], backend: str) -> None:
    office = Office()
    try:
        server, client = office.server(*lines), office.client(*lines)
        for end in (server, client):
            assert end.ask(lambda one: one.device.backend) == backend
        ping(client.namespace, "10.8.0.1")
    finally:
        office.close()


# The interface


def test_names_with_a_number(namespace: Namespace) -> None:
    """The first that is free, by whichever back end."""
    with (
        open_device(namespace, "vpn%d") as first,
        open_device(namespace, "vpn%d", backend=USERSPACE) as second,
        open_device(namespace, "vpn%d") as third,
    ):
        assert [one.name for one in (first, second, third)] == ["vpn0", "vpn1", "vpn2"]
        assert [one.backend for one in (first, second, third)] == [KERNEL, USERSPACE, KERNEL]
        with pytest.raises(dco.AlreadyExists):
            open_device(namespace, "vpn1")
    assert not namespace.has_interface("vpn0")


def test_a_persistent_interface_stays_and_is_taken_over() -> None:
    with open_tunnel(server={"persist": True}) as tunnel:
        server = tunnel.server
        index = server.device.ifindex
        assert server.device.persist
        ping(tunnel.client.namespace, SERVER_IPV4)
        with pytest.raises(dco.Busy):
            open_device(server.namespace, "ovpn1", persist=True)
        server.close()
        assert server.namespace.has_interface("ovpn1")
        with pytest.raises(dco.AlreadyExists):
            open_device(server.namespace, "ovpn1")
        with pytest.raises(dco.InvalidArgument) as caught:
            open_device(server.namespace, "ovpn1", mode=Mode.P2P, persist=True)
        assert caught.value.attribute == "mode"

        again = Site(server.namespace, 1, mode=Mode.MULTIPEER, persist=True)
        tunnel.server = again
        assert again.device.backend == KERNEL
        assert again.device.ifindex == index
        tunnel.client.device.peers[tunnel.client.number].delete()
        join(again, tunnel.client, tunnel.topology.link)
        ping(tunnel.client.namespace, SERVER_IPV4, size=3000)
        again.device.persist = False
        again.close()
        assert not again.namespace.has_interface("ovpn1")


@pytest.mark.parametrize("persist", [False, True])
def test_an_interface_outlives_a_process_that_is_killed(
    namespace: Namespace, persist: bool
) -> None:
    """Since the driver binds it to nobody; its peers are gone. The next device takes its place."""
    program = (
        "import os, socket, ovpn_dco as dco\n"
        "device = dco.Device.open('ovpn0', mode=dco.Mode.MULTIPEER, backend='kernel',"
        f" persist={persist})\n"
        "sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.bind(('127.0.0.1', 0))\n"
        "device.add_peer(1, device.attach_udp(sock), remote=('127.0.0.1', 9),"
        " vpn_ipv4='10.8.0.2')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    process = namespace.popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}
    )
    assert process.wait(PATIENCE_S) == -signal.SIGKILL
    assert namespace.has_interface("ovpn0")
    if persist:
        with pytest.raises(dco.AlreadyExists):
            open_device(namespace)
    with open_device(namespace, persist=persist) as device:
        assert not device.peers
        device.persist = False
        with pytest.raises(dco.AlreadyExists):
            open_device(namespace)
    assert not namespace.has_interface("ovpn0")


def test_an_interface_that_is_deleted() -> None:
    """The device says so, its peers go, and what needs the interface is refused."""
    with open_tunnel() as tunnel:
        server, device = tunnel.server, tunnel.server.device
        peer = tunnel.pair.at_server
        server.namespace.run(["ip", "link", "del", "ovpn1"])
        found: list[dco.Event] = []
        eventually(
            lambda: (
                found.extend(device.poll_events(timeout_s=0.2))  # type: ignore[func-returns-value]
                or {type(one) for one in found} >= {InterfaceGone, PeerDeleted}
            ),
            what="both events",
        )
        assert len(found) == 2
        assert device.ifindex == 0
        assert device.name == "ovpn1"
        assert not device.peers
        for call in (lambda: device.mtu, lambda: setattr(device, "mtu", 1300)):
            with pytest.raises(dco.InterfaceMissing, match="deleted"):
                call()
        with pytest.raises(dco.InterfaceMissing):
            device.add_peer(9, server.transport, remote=("192.0.2.1", 9), vpn_ipv4="10.9.0.9")
        with pytest.raises(dco.InterfaceMissing):
            device.stats_table()
        with pytest.raises(dco.NotFound):
            peer.info()
        device.stats()
        assert server.transport.info().sockets == 1
        server.transport.detach()
        device.close()


def test_sockets_in_another_namespace() -> None:
    """What the driver tells there is heard."""
    with Namespace("inside") as inside, Topology() as topology:
        server = Site(topology.left, 1, mode=Mode.MULTIPEER, backend=KERNEL)
        client = Site(topology.right, 2, mode=Mode.P2P)
        try:
            # A second device, whose interface is elsewhere: `inside` has no wire.
            with open_device(
                inside, "ovpn3", backend=KERNEL, addresses=("10.9.0.3/24",), up=True
            ) as device:
                sock = topology.left.socket()
                sock.bind(("0.0.0.0", 1195))
                transport = device.attach_udp(sock)
                link = topology.link
                peer = device.add_peer(
                    2, transport, remote=(link.right_ipv4, client.port), vpn_ipv4="10.9.0.2"
                )
                far = client.device.add_peer(2, client.transport, remote=(link.left_ipv4, 1195))
                ours, theirs = key_pair()
                peer.install_key(KeySlot.PRIMARY, ours)
                far.install_key(KeySlot.PRIMARY, theirs)
                ping(inside, client.ipv4)
                peer.set_keepalive(interval_s=1, timeout_s=2)
                deleted: list[dco.Event] = []
                eventually(
                    lambda: deleted.extend(device.poll_events(timeout_s=0.2)) or deleted,  # type: ignore[func-returns-value]
                    what="the expiry",
                )
                (event,) = deleted
                assert isinstance(event, PeerDeleted)
                assert event.reason is DeleteReason.EXPIRED
                sock.close()
        finally:
            client.close()
            server.close()


# Threads and processes


def test_a_forked_child_has_it_closed() -> None:
    with open_tunnel() as tunnel:
        server = tunnel.server
        calls = (
            server.device.stats,
            server.device.stats_table,
            lambda: server.device.poll_events(timeout_s=1),
            server.device.control.receive,
            lambda: list(server.device.peers),
            tunnel.pair.at_server.info,
            tunnel.pair.at_server.swap_keys,
            server.transport.info,
            server.device.fileno,
        )
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.alarm(CHILD_S)
                status = 10 + sum(not refused(call) for call in calls)
                server.device.close()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
        assert server.namespace.has_interface("ovpn1")
        ping(tunnel.client.namespace, SERVER_IPV4)
        tunnel.pair.at_server.delete()
        (event,) = server.events(PeerDeleted)
        assert event.reason is DeleteReason.USERSPACE


def refused(call: Any) -> bool:
    try:
        call()
    except dco.DeviceClosed:
        return True
    return False


def test_closed_while_others_wait(namespace: Namespace) -> None:
    device = open_device(namespace)
    waiting = threading.Barrier(3)

    def wait() -> bool:
        waiting.wait()
        return refused(lambda: device.poll_events(timeout_s=PATIENCE_S))

    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(wait) for _ in range(2)]
        waiting.wait()
        time.sleep(0.5)
        started = time.monotonic()
        device.close()
        assert all(end.result(PATIENCE_S) for end in ends)
        assert time.monotonic() - started < PATIENCE_S / 2


def test_no_descriptor_is_left(namespace: Namespace) -> None:
    def once() -> None:
        with open_device(namespace) as device, bound(namespace) as sock:
            peer = device.add_peer(
                1, device.attach_udp(sock), remote=("127.0.0.1", 9), vpn_ipv4="10.8.0.2"
            )
            for port in (device, device.control):
                assert port.fileno() >= 0
            peer.delete()

    once()
    before = open_files()
    once()
    gc.collect()
    assert open_files() == before


def test_many_peers(namespace: Namespace) -> None:
    with open_device(namespace) as device, bound(namespace) as sock:
        transport = device.attach_udp(sock)
        peers = [
            device.add_peer(
                number,
                transport,
                remote=("127.0.0.1", 1000 + number),
                vpn_ipv4=f"10.8.{number >> 8}.{number & 255}",
            )
            for number in range(1, MANY + 1)
        ]
        for peer in peers[:10]:
            peer.install_key(KeySlot.PRIMARY, key_pair()[0])
        table = device.stats_table()
        assert table.peers == device.stats().peers == len(device.peers) == MANY
        assert sorted(table["id"]) == list(range(1, MANY + 1))
        for peer in peers:
            peer.delete()
        assert not device.peers
        told = []
        while len(told) < MANY:
            told += device.poll_events(timeout_s=PATIENCE_S)
        assert {one.reason for one in told} == {DeleteReason.USERSPACE}
        assert sorted(one.generation for one in told) == sorted(one.ref[1] for one in peers)
        assert device.stats_table().peers == 0
