"""Connections that are hostile, or belong to nobody yet: what they may cost, and that they cost no
one else anything."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from security.forge import CONTROL_V1, Forge, ip
from security.lab import Lab, eventually

import ovpn_dco as dco
from ovpn_dco import DropReason

pytestmark = pytest.mark.security

RESET = b"\x38" + bytes(13)  # P_CONTROL_HARD_RESET_CLIENT_V2
PENDING_FRAME = 2048
GOOD = 50  # the peer that must notice nothing


def frame(packet: bytes) -> bytes:
    return struct.pack("!H", len(packet)) + packet


def stream_socket(lab: Lab, source: str | None = None) -> socket.socket:
    if lab.namespace is None:
        sock = socket.socket()
    else:
        sock = lab.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(20)
    if source:
        sock.bind((source, 0))
    return sock


class Line:
    """A TCP peer of the lab: `far` is its end of the connection."""

    def __init__(self, lab: Lab, peer_id: int) -> None:
        with stream_socket(lab) as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            self.far = stream_socket(lab)
            self.far.connect(server.getsockname())
            near, _ = server.accept()
        with near:
            self.transport = lab.device.attach_tcp(near)
        self.lab = lab
        self.vpn = f"10.9.0.{peer_id}"
        self.peer = lab.device.add_peer(peer_id, self.transport, vpn_ipv4=self.vpn)
        self.forge = Forge(peer_id)
        self.peer.install_key(dco.KeySlot.PRIMARY, self.forge.key())

    def inner(self, text: bytes = b"payload") -> bytes:
        return ip(self.vpn, "10.9.0.1", text)

    def sends(self, packet: bytes) -> None:
        self.far.sendall(frame(packet))

    def receive(self) -> bytes:
        def exactly(size: int) -> bytes:
            data = b""
            while len(data) < size:
                part = self.far.recv(size - len(data))
                assert part, "end of stream"
                data += part
            return data

        return exactly(struct.unpack("!H", exactly(2))[0])

    def assert_works(self) -> None:
        """Both ways, and nothing is dropped of it."""
        before = self.lab.device.stats().drops
        inner = self.inner(os.urandom(40))
        self.sends(self.forge.seal(inner))
        assert eventually(self.lab.received, what="its packet") == [inner]
        back = ip("10.9.0.1", self.vpn, os.urandom(40))
        self.lab.inner.send(back)
        assert self.forge.open(self.receive()).payload == back
        assert self.lab.device.stats().drops == before


@pytest.fixture
def lines(lab: Lab) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def make(peer_id: int) -> Line:
            line = Line(lab, peer_id)
            stack.enter_context(line.far)
            return line

        yield make


class Door:
    """A listener of the lab, and a peer over TCP that was there before."""

    def __init__(self, lab: Lab, stack: contextlib.ExitStack, **limits: int) -> None:
        self.lab = lab
        self.stack = stack
        sock = stack.enter_context(stream_socket(lab))
        sock.bind(("127.0.0.1", 0))
        sock.listen(1000)
        self.address = sock.getsockname()
        self.listener = lab.device.listen_tcp(sock, **limits)
        self.good = Line(lab, GOOD)
        stack.enter_context(self.good.far)

    def knock(self, said: bytes = b"", source: str | None = None) -> socket.socket:
        sock = self.stack.enter_context(stream_socket(self.lab, source))
        sock.connect(self.address)
        if said:
            sock.sendall(said)
        return sock

    def info(self) -> dco.TransportInfo:
        return self.listener.info()

    def drops(self) -> dict[DropReason, int]:
        return {reason: n for reason, n in self.lab.device.stats().drops.items() if n}


@pytest.fixture
def open_door(lab: Lab) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        yield lambda **limits: Door(lab, stack, **limits)


def closed(sock: socket.socket) -> bool:
    """Waits for the end of the connection; nothing may come before it."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


# Before there is a peer


@pytest.mark.parametrize(
    "said",
    [b"\0\0", struct.pack("!H", PENDING_FRAME + 1), b"\xff\xff"],
    ids=["zero", "2049 bytes", "65535 bytes"],
)
def test_impossible_lengths_end_the_connection(open_door, said: bytes) -> None:
    door = open_door()
    stranger = door.knock(said)
    assert closed(stranger)
    assert door.drops() == {DropReason.RX_STREAM: 1}
    assert door.info().trials == 0
    door.good.assert_works()


def test_impossible_lengths_behind_a_packet(open_door) -> None:
    """Whoever has been told of the connection is told of its end, and nothing more is read."""
    door = open_door()
    door.knock(frame(RESET) + b"\0\0" + frame(RESET))
    failed = door.lab.wait_event(dco.TransportFailed)
    (packet,) = door.lab.control()
    assert packet.transport is failed.transport
    assert door.drops() == {DropReason.RX_STREAM: 1}
    door.good.assert_works()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_partial_frames_are_bounded_in_memory(open_door) -> None:
    """Each of many connections gets the room for one small frame, however much it sends."""
    count = 400
    door = open_door(trials_max=count, trials_per_source_max=count)
    strangers = [door.knock() for _ in range(count)]
    eventually(lambda: door.info().trials == count)
    before = resident()
    for sock in strangers:
        sock.sendall(frame(bytes(PENDING_FRAME))[:-1])
    received = door.lab.device.stats().tcp_receives
    eventually(lambda: door.lab.device.stats().tcp_receives >= received)
    time.sleep(0.1)
    assert resident() - before < count * 8192
    assert not door.drops()
    door.good.assert_works()


