"""Tunnels for tests: devices in network namespaces, joined with keys both ways, and the tools that
put traffic through them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from security.forge import opposite_keys
from support import needs_tool

import ovpn_dco as dco
from ovpn_dco.testing import Link, Namespace, Topology

SYSTEM = [pytest.mark.root, pytest.mark.system, needs_tool("ping", "iperf3")]

PORT = 1194
FLOOD_NICE = 10
# For something that is certain to come; says nothing about speed: the guest's is an emulated one.
PATIENCE_S = 60.0 if "OVPN_DCO_KERNEL" in os.environ else 20.0
SERVER_IPV4, SERVER_IPV6 = "10.9.0.1", "fd09::1"
T = TypeVar("T")


def eventually(look: Callable[[], T], *, timeout_s: float = PATIENCE_S, what: str = "") -> T:
    """What `look` returns as soon as it is true; fails with `what` when it never is."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = look()
        if result:
            return result
        assert time.monotonic() < deadline, f"never came about: {what or look}; last: {result!r}"
        time.sleep(0.005)


def inner_ipv4(number: int) -> str:
    return f"10.9.0.{number}"


def inner_ipv6(number: int) -> str:
    return f"fd09::{number:x}"


class Site:
    """One device in a namespace, with an interface and one attached UDP socket.

    Number 1 is the server. The inner addresses are 10.9.0.N and fd09::N."""

    def __init__(
        self,
        namespace: Namespace,
        number: int,
        *,
        mode: dco.Mode,
        host: str = "0.0.0.0",
        port: int = PORT,
        prepare: Callable[[socket.socket], object] | None = None,
        attach: dict[str, Any] | None = None,
        prefixes: tuple[int, int] = (24, 64),
        **options: Any,
    ) -> None:
        """`prepare` is given the socket before it is bound, `attach` are options of `attach_udp`,
        other options those of `Device.open`."""
        self.namespace = namespace
        self.number = number
        self.name = f"ovpn{number}"
        self.ipv4, self.ipv6 = inner_ipv4(number), inner_ipv6(number)
        options.setdefault("max_peers", 256)
        self.device = dco.Device.open(
            self.name,
            mode=mode,
            netns=namespace.fd,
            addresses=(f"{self.ipv4}/{prefixes[0]}", f"{self.ipv6}/{prefixes[1]}"),
            up=True,
            **options,
        )
        try:
            self.socket = namespace.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            if prepare:
                prepare(self.socket)
            self.socket.bind((host, port))
            self.transport = self.device.attach_udp(self.socket, **(attach or {}))
        except BaseException:
            self.device.close()
            raise

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def close(self) -> None:
        self.device.close()
        self.socket.close()

    def events(self, kind: type[T], count: int = 1) -> list[T]:
        """The next `count` events of a kind; others are passed over."""
        found: list[T] = []

        def enough() -> bool:
            new = self.device.poll_events(timeout_s=0.2)
            found.extend(event for event in new if isinstance(event, kind))
            return len(found) >= count

        eventually(enough, what=f"{count} {kind.__name__}")
        assert len(found) == count
        return found


@dataclass(frozen=True)
class Pair:
    """One connection: the client as the server's peer, and the server as the client's."""

    at_server: dco.Peer
    at_client: dco.Peer

    def install(self, slot: dco.KeySlot, key_id: int, cipher: dco.Cipher | None = None) -> None:
        """A fresh key at both ends."""
        ours, theirs = opposite_keys(key_id, cipher or dco.Cipher.AES_256_GCM)
        self.at_server.install_key(slot, ours)
        self.at_client.install_key(slot, theirs)


def join(
    server: Site,
    client: Site,
    link: Link,
    *,
    outer: str = "ipv4",
    cipher: dco.Cipher = dco.Cipher.AES_256_GCM,
    ids: tuple[int, int] | None = None,
    server_host: str | None = None,
) -> Pair:
    """Peers at both ends, and a key between them.

    `ids` are the id that the server receives and the one that the client receives (default: the
    client's number both ways). `server_host` is where the client believes the server to be."""
    ipv6 = outer == "ipv6"
    to_server, to_client = ids or (client.number, client.number)
    at_server = server.device.add_peer(
        to_server,
        server.transport,
        remote=(link.right_ipv6 if ipv6 else link.right_ipv4, client.port),
        vpn_ipv4=client.ipv4,
        vpn_ipv6=client.ipv6,
        tx_id=to_client,
    )
    at_client = client.device.add_peer(
        to_client,
        client.transport,
        remote=(server_host or (link.left_ipv6 if ipv6 else link.left_ipv4), server.port),
        tx_id=to_server,
    )
    pair = Pair(at_server, at_client)
    pair.install(dco.KeySlot.PRIMARY, 0, cipher)
    return pair


def frame(packet: bytes) -> bytes:
    """A packet as it stands in a TCP stream."""
    return struct.pack("!H", len(packet)) + packet


