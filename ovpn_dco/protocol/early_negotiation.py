"""What a tls-crypt-v2 client and a server tell each other in the two resets.

The client's first replay id says that it can answer a cookie. The server's reset has a list of
`type (2) | length (2) | value`, whose flags say that the wrapped client key is wanted once more."""

from __future__ import annotations

import enum

from .errors import Refusal, refused

__all__ = [
    "COOKIE_CAPABLE",
    "ResetFlag",
    "decode_reset_flags",
    "encode_reset_flags",
    "is_cookie_capable",
]

COOKIE_CAPABLE = 0x0F000000
"""Where the replay ids of such a client start: its first packet has the next one."""

_TYPE_FLAGS = 1
_TLV_HEADER = 4
_FLAGS_SIZE = 2


class ResetFlag(enum.IntFlag):
    """Flags of the server's reset; unknown bits are kept and mean nothing."""

    NONE = 0
    RESEND_WKC = 1


def is_cookie_capable(replay_id: int) -> bool:
    """Whether the client of this first replay id announces that it can answer a cookie."""
    return replay_id & COOKIE_CAPABLE == COOKIE_CAPABLE


def encode_reset_flags(flags: ResetFlag) -> bytes:
    """The list with this one entry."""
    numbers = (_TYPE_FLAGS, _FLAGS_SIZE, int(flags))
    return b"".join(number.to_bytes(2, "big") for number in numbers)


def decode_reset_flags(payload: bytes) -> ResetFlag:
    """The flags in the payload of a server's reset: none if it is empty, as older servers send it.

    Entries of unknown types are skipped. Raises `MalformedPacket`; that ends the session."""
    flags = ResetFlag.NONE
    offset = 0
    while offset < len(payload):
        kind = int.from_bytes(payload[offset : offset + 2], "big")
        size = int.from_bytes(payload[offset + 2 : offset + _TLV_HEADER], "big")
        value = payload[offset + _TLV_HEADER : offset + _TLV_HEADER + size]
        if len(payload) < offset + _TLV_HEADER + size:
            raise refused(Refusal.FLAGS_MALFORMED, f"entry at byte {offset} is cut off")
        if kind == _TYPE_FLAGS:
            if size != _FLAGS_SIZE:
                raise refused(Refusal.FLAGS_MALFORMED, f"flags of {size} bytes")
            flags |= ResetFlag(int.from_bytes(value, "big"))
        offset += _TLV_HEADER + size
    return flags