def test_data_without_a_peer_is_not_read(open_door) -> None:
    """It waits in the kernel, for as long as there is no key, and wakes nobody."""
    door = open_door()
    stranger = door.knock(frame(RESET))
    eventually(lambda: door.lab.device.stats().control_packets == 1)
    stranger.setblocking(False)
    packet = frame(Forge(7).seal(ip("10.9.0.7", "10.9.0.1", bytes(1300))))
    with contextlib.suppress(BlockingIOError):
        for _ in range(100_000):
            stranger.send(packet)
    before = door.lab.device.stats()
    time.sleep(0.2)
    after = door.lab.device.stats()
    assert after.tcp_receive_packets == 1
    assert after.wakeups - before.wakeups < 10
    assert not door.drops()
    door.good.assert_works()


def test_a_flood_of_connections_is_refused(open_door) -> None:
    door = open_door(trials_max=20, trials_per_source_max=1000)
    strangers = [door.knock() for _ in range(200)]
    eventually(lambda: door.info().accepted + door.info().refused == 200)
    info = door.info()
    assert (info.accepted, info.trials) == (20, 20)
    assert all(closed(sock) for sock in strangers[20:])
    assert door.lab.device.stats().transports == 3 + 20
    door.good.assert_works()


def test_one_source_leaves_room_for_others(open_door) -> None:
    """Sources are told apart by /24, so that a flood from one keeps nobody else out."""
    door = open_door(trials_max=100, trials_per_source_max=5)
    for host in range(1, 41):
        door.knock(source=f"127.0.0.{host}")
    eventually(lambda: door.info().refused == 35)
    other = door.knock(frame(RESET), source="127.0.1.1")
    (packet,) = eventually(lambda: list(door.lab.control()), what="a packet of another source")
    assert packet.remote == other.getsockname()
    assert door.info().accepted == 6
    door.good.assert_works()


def test_without_descriptors_a_listener_rests(open_door) -> None:
    """What cannot be accepted stays in the kernel: the thread does not try again and again, and
    everything else goes on; when there are descriptors again, so does the listener."""
    door = open_door()
    strangers = [door.stack.enter_context(stream_socket(door.lab)) for _ in range(5)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        for sock in strangers:
            sock.connect(door.address)
        time.sleep(0.05)
        before = door.lab.device.stats().wakeups
        time.sleep(0.5)
        # Some when it looks again; thousands if it never rested.
        assert door.lab.device.stats().wakeups - before < 500
        assert door.info().accepted == 0
        door.good.assert_works()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: door.info().accepted == 5, what="everybody accepted")
    door.good.assert_works()


def test_whoever_is_slow_meets_the_deadline(open_door) -> None:
    """Bytes that keep coming do not put it off, nor do whole packets that convince nobody."""
    door = open_door(deadline_s=1)
    slow, talkative = door.knock(), door.knock(frame(RESET))
    (packet,) = eventually(lambda: list(door.lab.control()), what="a packet")
    stream = frame(bytes(PENDING_FRAME))
    for byte in stream[:100]:
        if door.info().expired == 2:
            break
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            slow.send(bytes([byte]))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            talkative.send(frame(RESET))
        time.sleep(0.05)
    assert door.info().expired == 2
    assert door.info().trials == 0
    assert closed(slow)
    assert closed(talkative)
    assert door.lab.wait_event(dco.TransportFailed).transport is packet.transport
    list(door.lab.control())
    door.good.assert_works()


def test_nothing_is_said_before_the_client_speaks(open_door) -> None:
    """Not even what the application orders, to a connection that it can only have guessed."""
    door = open_door()
    stranger = door.knock(frame(RESET)[:-1])
    first = 257  # of connections, behind the good one
    transport = eventually(lambda: door.lab.device._peers.transports.find(first))
    with pytest.raises(dco.TryAgain):
        transport.send_control(b"\x40 too early")
    stranger.setblocking(False)
    time.sleep(0.05)
    with pytest.raises(BlockingIOError):
        stranger.recv(1)
    stranger.sendall(frame(RESET)[-1:])
    eventually(lambda: list(door.lab.control()))
    transport.send_control(b"\x40 now")
    stranger.settimeout(20)
    assert stranger.recv(100) == frame(b"\x40 now")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_listener_goes_while_strangers_come_and_go(workers: int) -> None:
    """Deadline, end of the connection and end of the listener meet; each connection ends once."""
    with Lab(workers=workers) as lab, contextlib.ExitStack() as stack:
        for _ in range(20):
            door = Door(lab, stack, deadline_s=1)
            strangers = [door.knock(RESET[: n % 3]) for n in range(30)]
            eventually(lambda door=door: door.info().accepted == 30)
            for sock in strangers[::2]:
                sock.close()
            door.listener.close()
            assert all(closed(sock) for sock in strangers[1::2])
            door.good.transport.close()
        eventually(lambda: lab.device.stats().transports == 1)
        eventually(lambda: lab.device.stats().retired == 0)
        assert len(lab.device.peers) == 0


