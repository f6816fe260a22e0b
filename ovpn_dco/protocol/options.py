"""Pushed options as typed values, each with the words that it is made of.

`parse_option` reads one; what an option means together with others is the matter of `push`. DNS
has rules of its own, in `dns`."""

from __future__ import annotations

import enum
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from ovpn_dco.model import Topology

from .addresses import (
    read_ipv4,
    read_ipv4_network,
    read_ipv6,
    read_ipv6_interface,
)
from .text import (
    MAX_CREDENTIAL,
    TextRefused,
    check_text,
    decode_base64,
    encode_base64,
    join_words,
    number_of,
    shown,
)

__all__ = [
    "AuthTokenOption",
    "AuthTokenUser",
    "Echo",
    "Flag",
    "Gateway",
    "Ifconfig",
    "IfconfigIpv6",
    "Inactive",
    "Number",
    "Option",
    "ProtocolFlags",
    "Redirect",
    "Route",
    "RouteGateway",
    "RouteIpv6",
    "SetenvSafe",
    "Text",
    "Topology",
    "TopologyOption",
]


class Option(ABC):
    """One pushed option: a name, and words behind it. Its text is what `str` gives."""

    name: str

    @abstractmethod
    def words(self) -> tuple[str, ...]:
        """The words behind the name, as sent."""

    def __str__(self) -> str:
        return join_words((self.name, *self.words()))


class Gateway(enum.Enum):
    """Gateways that are known only to the client."""

    VPN = "vpn_gateway"
    NET = "net_gateway"
    REMOTE = "remote_host"


@dataclass(frozen=True)
class TopologyOption(Option):
    """topology subnet|net30|p2p."""

    name = "topology"
    topology: Topology

    def words(self) -> tuple[str, ...]:
        return (self.topology.value,)


@dataclass(frozen=True)
class Ifconfig(Option):
    """Tunnel address; `second` is a netmask or the peer's address, as the topology says."""

    name = "ifconfig"
    local: IPv4Address
    second: IPv4Address

    def words(self) -> tuple[str, ...]:
        return str(self.local), str(self.second)


@dataclass(frozen=True)
class IfconfigIpv6(Option):
    """Tunnel address with prefix, and the server's address in the tunnel."""

    name = "ifconfig-ipv6"
    local: IPv6Interface
    gateway: IPv6Address | None = None

    def words(self) -> tuple[str, ...]:
        return (str(self.local), *([str(self.gateway)] if self.gateway else []))


@dataclass(frozen=True)
class Route(Option):
    """A network that is behind the server; no gateway: `route-gateway`."""

    name = "route"
    network: IPv4Network
    gateway: IPv4Address | Gateway | None = None
    metric: int | None = None

    def words(self) -> tuple[str, ...]:
        gateway = self.gateway.value if isinstance(self.gateway, Gateway) else self.gateway
        words = [str(self.network.network_address), str(self.network.netmask)]
        if gateway is not None or self.metric is not None:
            words.append(str(gateway or "default"))
        return (*words, *([] if self.metric is None else [str(self.metric)]))


@dataclass(frozen=True)
class RouteIpv6(Option):
    """The same for IPv6."""

    name = "route-ipv6"
    network: IPv6Network
    gateway: IPv6Address | None = None
    metric: int | None = None

    def words(self) -> tuple[str, ...]:
        words = [str(self.network)]
        if self.gateway is not None or self.metric is not None:
            words.append(str(self.gateway or "default"))
        return (*words, *([] if self.metric is None else [str(self.metric)]))


@dataclass(frozen=True)
class RouteGateway(Option):
    """Gateway of the routes that name none."""

    name = "route-gateway"
    address: IPv4Address

    def words(self) -> tuple[str, ...]:
        return (str(self.address),)


@dataclass(frozen=True)
class Redirect(Option):
    """redirect-gateway or redirect-private, with flags such as def1, ipv6, !ipv4."""

    name: str
    flags: tuple[str, ...] = ()

    def words(self) -> tuple[str, ...]:
        return self.flags


