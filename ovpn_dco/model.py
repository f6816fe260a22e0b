"""Values that all layers share: enumerations and frozen dataclasses, no behaviour.

Modes, slots, cipher numbers and delete reasons are those of the uapi header `linux/ovpn.h`.
Sizes are bytes. Addresses are as in the `socket` module: `(host, port)` for IPv4,
`(host, port, flowinfo, scope_id)` for IPv6; IPv4-mapped IPv6 never appears."""

from __future__ import annotations

import enum
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

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


class Topology(enum.Enum):
    """What the second address of `ifconfig` is: a mask for SUBNET, else the peer's address. A
    server has SUBNET only."""

    SUBNET = "subnet"
    NET30 = "net30"
    P2P = "p2p"


class FilterAction(enum.Enum):
    """What `pull-filter` does with a pushed option that begins with its text."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"


class TlsVersion(enum.Enum):
    """Versions of TLS that are spoken; older ones are not."""

    V1_2 = "1.2"
    V1_3 = "1.3"


class ClientCert(enum.Enum):
    """What a server asks of clients, as `verify-client-cert` does. With NONE, or a client that has
    none under OPTIONAL, something else must tell who the client is."""

    REQUIRE = "require"
    OPTIONAL = "optional"
    NONE = "none"


class NameType(enum.Enum):
    """What `verify-x509-name` compares: the whole subject, the common name, or its beginning."""

    SUBJECT = "subject"
    NAME = "name"
    NAME_PREFIX = "name-prefix"


class CertRole(enum.Enum):
    """What `remote-cert-tls` asks the peer's certificate to be made for."""

    SERVER = "server"
    CLIENT = "client"


class AuthRetry(enum.Enum):
    """What a client does when its password was refused."""

    NONE = "none"
    NOINTERACT = "nointeract"
    INTERACT = "interact"


class Offload(enum.Flag):
    """What the userspace engine may use; each is probed, and degrades by itself."""

    NONE = 0
    TUN_VNET = 1 << 0
    TUN_TSO = 1 << 1
    TUN_USO = 1 << 2
    TUN_TCP_GRO = 1 << 3
    TUN_UDP_GRO = 1 << 4
    UDP_GSO = 1 << 5
    UDP_GRO = 1 << 6
    UDP_BATCH = 1 << 7
    UDP_SIBLINGS = 1 << 8
    UDP_STEERING = 1 << 9
    VAES_GCM = 1 << 10
    """AES-GCM by code of our own for processors with VAES, instead of OpenSSL's. It applies to
    keys installed from then on; a key that is installed keeps what it has."""
    ALL = (1 << 11) - 1

    @property
    def names(self) -> tuple[str, ...]:
        """The single offloads of the set, as `parse` takes them."""
        return tuple(item.name.lower() for item in _SINGLE_OFFLOADS if item in self and item.name)


_SINGLE_OFFLOADS = tuple(Offload(1 << bit) for bit in range(11))


@dataclass(frozen=True)
class Offloads:
    """What is allowed, and what of it is in effect on this kernel and these descriptors."""

    allowed: Offload
    active: Offload

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {'on' if Offload[name.upper()] in self.active else 'off'}"
            + ("" if Offload[name.upper()] in self.allowed else " (disabled)")
            for name in Offload.ALL.names
        )


class Feature(enum.Enum):
    """What a caller may require of a back end."""

    UDP = "UDP transports"
    TCP = "TCP transports"
    EPOCH_KEYS = "epoch data keys"
    IROUTES = "routes to networks behind a peer"
    SOURCE_CHECK_OFF = "switching the source check off"
    PEER_MESSAGES = "messages of peers inside the data channel"


class TransportKind(enum.Enum):
    """UDP carries any number of peers, TCP one; a LISTENER brings TCP transports."""

    UDP = 1
    TCP = 2
    LISTENER = 3


class SourceCheck(enum.Enum):
    """STRICT: a peer may send only from addresses that are routed to it."""

    STRICT = "strict"
    OFF = "off"


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
    RX_EMPTY = "no inner packet"
    RX_SOURCE = "inner source address is not the peer's"
    RX_TUN_DOWN = "interface is down or gone"
    RX_TUN_BACKLOG = "reader of the packet descriptor is too slow"
    RX_TUN_WRITE = "interface refused the packet"
    RX_HANDOFF_FULL = "worker of the peer is too busy to take the datagram"
    CONTROL_FULL = "control packet with no room in the control ring"


# Keys


