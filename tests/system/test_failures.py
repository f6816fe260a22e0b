"""What breaks around a device: sockets, interfaces, peers, and closing at the worst moment."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import threading
import time
import warnings

import pytest
from system.tunnel import (
    PORT,
    SERVER_IPV4,
    SYSTEM,
    RunningPing,
    Tunnel,
    eventually,
    iperf3,
    listening_iperf3,
    open_tunnel,
    ping,
    try_ping,
)

import ovpn_dco as dco
from ovpn_dco import DeleteReason, DropReason, InterfaceGone, PeerDeleted, TransportFailed

pytestmark = SYSTEM


@pytest.mark.parametrize("batch", [True, False], ids=["batched", "single"])
def test_dead_peer_beside_a_live_one(make_tunnel, batch: bool) -> None:
    """Each datagram to the dead one comes back as ICMP error; the live one loses nothing."""
    offloads = dco.Offload.ALL if batch else dco.Offload.ALL & ~dco.Offload.UDP_BATCH
    tunnel: Tunnel = make_tunnel(spokes=2, offloads=offloads)
    server, (dead, live) = tunnel.server, tunnel.pairs
    tunnel.clients[0].close()
    flood = RunningPing(server.namespace, tunnel.clients[0].ipv4, interval_s=0.002)
    eventually(lambda: dead.at_server.stats().link_errors > 5, what="ICMP errors of the dead")
    ping(server.namespace, tunnel.clients[1].ipv4, count=300, interval_s=0.003)
    ping(tunnel.clients[1].namespace, SERVER_IPV4, count=100, interval_s=0.003)
    flood.stop()
    assert dead.at_server.stats().link_errors > 5
    assert live.at_server.stats().link_errors == 0
    assert live.at_server.stats().tx_no_transport == 0
    assert server.transport.info().icmp_errors >= dead.at_server.stats().link_errors
    stats = live.at_server.stats()
    assert stats.vpn_tx_packets == stats.link_tx_packets == 400


def test_dead_peer_costs_bulk_traffic_nothing(make_tunnel) -> None:
    tunnel: Tunnel = make_tunnel(spokes=2)
    tunnel.clients[0].close()
    flood = RunningPing(tunnel.server.namespace, tunnel.clients[0].ipv4, interval_s=0.002)
    iperf3(tunnel.server.namespace, tunnel.clients[1].namespace, SERVER_IPV4, reverse=True)
    flood.stop()
    assert dco.Offload.UDP_GSO in tunnel.server.transport.info().offloads
    assert tunnel.server.device.stats().drops[DropReason.TX_SEND] == 0


def test_interface_vanishes(tunnel: Tunnel) -> None:
    """Deleted from outside, under traffic: one event, calls still answer, close works."""
    flood = RunningPing(tunnel.client.namespace, SERVER_IPV4, interval_s=0)
    peer = tunnel.pair.at_server
    eventually(lambda: peer.stats().vpn_rx_packets > 100, what="traffic")
    with tunnel.server.namespace.iproute() as ipr:
        ipr.link("del", index=ipr.link_lookup(ifname=tunnel.server.name)[0])
    (event,) = tunnel.server.events(InterfaceGone)
    assert event.errno in (errno.EBADFD, errno.EBADF, errno.EIO)
    device = tunnel.server.device
    down = device.stats().drops[DropReason.RX_TUN_DOWN]
    eventually(lambda: device.stats().drops[DropReason.RX_TUN_DOWN] > down, what="counted drops")
    assert not device.poll_events(timeout_s=0.2), "told once"
    idle = device.stats().wakeups
    flood.stop()
    peer.set(tx_id=5)
    with pytest.raises(dco.InterfaceMissing):
        _ = device.mtu
    time.sleep(0.1)
    quiet = device.stats().wakeups
    time.sleep(0.2)
    assert device.stats().wakeups - quiet < 20, f"threads spin on the dead interface: {idle}"
    device.close()
    assert device.closed


def test_interface_down_and_up_again(tunnel: Tunnel) -> None:
    server = tunnel.server
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4)
    server.namespace.set_up(server.name, up=False)
    drops = server.device.stats().drops[DropReason.RX_TUN_DOWN]
    eventually(
        lambda: server.device.stats().drops[DropReason.RX_TUN_DOWN] > drops + 5, what="drops"
    )
    delivered = tunnel.pair.at_server.stats().vpn_rx_packets
    assert delivered == server.device.stats().tun_write_packets
    server.namespace.set_up(server.name)
    eventually(
        lambda: tunnel.pair.at_server.stats().vpn_rx_packets > delivered, what="traffic again"
    )
    ping(tunnel.client.namespace, SERVER_IPV4, count=20)
    running.stop()
    iperf3(server.namespace, tunnel.client.namespace, SERVER_IPV4, megabytes=4)
    assert not [e for e in server.device.poll_events() if isinstance(e, InterfaceGone)]


def test_interface_down_on_the_sending_side(tunnel: Tunnel) -> None:
    client = tunnel.client
    ping(client.namespace, SERVER_IPV4)
    client.namespace.set_up(client.name, up=False)
    client.namespace.set_up(client.name)
    ping(client.namespace, SERVER_IPV4)


def test_owner_shuts_the_socket_down(tunnel: Tunnel) -> None:
    """Decisive: the peers go, the transport says so, and can be closed and replaced."""
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4)
    eventually(lambda: tunnel.pair.at_server.stats().vpn_rx_packets > 5, what="traffic")
    server = tunnel.server
    with contextlib.suppress(OSError):  # ENOTCONN is what a UDP socket says, and does it
        server.socket.shutdown(socket.SHUT_RDWR)
    events: list[dco.Event] = []
    eventually(
        lambda: (
            events.extend(server.device.poll_events(timeout_s=0.2))
            or {PeerDeleted, TransportFailed} <= {type(event) for event in events}
        ),
        what="both events",
    )
    (deleted,) = [event for event in events if isinstance(event, PeerDeleted)]
    (failed,) = [event for event in events if isinstance(event, TransportFailed)]
    assert deleted.reason is DeleteReason.TRANSPORT_DISCONNECT
    assert deleted.peer_id == tunnel.client.number
    assert failed.transport is server.transport
    assert server.transport.info().failed
    with pytest.raises(dco.DcoError):
        server.device.add_peer(9, server.transport, remote=("10.98.0.2", 1), vpn_ipv4="10.9.0.9")
    with pytest.raises(dco.DcoError):
        server.transport.send_control(b"8", ("10.98.0.2", 1))
    running.stop()
    server.transport.close()
    assert server.device.stats().transports == 0


def test_caller_closes_its_socket(tunnel: Tunnel) -> None:
    """That has no effect: the device has a descriptor of its own."""
    tunnel.server.socket.close()
    tunnel.client.socket.close()
    ping(tunnel.client.namespace, SERVER_IPV4)


def test_wire_goes_down_and_up(tunnel: Tunnel) -> None:
    """Sends fail meanwhile, are counted, and work again afterwards."""
    client, link = tunnel.client, tunnel.topology.link
    running = RunningPing(client.namespace, SERVER_IPV4)
    client.namespace.set_up(link.right_name, up=False)
    eventually(
        lambda: client.device.stats().drops[DropReason.TX_NO_TRANSPORT] > 5, what="counted drops"
    )
    assert tunnel.pair.at_client.stats().tx_no_transport > 5
    client.namespace.set_up(link.right_name)
    ping(client.namespace, SERVER_IPV4)
    running.stop()


# Closing


@pytest.mark.parametrize("first", ["server", "client"])
def test_close_under_full_load(tunnel: Tunnel, first: str) -> None:
    up = RunningPing(tunnel.client.namespace, SERVER_IPV4, interval_s=0)
    down = RunningPing(tunnel.server.namespace, tunnel.client.ipv4, interval_s=0)
    listener = listening_iperf3(tunnel.server.namespace, "-1")
    device = getattr(tunnel, first).device
    load = tunnel.client.namespace.popen(
        ["iperf3", "-c", SERVER_IPV4, "-u", "-b", "0", "-t", "30"], stdout=-3, stderr=-3
    )
    eventually(lambda: device.stats().udp_receive_packets > 2000, what="load")
    device.close()
    device.close()
    assert device.closed
    for call in (device.stats, device.poll_events, lambda: device.mtu):
        with pytest.raises(dco.DeviceClosed):
            call()
    load.kill()
    listener.kill()
    for running in (up, down):
        running.stop()
    assert not tunnel.server.namespace.has_interface("ovpn1") or first == "client"


def test_close_from_many_threads_while_others_call(tunnel: Tunnel) -> None:
    """Every call either answers or raises DeviceClosed; nobody waits for ever."""
    device, peer = tunnel.server.device, tunnel.pair.at_server
    unexpected: list[BaseException] = []
    barrier = threading.Barrier(7)

    def call_until_closed(call) -> None:
        barrier.wait()
        try:
            while True:
                call()
        except dco.DeviceClosed:
            pass
        except BaseException as error:
            unexpected.append(error)

    def close() -> None:
        barrier.wait()
        device.close()

    calls = [
        device.stats,
        peer.stats,
        lambda: device.poll_events(timeout_s=None),
        lambda: device.control.receive(),
        lambda: tunnel.server.transport.send_control(bytes(20), ("10.98.0.2", PORT)),
    ]
    threads = [threading.Thread(target=call_until_closed, args=(call,)) for call in calls]
    threads += [threading.Thread(target=close) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()
    assert not unexpected


def test_close_before_start_and_without_traffic() -> None:
    with open_tunnel(start=False) as tunnel:
        assert (
            try_ping(tunnel.client.namespace, SERVER_IPV4, count=2, options=("-W", "0.3")).received
            == 0
        )
        tunnel.client.device.start()
        tunnel.server.device.start()
        tunnel.server.device.start()
        ping(tunnel.client.namespace, SERVER_IPV4)
    with open_tunnel(start=False) as tunnel:
        pass
    assert tunnel.server.device.closed
    with pytest.raises(dco.DeviceClosed):
        tunnel.server.device.start()


def test_interface_goes_with_its_device(tunnel: Tunnel) -> None:
    namespace = tunnel.server.namespace
    assert namespace.has_interface("ovpn1")
    with pytest.raises(dco.DcoError):
        dco.Device.open("ovpn1", mode=dco.Mode.P2P, netns=namespace.fd)
    ping(tunnel.client.namespace, SERVER_IPV4)
    tunnel.server.device.close()
    assert not namespace.has_interface("ovpn1")


def test_forked_children_under_traffic(tunnel: Tunnel) -> None:
    """They come and go, in whatever way they go, and no packet is lost for it."""
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4, interval_s=0.002)
    eventually(lambda: tunnel.pair.at_server.stats().vpn_rx_packets > 20, what="traffic")
    for number in range(12):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: the point
            child = os.fork()
        if child == 0:
            try:
                for site in tunnel.sites:
                    site.device.close()
                    site.socket.close()
                if number % 3 == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                if number % 3 == 2:
                    os.execv("/bin/true", ["true"])
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    running.stop_without_loss()
    for site in tunnel.sites:
        assert site.namespace.has_interface(site.name)
        assert not site.device.poll_events()
        assert not any(site.device.stats().drops.values())