@dataclass(frozen=True)
class Number(Option):
    """An option of one number: seconds of ping and timeouts, peer-id, bytes of tun-mtu."""

    name: str
    value: int

    def words(self) -> tuple[str, ...]:
        return (str(self.value),)


@dataclass(frozen=True)
class Inactive(Option):
    """Leave when fewer than `least_bytes` crossed the tunnel in `timeout_s` seconds."""

    name = "inactive"
    timeout_s: int
    least_bytes: int = 0

    def words(self) -> tuple[str, ...]:
        return (str(self.timeout_s), *([str(self.least_bytes)] if self.least_bytes else []))


@dataclass(frozen=True)
class Flag(Option):
    """An option without arguments: block-ipv6, block-outside-dns, ping-timer-rem."""

    name: str

    def words(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True)
class Text(Option):
    """cipher and key-derivation: a name, to be judged by `ncp`."""

    name: str
    value: str

    def words(self) -> tuple[str, ...]:
        return (self.value,)


@dataclass(frozen=True)
class ProtocolFlags(Option):
    """protocol-flags: names, to be judged by `ncp`."""

    name = "protocol-flags"
    flags: tuple[str, ...]

    def words(self) -> tuple[str, ...]:
        return self.flags


@dataclass(frozen=True)
class AuthTokenOption(Option):
    """A token that takes the place of the password. A secret."""

    name = "auth-token"
    token: str = field(repr=False)

    def words(self) -> tuple[str, ...]:
        return (self.token,)


@dataclass(frozen=True)
class AuthTokenUser(Option):
    """The username that goes with the token."""

    name = "auth-token-user"
    username: str

    def words(self) -> tuple[str, ...]:
        return (encode_base64(self.username),)


@dataclass(frozen=True)
class SetenvSafe(Option):
    """A variable for hooks, which see it as OPENVPN_NAME: it cannot touch PATH and its like."""

    name = "setenv-safe"
    variable: str
    value: str

    def words(self) -> tuple[str, ...]:
        return (self.variable, *([self.value] if self.value else []))


@dataclass(frozen=True)
class Echo(Option):
    """Words for the user interface."""

    name = "echo"
    values: tuple[str, ...]

    def words(self) -> tuple[str, ...]:
        return self.values


# Words to values. Each reader gets the words behind the name; their number was checked.

_REDIRECT_FLAGS = frozenset(
    "local autolocal def1 bypass-dhcp bypass-dns block-local ipv6 !ipv4".split()
)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MAX_METRIC = 0xFFFF
_DAYS = 86400

_NUMBERS = {
    "ping": (0, _DAYS),
    "ping-restart": (0, _DAYS),
    "ping-exit": (0, _DAYS),
    "peer-id": (0, 0xFFFFFE),  # all ones means "none"
    "tun-mtu": (100, 65535),
    "session-timeout": (0, 0x7FFFFFFF),
    "route-metric": (0, _MAX_METRIC),
}


def _topology(words: tuple[str, ...]) -> Option:
    try:
        return TopologyOption(Topology(words[0]))
    except ValueError:
        raise TextRefused("topology", f"is unknown: {shown(words[0])}") from None


def _ifconfig(words: tuple[str, ...]) -> Option:
    return Ifconfig(read_ipv4(words[0], "ifconfig"), read_ipv4(words[1], "ifconfig"))


def _ifconfig_ipv6(words: tuple[str, ...]) -> Option:
    gateway = read_ipv6(words[1], "ifconfig-ipv6") if words[1:] else None
    return IfconfigIpv6(read_ipv6_interface(words[0], "ifconfig-ipv6"), gateway)


def _metric(words: tuple[str, ...], what: str) -> int | None:
    return number_of(words[0], what, high=_MAX_METRIC) if words else None


def _route(words: tuple[str, ...]) -> Option:
    mask = words[1] if words[1:] and words[1] != "default" else "255.255.255.255"
    gateway: IPv4Address | Gateway | None = None
    if words[2:] and words[2] != "default":
        known = {keyword.value: keyword for keyword in Gateway}
        gateway = known.get(words[2]) or read_ipv4(words[2], "route")
    return Route(read_ipv4_network(words[0], mask, "route"), gateway, _metric(words[3:], "route"))


