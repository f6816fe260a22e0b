"""Addresses, MTU and state of an interface, over rtnetlink."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from dataclasses import dataclass, replace
from typing import Any

from ..errors import error_for
from .namespace import run_in_namespace
from .rtnetlink import naming, rtnetlink, usable_at_once

SIOCGIFMTU, SIOCGIFINDEX = 0x8921, 0x8933
IFF_UP = 1


@dataclass(frozen=True)
class InterfaceConfig:
    """What to set; `addresses` are (host, prefix length). None and False leave things alone.

    `gso_segments` is how many segments the kernel may put into one super-packet for the
    interface (IFLA_GSO_MAX_SEGS of linux/if_link.h); a kernel that refuses is left alone."""

    mtu: int | None = None
    gso_segments: int | None = None
    addresses: tuple[tuple[str, int], ...] = ()
    up: bool = False


def configure(
    name: str, config: InterfaceConfig, *, namespace: int = -1, missing_only: bool = False
) -> None:
    """Sets MTU, then addresses, then up. DcoError with the kernel's errno names what failed.

    With `missing_only` what is so already is not set again: that is no error then, and takes no
    privilege."""
    run_in_namespace(namespace, lambda: _configure(name, config, missing_only))


def _configure(name: str, config: InterfaceConfig, missing_only: bool) -> None:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    step = ""
    try:
        with IPRoute() as route:
            step = "cannot be found"
            index = socket.if_nametoindex(name)
            if missing_only:
                config = _missing(route, index, config)
            if config.mtu is not None:
                step = f"refuses mtu {config.mtu}"
                route.link("set", index=index, mtu=config.mtu)
            if config.gso_segments is not None:
                with contextlib.suppress(NetlinkError):
                    route.link("set", index=index, gso_max_segs=config.gso_segments)
            for host, bits in config.addresses:
                step = f"refuses address {host}/{bits}"
                more = usable_at_once(host)
                route.addr("add", index=index, address=host, prefixlen=bits, **more)
            if config.up:
                step = "cannot be set up"
                route.link("set", index=index, state="up")
    except NetlinkError as error:
        raise error_for(error.code, f"{name} {step}: {os.strerror(error.code)}") from None
    except OSError as error:
        raise error_for(error.errno or 0, f"{name} {step}: {error.strerror}") from None


def has_packet_information(name: str, *, namespace: int = -1) -> bool:
    """Whether packets of a TUN begin with four bytes of `struct tun_pi`: it was made without
    IFF_NO_PI (IFLA_TUN_PI of linux/if_link.h, from Linux 4.17; an older one says False).

    TUNGETIFF cannot tell: its answer has IFF_NOFILTER in the same bit. DcoError if there is no
    such interface."""
    return run_in_namespace(namespace, lambda: _has_packet_information(name))


def _has_packet_information(name: str) -> bool:
    with rtnetlink() as route, naming(f"interface {name}"):
        (link,) = route.get_links(socket.if_nametoindex(name))
        return bool(link.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_TUN_PI"))


def _missing(route: Any, index: int, config: InterfaceConfig) -> InterfaceConfig:
    (link,) = route.get_links(index)
    there = {
        (_packed(address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")), bits)
        for address in route.get_addr(index=index)
        for bits in (address["prefixlen"],)
    }
    return replace(
        config,
        mtu=None if link.get_attr("IFLA_MTU") == config.mtu else config.mtu,
        addresses=tuple(
            (host, bits) for host, bits in config.addresses if (_packed(host), bits) not in there
        ),
        up=config.up and not link["flags"] & IFF_UP,
    )


def _packed(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def get_addresses(name: str, *, namespace: int = -1) -> tuple[tuple[str, int], ...]:
    """(host, prefix length) of each address. InterfaceMissing when it is gone."""

    def read() -> tuple[tuple[str, int], ...]:
        with rtnetlink() as route, naming(f"{name} has no addresses"):
            found = route.get_addr(index=socket.if_nametoindex(name))
            return tuple(
                (one.get_attr("IFA_LOCAL") or one.get_attr("IFA_ADDRESS"), one["prefixlen"])
                for one in found
            )

    return run_in_namespace(namespace, read)


def get_mtu(name: str, *, namespace: int = -1) -> int:
    """MTU in bytes. InterfaceMissing when it is gone."""
    return _ask(SIOCGIFMTU, "mtu", name, namespace)


def get_index(name: str, *, namespace: int = -1) -> int:
    """The number of the interface in its namespace. InterfaceMissing when it is gone."""
    return _ask(SIOCGIFINDEX, "index", name, namespace)


def _ask(request: int, what: str, name: str, namespace: int) -> int:
    def read() -> int:
        ifreq = struct.pack("16si", os.fsencode(name), 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            try:
                reply = fcntl.ioctl(control, request, ifreq.ljust(40, b"\0"))
            except OSError as error:
                text = f"{name} has no {what}: {error.strerror}"
                raise error_for(error.errno or 0, text) from None
        return int(struct.unpack_from("16si", reply)[1])

    return read() if namespace < 0 else run_in_namespace(namespace, read)
