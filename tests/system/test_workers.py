"""Several workers on real interfaces, more of them than cores; and one thread for everything."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest
from system.test_steady_state import engine_threads, wake_ups
from system.tunnel import (
    PORT,
    SERVER_IPV4,
    SERVER_IPV6,
    SYSTEM,
    RunningPing,
    Sniffer,
    Tunnel,
    eventually,
    iperf3,
    open_tunnel,
    ping,
)

import ovpn_dco as dco
from ovpn_dco import Offload, PeerFloated
from ovpn_dco.testing import Namespace

pytestmark = SYSTEM

STEERED = Offload.ALL
HASHED = Offload.ALL & ~Offload.UDP_STEERING
ONE_SOCKET = Offload.ALL & ~Offload.UDP_SIBLINGS
IDLE_S = 3


@contextlib.contextmanager
def floods(tunnel: Tunnel) -> Iterator[list[RunningPing]]:
    """Pings of every client to the server, and of the server to every client."""
    running = [RunningPing(client.namespace, SERVER_IPV4) for client in tunnel.clients]
    running += [RunningPing(tunnel.server.namespace, client.ipv6) for client in tunnel.clients]
    yield running
    for one in running:
        one.stop()


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_queues_of_the_interface(workers: int) -> None:
    """One for each worker; with one worker the interface is as simple as ever."""
    with Namespace("queues") as namespace:
        with dco.Device.open("ovpn0", mode=dco.Mode.P2P, netns=namespace.fd, workers=workers):
            shown = namespace.run(["ip", "-d", "-j", "link", "show", "ovpn0"]).stdout
            about = json.loads(shown)[0]
            assert about["linkinfo"]["info_data"]["multi_queue"] is (workers > 1)
            if workers > 1:
                assert about["linkinfo"]["info_data"]["numqueues"] == workers
        assert not namespace.has_interface("ovpn0")


@pytest.mark.parametrize(
    ("workers", "offloads"),
    [
        (2, STEERED),
        (3, HASHED),
        (3, ONE_SOCKET),
        (4, STEERED),
        (8, STEERED),
        (8, HASHED),
        (8, ONE_SOCKET),
    ],
    ids=lambda value: {STEERED: "steered", HASHED: "hashed", ONE_SOCKET: "one socket"}.get(value),
)
def test_each_peer_has_one_writer(workers: int, offloads: Offload) -> None:
    """On the wire the packet ids of each peer grow, however its traffic came to its worker."""
    server = {"workers": workers, "offloads": offloads}
    with open_tunnel(spokes=6, bare=True, server=server) as tunnel, contextlib.ExitStack() as stack:
        sniffers = [
            stack.enter_context(Sniffer(client.namespace, link.right_name))
            for client, link in zip(tunnel.clients, tunnel.topology.links, strict=True)
        ]
        with floods(tunnel):
            for client in tunnel.clients:
                for reverse in (False, True):
                    iperf3(
                        tunnel.server.namespace,
                        client.namespace,
                        SERVER_IPV4,
                        megabytes=2,
                        reverse=reverse,
                        options=("-P", "2"),
                    )
        for sniffer, pair in zip(sniffers, tunnel.pairs, strict=True):
            data = [d for outgoing, d in sniffer.datagrams() if not outgoing and d[0] == 0x48]
            ids = [int.from_bytes(d[4:8], "big") for d in data]
            assert len(ids) > 1000
            assert ids == sorted(set(ids))
            stats = pair.at_client.stats()
            assert stats.rx_replay_errors == stats.rx_decrypt_errors == 0
            assert pair.at_server.stats().rx_replay_errors == 0
            assert pair.at_server.stats().rx_decrypt_errors == 0
        info = tunnel.server.transport.info()
        assert info.sockets == (1 if offloads == ONE_SOCKET else workers)
        stats = tunnel.server.device.stats()
        assert stats.handed_to_seal > 0, "flows are hashed over the queues of the interface"
        if offloads == STEERED:
            assert stats.handed_to_open == 0
        if offloads == ONE_SOCKET:
            assert stats.handed_to_open > 0


@pytest.mark.parametrize("outer", ["ipv4", "ipv6", "ipv4 on a dual-stack socket"])
def test_siblings_of_both_families(outer: str) -> None:
    """The sockets are of namespaces where this process is not."""
    family, _, dual = outer.partition(" ")
    with open_tunnel(spokes=3, outer=family, host="::" if dual else None, workers=3) as tunnel:
        assert [site.transport.info().sockets for site in tunnel.sites] == [3] * 4
        with floods(tunnel):
            for client in tunnel.clients:
                ping(client.namespace, SERVER_IPV6, count=20, size=3000)
                iperf3(tunnel.server.namespace, client.namespace, SERVER_IPV6, megabytes=2)
        stats = tunnel.server.device.stats()
        assert stats.handed_to_open == 0
        assert not any(stats.drops.values())


def test_siblings_on_a_bound_device() -> None:
    """All of them keep to the device that the first is bound to."""

    def bind(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"veth0\0")

    with open_tunnel(spokes=2, server={"prepare": bind, "workers": 4}) as tunnel:
        assert tunnel.server.transport.info().sockets == 4
        ping(tunnel.clients[0].namespace, SERVER_IPV4, count=20)
        first = tunnel.server.device.stats().udp_receive_packets
        tunnel.clients[1].namespace.run(["ping", "-c3", "-i0.1", "-W0.3", SERVER_IPV4], check=False)
        assert tunnel.server.device.stats().udp_receive_packets == first
        assert tunnel.pairs[1].at_server.stats().link_rx_packets == 0


@pytest.mark.parametrize(
    "offloads", [STEERED, HASHED, ONE_SOCKET], ids=["steered", "hashed", "one"]
)
def test_clients_float_between_workers(offloads: Offload) -> None:
    """Which socket an address hashes to changes; the peer's worker does not."""
    server = {"workers": 4, "offloads": offloads}
    with open_tunnel(spokes=3, server=server) as tunnel:
        with floods(tunnel):
            for client, pair, link in zip(
                tunnel.clients, tunnel.pairs, tunnel.topology.links, strict=True
            ):
                old = link.right_ipv4
                for last in "345":
                    new = link.right_ipv4[:-1] + last
                    client.namespace.replace_address(link.right_name, old, new)
                    eventually(
                        lambda new=new, pair=pair: pair.at_server.remote == (new, PORT),
                        what="the peer where its client is",
                    )
                    old = new
        for client, pair in zip(tunnel.clients, tunnel.pairs, strict=True):
            assert pair.at_server.stats().float_count == 3
            assert pair.at_server.stats().rx_replay_errors == 0
            ping(client.namespace, SERVER_IPV4, count=20)
        floated = {
            e.peer_id for e in tunnel.server.device.poll_events() if isinstance(e, PeerFloated)
        }
        assert floated == {client.number for client in tunnel.clients}


