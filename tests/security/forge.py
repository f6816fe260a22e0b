"""Packets made by hand: DATA_V2 by an independent AEAD implementation, and inner IP packets.

Written from the wire format only, so that engine and forge can disagree."""

from __future__ import annotations

import ipaddress
import secrets
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

import ovpn_dco as dco

DATA_V1 = 6
DATA_V2 = 9
CONTROL_V1 = 4
HEADER, PACKET_ID, TAG = 4, 4, 16
OVERHEAD = HEADER + PACKET_ID + TAG
UNDEFINED = 0xFFFFFF
KEEPALIVE = bytes.fromhex("2a187bf3641eb4cb07ed2d0a981fc748")


@dataclass(frozen=True)
class Material:
    """Key material of one direction."""

    key: bytes = field(repr=False)
    nonce_tail: bytes = field(repr=False)

    @classmethod
    def fresh(cls, cipher: dco.Cipher) -> Material:
        return cls(secrets.token_bytes(cipher.key_size), secrets.token_bytes(8))

    def direction(self) -> dco.KeyDirection:
        return dco.KeyDirection(key=self.key, nonce_tail=self.nonce_tail)


def data_key(
    key_id: int,
    cipher: dco.Cipher,
    encrypt: Material,
    decrypt: Material,
    *,
    first_packet_id: int = 1,
) -> dco.DataKey:
    return dco.DataKey(
        key_id=key_id,
        cipher=cipher,
        encrypt=encrypt.direction(),
        decrypt=decrypt.direction(),
        first_packet_id=first_packet_id,
    )


def opposite_keys(
    key_id: int = 0, cipher: dco.Cipher = dco.Cipher.AES_256_GCM
) -> tuple[dco.DataKey, dco.DataKey]:
    """What both ends of one connection install."""
    one, two = Material.fresh(cipher), Material.fresh(cipher)
    return data_key(key_id, cipher, one, two), data_key(key_id, cipher, two, one)


@dataclass(frozen=True)
class Opened:
    """What a DATA_V2 packet held."""

    key_id: int
    peer_id: int
    packet_id: int
    payload: bytes


class Forge:
    """The far end of one key: seals what the engine opens, and the other way round."""

    def __init__(
        self, peer_id: int, key_id: int = 0, cipher: dco.Cipher = dco.Cipher.AES_256_GCM
    ) -> None:
        self.peer_id = peer_id
        self.key_id = key_id
        self.cipher = cipher
        self.next_id = 1
        self._sealing, self._opening = Material.fresh(cipher), Material.fresh(cipher)

    def key(self, *, first_packet_id: int = 1) -> dco.DataKey:
        """What the engine has to install."""
        return data_key(
            self.key_id,
            self.cipher,
            self._opening,
            self._sealing,
            first_packet_id=first_packet_id,
        )

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What must never be seen anywhere."""
        one, two = self._sealing, self._opening
        return one.key, one.nonce_tail, two.key, two.nonce_tail

    def _aead(self, material: Material) -> AESGCM | ChaCha20Poly1305:
        chacha = self.cipher is dco.Cipher.CHACHA20_POLY1305
        return ChaCha20Poly1305(material.key) if chacha else AESGCM(material.key)

    def seal(
        self,
        payload: bytes,
        *,
        packet_id: int | None = None,
        peer_id: int | None = None,
        key_id: int | None = None,
    ) -> bytes:
        """One packet; the next packet id unless one is given."""
        if packet_id is None:
            packet_id = self.next_id
            self.next_id += 1
        key_id = self.key_id if key_id is None else key_id
        peer_id = self.peer_id if peer_id is None else peer_id
        head = struct.pack("!II", DATA_V2 << 27 | key_id << 24 | peer_id, packet_id)
        nonce = head[4:] + self._sealing.nonce_tail
        sealed = self._aead(self._sealing).encrypt(nonce, payload, head)
        return head + sealed[-TAG:] + sealed[:-TAG]

    def open(self, packet: bytes) -> Opened:
        """Raises cryptography's InvalidTag for what the engine did not seal with this key."""
        head, tag, ciphertext = packet[:8], packet[8:OVERHEAD], packet[OVERHEAD:]
        word, packet_id = struct.unpack("!II", head)
        assert word >> 27 == DATA_V2
        nonce = head[4:] + self._opening.nonce_tail
        payload = self._aead(self._opening).decrypt(nonce, ciphertext + tag, head)
        return Opened(word >> 24 & 7, word & 0xFFFFFF, packet_id, payload)


# Inner packets


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(source: str, destination: str, payload: bytes = b"", *, protocol: int = 253) -> bytes:
    """An IPv4 or IPv6 packet; protocol 253 is for experiments (RFC 3692)."""
    src, dst = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    if src.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
        return head + src.packed + dst.packed + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0x4000, 64, protocol, 0)
    head += src.packed + dst.packed
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + payload


def _transport_checksum(source: str, destination: str, protocol: int, segment: bytes) -> int:
    src, dst = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    pseudo = src.packed + dst.packed + struct.pack("!II", len(segment), protocol)
    return checksum(pseudo + segment)


def tcp(
    source: str,
    destination: str,
    payload: bytes,
    *,
    sequence: int,
    ports: tuple[int, int] = (1000, 2000),
    spoil: int = 0,
) -> bytes:
    """A TCP segment with ACK set; `spoil` is added to its checksum."""
    head = struct.pack("!HHIIBBHHH", *ports, sequence, 1, 5 << 4, 0x10, 1000, 0, 0)
    total = _transport_checksum(source, destination, 6, head + payload)
    total = (total + spoil) & 0xFFFF
    segment = head[:16] + total.to_bytes(2, "big") + head[18:] + payload
    return ip(source, destination, segment, protocol=6)


def udp(
    source: str,
    destination: str,
    payload: bytes,
    *,
    ports: tuple[int, int] = (1000, 2000),
    spoil: int = 0,
) -> bytes:
    """A UDP datagram; `spoil` is added to its checksum."""
    head = struct.pack("!HHHH", *ports, 8 + len(payload), 0)
    total = _transport_checksum(source, destination, 17, head + payload) or 0xFFFF
    total = (total + spoil) & 0xFFFF
    segment = head[:6] + total.to_bytes(2, "big") + payload
    return ip(source, destination, segment, protocol=17)
