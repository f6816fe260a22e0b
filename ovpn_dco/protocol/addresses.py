"""Addresses and names in pushed text: strict forms, so that what passes is safe in any context.

A domain or an address from a server ends up in resolver files and in arguments of programs. What
passes here has letters, digits and `.-_:/[]` at most."""

from __future__ import annotations

import functools
import re
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    ip_address,
)

from .text import TextRefused, number_of, shown

__all__ = [
    "check_domain",
    "pack_host",
    "read_endpoint",
    "read_ipv4",
    "read_ipv4_mask",
    "read_ipv4_network",
    "read_ipv6",
    "read_ipv6_interface",
    "write_endpoint",
]

MAX_DOMAIN = 253

# Host names, and the underscore of service labels. Names in other scripts come as xn--.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")

_BRACKETED = re.compile(r"\[([^\]]*)\](?::(.*))?")
_PLAIN = re.compile(r"([^:]*)(?::([^:]*))?")


@functools.lru_cache(maxsize=1024)
def pack_host(host: str) -> bytes:
    """The 4 or 16 bytes of an address without a zone; ValueError for anything else. A client's
    address comes with each of its first packets."""
    return ip_address(host).packed


def check_domain(text: str, what: str = "domain") -> str:
    """`text` without a dot at its end, if it is a domain name; TextRefused otherwise."""
    name = text.removesuffix(".")
    if len(name) > MAX_DOMAIN or not all(map(_LABEL.fullmatch, name.split("."))):
        raise TextRefused(what, f"is no domain name: {shown(text)}")
    return name


def read_ipv4(text: str, what: str) -> IPv4Address:
    """An IPv4 address of four decimal numbers."""
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise TextRefused(what, f"is no IPv4 address: {shown(text)}") from None


def read_ipv6(text: str, what: str) -> IPv6Address:
    """An IPv6 address without a scope: the `ipaddress` module would take any text as one."""
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise TextRefused(what, f"is no IPv6 address: {shown(text)}") from None
    if address.scope_id is not None:
        raise TextRefused(what, f"has a scope: {shown(text)}")
    return address


def read_ipv4_mask(text: str, what: str) -> int:
    """The prefix length of a netmask; an inverted mask is none."""
    inverse = 0xFFFFFFFF ^ int(read_ipv4(text, what))
    if inverse & (inverse + 1):
        raise TextRefused(what, f"is no netmask: {shown(text)}")
    return 32 - inverse.bit_length()


def read_ipv4_network(address: str, mask: str, what: str) -> IPv4Network:
    """A network. Host bits are cleared, as stock clients do with a warning."""
    prefix = read_ipv4_mask(mask, what)
    return IPv4Network((int(read_ipv4(address, what)), prefix), strict=False)


def read_ipv6_interface(text: str, what: str) -> IPv6Interface:
    """ADDRESS/BITS."""
    address, slash, bits = text.partition("/")
    if not slash:
        raise TextRefused(what, f"has no prefix length: {shown(text)}")
    return IPv6Interface((int(read_ipv6(address, what)), number_of(bits, what, high=128)))


def read_endpoint(text: str, what: str) -> tuple[IPv4Address | IPv6Address, int | None]:
    """ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT; None where there is no port."""
    shape = _BRACKETED.fullmatch(text) or _PLAIN.fullmatch(text)
    if shape is None:
        return read_ipv6(text, what), None
    port = None if shape[2] is None else number_of(shape[2], what, low=1, high=65535)
    if text.startswith("["):
        return read_ipv6(shape[1], what), port
    return read_ipv4(shape[1], what), port


def write_endpoint(address: IPv4Address | IPv6Address, port: int | None) -> str:
    """The opposite of `read_endpoint`."""
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
