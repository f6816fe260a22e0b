"""The server before it knows the client: the first byte tells which protection opens a packet.

Clients of tls-crypt-v2 use opcodes of their own, so it may be offered beside one of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import Refusal, refused
from ..replay import ReplayWindow, SendCounter, Stamp
from ..role import Role
from ..statickey import Direction, Metadata, StaticKey
from ..wire import ControlPacket, decode_header
from .base import Format, Opened, Protected, Wrapping
from .plain import Plain, PlainFormat
from .tls_auth import TlsAuthFormat
from .tls_crypt import TlsCryptFormat
from .tls_crypt_v2 import IssuedKey, TlsCryptV2Opener, TlsCryptV2Session

__all__ = ["Greeting", "ServerFront"]


@dataclass(frozen=True)
class Greeting:
    """A packet of an unknown client, opened without a trace; its replay id was not checked.

    `metadata` is there for tls-crypt-v2, and was not verified."""

    packet: ControlPacket
    stamp: Stamp | None
    metadata: Metadata | None
    _sealing: Format
    _begin: Callable[[float, ReplayWindow | None], Wrapping]

    def answer(self, packet: ControlPacket, now: float) -> bytes:
        """Seal the one answer that needs no memory: its replay id is 1, its time `now` (Unix)."""
        return self._sealing.seal(packet, SendCounter().next(now))

    def begin_session(self, now: float, *, window: ReplayWindow | None = None) -> Wrapping:
        """The wrapping of the session that begins with this packet: it has seen the packet's replay
        id, and its own go on after that of `answer`. Verifies the metadata; `ProtocolError`."""
        return self._begin(now, window)


class ServerFront:
    """Opens first packets; made by one of the class methods."""

    def __init__(
        self, base: Format | None, static_key: StaticKey | None, v2: TlsCryptV2Opener | None
    ) -> None:
        self._base = base
        self._static_key = static_key
        self._v2 = v2

    @classmethod
    def plain(cls) -> ServerFront:
        """No protection. Such a server answers anybody."""
        return cls(PlainFormat(), None, None)

    @classmethod
    def tls_auth(
        cls,
        key: StaticKey,
        *,
        direction: Direction = Direction.BIDIRECTIONAL,
        digest: str = "SHA1",
        v2: TlsCryptV2Opener | None = None,
    ) -> ServerFront:
        """tls-auth, and tls-crypt-v2 beside it if given."""
        return cls(TlsAuthFormat(key, direction=direction, digest=digest), key, v2)

    @classmethod
    def tls_crypt(cls, key: StaticKey, *, v2: TlsCryptV2Opener | None = None) -> ServerFront:
        """tls-crypt, and tls-crypt-v2 beside it if given."""
        return cls(TlsCryptFormat(key, Role.SERVER), key, v2)

    @classmethod
    def tls_crypt_v2(cls, v2: TlsCryptV2Opener) -> ServerFront:
        """tls-crypt-v2 alone: every first packet must bring a client key."""
        return cls(None, None, v2)

    def open(self, data: bytes) -> Greeting:
        """Open a packet of an unknown client; raises `ProtocolError`. It changes nothing."""
        header = decode_header(data)
        if header.opcode.has_client_key:
            if self._v2 is None:
                raise refused(Refusal.NO_WRAPPING, header.opcode.name)
            return self._greet_v2(self._v2, self._v2.open(data))
        if self._base is None:
            raise refused(Refusal.NO_WRAPPING, header.opcode.name)
        return self._greet(self._base, self._base.open(data))

    def _greet(self, base: Format, opened: Opened) -> Greeting:
        def begin(now: float, window: ReplayWindow | None) -> Wrapping:
            key = self._static_key
            if key is None:
                return Plain()
            session = Protected(base, key, counter=SendCounter(last=1), window=window)
            session.accept(opened.stamp, now)
            return session

        return Greeting(opened.packet(), opened.stamp, None, base, begin)

    def _greet_v2(self, v2: TlsCryptV2Opener, issued: IssuedKey) -> Greeting:
        def begin(now: float, window: ReplayWindow | None) -> Wrapping:
            v2.check(issued.metadata, now)
            session = TlsCryptV2Session(
                issued.sealing,
                issued.key,
                issued.wrapped_key,
                counter=SendCounter(last=1),
                window=window,
            )
            session.accept(issued.opened.stamp, now)
            return session

        opened = issued.opened
        return Greeting(opened.packet(), opened.stamp, issued.metadata, issued.sealing, begin)
