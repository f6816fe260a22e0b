"""What the driver refuses, in the order in which it looks: one table per command.

A rule is (condition, errno, attribute, message); the first that holds is raised. The attributes
are those of the netlink interface (Linux `drivers/net/ovpn/netlink.c` and its policies), so that
both engines give the same answer to the same mistake."""

from __future__ import annotations

import errno
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from ..errors import DcoError, error_for
from ..model import Cipher, DataKey, EpochKey, KeyDirection, KeySlot, Mode

PEER_ID_MAX = 0xFFFFFF
WORKERS_MAX = 16
PEER_ID_UNDEFINED = 0xFFFFFF
KEY_ID_MAX = 7
NONCE_TAIL_SIZE = 8
MTU_MIN, MTU_MAX = 68, 65451
U32_MAX = 0xFFFFFFFF
PACKET_ID_MAX = 0xFFFFFFFF
EPOCH_SECRET_SIZE = 32
EPOCH_MAX = 0xFFFF
EPOCH_PACKET_ID_MAX = (1 << 48) - 1
FUTURE_EPOCHS_MAX = 16  # DCO_EPOCH_FUTURES_MAX: each costs a cipher context

A = TypeVar("A")


@dataclass(frozen=True)
class Rule(Generic[A]):
    """Refuses with `errno` when `condition` holds; `message` follows the attribute's name."""

    condition: Callable[[A], bool]
    errno: int
    attribute: str
    message: str


def refuse(number: int, attribute: str, message: str) -> DcoError:
    """The exception for a refused attribute."""
    return error_for(number, f"{attribute} {message}", attribute=attribute)


def check(rules: Iterable[Rule[A]], subject: A) -> None:
    """Raises for the first rule that holds."""
    for rule in rules:
        if rule.condition(subject):
            raise refuse(rule.errno, rule.attribute, rule.message)


# Peers


class RawAddress(NamedTuple):
    """4 or 16 bytes in network order, port in host order, IPv6 scope id."""

    ip: bytes
    port: int = 0
    scope: int = 0


@dataclass(frozen=True)
class PeerAttributes:
    """The PEER nest of PEER_NEW and PEER_SET; None: absent. Addresses are packed."""

    mode: Mode
    new: bool
    peer_id: int | None = None
    tx_id: int | None = None
    transport: str | None = None
    remote_ipv4: bytes | None = None
    remote_ipv6: bytes | None = None
    remote_scope_id: int | None = None
    remote_port: int | None = None
    local_ipv4: bytes | None = None
    local_ipv6: bytes | None = None
    vpn_ipv4: bytes | None = None
    vpn_ipv6: bytes | None = None
    keepalive_interval_s: int | None = None
    keepalive_timeout_s: int | None = None

    @property
    def has_remote(self) -> bool:
        """Whether a remote address is given, of whatever family."""
        return self.remote_ipv4 is not None or self.remote_ipv6 is not None

    @property
    def remote(self) -> RawAddress | None:
        """The remote endpoint, IPv4-mapped addresses folded."""
        ip = self.remote_ipv4 or fold(self.remote_ipv6)
        if ip is None:
            return None
        scope = (self.remote_scope_id or 0) if len(ip) == 16 else 0
        return RawAddress(ip, self.remote_port or 0, scope)

    @property
    def local(self) -> RawAddress | None:
        """The preferred local address, IPv4-mapped addresses folded."""
        ip = self.local_ipv4 or fold(self.local_ipv6)
        return None if ip is None else RawAddress(ip)

    @property
    def keepalive(self) -> tuple[int, int] | None:
        """(interval, timeout) in seconds."""
        if self.keepalive_interval_s is None or self.keepalive_timeout_s is None:
            return None
        return self.keepalive_interval_s, self.keepalive_timeout_s


_MAPPED = bytes(10) + b"\xff\xff"


def fold(ip: bytes | None) -> bytes | None:
    """IPv4-mapped IPv6 as the IPv4 address that it is."""
    return ip[12:] if ip is not None and ip.startswith(_MAPPED) else ip


def _out_of_range(name: str, low: int, high: int) -> Callable[[Any], bool]:
    def condition(subject: Any) -> bool:
        value = getattr(subject, name)
        return value is not None and not low <= value <= high

    return condition


def _families_differ(peer: PeerAttributes) -> bool:
    remote, local = peer.remote, peer.local
    return remote is not None and local is not None and len(remote.ip) != len(local.ip)


def _is_set(ip: bytes | None) -> bool:
    return ip is not None and any(ip)


def _bad_vpn_ipv4(peer: PeerAttributes) -> bool:
    if not _is_set(peer.vpn_ipv4):
        return False
    address = ipaddress.IPv4Address(peer.vpn_ipv4)
    limited_broadcast = int(address) == 0xFFFFFFFF
    return address.is_loopback or address.is_multicast or limited_broadcast


