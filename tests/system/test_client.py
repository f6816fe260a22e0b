"""A client on a real system, with our own server at the other end of a wire."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import pytest
from support import needs_root, needs_tool
from system.endpoints import Place, write_files
from system.tunnel import eventually

from ovpn_dco import Client, Ecn, Server
from ovpn_dco.client import TunnelInfo
from ovpn_dco.config import ClientHooks, parse_client, parse_server
from ovpn_dco.errors import ConnectionFailed, DcoError, InterfaceMissing, LoginRefused
from ovpn_dco.testing import Namespace, Topology

pytestmark = [needs_root, pytest.mark.system, needs_tool("ping", "ip")]

EndpointT = TypeVar("EndpointT", Server, Client)
VPN = "10.8.0.1"
DEAD = 1  # a port where nobody listens


class Scene:
    """A server in the hub, a client in the first spoke, and a host behind the server in the second.
    The client has a default route, over the wire to the server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.topology = Topology(spokes=2)
        self.hub, (self.host, self.behind) = self.topology.left, self.topology.spokes
        near, far = self.topology.links
        self.address, self.address6 = near.left_ipv4, near.left_ipv6
        self.beyond = far.right_ipv4
        self.host.add_route("0.0.0.0/0", via=near.left_ipv4)
        self.host.add_route("::/0", via=near.left_ipv6)
        self.behind.add_route("10.8.0.0/24", via=far.left_ipv4)
        self.hub.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        self.there, self.here = self._places = [Place(self.hub), Place(self.host)]
        self._started: list[tuple[Place, Server | Client]] = []

    def start(self, endpoint: EndpointT, place: Place | None = None) -> EndpointT:
        """In the place of clients, unless said otherwise."""
        place = place or self.here
        place.wait(endpoint.start())
        self._started.append((place, endpoint))
        return endpoint

    def end(self, endpoint: Server | Client) -> None:
        place, _ = next(one for one in self._started if one[1] is endpoint)
        self._started.remove((place, endpoint))
        place.wait(endpoint.close())

    def close(self) -> None:
        for _, endpoint in reversed(self._started):
            self.end(endpoint)
        for place in self._places:
            place.close()
        self.topology.close()

    def another_place(self, make_loop: Callable[[], asyncio.AbstractEventLoop]) -> Place:
        """For a client."""
        self._places.append(Place(self.host, make_loop))
        return self._places[-1]

    def files(self, client: list[str], server: list[str]) -> None:
        remote = [] if any("remote " in line for line in client) else [f"remote {self.address}"]
        write_files(
            self.folder,
            client=["dev vpn0", "connect-retry 1", *remote, *client],
            server=["dev vpn0", *server],
        )

    def server(self, *lines: str, **changes: Any) -> Server:
        """Started, of the file with these lines."""
        self.files([], list(lines))
        return self.start(Server(self._changed(parse_server, "server.conf", changes)), self.there)

    def client(self, *lines: str, **changes: Any) -> Client:
        """Not started."""
        self.files(list(lines), [])
        return Client(self._changed(parse_client, "client.ovpn", changes))

    def connect(self, *lines: str, **changes: Any) -> Client:
        return self.start(self.client(*lines, **changes))

    def _changed(self, parse: Callable[[Path], Any], name: str, changes: dict[str, Any]) -> Any:
        chosen = parse(self.folder / name.partition(".")[0] / name)
        for part, values in changes.items():
            old = getattr(chosen, part)
            new = replace(old, **values) if isinstance(values, dict) else values
            chosen = replace(chosen, **{part: new})
        return chosen

    def ip(self, *words: str) -> str:
        return self.host.run(["ip", *words]).stdout

    def dump(self) -> str:
        """All of the client's host that a client may change."""
        tables = [self.ip(family, "route", "show", "table", "all") for family in ("-4", "-6")]
        return "\n".join([self.ip("addr"), *tables])

    def ping(self, address: str = VPN, namespace: Namespace | None = None) -> None:
        (namespace or self.host).run(["ping", "-c1", "-W5", address])

    def reaches(self, address: str) -> bool:
        return self.host.run(["ping", "-c1", "-W1", address], check=False).returncode == 0

    def again(self, client: Client, seconds_s: float = 20) -> None:
        """Until the client is connected after a time when it was not."""
        eventually(lambda: not client.connected, timeout_s=seconds_s)
        eventually(lambda: client.connected, timeout_s=seconds_s)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    try:
        yield scene
    finally:
        scene.close()


