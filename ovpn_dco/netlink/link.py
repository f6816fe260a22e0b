"""Interfaces of kind `ovpn` over rtnetlink, in the namespace of the calling thread."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from typing import Any

from ..errors import error_for
from ..model import Mode
from .answers import HEADER_SIZE
from .family import OVPN_FAMILY_NAME, ovpn
from .sockets import NETLINK_ROUTE, RequestSocket, open_socket, read_messages

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_SETLINK = 16, 17, 18, 19
_NLM_F_CREATE_EXCL = 0x400 | 0x200
_RTMGRP_LINK = 1


@dataclass(frozen=True)
class Link:
    """An interface of the driver. `mode` is None where an older driver does not tell; `alias` is
    what somebody has written on it."""

    name: str
    ifindex: int
    mode: Mode | None
    mtu: int
    alias: str | None = None


def create_link(name: str, mode: Mode) -> Link:
    """A new interface, down, of MTU 1416; the mode stays what it is.

    The kernel does not load the driver for it; `find_family` makes it do so. AlreadyExists: some
    interface has that name. UnsupportedError: the driver is not there. PermissionDenied: needs
    CAP_NET_ADMIN."""
    message = _message(name)
    data = {"attrs": [("IFLA_OVPN_MODE", int(mode))]}
    message["attrs"].append(
        (
            "IFLA_LINKINFO",
            {"attrs": [("IFLA_INFO_KIND", OVPN_FAMILY_NAME), ("IFLA_INFO_DATA", data)]},
        )
    )
    _ask(_RTM_NEWLINK, message, f"interface {name} cannot be made", flags=_NLM_F_CREATE_EXCL)
    return find_link(name)


def find_link(name: str) -> Link:
    """The interface with this name. InterfaceMissing: there is none; InvalidArgument: it is one of
    another driver."""
    for answer in _ask(_RTM_GETLINK, _message(name), f"interface {name} cannot be found"):
        return _link(answer)
    raise error_for(errno.ENODEV, f"interface {name} cannot be found", attribute="name")


def set_alias(ifindex: int, alias: str) -> None:
    """Writes this on an interface, up to 255 bytes; empty: nothing."""
    message = _message()
    message["index"] = ifindex
    message["attrs"] = [("IFLA_IFALIAS", alias)]
    _ask(_RTM_SETLINK, message, f"interface {ifindex} takes no alias")


def delete_link(ifindex: int) -> None:
    """Takes an interface away; its peers go with reason TEARDOWN."""
    message = _message()
    message["index"] = ifindex
    _ask(_RTM_DELLINK, message, f"interface {ifindex} cannot be deleted")


class LinkWatch:
    """Tells when an interface is gone: deleted, or moved out of the calling thread's namespace."""

    def __init__(self, ifindex: int) -> None:
        self._ifindex = ifindex
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = open_socket(kind, NETLINK_ROUTE)
        try:
            self._socket.bind((0, _RTMGRP_LINK))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Readable while there is something to read."""
        return self._socket.fileno()

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def may_be_gone(self) -> bool:
        """Whether something was told since the last call, without waiting, that may be its end: it
        was deleted, or moved to another namespace, or messages were lost."""
        gone = False
        while True:
            try:
                messages = read_messages(self._socket)
            except BlockingIOError:
                return gone
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                gone = True
                continue
            for message in messages:
                if message.kind == _RTM_DELLINK:
                    (ifindex,) = struct.unpack_from("=i", message.data, HEADER_SIZE + 4)
                    gone |= ifindex == self._ifindex


def _message(name: str | None = None) -> Any:
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    ifinfmsg.ifinfo.register_link_kind(module={OVPN_FAMILY_NAME: ovpn})
    message = ifinfmsg()
    message["attrs"] = [] if name is None else [("IFLA_IFNAME", name)]
    return message


def _ask(kind: int, message: Any, step: str, *, flags: int = 0) -> list[Any]:
    requests = RequestSocket(NETLINK_ROUTE)
    try:
        answers = requests.request(kind, message, step, flags=flags)
    finally:
        requests.close()
    decoded = [type(message)(answer.data) for answer in answers if answer.kind == _RTM_NEWLINK]
    for answer in decoded:
        answer.decode()
    return decoded


def _link(message: Any) -> Link:
    name = message.get_attr("IFLA_IFNAME")
    kind = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND")
    if kind != OVPN_FAMILY_NAME:
        text = f"interface {name} is none of the ovpn driver"
        raise error_for(errno.EINVAL, text, attribute="name")
    mode = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_OVPN_MODE")
    return Link(
        name=name,
        ifindex=message["index"],
        mode=None if mode is None else Mode(mode),
        mtu=message.get_attr("IFLA_MTU"),
        alias=message.get_attr("IFLA_IFALIAS"),
    )
