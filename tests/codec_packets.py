"""Inner packets for tests of the codec, and a second opinion on their checksums."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

TCP, UDP = 6, 17
FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80
NO_OFFLOAD = bytes(10)


def ones_sum(data: bytes) -> int:
    """RFC 1071: big-endian words, the carry added again."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass(frozen=True)
class Flow:
    """What all packets of a flow have in common."""

    version: int
    protocol: int
    port: int = 40000
    df: bool = True
    tos: int = 0
    ttl: int = 64
    label: int = 0
    ack: int = 1
    window: int = 501
    options: bytes = field(default=b"", repr=False)

    @property
    def transport(self) -> int:
        return 20 if self.version == 4 else 40

    @property
    def header(self) -> int:
        return self.transport + (20 + len(self.options) if self.protocol == TCP else 8)

    @property
    def gso_type(self) -> int:
        if self.protocol == UDP:
            return 5
        return 1 if self.version == 4 else 4

    @property
    def checksum_offset(self) -> int:
        return 16 if self.protocol == TCP else 6

    def pseudo(self, packet: bytes) -> int:
        addresses = packet[12:20] if self.version == 4 else packet[8:40]
        length = len(packet) - self.transport
        return ones_sum(addresses + struct.pack("!II", length, self.protocol))

    def packet(
        self, payload: bytes, *, sequence: int = 0, ident: int = 0, flags: int = ACK
    ) -> bytes:
        """A packet whose checksums are good."""
        packet = self._bare(payload, sequence, ident, flags)
        total = ones_sum(struct.pack("!H", self.pseudo(packet)) + packet[self.transport :])
        return self._with_checksum(packet, (0xFFFF - total) or 0xFFFF)

    def super_packet(
        self, payload: bytes, *, sequence: int = 0, ident: int = 0, flags: int = ACK
    ) -> bytes:
        """As the kernel hands it out: pseudo-header sum in the checksum field."""
        packet = self._bare(payload, sequence, ident, flags)
        return self._with_checksum(packet, self.pseudo(packet))

    def vnet(self, segment: int) -> bytes:
        return struct.pack(
            "=BBHHHH", 1, self.gso_type, self.header, segment, self.transport, self.checksum_offset
        )

    def _bare(self, payload: bytes, sequence: int, ident: int, flags: int) -> bytes:
        if self.protocol == TCP:
            offset = (20 + len(self.options)) // 4 << 4
            transport = struct.pack(
                "!HHIIBBHHH",
                self.port,
                443,
                sequence & 0xFFFFFFFF,
                self.ack,
                offset,
                flags,
                self.window,
                0,
                0,
            )
            transport += self.options
        else:
            transport = struct.pack("!HHHH", self.port, 443, 8 + len(payload), 0)
        body = transport + payload
        if self.version == 6:
            head = struct.pack(
                "!IHBB", 6 << 28 | self.tos << 20 | self.label, len(body), self.protocol, self.ttl
            )
            return head + bytes(range(0xA0, 0xC0)) + body
        head = struct.pack(
            "!BBHHHBBH8s",
            0x45,
            self.tos,
            20 + len(body),
            ident & 0xFFFF,
            0x4000 if self.df else 0,
            self.ttl,
            self.protocol,
            0,
            b"\x0a\x08\x00\x01\x0a\x08\x00\x02",
        )
        return head[:10] + struct.pack("!H", 0xFFFF - ones_sum(head)) + head[12:] + body

    def _with_checksum(self, packet: bytes, value: int) -> bytes:
        at = self.transport + self.checksum_offset
        return packet[:at] + struct.pack("!H", value) + packet[at + 2 :]


def is_valid(packet: bytes) -> bool:
    """Header and transport checksum of a packet without options or extension headers."""
    ipv4 = packet[0] >> 4 == 4
    transport, protocol = (20, packet[9]) if ipv4 else (40, packet[6])
    addresses = packet[12:20] if ipv4 else packet[8:40]
    pseudo = addresses + struct.pack("!II", len(packet) - transport, protocol)
    return (not ipv4 or ones_sum(packet[:20]) == 0xFFFF) and ones_sum(
        pseudo + packet[transport:]
    ) == 0xFFFF


def without_free_id(packet: bytes) -> bytes:
    """With DF the IPv4 identification means nothing (RFC 6864) and need not survive."""
    if packet[0] == 0x45 and packet[6] & 0x40:
        return packet[:4] + b"\0\0" + packet[6:10] + b"\0\0" + packet[12:]
    return packet
