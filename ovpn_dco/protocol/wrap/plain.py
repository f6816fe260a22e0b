"""No protection: the packet as it is."""

from __future__ import annotations

from ..replay import Stamp
from ..wire import HEADER_SIZE, ControlPacket, encode_body, encode_header
from .base import Opened, header_without_client_key

__all__ = ["Plain", "PlainFormat"]


class PlainFormat:
    """Header and body, nothing between."""

    overhead = 0

    def seal(self, packet: ControlPacket, stamp: Stamp | None = None) -> bytes:
        """See `Format`; the stamp has no place in the packet."""
        return encode_header(packet) + encode_body(packet)

    def open(self, data: bytes) -> Opened:
        """See `Format`; anybody can make what this opens."""
        return Opened(header_without_client_key(data), None, data[HEADER_SIZE:])


class Plain:
    """The wrapping that wraps nothing."""

    overhead = 0
    static_key = None

    def __init__(self) -> None:
        self._format = PlainFormat()

    def overhead_of(self, *, key_id: int, message_id: int) -> int:
        """See `Wrapping`."""
        return 0

    def wrap(self, packet: ControlPacket, now: float) -> bytes:
        """See `Wrapping`."""
        return self._format.seal(packet)

    def unwrap(self, data: bytes, now: float) -> ControlPacket:
        """See `Wrapping`."""
        return self._format.open(data).packet()