# With a peer


def test_the_id_of_another_peer_opens_nothing(lab: Lab, lines) -> None:
    """The connection says whose keys are tried. What another's key sealed fails to authenticate
    there, and neither moves that one's window nor its counters."""
    alice, bob = lines(7), lines(8)
    stolen = bob.forge.seal(bob.inner())
    alice.sends(stolen)
    eventually(lambda: lab.device.stats().drops[DropReason.RX_DECRYPT] == 1)
    assert alice.peer.stats().rx_decrypt_errors == 1
    assert bob.peer.stats().link_rx_packets == 0
    bob.sends(stolen)
    assert eventually(lab.received) == [bob.inner()]
    # The other way round: its own key counts, whatever the id says.
    alice.sends(alice.forge.seal(alice.inner(), peer_id=8))
    assert eventually(lab.received) == [alice.inner()]
    assert bob.peer.stats().link_rx_packets == 1
    # Nor may it speak for another.
    alice.sends(alice.forge.seal(bob.inner(), peer_id=8))
    eventually(lambda: lab.device.stats().drops[DropReason.RX_SOURCE] == 1)
    assert alice.peer.stats().rx_source_errors == 1
    assert not lab.received()


def test_nothing_moves_a_peer_off_its_connection(lab: Lab, lines) -> None:
    """Neither garbage nor, from a UDP socket of the same device, what is authentic."""
    alice = lines(7)
    before = alice.peer.info()
    far = lab.udp()
    bad = bytearray(alice.forge.seal(alice.inner()))
    bad[-1] ^= 1
    lab.deliver(bytes(bad), sock=far).assert_dropped(DropReason.RX_DECRYPT)
    alice.sends(bytes(bad))
    eventually(lambda: alice.peer.stats().rx_decrypt_errors == 2)
    # Its own packet, by another way: it is the peer's, but the peer is where it was.
    assert lab.deliver(alice.forge.seal(alice.inner()), sock=far).inner == [alice.inner()]
    after = alice.peer.info()
    assert after.remote == before.remote == alice.far.getsockname()
    assert after.stats.float_count == 0
    assert not lab.device.poll_events()
    alice.assert_works()


def test_a_flood_of_control_packets_fills_its_ring_only(lab: Lab, lines) -> None:
    """Each is in the ring or counted, and data of others, and of the same one, passes."""
    alice, bob = lines(7), lines(8)
    packet = bytes([CONTROL_V1 << 3]) + bytes(1199)
    count = 3000  # of which a ring of a MiB takes less than a third
    for _ in range(count // 100):
        alice.far.sendall(frame(packet) * 100)

    def told() -> int:
        stats = lab.device.stats()
        return stats.control_packets + stats.drops[DropReason.CONTROL_FULL]

    eventually(lambda: told() == count)
    stats = lab.device.stats()
    assert stats.drops[DropReason.CONTROL_FULL] > count / 2
    assert sum(stats.drops.values()) == stats.drops[DropReason.CONTROL_FULL]
    bob.assert_works()
    alice.assert_works()
    assert len(list(lab.control())) == stats.control_packets


def test_one_who_does_not_read_holds_up_nobody(lab: Lab, lines) -> None:
    """What it is sent waits up to its bound and is dropped then; others, over TCP and UDP, get
    theirs meanwhile."""
    alice, bob, carol = lines(7), lines(8), lab.add_peer(9)
    large = ip("10.9.0.1", alice.vpn, bytes(1400))
    sent = 0
    while lab.device.stats().drops[DropReason.TX_BACKLOG] < 100:
        for _ in range(50):
            lab.inner.send(large)
            sent += 1
        eventually(lambda: alice.peer.stats().vpn_tx_packets == sent)  # noqa: B023
        assert alice.transport.info().waiting <= (512 + 64 + 64) << 10
    assert alice.transport.info().waiting > 256 << 10
    lab.peers.remove(carol)
    for _ in range(20):
        bob.assert_works()
        small = ip("10.9.0.1", carol.vpn)
        lab.inner.send(small)
        assert carol.forge.open(carol.receive()).payload == small
    assert not alice.transport.info().failed


@pytest.mark.parametrize("end", ["zero length", "DATA_V1", "reset", "half close"])
def test_an_end_is_the_end_of_one_peer(lab: Lab, lines, end: str) -> None:
    alice, bob = lines(7), lines(8)
    if end == "zero length":
        alice.far.sendall(b"\0\0")
    elif end == "DATA_V1":
        alice.sends(b"\x30" + bytes(60))
    elif end == "reset":
        alice.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        alice.far.close()
    else:
        alice.far.shutdown(socket.SHUT_WR)
    gone = lab.wait_event(dco.PeerDeleted)
    assert gone.peer_id == 7
    assert list(lab.device.peers) == [8]
    bob.assert_works()
