"""A device without an interface: a packet socket on the inner side, UDP on loopback outside.

Everything that goes in and comes out is in the hands of the test. `Lab.deliver` sends datagrams,
waits until the engine has worked on every one of them, and tells all that has changed."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from security.forge import Forge
from support import WORKERS, missing_privilege

import ovpn_dco as dco
from ovpn_dco.testing import Namespace

PATIENCE_S = 20.0  # of a test for something that is certain to come; says nothing about speed
UDP_SEGMENT = 103
ETH_P_ALL = 3
T = TypeVar("T")


def eventually(look: Callable[[], T], *, timeout_s: float = PATIENCE_S, what: str = "") -> T:
    """What `look` returns as soon as it is true; fails with `what` when it never is."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = look()
        if result:
            return result
        assert time.monotonic() < deadline, f"never came about: {what or look}; last: {result!r}"
        time.sleep(0.002)


def changes(before: dco.PeerStats, after: dco.PeerStats) -> dict[str, int]:
    """The counters that moved, and by how much."""
    moved = {f.name: getattr(after, f.name) - getattr(before, f.name) for f in fields(before)}
    return {name: by for name, by in moved.items() if by}


@dataclass
class Outcome:
    """What some datagrams did. Counters are differences; those that did not move are absent."""

    inner: list[bytes] = field(default_factory=list)
    control: list[dco.ControlPacket] = field(default_factory=list)
    events: list[dco.Event] = field(default_factory=list)
    drops: dict[dco.DropReason, int] = field(default_factory=dict)
    peers: dict[int, dict[str, int]] = field(default_factory=dict)
    moved: dict[int, dco.Address | None] = field(default_factory=dict)

    def assert_dropped(self, reason: dco.DropReason, count: int = 1) -> None:
        """Dropped for this reason, and nothing else happened but that the link counters saw it."""
        assert self.drops == {reason: count}
        assert not self.inner
        assert not self.control
        assert not self.events
        assert not self.moved


class LabPeer:
    """A peer of the device, and the socket and key at its other end."""

    def __init__(self, peer: dco.Peer, sock: socket.socket, forge: Forge, vpn: str) -> None:
        self.peer = peer
        self.socket = sock
        self.forge = forge
        self.vpn = vpn

    @property
    def address(self) -> dco.Address:
        """Where it sends from."""
        name = self.socket.getsockname()
        return name if len(name) == 2 else (*name[:2], 0, 0)

    def receive(self, *, timeout_s: float = PATIENCE_S) -> bytes:
        """The next datagram that the engine sends here."""
        self.socket.settimeout(timeout_s)
        return self.socket.recv(65536)

    def receive_all(self) -> list[bytes]:
        """What is there."""
        return _drain(self.socket)


