"""From what callers pass to what the rules judge: packed addresses, numbers, enumerations."""

from __future__ import annotations

import errno
import functools
import ipaddress
import operator
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from ..model import KeySlot, Mode, Offload
from .rules import PEER_NEW, PEER_SET, U32_MAX, PeerAttributes, RawAddress, check, fold, refuse


def integer(attribute: str, value: object) -> int:
    """A number, but no bool and no float. InvalidArgument otherwise."""
    if isinstance(value, bool):
        raise refuse(errno.EINVAL, attribute, f"must be a number, not {value!r}")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise refuse(errno.EINVAL, attribute, f"must be a number, not {value!r}") from None


def bounded(attribute: str, value: object, lowest: int, highest: int) -> int:
    """A number within bounds. InvalidArgument for none, OutOfRange beyond them."""
    number = integer(attribute, value)
    if not lowest <= number <= highest:
        raise refuse(errno.ERANGE, attribute, f"must be {lowest} to {highest}")
    return number


def descriptors_of(value: object) -> tuple[int, ...]:
    """One descriptor, or several. InvalidArgument for what is none."""
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return tuple(integer("tun_fd", fd) for fd in (value if several else [value]))  # type: ignore[attr-defined]


def seconds(attribute: str, value: float | None) -> float | None:
    """A time limit, not negative; None: no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise refuse(errno.EINVAL, attribute, f"must be a number of seconds, not {value!r}")
    return float(value)


def pack(attribute: str, host: object) -> bytes:
    """A numeric IP address as 4 or 16 bytes. Names are not looked up."""
    text = str(host)
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
    raise refuse(errno.EINVAL, attribute, f"{host!r} is no numeric IP address")


def pack_vpn(attribute: str, host: object, size: int) -> bytes | None:
    """An inner address of `size` bytes; None stays None."""
    if host is None:
        return None
    ip = pack(attribute, host)
    if len(ip) != size:
        raise refuse(errno.EINVAL, attribute, f"{host!r} is of the wrong family")
    return ip


def endpoint(attribute: str, value: object) -> tuple[bytes, int, int | None]:
    """(ip, port, scope id or None) of a socket address: `(host, port[, flowinfo, scope_id])`."""
    if not isinstance(value, tuple) or len(value) not in (2, 4):
        message = f"must be (host, port) or (host, port, flowinfo, scope_id), not {value!r}"
        raise refuse(errno.EINVAL, attribute, message)
    scope = integer(attribute, value[3]) if len(value) == 4 and value[3] else None
    return pack(attribute, value[0]), integer(attribute, value[1]), scope


def raw_address(attribute: str, value: object) -> RawAddress | None:
    """Where a control packet goes or comes from; a bare host has no port. None stays None."""
    if value is None:
        return None
    if not isinstance(value, tuple):
        return RawAddress(fold(pack(attribute, value)) or b"")
    # The packets of a session go to the same address again and again.
    usual = tuple(map(type, value)) == (str, int)
    return _kept_address(attribute, value) if usual else _socket_address(attribute, value)


def _socket_address(attribute: str, value: tuple[object, ...]) -> RawAddress:
    ip, port, scope = endpoint(attribute, value)
    if not 0 <= port <= 65535 or not 0 <= (scope or 0) <= U32_MAX:
        raise refuse(errno.ERANGE, attribute, f"{value!r} has a number out of range")
    return RawAddress(fold(ip) or b"", port, scope or 0)


_kept_address = functools.lru_cache(maxsize=1024)(_socket_address)


def peer_attributes(
    *,
    mode: Mode,
    new: bool,
    peer_id: object,
    transport: str | None = None,
    remote: object = None,
    local: object = None,
    vpn_ipv4: object = None,
    vpn_ipv6: object = None,
    tx_id: object = None,
    keepalive_interval_s: object = None,
    keepalive_timeout_s: object = None,
) -> PeerAttributes:
    """Arguments of `add_peer` and `Peer.set` as attributes, checked. InvalidArgument and others."""
    values: dict[str, Any] = {}
    if remote is not None:
        ip, port, scope = endpoint("remote", remote)
        values[f"remote_ipv{4 if len(ip) == 4 else 6}"] = ip
        values["remote_port"] = port
        values["remote_scope_id"] = scope
    if local is not None:
        ip = pack("local", local[0] if isinstance(local, tuple) and local else local)
        values[f"local_ipv{4 if len(ip) == 4 else 6}"] = ip
    for name, number in (
        ("peer_id", peer_id),
        ("tx_id", tx_id),
        ("keepalive_interval_s", keepalive_interval_s),
        ("keepalive_timeout_s", keepalive_timeout_s),
    ):
        if number is not None:
            values[name] = integer(name, number)
    attributes = PeerAttributes(
        mode=mode,
        new=new,
        transport=transport,
        vpn_ipv4=pack_vpn("vpn_ipv4", vpn_ipv4, 4),
        vpn_ipv6=pack_vpn("vpn_ipv6", vpn_ipv6, 16),
        **values,
    )
    check(PEER_NEW if new else PEER_SET, attributes)
    return attributes


def packed_data(value: object) -> memoryview:
    """Bytes to be sent, of whatever buffer. InvalidArgument."""
    try:
        return memoryview(value).cast("B")  # type: ignore[arg-type]
    except TypeError:
        raise refuse(errno.EINVAL, "data", "must be a contiguous buffer of bytes") from None


# `dco_wire_keepalive`: whoever gets it counts it, and tells nobody.
_KEEPALIVE = bytes.fromhex("2a187bf3641eb4cb07ed2d0a981fc748")
MESSAGE_MAX = 16384  # DCO_MESSAGE_MAX


def message_of(value: object) -> memoryview:
    """A message to a peer inside the data channel. InvalidArgument, MessageTooBig."""
    data = packed_data(value)
    if not data:
        raise refuse(errno.EINVAL, "data", "must not be empty")
    if len(data) > MESSAGE_MAX:
        raise refuse(errno.EMSGSIZE, "data", f"must be {MESSAGE_MAX} bytes at most")
    if data[0] >> 4 in (4, 6):
        raise refuse(errno.EINVAL, "data", "would be taken for an IP packet: it begins like one")
    if data == _KEEPALIVE:
        raise refuse(errno.EINVAL, "data", "would be taken for a keepalive: it is one")
    return data


def slot_of(value: object) -> KeySlot:
    """A key slot, also from its number. OutOfRange otherwise."""
    try:
        return KeySlot(value)  # type: ignore[arg-type]
    except ValueError:
        raise refuse(errno.ERANGE, "slot", "must be PRIMARY or SECONDARY") from None


def prefix_of(value: object) -> tuple[bytes, int]:
    """(ip, bits) of a network such as "192.168.9.0/24"; InvalidArgument if host bits are set."""
    try:
        network = ipaddress.ip_network(value)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise refuse(errno.EINVAL, "prefix", str(error)) from None
    return network.network_address.packed, network.prefixlen


def interface_addresses(values: Iterable[object]) -> tuple[tuple[str, int], ...]:
    """(host, prefix length) of each such as "10.8.0.1/24"."""
    if isinstance(values, str):
        raise refuse(errno.EINVAL, "addresses", "must be a sequence of addresses, not one string")
    result = []
    for value in values:
        try:
            interface = ipaddress.ip_interface(value)  # type: ignore[arg-type]
        except (ValueError, TypeError) as error:
            raise refuse(errno.EINVAL, "addresses", str(error)) from None
        result.append((str(interface.ip), interface.network.prefixlen))
    return tuple(result)


def offloads_of(value: object) -> Offload:
    """A set of offloads from None (all), `Offload`, or an iterable of their names."""
    if value is None:
        return Offload.ALL
    if isinstance(value, Offload):
        return value
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise refuse(errno.EINVAL, "offloads", "must be an Offload or an iterable of names")
    result = Offload.NONE
    for name in value:
        if not isinstance(name, str) or name.lower() not in Offload.ALL.names:
            known = ", ".join(Offload.ALL.names)
            raise refuse(errno.EINVAL, "offloads", f"{name!r} is none of {known}")
        result |= Offload[name.upper()]
    return result
