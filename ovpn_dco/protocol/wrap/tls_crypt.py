"""tls-crypt: control packets encrypted and authenticated, all but the header.

    header (9) | replay id (4) | time (4) | tag (32) | ciphertext of the body

The tag covers header, replay id, time and the plain body, and is the counter of the cipher."""

from __future__ import annotations

from ..errors import Refusal, refused
from ..replay import STAMP_SIZE, ReplayWindow, SendCounter, Stamp
from ..role import Role
from ..siv import TAG_SIZE, SivKey
from ..statickey import Direction, StaticKey
from ..wire import HEADER_SIZE, ControlPacket, Header, encode_body, encode_header
from .base import Opened, Protected, header_without_client_key

__all__ = ["TlsCrypt", "TlsCryptFormat", "direction_of"]

_TAG_START = HEADER_SIZE + STAMP_SIZE
_BODY_START = _TAG_START + TAG_SIZE


def direction_of(role: Role) -> Direction:
    """A server sends with key 0; data keys have it the other way round."""
    return Direction.NORMAL if role is Role.SERVER else Direction.INVERSE


class TlsCryptFormat:
    """The keys of one end."""

    overhead = STAMP_SIZE + TAG_SIZE

    def __init__(self, key: StaticKey, role: Role) -> None:
        send, receive = key.directed(direction_of(role))
        self._sending = SivKey(*send)
        self._receiving = SivKey(*receive)

    def seal(self, packet: ControlPacket, stamp: Stamp) -> bytes:
        """See `Format`."""
        associated = encode_header(packet) + stamp.encode()
        tag, ciphertext = self._sending.seal(associated, encode_body(packet))
        return associated + tag + ciphertext

    def open(self, data: bytes) -> Opened:
        """See `Format`."""
        return self.open_after(header_without_client_key(data), data)

    def open_after(self, header: Header, data: bytes) -> Opened:
        """`data` without its wrapped client key, if it had one, and its header."""
        if len(data) <= _BODY_START:
            raise refused(Refusal.TOO_SHORT, f"{len(data)} bytes")
        associated, tag = data[:_TAG_START], data[_TAG_START:_BODY_START]
        body = self._receiving.open(associated, tag, data[_BODY_START:])
        if body is None:
            raise refused(Refusal.TAG_MISMATCH)
        return Opened(header, Stamp.decode(associated[HEADER_SIZE:]), body)


class TlsCrypt(Protected):
    """One session under tls-crypt."""

    def __init__(
        self,
        key: StaticKey,
        role: Role,
        *,
        counter: SendCounter | None = None,
        window: ReplayWindow | None = None,
    ) -> None:
        super().__init__(TlsCryptFormat(key, role), key, counter=counter, window=window)
