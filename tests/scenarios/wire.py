"""What crosses a client's link: the first words of OpenVPN's packets, read off a packet socket."""

from __future__ import annotations

import socket
import struct

from system.tunnel import Sniffer

from ovpn_dco.testing import Namespace

DATA_V2 = 9
TCP, UDP, IPV6_FRAGMENT = socket.IPPROTO_TCP, socket.IPPROTO_UDP, 44


def data_header(key_id: int, peer_id: int) -> bytes:
    """The first four bytes of a data packet."""
    return struct.pack("!I", DATA_V2 << 27 | key_id << 24 | peer_id)


def transport_layer(packet: bytes) -> tuple[int, bytes] | None:
    """Protocol and what is behind the IP header; None for a fragment other than the first."""
    if packet[0] >> 4 == 4:
        if struct.unpack_from("!H", packet, 6)[0] & 0x1FFF:
            return None
        return packet[9], packet[(packet[0] & 15) * 4 :]
    if packet[6] != IPV6_FRAGMENT:
        return packet[6], packet[40:]
    if struct.unpack_from("!H", packet, 42)[0] & 0xFFF8:
        return None
    return packet[40], packet[48:]


def source(packet: bytes) -> str:
    """Where an IP packet comes from."""
    if packet[0] >> 4 == 4:
        return socket.inet_ntop(socket.AF_INET, packet[12:16])
    return socket.inet_ntop(socket.AF_INET6, packet[8:24])


def is_fragment(packet: bytes) -> bool:
    if packet[0] >> 4 == 6:
        return packet[6] == IPV6_FRAGMENT
    return bool(struct.unpack_from("!H", packet, 6)[0] & 0x3FFF)  # offset, or more to come


class Capture:
    """Of one client's link, from its beginning on; `with` closes it."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        """`namespace` is the client's."""
        self._sniffer = Sniffer(namespace, interface)
        self._seen: list[tuple[bool, bytes]] = []

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self._sniffer.close()

    def packets(self) -> list[tuple[bool, bytes]]:
        """Every IP packet: whether the client sent it, and its bytes."""
        self._seen += self._sniffer.packets()
        return self._seen

    def of_openvpn(self) -> list[tuple[bool, bytes]]:
        """The IP packets that carry OpenVPN, fragments but the first left out."""
        layers = [(sent, packet, transport_layer(packet)) for sent, packet in self.packets()]
        return [(sent, packet) for sent, packet, of in layers if of and of[0] in (UDP, TCP)]

    def headers(self, *, to_server: bool) -> set[bytes]:
        """The first four bytes of all packets of OpenVPN in this direction."""
        heads: set[bytes] = set()
        segments: dict[int, bytes] = {}  # by their place in the stream
        first: int | None = None
        for outgoing, packet in self.packets():
            found = transport_layer(packet)
            if outgoing is not to_server or found is None:
                continue
            protocol, data = found
            if protocol == UDP:
                heads.add(data[8:12])
            elif protocol == TCP:
                payload = data[(data[12] >> 4) * 4 :]
                if payload:  # else it acknowledges only
                    (sequence,) = struct.unpack_from("!I", data, 4)
                    first = sequence if first is None else first
                    segments.setdefault((sequence - first) & 0xFFFFFFFF, payload)
        return heads | _frame_heads(segments)


def _frame_heads(segments: dict[int, bytes]) -> set[bytes]:
    """Of a stream that was at rest, and so between two frames, when the capture began.

    Each packet stands behind its length."""
    stream = b""
    for place, payload in sorted(segments.items()):
        if place > len(stream):
            break
        stream += payload[len(stream) - place :]
    heads = set()
    while len(stream) >= 6:
        (length,) = struct.unpack_from("!H", stream)
        heads.add(stream[2:6])
        stream = stream[2 + length :]
    return heads
