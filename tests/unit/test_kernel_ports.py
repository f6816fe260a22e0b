"""The sockets of a device of the kernel's driver together, and connections on trial among them."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from loopback import PATIENCE_S, eventually

from ovpn_dco.backend.kernel.listener import Listener, TrialLimits
from ovpn_dco.backend.kernel.port import Port, adopt
from ovpn_dco.backend.kernel.ports import Ports
from ovpn_dco.backend.kernel.tcp import TcpPort
from ovpn_dco.backend.kernel.udp import UdpPort
from ovpn_dco.errors import NotASocket

RESET = b"\x38" + bytes(13)  # P_CONTROL_HARD_RESET_CLIENT_V2
DATA = b"\x48" + bytes(30)  # P_DATA_V2


def frame(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


pytestmark = pytest.mark.usefixtures("kept_garbage")


@pytest.fixture
def ports() -> Iterator[Ports]:
    one = Ports()
    yield one
    if not one.epoll.closed:
        one.close()


def udp(ports: Ports) -> tuple[int, socket.socket]:
    """A port's number, and a socket that is connected to it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.connect(sock.getsockname())
    return ports.add(UdpPort(sock, send_buffer=0, receive_buffer=0)), far


def tcp(ports: Ports) -> tuple[int, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    far.settimeout(PATIENCE_S)
    return ports.add(TcpPort.attach(near, send_buffer=0, receive_buffer=0)), far


def listener(
    ports: Ports, *, most: int = 99, per_source: int = 99, deadline_s: int = 99
) -> tuple[int, tuple[str, int]]:
    sock = socket.create_server(("127.0.0.1", 0))
    address = sock.getsockname()
    return ports.add(Listener(sock, TrialLimits(most, per_source, deadline_s))), address


def wakes(poll: select.epoll) -> bool:
    with select.epoll() as outer:
        outer.register(poll, select.EPOLLIN)
        return bool(outer.poll(0))


def drive(ports: Ports, number: int) -> Port:
    """As if the driver had a peer there."""
    port = ports.find(number, "add_peer")
    port.peers.add((7, 1))
    port.taken()
    ports.changed(port)
    return port


# All together


def test_each_of_many_has_its_turn(ports: Ports) -> None:
    flooding, quiet = [udp(ports) for _ in range(3)], udp(ports)
    for _ in range(40):
        for _, far in flooding:
            far.send(b"flood")
    quiet[1].send(b"quiet")
    seen = [number for _ in range(8) for number, _ in ports.receive(2)]
    assert quiet[0] in seen
    assert {number for number, _ in flooding} < set(seen)
    assert {number for number, _ in ports.receive(40)} == {number for number, _ in flooding}


def test_one_call_brings_no_more_than_asked_for(ports: Ports) -> None:
    _, far = udp(ports)
    for _ in range(5):
        far.send(b"x")
    assert [len(ports.receive(3)) for _ in range(3)] == [3, 2, 0]
    assert ports.packets == 5
    assert not wakes(ports.epoll)


def test_numbers_are_never_given_twice(ports: Ports) -> None:
    first, _ = udp(ports)
    ports.remove(first)
    second, _ = udp(ports)
    assert second > first
    with pytest.raises(NotASocket):
        ports.find(first, "detach")
    assert len(ports) == 1


def test_an_end_is_told_once_and_wakes_no_more(ports: Ports) -> None:
    number, far = tcp(ports)
    far.close()
    eventually(lambda: ports.receive(9) or ports.find(number, "detach").ended)
    assert [one for one, _ in ports.ended()] == [number]
    assert list(ports.ended()) == ports.receive(9) == []
    assert not wakes(ports.epoll)


def test_a_shut_down_udp_socket_wakes_no_more(ports: Ports) -> None:
    number, _ = udp(ports)
    port = ports.find(number, "detach")
    port.sock.connect(("127.0.0.1", 9))
    port.sock.shutdown(socket.SHUT_RDWR)
    assert wakes(ports.epoll)
    assert ports.receive(9) == []
    assert [one for one, _ in ports.ended()] == [number]
    assert not wakes(ports.epoll)


def test_what_waits_for_the_driver_does_not_wake(ports: Ports) -> None:
    _, far = tcp(ports)
    far.send(frame(RESET) + frame(DATA))
    found = eventually(lambda: ports.receive(9))
    assert [packet.data for _, packet in found] == [RESET]
    eventually(lambda: not ports.receive(9) and not wakes(ports.epoll))
    assert not wakes(ports.ends)


def test_what_came_before_the_end_of_a_connection_is_kept(ports: Ports) -> None:
    number, far = tcp(ports)
    port = drive(ports, number)
    assert not wakes(ports.ends)
    far.send(frame(RESET))
    far.close()
    eventually(lambda: wakes(ports.ends))
    eventually(lambda: ports.look_for_ends() or port.ended)
    assert [one for one, _ in ports.ended()] == [number]
    assert wakes(ports.epoll)
    assert not wakes(ports.ends)
    ((found, packet),) = ports.receive(9)
    assert (found, packet.data) == (number, RESET)
    assert not wakes(ports.epoll)


def test_closing_restores_and_wakes(ports: Ports) -> None:
    number, _ = tcp(ports)
    with socket.socket(fileno=os.dup(ports.find(number, "detach").sock.fileno())) as copy:
        ports.close()
        assert copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
    assert len(ports) == 0
    assert wakes(ports.epoll)


def test_nothing_is_left_open() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(3):
        one = Ports()
        for make in (udp, tcp):
            make(one)[1].close()
        listener(one)
        one.close()
        del one
    assert descriptors() == before


def test_a_forked_child_lets_go_without_effect(ports: Ports) -> None:
    number, _ = tcp(ports)
    listener(ports)
    udp(ports)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        before = len(os.listdir("/proc/self/fd"))
        ports.forget()
        os.write(write, bytes([before - len(os.listdir("/proc/self/fd"))]))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == bytes([3 + 3 + 1])  # sockets, polls and the bell, the spare one
    sock = ports.find(number, "detach").sock
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    os.close(read)
    os.close(write)


# Connections on trial


def test_a_connection_is_told_of_by_its_first_packet(ports: Ports) -> None:
    number, address = listener(ports)
    silent = socket.create_connection(address)
    with socket.create_connection(address) as far:
        far.send(frame(RESET))
        ((found, packet),) = eventually(lambda: ports.receive(9))
        assert (packet.data, packet.remote) == (RESET, far.getsockname())
        eventually(lambda: ports.receive(9) or len(ports) == 3)
        assert ports.find(number, "detach").info().trials == 2
        silent.close()
        eventually(lambda: ports.receive(9) or len(ports) == 2)
        assert list(ports.ended()) == []
    eventually(lambda: ports.receive(9) or ports.find(found, "detach").ended)
    assert [one for one, _ in ports.ended()] == [found]


@pytest.mark.parametrize("limits", [{"most": 2}, {"per_source": 2}])
def test_trials_are_limited(ports: Ports, limits: dict[str, int]) -> None:
    number, address = listener(ports, **limits)
    far = [socket.create_connection(address) for _ in range(3)]
    info = ports.find(number, "detach").info
    eventually(lambda: ports.receive(9) or info().refused)
    assert (info().trials, info().accepted, info().refused) == (2, 2, 1)
    far[2].settimeout(PATIENCE_S)
    assert far[2].recv(1) == b""
    far[0].close()
    eventually(lambda: ports.receive(9) or info().trials == 1)
    far.append(socket.create_connection(address))
    eventually(lambda: ports.receive(9) or info().accepted == 3)
    for one in far:
        one.close()


def test_a_peer_ends_a_trial(ports: Ports) -> None:
    number, address = listener(ports, most=1)
    with socket.create_connection(address) as far, socket.create_connection(address) as other:
        far.send(frame(RESET))
        ((found, _),) = eventually(lambda: ports.receive(9))
        drive(ports, found)
        assert ports.find(number, "detach").info().trials == 0
        ports.remove(number)
        assert ports.find(found, "detach").ended is None
        other.close()


def test_time_is_over_when_the_next_one_knocks(ports: Ports) -> None:
    number, address = listener(ports, most=1, deadline_s=0)
    info = ports.find(number, "detach").info
    with socket.create_connection(address) as first:
        eventually(lambda: ports.receive(9) or info().accepted == 1)
        with socket.create_connection(address):
            eventually(lambda: ports.receive(9) or info().accepted == 2)
            assert (info().expired, info().refused, info().trials) == (1, 0, 1)
            first.settimeout(PATIENCE_S)
            assert first.recv(1) == b""


def test_the_time_of_a_connection_that_has_spoken_is_over(ports: Ports) -> None:
    """Whoever has been told of it is told of its end, too."""
    number, address = listener(ports, deadline_s=0)
    with socket.create_connection(address) as far:
        far.send(frame(RESET))
        ((found, _),) = eventually(lambda: ports.receive(9))
        with socket.create_connection(address):
            info = ports.find(number, "detach").info
            eventually(lambda: ports.receive(9) or info().expired == 1)
            ((ended, port),) = ports.ended()
            assert (ended, port.ended) == (found, errno.ETIMEDOUT)
            assert info().trials == 1
            far.settimeout(PATIENCE_S)
            assert far.recv(1) == b""
            ports.remove(found)


def test_a_default_timeout_means_nothing_here(ports: Ports) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        number, address = listener(ports)
        socket.setdefaulttimeout(PATIENCE_S)
        try:
            ours = adopt(os.dup(sock.fileno()))
            far = socket.create_connection(address)
            eventually(lambda: ports.receive(9) or len(ports) == 2)
        finally:
            socket.setdefaulttimeout(None)
        assert os.get_blocking(sock.fileno())
        port = UdpPort(ours, send_buffer=0, receive_buffer=0)
        before_s = time.monotonic()
        assert port.receive(1) == []
        assert time.monotonic() - before_s < PATIENCE_S / 2
        (trial,) = ports.find(number, "detach").trials  # type: ignore[attr-defined]
        assert trial.sock.gettimeout() is None
        far.close()
        port.close()


def test_trials_go_with_their_listener(ports: Ports) -> None:
    number, address = listener(ports)
    with socket.create_connection(address) as far:
        eventually(lambda: ports.receive(9) or len(ports) == 2)
        ports.remove(number)
        assert len(ports) == 0
        far.settimeout(PATIENCE_S)
        assert far.recv(1) == b""


def test_what_does_not_listen_is_refused() -> None:
    limits = TrialLimits(1, 1, 1)
    with socket.socket() as one, pytest.raises(OSError, match="listen") as caught:
        Listener(one, limits)
    assert caught.value.errno == errno.EINVAL
    with socket.socket(type=socket.SOCK_DGRAM) as one, pytest.raises(OSError, match="TCP"):
        Listener(one, limits)


EXHAUSTED = """
import os, resource, select, socket
from ovpn_dco.backend.kernel.listener import Listener, TrialLimits
from ovpn_dco.backend.kernel.ports import Ports
ports = Ports()
sock = socket.create_server(("127.0.0.1", 0))
address = sock.getsockname()
number = ports.add(Listener(sock, TrialLimits(99, 99, 99)))
far = [socket.create_connection(address) for _ in range(4)]
select.select([sock], [], [])
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, 4096))
try:
    os.dup(0)
except OSError:
    pass
else:
    raise SystemExit("there are descriptors left")
for _ in range(3):
    assert ports.receive(9) == []
info = ports.find(number, "detach").info()
assert (info.accepted, info.refused, info.failed) == (0, 4, False), info
assert not ports.epoll.poll(0)
assert [one.recv(1) for one in far] == [b""] * 4
resource.setrlimit(resource.RLIMIT_NOFILE, (999, 4096))
last = socket.create_connection(address)
while not ports.find(number, "detach").info().accepted:
    ports.receive(9)
print("good")
"""


def test_without_descriptors_connections_are_turned_away() -> None:
    command = [sys.executable, "-c", EXHAUSTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "good\n", done.stderr