def _route_ipv6(words: tuple[str, ...]) -> Option:
    network = read_ipv6_interface(words[0], "route-ipv6").network
    gateway = None
    if words[1:] and words[1] != "default":
        gateway = read_ipv6(words[1], "route-ipv6")
    return RouteIpv6(network, gateway, _metric(words[2:], "route-ipv6"))


def _redirect(name: str) -> Callable[[tuple[str, ...]], Option]:
    def read(words: tuple[str, ...]) -> Option:
        unknown = [word for word in words if word not in _REDIRECT_FLAGS]
        if unknown:
            raise TextRefused(name, f"has an unknown flag: {shown(unknown[0])}")
        return Redirect(name, tuple(dict.fromkeys(words)))

    return read


def _number(name: str) -> Callable[[tuple[str, ...]], Option]:
    low, high = _NUMBERS[name]
    return lambda words: Number(name, number_of(words[0], name, low=low, high=high))


def _exit_notify(words: tuple[str, ...]) -> Option:
    number = number_of(words[0], "explicit-exit-notify", high=_DAYS) if words else 1
    return Number("explicit-exit-notify", number)


def _inactive(words: tuple[str, ...]) -> Option:
    least = number_of(words[1], "inactive", high=(1 << 63) - 1) if words[1:] else 0
    return Inactive(number_of(words[0], "inactive"), least)


def _text(name: str) -> Callable[[tuple[str, ...]], Option]:
    def read(words: tuple[str, ...]) -> Option:
        if not _WORD.fullmatch(words[0]):
            raise TextRefused(name, f"is no word: {shown(words[0])}")
        return Text(name, words[0])

    return read


def _protocol_flags(words: tuple[str, ...]) -> Option:
    if not all(map(_WORD.fullmatch, words)):
        raise TextRefused("protocol-flags", "must be words")
    return ProtocolFlags(words)


def _auth_token(words: tuple[str, ...]) -> Option:
    if not words[0]:
        raise TextRefused("auth-token", "is empty")
    return AuthTokenOption(check_text(words[0], "auth-token", max_bytes=MAX_CREDENTIAL))


def _auth_token_user(words: tuple[str, ...]) -> Option:
    return AuthTokenUser(decode_base64(words[0], "auth-token-user", max_bytes=MAX_CREDENTIAL))


def _setenv_safe(words: tuple[str, ...]) -> Option:
    if not _VARIABLE.fullmatch(words[0]):
        raise TextRefused("setenv-safe", f"has no variable name: {shown(words[0])}")
    return SetenvSafe(words[0], words[1] if words[1:] else "")


Reader = Callable[[tuple[str, ...]], Option]

READERS: dict[str, tuple[int, int, Reader]] = {
    "topology": (1, 1, _topology),
    "ifconfig": (2, 2, _ifconfig),
    "ifconfig-ipv6": (1, 2, _ifconfig_ipv6),
    "route": (1, 4, _route),
    "route-ipv6": (1, 3, _route_ipv6),
    "route-gateway": (1, 1, lambda words: RouteGateway(read_ipv4(words[0], "route-gateway"))),
    "redirect-gateway": (0, 8, _redirect("redirect-gateway")),
    "redirect-private": (0, 8, _redirect("redirect-private")),
    "explicit-exit-notify": (0, 1, _exit_notify),
    "inactive": (1, 2, _inactive),
    "cipher": (1, 1, _text("cipher")),
    "key-derivation": (1, 1, _text("key-derivation")),
    "protocol-flags": (1, 15, _protocol_flags),
    "auth-token": (1, 1, _auth_token),
    "auth-token-user": (1, 1, _auth_token_user),
    "setenv-safe": (1, 2, _setenv_safe),
    "echo": (0, 15, Echo),
    "block-ipv6": (0, 0, lambda words: Flag("block-ipv6")),
    "block-outside-dns": (0, 0, lambda words: Flag("block-outside-dns")),
    "ping-timer-rem": (0, 0, lambda words: Flag("ping-timer-rem")),
    **{name: (1, 1, _number(name)) for name in _NUMBERS},
}
"""By name: the least and most words behind it, and what reads them."""
