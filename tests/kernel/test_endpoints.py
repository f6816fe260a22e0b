"""Servers and clients whose packets the kernel's driver carries: against those of our engine, and
against stock openvpn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from interop.cases import Case, Transport
from interop.ends import End
from interop.files import SERVER_IPV4 as STOCK_IPV4
from interop.files import SERVER_IPV6 as STOCK_IPV6
from interop.stage import Stage
from interop.test_matrix import RENEWALS, renewal
from kernel.guest import GUEST, KERNEL, USERSPACE
from support import needs_tool
from system.endpoints import (
    BOTH,
    SERVER_IPV4,
    Office,
    Running,
    both_ways,
    renegotiate,
    routes,
)
from system.tunnel import RunningPing, eventually, ping

from ovpn_dco import Client, Server
from ovpn_dco.config import ServerHooks
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session_events import EndReason
from ovpn_dco.server import DisconnectNotice

pytestmark = [*GUEST, pytest.mark.root, needs_tool("ping", "ip", "openvpn")]


@dataclass
class Ends:
    """A server and a client, each on its back end."""

    office: Office
    server_on: str
    client_on: str
    protocol: str

    def server(self, *lines: str, hooks: ServerHooks | None = None) -> Running[Server]:
        changes = {} if hooks is None else {"hooks": hooks}
        running = self.office.server(*lines, backend=self.server_on, listen=BOTH, **changes)
        assert running.ask(lambda one: one.device.backend) == self.server_on
        return running

    def client(self, *lines: str) -> Running[Client]:
        running = self.office.client(*lines, backend=self.client_on, protocol=self.protocol)
        assert running.ask(lambda one: one.device.backend) == self.client_on
        return running

    def cut(self) -> None:
        """The wire: nobody can say goodbye."""
        self.office.topology.right.set_up(self.office.link.right_name, up=False)


@pytest.fixture(params=["udp", "tcp"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(
    params=[(KERNEL, KERNEL), (KERNEL, USERSPACE), (USERSPACE, KERNEL)],
    ids=["kernel-kernel", "kernel-userspace", "userspace-kernel"],
)
def ends(request: pytest.FixtureRequest, protocol: str) -> Iterator[Ends]:
    office = Office()
    yield Ends(office, *request.param, protocol)
    office.close()


def test_traffic_and_renegotiation(ends: Ends) -> None:
    """Of which nobody is to notice anything."""
    server, client = ends.server(), ends.client()
    both_ways(server, client)
    running = RunningPing(client.namespace, SERVER_IPV4, interval_s=0.05)
    renegotiate(server, client)
    ping(server.namespace, "10.8.0.2", count=20)
    running.stop_without_loss()
    both_ways(server, client)


def test_networks_behind_a_client(ends: Ends, tmp_path: Path) -> None:
    (tmp_path / "client-1").write_text("iroute 192.168.77.0 255.255.255.0\niroute-ipv6 fd77::/64\n")
    for address in ("192.168.77.1/24", "fd77::1/64"):
        ends.office.topology.right.add_address("lo", address)
    server = ends.server(f"client-config-dir {tmp_path}", "explicit-exit-notify 1")
    client = ends.client()
    assert routes(server.namespace) == {"192.168.77.0/24 100", "fd77::/64 100"}
    for address in ("192.168.77.1", "fd77::1"):
        ping(server.namespace, address)
    client.close()
    server.until(lambda one: not one.clients, "the end")
    eventually(lambda: not routes(server.namespace), what="no routes")


def test_a_client_that_leaves(ends: Ends) -> None:
    gone: list[DisconnectNotice] = []
    server = ends.server(hooks=ServerHooks(client_disconnect=gone.append))
    client = ends.client("explicit-exit-notify 1")
    ping(client.namespace, SERVER_IPV4)
    client.close()
    server.until(lambda one: gone, "the goodbye")
    assert gone[0].reason is EndReason.PEER_EXIT
    assert gone[0].client.stats.vpn_rx_packets >= 5
    server.until(lambda one: not one.device.peers)
    assert not client.namespace.has_interface("tun0")


def test_a_server_that_is_started_anew(ends: Ends) -> None:
    server = ends.server("explicit-exit-notify 1")
    client = ends.client()
    server.close()
    assert not server.namespace.has_interface("tun0")
    client.until(lambda one: not one.connected, "the end")
    again = ends.server("explicit-exit-notify 1")
    client.until(lambda one: one.connected, "the connection")
    again.until(lambda one: one.clients)
    both_ways(again, client)


def test_a_client_that_vanishes(ends: Ends) -> None:
    gone: list[DisconnectNotice] = []
    server = ends.server("keepalive 1 3", hooks=ServerHooks(client_disconnect=gone.append))
    client = ends.client()
    ping(client.namespace, SERVER_IPV4)
    ends.cut()
    server.until(lambda one: gone, "the end")
    client.until(lambda one: not one.connected, "the end here")
    assert gone[0].reason is EndReason.EXPIRED
    assert server.ask(lambda one: len(one.device.peers)) == 0
    assert server.ask(lambda one: len(one.device.transports)) == len(BOTH)


# Stock openvpn


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    with contextlib.closing(Stage(tmp_path, request.param)) as made:
        yield made


def on_kernel(end: End) -> bool:
    return end.count("kernel back end") > 0


@pytest.mark.parametrize(
    "stage",
    [Case(ours=role, transport=way) for role in Role for way in Transport],
    indirect=True,
    ids=str,
)
def test_stock_openvpn(stage: Stage) -> None:
    """Traffic while keys are renewed, a restart of the server, and the end."""
    server = stage.server(lines="server-ipv6 fd09::/64\n" + renewal(stage.case, Role.SERVER))
    client = stage.client(lines=renewal(stage.case, Role.CLIENT))
    stock = stage.stock(server, client)
    ours = server if stock is client else client
    stage.start(server, client)
    assert on_kernel(ours)
    assert not on_kernel(stock)
    for address in (STOCK_IPV4, STOCK_IPV6):
        ping(stage.there, address, size=1300)
    pings = RunningPing(stage.there, STOCK_IPV4, interval_s=0.05)
    stock.wait_for(stock.words.renewed, count=1 + RENEWALS)
    pings.stop_without_loss()
    assert server.stop() == 0
    server.start()
    client.wait_for(client.words.connected, count=2)
    ping(stage.there, STOCK_IPV4)
    assert client.stop() == 0
    server.wait_for(server.words.goodbye)
    assert server.stop() == 0
