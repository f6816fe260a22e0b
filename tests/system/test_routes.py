"""Routes of the system into the interface, followed: `ip route` is all that an operator needs."""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from system.tunnel import SERVER_IPV4, SYSTEM, Tunnel, assert_no_answer, eventually, join, ping

import ovpn_dco as dco
from ovpn_dco.net import PeerRoutes, RouteMonitor, get_index

pytestmark = SYSTEM

LAN, LAN_HOST = "192.168.9.0/24", "192.168.9.1"
LAN6, LAN6_HOST = "fd77::/64", "fd77::1"


@pytest.fixture
def two(make_tunnel) -> Tunnel:
    """Two clients, each with the same networks behind it."""
    tunnel = make_tunnel(spokes=2)
    for client in tunnel.clients:
        client.namespace.add_address("lo", f"{LAN_HOST}/24")
        client.namespace.add_address("lo", f"{LAN6_HOST}/64")
    return tunnel


def ip(tunnel: Tunnel, *words: str) -> None:
    tunnel.server.namespace.run(["ip", *words])


def owner(tunnel: Tunnel, host: str = LAN_HOST) -> dco.Peer | None:
    return tunnel.server.device.routes.lookup(host)


def becomes(tunnel: Tunnel, peer: dco.Peer | None, host: str = LAN_HOST) -> None:
    eventually(lambda: owner(tunnel, host) == peer, what=f"{host} is {peer}'s")


def test_ip_route_add_is_enough(two: Tunnel) -> None:
    first, second = (pair.at_server for pair in two.pairs)
    device = two.server.device
    ip(two, "route", "add", LAN, "via", two.clients[0].ipv4)
    assert owner(two) is None
    with device.routes.watch() as watch:
        assert owner(two) == first, "what was there before the watch"
        ping(two.server.namespace, LAN_HOST, size=3000)
        ping(two.clients[0].namespace, SERVER_IPV4, options=("-I", LAN_HOST))
        ip(two, "-6", "route", "add", LAN6, "via", two.clients[1].ipv6)
        becomes(two, second, LAN6_HOST)
        ping(two.server.namespace, LAN6_HOST)
        assert {(route.prefix, route.peer) for route in device.routes.watched} == {
            (LAN, first),
            (LAN6, second),
        }
        assert list(device.routes) == [], "nothing was added by a call"
        ip(two, "route", "replace", LAN, "via", two.clients[1].ipv4)
        becomes(two, second)
        ping(two.server.namespace, LAN_HOST)
        ip(two, "route", "add", LAN, "via", two.clients[0].ipv4, "metric", "5")
        ip(two, "route", "del", LAN, "via", two.clients[1].ipv4)
        becomes(two, first)
        ip(two, "route", "add", "default", "via", two.clients[1].ipv4)
        becomes(two, second, "203.0.113.9")
        ip(two, "route", "flush", "root", "0.0.0.0/0", "dev", two.server.name, "proto", "boot")
        becomes(two, None)
        assert owner(two, "203.0.113.9") is None
        assert watch.error is None
    assert watch.closed
    assert device.routes.watched == []
    assert_no_answer(two.server.namespace, LAN6_HOST)


def test_a_route_waits_for_its_peer(two: Tunnel) -> None:
    """It takes effect when the peer comes, goes with it, and comes back with the next one."""
    device, client = two.server.device, two.clients[0]
    first, second = (pair.at_server for pair in two.pairs)
    with device.routes.watch():
        first.delete()
        ip(two, "route", "add", LAN, "via", client.ipv4)
        ip(two, "route", "add", LAN, "via", two.clients[1].ipv4, "metric", "9")
        becomes(two, second)
        two.pairs[0] = join(two.server, client, two.topology.links[0])
        assert owner(two) == two.pairs[0].at_server, "the better route, as soon as add_peer is done"
        ping(two.server.namespace, LAN_HOST)
        two.pairs[0].at_server.set(vpn_ipv4="10.9.0.77")
        assert owner(two) == second
        two.pairs[0].at_server.set(vpn_ipv4=client.ipv4)
        assert owner(two) == two.pairs[0].at_server
        two.pairs[0].at_server.delete()
        assert owner(two) == second


