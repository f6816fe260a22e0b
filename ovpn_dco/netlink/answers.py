"""What the kernel answers a request with: messages, an acknowledgement, or a refusal that may say
which attribute is at fault (the extended acknowledgement of linux/netlink.h).

Bytes in, values out. The names of attributes come from the message class of pyroute2 that made the
request."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..errors import DcoError, error_for

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
HEADER_SIZE = _HEADER.size
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_MULTI, NLM_F_DUMP_INTR = 0x2, 0x10
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_MSG, _OFFS, _MISS_TYPE, _MISS_NEST = 1, 2, 5, 6  # NLMSGERR_ATTR_*


class Message(NamedTuple):
    """One netlink message: fields of its header, and all of it, header included."""

    kind: int
    flags: int
    sequence: int
    data: bytes


class Refusal(NamedTuple):
    """Why a request was refused; `attribute` is the kernel's name of the one at fault."""

    errno: int
    message: str | None = None
    attribute: str | None = None


def split(data: bytes) -> Iterator[Message]:
    """The messages of one read. EBADMSG for what is cut off."""
    offset = 0
    while offset < len(data):
        length = kind = flags = sequence = 0
        if len(data) - offset >= HEADER_SIZE:
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if not HEADER_SIZE <= length <= len(data) - offset:
            raise error_for(errno.EBADMSG, "a message of netlink is cut off")
        yield Message(kind, flags, sequence, data[offset : offset + length])
        offset += _aligned(length)


def read_result(message: Message, request: Any) -> Refusal | None:
    """What NLMSG_ERROR or NLMSG_DONE says of `request`, the encoded message; None: success."""
    data = message.data
    if len(data) < HEADER_SIZE + 4:
        return None if message.kind == NLMSG_DONE else Refusal(errno.EBADMSG)
    (code,) = struct.unpack_from("=i", data, HEADER_SIZE)
    if code == 0:
        return None
    offset = HEADER_SIZE + 4
    if message.kind == NLMSG_ERROR and len(data) >= offset + HEADER_SIZE:
        (length,) = struct.unpack_from("=I", data, offset)
        capped = message.flags & _NLM_F_CAPPED
        offset += HEADER_SIZE if capped else _aligned(length)
    found: dict[int, bytes] = {}
    if message.flags & _NLM_F_ACK_TLVS:
        found = {kind: payload for _, kind, payload in attributes(data, offset, len(data))}
    text = found[_MSG].rstrip(b"\0").decode(errors="replace") if _MSG in found else None
    return Refusal(-code, text, _attribute(found, request))


def attributes(data: bytes, offset: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """(offset, type, payload) of each attribute; ends at one that is malformed."""
    while end - offset >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if not _ATTRIBUTE.size <= length <= end - offset:
            return
        yield offset, kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)


def _attribute(found: dict[int, bytes], request: Any) -> str | None:
    """The name of the attribute that is wrong, or missing."""
    numbers = {kind: _u32(payload) for kind, payload in found.items() if kind != _MSG}
    start = HEADER_SIZE + struct.calcsize("=" + "".join(kind for _, kind in type(request).fields))
    place = type(request), start, len(request.data)
    if _MISS_TYPE in numbers:
        nest = _find(request.data, *place, numbers.get(_MISS_NEST))
        names = (nest[1] if nest else type(request)).nla_map
        kind = numbers[_MISS_TYPE]
        return str(names[kind][0]) if kind < len(names) else None
    there = _find(request.data, *place, numbers.get(_OFFS))
    return there[0] if there else None


def _find(
    data: bytes, owner: Any, start: int, end: int, wanted: int | None
) -> tuple[str, Any] | None:
    """(name, class) of the attribute of `owner` that stands at `wanted` of the request."""
    for offset, kind, payload in attributes(data, start, end) if wanted is not None else ():
        if wanted is not None and offset <= wanted < offset + _aligned(4 + len(payload)):
            if kind >= len(owner.nla_map):
                return None
            name, class_name = owner.nla_map[kind]
            inner = getattr(owner, class_name, None)
            if offset == wanted or not getattr(inner, "nla_map", ()):
                return name, inner
            return _find(data, inner, offset + 4, offset + 4 + len(payload), wanted)
    return None


def _u32(payload: bytes) -> int:
    return int(struct.unpack_from("=I", payload)[0]) if len(payload) >= 4 else 0


def _aligned(length: int) -> int:
    return (length + 3) & ~3


# What the arguments of this package are called, where not as the kernel's attributes.
_ARGUMENTS = {
    "OVPN_A_IFINDEX": "ifindex",
    "OVPN_A_PEER_KEEPALIVE_INTERVAL": "keepalive_interval_s",
    "OVPN_A_PEER_KEEPALIVE_TIMEOUT": "keepalive_timeout_s",
    "OVPN_A_PEER_ID": "peer_id",
    "OVPN_A_KEYCONF_CIPHER_ALG": "cipher",
    "OVPN_A_KEYCONF_ENCRYPT_DIR": "encrypt",
    "OVPN_A_KEYCONF_DECRYPT_DIR": "decrypt",
    "OVPN_A_KEYDIR_CIPHER_KEY": "key",
    "IFLA_IFNAME": "name",
    "IFLA_INFO_DATA": "mode",  # the only thing in it
}
_PREFIXES = ("OVPN_A_PEER_", "OVPN_A_KEYCONF_", "OVPN_A_KEYDIR_", "OVPN_A_", "IFLA_")


def argument_name(attribute: str) -> str:
    """What an attribute is called in this package."""
    if attribute in _ARGUMENTS:
        return _ARGUMENTS[attribute]
    name = attribute
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix) if name == attribute else name
    name = name.lower()
    for address in ("remote", "local"):
        name = address if name.startswith(f"{address}_") else name
    return name


def refused(refusal: Refusal, step: str) -> DcoError:
    """The exception for a refusal. The message has what the kernel said, and the attribute."""
    text = refusal.message or os.strerror(refusal.errno)
    if refusal.attribute is None:
        return error_for(refusal.errno, f"{step}: {text}")
    name = argument_name(refusal.attribute)
    return error_for(refusal.errno, f"{step}: {name}: {text}", attribute=name)
