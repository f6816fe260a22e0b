"""The network that all scenarios play in: a server, `peer0`, and the clients `peer1` to `peer6`.

Each client has a veth pair to the server, 10.10.N.1 and fd00:0:0:N::1 at the server's end, .2 and
::2 at its own. Clients 1 to 3 reach the server over IPv4, 4 to 6 over IPv6; all by port 1. The
server has 5.5.5.1 inside, client N has 5.5.5.(N+1). Unless ids are `symmetric`, the server receives
id N and client N receives id N+9."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from loopback import epoch_pair
from scenarios.back_ends import BackEnd
from security.forge import opposite_keys
from system.tunnel import connect

import ovpn_dco as dco
from ovpn_dco import KeySlot
from ovpn_dco.testing import Link, Namespace, Topology

CLIENTS = (1, 2, 3, 4, 5, 6)
IPV6_CLIENTS = (4, 5, 6)
PORT = 1
MTU = 1420  # bytes
KEEPALIVE = {"keepalive_interval_s": 60, "keepalive_timeout_s": 120}
SERVER_VPN = "5.5.5.1"
ID_SHIFT = 9

Notice = tuple[int, str, str]
"""(peer id, what, detail): a notification as data."""


def plan(index: int) -> Link:
    number = index + 1
    return Link(
        left_name=f"veth{number}",
        right_name="veth0",
        left_ipv4=f"10.10.{number}.1",
        right_ipv4=f"10.10.{number}.2",
        left_ipv6=f"fd00:0:0:{number}::1",
        right_ipv6=f"fd00:0:0:{number}::2",
    )


def vpn_address(number: int) -> str:
    return f"5.5.5.{number + 1}"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What tells one script of the kernel's from another."""

    tcp: bool = False
    cipher: dco.Cipher = dco.Cipher.AES_256_GCM
    epoch: bool = False
    symmetric: bool = False
    mtu: int = MTU
    clients: tuple[int, ...] = CLIENTS

    def client_id(self, number: int) -> int:
        """The id in packets that client `number` receives."""
        return number if self.symmetric else number + ID_SHIFT

    def keys(self, key_id: int) -> tuple[dco.DataKey | dco.EpochKey, dco.DataKey | dco.EpochKey]:
        """A fresh key, as the server and as the client installs it."""
        if self.epoch:
            return epoch_pair(key_id, self.cipher, seed=key_id + 1)
        return opposite_keys(key_id, self.cipher)


class Party:
    """One end: a namespace, the device in it, and the sockets that its owner made."""

    def __init__(
        self, back_end: BackEnd, namespace: Namespace, number: int, mode: dco.Mode, mtu: int
    ) -> None:
        self.back_end = back_end
        self.namespace = namespace
        self.number = number
        self.name = f"tun{number}"
        self.vpn = vpn_address(number)
        self.sockets: list[tuple[socket.socket, dco.Transport]] = []
        self.notices: list[Notice] = []
        self.device = back_end.open(
            self.name, namespace, mode=mode, mtu=mtu, addresses=(f"{self.vpn}/24",)
        )

    def udp(self, *, ipv6: bool, host: str | None = None) -> dco.Transport:
        """Attaches a socket that is bound to port 1; one of IPv6 serves both families."""
        sock = self.namespace.socket(socket.AF_INET6 if ipv6 else socket.AF_INET)
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind((host or ("::" if ipv6 else "0.0.0.0"), PORT))
        return self._keep(sock, self.device.attach_udp(sock))

    def tcp(self, sock: socket.socket) -> dco.Transport:
        """Attaches one end of a connection."""
        return self._keep(sock, self.device.attach_tcp(sock))

    def _keep(self, sock: socket.socket, transport: dco.Transport) -> dco.Transport:
        self.sockets.append((sock, transport))
        return transport

    def lose_sockets(self) -> None:
        """As if the process that owns them were killed."""
        for sock, transport in self.sockets:
            self.back_end.take_socket_away(sock, transport)

    def listen(self, timeout_s: float = 0) -> list[Notice]:
        """All notifications so far, by peer id; waits up to `timeout_s` seconds for a further one.

        What the kernel has no notification for is passed over."""
        for event in self.device.poll_events(timeout_s=timeout_s):
            if isinstance(event, dco.PeerDeleted):
                self.notices.append((event.peer_id, "deleted", event.reason.name))
            elif isinstance(event, dco.PeerFloated):
                self.notices.append((event.peer_id, "floated", "{} {}".format(*event.remote)))
            elif isinstance(event, dco.KeySwapNeeded):
                self.notices.append((event.peer_id, "key", str(event.key_id)))
        return sorted(self.notices)

    def close(self) -> None:
        """Nothing of the device may stay."""
        self.device.close()
        for sock, _ in self.sockets:
            sock.close()
        assert not self.namespace.has_interface(self.name)


