"""What the system around an interface is like: the ways that packets take, and whether it has IPv6.

To be looked at before routes of the interface change the answers."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from .rtnetlink import Hop, IpAddress, hop_of, main_routes, metric_of, naming, rtnetlink

IPV6_SETTINGS = "/proc/sys/net/ipv6"


@dataclass(frozen=True)
class Surroundings:
    """The system around an interface, before anything is added for it.

    `ways` are those to single addresses, as far as they lead elsewhere than to this host or into
    the interface itself. `local_network` is the one that the IPv4 default gateway is in.
    `has_ipv6`: the kernel has it; `takes_ipv6`: it is not switched off for the interface."""

    index: int
    ways: Mapping[IpAddress, Hop] = field(default_factory=dict)
    default_ipv4: Hop | None = None
    default_ipv6: Hop | None = None
    local_network: IPv4Network | None = None
    has_ipv6: bool = True
    takes_ipv6: bool = True


def look(index: int, addresses: Iterable[IpAddress] = ()) -> Surroundings:
    """The surroundings of interface number `index`, in the namespace of the calling thread.

    InterfaceMissing when it is gone."""
    with rtnetlink() as route:
        with naming(f"interface {index} cannot be found"):
            name = socket.if_indextoname(index)
        default_ipv4 = _default(route, socket.AF_INET, index)
        return Surroundings(
            index=index,
            ways={a: hop for a in addresses if (hop := _way(route, a)) and hop.index != index},
            default_ipv4=default_ipv4,
            default_ipv6=_default(route, socket.AF_INET6, index),
            local_network=_local_network(route, default_ipv4),
            has_ipv6=os.path.isdir(IPV6_SETTINGS),
            takes_ipv6=_takes_ipv6(name),
        )


def way(address: IpAddress) -> Hop | None:
    """How packets to this address leave the host; None if they do not."""
    with rtnetlink() as route:
        return _way(route, address)


def way_around(index: int, address: IpAddress) -> Hop | None:
    """The same; None, too, if they leave by interface `index`."""
    hop = way(address)
    return hop if hop and hop.index != index else None


def _takes_ipv6(name: str) -> bool:
    # No file of its own while the MTU is below what IPv6 needs.
    with contextlib.suppress(OSError):
        return Path(IPV6_SETTINGS, "conf", name, "disable_ipv6").read_text().strip() == "0"
    return os.path.isdir(IPV6_SETTINGS)


def _way(route: Any, address: IpAddress) -> Hop | None:
    """How packets to this address leave the host; None if they do not."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        (answer,) = route.route("get", dst=str(address))
    except NetlinkError:
        return None
    return hop_of(answer)


def _default(route: Any, family: int, index: int) -> Hop | None:
    """The best default route that is not through the interface itself."""
    found = [
        (metric_of(message), hop)
        for message in main_routes(route, family)
        if not message["dst_len"] and (hop := hop_of(message)) and hop.index != index
    ]
    return min(found, key=lambda each: each[0])[1] if found else None


def _local_network(route: Any, hop: Hop | None) -> IPv4Network | None:
    if hop is None or hop.gateway is None:
        return None
    for message in route.get_addr(index=hop.index, family=socket.AF_INET):
        text = f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}"
        network = IPv4Interface(text).network
        if hop.gateway in network:
            return network
    return None