def test_a_peer_that_expires_gives_way_when_its_event_is_read(two: Tunnel) -> None:
    with two.server.device.routes.watch():
        ip(two, "route", "add", LAN, "via", two.clients[0].ipv4)
        ip(two, "route", "add", LAN, "via", two.clients[1].ipv4, "metric", "9")
        becomes(two, two.pairs[0].at_server)
        two.pairs[0].at_server.set_keepalive(interval_s=0, timeout_s=1)
        two.server.events(dco.PeerDeleted)
        assert owner(two) == two.pairs[1].at_server


def test_what_was_added_by_a_call_goes_first(two: Tunnel) -> None:
    routes = two.server.device.routes
    first, second = (pair.at_server for pair in two.pairs)
    with routes.watch():
        ip(two, "route", "add", LAN, "via", two.clients[0].ipv4)
        becomes(two, first)
        routes.add(LAN, second)
        assert owner(two) == second
        assert routes.watched == []
        with pytest.raises(dco.AlreadyExists):
            routes.add(LAN, first)
        ip(two, "route", "replace", LAN, "via", two.clients[0].ipv4, "mtu", "1000")
        ip(two, "-6", "route", "add", LAN6, "via", two.clients[0].ipv6)
        becomes(two, first, LAN6_HOST)  # and what came before it has been looked at by now
        assert owner(two) == second
        routes.remove(LAN)
        assert owner(two) == first
        with pytest.raises(dco.NotFound):
            routes.remove(LAN)
        routes.add(LAN, second)
        second.delete()
        assert owner(two) == first
    assert owner(two) is None


def test_a_peers_own_address_goes_first(two: Tunnel) -> None:
    """Whichever comes first; and the route has its turn when the address is free."""
    first, second = (pair.at_server for pair in two.pairs)
    own, own6, later = "10.9.0.77", "fd09::77", "10.9.0.79"
    with two.server.device.routes.watch():
        ip(two, "route", "add", own, "via", two.clients[0].ipv4)
        ip(two, "-6", "route", "add", own6, "via", two.clients[0].ipv6)
        becomes(two, first, own)
        becomes(two, first, own6)
        with pytest.raises(dco.AddressInUse):
            second.set(vpn_ipv4=own, vpn_ipv6=two.clients[0].ipv6)
        assert owner(two, own) == first, "as before"
        second.set(vpn_ipv4=own, vpn_ipv6=own6)
        assert (owner(two, own), owner(two, own6)) == (second, second)
        second.set(vpn_ipv4=later)
        assert (owner(two, own), owner(two, own6)) == (first, second)
        ip(two, "route", "add", later, "via", two.clients[0].ipv4)
        ip(two, "route", "add", LAN, "via", two.clients[0].ipv4)
        becomes(two, first)  # and what came before it has been looked at by now
        assert owner(two, later) == second
        second.delete()
        assert (owner(two, own6), owner(two, later)) == (first, first)


