"""What a server pushes: from the options of PUSH_REPLY messages to one value, and back.

An option that cannot be used is listed with a reason and passed over, as stock clients do; one
whose loss would make the tunnel wrong or unsafe refuses the whole reply."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import TypeVar

from ovpn_dco.model import FilterAction, Topology

from .addresses import read_ipv4_mask
from .dns import DNS_READERS, DnsSettings, dns_settings
from .messages import PushReply, PushUpdate
from .options import (
    READERS,
    AuthTokenOption,
    AuthTokenUser,
    Flag,
    Ifconfig,
    IfconfigIpv6,
    Inactive,
    Number,
    Option,
    ProtocolFlags,
    Reader,
    Redirect,
    Route,
    RouteGateway,
    RouteIpv6,
    SetenvSafe,
    Text,
    TopologyOption,
)
from .text import MAX_OPTION, TextRefused, check_text, number_of, shown, split_words

__all__ = [
    "CHUNK",
    "NOT_PULLED",
    "FilterAction",
    "Ignored",
    "PullFilter",
    "PushAssembler",
    "PushRejected",
    "Pushed",
    "TunnelIpv4",
    "build_push",
    "parse_option",
    "parse_options",
]

CHUNK = 940
"""Bytes of text at which a push goes on in another message: 1024 less what stock servers keep
free for their own markers."""

MAX_PUSH = 65536
"""Bytes of all messages of one push together, so that a server cannot fill our memory."""

READ_BY: dict[str, tuple[int, int, Reader]] = READERS | DNS_READERS

_FRAMING = "changes the framing of data packets, which data channel offload cannot do"
_FATAL = frozenset("ifconfig topology cipher peer-id protocol-flags key-derivation tun-mtu".split())
_WINDOWS = "has a meaning on Windows only"
_NO_EFFECT = {
    "dhcp-renew": _WINDOWS,
    "dhcp-release": _WINDOWS,
    "ip-win32": _WINDOWS,
    "register-dns": _WINDOWS,
    "route-method": _WINDOWS,
    "tap-sleep": _WINDOWS,
    "tun-ipv6": "is always on",
    "persist-key": "is always on",
    "persist-tun": "is a matter of the local configuration",
    "verb": "is a matter of the local configuration",
    "mute": "is a matter of the local configuration",
    "sndbuf": "is a matter of the local configuration",
    "rcvbuf": "is a matter of the local configuration",
    "socket-flags": "is a matter of the local configuration",
    "route-delay": "is not needed",
    "shaper": "is not supported",
    "client-nat": "is not supported",
    "comp-noadapt": "is not supported",
}
NOT_PULLED = frozenset(
    """route route-ipv6 route-metric redirect-gateway redirect-private dhcp-option dns
    block-outside-dns""".split()
)
"""What `route-nopull` leaves out."""

# What may differ between two connections with the same tunnel.
_NOT_IN_DIGEST = frozenset(
    """peer-id auth-token auth-token-user protocol-flags key-derivation explicit-exit-notify ping
    ping-restart ping-exit ping-timer-rem""".split()
)

OptionType = TypeVar("OptionType", bound=Option)


class PushRejected(TextRefused):
    """A pull filter of the local configuration rejects the connection."""


@dataclass(frozen=True)
class Ignored:
    """A pushed option that has no effect, by name, and why. Values are not repeated in full."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} {self.reason}"


@dataclass(frozen=True)
class PullFilter:
    """`pull-filter`: the first that fits an option decides; without any it is accepted."""

    action: FilterAction
    prefix: str


@dataclass(frozen=True)
class TunnelIpv4:
    """The tunnel's address with its prefix; `peer` only in the topologies net30 and p2p."""

    interface: IPv4Interface
    peer: IPv4Address | None = None


