"""What all protections of control packets have in common.

A `Format` is keys only: it seals and opens, remembers nothing, and all sessions of a server share
it. A `Wrapping` is one session's format with its replay ids."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..errors import Refusal, refused
from ..replay import ReplayWindow, SendCounter, Stamp
from ..statickey import StaticKey
from ..wire import ControlPacket, Header, decode_body, decode_header

__all__ = ["Format", "Opened", "Protected", "Wrapping", "header_without_client_key"]


class Opened(NamedTuple):
    """An authentic packet whose body was not looked at yet."""

    header: Header
    stamp: Stamp | None
    body: bytes

    def packet(self) -> ControlPacket:
        """The whole; raises `MalformedPacket`."""
        return decode_body(self.header, self.body)


class Format(Protocol):
    """Seals and opens with fixed keys."""

    @property
    def overhead(self) -> int:
        """Bytes that sealing adds."""

    def seal(self, packet: ControlPacket, stamp: Stamp) -> bytes:
        """The bytes for the wire."""

    def open(self, data: bytes) -> Opened:
        """Raises `ProtocolError` for anything that was not sealed with our peer's key."""


class Wrapping(Protocol):
    """Protection of one session's control packets."""

    @property
    def overhead(self) -> int:
        """Bytes that `wrap` adds to an ordinary packet; see `overhead_of`."""

    @property
    def static_key(self) -> StaticKey | None:
        """The key that dynamic tls-crypt mixes in, if there is one."""

    def overhead_of(self, *, key_id: int, message_id: int) -> int:
        """Bytes that `wrap` adds to this control message: more where a client key goes with it."""

    def wrap(self, packet: ControlPacket, now: float) -> bytes:
        """The bytes for the wire at Unix time `now`. Wrap anew for each transmission: the same
        bytes sent twice are a replay."""

    def unwrap(self, data: bytes, now: float) -> ControlPacket:
        """The packet in `data`; raises `ProtocolError`."""


class Protected:
    """A format with replay ids: the wrapping that all but `Plain` are."""

    def __init__(
        self,
        sealing: Format,
        static_key: StaticKey,
        *,
        counter: SendCounter | None = None,
        window: ReplayWindow | None = None,
    ) -> None:
        self._format = sealing
        self._static_key = static_key
        self._counter = counter or SendCounter()
        self._window = window or ReplayWindow()

    @property
    def overhead(self) -> int:
        """See `Wrapping`."""
        return self._format.overhead

    @property
    def static_key(self) -> StaticKey:
        """See `Wrapping`."""
        return self._static_key

    def overhead_of(self, *, key_id: int, message_id: int) -> int:
        """See `Wrapping`."""
        return self.overhead

    def wrap(self, packet: ControlPacket, now: float) -> bytes:
        """See `Wrapping`."""
        return self._format.seal(packet, self._counter.next(now))

    def unwrap(self, data: bytes, now: float) -> ControlPacket:
        """See `Wrapping`."""
        opened = self._format.open(data)
        self.accept(opened.stamp, now)
        return opened.packet()

    def accept(self, stamp: Stamp | None, now: float) -> None:
        """Take the stamp of a packet that was opened elsewhere; raises `ReplayedPacket`."""
        if stamp is not None:
            self._window.accept(stamp, now)


def header_without_client_key(data: bytes) -> Header:
    """The header, for protections without client keys: their peers do not send those opcodes."""
    header = decode_header(data)
    if header.opcode.has_client_key:
        raise refused(Refusal.UNEXPECTED_OPCODE, header.opcode.name)
    return header