@dataclass(frozen=True, eq=False)
class KeyDirection:
    """Key material of one direction. Not shown by `repr`; compared in constant time.

    `nonce_tail` is the implicit part of the nonce: the last 8 of its 12 bytes. Buffers are kept as
    they are, so that `install_key(..., consume=True)` can clear a bytearray or memoryview."""

    key: Buffer = field(repr=False)
    nonce_tail: Buffer = field(repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeyDirection):
            return NotImplemented
        same_key = hmac.compare_digest(self.key, other.key)
        return hmac.compare_digest(self.nonce_tail, other.nonce_tail) and same_key

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class DataKey:
    """What `Peer.install_key` takes: a key id of three bits, the cipher, both directions.

    `first_packet_id` is where the transmit counter starts; other values than 1 are for handing a
    key over and for tests, since repeating an id under one key breaks the cipher."""

    key_id: int
    cipher: Cipher
    encrypt: KeyDirection
    decrypt: KeyDirection
    first_packet_id: int = 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DataKey):
            return NotImplemented
        same = self.encrypt == other.encrypt
        same = (self.decrypt == other.decrypt) and same
        mine = (self.key_id, self.cipher, self.first_packet_id)
        return mine == (other.key_id, other.cipher, other.first_packet_id) and same

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class EpochKey:
    """A key in the epoch format, which `Peer.install_key` takes as it takes a `DataKey`.

    From the 32 bytes of each secret follow a data key for each epoch and the secret of the next:
    the sender goes to the next epoch at the limits of its cipher, the receiver follows, and
    neither needs a new key for it. The receiver holds the keys of `future_epochs` epochs to come
    (1 to 16); packets of later ones are dropped. The secrets are not shown by `repr` and compared
    in constant time; buffers are kept as they are, for `install_key(..., consume=True)`.

    The secrets are those of epoch 1. `first_epoch` is where both directions start, and
    `first_packet_id` the first packet id of that epoch to send; other values than 1 are for handing
    a session over and for tests, since repeating an id in one epoch breaks the cipher. The way to a
    later epoch is walked step by step, some microseconds each."""

    key_id: int
    cipher: Cipher
    encrypt_secret: Buffer = field(repr=False)
    decrypt_secret: Buffer = field(repr=False)
    future_epochs: int = 4
    first_epoch: int = field(default=1, kw_only=True)
    first_packet_id: int = field(default=1, kw_only=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EpochKey):
            return NotImplemented
        same = hmac.compare_digest(self.encrypt_secret, other.encrypt_secret)
        same = hmac.compare_digest(self.decrypt_secret, other.decrypt_secret) and same
        return self._public() == other._public() and same

    def _public(self) -> tuple[object, ...]:
        start = self.first_epoch, self.first_packet_id
        return self.key_id, self.cipher, self.future_epochs, *start

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class KeyInfo:
    """An installed key, without its material.

    `usage` counts what the limit of the cipher counts: blocks plus packets for AES-GCM. With an
    `EpochKey` it is that of `send_epoch`, the epoch that seals; `receive_epoch` is the latest that
    the peer has shown. Both are None for a `DataKey`. `vaes_gcm` says that `Offload.VAES_GCM` was
    in effect when the key was installed, so that it is not OpenSSL that seals and opens."""

    key_id: int
    cipher: Cipher
    packets_sealed: int
    usage: int
    send_epoch: int | None = None
    receive_epoch: int | None = None
    vaes_gcm: bool = False


# Statistics


@dataclass(frozen=True)
class PeerStats:
    """Counters of a peer since it was added.

    link: DATA_V2 packets as on the wire without IP and UDP headers, received ones before they are
    authenticated. vpn: inner packets that were delivered or sealed; a super-packet counts as the
    packets that it becomes. The errors are those of the Linux driver's error list."""

    link_rx_bytes: int = 0
    link_rx_packets: int = 0
    link_tx_bytes: int = 0
    link_tx_packets: int = 0
    vpn_rx_bytes: int = 0
    vpn_rx_packets: int = 0
    vpn_tx_bytes: int = 0
    vpn_tx_packets: int = 0
    rx_decrypt_errors: int = 0
    rx_replay_errors: int = 0
    rx_unknown_key_id: int = 0
    rx_unsupported_protocol: int = 0
    rx_source_errors: int = 0
    tx_encrypt_errors: int = 0
    tx_iv_exhausted: int = 0
    tx_no_key: int = 0
    tx_no_transport: int = 0
    tx_gso_errors: int = 0
    keepalive_rx: int = 0
    keepalive_tx: int = 0
    float_count: int = 0
    link_errors: int = 0


@dataclass(frozen=True)
class PeerInfo:
    """A peer as it stands. Times are seconds ago, None: never."""

    peer_id: int
    generation: int
    tx_id: int
    transport_id: int
    remote: Address | None
    local: Address | None
    vpn_ipv4: str | None
    vpn_ipv6: str | None
    keepalive_interval_s: int
    keepalive_timeout_s: int
    last_received_s: float | None
    last_sent_s: float | None
    stats: PeerStats