class Lab:
    """One device, its inner socket, one attached UDP socket, and as many peers as wanted."""

    def __init__(
        self,
        mode: dco.Mode = dco.Mode.MULTIPEER,
        *,
        host: str = "127.0.0.1",
        offloads: Iterable[str] | None = None,
        source_check: str | None = None,
        max_peers: int = 64,
        workers: int | None = None,
    ) -> None:
        self._cleanup = contextlib.ExitStack()
        # Without the privilege to make one, loopback of this machine has to do.
        self.namespace: Namespace | None = None
        if not missing_privilege():
            self.namespace = self._cleanup.enter_context(Namespace("lab"))
        self.device = self._open(
            mode=mode,
            offloads=offloads,
            source_check=source_check,
            max_peers=max_peers,
            workers=workers or WORKERS,
        )
        self._cleanup.enter_context(self.device)
        self.socket = self.udp(host)
        self.address = self.socket.getsockname()
        self.transport = self.device.attach_udp(self.socket)
        self.peers: list[LabPeer] = []

    def _open(self, **options: Any) -> dco.Device:
        self.inner, port = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._cleanup.enter_context(self.inner)
        self.inner.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        port.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with port:
            return dco.Device.open("lab", tun_fd=port.fileno(), **options)

    def received(self) -> list[bytes]:
        """Inner packets that the engine has delivered."""
        return _drain(self.inner)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def udp(self, host: str = "127.0.0.1", port: int = 0) -> socket.socket:
        """A bound socket in the lab; closed with it."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if self.namespace is None:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        else:
            sock = self.namespace.socket(family, socket.SOCK_DGRAM)
        self._cleanup.enter_context(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        sock.bind((host, port))
        return sock

    def add_peer(
        self,
        peer_id: int,
        *,
        host: str = "127.0.0.1",
        sock: socket.socket | None = None,
        cipher: dco.Cipher = dco.Cipher.AES_256_GCM,
        key_id: int = 0,
        first_packet_id: int = 1,
        install: bool = True,
        transport: dco.Transport | None = None,
        **settings: object,
    ) -> LabPeer:
        """A peer that owns 10.9.0.N and fd09::N, with a key unless `install` is off."""
        sock = sock or self.udp(host)
        vpn: dict[str, object] = {}
        if self.device.mode is dco.Mode.MULTIPEER:
            vpn = {"vpn_ipv4": f"10.9.0.{peer_id}", "vpn_ipv6": f"fd09::{peer_id:x}"}
        peer = self.device.add_peer(
            peer_id,
            transport or self.transport,
            remote=sock.getsockname(),
            **{**vpn, **settings},  # type: ignore[arg-type]
        )
        forge = Forge(peer_id, key_id, cipher)
        if install:
            key = forge.key(first_packet_id=first_packet_id)
            peer.install_key(dco.KeySlot.PRIMARY, key)
        member = LabPeer(peer, sock, forge, f"10.9.0.{peer_id}")
        self.peers.append(member)
        return member

    # Towards the engine

    def deliver(self, *datagrams: bytes, sock: socket.socket, to: Any = None) -> Outcome:
        """Sends each, from one socket, to the lab's own or to another attached one."""
        target = to or self.address
        return self._observe(
            lambda: [sock.sendto(data, target) for data in datagrams], len(datagrams)
        )

    def deliver_train(self, datagrams: list[bytes], *, sock: socket.socket) -> Outcome:
        """Sends all as one train, which reaches the engine whole: only the last may be shorter."""
        size = len(datagrams[0])
        assert all(len(data) == size for data in datagrams[:-1])
        segment = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", size))]
        return self._observe(
            lambda: sock.sendmsg([b"".join(datagrams)], segment, 0, self.address), len(datagrams)
        )

    def _observe(self, act: Callable[[], object], count: int) -> Outcome:
        before = self.device.stats()
        known = {member.peer: member.peer.info() for member in self.peers}
        act()
        # Statistics are read under the lock that a float only tries: look when it is over.
        time.sleep(0.005)
        target = before.udp_receive_packets + count
        eventually(
            lambda: self.device.stats().udp_receive_packets >= target,
            what=f"{count} datagrams worked on",
        )
        outcome = Outcome(inner=self.received(), control=list(self.control()))
        outcome.events = self.device.poll_events()
        after = self.device.stats()
        assert after.udp_receive_packets == target, "more datagrams than were sent"
        for reason, total in after.drops.items():
            if total != before.drops[reason]:
                outcome.drops[reason] = total - before.drops[reason]
        for peer, info in known.items():
            now = peer.info()
            if moved := changes(info.stats, now.stats):
                outcome.peers[peer.peer_id] = moved
            if now.remote != info.remote:
                outcome.moved[peer.peer_id] = now.remote
        return outcome

    def control(self) -> Iterable[dco.ControlPacket]:
        """Control packets that wait."""
        while batch := self.device.control.receive():
            yield from batch

    # From the inner side

    def transmit(self, *packets: bytes) -> None:
        """Hands inner packets to the engine, and waits until it has worked on them."""
        target = self._left() + len(packets)
        for packet in packets:
            self.inner.send(packet)
        eventually(lambda: self._left() >= target, what=f"{len(packets)} inner packets worked on")

    def _left(self) -> int:
        """Packets that the transmit path is done with."""
        stats = self.device.stats()
        dropped = sum(n for reason, n in stats.drops.items() if reason.name.startswith("TX_"))
        return stats.udp_send_packets + dropped

    def wait_event(self, kind: type[T]) -> T:
        """The next event of this kind; others are passed over."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for event in self.device.poll_events(timeout_s=1):
                if isinstance(event, kind):
                    return event
        raise AssertionError(f"no {kind.__name__} came")


class TunLab(Lab):
    """The same with a real interface, which needs root. What is written to it is watched by a
    packet socket, which sees a super-packet as one."""

    def _open(self, **options: Any) -> dco.Device:
        assert self.namespace
        device = dco.Device.open(
            "lab0",
            netns=self.namespace.fd,
            addresses=("10.9.0.1/24", "fd09::1/64"),
            up=True,
            **options,
        )
        with self.namespace.enter():
            self.inner = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
            self._cleanup.enter_context(self.inner)
            self.inner.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            self.inner.bind(("lab0", ETH_P_ALL))
        return device

    def received(self) -> list[bytes]:
        packets = []
        self.inner.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, (_, _, kind, *_) = self.inner.recvfrom(65536)
                if kind != socket.PACKET_OUTGOING:
                    packets.append(packet)
        return packets


def _drain(sock: socket.socket) -> list[bytes]:
    packets = []
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            packets.append(sock.recv(65536))
    sock.setblocking(True)
    return packets
