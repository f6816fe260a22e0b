"""Control packets as they are without protection: first byte, session id, and the body.

    first byte (1) | session id (8) | count (1) | acked ids (4 each) | remote session id (8, if any
    id is acked) | message id (4, except in an acknowledgement) | payload

Protections put their part between the first nine bytes, the header, and the rest, the body; so the
two are encoded apart. All numbers are big endian."""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from struct import Struct
from typing import NamedTuple, TypeAlias

from ovpn_dco.errors import InvalidArgument

from .errors import Refusal, refused

__all__ = [
    "HEADER_SIZE",
    "MAX_ACKS",
    "MAX_CONTROL_PACKET",
    "SESSION_ID_SIZE",
    "ControlPacket",
    "Header",
    "Opcode",
    "RandomBytes",
    "decode_body",
    "decode_header",
    "draw_session_id",
    "encode_body",
    "encode_header",
    "first_byte",
    "split_first_byte",
]

SESSION_ID_SIZE = 8
HEADER_SIZE = 1 + SESSION_ID_SIZE
MAX_ACKS = 8
MAX_KEY_ID = 7
KEY_ID_MASK = 7
"""Of the first byte."""
# A TLS buffer of the reference implementation (2048), a wrapped client key (1024), and all that
# any protection and the body add to them (SHA512 tls-auth with eight acks: 126).
MAX_CONTROL_PACKET = 2048 + 1024 + 128

RandomBytes: TypeAlias = Callable[[int], bytes]
"""`random_bytes(n)`: n bytes that nobody can predict, such as `os.urandom`."""

_NO_SESSION = bytes(SESSION_ID_SIZE)
_LAST_ID = 0xFFFFFFFF
# So many acknowledged ids, one behind the other.
_IDS = tuple(Struct(f">{count}I") for count in range(MAX_ACKS + 1))


class Opcode(enum.IntEnum):
    """The upper five bits of the first byte."""

    HARD_RESET_CLIENT_V1 = 1
    HARD_RESET_SERVER_V1 = 2
    SOFT_RESET_V1 = 3
    CONTROL_V1 = 4
    ACK_V1 = 5
    DATA_V1 = 6
    HARD_RESET_CLIENT_V2 = 7
    HARD_RESET_SERVER_V2 = 8
    DATA_V2 = 9
    HARD_RESET_CLIENT_V3 = 10
    CONTROL_WKC_V1 = 11

    @cached_property
    def is_obsolete(self) -> bool:
        """Of key method 1, which nobody speaks any more."""
        return self <= Opcode.HARD_RESET_SERVER_V1

    @cached_property
    def is_data(self) -> bool:
        """Belongs to the data channel."""
        return self in (Opcode.DATA_V1, Opcode.DATA_V2)

    @cached_property
    def is_control(self) -> bool:
        """Belongs to the control channel, so it is wrapped."""
        return not self.is_data and not self.is_obsolete

    @cached_property
    def is_hard_reset(self) -> bool:
        """Opens a session, from either side."""
        return self.is_client_reset or self is Opcode.HARD_RESET_SERVER_V2

    @cached_property
    def is_client_reset(self) -> bool:
        """The first packet that a client sends."""
        return self in (Opcode.HARD_RESET_CLIENT_V2, Opcode.HARD_RESET_CLIENT_V3)

    @cached_property
    def has_message_id(self) -> bool:
        """All control packets are messages, except the one that only acknowledges."""
        return self.is_control and self is not Opcode.ACK_V1

    @cached_property
    def has_client_key(self) -> bool:
        """A wrapped client key of tls-crypt-v2 follows the packet."""
        return self in (Opcode.HARD_RESET_CLIENT_V3, Opcode.CONTROL_WKC_V1)

    @cached_property
    def needs_key_id_zero(self) -> bool:
        """Comes before any renegotiation."""
        return self.is_hard_reset or self is Opcode.CONTROL_WKC_V1


_OPCODES = {int(opcode): opcode for opcode in Opcode}


def first_byte(opcode: Opcode, key_id: int) -> int:
    """Opcode in the upper five bits, key id (0..7) in the lower three."""
    if not 0 <= key_id <= MAX_KEY_ID:
        raise InvalidArgument(errno.EINVAL, f"key id {key_id} is not 0..7", attribute="key_id")
    return opcode << 3 | key_id


def split_first_byte(byte: int) -> tuple[Opcode, int]:
    """(opcode, key id); raises `MalformedPacket` where no such opcode exists."""
    opcode = _OPCODES.get(byte >> 3)
    if opcode is None:
        raise refused(Refusal.UNKNOWN_OPCODE, str(byte >> 3))
    return opcode, byte & MAX_KEY_ID


class Header(NamedTuple):
    """The first nine bytes, which every protection leaves readable."""

    opcode: Opcode
    key_id: int
    session_id: bytes