def _bad_vpn_ipv6(peer: PeerAttributes) -> bool:
    ip = peer.vpn_ipv6
    if ip is None or not any(ip):
        return False
    # The first 96 bits zero is ::1 and the v4-compatible addresses.
    return ip[0] == 0xFF or ip.startswith((bytes(12), _MAPPED))


PEER_POLICY: tuple[Rule[PeerAttributes], ...] = (
    Rule(
        _out_of_range("peer_id", 0, PEER_ID_MAX), errno.ERANGE, "peer_id", "must be 0 to 0xFFFFFF"
    ),
    Rule(_out_of_range("tx_id", 0, PEER_ID_MAX), errno.ERANGE, "tx_id", "must be 0 to 0xFFFFFF"),
    Rule(
        _out_of_range("remote_port", 1, 65535), errno.ERANGE, "remote", "needs a port, 1 to 65535"
    ),
    Rule(
        _out_of_range("remote_scope_id", 0, U32_MAX),
        errno.ERANGE,
        "remote",
        "has a scope id that is no 32-bit number",
    ),
    Rule(
        _out_of_range("keepalive_interval_s", 0, U32_MAX),
        errno.ERANGE,
        "keepalive_interval_s",
        "must be 0 (off) to 4294967295 seconds",
    ),
    Rule(
        _out_of_range("keepalive_timeout_s", 0, U32_MAX),
        errno.ERANGE,
        "keepalive_timeout_s",
        "must be 0 (off) to 4294967295 seconds",
    ),
)

PEER_PRECHECK: tuple[Rule[PeerAttributes], ...] = (
    Rule(lambda p: p.peer_id is None, errno.EINVAL, "peer_id", "is missing"),
    Rule(
        lambda p: p.remote_ipv4 is not None and p.remote_ipv6 is not None,
        errno.EINVAL,
        "remote",
        "cannot be IPv4 and IPv6 at once",
    ),
    Rule(
        lambda p: p.remote_port is not None and not p.has_remote,
        errno.EINVAL,
        "remote",
        "has a port without an address",
    ),
    Rule(
        lambda p: p.has_remote and p.remote_port is None,
        errno.EINVAL,
        "remote",
        "has an address without a port",
    ),
    Rule(
        lambda p: p.local_ipv4 is not None and p.remote_ipv4 is None,
        errno.EINVAL,
        "local",
        "is IPv4 and needs an IPv4 remote beside it",
    ),
    Rule(
        lambda p: p.local_ipv6 is not None and p.remote_ipv6 is None,
        errno.EINVAL,
        "local",
        "is IPv6 and needs an IPv6 remote beside it",
    ),
    Rule(_families_differ, errno.EINVAL, "local", "and remote are of different families"),
    Rule(
        lambda p: p.remote_scope_id is not None and p.remote_ipv6 is None,
        errno.EINVAL,
        "remote",
        "has a scope id, which only IPv6 has",
    ),
    Rule(
        lambda p: p.mode is Mode.P2P and p.vpn_ipv4 is not None,
        errno.EINVAL,
        "vpn_ipv4",
        "makes no sense in P2P mode: the one peer owns every address",
    ),
    Rule(
        lambda p: p.mode is Mode.P2P and p.vpn_ipv6 is not None,
        errno.EINVAL,
        "vpn_ipv6",
        "makes no sense in P2P mode: the one peer owns every address",
    ),
    Rule(
        lambda p: p.keepalive_interval_s is not None and p.keepalive_timeout_s is None,
        errno.EINVAL,
        "keepalive_timeout_s",
        "is missing: interval and timeout come as a pair (0 switches one off)",
    ),
    Rule(
        lambda p: p.keepalive_timeout_s is not None and p.keepalive_interval_s is None,
        errno.EINVAL,
        "keepalive_interval_s",
        "is missing: interval and timeout come as a pair (0 switches one off)",
    ),
    # All ones means "undefined" on the wire: such a packet is looked up by its address.
    Rule(
        lambda p: p.mode is Mode.MULTIPEER and p.peer_id == PEER_ID_UNDEFINED,
        errno.EINVAL,
        "peer_id",
        "0xFFFFFF is reserved in MULTIPEER mode",
    ),
)

PEER_VPN_ADDRESSES: tuple[Rule[PeerAttributes], ...] = (
    Rule(
        _bad_vpn_ipv4,
        errno.EINVAL,
        "vpn_ipv4",
        "must be a unicast address: not loopback, multicast or broadcast",
    ),
    Rule(
        _bad_vpn_ipv6,
        errno.EINVAL,
        "vpn_ipv6",
        "must be a unicast address: not loopback, multicast, IPv4-compatible or IPv4-mapped",
    ),
)

