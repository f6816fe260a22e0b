"""Peer info: the `NAME=value` lines of the key-method-2 message, and the feature bits in IV_PROTO.

What a peer announces is acted upon at once, so nothing may be announced that is not complete."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from ..model import Cipher
from .text import TextRefused, check_text, decode_text, number_of, shown

__all__ = [
    "MAX_PEER_INFO",
    "OUR_PROTO",
    "Announcement",
    "IvProto",
    "announce",
    "parse_peer_info",
    "proto_for",
]

MAX_PEER_INFO = 4096
"""Bytes of all lines. Stock peers read a key-method-2 message of 2 KiB as a whole; what we build
stays below, what we take leaves room for applications that announce more."""

MAX_LINES = 128
MAX_LINE = 512
DEFAULT_MTU_MAX = 1600
"""The tun-mtu-max of a stock client, which it sends as IV_MTU."""

SSO_METHODS = frozenset({"webauth", "openurl", "crtext"})

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_BUILT_MAX = 1024


class IvProto(enum.IntFlag):
    """Bits of IV_PROTO. Bit 0 is reserved; DATA_V2 goes with every other bit."""

    DATA_V2 = 1 << 1
    """Data packets with a peer id."""
    REQUEST_PUSH = 1 << 2
    """PUSH_REPLY may come without a PUSH_REQUEST."""
    TLS_KEY_EXPORT = 1 << 3
    """Data keys can come from the exporter of TLS."""
    AUTH_PENDING_KW = 1 << 4
    """`AUTH_PENDING,timeout n` is understood."""
    NCP_P2P = 1 << 5
    """Cipher negotiation between equals; never together with pull."""
    DNS_OPTION = 1 << 6
    """The first syntax of `dns`, which nobody sends any more."""
    CC_EXIT_NOTIFY = 1 << 7
    """EXIT on the control channel, and `protocol-flags`."""
    AUTH_FAIL_TEMP = 1 << 8
    """`AUTH_FAILED,TEMP` is understood."""
    DYN_TLS_CRYPT = 1 << 9
    """Renegotiations are wrapped with a key of the session."""
    DATA_EPOCH = 1 << 10
    """Data packets in the epoch format."""
    DNS_OPTION_V2 = 1 << 11
    """The current syntax of `dns`."""
    PUSH_UPDATE = 1 << 12
    """Options may change while connected."""


NO_FEATURE = IvProto(0)
"""What a peer announces that says nothing, or is a legacy one."""

OUR_PROTO = (
    IvProto.DATA_V2
    | IvProto.REQUEST_PUSH
    | IvProto.TLS_KEY_EXPORT
    | IvProto.AUTH_PENDING_KW
    | IvProto.CC_EXIT_NOTIFY
    | IvProto.AUTH_FAIL_TEMP
    | IvProto.DYN_TLS_CRYPT
    | IvProto.DNS_OPTION_V2
)
"""What a pulling client of this package can do whatever engine it has: 2974."""

# What makes sense only for a peer that pulls its options.
_PULL_ONLY = (
    IvProto.REQUEST_PUSH
    | IvProto.AUTH_PENDING_KW
    | IvProto.AUTH_FAIL_TEMP
    | IvProto.DNS_OPTION_V2
    | IvProto.PUSH_UPDATE
)


def proto_for(
    *, pull: bool, epoch: bool, push_update: bool = False, without: IvProto = NO_FEATURE
) -> IvProto:
    """IV_PROTO to announce. `epoch`: the engine has the epoch format. `without`: switched off."""
    proto = OUR_PROTO
    if push_update:
        proto |= IvProto.PUSH_UPDATE
    if epoch:
        proto |= IvProto.DATA_EPOCH
    if not pull:
        proto = (proto & ~_PULL_ONLY) | IvProto.NCP_P2P
    return (proto & ~without) | IvProto.DATA_V2


@dataclass(frozen=True)
class Announcement:
    """The peer info of one side: names to values, in the order in which they were sent.

    `refused` says which lines were left out, and why; they never end a session. Of a name that
    comes twice the first value counts, as it does with OpenVPN."""

    values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    refused: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The lines as they go into the key-method-2 message; empty without any."""
        return "".join(f"{name}={value}\n" for name, value in self.values.items())

    @property
    def version(self) -> str:
        """IV_VER, empty if not announced."""
        return self.values.get("IV_VER", "")

    @property
    def platform(self) -> str:
        """IV_PLAT, empty if not announced."""
        return self.values.get("IV_PLAT", "")

    @cached_property
    def proto(self) -> IvProto:
        """The bits that count: none if DATA_V2 is missing, since the peer is a legacy one then.

        Unknown bits are kept: later versions may define them."""
        proto = IvProto(self._number("IV_PROTO"))
        return proto if IvProto.DATA_V2 in proto else NO_FEATURE

    @property
    def ncp_version(self) -> int:
        """IV_NCP: 2 means that AES-256-GCM and AES-128-GCM are acceptable."""
        return self._number("IV_NCP")

    @property
    def cipher_names(self) -> tuple[str, ...] | None:
        """IV_CIPHERS, names of any kind; None if not announced."""
        value = self.values.get("IV_CIPHERS")
        return None if value is None else tuple(filter(None, value.split(":")))

    @property
    def mtu_max(self) -> int | None:
        """IV_MTU in bytes: the largest tun-mtu that may be pushed; None: it may not."""
        return self._number("IV_MTU") or None

    @property
    def sso_methods(self) -> frozenset[str]:
        """IV_SSO: what AUTH_PENDING may ask for, of webauth, openurl, crtext."""
        return frozenset(self.values.get("IV_SSO", "").split(",")) & SSO_METHODS

    @property
    def peer_id(self) -> int | None:
        """ID: the peer id that the sender wants to see in packets to it; None if not offered."""
        value = self.values.get("ID", "")
        return int(value, 16) if re.fullmatch(r"[0-9A-Fa-f]{1,6}", value) else None

    @property
    def environment(self) -> dict[str, str]:
        """What hooks may see: the IV_ and UV_ names, and no others."""
        shared = ("IV_", "UV_")
        return {name: value for name, value in self.values.items() if name.startswith(shared)}

    def _number(self, name: str) -> int:
        try:
            return number_of(self.values.get(name, "0"), name)
        except TextRefused:
            return 0