def test_keepalives_of_all_workers(make_tunnel) -> None:
    tunnel: Tunnel = make_tunnel(spokes=4, server={"workers": 3})
    for pair in tunnel.pairs:
        pair.at_server.set_keepalive(interval_s=1, timeout_s=0)
        pair.at_client.set_keepalive(interval_s=1, timeout_s=0)
    for pair in tunnel.pairs:
        for peer in (pair.at_server, pair.at_client):
            eventually(lambda peer=peer: peer.stats().keepalive_rx >= 2, what="keepalives")


# Single thread


@pytest.mark.parametrize("tcp", [False, True], ids=["UDP", "TCP"])
def test_a_single_thread_carries_everything(make_tunnel, tcp: bool) -> None:
    before = engine_threads()
    tunnel: Tunnel = make_tunnel(single_thread=True, tcp=tcp)
    threads = {t: n for t, n in engine_threads().items() if t not in before}
    assert sorted(threads.values()) == ["dco-receive"] * 2
    client, server = tunnel.client.namespace, tunnel.server.namespace
    for inner in (SERVER_IPV4, SERVER_IPV6):
        ping(client, inner, count=100, size=3000, interval_s=0, options=("-w", "3"))
        for reverse in (False, True):
            iperf3(server, client, inner, megabytes=8, reverse=reverse)
            iperf3(server, client, inner, udp=True, megabytes=2, reverse=reverse)
    # Both directions at once, which one thread has to share out.
    iperf3(server, client, SERVER_IPV4, megabytes=8, options=("--bidir",))
    tunnel.pair.at_client.set_keepalive(interval_s=1, timeout_s=0)
    eventually(lambda: tunnel.pair.at_server.stats().keepalive_rx >= 2, what="keepalives")
    tunnel.pair.at_client.set_keepalive(interval_s=0, timeout_s=0)
    assert_sleeps(threads)


@pytest.mark.parametrize("tcp", [False, True], ids=["UDP", "TCP"])
def test_idle_workers_do_not_wake_up(make_tunnel, tcp: bool) -> None:
    before = engine_threads()
    tunnel: Tunnel = make_tunnel(workers=4, tcp=tcp)
    threads = {t: n for t, n in engine_threads().items() if t not in before}
    assert len(threads) == 2 * 8
    ping(tunnel.client.namespace, SERVER_IPV4, count=20)
    assert_sleeps(threads)


def assert_sleeps(threads: dict[int, str]) -> None:
    """Not one wake-up from when the namespaces have gone silent."""

    def quiet() -> bool:
        reading = wake_ups(threads)
        time.sleep(0.5)
        return wake_ups(threads) == reading

    eventually(quiet, what="silence")
    at_rest = wake_ups(threads)
    time.sleep(IDLE_S)
    assert wake_ups(threads) == at_rest