def connect(
    server: Namespace, client: Namespace, link: Link, *, outer: str = "ipv4"
) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection over the link: the server's and the client's."""
    host = link.left_ipv6 if outer == "ipv6" else link.left_ipv4
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    far = client.socket(family, socket.SOCK_STREAM)
    with server.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((host, 0))
        listener.listen()
        far.settimeout(PATIENCE_S)
        far.connect(listener.getsockname()[:2])
        near, _ = listener.accept()
    return near, far


def join_tcp(
    server: Site,
    client: Site,
    link: Link,
    *,
    outer: str = "ipv4",
    cipher: dco.Cipher = dco.Cipher.AES_256_GCM,
) -> Pair:
    """The same over a TCP connection, which goes when both transports are closed."""
    near, far = connect(server.namespace, client.namespace, link, outer=outer)
    with near, far:
        at_server = server.device.add_peer(
            client.number,
            server.device.attach_tcp(near),
            vpn_ipv4=client.ipv4,
            vpn_ipv6=client.ipv6,
        )
        at_client = client.device.add_peer(client.number, client.device.attach_tcp(far))
    pair = Pair(at_server, at_client)
    pair.install(dco.KeySlot.PRIMARY, 0, cipher)
    return pair


@dataclass
class Tunnel:
    """A server, its clients, one per spoke of the topology, and what joins them."""

    topology: Topology
    server: Site
    clients: list[Site] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    @property
    def client(self) -> Site:
        return self.clients[0]

    @property
    def pair(self) -> Pair:
        return self.pairs[0]

    @property
    def sites(self) -> list[Site]:
        return [self.server, *self.clients]

    def close(self) -> None:
        for site in self.sites:
            site.close()
        self.topology.close()

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_tunnel(
    *,
    spokes: int = 1,
    bare: bool = False,
    wire_mtu: int = 1500,
    outer: str = "ipv4",
    host: str | None = None,
    cipher: dco.Cipher = dco.Cipher.AES_256_GCM,
    ids: tuple[int, int] | None = None,
    tcp: bool = False,
    server: dict[str, Any] | None = None,
    client: dict[str, Any] | None = None,
    **common: Any,
) -> Tunnel:
    """A MULTIPEER server and a P2P client in each spoke, joined over UDP, or over `tcp`.

    `outer` is the family between them, `host` what the sockets are bound to (default: any address
    of that family). `server` and `client` are options for one of them, `common` those for both."""
    host = host or ("::" if outer == "ipv6" else "0.0.0.0")
    topology = Topology(spokes=spokes, bare=bare, mtu=wire_mtu)
    with contextlib.ExitStack() as undo:
        undo.callback(topology.close)
        left = Site(
            topology.left,
            1,
            mode=dco.Mode.MULTIPEER,
            **{"host": host, **common, **(server or {})},
        )
        undo.callback(left.close)
        tunnel = Tunnel(topology, left)
        for number, (spoke, link) in enumerate(
            zip(topology.spokes, topology.links, strict=True), 2
        ):
            right = Site(
                spoke, number, mode=dco.Mode.P2P, **{"host": host, **common, **(client or {})}
            )
            undo.callback(right.close)
            tunnel.clients.append(right)
            tunnel.pairs.append(
                join_tcp(left, right, link, outer=outer, cipher=cipher)
                if tcp
                else join(left, right, link, outer=outer, cipher=cipher, ids=ids)
            )
        undo.pop_all()
        return tunnel


# Traffic


@dataclass(frozen=True)
class Pings:
    """What `ping` counted."""

    sent: int
    received: int


def ping_command(
    address: str, *, count: int, size: int, interval_s: float, options: Iterable[str] = ()
) -> list[str]:
    """A ping that ends by itself; for the last answer it waits two seconds."""
    command = ["ping", "-n", "-q", "-c", str(count), "-s", str(size), "-W", "2"]
    command += ["-f"] if interval_s == 0 else ["-i", str(interval_s)]
    return [*command, *options, address]


def ping_result(output: str) -> Pings:
    found = re.search(r"(\d+) packets transmitted, (\d+) received", output)
    assert found, output
    return Pings(int(found[1]), int(found[2]))


def ping(
    namespace: Namespace,
    address: str,
    *,
    count: int = 5,
    size: int = 56,
    interval_s: float = 0.01,
    options: Iterable[str] = (),
) -> Pings:
    """Pings, and fails unless every one is answered. `interval_s` 0 is a flood.

    After the last request ping waits no longer than the answers took so far, so on a busy machine
    it may miss the last ones: then the kernel of the namespace is asked whether they came."""
    before = echo_replies(namespace)
    result = try_ping(
        namespace, address, count=count, size=size, interval_s=interval_s, options=options
    )
    assert result.sent == count
    if result.received < count:
        eventually(
            lambda: echo_replies(namespace) - before >= count, what=f"{count} answers: {result}"
        )
    return result


def echo_replies(namespace: Namespace) -> int:
    """ICMP and ICMPv6 echo replies that the namespace has received."""
    with namespace.enter():
        lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
        lines6 = Path("/proc/thread-self/net/snmp6").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Icmp:"))
    ipv6 = dict(line.split() for line in lines6)
    return int(values[names.index("InEchoReps")]) + int(ipv6["Icmp6InEchoReplies"])


def try_ping(
    namespace: Namespace,
    address: str,
    *,
    count: int = 5,
    size: int = 56,
    interval_s: float = 0.01,
    options: Iterable[str] = (),
) -> Pings:
    """Pings, answered or not."""
    command = ping_command(address, count=count, size=size, interval_s=interval_s, options=options)
    return ping_result(namespace.run(command, check=False).stdout)


def assert_no_answer(namespace: Namespace, address: str) -> None:
    assert try_ping(namespace, address, count=3, options=("-W", "0.3")).received == 0


class RunningPing:
    """Pings in the background, until told to stop."""

    def __init__(
        self,
        namespace: Namespace,
        address: str,
        *,
        interval_s: float = 0.01,
        options: Iterable[str] = (),
    ) -> None:
        self._namespace = namespace
        self._before = echo_replies(namespace)
        pace = ["-i", str(interval_s)] if interval_s else ["-f"]
        command = ["ping", "-n", "-q", *pace, *options, address]
        # SIGPIPE stays ignored: the kernel's driver (Linux 7.3) sends on a TCP connection as who-
        # ever it is that sends a packet, and is killed by it when the connection has been closed.
        self._process = namespace.popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            restore_signals=False,
        )
        if not interval_s:
            self._step_aside()

    def _step_aside(self) -> None:
        """Beside floods in sessions of their own a process that a test starts may get no processor
        for a minute (seen on Linux 6.18: runnable between vfork and exec)."""
        os.setpriority(os.PRIO_PROCESS, self._process.pid, FLOOD_NICE)
        with contextlib.suppress(OSError):  # sched(7), autogroup: the session's is what counts
            Path(f"/proc/{self._process.pid}/autogroup").write_text(str(FLOOD_NICE))

    def stop(self) -> Pings:
        """SIGINT makes it tell its figures; the last answers may still be on their way then."""
        self._process.send_signal(2)
        output, _ = self._process.communicate(timeout=PATIENCE_S)
        return ping_result(output)

    def stop_without_loss(self) -> Pings:
        """The same, and fails unless every request is answered in the end. Says nothing when
        others ping from the same namespace."""
        result = self.stop()
        eventually(
            lambda: echo_replies(self._namespace) - self._before >= result.sent,
            what=f"every answer: {result}",
        )
        return result


def listening_iperf3(server: Namespace, *options: str) -> subprocess.Popen[str]:
    """A server of iperf3, once clients can come."""
    listener = server.popen(
        ["iperf3", "-s", "--forceflush", *options], stdout=subprocess.PIPE, text=True
    )
    assert listener.stdout
    while "listening" not in (line := listener.stdout.readline()):
        assert line, "iperf3 does not listen"
    return listener


def iperf3(
    server: Namespace,
    client: Namespace,
    address: str,
    *,
    udp: bool = False,
    reverse: bool = False,
    megabytes: int = 16,
    options: Iterable[str] = (),
) -> dict[str, Any]:
    """One transfer of a fixed size, from the client or, with `reverse`, to it; its report.

    UDP to the client lasts a second instead: for bytes that were lost its client waits forever."""
    listener = listening_iperf3(server, "-1")
    amount = ["-t", "1"] if udp and reverse else ["-n", f"{megabytes}M"]
    command = ["iperf3", "-c", address, "-J", *amount]
    command += ["-u", "-b", "200M", "-l", "1200"] if udp else []
    command += ["-R"] if reverse else []
    output = client.run([*command, *options]).stdout
    listener.wait(timeout=PATIENCE_S)
    report: dict[str, Any] = json.loads(output)
    assert "error" not in report, report["error"]
    return report


# Watching the wire


class Sniffer:
    """Reads the packets of an interface as the stack hands them over."""

    def __init__(self, namespace: Namespace, interface: str, program: bytes = b"") -> None:
        """`program` is classic BPF that chooses packets."""
        with namespace.enter():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            if program:
                self._attach(program)
            self._socket.bind((interface, 3))  # ETH_P_ALL

    def _attach(self, program: bytes) -> None:
        instructions = ctypes.create_string_buffer(program)
        sock_fprog = struct.pack("HP", len(program) // 8, ctypes.addressof(instructions))
        self._socket.setsockopt(socket.SOL_SOCKET, 26, sock_fprog)  # SO_ATTACH_FILTER

    def packets(self) -> list[tuple[bool, bytes]]:
        """What has come: whether it went out, and the IP packet."""
        found = []
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, (_, _, kind, *_) = self._socket.recvfrom(65536)
                found.append((kind == socket.PACKET_OUTGOING, packet))
        return found

    def datagrams(self) -> list[tuple[bool, bytes]]:
        """The payloads of UDP among them."""
        found = []
        for outgoing, packet in self.packets():
            if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_UDP:
                found.append((outgoing, packet[28:]))
            elif packet[0] >> 4 == 6 and packet[6] == socket.IPPROTO_UDP:
                found.append((outgoing, packet[48:]))
        return found

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Sniffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