def parse_peer_info(data: bytes) -> Announcement:
    """The lines of a peer. TextRefused only when the whole is over-long; a line that is not
    `NAME=value`, or has control characters, is left out and listed."""
    if len(data) > MAX_PEER_INFO:
        raise TextRefused("peer info", f"is longer than {MAX_PEER_INFO} bytes")
    values: dict[str, str] = {}
    refused: list[str] = []
    lines = [line for line in bytes(data).split(b"\n") if line]
    for line in lines[:MAX_LINES]:
        try:
            name, value = _parse_line(line)
            if name in values:
                raise TextRefused(name, "is there twice")
            values[name] = value
        except TextRefused as error:
            refused.append(error.strerror or "")
    if len(lines) > MAX_LINES:
        refused.append(f"{len(lines) - MAX_LINES} lines after the first {MAX_LINES}")
    return Announcement(MappingProxyType(values), tuple(refused))


def _parse_line(line: bytes) -> tuple[str, str]:
    text = decode_text(line, "peer info line", max_bytes=MAX_LINE)
    name, equals, value = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise TextRefused("peer info line", f"is no NAME=value: {shown(text)}")
    return name, value


def announce(
    *,
    version: str,
    platform: str,
    proto: IvProto,
    ciphers: Iterable[Cipher],
    mtu_max: int | None = DEFAULT_MTU_MAX,
    sso_methods: Iterable[str] = (),
    extra: Mapping[str, str] = MappingProxyType({}),
) -> Announcement:
    """Our peer info. `mtu_max` in bytes, None: tun-mtu may not be pushed. `extra`: IV_ and UV_
    lines of the application. TextRefused for names and values with a bad form.

    No compression is ever announced."""
    names = [cipher.value for cipher in ciphers]
    values = {"IV_VER": version, "IV_PLAT": platform, "IV_TCPNL": "1"}
    if mtu_max is not None:
        values["IV_MTU"] = str(mtu_max)
    if {Cipher.AES_256_GCM.value, Cipher.AES_128_GCM.value} <= set(names):
        values["IV_NCP"] = "2"
    values["IV_CIPHERS"] = ":".join(names)
    values["IV_PROTO"] = str(int(proto))
    methods = sorted(sso_methods)
    if not SSO_METHODS.issuperset(methods):
        raise TextRefused("IV_SSO", f"must be of {', '.join(sorted(SSO_METHODS))}")
    if methods:
        values["IV_SSO"] = ",".join(methods)
    for name, value in extra.items():
        if not _NAME.fullmatch(name) or not name.startswith(("IV_", "UV_")) or name in values:
            raise TextRefused("extra", f"has a name that cannot be used: {shown(name)}")
        values[name] = value
    for name, value in values.items():
        check_text(value, name, max_bytes=MAX_LINE - len(name) - 1)
    announcement = Announcement(MappingProxyType(values))
    if len(str(announcement).encode()) > _BUILT_MAX:
        raise TextRefused("peer info", f"is longer than {_BUILT_MAX} bytes")
    return announcement
