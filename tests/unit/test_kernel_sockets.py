"""What is left of a socket for its owner when the kernel's driver takes the data packets: read and
written without that driver."""

from __future__ import annotations

import errno
import itertools
import os
import random
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import PATIENCE_S, eventually

from ovpn_dco.backend.kernel.port import Packet
from ovpn_dco.backend.kernel.tcp import TRIAL_FRAME_MAX, WAITING_MAX, TcpPort
from ovpn_dco.backend.kernel.udp import BUFFER as UDP_BUFFER
from ovpn_dco.backend.kernel.udp import UdpPort
from ovpn_dco.errors import DcoError
from ovpn_dco.validation.rules import RawAddress

HERE4 = bytes([127, 0, 0, 1])
HERE6 = bytes(15) + b"\1"
RESET = b"\x38" + bytes(13)  # P_CONTROL_HARD_RESET_CLIENT_V2
DATA = b"\x48" + bytes(30)  # P_DATA_V2


def udp(host: str = "127.0.0.1", *, both: bool = False) -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    if both:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    one.bind((host, 0))
    one.settimeout(PATIENCE_S)
    return one


def port_of(one: socket.socket, **buffers: int) -> UdpPort:
    one.setblocking(True)
    copy = socket.socket(fileno=os.dup(one.fileno()))
    return UdpPort(copy, **({"send_buffer": 0, "receive_buffer": 0} | buffers))