@dataclass(frozen=True)
class Pushed:
    """All options that were pushed and are in effect, in their order, with those that are not.

    Of options that can be there once the last one counts."""

    options: tuple[Option, ...] = ()
    ignored: tuple[Ignored, ...] = ()

    def every(self, kind: type[OptionType]) -> tuple[OptionType, ...]:
        """The options of this class."""
        return tuple(option for option in self.options if isinstance(option, kind))

    def last(self, kind: type[OptionType], name: str | None = None) -> OptionType | None:
        """The last option of this class, and of this name where the class has several."""
        found = [option for option in self.every(kind) if name in {None, option.name}]
        return found[-1] if found else None

    def number(self, name: str) -> int | None:
        """The value of an option of one number, such as `ping` or `peer-id`; None if not pushed."""
        option = self.last(Number, name)
        return option.value if option else None

    def text(self, name: str) -> str | None:
        """The value of `cipher` or `key-derivation`; None if not pushed."""
        option = self.last(Text, name)
        return option.value if option else None

    def has(self, name: str) -> bool:
        """Whether an option without arguments, such as `block-ipv6`, was pushed."""
        return self.last(Flag, name) is not None

    @property
    def topology(self) -> Topology:
        """That of old servers, which push none, is NET30."""
        option = self.last(TopologyOption)
        return option.topology if option else Topology.NET30

    @property
    def tunnel_ipv4(self) -> TunnelIpv4 | None:
        """The IPv4 address as the topology means it. TextRefused if SUBNET has no netmask."""
        option = self.last(Ifconfig)
        if option is None:
            return None
        if self.topology is Topology.SUBNET:
            prefix = read_ipv4_mask(str(option.second), "ifconfig")
            return TunnelIpv4(IPv4Interface((int(option.local), prefix)))
        return TunnelIpv4(IPv4Interface((int(option.local), 32)), option.second)

    @property
    def tunnel_ipv6(self) -> IfconfigIpv6 | None:
        """The IPv6 address."""
        return self.last(IfconfigIpv6)

    @property
    def routes(self) -> tuple[Route, ...]:
        """IPv4 networks behind the server."""
        return self.every(Route)

    @property
    def routes_ipv6(self) -> tuple[RouteIpv6, ...]:
        """IPv6 networks behind the server."""
        return self.every(RouteIpv6)

    @property
    def route_gateway(self) -> IPv4Address | None:
        """The gateway of routes that name none."""
        option = self.last(RouteGateway)
        return option.address if option else None

    def redirect(self, name: str = "redirect-gateway") -> frozenset[str] | None:
        """The flags of `redirect-gateway` or `redirect-private`; None if not pushed."""
        found = [option for option in self.every(Redirect) if option.name == name]
        return frozenset(flag for option in found for flag in option.flags) if found else None

    @property
    def protocol_flags(self) -> frozenset[str]:
        """Names of protocol features, for `ncp.agree_as_client`."""
        option = self.last(ProtocolFlags)
        return frozenset(option.flags) if option else frozenset()

    @property
    def inactive(self) -> Inactive | None:
        """When to leave for want of traffic."""
        return self.last(Inactive)

    @property
    def auth_token(self) -> str | None:
        """A token that takes the place of the password."""
        option = self.last(AuthTokenOption)
        return option.token if option else None

    @property
    def auth_token_user(self) -> str | None:
        """The username that goes with it."""
        option = self.last(AuthTokenUser)
        return option.username if option else None

    @property
    def dns(self) -> DnsSettings:
        """What name resolution should be."""
        return dns_settings(self.options)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for hooks."""
        return {f"OPENVPN_{item.variable}": item.value for item in self.every(SetenvSafe)}

    def tun_mtu(self, *, announced_max: int | None, default: int = 1500) -> int:
        """Bytes. A pushed value counts up to the IV_MTU that we announced, and not without one."""
        pushed = self.number("tun-mtu")
        if pushed is None or announced_max is None:
            return default
        return min(pushed, announced_max)

    def digest(self) -> bytes:
        """SHA-256 of what the tunnel is made of. Two connections with the same one can use the
        same interface, without taking it down in between."""
        state = hashlib.sha256()
        for option in self.options:
            if option.name not in _NOT_IN_DIGEST:
                state.update("\0".join((option.name, *option.words(), "\n")).encode())
        return state.digest()


# Text to values


def parse_option(text: str) -> Option | Ignored:
    """One option. TextRefused for a malformed one of those without which the tunnel would be
    wrong, and for compression."""
    try:
        check_text(text, "option", max_bytes=MAX_OPTION)
        words = split_words(text)
    except TextRefused as error:
        return Ignored(_name_of(text), error.reason)
    if words[:2] == ("setenv", "opt"):
        words = words[2:]
    if not words:
        return Ignored("", "is empty")
    name, *rest = words
    if name in {"compress", "comp-lzo"}:
        raise TextRefused(name, _FRAMING)
    if name not in READ_BY:
        return Ignored(shown(name), _NO_EFFECT.get(name, "may not be pushed"))
    try:
        return _read(name, tuple(rest))
    except TextRefused as error:
        if name in _FATAL:
            raise
        return Ignored(name, error.reason)


def _name_of(text: str) -> str:
    return shown(text.partition(" ")[0], 32)


def _read(name: str, words: tuple[str, ...]) -> Option:
    least, most, read = READ_BY[name]
    if not least <= len(words) <= most:
        raise TextRefused(name, f"needs {least} to {most} arguments, not {len(words)}")
    return read(words)


def filter_options(
    texts: Iterable[str], filters: Iterable[PullFilter]
) -> tuple[list[str], list[Ignored]]:
    """What the filters let through, and what not. PushRejected where one rejects."""
    rules = tuple(filters)
    kept: list[str] = []
    ignored: list[Ignored] = []
    for text in texts:
        rule = next((rule for rule in rules if text.startswith(rule.prefix)), None)
        if rule is None or rule.action is FilterAction.ACCEPT:
            kept.append(text)
        elif rule.action is FilterAction.IGNORE:
            ignored.append(Ignored(_name_of(text), f"is filtered by {shown(rule.prefix)}"))
        else:
            raise PushRejected(_name_of(text), f"is rejected by {shown(rule.prefix)}")
    return kept, ignored


def parse_options(
    texts: Iterable[str], *, filters: Iterable[PullFilter] = (), no_pull: bool = False
) -> Pushed:
    """The options of a complete push. `filters`: `pull-filter`s in their order. `no_pull`:
    `route-nopull`, no routes and no name servers. TextRefused and PushRejected end the attempt."""
    kept, ignored = filter_options(texts, filters)
    options: list[Option] = []
    for text in kept:
        option = parse_option(text)
        if isinstance(option, Option) and no_pull and option.name in NOT_PULLED:
            option = Ignored(option.name, "is not pulled (route-nopull)")
        if isinstance(option, Ignored):
            ignored.append(option)
        else:
            options.append(option)
    pushed = Pushed(tuple(options), tuple(ignored))
    _ = pushed.tunnel_ipv4  # an address without a netmask is refused here, not when it is used
    return pushed


# Messages to text


class PushAssembler:
    """Collects the options of one push from its messages."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._size = 0

    def add(self, message: PushReply | PushUpdate) -> tuple[str, ...] | None:
        """All options when this message is the last one of the push, None when more follows.

        TextRefused, and a fresh start, for more than MAX_PUSH bytes or a malformed marker."""
        try:
            more = self._take(message.options)
        except TextRefused:
            self._clear()
            raise
        if more:
            return None
        texts = tuple(self._texts)
        self._clear()
        return texts

    def _clear(self) -> None:
        self._texts = []
        self._size = 0

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_PUSH:
            raise TextRefused("push", f"is longer than {MAX_PUSH} bytes")

    def _take(self, options: Iterable[str]) -> bool:
        self._grow(len("PUSH_REPLY"))  # empty messages cannot go on for ever either
        more = False
        for text in options:
            name, _, value = text.partition(" ")
            if name == "push-continuation":
                more = number_of(value, "push-continuation", low=1, high=2) == 2
                continue
            self._grow(len(text.encode()) + 1)
            self._texts.append(text)
        return more


MessageType = TypeVar("MessageType", bound=PushReply | PushUpdate)


def build_push(kind: type[MessageType], options: Iterable[str]) -> tuple[MessageType, ...]:
    """The messages of a push: one without a marker if all fits, else each but the last with
    `push-continuation 2`, and that with 1. TextRefused for an option that cannot be sent."""
    chunks = list(_chunks(options))
    if len(chunks) == 1:
        return (kind(chunks[0]),)
    marked = [(*chunk, "push-continuation 2") for chunk in chunks[:-1]]
    return tuple(kind(chunk) for chunk in [*marked, (*chunks[-1], "push-continuation 1")])


def _chunks(options: Iterable[str]) -> Iterator[tuple[str, ...]]:
    start = len("PUSH_UPDATE")
    chunk: list[str] = []
    size = start
    for option in options:
        check_text(option, "option", max_bytes=MAX_OPTION)
        if not option or "," in option or option.startswith("push-continuation"):
            raise TextRefused("option", f"cannot be pushed: {_name_of(option)}")
        added = len(option.encode()) + 1
        if chunk and size + added >= CHUNK:
            yield tuple(chunk)
            chunk, size = [], start
        chunk.append(option)
        size += added
    yield tuple(chunk)
