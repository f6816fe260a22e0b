"""Pushed DNS settings: `dhcp-option` and the newer `dns`, which overrides it as a whole.

Values of a server have been run by shells before; here each has a grammar, and nothing in this
package hands them to a shell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from .addresses import check_domain, read_endpoint, read_ipv4, read_ipv6, write_endpoint
from .options import Option, Reader
from .text import TextRefused, number_of, shown

__all__ = [
    "DNS_READERS",
    "DhcpOption",
    "DnsAddress",
    "DnsSearch",
    "DnsServer",
    "DnsServerPart",
    "DnsSettings",
    "dns_settings",
]

MAX_ADDRESSES = 8
"""Addresses of one `dns server`."""

_PRIORITIES = (0, 127)  # what may be pushed; negative ones are for local configuration
_DNSSEC = frozenset({"yes", "no", "optional"})
_TRANSPORTS = frozenset({"DoH", "DoT", "plain"})

IpAddress: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True)
class DhcpOption(Option):
    """dhcp-option KIND VALUE, with a value of the kind's grammar in its canonical form."""

    name = "dhcp-option"
    kind: str
    value: str

    def words(self) -> tuple[str, ...]:
        return self.kind, self.value


@dataclass(frozen=True)
class DnsAddress:
    """Where a server listens; no port: that of the transport."""

    address: IpAddress
    port: int | None = None

    def __str__(self) -> str:
        return write_endpoint(self.address, self.port)


@dataclass(frozen=True)
class DnsSearch(Option):
    """dns search-domains DOMAIN..."""

    name = "dns"
    domains: tuple[str, ...]

    def words(self) -> tuple[str, ...]:
        return ("search-domains", *self.domains)


@dataclass(frozen=True)
class DnsServerPart(Option):
    """One statement `dns server PRIORITY KIND VALUE...` about a server."""

    name = "dns"
    priority: int
    kind: str
    values: tuple[str, ...]

    def words(self) -> tuple[str, ...]:
        return ("server", str(self.priority), self.kind, *self.values)


@dataclass(frozen=True)
class DnsServer:
    """A server with all that was said about it. No `resolve_domains`: it resolves everything."""

    priority: int
    addresses: tuple[DnsAddress, ...]
    resolve_domains: tuple[str, ...] = ()
    dnssec: str | None = None
    transport: str | None = None
    sni: str | None = None


@dataclass(frozen=True)
class DnsSettings:
    """What name resolution should be. The server with the lowest priority number comes first."""

    servers: tuple[DnsServer, ...] = ()
    search_domains: tuple[str, ...] = ()


# Words to values


def _read_dhcp_address(text: str) -> str:
    return str(read_ipv6(text, "dhcp-option") if ":" in text else read_ipv4(text, "dhcp-option"))


def _read_dhcp_domain(text: str) -> str:
    return check_domain(text, "dhcp-option")


_DHCP: dict[str, Callable[[str], str]] = {
    "DNS": _read_dhcp_address,
    "DNS6": _read_dhcp_address,
    "WINS": _read_dhcp_address,
    "NTP": _read_dhcp_address,
    "NBDD": _read_dhcp_address,
    "NBS": _read_dhcp_domain,
    "DOMAIN": _read_dhcp_domain,
    "DOMAIN-SEARCH": _read_dhcp_domain,
    "ADAPTER_DOMAIN_SUFFIX": _read_dhcp_domain,
}


def _dhcp_option(words: tuple[str, ...]) -> Option:
    read = _DHCP.get(words[0])
    if read is None:
        raise TextRefused("dhcp-option", f"is of no kind that is used here: {shown(words[0])}")
    return DhcpOption(words[0], read(words[1]))


def _domains(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(check_domain(word, "dns") for word in words)


def _endpoints(words: tuple[str, ...]) -> tuple[str, ...]:
    if len(words) > MAX_ADDRESSES:
        raise TextRefused("dns", f"server has more than {MAX_ADDRESSES} addresses")
    return tuple(str(DnsAddress(*read_endpoint(word, "dns"))) for word in words)


def _one_of(known: frozenset[str]) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    def read(words: tuple[str, ...]) -> tuple[str, ...]:
        if len(words) != 1 or words[0] not in known:
            raise TextRefused("dns", f"needs one of {', '.join(sorted(known))}")
        return words

    return read


def _sni(words: tuple[str, ...]) -> tuple[str, ...]:
    if len(words) != 1:
        raise TextRefused("dns", "needs one name for sni")
    return _domains(words)


_PARTS: dict[str, Callable[[tuple[str, ...]], tuple[str, ...]]] = {
    "address": _endpoints,
    "resolve-domains": _domains,
    "dnssec": _one_of(_DNSSEC),
    "transport": _one_of(_TRANSPORTS),
    "sni": _sni,
}


def _dns(words: tuple[str, ...]) -> Option:
    if words[0] == "search-domains":
        return DnsSearch(_domains(words[1:]))
    if words[0] != "server" or len(words) < 4 or words[2] not in _PARTS:
        raise TextRefused("dns", f"is no statement that is known: {shown(' '.join(words))}")
    low, high = _PRIORITIES
    priority = number_of(words[1], "dns server", low=low, high=high)
    return DnsServerPart(priority, words[2], _PARTS[words[2]](words[3:]))


DNS_READERS: dict[str, tuple[int, int, Reader]] = {
    "dhcp-option": (2, 2, _dhcp_option),
    "dns": (2, 15, _dns),
}
"""As `options.READERS`."""


# Statements to settings


def _server(priority: int, parts: list[DnsServerPart]) -> DnsServer | None:
    """Addresses and domains add up, of the rest the last counts; None without an address."""
    said: dict[str, tuple[str, ...]] = {}
    for part in parts:
        adds = part.kind in {"address", "resolve-domains"}
        said[part.kind] = (said.get(part.kind, ()) if adds else ()) + part.values
    if "address" not in said:
        return None
    addresses = dict.fromkeys(DnsAddress(*read_endpoint(word, "dns")) for word in said["address"])
    return DnsServer(
        priority,
        tuple(addresses)[:MAX_ADDRESSES],
        said.get("resolve-domains", ()),
        *(said[kind][0] if kind in said else None for kind in ("dnssec", "transport", "sni")),
    )


def dns_settings(options: Iterable[Option]) -> DnsSettings:
    """What the options say together: `dns` if there is any, else `dhcp-option`."""
    kept = tuple(options)
    parts: dict[int, list[DnsServerPart]] = {}
    search: list[str] = []
    for option in kept:
        if isinstance(option, DnsServerPart):
            parts.setdefault(option.priority, []).append(option)
        elif isinstance(option, DnsSearch):
            search += option.domains
    if parts or search:
        servers = [_server(priority, parts[priority]) for priority in sorted(parts)]
        return DnsSettings(tuple(filter(None, servers)), tuple(dict.fromkeys(search)))
    return _from_dhcp([option for option in kept if isinstance(option, DhcpOption)])


def _from_dhcp(options: list[DhcpOption]) -> DnsSettings:
    addresses = [
        DnsAddress(read_endpoint(option.value, "dhcp-option")[0])
        for option in options
        if option.kind in {"DNS", "DNS6"}
    ]
    domains = [
        option.value
        for option in options
        if option.kind in {"DOMAIN", "DOMAIN-SEARCH", "ADAPTER_DOMAIN_SUFFIX"}
    ]
    servers = (DnsServer(0, tuple(dict.fromkeys(addresses))),) if addresses else ()
    return DnsSettings(servers, tuple(dict.fromkeys(domains)))