def open_files() -> Counter[str]:
    """What they are, and how many of each."""
    gc.collect()
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[os.readlink(f"/proc/self/fd/{name}").partition(":")[0]] += 1
    return found


# A connection


@pytest.mark.parametrize("proto", ["udp4", "udp6", "tcp4", "tcp6"])
def test_a_tunnel_and_nothing_left_of_it(scene: Scene, proto: str) -> None:
    server = scene.server(f"proto {proto}", "server-ipv6 fd08::/64")
    address = scene.address6 if proto.endswith("6") else scene.address
    client = scene.client(f"remote {address} 1194 {proto}")
    before = scene.dump()
    scene.start(client)
    assert client.connected
    assert client.remote is not None
    assert ip_address(client.remote[0]) == ip_address(address)
    scene.ping()
    scene.ping("fd08::1")
    scene.ping("10.8.0.2", scene.hub)
    assert client.stats() is not None
    # Both ends have told the other that they bring marks of routers in.
    for device in (client.device, server.device):
        (peer,) = device.peers.values()
        assert peer.info().marking.ecn is Ecn.NORMAL
    assert [str(one.ipv4) for one in server.clients] == ["10.8.0.2/24"]
    scene.end(client)
    assert scene.dump() == before
    eventually(lambda: not server.clients, what="the server has heard of the end")


def test_nothing_of_the_process_is_left_either(scene: Scene) -> None:
    scene.server()

    def once() -> None:
        client = scene.connect()
        scene.ping()
        scene.end(client)

    def threads() -> int:
        """Without those of the loop's executor, which brings more whenever all are busy."""
        return sum(not one.name.startswith("asyncio_") for one in threading.enumerate())

    once()
    files, before = open_files(), threads()
    for _ in range(3):
        once()
    assert scene.here.tasks() == 0
    eventually(lambda: threads() == before, what=f"{before} threads")
    eventually(lambda: open_files() <= files, what=f"{files}")


# Servers that come and go


def test_it_comes_back_to_a_server_that_restarts(scene: Scene) -> None:
    first = scene.server("explicit-exit-notify 1")
    client = scene.connect(f"remote {scene.address}", f"remote {scene.address} {DEAD}")
    scene.end(first)
    scene.server("explicit-exit-notify 1")
    scene.again(client)
    assert client.remote == (scene.address, 1194)
    scene.ping()


def test_it_comes_back_to_a_server_that_was_killed(scene: Scene) -> None:
    first = scene.server("keepalive 1 2")
    client = scene.connect()
    scene.end(first)  # tells nobody
    scene.server("keepalive 1 2")
    scene.again(client)
    scene.ping()


def test_a_tcp_connection_that_breaks(scene: Scene) -> None:
    first = scene.server("proto tcp4")
    client = scene.connect(f"remote {scene.address} 1194 tcp4")
    scene.end(first)
    eventually(lambda: not client.connected)
    scene.server("proto tcp4")
    eventually(lambda: client.connected)
    scene.ping()


@pytest.mark.parametrize(
    "remotes",
    [
        ["connect-timeout 1", "remote {} 1 udp", "remote {} 1194 udp"],
        ["remote {} 1 tcp4", "remote {} 1194 udp"],
        ["remote-random", "connect-timeout 1", "remote {} 1194 udp", "remote {} 1 udp"],
        [
            "<connection>\nremote {} 1 udp\nconnect-timeout 1\n</connection>",
            "<connection>\nremote {} 1194 udp4\n</connection>",
        ],
    ],
    ids=["udp", "tcp", "random", "blocks"],
)
def test_a_dead_server_is_followed_by_another(scene: Scene, remotes: list[str]) -> None:
    scene.server()
    client = scene.connect(*(line.format(scene.address) for line in remotes))
    assert client.remote == (scene.address, 1194)
    scene.ping()


def test_a_server_of_another_name_is_none(scene: Scene) -> None:
    scene.server()
    client = scene.client("verify-x509-name Somebody name", "connect-retry-max 2")
    before = scene.dump()
    with pytest.raises(ConnectionFailed):
        scene.start(client)
    assert scene.dump() == before


# The tunnel


def test_pushed_routes_lead_to_a_host_behind_the_server(scene: Scene) -> None:
    scene.server('push "route 10.98.1.0 255.255.255.0"')
    scene.ip("route", "add", "blackhole", "10.98.0.0/16")
    assert not scene.reaches(scene.beyond)
    before = scene.dump()
    client = scene.connect()
    scene.ping(scene.beyond)
    assert client.tunnel is not None
    assert "10.98.1.0/24" in {str(route.network) for route in client.tunnel.routes}
    scene.end(client)
    assert scene.dump() == before


