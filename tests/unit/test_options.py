"""A socket that is given back has every option as it was: all that can be read are compared."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from loopback import Host, host, ipv4, key_pair, udp_socket
from support import needs_root

import ovpn_dco as dco
from ovpn_dco import KeySlot, Mode

SO_ERROR, SO_INCOMING_CPU, SO_INCOMING_NAPI_ID, SO_MEMINFO = 4, 49, 56, 55
SO_BUF_LOCK, SO_RXQ_OVFL, SO_SNDBUFFORCE, SO_RCVBUFFORCE = 72, 40, 32, 33
UDP_SEGMENT, UDP_GRO = 103, 104
IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTOS = 8, 10, 11, 13
IPV6_MTU_DISCOVER, IPV6_RECVERR, IPV6_RECVPKTINFO, IPV6_RECVTCLASS = 23, 25, 49, 66

# Not settings but what was measured last: reading them tells of the traffic, or clears them.
MEASURED = {
    (socket.SOL_SOCKET, SO_ERROR),
    (socket.SOL_SOCKET, SO_INCOMING_CPU),
    (socket.SOL_SOCKET, SO_INCOMING_NAPI_ID),
    (socket.SOL_SOCKET, SO_MEMINFO),
}
LEVELS = (socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.IPPROTO_UDP)


def options(sock: socket.socket) -> dict[tuple[int, int], bytes]:
    """Every option of the four levels that the kernel answers for."""
    found = {}
    for level in LEVELS:
        for name in range(256):
            if (level, name) in MEASURED:
                continue
            try:
                found[level, name] = sock.getsockopt(level, name, 256)
            except OSError:
                continue
    return found


Prepare = Callable[[socket.socket], object]


def as_it_comes(sock: socket.socket) -> None:
    pass


def small_buffers(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)


def one_buffer(sock: socket.socket) -> None:
    """The other one is not locked against the kernel."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)


def forced_buffers(sock: socket.socket) -> None:
    """Beyond rmem_max: what restores them has to force them, too."""
    sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)


def all_that_we_set(sock: socket.socket) -> None:
    """Each with a value that is neither the default nor ours."""
    sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 1)
    sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)


def others(sock: socket.socket) -> None:
    """What is none of our business."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 3)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 3, 0))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x20)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 17)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 17)


PLACES = {
    "ipv4": (socket.AF_INET, "127.0.0.1", False),
    "ipv4 any": (socket.AF_INET, "0.0.0.0", False),
    "ipv6": (socket.AF_INET6, "::1", True),
    "ipv6 any": (socket.AF_INET6, "::", True),
    "dual stack": (socket.AF_INET6, "::", False),
}
PREPARED = [as_it_comes, small_buffers, one_buffer, all_that_we_set, others]
ATTACHED: list[dict[str, Any]] = [
    {},
    {"df": True},
    {"send_buffer": 100_000, "receive_buffer": 300_000},
]


def check_restored(place: str, prepare: Prepare, attach: dict[str, Any]) -> None:
    family, address, only_ipv6 = PLACES[place]
    with socket.socket(family, socket.SOCK_DGRAM) as sock, host(Mode.P2P) as h:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
        prepare(sock)
        sock.bind((address, 0))
        before = options(sock)
        transport = h.device.attach_udp(sock, **attach)
        during = options(sock)
        assert during != before
        assert during.keys() == before.keys()
        exchange(h, sock, transport)
        transport.detach()
        assert options(sock) == before


def exchange(h: Host, sock: socket.socket, transport: dco.Transport) -> None:
    """A packet each way, so that options which only then take hold have done so."""
    loopback = "127.0.0.1" if sock.family == socket.AF_INET else "::1"
    mine, _ = key_pair()
    with udp_socket(sock.family) as far:
        peer = h.device.add_peer(7, transport, remote=far.getsockname()[:2])
        peer.install_key(KeySlot.PRIMARY, mine)
        h.send(ipv4("10.8.0.1", "10.8.0.2"))
        far.recv(2000)
        far.sendto(b"\x38control", (loopback, sock.getsockname()[1]))
        h.control()
        peer.delete()


@pytest.mark.parametrize("attach", ATTACHED, ids=["plain", "df", "buffers"])
@pytest.mark.parametrize("prepare", PREPARED, ids=lambda prepare: prepare.__name__)
@pytest.mark.parametrize("place", PLACES)
def test_detach_restores_all(place: str, prepare: Prepare, attach: dict[str, Any]) -> None:
    check_restored(place, prepare, attach)


@needs_root
@pytest.mark.parametrize("place", ["ipv4", "dual stack"])
def test_detach_restores_buffers_beyond_the_limit(place: str) -> None:
    check_restored(place, forced_buffers, {})


def test_what_is_compared_holds_what_we_set() -> None:
    """The table above is no good if the kernel does not answer for them."""
    with udp_socket(socket.AF_INET6) as sock:
        found = options(sock).keys()
    ours = {
        (socket.SOL_SOCKET, socket.SO_SNDBUF),
        (socket.SOL_SOCKET, socket.SO_RCVBUF),
        (socket.SOL_SOCKET, SO_RXQ_OVFL),
        (socket.IPPROTO_IP, IP_MTU_DISCOVER),
        (socket.IPPROTO_IP, IP_RECVERR),
        (socket.IPPROTO_IP, IP_RECVTOS),
        (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER),
        (socket.IPPROTO_IPV6, IPV6_RECVERR),
        (socket.IPPROTO_IPV6, IPV6_RECVTCLASS),
        (socket.IPPROTO_IPV6, IPV6_RECVPKTINFO),
        (socket.IPPROTO_UDP, UDP_GRO),
    }
    assert ours <= found
    assert len(found) > 80


def test_a_refused_attach_restores_all() -> None:
    """At the 257th socket, or whatever is one too many."""
    with host(Mode.P2P) as h:
        socks = [udp_socket() for _ in range(260)]
        try:
            refused = 0
            for sock in socks:
                before = options(sock)
                try:
                    h.device.attach_udp(sock)
                except dco.LimitReached:
                    refused += 1
                    assert options(sock) == before
            assert refused
        finally:
            for sock in socks:
                sock.close()
