"""A server and clients of ours in network namespaces, each on an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import certificate_lab as lab
import profile_lab
from config_files import parse_client, parse_server
from profile_lab import IDENTITY, files
from server_lab import leaf
from system.tunnel import PATIENCE_S, ping

from ovpn_dco import Client, Server
from ovpn_dco.config import ListenConfig, Protocol
from ovpn_dco.testing import Link, Namespace, Topology

SERVER = "remote-cert-tls client\nserver 10.8.0.0 255.255.255.0\nserver-ipv6 fd08::/64\n"
CLIENT = "client\nremote-cert-tls server\nconnect-retry 1 1\n"
SERVER_IPV4, SERVER_IPV6 = "10.8.0.1", "fd08::1"
PORT = 1194
BOTH = (ListenConfig(protocol=Protocol.UDP), ListenConfig(protocol=Protocol.TCP))

T = TypeVar("T")
EndpointT = TypeVar("EndpointT", Server, Client)


class Place:
    """An event loop in a thread inside of a namespace."""

    def __init__(
        self,
        namespace: Namespace,
        make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self.namespace = namespace
        self._make_loop = make_loop
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name=f"at {namespace.name}")
        self._thread.start()

    def _run(self) -> None:
        with self.namespace.enter(), contextlib.closing(self._make_loop()) as loop:
            loop.run_until_complete(self._serve())
            loop.run_until_complete(loop.shutdown_default_executor())

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        self._loop.set_result(asyncio.get_running_loop())
        await self._over.wait()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine gives that runs there."""
        return self.begin(work).result(PATIENCE_S)

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Runs it there meanwhile."""
        return asyncio.run_coroutine_threadsafe(work, self._loop.result())

    def call(self, function: Callable[[], T]) -> T:
        """What a function gives that is called there."""

        async def work() -> T:
            return function()

        return self.wait(work())

    def tasks(self) -> int:
        """How many run there, but for those that keep it and that count."""

        async def count() -> int:
            await asyncio.sleep(0)
            return len(asyncio.all_tasks()) - 2

        return self.wait(count())

    def close(self) -> None:
        self._loop.result().call_soon_threadsafe(self._over.set)
        self._thread.join()


class Running(Generic[EndpointT]):
    """A server or a client, and where it runs."""

    def __init__(self, place: Place, endpoint: EndpointT) -> None:
        self.place = place
        self.endpoint = endpoint

    @property
    def namespace(self) -> Namespace:
        return self.place.namespace

    def ask(self, look: Callable[[EndpointT], T]) -> T:
        """What is to be seen of it, in its own thread."""
        return self.place.call(lambda: look(self.endpoint))

    def do(self, step: Callable[[EndpointT], Awaitable[T]]) -> T:
        async def work() -> T:
            return await step(self.endpoint)

        return self.place.wait(work())

    def until(self, look: Callable[[EndpointT], T], what: str = "") -> T:
        """What `look` gives as soon as that is true."""

        async def work() -> T:
            deadline = asyncio.get_running_loop().time() + PATIENCE_S - 2
            while not (result := look(self.endpoint)):
                assert asyncio.get_running_loop().time() < deadline, f"never came about: {what}"
                await asyncio.sleep(0.01)
            return result

        return self.place.wait(work())

    def close(self) -> None:
        self.do(lambda endpoint: endpoint.close())


class Office:
    """A hub with a server, and clients in its spokes."""

    def __init__(self, *, spokes: int = 1) -> None:
        self.topology = Topology(spokes=spokes)
        self.left = Place(self.topology.left)
        self.right = [Place(spoke) for spoke in self.topology.spokes]
        self._running: list[Running[Any]] = []

    @property
    def link(self) -> Link:
        return self.topology.link

    def server(
        self,
        *lines: str,
        interface_in: Namespace | None = None,
        watch_routes: bool = False,
        backend: str = "auto",
        **changes: Any,
    ) -> Running[Server]:
        """One that listens; `changes` are parts of its configuration."""
        text = "\n".join([SERVER + IDENTITY, "tls-crypt ta.key", *lines])
        config = parse_server(text, **files(lab.server_leaf(), ""))
        netns = interface_in.fd if interface_in else None
        config = replace(config, **changes)
        server = Server(config, netns=netns, watch_routes=watch_routes, backend=backend)
        return self._start(self.left, server)

    def client(
        self,
        *lines: str,
        spoke: int = 0,
        name: str = "client-1",
        protocol: str = "udp",
        ipv6: bool = False,
        port: int = PORT,
        backend: str = "auto",
    ) -> Running[Client]:
        """One that is connected."""
        client = self.prepare(
            *lines,
            spoke=spoke,
            name=name,
            protocol=protocol,
            ipv6=ipv6,
            port=port,
            backend=backend,
        )
        return self._start(self.right[spoke], client)

    def prepare(
        self,
        *lines: str,
        spoke: int = 0,
        name: str = "client-1",
        protocol: str = "udp",
        ipv6: bool = False,
        port: int = PORT,
        backend: str = "auto",
    ) -> Client:
        """One that is not started."""
        link = self.topology.links[spoke]
        host = link.left_ipv6 if ipv6 else link.left_ipv4
        remote = f"remote {host} {port} {protocol}"
        text = "\n".join([CLIENT + IDENTITY, "tls-crypt ta.key", remote, *lines])
        return Client(parse_client(text, **files(leaf(name), "")), backend=backend)

    def _start(self, place: Place, endpoint: EndpointT) -> Running[EndpointT]:
        running = Running(place, endpoint)
        self._running.append(running)
        running.do(lambda one: one.start())
        return running

    def close(self) -> None:
        for running in reversed(self._running):
            running.close()
        for place in (self.left, *self.right):
            place.close()
        self.topology.close()


def routes(namespace: Namespace, device: str = "tun0") -> set[str]:
    """Networks with their metric that are routed into an interface, but those of its addresses."""
    found = set()
    for family in ("-4", "-6"):
        for line in namespace.run(["ip", family, "route", "show", "dev", device]).stdout.split(
            "\n"
        ):
            words = line.split()
            if "metric" in words and "kernel" not in words and not line.startswith("fe80"):
                found.add(f"{words[0]} {words[words.index('metric') + 1]}")
    return found


def both_ways(server: Running[Server], client: Running[Client]) -> None:
    """Traffic of both families, from either side."""
    tunnel = client.ask(lambda one: one.tunnel)
    assert tunnel is not None
    assert tunnel.ipv4 is not None
    assert tunnel.ipv6 is not None
    ping(client.namespace, SERVER_IPV4)
    ping(client.namespace, SERVER_IPV6)
    ping(server.namespace, str(tunnel.ipv4.ip))
    ping(server.namespace, str(tunnel.ipv6.ip))


def renegotiate(server: Running[Server], client: Running[Client]) -> None:
    def begin(one: Client) -> None:
        assert one._attempt is not None
        assert one._driver is not None
        one._attempt._session.renegotiate()
        one._driver.wake()

    def has_next_key(one: Server) -> bool:
        (connection,) = one._connections.values()
        return connection.session._primary.key_id == 1 and connection.session.has_arrived

    client.ask(begin)
    server.until(has_next_key, "the next key")


def write_files(folder: Path, *, client: Iterable[str] = (), server: Iterable[str] = ()) -> None:
    """`client/client.ovpn` and `server/server.conf` with these lines, and their certificates."""
    for name, mine, lines in (
        ("client/client.ovpn", lab.client_leaf(), ("client", "remote-cert-tls server", *client)),
        ("server/server.conf", lab.server_leaf(), (profile_lab.SERVER, *server)),
    ):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        for material, data in files(mine, "").items():
            (file.parent / material).write_bytes(data)
            (file.parent / material).chmod(0o600)
        file.write_text("\n".join((*lines, IDENTITY)))
