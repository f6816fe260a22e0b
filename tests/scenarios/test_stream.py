"""The frames of a TCP connection, as a client may cut them, and how a connection ends."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from scenarios.stranger import APPLICATION, Stranger
from scenarios.vpn import Vpn, vpn_address
from security.forge import DATA_V1
from system.tunnel import SYSTEM, frame

pytestmark = SYSTEM

LARGEST = 65535
LARGE = 26 << 20  # bytes, more than the socket buffers of both ends take
BROKEN = {
    "length 0": b"\0\0",
    "length 1": frame(b"\x48"),
    "length 3": frame(b"\x48\0\0"),
    "DATA_V1": frame(bytes([DATA_V1 << 3]) + bytes(30)),
}


@pytest.fixture
def stranger(make_network: Callable[..., Vpn]) -> Iterator[Stranger]:
    with Stranger(make_network(clients=(1,), tcp=True)) as one:
        yield one


def test_frames_are_cut_anywhere(stranger: Stranger) -> None:
    stranger.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = b"".join(frame(stranger.word(word)) for word in ("one", "two"))
    for byte in stream:
        stranger.sock.sendall(bytes([byte]))
    stranger.sock.sendall(b"".join(frame(stranger.word(word)) for word in ("three", "four")))
    assert stranger.heard() == ["one", "two", "three", "four"]


def test_a_forgery_of_any_length_ends_nothing(stranger: Stranger) -> None:
    """Nor does the id in the packet matter: the connection says whose it is."""
    head = stranger.word("")[:4]
    stranger.send(*(head + bytes(length - 4) for length in (4, 24, 2000, LARGEST)))
    stranger.send(stranger.word("other id", peer_id=99))
    assert stranger.heard() == ["other id"]
    assert stranger.vpn.server.listen() == []


@pytest.mark.parametrize("stream", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_stream_ends_the_peer(stranger: Stranger, stream: bytes) -> None:
    """There is no telling where the next frame would begin."""
    stranger.sock.sendall(frame(stranger.word("before")) + stream)
    assert stranger.told() == [(1, "deleted", "TRANSPORT_ERROR")]
    assert not stranger.vpn.server.device.peers


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_the_client_ends_it(stranger: Stranger, reset: bool) -> None:
    assert stranger.heard() == []
    if reset:
        linger = struct.pack("ii", 1, 0)
        stranger.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    stranger.sock.close()
    assert stranger.told() == [(1, "deleted", "TRANSPORT_DISCONNECT")]


def test_a_client_that_does_not_read(stranger: Stranger) -> None:
    """What is for it is lost in the end, but what it sends is heard, and it can be deleted."""
    server, packet = stranger.vpn.server, bytes(1300)
    with server.namespace.socket() as application:
        application.connect((vpn_address(1), APPLICATION))
        for _ in range(LARGE // len(packet)):
            application.send(packet)
    stranger.send(stranger.word("from a full connection"))
    assert stranger.heard() == ["from a full connection"]
    stranger.peer.delete()
    assert stranger.told() == [(1, "deleted", "USERSPACE")]
