"""Addresses, MTU and state of an interface, over rtnetlink."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from dataclasses import dataclass

from ..errors import error_for
from .namespace import run_in_namespace

SIOCGIFMTU = 0x8921


@dataclass(frozen=True)
class InterfaceConfig:
    """What to set; `addresses` are (host, prefix length). None and False leave things alone.

    `gso_segments` is how many segments the kernel may put into one super-packet for the
    interface (IFLA_GSO_MAX_SEGS of linux/if_link.h); a kernel that refuses is left alone."""

    mtu: int | None = None
    gso_segments: int | None = None
    addresses: tuple[tuple[str, int], ...] = ()
    up: bool = False


def configure(name: str, config: InterfaceConfig, *, namespace: int = -1) -> None:
    """Sets MTU, then addresses, then up. DcoError with the kernel's errno names what failed."""
    run_in_namespace(namespace, lambda: _configure(name, config))


def _configure(name: str, config: InterfaceConfig) -> None:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    step = ""
    try:
        with IPRoute() as route:
            step = "cannot be found"
            index = socket.if_nametoindex(name)
            if config.mtu is not None:
                step = f"refuses mtu {config.mtu}"
                route.link("set", index=index, mtu=config.mtu)
            if config.gso_segments is not None:
                with contextlib.suppress(NetlinkError):
                    route.link("set", index=index, gso_max_segs=config.gso_segments)
            for host, bits in config.addresses:
                step = f"refuses address {host}/{bits}"
                route.addr("add", index=index, address=host, prefixlen=bits)
            if config.up:
                step = "cannot be set up"
                route.link("set", index=index, state="up")
    except NetlinkError as error:
        raise error_for(error.code, f"{name} {step}: {os.strerror(error.code)}") from None
    except OSError as error:
        raise error_for(error.errno or 0, f"{name} {step}: {error.strerror}") from None


def get_mtu(name: str, *, namespace: int = -1) -> int:
    """MTU in bytes. InterfaceMissing when it is gone."""

    def read() -> int:
        request = struct.pack("16si", name.encode(), 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            try:
                reply = fcntl.ioctl(control, SIOCGIFMTU, request.ljust(40, b"\0"))
            except OSError as error:
                text = f"{name} has no mtu: {error.strerror}"
                raise error_for(error.errno or 0, text) from None
        return int(struct.unpack_from("16si", reply)[1])

    return read() if namespace < 0 else run_in_namespace(namespace, read)