PEER_NEW: tuple[Rule[PeerAttributes], ...] = (
    *PEER_POLICY,
    *PEER_PRECHECK,
    Rule(lambda p: p.transport is None, errno.EINVAL, "transport", "is missing"),
    Rule(
        lambda p: p.mode is Mode.MULTIPEER and not _is_set(p.vpn_ipv4) and not _is_set(p.vpn_ipv6),
        errno.EINVAL,
        "vpn_ipv4",
        "or vpn_ipv6 is needed in MULTIPEER mode",
    ),
    Rule(lambda p: p.transport == "closed", errno.ENOTSOCK, "transport", "is closed"),
    Rule(
        lambda p: p.transport == "listener",
        errno.EINVAL,
        "transport",
        "listens: a peer needs one of the connections that it brings",
    ),
    Rule(
        lambda p: p.transport == "udp" and not p.has_remote,
        errno.EINVAL,
        "remote",
        "is needed for a peer on a UDP transport",
    ),
    Rule(
        lambda p: p.transport == "tcp" and (p.has_remote or p.local is not None),
        errno.EINVAL,
        "remote",
        "and local are the connection's on a TCP transport",
    ),
    *PEER_VPN_ADDRESSES,
)

PEER_SET: tuple[Rule[PeerAttributes], ...] = (
    *PEER_POLICY,
    *PEER_PRECHECK,
    Rule(
        lambda p: p.transport is not None,
        errno.EINVAL,
        "transport",
        "of a peer cannot be changed: delete the peer and add it again",
    ),
    *PEER_VPN_ADDRESSES,
)


# Keys


@dataclass(frozen=True)
class KeyAttributes:
    """The KEYCONF nest of KEY_NEW."""

    slot: int | None
    key: DataKey


def _size(data: Any) -> int | None:
    """Bytes of a contiguous buffer, or None."""
    if not isinstance(data, bytes | bytearray | memoryview):
        return None
    return memoryview(data).nbytes if memoryview(data).contiguous else None


def _key_size(direction: str) -> Callable[[KeyAttributes], int | None]:
    return lambda k: _size(getattr(k.key, direction).key)


def _direction_rules(name: str) -> tuple[Rule[KeyAttributes], ...]:
    def missing(k: KeyAttributes) -> bool:
        return not isinstance(getattr(k.key, name), KeyDirection)

    return (
        Rule(missing, errno.EINVAL, name, "is missing: a KeyDirection"),
        Rule(
            lambda k: not _size(getattr(k.key, name).key),
            errno.EINVAL,
            f"{name}.key",
            "is missing: bytes, bytearray or memoryview",
        ),
        Rule(
            lambda k: _size(getattr(k.key, name).nonce_tail) != NONCE_TAIL_SIZE,
            errno.EINVAL,
            f"{name}.nonce_tail",
            "must be 8 bytes",
        ),
    )


def _size_rule(name: str) -> Rule[KeyAttributes]:
    return Rule(
        lambda k: _size(getattr(k.key, name).key) != k.key.cipher.key_size,
        errno.EINVAL,
        f"{name}.key",
        "has not the size that the cipher needs",
    )


def _not_within(name: str, low: int, high: int) -> Callable[[Any], bool]:
    def condition(subject: Any) -> bool:
        value = getattr(subject.key, name)
        return not isinstance(value, int) or not low <= value <= high

    return condition


# What keys of both formats have in common.
_KEY_SLOT: tuple[Rule[Any], ...] = (
    Rule(lambda k: k.slot is None, errno.EINVAL, "slot", "is missing"),
    Rule(
        lambda k: k.slot not in (KeySlot.PRIMARY, KeySlot.SECONDARY),
        errno.ERANGE,
        "slot",
        "must be PRIMARY or SECONDARY",
    ),
    Rule(_not_within("key_id", 0, KEY_ID_MAX), errno.ERANGE, "key_id", "must be 0 to 7"),
    Rule(
        lambda k: not isinstance(k.key.cipher, Cipher),
        errno.EINVAL,
        "cipher",
        "must be a Cipher",
    ),
)
_KEY_CIPHER: Rule[Any] = Rule(
    lambda k: k.key.cipher is Cipher.NONE,
    errno.EINVAL,
    "cipher",
    "none would send everything in the clear",
)