@dataclass
class Vpn:
    """The server, its clients by number, and their peers at both ends."""

    back_end: BackEnd
    shape: Shape
    topology: Topology
    server: Party
    clients: dict[int, Party] = field(default_factory=dict)
    at_server: dict[int, dco.Peer] = field(default_factory=dict)
    at_client: dict[int, dco.Peer] = field(default_factory=dict)

    @property
    def numbers(self) -> tuple[int, ...]:
        return self.shape.clients

    @property
    def parties(self) -> Iterable[Party]:
        return self.server, *self.clients.values()

    def link(self, number: int) -> Link:
        return self.topology.links[number - 1]

    def outer(self, number: int, *, server: bool) -> str:
        """An address outside of the tunnel: of the client, or of the server as it knows it."""
        link = self.link(number)
        if number in IPV6_CLIENTS:
            return link.left_ipv6 if server else link.right_ipv6
        return link.left_ipv4 if server else link.right_ipv4

    def add_client(self, number: int) -> Party:
        """The client's device, without a socket or a peer."""
        namespace = self.topology.spokes[number - 1]
        party = Party(self.back_end, namespace, number, dco.Mode.P2P, self.shape.mtu)
        self.clients[number] = party
        return party

    def connect(self, number: int) -> tuple[socket.socket, socket.socket]:
        """Both ends of a TCP connection: the server's and the client's."""
        outer = "ipv6" if number in IPV6_CLIENTS else "ipv4"
        server, client = self.server.namespace, self.clients[number].namespace
        return connect(server, client, self.link(number), outer=outer)

    def join(
        self,
        number: int,
        server: dco.Transport,
        client: dco.Transport,
        hosts: tuple[str, str] | None = None,
    ) -> None:
        """The peers at both ends, with the first key in their primary slots.

        `hosts` are the server's address and the client's, other than those of their link."""
        to_server, to_client = number, self.shape.client_id(number)
        udp = not self.shape.tcp
        near, far = hosts or (self.outer(number, server=True), self.outer(number, server=False))
        asymmetric = not self.shape.symmetric
        self.at_server[number] = self.server.device.add_peer(
            to_server,
            server,
            remote=(far, PORT) if udp else None,
            vpn_ipv4=vpn_address(number),
            tx_id=to_client if asymmetric else None,
            **KEEPALIVE,
        )
        self.at_client[number] = self.clients[number].device.add_peer(
            to_client,
            client,
            remote=(near, PORT) if udp else None,
            tx_id=to_server if asymmetric else None,
            **KEEPALIVE,
        )
        self.install(number, KeySlot.PRIMARY, 0)

    def install(self, number: int, slot: KeySlot, key_id: int) -> None:
        """A new key at both ends."""
        ours, theirs = self.shape.keys(key_id)
        self.at_server[number].install_key(slot, ours)
        self.at_client[number].install_key(slot, theirs)


@contextlib.contextmanager
def lay_out(back_end: BackEnd, shape: Shape) -> Iterator[Vpn]:
    """The network and all devices, without sockets and peers. Nothing of them may be left."""
    with contextlib.ExitStack() as undo:
        topology = undo.enter_context(Topology(spokes=max(shape.clients), plan=plan))
        server = Party(back_end, topology.left, 0, dco.Mode.MULTIPEER, shape.mtu)
        vpn = Vpn(back_end, shape, topology, server)
        undo.callback(server.close)
        for number in shape.clients:
            undo.callback(vpn.add_client(number).close)
        yield vpn


@contextlib.contextmanager
def set_up(back_end: BackEnd, shape: Shape) -> Iterator[Vpn]:
    """The same with everything: one shared UDP socket at the server, or a connection for each
    client, and peers with keys and keepalive."""
    with lay_out(back_end, shape) as vpn:
        shared = None if shape.tcp else vpn.server.udp(ipv6=True)
        for number, client in vpn.clients.items():
            if shared:
                vpn.join(number, shared, client.udp(ipv6=number in IPV6_CLIENTS))
                continue
            near, far = vpn.connect(number)
            vpn.join(number, vpn.server.tcp(near), client.tcp(far))
        yield vpn