@pytest.mark.parametrize("flags", ["def1", ""])
def test_everything_is_led_through_the_tunnel(scene: Scene, flags: str) -> None:
    scene.server(f'push "redirect-gateway {flags}"')
    before = scene.dump()
    client = scene.connect()
    assert "dev vpn0" in scene.ip("route", "get", scene.beyond)
    assert "dev vpn0" in scene.ip("route", "get", "192.0.2.1")
    assert "dev vpn0" not in scene.ip("route", "get", scene.address)
    scene.ping(scene.beyond)
    assert client.stats().vpn_rx_bytes > 0  # type: ignore[union-attr]
    scene.end(client)
    assert scene.dump() == before


@pytest.mark.parametrize("keeps", [True, False])
def test_a_network_that_changes_does_not_lead_the_tunnel_into_itself(
    scene: Scene, keeps: bool
) -> None:
    """The route that keeps the server outside goes with the link. Sealed packets would go round
    for ever, as fast as the processor can: the server, who pings, would even seem to be there."""
    server = scene.server('push "redirect-gateway def1"', "keepalive 1 60")
    client = scene.connect(*["persist-tun"] * keeps)
    near = scene.topology.links[0]
    scene.ip("link", "set", near.right_name, "down")
    eventually(lambda: not client.connected)
    assert client.device.stats().tun_read_packets < 1000
    scene.ip("link", "set", near.right_name, "up")
    scene.host.add_route("0.0.0.0/0", via=near.left_ipv4)
    eventually(lambda: client.connected)
    assert "dev vpn0" not in scene.ip("route", "get", scene.address)
    scene.ping(scene.beyond)
    assert len(server.clients) == 1


def test_the_size_of_packets_is_pushed(scene: Scene) -> None:
    scene.server("tun-mtu 1350")
    scene.connect()
    assert "mtu 1350" in scene.ip("link", "show", "vpn0")
    scene.host.run(["ping", "-c1", "-W5", "-M", "do", "-s", str(1350 - 28), VPN])


def test_hooks_learn_what_is_in_effect(scene: Scene) -> None:
    told: list[tuple[str, TunnelInfo, bool]] = []

    def hook(name: str) -> Callable[[TunnelInfo], None]:
        return lambda info: told.append((name, info, "vpn0" in scene.ip("route", "get", VPN)))

    hooks = ClientHooks(up=hook("up"), route_up=hook("route_up"), down=hook("down"))
    scene.server('push "route 192.0.2.0 255.255.255.0"', 'push "dhcp-option DNS 10.8.0.53"')
    client = scene.connect(hooks=hooks)
    scene.end(client)
    assert [(name, reached) for name, _, reached in told] == [
        ("up", True),
        ("route_up", True),
        ("down", False),
    ]
    info = told[0][1]
    assert info is told[2][1]
    assert (info.interface, str(info.ipv4)) == ("vpn0", "10.8.0.2/24")
    assert info.environment()["route_network_1"] == "192.0.2.0"
    assert [str(one.address) for one in info.dns.servers[0].addresses] == ["10.8.0.53"]


@pytest.mark.parametrize("keeps", [True, False])
def test_persist_tun_keeps_the_tunnel_over_a_restart(scene: Scene, keeps: bool) -> None:
    server = scene.server()
    told: list[str] = []
    hooks = ClientHooks(up=lambda info: told.append("up"), down=lambda info: told.append("down"))
    client = scene.connect(*["persist-tun"] * keeps, hooks=hooks)
    index = client.device.ifindex
    scene.there.call(lambda: server.disconnect(server.clients[0].peer_id))
    eventually(lambda: not client.connected)
    if keeps:
        assert "10.8.0.2" in scene.ip("addr", "show", "vpn0")
    else:
        eventually(lambda: "10.8.0.2" not in scene.ip("addr", "show", "vpn0"))
    eventually(lambda: client.connected)
    scene.ping()
    assert client.device.ifindex == index
    assert told == (["up"] if keeps else ["up", "down", "up"])


def test_an_interface_that_is_deleted_ends_the_client(scene: Scene) -> None:
    scene.server('push "redirect-gateway def1"')
    client = scene.client()
    before = scene.dump()
    scene.start(client)
    scene.ip("link", "delete", "vpn0")
    with pytest.raises(InterfaceMissing):
        scene.here.wait(client.wait_closed())
    scene.end(client)
    assert scene.dump() == before


