"""rtnetlink of pyroute2: a connection, its errors as ours, its messages about routes as values."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Any, TypeAlias

from ..errors import DcoError, error_for

IpAddress: TypeAlias = IPv4Address | IPv6Address
IpNetwork: TypeAlias = IPv4Network | IPv6Network

MAIN_TABLE = 254  # RT_TABLE_MAIN of linux/rtnetlink.h
UNICAST = 1  # RTN_UNICAST
_IFA_F_NODAD = 0x02  # linux/if_addr.h


@dataclass(frozen=True)
class Hop:
    """Where packets go first: out of an interface, by its number, and there to a gateway or
    straight to who they are for. Number 0: the interface that reaches the gateway."""

    index: int
    gateway: IpAddress | None = None


@contextlib.contextmanager
def rtnetlink() -> Iterator[Any]:
    """An IPRoute of the thread's namespace."""
    from pyroute2 import IPRoute

    with naming("rtnetlink is not available"), IPRoute() as route:
        yield route


@contextlib.contextmanager
def naming(step: str) -> Iterator[None]:
    """Errors of the kernel as DcoError, with the name of the step."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except DcoError:
        raise
    except NetlinkError as error:
        raise error_for(error.code, f"{step}: {os.strerror(error.code)}") from None
    except OSError as error:
        raise error_for(error.errno or errno.EIO, f"{step}: {error.strerror}") from None


def usable_at_once(host: str) -> dict[str, int]:
    """What a message that adds this address says more, so that sockets can be bound to it as soon
    as it is there: IPv6 else looks for duplicates first, in its own time."""
    return {"flags": _IFA_F_NODAD} if ":" in host else {}


def family_of(address: IpAddress | IpNetwork) -> int:
    """AF_INET or AF_INET6."""
    return int(socket.AF_INET if address.version == 4 else socket.AF_INET6)


def main_routes(route: Any, family: int) -> Iterator[Any]:
    """Messages of all routes of the main table."""
    for message in route.get_routes(family=family, table=MAIN_TABLE):
        if message.get_attr("RTA_TABLE") == MAIN_TABLE:
            yield message


def network_of(message: Any) -> IpNetwork:
    """What a route is for."""
    bits = message["dst_len"]
    if message["family"] == socket.AF_INET:
        return IPv4Network((message.get_attr("RTA_DST") or "0.0.0.0", bits))
    return IPv6Network((message.get_attr("RTA_DST") or "::", bits))


def metric_of(message: Any) -> int:
    """What routes of the same network are ordered by."""
    return int(message.get_attr("RTA_PRIORITY") or 0)


def hop_of(message: Any) -> Hop | None:
    """Where a route leads, the first hop if it has several; None: to this host, or nowhere."""
    if message["type"] != UNICAST:
        return None
    several = message.get_attr("RTA_MULTIPATH")
    if several:
        return Hop(several[0]["oif"], _gateway(several[0]))
    index = message.get_attr("RTA_OIF")
    return Hop(index, _gateway(message)) if index else None


def _gateway(message: Any) -> IpAddress | None:
    via = message.get_attr("RTA_VIA")
    text = via["addr"] if via else message.get_attr("RTA_GATEWAY")
    return ip_address(text) if text else None
