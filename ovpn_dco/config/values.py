"""Words to values: each function takes one word and gives a value, or raises `Refusal`.

Nothing here looks beyond its word: no file, no name service, no other directive."""

from __future__ import annotations

import base64
import enum
import ipaddress
import re
from collections.abc import Callable
from typing import TypeVar

from ..model import DEFAULT_CIPHERS, Cipher
from .problems import Refusal

PORT_MAX = 65535
U31_MAX = 2**31 - 1
U63_MAX = 2**63 - 1
NAME_MAX = 253
PATH_MAX = 4095
CIPHERS_MAX = 127  # characters of the list: the buffer of older peers
DIGESTS = ("SHA1", "SHA224", "SHA256", "SHA384", "SHA512", "SHA512-256", "BLAKE2B512", "none")

E = TypeVar("E", bound=enum.Enum)

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?", re.ASCII)
_DOMAIN = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*)(?:\.[A-Za-z0-9_][A-Za-z0-9_-]*)*\.?", re.ASCII
)
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?", re.ASCII)
_CIPHER_STRING = re.compile(r"[A-Za-z0-9:_+@!=.-]+", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}", re.ASCII)
_OID = re.compile(r"[0-9]+(?:\.[0-9]+)+|[A-Za-z][A-Za-z0-9 -]*", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def integer(low: int, high: int = U31_MAX) -> Callable[[str], int]:
    """A reader of decimal numbers from `low` to `high`."""

    def read(word: str) -> int:
        if _NUMBER.fullmatch(word) is None or not low <= int(word) <= high:
            raise Refusal(f"must be {low} to {high}, not {word!r}")
        return int(word)

    return read


seconds = integer(0)
port = integer(1, PORT_MAX)
local_port = integer(0, PORT_MAX)


def choice(kind: type[E]) -> Callable[[str], E]:
    """A reader of the values of an enumeration."""

    def read(word: str) -> E:
        for member in kind:
            if member.value == word:
                return member
        known = ", ".join(str(member.value) for member in kind)
        raise Refusal(f"must be one of {known}, not {word!r}")

    return read


def text(word: str) -> str:
    """Any word that is not empty."""
    if not word:
        raise Refusal("is empty")
    if found := _CONTROL.search(word):
        raise Refusal(f"control character U+{ord(found[0]):04X} in a word")
    return word


def path(word: str) -> str:
    """A file name."""
    if len(text(word).encode("utf-8", "surrogatepass")) > PATH_MAX:
        raise Refusal(f"path is longer than {PATH_MAX} bytes")
    return word


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def read(word: str) -> str:
        if pattern.fullmatch(word) is None:
            raise Refusal(f"{word!r} is no {what}")
        return word

    return read


account = _matching(_ACCOUNT, "name of a user or group")
cipher_string = _matching(_CIPHER_STRING, "list of TLS ciphers")
interface = _matching(_INTERFACE, "name of an interface: 1 to 15 letters, digits, ., _ or -")
variable = _matching(_VARIABLE, "name of a variable")
oid = _matching(_OID, "object identifier or name of one")


def host(word: str) -> str:
    """A host name or an IP address, which may have a zone."""
    address, _, zone = word.partition("%")
    if ":" in address:
        ipv6(address)
        if "%" in word and _ZONE.fullmatch(zone) is None:
            raise Refusal(f"{word!r} has no valid zone")
        return word
    if len(word) > NAME_MAX or _HOST.fullmatch(word) is None:
        raise Refusal(f"{word!r} is no host name or address")
    return word


def domain(word: str) -> str:
    """A DNS domain: labels of letters, digits, hyphen and underscore, nothing for a shell."""
    if len(word) > NAME_MAX or _DOMAIN.fullmatch(word) is None:
        raise Refusal(f"{word!r} is no domain name")
    return word


def ipv4(word: str) -> ipaddress.IPv4Address:
    """An IPv4 address."""
    try:
        return ipaddress.IPv4Address(word)
    except ValueError:
        raise Refusal(f"{word!r} is no IPv4 address") from None


def ipv6(word: str) -> ipaddress.IPv6Address:
    """An IPv6 address without a zone."""
    try:
        if "%" in word:
            raise ValueError
        return ipaddress.IPv6Address(word)
    except ValueError:
        raise Refusal(f"{word!r} is no IPv6 address") from None


def address(word: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address of either family."""
    return ipv6(word) if ":" in word else ipv4(word)


def prefix(netmask: str) -> int:
    """The prefix length of an IPv4 netmask; 0.0.0.0 is 0, and no host mask is taken for one."""
    bits = int(ipv4(netmask))
    if bits | (bits - 1) != 0xFFFFFFFF and bits:
        raise Refusal(f"{netmask!r} is no netmask")
    return bits.bit_count()


def ipv4_network(word: str, netmask: str = "255.255.255.255") -> ipaddress.IPv4Network:
    """A network; bits of the host are cut off."""
    return ipaddress.IPv4Network((int(ipv4(word)), prefix(netmask)), strict=False)


def ipv6_interface(word: str) -> ipaddress.IPv6Interface:
    """An IPv6 address with its prefix length."""
    start, slash, bits = word.partition("/")
    if not slash:
        raise Refusal(f"{word!r} has no prefix length")
    return ipaddress.IPv6Interface((int(ipv6(start)), integer(0, 128)(bits)))


def ipv6_network(word: str) -> ipaddress.IPv6Network:
    """A network; bits of the host are cut off, and without a length it is one address."""
    return ipv6_interface(word if "/" in word else f"{word}/128").network


def digest(word: str) -> str:
    """A message digest by its name in OpenVPN, in its own spelling."""
    for known in DIGESTS:
        if word.lower() == known.lower():
            return known
    raise Refusal(f"must be one of {', '.join(DIGESTS)}, not {word!r}")


def aead(word: str) -> Cipher:
    """An AEAD cipher."""
    try:
        cipher = Cipher(word)
    except ValueError:
        cipher = Cipher.NONE
    if cipher is Cipher.NONE:
        raise Refusal(
            f"{word!r} is no AEAD cipher: AES-256-GCM, AES-192-GCM, AES-128-GCM or "
            "CHACHA20-POLY1305"
        )
    return cipher


def cipher_list(word: str) -> tuple[tuple[Cipher, ...], tuple[str, ...]]:
    """The AEAD ciphers of a colon list in its order, and the other names in it.

    `?NAME` is one that may be missing, `DEFAULT` stands for the default list."""
    if len(word) > CIPHERS_MAX:
        raise Refusal(f"list is longer than {CIPHERS_MAX} characters")
    ciphers: list[Cipher] = []
    others: list[str] = []
    for name in word.split(":"):
        try:
            found = DEFAULT_CIPHERS if name == "DEFAULT" else (aead(name.removeprefix("?")),)
        except Refusal:
            if name.lower() == "none":
                raise Refusal("'none' would send everything in the clear") from None
            others += [] if name.startswith("?") else [name]
            continue
        ciphers += [cipher for cipher in found if cipher not in ciphers]
    if not ciphers:
        raise Refusal(f"{word!r} has no AEAD cipher in it")
    return tuple(ciphers), tuple(others)


def fingerprint(word: str) -> bytes:
    """A SHA-256 fingerprint: 32 bytes in hexadecimal with colons."""
    if _FINGERPRINT.fullmatch(word) is None:
        raise Refusal("fingerprint must be 32 bytes in hexadecimal, with colons between them")
    return bytes.fromhex(word.replace(":", ""))


def key_usage(word: str) -> int:
    """Bits of the key usage extension, hexadecimal."""
    if re.fullmatch(r"[0-9A-Fa-f]{1,4}", word, re.ASCII) is None:
        raise Refusal(f"{word!r} is no hexadecimal number of at most 4 digits")
    return int(word, 16)


def base64_bytes(content: str) -> bytes:
    """Base64 with any line breaks."""
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except ValueError:
        raise Refusal("is no Base64") from None
