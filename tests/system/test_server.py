"""Our server and our clients, in network namespaces, with traffic between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from server_lab import assert_idle, open_files
from support import needs_root, needs_tool
from system.endpoints import (
    BOTH,
    SERVER_IPV4,
    Office,
    Running,
    both_ways,
    renegotiate,
    routes,
)
from system.tunnel import eventually, ping

from ovpn_dco import Server
from ovpn_dco.config import ServerHooks
from ovpn_dco.protocol.session_events import EndReason
from ovpn_dco.server import AddressNotice, ConnectRequest, DisconnectNotice

pytestmark = [needs_root, pytest.mark.system, needs_tool("ping", "ip")]


@pytest.fixture
def office() -> Iterator[Office]:
    made = Office()
    yield made
    made.close()


# Ways to connect


@pytest.mark.parametrize("ipv6", [False, True], ids=["over-ipv4", "over-ipv6"])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_traffic_and_renegotiation(office: Office, protocol: str, ipv6: bool) -> None:
    server = office.server(listen=BOTH)
    client = office.client(protocol=protocol, ipv6=ipv6)
    both_ways(server, client)
    renegotiate(server, client)
    both_ways(server, client)
    client.close()
    server.until(lambda one: not one.clients)


def test_keys_that_have_carried_enough(office: Office) -> None:
    """Both ends count, and ask for the next key."""
    server = office.server("reneg-pkts 40")
    client = office.client()
    ping(client.namespace, SERVER_IPV4, count=30)

    def has_next_key(one: Server) -> bool:
        (connection,) = one._connections.values()
        return connection.session._primary.key_id == 1 and connection.session.has_arrived

    server.until(has_next_key, "the next key")
    both_ways(server, client)


# What is behind a client


def test_networks_behind_a_client(office: Office, tmp_path: Path) -> None:
    """They can be reached as soon as the client is there, and are gone with it."""
    (tmp_path / "client-1").write_text(
        "iroute 192.168.77.0 255.255.255.0\niroute-ipv6 fd77::/64\n"
        "ifconfig-push 10.77.0.5 255.255.255.0\npush 'route 10.8.0.0 255.255.255.0'\n"
    )
    office.topology.right.add_address("lo", "192.168.77.1/24")
    office.topology.right.add_address("lo", "fd77::1/64")
    server = office.server(f"client-config-dir {tmp_path}")
    assert routes(server.namespace) == set()
    client = office.client()
    assert routes(server.namespace) == {"192.168.77.0/24 100", "fd77::/64 100", "10.77.0.5 100"}
    for address in ("192.168.77.1", "fd77::1", "10.77.0.5"):
        ping(server.namespace, address)
    client.close()
    server.until(lambda one: not one.clients)
    eventually(lambda: routes(server.namespace) == set(), what="no routes")


def test_routes_of_the_system_lead_to_clients(office: Office) -> None:
    """Whatever the configuration says, as long as they are there."""
    office.topology.right.add_address("lo", "192.168.77.1/24")
    server = office.server(watch_routes=True)
    client = office.client()
    tunnel = client.ask(lambda one: one.tunnel)
    assert tunnel is not None
    assert tunnel.ipv4 is not None
    route = ["192.168.77.0/24", "via", str(tunnel.ipv4.ip), "dev", "tun0"]
    server.namespace.run(["ip", "route", "add", *route])
    server.until(lambda one: one.device.routes.watched, "the route is the client's")
    ping(server.namespace, "192.168.77.1")
    server.namespace.run(["ip", "route", "del", *route])
    server.until(lambda one: not one.device.routes.watched, "the route is gone")
    assert server.ask(lambda one: one.device.routes.lookup("192.168.77.1")) is None


def test_a_client_that_connects_anew_keeps_its_networks(office: Office, tmp_path: Path) -> None:
    (tmp_path / "client-1").write_text("iroute 192.168.77.0 255.255.255.0\n")
    office.topology.right.add_address("lo", "192.168.77.1/24")
    server = office.server(f"client-config-dir {tmp_path}")
    client = office.client()
    for _ in range(2):
        first = server.ask(lambda one: one.clients[0].peer_id)
        server.ask(lambda one: one.disconnect(one.clients[0].peer_id))
        server.until(lambda one: one.clients and one.clients[0].peer_id != first)  # noqa: B023
        client.until(lambda one: one.connected)
        ping(server.namespace, "192.168.77.1")


def test_routes_of_the_configuration(office: Office) -> None:
    office.topology.left.add_address("lo", "192.0.2.1/32")
    server = office.server(
        "route 192.168.70.0 255.255.255.0",
        "route 192.168.71.0 255.255.255.0 vpn_gateway 7",
        "route-ipv6 fd70::/64",
        f"route 192.168.72.0 255.255.255.0 {office.link.right_ipv4}",
    )
    assert routes(server.namespace) == {"192.168.70.0/24 200", "192.168.71.0/24 7", "fd70::/64 200"}
    assert routes(server.namespace, office.link.left_name) == {"192.168.72.0/24 200"}
    server.close()
    assert routes(server.namespace, office.link.left_name) == set()


def test_an_interface_in_another_namespace(tmp_path: Path) -> None:
    """The way to the clients is there, too; their packets come in here."""
    office = Office(spokes=2)
    try:
        (tmp_path / "client-1").write_text("iroute 192.168.77.0 255.255.255.0\n")
        inside = office.topology.spokes[1]
        office.topology.right.add_address("lo", "192.168.77.1/24")
        lines = (f"client-config-dir {tmp_path}", "route 192.168.70.0 255.255.255.0")
        server = office.server(*lines, interface_in=inside)
        client = office.client()
        assert not server.namespace.has_interface("tun0")
        assert routes(inside) == {"192.168.77.0/24 100", "192.168.70.0/24 200"}
        ping(inside, "192.168.77.1")
        ping(client.namespace, SERVER_IPV4)
    finally:
        office.close()


def test_no_routes_where_that_is_wanted(office: Office) -> None:
    server = office.server("route-noexec", "route 192.168.70.0 255.255.255.0")
    office.client()
    assert routes(server.namespace) == set()


# Changes on the way


def test_a_client_that_moves(office: Office) -> None:
    """Data and renegotiations go on from its new address."""
    server = office.server()
    client = office.client()
    moved = office.link.right_ipv4.rpartition(".")[0] + ".77"
    with office.topology.right.iproute() as ipr:
        (index,) = ipr.link_lookup(ifname=office.link.right_name)
        ipr.addr("add", index=index, address=moved, prefixlen=24)
        ipr.addr("del", index=index, address=office.link.right_ipv4, prefixlen=24)
        # Both were of one network, and the second went with the first.
        if moved not in office.topology.right.run(["ip", "-4", "addr"]).stdout:
            ipr.addr("add", index=index, address=moved, prefixlen=24)
    eventually(
        lambda: (
            client.namespace.run(["ping", "-c1", "-W1", SERVER_IPV4], check=False).returncode == 0
        )
    )
    server.until(lambda one: one.clients[0].remote[0] == moved, "the move")
    renegotiate(server, client)
    both_ways(server, client)


def test_a_client_that_is_silent_is_given_up(office: Office) -> None:
    """And its last counters are told."""
    gone: list[DisconnectNotice] = []
    hooks = ServerHooks(client_disconnect=gone.append)
    server = office.server("keepalive 1 3", hooks=hooks)
    client = office.client()
    ping(client.namespace, SERVER_IPV4, count=3)
    office.topology.right.set_up(office.link.right_name, up=False)
    server.until(lambda one: not one.clients, "the end")
    server.until(lambda one: not one._connections)
    server.until(lambda one: gone)
    (notice,) = gone
    assert notice.reason is EndReason.EXPIRED
    assert notice.client.stats.vpn_rx_packets >= 3
    assert server.ask(lambda one: len(one.device.transports)) == 1


def test_a_server_that_is_started_anew(office: Office) -> None:
    """Its clients are told, and come again."""
    server = office.server("explicit-exit-notify 1")
    client = office.client()
    server.close()
    client.until(lambda one: not one.connected, "the end")
    lonely = client.namespace.run(["ping", "-c1", "-W1", SERVER_IPV4], check=False)
    assert lonely.returncode, "there is no tunnel, or nobody at its end"
    again = office.server("explicit-exit-notify 1")
    client.until(lambda one: one.connected, "the connection")
    again.until(lambda one: one.clients)
    both_ways(again, client)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_a_client_that_is_killed_and_started_anew_from_its_port(
    office: Office, protocol: str
) -> None:
    server = office.server(listen=BOTH)
    lines = ("lport 4194",) if protocol == "udp" else ()
    first = office.client(*lines, protocol=protocol)
    # What a kill leaves: neither a goodbye nor an interface.
    first.ask(lambda one: one._attempt.abandon(EndReason.LOCAL))  # type: ignore[union-attr]
    first.close()
    second = office.client(*lines, protocol=protocol)
    both_ways(server, second)
    assert server.ask(lambda one: len(one.clients)) == 1
    assert server.ask(lambda one: len(one.device.peers)) == 1


# Hooks


def test_hooks(office: Office) -> None:
    told: list[object] = []

    async def connect(request: ConnectRequest) -> None:
        told.append(f"connect {request.common_name}")

    async def learn(notice: AddressNotice) -> None:
        told.append(f"{notice.operation} {notice.address}")

    async def disconnect(notice: DisconnectNotice) -> None:
        told.append(notice)

    hooks = ServerHooks(client_connect=connect, client_disconnect=disconnect, learn_address=learn)
    server = office.server(hooks=hooks)
    client = office.client()
    ping(client.namespace, SERVER_IPV4, count=5)
    client.close()
    server.until(lambda one: len(told) == 6)
    assert told[0] == "connect client-1"
    assert set(told[1:3]) == {"add 10.8.0.2", "add fd08::1000"}
    (notice,) = (one for one in told if isinstance(one, DisconnectNotice))
    assert notice.reason is EndReason.PEER_EXIT
    assert notice.client.stats.vpn_rx_packets >= 5


# Many


def come_and_go(office: Office, server: Running[Server]) -> None:
    clients = [
        Running(place, office.prepare(spoke=n, name=f"client-{n}", protocol=("udp", "tcp")[n % 2]))
        for n, place in enumerate(office.right)
    ]
    for start in [one.place.begin(one.endpoint.start()) for one in clients]:
        start.result(60)
    assert server.ask(lambda one: len(one.clients)) == len(clients)
    for client in clients:
        ping(client.namespace, SERVER_IPV4, count=2)
    for end in [one.place.begin(one.endpoint.close()) for one in clients]:
        end.result(60)


def test_twenty_clients_at_once() -> None:
    """And nothing is left of them."""
    office = Office(spokes=20)
    try:
        server = office.server(listen=BOTH)
        before = open_files()
        come_and_go(office, server)
        server.until(lambda one: not one._connections)
        server.ask(assert_idle)
        assert open_files() == before
    finally:
        office.close()