def test_who_sets_a_peer_does_not_wait_for_the_kernel(
    two: Tunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = threading.Event(), threading.Event()
    look = RouteMonitor._dump

    def slow(*arguments: Any) -> bool:
        asked.set()
        answer.wait()
        return look(*arguments)

    with two.server.device.routes.watch():
        monkeypatch.setattr(RouteMonitor, "_dump", slow)
        ip(two, "addr", "add", "10.99.0.1/24", "dev", two.server.name)
        ip(two, "addr", "del", "10.99.0.1/24", "dev", two.server.name)
        assert asked.wait(20)
        change = {"vpn_ipv4": "10.9.0.77"}
        setting = threading.Thread(target=two.pairs[0].at_server.set, kwargs=change)
        setting.start()
        setting.join(5)
        waits = setting.is_alive()
        answer.set()
        setting.join()
        assert not waits


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("failure", [OSError("gone"), KeyError("attrs")], ids=["system", "mistake"])
def test_a_watch_tells_that_it_has_ended(
    two: Tunnel, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise failure

    with two.server.device.routes.watch() as watch:
        monkeypatch.setattr(RouteMonitor, "follow", fail)
        ip(two, "route", "add", LAN, "via", two.clients[0].ipv4)
        eventually(lambda: watch.error is failure, what="told")


def test_ends_of_the_interface_and_of_the_watch(two: Tunnel) -> None:
    """Routes that the kernel drops without a word go with address and link."""
    device, name = two.server.device, two.server.name
    with device.routes.watch():
        with pytest.raises(dco.Busy):
            device.routes.watch()
        ip(two, "route", "add", LAN, "via", two.clients[0].ipv4)
        becomes(two, two.pairs[0].at_server)
        ip(two, "addr", "del", f"{SERVER_IPV4}/24", "dev", name)
        becomes(two, None)
        ip(two, "addr", "add", f"{SERVER_IPV4}/24", "dev", name)
        ip(two, "route", "add", LAN, "via", two.clients[0].ipv4)
        becomes(two, two.pairs[0].at_server)
        ip(two, "link", "set", name, "down")
        becomes(two, None)
    second = device.routes.watch()
    device.close()
    assert second.closed


def test_handed_over(two: Tunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    """They work on in the next process, and its watch knows what has become of them."""
    old, name = two.server.device, two.server.name
    with old.routes.watch():
        ip(two, "route", "add", LAN, "via", two.clients[0].ipv4)
        ip(two, "-6", "route", "add", LAN6, "via", two.clients[0].ipv6)
        becomes(two, two.pairs[0].at_server, LAN6_HOST)
        state, fds = old.export_state()
        copies = [os.dup(fd) for fd in fds]
        old.close()
    try:
        options = {"netns": two.server.namespace.fd, "restore": state, "descriptors": copies}
        new = dco.Device.open(name, mode=dco.Mode.MULTIPEER, **options)
    finally:
        for fd in copies:
            os.close(fd)
    with new:
        assert {route.prefix for route in new.routes.watched} == {LAN, LAN6}
        ping(two.server.namespace, LAN_HOST)
        ip(two, "route", "del", LAN, "via", two.clients[0].ipv4)
        backend, withdrawn = new.peers.backend, []
        delete = backend.delete_route
        monkeypatch.setattr(
            backend, "delete_route", lambda key: (withdrawn.append(key), delete(key))
        )
        with new.routes.watch():
            assert [route.prefix for route in new.routes.watched] == [LAN6]
            lan = ipaddress.ip_network(LAN)
            assert withdrawn == [(lan.network_address.packed, 24)], "the others stayed"


def test_p2p_and_descriptors_have_nothing_to_watch(tunnel: Tunnel) -> None:
    with pytest.raises(dco.InvalidArgument):
        tunnel.client.device.routes.watch()


@pytest.fixture
def monitor(tunnel: Tunnel) -> Iterator[RouteMonitor]:
    where = tunnel.server.namespace.fd
    index = get_index(tunnel.server.name, namespace=where)
    monitor = RouteMonitor(index, namespace=where, buffer=2048)
    yield monitor
    monitor.close()


def test_what_did_not_fit_is_found(tunnel: Tunnel, monitor: RouteMonitor) -> None:
    """More changes than the socket can keep: the dump has them."""
    routes: PeerRoutes[int] = PeerRoutes()
    routes.set_addresses(2, [ipaddress.ip_address(tunnel.client.ipv4)])
    monitor.look(routes, threading.Lock())
    assert routes.changes() == {}
    batch = [f"route add 172.16.{n}.0/24 via {tunnel.client.ipv4}" for n in range(250)]
    tunnel.server.namespace.run(["ip", "-batch", "-"], input_text="\n".join(batch))
    monitor.follow(routes, threading.Lock())
    assert len(routes.changes()) == 250
    batch = [f"route del 172.16.{n}.0/24" for n in range(1, 250)]
    tunnel.server.namespace.run(["ip", "-batch", "-"], input_text="\n".join(batch))
    monitor.follow(routes, threading.Lock())
    assert list(routes.changes().values()) == [None] * 249
