"""Text around key bytes: a BEGIN line, the encoded bytes, an END line; anything may stand before.

Faults are reported by line number. No message quotes the encoded text, which is secret."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from .errors import KeyFileError

__all__ = ["decode_base64", "decode_hex", "encode_base64", "encode_hex"]

_BASE64_WIDTH = 64
_HEX_WIDTH = 32
_HEX = frozenset("0123456789abcdefABCDEF")
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


def decode_hex(text: str | bytes, name: str) -> bytes:
    """The bytes between the lines of `name`, as hex digits; raises `KeyFileError`."""
    digits = "".join(_checked(text, name, _HEX, "a hex digit"))
    if len(digits) % 2:
        raise KeyFileError(f"odd number of hex digits ({len(digits)})")
    return bytes.fromhex(digits)


def decode_base64(text: str | bytes, name: str) -> bytes:
    """The bytes between the lines of `name`, as base64; raises `KeyFileError`."""
    encoded = "".join(_checked(text, name, _BASE64, "base64"))
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise KeyFileError(f"base64 of {name!r} is incomplete or wrongly padded") from None


def encode_hex(data: bytes, name: str) -> str:
    """The text of a file, 16 bytes to a line."""
    return _frame(data.hex(), name, _HEX_WIDTH)


def encode_base64(data: bytes, name: str) -> str:
    """The text of a file, 48 bytes to a line."""
    return _frame(base64.b64encode(data).decode("ascii"), name, _BASE64_WIDTH)


def _frame(encoded: str, name: str, width: int) -> str:
    lines = [encoded[at : at + width] for at in range(0, len(encoded), width)]
    return "\n".join([f"-----BEGIN {name}-----", *lines, f"-----END {name}-----", ""])


def _checked(text: str | bytes, name: str, allowed: frozenset[str], what: str) -> Iterator[str]:
    for line, content in _between(text, name):
        for column, character in enumerate(content, 1):
            if character not in allowed and not character.isspace():
                raise KeyFileError(f"character {column} is not {what}", line=line)
        yield "".join(content.split())


def _between(text: str | bytes, name: str) -> Iterator[tuple[int, str]]:
    """(line number, line) of the encoded part."""
    begin, end = f"-----BEGIN {name}-----", f"-----END {name}-----"
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    lines = enumerate(decoded.splitlines(), 1)
    if not any(content.strip() == begin for _, content in lines):
        raise KeyFileError(f"there is no line {begin!r}")
    last = 0
    for line, content in lines:
        if content.strip() == end:
            return
        if content.lstrip().startswith("-----"):
            raise KeyFileError(f"expected {end!r}", line=line)
        last = line
        yield line, content
    raise KeyFileError(f"the file ends before {end!r}", line=last or None)