def frame(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, TcpPort]]:
    """The far end of a connection, and ours as a port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    far.settimeout(PATIENCE_S)
    with far, near:
        copy = socket.socket(fileno=os.dup(near.fileno()))
        port = TcpPort.attach(copy, send_buffer=0, receive_buffer=0)
        yield far, port
        port.close()


def tells(port: TcpPort | UdpPort) -> bool:
    """Whether epoll wakes for it now."""
    with select.epoll() as poll:
        poll.register(port.sock, port.interest)
        return bool(poll.poll(0))


def come(port: TcpPort, size: int) -> None:
    """Waits until so many bytes are in the socket."""
    eventually(lambda: len(port.sock.recv(size, socket.MSG_PEEK | socket.MSG_DONTWAIT)) == size)


# UDP


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_udp_tells_both_addresses(host: str) -> None:
    with udp("0.0.0.0" if host == "127.0.0.1" else "::") as one, udp(host) as far:
        port = port_of(one)
        number = one.getsockname()[1]
        far.sendto(b"hello", (host, number))
        select.select([one], [], [], PATIENCE_S)
        (packet,) = port.receive(8)
        more = () if host == "127.0.0.1" else (0, 0)
        assert packet == Packet(b"hello", far.getsockname(), (host, number, *more))
        port.close()


def test_dual_stack_folds_mapped_addresses_both_ways() -> None:
    with udp("::", both=True) as one, udp() as far:
        port = port_of(one)
        number = one.getsockname()[1]
        far.sendto(b"hello", ("127.0.0.1", number))
        select.select([one], [], [], PATIENCE_S)
        (packet,) = port.receive(8)
        assert packet == Packet(b"hello", far.getsockname(), ("127.0.0.1", number))
        back = RawAddress(HERE4, far.getsockname()[1])
        port.send(b"there", back, RawAddress(bytes([127, 0, 0, 7])))
        assert far.recvfrom(99) == (b"there", ("127.0.0.7", number))
        port.close()


@pytest.mark.parametrize(
    ("host", "to", "source"),
    [("0.0.0.0", HERE4, bytes([127, 0, 0, 5])), ("::", HERE6, HERE6)],
)
def test_udp_sends_from_the_address_asked_for(host: str, to: bytes, source: bytes) -> None:
    family = socket.AF_INET if len(to) == 4 else socket.AF_INET6
    with udp(host) as one, udp(socket.inet_ntop(family, to)) as far:
        port = port_of(one)
        port.send(b"x", RawAddress(to, far.getsockname()[1]), RawAddress(source))
        assert far.recvfrom(99)[1][:2] == (socket.inet_ntop(family, source), one.getsockname()[1])
        port.close()


def test_udp_refuses_addresses_of_a_family_that_it_does_not_reach() -> None:
    with udp() as one:
        port = port_of(one)
        for remote, local in ((RawAddress(HERE6, 9), None), (RawAddress(HERE4, 9), HERE6)):
            with pytest.raises(DcoError) as caught:
                port.send(b"x", remote, RawAddress(local) if local else None)
            assert caught.value.errno == errno.EAFNOSUPPORT
        port.close()


def test_link_local_addresses_have_their_scope() -> None:
    port = object.__new__(UdpPort)
    port._number = 1194
    here = socket.inet_pton(socket.AF_INET6, "fe80::1")
    found = port._local([(socket.IPPROTO_IPV6, 50, here + (3).to_bytes(4, "little"))])
    assert found == ("fe80::1", 1194, 0, 3)
    assert port._local([(socket.IPPROTO_IPV6, 50, HERE6 + bytes([3, 0, 0, 0]))]) == (
        "::1",
        1194,
        0,
        0,
    )
    assert port._local([]) is None


@pytest.mark.parametrize(
    ("family", "kind", "number"),
    [
        (socket.AF_UNIX, socket.SOCK_DGRAM, errno.EAFNOSUPPORT),
        (socket.AF_INET, socket.SOCK_STREAM, errno.EPROTONOSUPPORT),
        (socket.AF_INET, socket.SOCK_DGRAM, errno.EDESTADDRREQ),
    ],
)
def test_what_is_no_bound_udp_socket_is_refused(family: int, kind: int, number: int) -> None:
    with socket.socket(family, kind) as one, pytest.raises(DcoError) as caught:
        UdpPort(one, send_buffer=0, receive_buffer=0)
    assert (caught.value.errno, caught.value.attribute) == (number, "sock")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_udp_options_are_as_they_were(host: str) -> None:
    level, name = (
        (socket.IPPROTO_IP, 8) if host == "127.0.0.1" else (socket.IPPROTO_IPV6, 49)
    )  # (RECV)PKTINFO
    with udp(host) as one:
        watched = [(level, name), (1, socket.SO_SNDBUF), (1, socket.SO_RCVBUF)]
        before = [one.getsockopt(*option) for option in watched]
        port = port_of(one, send_buffer=30_000, receive_buffer=40_000)
        assert [one.getsockopt(*option) for option in watched] == [1, 60_000, 80_000]
        port.close()
        assert [one.getsockopt(*option) for option in watched] == before


def test_udp_asks_for_large_buffers() -> None:
    with udp() as one:
        limits = [Path(f"/proc/sys/net/core/{way}mem_max") for way in ("w", "r")]
        sizes = [2 * min(UDP_BUFFER, int(limit.read_text())) for limit in limits]
        port = port_of(one)
        info = port.info()
        assert [info.send_buffer, info.receive_buffer] == sizes
        port.close()


def test_a_shut_down_udp_socket_ends_once() -> None:
    with udp() as one:
        one.connect(("127.0.0.1", 9))
        port = port_of(one)
        one.shutdown(socket.SHUT_RDWR)
        assert port.receive(100) == []
        assert port.ended == errno.EPIPE
        port.close()


def test_an_empty_datagram_is_no_end() -> None:
    with udp() as one, udp() as far:
        port = port_of(one)
        far.sendto(b"", one.getsockname())
        select.select([one], [], [], PATIENCE_S)
        assert [packet.data for packet in port.receive(9)] == [b""]
        assert port.ended is None
        port.close()


def test_icmp_errors_are_counted_and_no_end() -> None:
    with udp() as one, udp() as gone:
        there = gone.getsockname()
        one.connect(there)
        port = port_of(one)
        gone.close()
        port.send(b"x", RawAddress(HERE4, there[1]), None)
        select.select([one], [], [], PATIENCE_S)
        assert port.receive(1) == []
        assert (port.info().icmp_errors, port.ended) == (1, None)
        port.close()


class Failing:
    """A socket with an error that does not go away."""

    def __init__(self) -> None:
        self.asked = 0

    def recvmsg(self, *_: object) -> None:
        self.asked += 1
        raise OSError(errno.ENOMEM, "no memory")


def test_errors_that_go_on_do_not_hold_the_caller() -> None:
    port = object.__new__(UdpPort)
    port._errors, port.sock = 0, Failing()  # type: ignore[assignment]
    assert port.receive(7) == []
    assert port.sock.asked == 7  # type: ignore[attr-defined]


# TCP before there is a peer


def test_frames_byte_by_byte(pair: tuple[socket.socket, TcpPort]) -> None:
    far, port = pair
    packets = [RESET, b"\x20" + bytes(40), b"\x28"]
    found: list[bytes] = []
    for byte in b"".join(map(frame, packets)):
        far.send(bytes([byte]))
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found += (packet.data for packet in port.receive(9))
    eventually(lambda: not found.extend(p.data for p in port.receive(9)) and len(found) == 3)
    assert found == packets


def test_frames_cut_anywhere(pair: tuple[socket.socket, TcpPort]) -> None:
    """Whoever waits for epoll and reads then has everything, wherever the stream is cut."""
    far, port = pair
    luck = random.Random(7)
    sizes = [1, 2, TRIAL_FRAME_MAX, 5, 1200, 1200, 3]
    packets = [b"\x20" + luck.randbytes(size - 1) for size in sizes]
    stream = b"".join(map(frame, packets))
    found: list[bytes] = []
    while stream or len(found) < len(packets):
        cut = luck.randrange(1, 900)
        far.sendall(stream[:cut])
        stream = stream[cut:]
        if not stream and len(found) < len(packets):
            eventually(lambda: tells(port))
        while tells(port):
            found += (packet.data for packet in port.receive(2))
    assert found == packets


def test_a_short_frame_behind_a_long_one_is_told(pair: tuple[socket.socket, TcpPort]) -> None:
    far, port = pair
    long = frame(b"\x20" + bytes(1500))
    far.sendall(long[:100])
    come(port, 100)
    assert port.receive(9) == []
    far.sendall(long[100:])
    eventually(lambda: tells(port))
    assert len(port.receive(9)) == 1
    far.sendall(frame(RESET))
    eventually(lambda: tells(port))
    assert [packet.data for packet in port.receive(9)] == [RESET]


@pytest.mark.parametrize("size", [1, 2, 3, 40])
def test_an_unfinished_frame_does_not_wake(pair: tuple[socket.socket, TcpPort], size: int) -> None:
    far, port = pair
    far.sendall(frame(b"\x20" + bytes(60))[:size])
    come(port, size)
    assert port.receive(9) == []
    assert not tells(port)


def test_the_first_data_packet_is_left_to_the_driver(
    pair: tuple[socket.socket, TcpPort],
) -> None:
    far, port = pair
    rest = frame(DATA) + frame(RESET)
    far.sendall(frame(RESET) + rest)
    come(port, len(frame(RESET) + rest))
    assert [packet.data for packet in port.receive(9)] == [RESET]
    assert port.receive(9) == []
    assert not tells(port)
    assert port.ended is None
    assert port.sock.recv(999, socket.MSG_PEEK) == rest


@pytest.mark.parametrize(
    ("stream", "number"),
    [
        (b"\0\0\x38", errno.EPROTO),
        ((TRIAL_FRAME_MAX + 1).to_bytes(2, "big") + b"\x38", errno.EPROTO),
        (b"", errno.ECONNRESET),
        (b"\0", errno.ECONNRESET),
        (frame(RESET)[:9], errno.ECONNRESET),
    ],
)
def test_what_ends_a_connection(
    pair: tuple[socket.socket, TcpPort], stream: bytes, number: int
) -> None:
    far, port = pair
    far.sendall(frame(RESET) + stream)
    far.shutdown(socket.SHUT_WR)
    come(port, len(frame(RESET) + stream))
    eventually(lambda: tells(port))
    found = [packet.data for packet in port.receive(9)]
    eventually(lambda: not port.receive(9) and port.ended is not None)
    assert (found, port.ended) == ([RESET], number)
    with pytest.raises(DcoError) as caught:
        port.send(b"x", None, None)
    assert caught.value.errno == errno.EPIPE


def test_a_reset_connection_ends(pair: tuple[socket.socket, TcpPort]) -> None:
    far, port = pair
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    eventually(lambda: tells(port))
    assert port.receive(9) == []
    assert port.ended == errno.ECONNRESET


def test_packets_wait_for_a_slow_reader_and_are_bounded(
    pair: tuple[socket.socket, TcpPort],
) -> None:
    far, port = pair

    def number_sent() -> Iterator[int]:
        for number in itertools.count():
            port.send(bytes([number % 251 + 1]) * 1400, None, None)
            yield number

    sent: list[int] = []
    with pytest.raises(DcoError) as caught:
        sent.extend(number_sent())
    assert (caught.value.errno, caught.value.attribute) == (errno.EAGAIN, "data")
    waiting = port.info().waiting
    assert WAITING_MAX - 1402 < waiting <= WAITING_MAX
    assert port.interest & select.EPOLLOUT
    with pytest.raises(DcoError) as caught:
        port.prepare()  # what waits goes first
    assert caught.value.errno == errno.EAGAIN
    with far.makefile("rb") as reader:
        for number in sent:
            port.receive(1)
            assert reader.read(1402) == frame(bytes([number % 251 + 1]) * 1400)
    assert port.info().waiting == 0
    assert not port.interest & select.EPOLLOUT
    port.prepare()


@pytest.mark.parametrize(("size", "number"), [(0, errno.EINVAL), (65536, errno.EMSGSIZE)])
def test_what_is_no_frame_is_refused(
    pair: tuple[socket.socket, TcpPort], size: int, number: int
) -> None:
    with pytest.raises(DcoError) as caught:
        pair[1].send(bytes(size), None, None)
    assert caught.value.errno == number


def test_tcp_options_are_as_they_were(pair: tuple[socket.socket, TcpPort]) -> None:
    far, port = pair
    with socket.socket(fileno=os.dup(port.sock.fileno())) as copy:
        far.sendall(frame(RESET)[:9])
        come(port, 9)
        port.receive(9)
        options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY), (1, socket.SO_RCVLOWAT)]
        assert [bool(copy.getsockopt(*one)) for one in options] == [True, True]
        assert copy.getsockopt(1, socket.SO_RCVLOWAT) == 16
        port.close()
        assert [copy.getsockopt(*one) for one in options] == [0, 1]


def test_the_driver_is_given_a_socket_that_tells_of_every_byte(
    pair: tuple[socket.socket, TcpPort],
) -> None:
    far, port = pair
    far.sendall(frame(RESET)[:9])
    come(port, 9)
    port.receive(9)
    assert not tells(port)
    port.prepare()
    port.taken()
    assert port.driven
    assert tells(port)


def test_what_is_no_connection_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with pytest.raises(DcoError) as caught:
            TcpPort.attach(listening, send_buffer=0, receive_buffer=0)
        assert caught.value.errno == errno.EINVAL
    with udp() as one, pytest.raises(DcoError) as caught:
        TcpPort.attach(one, send_buffer=0, receive_buffer=0)
    assert caught.value.errno == errno.EPROTONOSUPPORT
    with socket.socket() as lonely, pytest.raises(DcoError) as caught:
        TcpPort.attach(lonely, send_buffer=0, receive_buffer=0)
    assert (caught.value.errno, caught.value.attribute) == (errno.EINVAL, "sock")
