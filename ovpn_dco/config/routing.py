"""Parsers of directives that say what goes through the tunnel, and who resolves names there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from . import values
from .lexer import Directive
from .options import DnsServer, RedirectConfig, RouteConfig
from .problems import Refusal
from .settings import Settings

DNS_ADDRESSES_MAX = 8

# Routes


def route(directive: Directive, settings: Settings) -> None:
    """Network, netmask, gateway, metric."""
    network = values.ipv4_network(*directive.arguments[:2])
    settings.append("routes.routes", _route(network, directive.arguments[2:], values.ipv4))


def route_ipv6(directive: Directive, settings: Settings) -> None:
    """Network, gateway, metric."""
    network = values.ipv6_network(directive.arguments[0])
    settings.append("routes.routes", _route(network, directive.arguments[1:], values.ipv6))


_GATEWAYS = ("vpn_gateway", "net_gateway", "remote_host")


def _route(
    network: IPv4Network | IPv6Network, more: tuple[str, ...], family: Callable[[str], object]
) -> RouteConfig:
    gateway = more[0] if more else "default"
    if gateway not in (*_GATEWAYS, "default"):
        gateway = str(family(gateway))
    return RouteConfig(
        network=network,
        gateway=None if gateway == "default" else gateway,
        metric=values.integer(0)(more[1]) if len(more) > 1 else None,
    )


def route_gateway(directive: Directive, settings: Settings) -> None:
    """An address, or dhcp."""
    word = directive.arguments[0]
    settings.set("routes.gateway", word if word == "dhcp" else str(values.ipv4(word)))


_REDIRECT = {
    "local": ("local", True),
    "autolocal": ("autolocal", True),
    "def1": ("def1", True),
    "bypass-dhcp": ("bypass_dhcp", True),
    "bypass-dns": ("bypass_dns", True),
    "block-local": ("block_local", True),
    "ipv6": ("ipv6", True),
    "!ipv4": ("ipv4", False),
}


def redirect(directive: Directive, settings: Settings) -> None:
    """Both `redirect-gateway` and `redirect-private`."""
    unknown = [word for word in directive.arguments if word not in _REDIRECT]
    if unknown:
        raise Refusal(f"has no flag {unknown[0]!r}: {', '.join(_REDIRECT)}")
    flags = dict(_REDIRECT[word] for word in directive.arguments)
    private = directive.name == "redirect-private"
    settings.set("routes.redirect", RedirectConfig(private=private, **flags))


# Name resolution


def _any(word: str) -> str:
    return str(values.address(word))


# Types of `dhcp-option` and what their value is: nothing else reaches a resolver.
_DHCP: dict[str, Callable[[str], str] | None] = {
    "DNS": _any,
    "DNS6": lambda word: str(values.ipv6(word)),
    "WINS": _any,
    "NTP": _any,
    "NBDD": _any,
    "NBT": lambda word: str(values.integer(1, 8)(word)),
    "NBS": values.domain,
    "DOMAIN": values.domain,
    "DOMAIN-SEARCH": values.domain,
    "ADAPTER_DOMAIN_SUFFIX": values.domain,
    "PROXY_HTTP": values.host,
    "PROXY_HTTPS": values.host,
    "DISABLE-NBT": None,
}


def dhcp_option(directive: Directive, settings: Settings) -> None:
    """Type and value."""
    kind, *more = directive.arguments
    if kind not in _DHCP:
        settings.warn(directive, f"no effect: type {kind!r} is not known")
        return
    read = _DHCP[kind]
    if (read is None) != (not more):
        raise Refusal(f"{kind} takes {'no' if read is None else 'one'} value")
    value = "" if read is None else read(more[0])
    settings.append("routes.dhcp_options", (kind, value))


def dns(directive: Directive, settings: Settings) -> None:
    """`search-domains ...`, or `server PRIORITY KEYWORD ...`."""
    keyword, *more = directive.arguments
    if keyword == "search-domains":
        settings.append("routes.search_domains", *(values.domain(word) for word in more))
    elif keyword == "server" and len(more) >= 3:
        _dns_server(values.integer(-128, 127)(more[0]), more[1], more[2:], settings)
    else:
        raise Refusal("takes search-domains DOMAIN.. or server PRIORITY KEYWORD VALUE..")


def _dns_server(priority: int, keyword: str, words: list[str], settings: Settings) -> None:
    known = settings.values.get("routes.dns_servers", ())
    old = next((s for s in known if s.priority == priority), DnsServer(priority=priority))
    new = replace(old, **_dns_change(keyword, words, old))
    others = tuple(s for s in known if s.priority != priority)
    ordered = sorted((*others, new), key=lambda server: server.priority)
    settings.set("routes.dns_servers", tuple(ordered))


_DNS_WORDS = {
    "dnssec": ("dnssec", ("yes", "no", "optional")),
    "transport": ("transport", ("DoH", "DoT", "plain")),
}


def _dns_change(keyword: str, words: list[str], old: DnsServer) -> dict[str, Any]:
    if keyword == "address":
        addresses = (*old.addresses, *map(_dns_address, words))
        if len(addresses) > DNS_ADDRESSES_MAX:
            raise Refusal(f"has more than {DNS_ADDRESSES_MAX} addresses")
        return {"addresses": addresses}
    if keyword == "resolve-domains":
        domains = tuple(values.domain(word) for word in words)
        return {"resolve_domains": (*old.resolve_domains, *domains)}
    if len(words) != 1:
        raise Refusal(f"{keyword} takes one value")
    if keyword == "sni":
        return {"sni": values.domain(words[0])}
    if keyword not in _DNS_WORDS:
        raise Refusal(f"has no keyword {keyword!r}")
    name, allowed = _DNS_WORDS[keyword]
    if words[0] not in allowed:
        raise Refusal(f"{keyword} must be one of {', '.join(allowed)}, not {words[0]!r}")
    return {name: words[0]}


def _dns_address(word: str) -> tuple[str, int | None]:
    """1.2.3.4, 1.2.3.4:53, fd00::1 or [fd00::1]:53."""
    if word.startswith("["):
        address, bracket, number = word[1:].partition("]")
        if not bracket or (number and number[0] != ":"):
            raise Refusal(f"{word!r} is no address with a port")
        return str(values.ipv6(address)), values.port(number[1:]) if number else None
    if word.count(":") == 1:
        address, _, number = word.partition(":")
        return str(values.ipv4(address)), values.port(number)
    return str(values.address(word)), None