def test_an_address_that_the_system_refuses_ends_the_client(scene: Scene) -> None:
    """`ifconfig-push` of an address that no interface can have."""
    scene.server('push "route 192.0.2.0 255.255.255.0 10.66.0.1"')
    client = scene.client()
    before = scene.dump()
    with pytest.raises(DcoError, match=r"192\.0\.2\.0"):
        scene.start(client)
    assert scene.dump() == before


# Logins


def logins(known: dict[str, str], seen: list[str]) -> dict[str, Any]:
    def verify(request: Any) -> bool:
        seen.append(request.username)
        return known.get(request.username) == request.password

    return {"user_pass_hook": verify}


def with_password(scene: Scene, password: str) -> str:
    file = scene.folder / "login"
    file.write_text(f"alice\n{password}\n")
    file.chmod(0o600)
    return f"auth-user-pass {file}"


def test_a_refused_login_is_raised(scene: Scene) -> None:
    seen: list[str] = []
    scene.server(auth=logins({"alice": "right"}, seen))
    client = scene.client(with_password(scene, "wrong"))
    before = scene.dump()
    with pytest.raises(LoginRefused):
        scene.start(client)
    assert seen == ["alice"]
    assert scene.dump() == before


def test_a_token_spares_the_password(scene: Scene) -> None:
    seen: list[str] = []
    server = scene.server("auth-gen-token", auth=logins({"alice": "right"}, seen))
    client = scene.connect(with_password(scene, "right"))
    scene.there.call(lambda: server.disconnect(server.clients[0].peer_id))
    scene.again(client)
    assert seen == ["alice"]
    assert [one.username for one in server.clients] == ["alice"]
    scene.ping()


def test_nobody_there_is_raised(scene: Scene) -> None:
    client = scene.client(f"remote {scene.address} {DEAD} tcp4", "connect-retry-max 1")
    before = scene.dump()
    with pytest.raises(ConnectionFailed):
        scene.start(client)
    assert scene.dump() == before


# Loops and processes


@pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="not installed: uvloop")
@pytest.mark.parametrize("proto", ["udp4", "tcp4"])
def test_it_runs_on_uvloop(scene: Scene, proto: str) -> None:
    import uvloop

    scene.server(f"proto {proto}")
    place = scene.another_place(uvloop.new_event_loop)
    client = scene.start(scene.client(f"remote {scene.address} 1194 {proto}"), place)
    scene.ping()
    scene.end(client)
    assert place.tasks() == 0


def process(scene: Scene, *lines: str, text: str | None = None) -> subprocess.Popen[str]:
    scene.files(list(lines), [])
    file = scene.folder / "client" / "client.ovpn"
    if text is not None:
        file.write_text(text)
    return scene.host.popen(
        [sys.executable, "-m", "ovpn_dco", "client", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said(client: subprocess.Popen[str]) -> str:
    return client.communicate(timeout=30)[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_in_peace(scene: Scene, number: signal.Signals) -> None:
    server = scene.server('push "redirect-gateway def1"')
    before = scene.dump()
    client = process(scene)
    assert client.stdout is not None
    for line in client.stdout:
        if "connected as" in line:
            break
    scene.ping()
    client.send_signal(number)
    output = said(client)
    assert client.returncode == 0, output
    assert "Traceback" not in output
    assert scene.dump() == before
    eventually(lambda: not server.clients)


def test_a_signal_ends_the_command_while_it_tries(scene: Scene) -> None:
    client = process(scene, f"remote {scene.address} {DEAD} udp")
    assert client.stdout is not None
    for line in client.stdout:
        if "connecting to" in line:
            break
    client.send_signal(signal.SIGINT)
    output = said(client)
    assert client.returncode == 0, output
    assert "Traceback" not in output


def test_the_exit_status_says_why(scene: Scene) -> None:
    scene.server(auth=logins({"alice": "right"}, []))
    refused = process(scene, with_password(scene, "wrong"))
    assert "login refused" in said(refused)
    assert refused.returncode == 3
    alone = process(scene, f"remote {scene.address} {DEAD} tcp4", "connect-retry-max 1")
    assert "no server" in said(alone)
    assert alone.returncode == 1
    broken = process(scene, text="client\nremote vpn.example\nnonsense\n")
    assert "nonsense" in said(broken)
    assert broken.returncode == 2