KEY_NEW: tuple[Rule[KeyAttributes], ...] = (
    Rule(
        lambda k: not isinstance(k.key, DataKey),
        errno.EINVAL,
        "key",
        "must be a DataKey or an EpochKey",
    ),
    *_KEY_SLOT,
    *_direction_rules("encrypt"),
    *_direction_rules("decrypt"),
    Rule(
        _not_within("first_packet_id", 1, PACKET_ID_MAX),
        errno.ERANGE,
        "first_packet_id",
        "must be 1 to 4294967295",
    ),
    _KEY_CIPHER,
    _size_rule("encrypt"),
    _size_rule("decrypt"),
)


@dataclass(frozen=True)
class EpochKeyAttributes:
    """KEY_NEW with a key in the epoch format, which the netlink interface does not have."""

    slot: int | None
    key: EpochKey


def _secret_rule(name: str) -> Rule[EpochKeyAttributes]:
    return Rule(
        lambda k: _size(getattr(k.key, name)) != EPOCH_SECRET_SIZE,
        errno.EINVAL,
        name,
        "must be 32 bytes: bytes, bytearray or memoryview",
    )


EPOCH_KEY_NEW: tuple[Rule[EpochKeyAttributes], ...] = (
    *_KEY_SLOT,
    _secret_rule("encrypt_secret"),
    _secret_rule("decrypt_secret"),
    Rule(
        _not_within("future_epochs", 1, FUTURE_EPOCHS_MAX),
        errno.ERANGE,
        "future_epochs",
        "must be 1 to 16",
    ),
    Rule(
        _not_within("first_epoch", 1, EPOCH_MAX), errno.ERANGE, "first_epoch", "must be 1 to 65535"
    ),
    Rule(
        _not_within("first_packet_id", 1, EPOCH_PACKET_ID_MAX),
        errno.ERANGE,
        "first_packet_id",
        "must be 1 to 281474976710655",
    ),
    _KEY_CIPHER,
)


# The device


@dataclass(frozen=True)
class DeviceAttributes:
    """What `Device.open` is asked for, as far as it can be judged by itself."""

    name: str
    mode: object
    mtu: int
    max_peers: int
    workers: int | None = None
    single_thread: bool | None = None
    tun_fd: tuple[int, ...] | None = None
    persist: object = False
    owner: int | None = None


_NAME = re.compile(r"[^\s/%:]*(%d)?[^\s/%:]*")


def _bad_name(device: DeviceAttributes) -> bool:
    name = device.name
    if not isinstance(name, str) or name in ("", ".", ".."):
        return True
    return len(name.encode()) > 15 or _NAME.fullmatch(name) is None or "\0" in name


DEVICE_OPEN: tuple[Rule[DeviceAttributes], ...] = (
    Rule(
        _bad_name,
        errno.EINVAL,
        "name",
        "must be an interface name: 1 to 15 bytes, no space, slash or colon (%d: any number)",
    ),
    # Kernel: a mode outside of the policy's range.
    Rule(
        lambda d: not isinstance(d.mode, Mode),
        errno.ERANGE,
        "mode",
        "must be Mode.P2P or Mode.MULTIPEER",
    ),
    Rule(
        lambda d: not MTU_MIN <= d.mtu <= MTU_MAX,
        errno.EINVAL,
        "mtu",
        f"must be {MTU_MIN} to {MTU_MAX} bytes",
    ),
    Rule(
        lambda d: not 1 <= d.max_peers <= PEER_ID_MAX,
        errno.ERANGE,
        "max_peers",
        "must be 1 to 16777215",
    ),
    Rule(
        lambda d: d.workers is not None and not 1 <= d.workers <= WORKERS_MAX,
        errno.ERANGE,
        "workers",
        f"must be 1 to {WORKERS_MAX}",
    ),
    Rule(
        lambda d: d.single_thread is True and d.workers not in (None, 1),
        errno.EINVAL,
        "single_thread",
        "is one worker: workers must be 1",
    ),
    Rule(
        lambda d: d.tun_fd is not None and not 1 <= len(d.tun_fd) <= (d.workers or 1),
        errno.EINVAL,
        "tun_fd",
        "must be one descriptor, or as many as there are workers at most",
    ),
    Rule(
        lambda d: not isinstance(d.persist, bool),
        errno.EINVAL,
        "persist",
        "must be True or False",
    ),
    Rule(
        lambda d: bool(d.persist) and d.tun_fd is not None,
        errno.EINVAL,
        "persist",
        "is for interfaces that are opened by name: of tun_fd its owner decides",
    ),
    Rule(
        lambda d: d.owner is not None and not d.persist,
        errno.EINVAL,
        "owner",
        "is of use for a persistent interface only: give persist=True, too",
    ),
    Rule(
        _out_of_range("owner", 0, U32_MAX - 1),  # the last one means "no user" to the kernel
        errno.ERANGE,
        "owner",
        "must be a user id: 0 to 4294967294",
    ),
)
