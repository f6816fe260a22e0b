"""The data channel's own kinds: modes, slots, ciphers, reasons.

Modes, slots, cipher numbers and delete reasons are those of the uapi header `linux/ovpn.h`."""

from __future__ import annotations

import enum
from typing import TypeAlias

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


Buffer: TypeAlias = bytes | bytearray | memoryview


class Mode(enum.IntEnum):
    """P2P holds one peer and looks at no inner address; MULTIPEER is a server."""

    P2P = 0
    MULTIPEER = 1


class KeySlot(enum.IntEnum):
    """PRIMARY seals; both open."""

    PRIMARY = 0
    SECONDARY = 1


class DeleteReason(enum.IntEnum):
    """Why a peer went."""

    TEARDOWN = 0
    USERSPACE = 1
    EXPIRED = 2
    TRANSPORT_ERROR = 3
    TRANSPORT_DISCONNECT = 4


class Cipher(enum.Enum):
    """AEAD ciphers by their OpenVPN names; looked up without regard to case."""

    NONE = "none"
    AES_128_GCM = "AES-128-GCM"
    AES_192_GCM = "AES-192-GCM"
    AES_256_GCM = "AES-256-GCM"
    CHACHA20_POLY1305 = "CHACHA20-POLY1305"

    @property
    def number(self) -> int:
        """What the kernel interface calls it; the size of the key tells the AES ones apart."""
        return _CIPHERS[self][0]

    @property
    def key_size(self) -> int:
        """Bytes."""
        return _CIPHERS[self][1]

    @classmethod
    def _missing_(cls, value: object) -> Cipher | None:
        name = str(value).upper()
        return next((cipher for cipher in cls if cipher.value.upper() == name), None)

    @classmethod
    def find(cls, number: int, key_size: int) -> Cipher:
        """The cipher with this kernel number and key size in bytes; ValueError if there is none."""
        for cipher, known in _CIPHERS.items():
            if known == (number, key_size):
                return cipher
        raise ValueError(f"no cipher has number {number} and a key of {key_size} bytes")


_CIPHERS: dict[Cipher, tuple[int, int]] = {
    Cipher.NONE: (0, 0),
    Cipher.AES_128_GCM: (1, 16),
    Cipher.AES_192_GCM: (1, 24),
    Cipher.AES_256_GCM: (1, 32),
    Cipher.CHACHA20_POLY1305: (2, 32),
}


DEFAULT_CIPHERS = (Cipher.AES_256_GCM, Cipher.AES_128_GCM, Cipher.CHACHA20_POLY1305)
"""What `data-ciphers` is when nothing is configured, and what `DEFAULT` in it stands for."""


class TransportKind(enum.Enum):
    """UDP carries any number of peers, TCP one; a LISTENER brings TCP transports."""

    UDP = 1
    TCP = 2
    LISTENER = 3


class NumberedEnum(enum.Enum):
    """Members with a name, and the number that they have in the engine, from 0."""

    number: int

    def __new__(cls, name: str) -> NumberedEnum:
        """Numbers are in the order of definition."""
        member = object.__new__(cls)
        member._value_ = name
        member.number = len(cls.__members__)
        return member


class SourceCheck(NumberedEnum):
    """From which inner addresses a peer may send.

    STRICT: those that are routed to it. LOOSE: those that are routed to some peer of the device,
    so that a network may be reached by one peer and answer through another. OFF: any. INHERIT, of
    a peer: what the device says."""

    INHERIT = "inherit"
    OFF = "off"
    LOOSE = "loose"
    STRICT = "strict"


class ForwardingMode(NumberedEnum):
    """What becomes of packets from peer to peer.

    OFF: they go to the interface, as all others, and the host routes them or does not. ALL: the
    device itself takes them from each peer to each. PERMITTED: where that was permitted, and the
    others are dropped."""

    OFF = "off"
    ALL = "all"
    PERMITTED = "permitted"


class Ecn(enum.IntEnum):
    """What becomes of congestion marks on the way of a peer's packets: RFC 6040. Over UDP; a TCP
    connection sees to the congestion of its way itself."""

    NORMAL = 0
    """The outer header gets the ECN field of the inner one, and marks that routers put on outer
    headers are brought into the inner ones. For peers that do the latter as well."""
    COMPATIBILITY = 1
    """Outer headers have no ECN, so that routers drop instead of marking; marks that arrive are
    brought in. For peers that would lose them."""
    OFF = 2
    """Neither: for a network that spoils the field."""


class DropReason(enum.Enum):
    """Why a packet was dropped; the value is the number in the engine, `text` the meaning."""

    text: str

    def __new__(cls, text: str) -> DropReason:
        """Numbers the members from 1, in the engine's order."""
        member = object.__new__(cls)
        member._value_ = len(cls.__members__) + 1
        member.text = text
        return member

    TX_MALFORMED = "inner packet is no well-formed IPv4 or IPv6"
    TX_GSO = "super-packet whose offload header does not fit it"
    TX_NO_PEER = "no peer owns the destination address"
    TX_NO_KEY = "peer has no primary key"
    TX_GROUP_LIMIT = "more copies of multicast and broadcast than may be"
    TX_RATE_LIMIT = "peer is to get no more than its rate limit"
    TX_KEY_EXHAUSTED = "packet ids or the usage limit of the key are used up"
    TX_ENCRYPT = "cipher failed to seal"
    TX_NO_TRANSPORT = "peer has no transport, endpoint or route"
    TX_TOO_BIG = "datagram exceeds what the transport carries"
    TX_BACKLOG = "socket buffer stayed full"
    TX_SEND = "socket refused the datagram"
    TX_CONTROL = "control packet for a connection that died or has no room"
    TX_HANDOFF_FULL = "worker of the peer is too busy to take the packet"
    RX_RUNT = "datagram shorter than its header"
    RX_TRUNCATED = "datagram larger than the receive buffer"
    RX_STREAM = "TCP frame of length zero, or longer than it may be"
    RX_DATA_V1 = "DATA_V1 packet, which names no peer"
    RX_UNKNOWN_PEER = "no peer with the id or address of the packet"
    RX_UNKNOWN_KEY = "neither key slot has the key id of the packet"
    RX_EPOCH_PAST = "epoch is zero, or its key has been destroyed"
    RX_EPOCH_AHEAD = "epoch is further ahead than keys are held"
    RX_KEY_SPENT = "key has failed to authenticate too often"
    RX_DECRYPT = "authentication failed"
    RX_REPLAY = "packet id is zero, seen, or behind the window"
    RX_HELD = "data waited for a key until its connection was closed"
    RX_EMPTY = "no inner packet"
    RX_SOURCE = "inner source address is not the peer's"
    RX_FORWARD_DENIED = "peer may not reach the peer that the packet is for"
    RX_FORWARD_MALFORMED = "inner packet for a peer has bad lengths"
    RX_RATE_LIMIT = "peer has sent more than its rate limit"
    RX_ECN = "congestion marked on a packet whose flow knows no ECN"
    RX_TUN_DOWN = "interface is down or gone"
    RX_TUN_BACKLOG = "reader of the packet descriptor is too slow"
    RX_TUN_WRITE = "interface refused the packet"
    RX_HANDOFF_FULL = "worker of the peer is too busy to take the datagram"
    CONTROL_FULL = "control packet with no room in the control ring"
