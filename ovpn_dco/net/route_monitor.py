"""What the kernel says of the routes into one interface: a dump, and every change after it.

Two sockets of the interface's namespace, made once: nothing has to be entered later, when
privileges may be gone. pyroute2 writes and reads the messages of rtnetlink(7)."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, NamedTuple

from ..errors import error_for
from .namespace import run_in_namespace
from .peer_routes import PeerRoutes, SeenRoute
from .rtnetlink import MAIN_TABLE, UNICAST, IpAddress, metric_of, network_of

# linux/rtnetlink.h and linux/netlink.h
_NETLINK_ROUTE = 0
_LINK_OR_ADDRESS = (16, 17, 21)  # RTM_NEWLINK, RTM_DELLINK, RTM_DELADDR
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR = 0x1, 0x10
_RTMGRP_IPV4_ROUTE, _RTMGRP_IPV6_ROUTE = 0x40, 0x400
_GROUPS = _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV4_ROUTE | _RTMGRP_IPV6_ROUTE
_RTM_F_CLONED = 0x200  # what was remembered of a lookup
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_DUMP_INTR, _NLM_F_REPLACE = 0x1, 0x300, 0x10, 0x100

BUFFER = 4 * 1024 * 1024
"""Bytes of changes that may wait; what does not fit is found by a dump."""
_READ = 256 * 1024


class _Sockets(NamedTuple):
    changes: socket.socket
    dumps: socket.socket


class RouteMonitor:
    """Feeds the routes into an interface to a `PeerRoutes`, which `lock` is held for, but not while
    the kernel is asked.

    `index` is the interface's in the namespace (< 0: the caller's). DcoError for a system that
    does not tell."""

    def __init__(self, index: int, *, namespace: int = -1, buffer: int = BUFFER) -> None:
        from pyroute2.netlink.rtnl.marshal import MarshalRtnl

        self._index = index
        self._marshal = MarshalRtnl()
        self._sequence = 0
        try:
            self._sockets = run_in_namespace(namespace, lambda: _open_sockets(buffer))
        except OSError as error:
            raise error_for(error.errno or 0, f"routes cannot be watched: {error}") from None

    def fileno(self) -> int:
        """Readable while there are changes."""
        return self._sockets.changes.fileno()

    def close(self) -> None:
        """Idempotent."""
        for one in self._sockets:
            one.close()

    def look(self, routes: PeerRoutes[Any], lock: threading.Lock) -> None:
        """All routes as they are now."""
        for _ in range(10):  # changed meanwhile: as often as the kernel says so, within reason
            found: list[SeenRoute] = []
            if all(self._dump(family, found) for family in (socket.AF_INET, socket.AF_INET6)):
                break
        with lock:
            routes.look(found)

    def follow(self, routes: PeerRoutes[Any], lock: threading.Lock) -> None:
        """What has changed since the last call, without waiting. Where the kernel could not keep
        all of it, or does not tell what has gone, everything is looked at anew."""
        complete, messages = self._read()
        with lock:
            for message in messages:
                complete &= self._take(message, routes)
        if not complete:
            self.look(routes, lock)

    # Messages

    def _read(self) -> tuple[bool, list[Any]]:
        """Whether these are all, and what there is."""
        complete, messages = True, []
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data = self._sockets.changes.recv(_READ)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    complete = False
                    continue
                messages += self._marshal.parse(data)
        return complete, messages

    def _take(self, message: Any, routes: PeerRoutes[Any]) -> bool:
        """False: all has to be looked at anew. The kernel drops routes of IPv4 with their address
        or link without a word of them."""
        kind, flags = message["header"]["type"], message["header"]["flags"]
        if kind in _LINK_OR_ADDRESS:
            return bool(message["index"] != self._index)
        route = self._route(message) if kind in (_RTM_NEWROUTE, _RTM_DELROUTE) else None
        if route is None:
            return True
        if kind == _RTM_NEWROUTE:
            return routes.add(route, replaces=bool(flags & _NLM_F_REPLACE))
        routes.remove(route)
        return True

    def _dump(self, family: int, found: list[SeenRoute]) -> bool:
        """False: routes have changed while they were written down."""
        from pyroute2.netlink.rtnl.rtmsg import rtmsg

        self._sequence += 1
        request = rtmsg()
        request["family"] = family
        request["attrs"] = [("RTA_OIF", self._index)]
        request["header"]["type"] = _RTM_GETROUTE
        request["header"]["flags"] = _NLM_F_REQUEST | _NLM_F_DUMP
        request["header"]["sequence_number"] = self._sequence
        request.encode()
        self._sockets.dumps.send(request.data)
        consistent = True
        for message in self._answers():
            consistent &= not message["header"]["flags"] & _NLM_F_DUMP_INTR
            if message["header"]["type"] == _RTM_NEWROUTE:
                route = self._route(message)
                if route is not None:
                    found.append(route)
        return consistent

    def _answers(self) -> Iterator[Any]:
        while True:
            for message in self._marshal.parse(self._sockets.dumps.recv(_READ)):
                header = message["header"]
                if header["sequence_number"] != self._sequence:
                    continue  # of a dump that was given up
                if header["type"] == _NLMSG_ERROR:
                    number = getattr(header["error"], "code", 0) or errno.EIO
                    raise error_for(number, f"routes cannot be read: {os.strerror(number)}")
                yield message
                if header["type"] == _NLMSG_DONE:
                    return

    def _route(self, message: Any) -> SeenRoute | None:
        """None: of no concern, such as the kernel's own for addresses of this host."""
        if message["type"] != UNICAST or message["flags"] & _RTM_F_CLONED:
            return None
        several = message.get_attr("RTA_MULTIPATH")
        hops = [(hop["oif"], hop) for hop in several] if several else []
        if not hops:
            hops = [(message.get_attr("RTA_OIF"), message)]
        gateways = (_gateway(hop) for index, hop in hops if index == self._index)
        return SeenRoute(
            network_of(message),
            metric=metric_of(message),
            table=message.get_attr("RTA_TABLE") or message["table"] or MAIN_TABLE,
            tos=message["tos"],
            gateways=tuple(gateway for gateway in gateways if gateway is not None),
        )


def _gateway(message: Any) -> IpAddress | None:
    via = message.get_attr("RTA_VIA")
    text = via["addr"] if via else message.get_attr("RTA_GATEWAY")
    return ip_address(text) if text else None


def _open_sockets(buffer: int) -> _Sockets:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with contextlib.ExitStack() as undo:
        changes = undo.enter_context(
            socket.socket(socket.AF_NETLINK, kind | socket.SOCK_NONBLOCK, _NETLINK_ROUTE)
        )
        changes.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        changes.bind((0, _GROUPS))
        dumps = undo.enter_context(socket.socket(socket.AF_NETLINK, kind, _NETLINK_ROUTE))
        dumps.bind((0, 0))
        with contextlib.suppress(OSError):  # before Linux 4.20 it tells of all interfaces
            dumps.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        undo.pop_all()
        return _Sockets(changes, dumps)