@dataclass(frozen=True)
class ControlPacket:
    """One control packet without its protection; `InvalidArgument` if there is no such packet.

    `session_id` is the sender's, `remote_session_id` the receiver's: it is there exactly if `acks`
    are. `message_id` is None exactly for ACK_V1. A wrapped client key is no part of `payload`."""

    opcode: Opcode
    key_id: int
    session_id: bytes
    acks: tuple[int, ...] = ()
    remote_session_id: bytes | None = None
    message_id: int | None = None
    payload: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        fault = self._fault()
        if fault is not None:
            attribute, message = fault
            raise InvalidArgument(errno.EINVAL, message, attribute=attribute)

    def _fault(self) -> tuple[str, str] | None:
        """The first attribute that cannot be so, and why. It is asked for each packet, so texts
        are made only where they are needed."""
        acks, remote, message_id = self.acks, self.remote_session_id, self.message_id
        fault: tuple[str, str] | None = None
        if not self.opcode.is_control:
            fault = "opcode", f"{self.opcode.name} is no control packet"
        elif not 0 <= self.key_id <= MAX_KEY_ID:
            fault = "key_id", f"key id {self.key_id} is not 0..7"
        elif len(self.session_id) != SESSION_ID_SIZE or self.session_id == _NO_SESSION:
            fault = "session_id", "a session id is 8 bytes, not all zero"
        elif len(acks) > MAX_ACKS:
            fault = "acks", f"{len(acks)} acks are more than 8"
        elif bool(acks) != (remote is not None):
            fault = "remote_session_id", "the remote session id goes with acks"
        elif remote is not None and len(remote) != SESSION_ID_SIZE:
            fault = "remote_session_id", "a session id is 8 bytes"
        elif self.opcode.has_message_id != (message_id is not None):
            fault = "message_id", "all but ACK_V1 have a message id"
        elif not (0 <= (message_id or 0) <= _LAST_ID and (not acks or _fit(acks))):
            fault = "message_id", "ids have 32 bits"
        elif self.opcode is Opcode.ACK_V1 and self.payload:
            fault = "payload", "an acknowledgement has no payload"
        return fault


def _fit(ids: tuple[int, ...]) -> bool:
    return min(ids) >= 0 and max(ids) <= _LAST_ID


def draw_session_id(random_bytes: RandomBytes) -> bytes:
    """A new session id; zeros, which are no session id, are drawn again."""
    for _ in range(8):
        session_id = random_bytes(SESSION_ID_SIZE)
        if session_id != _NO_SESSION and len(session_id) == SESSION_ID_SIZE:
            return session_id
    raise InvalidArgument(errno.EINVAL, "this is no random source", attribute="random_bytes")


def encode_header(packet: ControlPacket) -> bytes:
    """First byte and session id."""
    return bytes((first_byte(packet.opcode, packet.key_id),)) + packet.session_id


def encode_body(packet: ControlPacket) -> bytes:
    """Everything after the session id."""
    acks, message_id = packet.acks, packet.message_id
    head = bytes((len(acks),)) + _IDS[len(acks)].pack(*acks) + (packet.remote_session_id or b"")
    if message_id is not None:
        head += _IDS[1].pack(message_id)
    return head + packet.payload


def decode_header(data: bytes) -> Header:
    """The header of a control packet of any protection; `MalformedPacket` if it is none.

    Nothing of it is authentic yet."""
    if not data:
        raise refused(Refusal.EMPTY)
    opcode, key_id = split_first_byte(data[0])
    if not opcode.is_control:
        raise refused(Refusal.DATA_OPCODE if opcode.is_data else Refusal.OBSOLETE_OPCODE)
    if len(data) < HEADER_SIZE:
        raise refused(Refusal.TOO_SHORT, f"{len(data)} bytes")
    if len(data) > MAX_CONTROL_PACKET:
        raise refused(Refusal.OVERSIZED, f"{len(data)} bytes")
    session_id = bytes(data[1:HEADER_SIZE])
    if session_id == _NO_SESSION:
        raise refused(Refusal.SESSION_ID_ZERO)
    if opcode.needs_key_id_zero and key_id:
        raise refused(Refusal.KEY_ID_NOT_ZERO, f"{opcode.name} with {key_id}")
    if opcode is Opcode.SOFT_RESET_V1 and not key_id:
        raise refused(Refusal.KEY_ID_ZERO)
    return Header(opcode, key_id, session_id)


def decode_body(header: Header, body: bytes) -> ControlPacket:
    """The packet of `header` and the opened `body`; raises `MalformedPacket`."""
    opcode = header.opcode
    if not body:
        raise refused(Refusal.TOO_SHORT, "no count of acknowledgements")
    count = body[0]
    if count > MAX_ACKS:
        raise refused(Refusal.TOO_MANY_ACKS, str(count))
    offset = 1 + 4 * count
    acks: tuple[int, ...] = ()
    remote = None
    if count:
        remote = bytes(body[offset : offset + SESSION_ID_SIZE])
        offset += SESSION_ID_SIZE
        if offset > len(body):
            raise refused(Refusal.ACKS_TRUNCATED)
        acks = _IDS[count].unpack_from(body, 1)
    message_id = None
    if opcode.has_message_id:
        if offset + 4 > len(body):
            raise refused(Refusal.MESSAGE_ID_TRUNCATED)
        (message_id,) = _IDS[1].unpack_from(body, offset)
        offset += 4
    elif offset < len(body):
        raise refused(Refusal.ACK_WITH_PAYLOAD)
    if opcode.is_hard_reset and message_id:
        raise refused(Refusal.RESET_MESSAGE_ID, str(message_id))
    if opcode is Opcode.CONTROL_WKC_V1 and message_id != 1:
        raise refused(Refusal.CLIENT_KEY_MESSAGE_ID, str(message_id))
    # Every part was judged when it was read: not once more.
    packet = object.__new__(ControlPacket)
    vars(packet).update(
        opcode=opcode,
        key_id=header.key_id,
        session_id=header.session_id,
        acks=acks,
        remote_session_id=remote,
        message_id=message_id,
        payload=bytes(body[offset:]),
    )
    return packet
