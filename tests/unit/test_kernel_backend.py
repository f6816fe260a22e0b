"""A device of the kernel's driver, where the driver is played."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loopback import ANYWHERE, PATIENCE_S, eventually, key_pair, udp_socket
from played_driver import NAME, Driver, play

import ovpn_dco as dco
from ovpn_dco import DeleteReason, KeySlot, Mode, netlink
from ovpn_dco.backend.kernel import KernelBackend

pytestmark = pytest.mark.usefixtures("kept_garbage")

Make = Callable[..., dco.Device]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return play(monkeypatch)


@pytest.fixture
def device(driver: Driver) -> Iterator[dco.Device]:
    with open_device() as one:
        yield one


@pytest.fixture
def transport(device: dco.Device) -> Iterator[dco.Transport]:
    with udp_socket() as sock:
        yield device.attach_udp(sock)


def open_device(mode: Mode = Mode.MULTIPEER, **more: Any) -> dco.Device:
    return dco.Device.open(NAME, mode=mode, backend="kernel", **more)


def add(device: dco.Device, transport: dco.Transport, peer_id: int = 7, **more: Any) -> dco.Peer:
    return device.add_peer(
        peer_id, transport, **({"remote": ANYWHERE, "vpn_ipv4": f"10.8.0.{peer_id}"} | more)
    )


@contextlib.contextmanager
def connection(device: dco.Device) -> Iterator[tuple[socket.socket, dco.Transport]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    with far, near:
        yield far, device.attach_tcp(near)


def test_peers_come_change_and_go(
    driver: Driver, device: dco.Device, transport: dco.Transport
) -> None:
    peer = add(device, transport, tx_id=9)
    peer.set(remote=("127.0.0.1", 10), keepalive_interval_s=20, keepalive_timeout_s=60)
    info = peer.info()
    assert (info.remote, info.tx_id, info.vpn_ipv4) == (("127.0.0.1", 10), 9, "10.8.0.7")
    assert (info.keepalive_interval_s, info.keepalive_timeout_s) == (20, 60)
    assert list(device.peers.values()) == [peer]
    driver.counts(7, link_rx_bytes=5)
    assert transport.info().peers == 1
    peer.delete()
    assert transport.info().peers == 0
    (event,) = device.poll_events()
    assert isinstance(event, dco.PeerDeleted)
    assert (event.reason, event.stats.link_rx_bytes) == (DeleteReason.USERSPACE, 5)
    for call in (peer.info, peer.delete, peer.swap_keys):
        with pytest.raises(dco.NotFound):
            call()
    assert add(device, transport).generation != peer.generation


@pytest.mark.parametrize("reason", DeleteReason)
def test_the_driver_says_why_a_peer_went(
    driver: Driver, device: dco.Device, transport: dco.Transport, reason: DeleteReason
) -> None:
    """TEARDOWN is 0."""
    peer = add(device, transport)
    driver.ends(7, reason)
    (event,) = device.poll_events(timeout_s=PATIENCE_S)
    assert isinstance(event, dco.PeerDeleted)
    assert (event.peer_id, event.generation, event.reason) == (*peer.ref, reason)
    assert list(device.peers) == []
    add(device, transport)  # id and address are free


@pytest.mark.parametrize(
    ("keepalive_s", "reason"),
    [((0, 0), DeleteReason.TRANSPORT_DISCONNECT), ((1, 2), DeleteReason.EXPIRED)],
)
def test_a_lost_notification_is_guessed(
    driver: Driver,
    device: dco.Device,
    transport: dco.Transport,
    keepalive_s: tuple[int, int],
    reason: DeleteReason,
) -> None:
    add(
        device,
        transport,
        keepalive_interval_s=keepalive_s[0],
        keepalive_timeout_s=keepalive_s[1],
    )
    driver.ends_untold(7)
    (event,) = device.poll_events(timeout_s=PATIENCE_S)
    assert isinstance(event, dco.PeerDeleted)
    assert event.reason is reason


def test_a_float_is_told(driver: Driver, device: dco.Device, transport: dco.Transport) -> None:
    peer = add(device, transport)
    driver.floats(7, ("127.0.0.9", 5))
    (event,) = device.poll_events(timeout_s=PATIENCE_S)
    assert isinstance(event, dco.PeerFloated)
    assert (event.remote, event.local) == (("127.0.0.9", 5), ("127.0.0.1", 7))
    assert peer.remote == ("127.0.0.9", 5)


def test_keys(driver: Driver, device: dco.Device, transport: dco.Transport) -> None:
    peer = add(device, transport)
    peer.install_key(KeySlot.PRIMARY, key_pair(key_id=0)[0])
    peer.install_key(KeySlot.SECONDARY, key_pair(key_id=1)[0])
    with pytest.raises(dco.InvalidArgument):
        peer.install_key(KeySlot.SECONDARY, key_pair(key_id=0)[0])
    peer.swap_keys()
    assert driver.peers[7].keys == {KeySlot.PRIMARY: 1, KeySlot.SECONDARY: 0}
    assert peer.key(KeySlot.PRIMARY).key_id == 1
    peer.delete_key(KeySlot.SECONDARY)
    with pytest.raises(dco.NotFound):
        peer.key(KeySlot.SECONDARY)
    driver.uses_up(7)
    (event,) = device.poll_events(timeout_s=PATIENCE_S)
    assert isinstance(event, dco.KeySwapNeeded)
    assert event.key_id == 1
    peer.install_key(KeySlot.SECONDARY, key_pair(key_id=1)[0])  # it is in no slot any more


def test_counters_of_all(driver: Driver, device: dco.Device, transport: dco.Transport) -> None:
    for peer_id in (1, 2):
        add(device, transport, peer_id)
        driver.counts(peer_id, vpn_tx_packets=10 * peer_id)
    table = device.stats_table()
    assert list(table["id"]) == [1, 2]
    assert list(table["vpn_tx_packets"]) == [10, 20]
    assert device.stats().peers == 2


def test_detaching_takes_the_peers_along(
    driver: Driver, device: dco.Device, transport: dco.Transport
) -> None:
    add(device, transport)
    transport.detach()
    assert driver.peers == {}
    (event,) = device.poll_events()
    assert isinstance(event, dco.PeerDeleted)
    assert event.reason is DeleteReason.TRANSPORT_DISCONNECT


def test_a_connection_that_ends_takes_its_peer_along(driver: Driver, device: dco.Device) -> None:
    with connection(device) as (far, transport):
        add(device, transport, remote=None)
        with pytest.raises(dco.Busy):
            add(device, transport, 8, remote=None)
        far.close()
        events = [*device.poll_events(timeout_s=PATIENCE_S)]
        eventually(lambda: events.extend(device.poll_events()) or len(events) == 2)
    failed, deleted = sorted(events, key=lambda one: not isinstance(one, dco.TransportFailed))
    assert isinstance(failed, dco.TransportFailed)
    assert isinstance(deleted, dco.PeerDeleted)
    assert (failed.transport, failed.errno) == (transport, errno.ECONNRESET)
    assert deleted.reason is DeleteReason.TRANSPORT_DISCONNECT
    assert driver.peers == {}


def test_a_connection_that_the_driver_gives_up_has_failed(
    driver: Driver, device: dco.Device
) -> None:
    with connection(device) as (_, transport):
        add(device, transport, remote=None)
        driver.ends(7, DeleteReason.TRANSPORT_ERROR)
        deleted, failed = device.poll_events(timeout_s=PATIENCE_S)
        assert isinstance(deleted, dco.PeerDeleted)
        assert isinstance(failed, dco.TransportFailed)
        assert (deleted.reason, failed.errno) == (DeleteReason.TRANSPORT_ERROR, errno.EPROTO)
        assert transport.info().failed
        with pytest.raises(dco.NotASocket):
            add(device, transport, remote=None)


def test_the_second_peer_of_p2p_replaces_the_first(driver: Driver) -> None:
    with open_device(Mode.P2P) as device, udp_socket() as sock:
        transport = device.attach_udp(sock)
        first = add(device, transport, vpn_ipv4=None)
        second = add(device, transport, vpn_ipv4=None)
        (event,) = device.poll_events(timeout_s=PATIENCE_S)
        assert isinstance(event, dco.PeerDeleted)
        assert (event.generation, event.reason) == (first.generation, DeleteReason.TEARDOWN)
        assert list(device.peers.values()) == [second]
        assert transport.info().peers == 1


def test_peers_are_limited_with_those_that_nobody_read_of(driver: Driver) -> None:
    with open_device(max_peers=2) as device, udp_socket() as sock:
        transport = device.attach_udp(sock)
        peers = [add(device, transport, peer_id) for peer_id in (1, 2)]
        with pytest.raises(dco.LimitReached):
            add(device, transport, 3)
        for peer in peers:
            peer.delete()
        with pytest.raises(dco.DcoError) as caught:
            add(device, transport, 3)
        assert caught.value.errno == errno.ENOBUFS
        device.poll_events()
        add(device, transport, 3)


def test_an_older_driver_has_one_id_for_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, tx_id=False)
    with open_device() as device, udp_socket() as sock:
        transport = device.attach_udp(sock)
        assert dco.Feature.ASYMMETRIC_IDS not in device.features
        peer = add(device, transport, tx_id=7)
        with pytest.raises(dco.UnsupportedError) as caught:
            peer.set(tx_id=8)
        assert caught.value.attribute == "tx_id"
        with pytest.raises(dco.UnsupportedError):
            add(device, transport, 8, tx_id=9)


def test_closing_wakes_and_refuses(driver: Driver) -> None:
    device = open_device()
    with udp_socket() as sock:
        transport = device.attach_udp(sock)
        peer = add(device, transport)
        peer.delete()  # so that closing tells nothing else
        device.poll_events()
        woken: list[object] = []

        def wait() -> None:
            try:
                woken.append(device.poll_events(timeout_s=60))
            except dco.DeviceClosed as error:
                woken.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        device.close()
        waiting.join(PATIENCE_S)
        assert len(woken) == 1
        for call in (peer.info, transport.info, device.poll_events, device.stats):
            with pytest.raises(dco.DeviceClosed):
                call()
        assert driver.deleted
        device.close()


def test_an_interface_that_goes(driver: Driver, device: dco.Device) -> None:
    with udp_socket() as sock, connection(device) as (far, connected):
        transport = device.attach_udp(sock)
        add(device, transport)
        driver.loses_interface()
        events = device.poll_events(timeout_s=PATIENCE_S)
        kinds = {type(event) for event in events}
        assert {dco.PeerDeleted, dco.InterfaceGone} <= kinds
        with pytest.raises(dco.InterfaceMissing):
            add(device, transport)
        far.close()
        eventually(
            lambda: (
                device.control.receive()
                or any(isinstance(one, dco.TransportFailed) for one in device.poll_events())
            )
        )
        connected.detach()
        transport.detach()


def test_an_end_is_told_though_the_interface_has_gone(driver: Driver, device: dco.Device) -> None:
    """Its peer cannot be deleted any more, and nobody has told of it yet."""
    with connection(device) as (far, transport):
        add(device, transport, remote=None)
        driver.present = False
        far.close()
        eventually(
            lambda: any(
                isinstance(event, dco.TransportFailed)
                for event in device.poll_events(timeout_s=PATIENCE_S)
            )
        )
        transport.detach()


def test_one_peer_that_has_gone_keeps_no_other_in_a_persistent_interface(
    driver: Driver,
) -> None:
    with udp_socket() as sock:
        device = open_device(persist=True)
        transport = device.attach_udp(sock)
        for peer_id in (1, 2, 3):
            add(device, transport, peer_id)
        driver.peers.pop(1).socket.close()
        device.close()
        assert driver.peers == {}
        assert not driver.deleted


def test_an_opening_that_fails_leaves_nothing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(errno.EMFILE, "no descriptors left")

    monkeypatch.setattr(netlink, "LinkWatch", full)
    open_and_fail()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    driver.deleted = False
    open_and_fail()
    gc.collect()
    assert driver.deleted
    assert len(os.listdir("/proc/self/fd")) == before


def open_and_fail() -> None:
    with pytest.raises(OSError, match="no descriptors left"):
        open_device()


def test_nothing_is_left_of_a_device(driver: Driver) -> None:
    def use() -> int:
        with open_device() as device, udp_socket() as sock:
            add(device, device.attach_udp(sock))
        del device
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    assert use() == use()


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_forked_child_has_no_device(driver: Driver) -> None:
    read, write = os.pipe()
    before = descriptors()
    with open_device() as device, udp_socket() as sock:
        peer = add(device, device.attach_udp(sock))
        child = os.fork()
        if child == 0:
            with contextlib.suppress(dco.DeviceClosed):
                device.poll_events()
                os._exit(1)
            device.close()
            left = len(descriptors() - before)
            os.write(write, bytes([device.closed, driver.deleted, left]))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert os.read(read, 9) == bytes([True, False, 1 + 1])  # `sock`, and the driver's
        peer.delete()
    os.close(read)
    os.close(write)


def test_an_attach_that_fails_leaves_nothing(
    device: dco.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = device._backend
    assert isinstance(backend, KernelBackend)

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "no room in epoll")

    with udp_socket() as sock, connection(device) as (_, _connected), open(os.devnull) as file:
        sizes = {"send_buffer": 0, "receive_buffer": 0}
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(dco.NotASocket):
            backend.attach_tcp(file.fileno(), **sizes)
        with pytest.raises(dco.NotASocket):
            backend.attach_udp(99999, df=False, **sizes)
        monkeypatch.setattr(backend._ports, "_watch", full)
        size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        with pytest.raises(dco.DcoError) as caught:
            device.attach_udp(sock)
        assert caught.value.errno == errno.ENOSPC
        assert len(os.listdir("/proc/self/fd")) == before
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == size
        monkeypatch.undo()
