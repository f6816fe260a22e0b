"""tls-crypt-v2: tls-crypt with a key for each client, which the server learns from the client.

The client appends its wrapped key to its first packet, and once more to message 1 of key id 0 if
the server asked for it. The wrapped key is no part of the sealed packet: it is cut off first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..early_negotiation import COOKIE_CAPABLE, ResetFlag, decode_reset_flags
from ..errors import Refusal, refused
from ..replay import ReplayWindow, SendCounter
from ..role import Role
from ..statickey import ClientKey, Metadata, ServerKey, StaticKey, split_client_key
from ..wire import ControlPacket, Opcode, decode_header
from .base import Opened, Protected
from .tls_crypt import TlsCryptFormat

__all__ = ["IssuedKey", "TlsCryptV2Client", "TlsCryptV2Opener", "TlsCryptV2Session"]


class TlsCryptV2Client(Protected):
    """The client's end of one session."""

    def __init__(self, client_key: ClientKey, *, window: ReplayWindow | None = None) -> None:
        super().__init__(
            TlsCryptFormat(client_key.key, Role.CLIENT),
            client_key.key,
            counter=SendCounter(last=COOKIE_CAPABLE),
            window=window,
        )
        self._wrapped_key = client_key.wrapped
        self._resends = False

    @property
    def resends_client_key(self) -> bool:
        """Whether message 1 of key id 0 carries the client key.

        If so, an acknowledgement that cannot wait for the ClientHello must be that message, with no
        payload, instead of an ACK_V1: the server can open nothing else yet."""
        return self._resends

    def learn_from_reset(self, packet: ControlPacket) -> None:
        """Read the flags of the server's reset, after its echoed session id was found right.

        Raises `MalformedPacket`, which ends the session."""
        if packet.opcode is not Opcode.HARD_RESET_SERVER_V2:
            raise refused(Refusal.UNEXPECTED_OPCODE, packet.opcode.name)
        self._resends = ResetFlag.RESEND_WKC in decode_reset_flags(packet.payload)

    def overhead_of(self, *, key_id: int, message_id: int) -> int:
        """See `Wrapping`."""
        carries = key_id == 0 and (message_id == 0 or (message_id == 1 and self._resends))
        return self.overhead + len(self._wrapped_key) * carries

    def wrap(self, packet: ControlPacket, now: float) -> bytes:
        """See `Wrapping`. Turns CONTROL_V1 into CONTROL_WKC_V1 where the server asked for it, in
        every transmission of message 1 of key id 0, and in no other."""
        is_first = packet.key_id == 0 and packet.message_id == 1
        if self._resends and is_first and packet.opcode is Opcode.CONTROL_V1:
            packet = replace(packet, opcode=Opcode.CONTROL_WKC_V1)
        sealed = super().wrap(packet, now)
        return sealed + self._wrapped_key if packet.opcode.has_client_key else sealed


class TlsCryptV2Session(Protected):
    """The server's end of one session, whose client key was opened once and is never again."""

    def __init__(
        self,
        sealing: TlsCryptFormat,
        key: StaticKey,
        wrapped_key: bytes,
        *,
        counter: SendCounter | None = None,
        window: ReplayWindow | None = None,
    ) -> None:
        super().__init__(sealing, key, counter=counter, window=window)
        self._sealing = sealing
        self._wrapped_key = wrapped_key

    def unwrap(self, data: bytes, now: float) -> ControlPacket:
        """See `Wrapping`. A repeated client key is cut off unopened; another one is refused."""
        header = decode_header(data)
        if header.opcode.has_client_key:
            data, wrapped_key = split_client_key(data)
            if wrapped_key != self._wrapped_key:
                raise refused(Refusal.CLIENT_KEY_CHANGED)
        opened = self._sealing.open_after(header, data)
        self.accept(opened.stamp, now)
        return opened.packet()


class IssuedKey(NamedTuple):
    """A first packet, and the client key with which it was opened. Nothing is kept of it."""

    opened: Opened
    sealing: TlsCryptFormat
    key: StaticKey
    wrapped_key: bytes
    metadata: Metadata


@dataclass(frozen=True)
class TlsCryptV2Opener:
    """The server's end before there is a session.

    `verify` is asked about the metadata when a session begins, and never before the client has
    shown that it receives at its address; it answers True to let it in, and an exception from it is
    a no. `max_age_s` refuses keys issued longer ago (seconds), and those that do not tell."""

    server_key: ServerKey
    verify: Callable[[Metadata], bool] | None = None
    max_age_s: float | None = None

    def open(self, data: bytes) -> IssuedKey:
        """Open a first packet; raises `ProtocolError`. Not twice for one session."""
        header = decode_header(data)
        if not header.opcode.has_client_key:
            raise refused(Refusal.UNEXPECTED_OPCODE, header.opcode.name)
        packet, wrapped_key = split_client_key(data)
        key, metadata = self.server_key.unwrap(wrapped_key)
        sealing = TlsCryptFormat(key, Role.SERVER)
        opened = sealing.open_after(header, packet)
        return IssuedKey(opened, sealing, key, wrapped_key, metadata)

    def check(self, metadata: Metadata, now: float) -> None:
        """Let the metadata decide at Unix time `now`; raises `ClientRefused`."""
        if self.max_age_s is not None:
            issued_at = metadata.issued_at
            if issued_at is None or now - issued_at > self.max_age_s:
                raise refused(Refusal.CLIENT_KEY_TOO_OLD)
        if self.verify is None:
            return
        try:
            accepted = self.verify(metadata)
        except Exception as error:
            raise refused(Refusal.CLIENT_KEY_REFUSED, "the verification failed") from error
        if accepted is not True:
            raise refused(Refusal.CLIENT_KEY_REFUSED)