@dataclass(frozen=True)
class DeviceStats:
    """Counters of the device: system calls and what they carried, drops by reason, batch sizes.

    `tx_batches` and `rx_batches` count batches by powers of two: 1, 2-3, 4-7, ... packets.
    `handed_to_seal` and `handed_to_open` are packets that another worker than the peer's own read.
    `retired` is how many objects wait until no thread can still see them."""

    tun_reads: int
    tun_read_packets: int
    tun_writes: int
    tun_write_packets: int
    udp_sends: int
    udp_send_messages: int
    udp_send_packets: int
    udp_receives: int
    udp_receive_messages: int
    udp_receive_packets: int
    control_packets: int
    wakeups: int
    gso_fallbacks: int
    gro_fallbacks: int
    send_retries: int
    oversize_sends: int
    handed_to_seal: int
    handed_to_open: int
    tcp_sends: int
    tcp_send_packets: int
    tcp_receives: int
    tcp_receive_packets: int
    drops: Mapping[DropReason, int]
    tx_batches: tuple[int, ...]
    rx_batches: tuple[int, ...]
    peers: int
    transports: int
    retired: int
    offloads: Offloads

    @property
    def packets_per_send(self) -> float:
        """Datagrams per `sendmmsg`; 0 before the first."""
        return self.udp_send_packets / self.udp_sends if self.udp_sends else 0.0

    @property
    def packets_per_receive(self) -> float:
        """Datagrams per `recvmmsg`; 0 before the first."""
        return self.udp_receive_packets / self.udp_receives if self.udp_receives else 0.0


class StatsTable(Mapping[str, "memoryview[int]"]):
    """Counters of all peers at one time: column name to unsigned 64-bit values, one per peer.

    The columns are `id`, `generation`, those of `PeerStats`, and `last_received_ns` and
    `last_sent_ns` of the boot-time clock (0: never). `buffer` holds them one after the other."""

    def __init__(self, columns: tuple[str, ...], peers: int, buffer: bytearray) -> None:
        self.columns = columns
        self.peers = peers
        self.buffer = buffer

    def __getitem__(self, column: str) -> memoryview[int]:
        try:
            start = self.columns.index(column) * self.peers * 8
        except ValueError:
            raise KeyError(column) from None
        return memoryview(self.buffer)[start : start + self.peers * 8].cast("Q")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


@dataclass(frozen=True)
class TransportInfo:
    """A transport as it stands: buffer sizes and offloads are those in effect.

    `sockets` is 1, or of a UDP transport of several workers one for each, bound to the same port.
    `remote` and `waiting`, bytes that the socket has not taken yet, are those of a TCP connection.
    A listener has `trials`, connections that wait for a peer, and counts those that it `accepted`,
    `refused` for want of room, and gave up when their time had `expired`."""

    kind: TransportKind
    sockets: int
    local: Address | None
    remote: Address | None
    send_buffer: int
    receive_buffer: int
    offloads: Offload
    peers: int
    receive_overflows: int
    icmp_errors: int
    waiting: int
    trials: int
    accepted: int
    refused: int
    expired: int
    failed: bool


# Control packets and events


class ControlTransport(Protocol):
    """What a control packet came through, and can be answered through."""

    @property
    def transport_id(self) -> int:
        """The engine's number for it."""

    def send_control(self, data: Buffer, remote: Any = None, local: Any = None) -> None:
        """Sends one packet."""


@dataclass(frozen=True)
class ControlPacket:
    """A packet that is not DATA_V2, or a message of a peer inside the data channel.

    `peer_id` is None for the former: nobody has authenticated it. `transport` is None if it was
    closed in the meantime. `sequence` orders packets and events by when they happened."""

    data: bytes
    transport: ControlTransport | None
    remote: Address | None
    local: Address | None
    peer_id: int | None
    sequence: int


class KeySwapReason(enum.Enum):
    """SOON: 7/8 of the packet ids or of the usage limit; of an `EpochKey` from epoch 0xF000 on, and
    where there is no next epoch to go to. EXHAUSTED: the key seals no more."""

    SOON = "soon"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened. `sequence` orders events and control packets."""

    sequence: int


@dataclass(frozen=True, kw_only=True)
class PeerEvent(Event):
    """Something happened to a peer; `generation` tells it from a later one with the same id."""

    peer_id: int
    generation: int


@dataclass(frozen=True, kw_only=True)
class PeerDeleted(PeerEvent):
    """A peer went, with its final counters."""

    reason: DeleteReason
    stats: PeerStats


@dataclass(frozen=True, kw_only=True)
class PeerFloated(PeerEvent):
    """An authenticated packet came from a new address, which is the endpoint from now on."""

    remote: Address
    local: Address | None


@dataclass(frozen=True, kw_only=True)
class PeerFloatRefused(PeerEvent):
    """A peer wanted to move onto the address of another one; it stays where it was."""

    remote: Address
    local: Address | None


@dataclass(frozen=True, kw_only=True)
class KeySwapNeeded(PeerEvent):
    """A key comes to its end."""

    key_id: int
    reason: KeySwapReason


@dataclass(frozen=True, kw_only=True)
class TransportFailed(Event):
    """A socket died; `errno` says how. `transport` is None if it was closed in the meantime."""

    transport: ControlTransport | None
    errno: int


@dataclass(frozen=True, kw_only=True)
class InterfaceGone(Event):
    """The TUN interface was deleted, or the other end of the packet descriptor closed."""

    errno: int
