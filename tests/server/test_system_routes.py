"""Routes of a server: when they are there, who holds them, and that no call holds up the loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections.abc import Collection, Iterator, Sequence
from ipaddress import IPv4Interface, IPv4Network, IPv6Network
from types import SimpleNamespace
from typing import Any

import profile_lab
import pytest

from ovpn_dco.config import ClientOverrides
from ovpn_dco.errors import PermissionDenied
from ovpn_dco.net.routing import SystemRoute
from ovpn_dco.server.system_routes import SystemRoutes, networks_of

A, B = IPv4Network("192.168.1.0/24"), IPv4Network("192.168.2.0/24")


class FakeRouting:
    """A system that is slow while `gate` is closed, and may refuse."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.refuses = False
        self.log: list[str] = []
        self.applied: tuple[SystemRoute, ...] = ()

    def apply(self, changes: Sequence[SystemRoute]) -> None:
        assert self.gate.wait(20)
        if self.refuses:
            raise PermissionDenied(errno.EPERM, "tun0 refuses")
        self.log += [f"+{change.network} {change.metric}" for change in changes]
        self.applied += tuple(changes)

    def undo(self, chosen: Collection[SystemRoute]) -> None:
        assert self.gate.wait(20)
        done = [change for change in self.applied if change in chosen]
        self.log += [f"-{change.network}" for change in done]
        self.applied = tuple(change for change in self.applied if change not in chosen)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRouting]:
    fake = FakeRouting()
    monkeypatch.setattr("ovpn_dco.server.system_routes.Routing", lambda *_, **__: fake)
    yield fake
    fake.gate.set()


def made(*lines: str) -> SystemRoutes:
    device: Any = SimpleNamespace(ifindex=7, name="tun0")
    return SystemRoutes(profile_lab.server(*lines), device, None)


async def settled(routes: SystemRoutes) -> None:
    while routes._work is not None:
        await asyncio.wait({routes._work})


def test_who_comes_waits_for_the_routes_and_nobody_else_does(system: FakeRouting) -> None:
    async def body() -> None:
        routes = made()
        system.gate.clear()
        holding = asyncio.create_task(routes.hold((A, B)))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not holding.done()
        system.gate.set()
        await holding
        assert system.log == [f"+{A} 100", f"+{B} 100"]

    asyncio.run(body())


def test_what_two_clients_hold_goes_with_the_last(system: FakeRouting) -> None:
    """A client that connects anew is there twice for a moment: its networks stay reachable."""

    async def body() -> None:
        routes = made()
        await routes.hold((A,))
        await routes.hold((A, B))
        routes.release((A,))
        await settled(routes)
        assert system.log == [f"+{A} 100", f"+{B} 100"]
        routes.release((A, B))
        await settled(routes)
        assert set(system.log[2:]) == {f"-{A}", f"-{B}"}

    asyncio.run(body())


def test_a_client_that_ends_while_it_waits_leaves_no_route(system: FakeRouting) -> None:
    async def body() -> None:
        routes = made()
        system.gate.clear()
        holding = asyncio.create_task(routes.hold((A,)))
        await asyncio.sleep(0)
        holding.cancel()
        routes.release((A,))
        system.gate.set()
        await settled(routes)
        await settled(routes)
        assert system.applied == ()

    asyncio.run(body())


def test_a_route_that_is_wanted_again_while_it_goes(system: FakeRouting) -> None:
    async def body() -> None:
        routes = made()
        await routes.hold((A,))
        system.gate.clear()
        routes.release((A,))
        await asyncio.sleep(0)
        holding = asyncio.create_task(routes.hold((A,)))
        await asyncio.sleep(0)
        system.gate.set()
        await holding
        await settled(routes)
        assert [route.network for route in system.applied] == [A]

    asyncio.run(body())


def test_a_route_that_is_refused_keeps_nobody_out(
    system: FakeRouting, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that has given up its privileges may have a route of the configuration instead."""

    async def body() -> None:
        routes = made()
        system.refuses = True
        await routes.hold((A,))
        routes.release((A,))
        await settled(routes)

    with caplog.at_level(logging.WARNING, "ovpn_dco.server"):
        asyncio.run(body())
    assert "no route to a network behind a client: tun0 refuses" in caplog.text


def test_routes_of_the_configuration(system: FakeRouting) -> None:
    async def body() -> None:
        routes = made(
            "route 192.168.1.0 255.255.255.0",
            "route 192.168.2.0 255.255.255.0 10.8.0.9 5",
            "route 192.168.3.0 255.255.255.0 net_gateway",
            "route-ipv6 fd01::/64",
            "route 192.168.4.0 255.255.255.0 192.0.2.1",
        )
        await routes.open()
        assert system.log == [f"+{A} 200", f"+{B} 5", "+fd01::/64 200", "+192.168.4.0/24 200"]
        system.log.clear()
        await routes.close()
        # The others go with the interface.
        assert system.log == ["-192.168.4.0/24"]

    asyncio.run(body())


def test_routes_where_none_are_wanted(system: FakeRouting) -> None:
    async def body() -> None:
        routes = made("route 192.168.1.0 255.255.255.0", "route-noexec")
        await routes.open()
        await routes.hold((A,))
        routes.release((A,))
        await routes.close()
        assert system.log == []

    asyncio.run(body())


def test_networks_of_a_client() -> None:
    pool = profile_lab.server("server-ipv6 fd08::/64").pool
    inside = ClientOverrides(ipv4=IPv4Interface("10.8.0.9/24"))
    assert networks_of(inside, pool, iroutes=True) == ()
    outside = ClientOverrides(
        ipv4=IPv4Interface("10.9.0.9/24"), iroutes=(A, IPv6Network("fd01::/64"))
    )
    host = IPv4Network("10.9.0.9/32")
    assert networks_of(outside, pool, iroutes=True) == (A, IPv6Network("fd01::/64"), host)
    assert networks_of(outside, pool, iroutes=False) == (host,)
