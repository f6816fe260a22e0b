"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng), in the byte order of this machine.

A file is a section header, an interface description for each interface, and packets of them in any
order; statistics of an interface come last. Each function returns one block."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

LINKTYPE_RAW = 101
"""The packet begins with its IPv4 or IPv6 header."""
INBOUND, OUTBOUND = 1, 2
"""Of a packet, as seen from the host that wrote the file."""

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_MAGIC = 0x1A2B3C4D
_END, _COMMENT = 0, 1
_SECTION_APPLICATION = 4
_INTERFACE_NAME, _INTERFACE_DESCRIPTION, _INTERFACE_RESOLUTION = 2, 3, 9
_NANOSECONDS = b"\x09"
_PACKET_FLAGS = 2
_STATISTICS_RECEIVED, _STATISTICS_DROPPED = 4, 5
_LENGTH_UNKNOWN = -1
_OPTION_MAX = 65535

_Option = tuple[int, bytes]


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _options(options: Iterable[_Option]) -> Iterator[bytes]:
    for code, value in options:
        yield struct.pack("=HH", code, len(value)) + _pad(value)
    yield struct.pack("=HH", _END, 0)


def _text(text: str) -> bytes:
    return text.encode(errors="replace")[:_OPTION_MAX]


def _block(kind: int, fixed: bytes, *options: _Option) -> bytes:
    body = fixed + b"".join(_options(options))
    length = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + length + body + length


def section(application: str) -> bytes:
    """The beginning of a file."""
    fixed = struct.pack("=IHHq", _MAGIC, 1, 0, _LENGTH_UNKNOWN)
    return _block(_SECTION, fixed, (_SECTION_APPLICATION, _text(application)))


def interface(name: str, description: str, *, link_type: int, snap: int) -> bytes:
    """The next interface, numbered from 0; of its packets at most `snap` bytes are there."""
    return _block(
        _INTERFACE,
        struct.pack("=HHI", link_type, 0, snap),
        (_INTERFACE_NAME, _text(name)),
        (_INTERFACE_DESCRIPTION, _text(description)),
        (_INTERFACE_RESOLUTION, _NANOSECONDS),
    )


def packet(
    number: int, time_ns: int, data: bytes, *, size: int, direction: int, comment: str
) -> bytes:
    """A packet of interface `number`, of which `data` is the beginning and `size` the length."""
    high, low = time_ns >> 32, time_ns & 0xFFFFFFFF
    return _block(
        _PACKET,
        struct.pack("=IIIII", number, high, low, len(data), size) + _pad(data),
        (_COMMENT, _text(comment)),
        (_PACKET_FLAGS, struct.pack("=I", direction)),
    )


def statistics(number: int, time_ns: int, *, received: int, dropped: int) -> bytes:
    """How many packets of interface `number` there were, and how many are missing in the file."""
    return _block(
        _STATISTICS,
        struct.pack("=III", number, time_ns >> 32, time_ns & 0xFFFFFFFF),
        (_STATISTICS_RECEIVED, struct.pack("=Q", received)),
        (_STATISTICS_DROPPED, struct.pack("=Q", dropped)),
    )
