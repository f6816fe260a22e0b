"""The options compatibility string of the key-method-2 message: `V4,dev-type tun,...`.

A relic: peers compare it and log what differs. Two items still matter, the cipher of a peer that
cannot negotiate, and `comp-lzo`, which means a framing of data packets that no AEAD peer without
compression understands."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..model import Cipher
from .text import TextRefused, check_text, decode_text

__all__ = [
    "MAX_OPTIONS",
    "Compatibility",
    "Mismatch",
    "compare",
    "describe",
    "parse_options_string",
]

MAX_OPTIONS = 512
"""Bytes, the NUL included."""

NO_DIGEST = "none"
"""What `auth` calls it if there is no digest."""

_MAX_ITEMS = 64
_ROLES = {"tls-client": "tls-server", "tls-server": "tls-client"}
_MIRRORED = {
    **_ROLES,
    "TCPv4_CLIENT": "TCPv4_SERVER",
    "TCPv4_SERVER": "TCPv4_CLIENT",
    "TCPv6_CLIENT": "TCPv6_SERVER",
    "TCPv6_SERVER": "TCPv6_CLIENT",
}
# Negotiated by other means today, or computed differently by each version.
_NOT_COMPARED = frozenset({"link-mtu", "cipher", "keysize", "auth", "tun-mtu"})
# Without any digest or tag: packet id, key id and the framing of an old CBC packet.
_OVERHEAD = 21


@dataclass(frozen=True)
class Compatibility:
    """The items of such a string by name, in their order. A name without a value has an empty one.

    An empty string gives no items, which is legal."""

    items: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        """The string as sent, without the NUL; empty without items."""
        words = (f"{name} {value}" if value else name for name, value in self.items.items())
        return ",".join(["V4", *words]) if self.items else ""

    @property
    def cipher_name(self) -> str | None:
        """The cipher of a peer that cannot negotiate; may be one that we do not have."""
        return self.items.get("cipher") or None

    @property
    def has_compression_framing(self) -> bool:
        """Whether data packets of the sender have a compression byte."""
        return "comp-lzo" in self.items


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """An item that differs from what we expect: None where it is missing.

    `fatal` ones make the data channel unusable: refuse the peer where options are pushed, with a
    message. All others are for the log."""

    item: str
    expected: str | None
    received: str | None
    fatal: bool


def describe(
    *,
    server: bool,
    transport: str = "UDPv4",
    tun_mtu: int = 1500,
    auth: str = "SHA1",
    cipher: Cipher | None = None,
    tls_auth: bool = False,
    key_direction: int | None = None,
) -> Compatibility:
    """Our string. `transport` is UDPv4 or TCPv4 (or v6); `cipher` stands in it only for peers
    that cannot negotiate; `auth` is the digest of tls-auth, or "none". TextRefused for an unknown
    digest."""
    digest_size = _digest_size(auth)
    if transport not in {"UDPv4", "UDPv6", "TCPv4", "TCPv6"}:
        raise TextRefused("transport", "must be UDPv4, UDPv6, TCPv4 or TCPv6")
    if transport.startswith("TCP"):
        transport += "_SERVER" if server else "_CLIENT"
    items = {
        "dev-type": "tun",
        "link-mtu": str(tun_mtu + _OVERHEAD + digest_size),
        "tun-mtu": str(tun_mtu),
        "proto": transport,
    }
    if key_direction is not None:
        items["keydir"] = str(key_direction)
    if cipher is not None:
        items["cipher"] = cipher.value
    shown_auth = "[null-digest]" if auth == NO_DIGEST else auth
    items |= {"auth": shown_auth, "keysize": str(cipher.key_size * 8 if cipher else 128)}
    if tls_auth:
        items["tls-auth"] = ""
    items |= {"key-method": "2", "tls-server" if server else "tls-client": ""}
    compatibility = Compatibility(MappingProxyType(items))
    check_text(str(compatibility), "options string", max_bytes=MAX_OPTIONS - 1)
    return compatibility


def _digest_size(auth: str) -> int:
    if auth == NO_DIGEST:
        return 0
    try:
        return hashlib.new(auth).digest_size
    except ValueError:
        raise TextRefused("auth", "is no digest") from None


def parse_options_string(data: bytes) -> Compatibility:
    """The string of a peer. TextRefused if it is over-long or not printable: a peer that sends
    such a thing is no OpenVPN. Another version than V4 has no items for us."""
    text = decode_text(data, "options string", max_bytes=MAX_OPTIONS - 1)
    version, *words = text.split(",")
    if version != "V4":
        return Compatibility()
    items: dict[str, str] = {}
    for word in words[:_MAX_ITEMS]:
        name, _, value = word.partition(" ")
        if name:
            items.setdefault(name, value)
    return Compatibility(MappingProxyType(items))


def _mirrored(ours: Compatibility) -> dict[str, str]:
    """What the other side should say: roles and key directions the other way round."""
    expected = {}
    for name, value in ours.items.items():
        if name == "keydir":
            value = str(1 - int(value))
        expected[_MIRRORED.get(name, name)] = _MIRRORED.get(value, value)
    return expected


def compare(ours: Compatibility, theirs: Compatibility) -> tuple[Mismatch, ...]:
    """What differs between the two sides. Nothing, if the peer sent no string at all.

    Address families are not compared: a server on a dual-stack socket says UDPv6 to both."""
    if not theirs.items:
        return ()
    expected = _mirrored(ours)
    names = dict.fromkeys([*expected, *theirs.items])
    differing = []
    for name in names:
        wanted, got = expected.get(name), theirs.items.get(name)
        if name in _NOT_COMPARED or _family_blind(wanted) == _family_blind(got):
            continue
        fatal = name == "comp-lzo" and got is not None
        differing.append(Mismatch(item=name, expected=wanted, received=got, fatal=fatal))
    return tuple(differing)


def _family_blind(value: str | None) -> str | None:
    return value and value.replace("v6", "v4")
