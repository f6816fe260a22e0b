"""Devices without privileges: inner packets through a SEQPACKET socketpair, datagrams on loopback.

The wire format is written down a second time here, on an independent AEAD, so that a packet can be
forged or taken apart without the code under test."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from support import WORKERS

import ovpn_dco as dco

ANYWHERE = ("127.0.0.1", 9)
KEEPALIVE = bytes.fromhex("2a187bf3641eb4cb07ed2d0a981fc748")
PATIENCE_S = 5.0


def material(cipher: dco.Cipher = dco.Cipher.AES_256_GCM, seed: int = 1) -> dco.KeyDirection:
    """Key material of one direction; another seed, another key."""
    key = bytes((seed * 37 + i) & 0xFF for i in range(cipher.key_size))
    return dco.KeyDirection(key=key, nonce_tail=bytes((seed + 17 * i) & 0xFF for i in range(8)))


def key_pair(
    key_id: int = 0, cipher: dco.Cipher = dco.Cipher.AES_256_GCM, seed: int = 1, **more: int
) -> tuple[dco.DataKey, dco.DataKey]:
    """The same key as both ends install it."""
    one, two = material(cipher, seed), material(cipher, seed + 100)
    return (
        dco.DataKey(key_id=key_id, cipher=cipher, encrypt=one, decrypt=two, **more),
        dco.DataKey(key_id=key_id, cipher=cipher, encrypt=two, decrypt=one, **more),
    )


def epoch_pair(
    key_id: int = 0, cipher: dco.Cipher = dco.Cipher.AES_256_GCM, seed: int = 1, **more: int
) -> tuple[dco.EpochKey, dco.EpochKey]:
    """A key in the epoch format as both ends install it."""
    one, two = (bytes((s * 31 + i) & 0xFF for i in range(32)) for s in (seed, seed + 100))
    return (
        dco.EpochKey(key_id, cipher, one, two, **more),
        dco.EpochKey(key_id, cipher, two, one, **more),
    )


def _aead(key: dco.DataKey, direction: dco.KeyDirection) -> AESGCM | ChaCha20Poly1305:
    kind = ChaCha20Poly1305 if key.cipher is dco.Cipher.CHACHA20_POLY1305 else AESGCM
    return kind(bytes(direction.key))


def forge(
    key: dco.DataKey, packet_id: int, plain: bytes, *, peer_id: int = 7, key_id: int | None = None
) -> bytes:
    """A DATA_V2 packet that is sealed with `key.encrypt`."""
    number = key.key_id if key_id is None else key_id
    head = struct.pack("!II", 9 << 27 | number << 24 | peer_id, packet_id)
    nonce = head[4:] + bytes(key.encrypt.nonce_tail)
    sealed = _aead(key, key.encrypt).encrypt(nonce, plain, head)
    return head + sealed[-16:] + sealed[:-16]


def unseal(key: dco.DataKey, packet: bytes) -> tuple[int, int, int, bytes]:
    """(key id, peer id, packet id, plaintext) of what the other end sealed."""
    word, packet_id = struct.unpack("!II", packet[:8])
    assert word >> 27 == 9
    nonce = packet[4:8] + bytes(key.decrypt.nonce_tail)
    plain = _aead(key, key.decrypt).decrypt(nonce, packet[24:] + packet[8:24], packet[:8])
    return word >> 24 & 7, word & 0xFFFFFF, packet_id, plain


def ipv4(source: str, destination: str, payload: bytes = b"payload") -> bytes:
    """A datagram of an experimental protocol (253), header checksum included."""
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(payload),
        0,
        0,
        64,
        253,
        0,
        socket.inet_aton(source),
        socket.inet_aton(destination),
    )
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + payload


def ipv6(source: str, destination: str, payload: bytes = b"payload") -> bytes:
    addresses = socket.inet_pton(socket.AF_INET6, source)
    addresses += socket.inet_pton(socket.AF_INET6, destination)
    return struct.pack("!IHBB", 6 << 28, len(payload), 253, 64) + addresses + payload


def udp_socket(family: int = socket.AF_INET, host: str = "") -> socket.socket:
    """Bound to a free port on loopback."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host or ("127.0.0.1" if family == socket.AF_INET else "::1"), 0))
    sock.settimeout(PATIENCE_S)
    return sock


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """The first true value of `condition`; fails after a while."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"never happened: {what or condition}"
        time.sleep(0.002)


@dataclass
class Host:
    """A device with its ends: `app` for inner packets, `sock` for the wire."""

    device: dco.Device
    app: socket.socket
    sock: socket.socket
    transport: dco.Transport
    events: list[dco.Event] = field(default_factory=list)

    @property
    def address(self) -> Any:
        return self.sock.getsockname()

    def send(self, packet: bytes) -> None:
        """Into the inner side."""
        self.app.send(packet)

    def receive(self) -> bytes:
        """Out of the inner side."""
        return self.app.recv(65536)

    def quiet(self, seconds: float = 0.05) -> bool:
        """Nothing comes out of the inner side."""
        return not select.select([self.app], [], [], seconds)[0]

    def drops(self) -> dict[dco.DropReason, int]:
        """Reasons that were counted."""
        return {reason: n for reason, n in self.device.stats().drops.items() if n}

    def control(self, count: int = 1) -> list[dco.ControlPacket]:
        """Waits for so many control packets."""
        packets: list[dco.ControlPacket] = []

        def enough() -> bool:
            packets.extend(self.device.control.receive())
            return len(packets) >= count

        eventually(enough, f"{count} control packets")
        return packets

    def event(self, kind: type[dco.Event]) -> Any:
        """Waits for the next event of this kind; earlier ones of other kinds are kept."""

        def found() -> dco.Event | None:
            for event in self.events:
                if isinstance(event, kind):
                    self.events.remove(event)
                    return event
            self.events.extend(self.device.poll_events(timeout_s=0.05))
            return None

        return eventually(found, kind.__name__)


@contextlib.contextmanager
def host(
    mode: dco.Mode = dco.Mode.MULTIPEER, *, family: int = socket.AF_INET, **options: Any
) -> Iterator[Host]:
    """An open device on a socketpair and a loopback socket."""
    if not options.get("single_thread"):
        options.setdefault("workers", WORKERS)
    inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with inside, outside, udp_socket(family) as sock:
        outside.settimeout(PATIENCE_S)
        with dco.Device.open("test", mode=mode, tun_fd=inside.fileno(), **options) as device:
            inside.close()
            yield Host(device, outside, sock, device.attach_udp(sock))


class Target(NamedTuple):
    """A server, the socket of its one peer, the key that this seals with, and the peer."""

    host: Host
    far: socket.socket
    key: dco.DataKey
    peer: dco.Peer


@dataclass
class Tunnel:
    """A P2P client and a MULTIPEER server that know each other; no keys yet."""

    client: Host
    server: Host
    client_peer: dco.Peer
    server_peer: dco.Peer

    def install(self, pair: Any = None, slot: dco.KeySlot = dco.KeySlot.PRIMARY) -> Any:
        """The key on both ends."""
        pair = pair or key_pair()
        self.client_peer.install_key(slot, pair[0])
        self.server_peer.install_key(slot, pair[1])
        return pair

    def up(self, payload: bytes = b"up") -> bytes:
        """What a packet of the client looks like to the server; it must arrive as it is."""
        packet = ipv4("10.8.0.2", "10.8.0.1", payload)
        self.client.send(packet)
        assert self.server.receive() == packet
        return packet

    def down(self, payload: bytes = b"down") -> bytes:
        packet = ipv4("10.8.0.1", "10.8.0.2", payload)
        self.server.send(packet)
        assert self.client.receive() == packet
        return packet


@contextlib.contextmanager
def tunnel(*, family: int = socket.AF_INET, **options: Any) -> Iterator[Tunnel]:
    with (
        host(dco.Mode.P2P, family=family, **options) as client,
        host(dco.Mode.MULTIPEER, family=family, **options) as server,
    ):
        client_peer = client.device.add_peer(7, client.transport, remote=server.address)
        server_peer = server.device.add_peer(
            7, server.transport, remote=client.address, vpn_ipv4="10.8.0.2", vpn_ipv6="fd00:8::2"
        )
        yield Tunnel(client, server, client_peer, server_peer)


def add(h: Host, peer_id: int = 1, **more: Any) -> dco.Peer:
    """A peer of a server, with addresses unless they are given."""
    more.setdefault("remote", ANYWHERE)
    more.setdefault("vpn_ipv4", f"10.8.{peer_id >> 8 & 255}.{peer_id & 255}")
    return h.device.add_peer(peer_id, h.transport, **more)


def refused(kind: type[dco.DcoError], attribute: str, call: Callable[[], object]) -> dco.DcoError:
    """The exception of a call, which must name the attribute at fault."""
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.attribute == attribute
    assert attribute in str(caught.value)
    return caught.value
