"""The two kinds of netlink sockets: one that asks and is answered, one that is told.

Plain sockets, since pyroute2's run an event loop of their own, and a call of ours may come from
any thread, on a loop or off it; pyroute2 writes and reads the messages. A socket belongs to the
network namespace of the thread that made it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from typing import Any

from ..errors import DcoError, error_for
from .answers import (
    NLM_F_DUMP_INTR,
    NLM_F_MULTI,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    read_result,
    refused,
    split,
)
from .codec import decode_message, decode_notice
from .values import Notice, Overrun

NETLINK_ROUTE, NETLINK_GENERIC = 0, 16
# linux/netlink.h
_SOL_NETLINK = 270
_ADD_MEMBERSHIP, _CAP_ACK, _EXT_ACK, _GET_STRICT_CHK = 1, 10, 11, 12
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_SO_RCVBUFFORCE = 33

EVENT_BUFFER = 4 * 1024 * 1024
"""Bytes of notifications that may wait. One of a few hundred bytes of memory for each peer: enough
for all of 10 000 to go at once. What does not fit is found by a dump."""
_READ = 256 * 1024
_DUMP_ATTEMPTS = 10


class RequestSocket:
    """Requests to the kernel, one at a time, from any thread; each with its answers."""

    def __init__(self, protocol: int) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = open_socket(kind, protocol)
        with contextlib.ExitStack() as undo:
            undo.callback(self._socket.close)
            for option in (_EXT_ACK, _GET_STRICT_CHK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            # A refusal does not quote the request: there are keys in some.
            self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            self._socket.bind((0, 0))
            undo.pop_all()
        self._lock = threading.Lock()
        self._sequence = 0

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def request(self, kind: int, message: Any, step: str, *, flags: int = 0) -> list[Message]:
        """Sends a message of pyroute2 and returns what came before the acknowledgement.

        `step` begins the message of the DcoError that a refusal becomes."""
        with self._lock:
            return self._ask(kind, message, step, _NLM_F_REQUEST | _NLM_F_ACK | flags)

    def dump(self, kind: int, message: Any, step: str) -> list[Message]:
        """The same for a dump. One that the kernel calls inconsistent is repeated."""
        with self._lock:
            for _ in range(_DUMP_ATTEMPTS):
                found = self._ask(kind, message, step, _NLM_F_REQUEST | _NLM_F_DUMP)
                if not any(one.flags & NLM_F_DUMP_INTR for one in found):
                    break
            return found

    def _ask(self, kind: int, message: Any, step: str, flags: int) -> list[Message]:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        message["header"]["type"] = kind
        message["header"]["flags"] = flags
        message["header"]["sequence_number"] = self._sequence
        message.reset()
        message.encode()
        try:
            self._socket.sendto(message.data, (0, 0))
            return self._answers(message, step)
        except DcoError:
            raise
        except OSError as error:
            text = f"{step}: {error.strerror}"
            raise error_for(error.errno or errno.EIO, text) from None

    def _answers(self, request: Any, step: str) -> list[Message]:
        found: list[Message] = []
        while True:
            for message in read_messages(self._socket):
                if message.sequence != self._sequence:
                    continue  # of a request that a signal ended
                if message.kind in (NLMSG_ERROR, NLMSG_DONE):
                    refusal = read_result(message, request)
                    if refusal is not None:
                        raise refused(refusal, step)
                    return [*found, message] if message.flags & NLM_F_MULTI else found
                found.append(message)


class EventSocket:
    """What the driver tells of all interfaces whose peers have sockets in this namespace.

    `group` is the number of the multicast group, `buffer` the bytes that may wait: more than the
    system allows takes CAP_NET_ADMIN, and is cut without."""

    def __init__(self, family: int, group: int, *, buffer: int = EVENT_BUFFER) -> None:
        self._family = family
        self._found: list[Notice | Overrun] = []
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = open_socket(kind, NETLINK_GENERIC)
        try:
            _set_buffer(self._socket, buffer)
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError as error:
            self._socket.close()
            text = f"events of the ovpn driver are not available: {error.strerror}"
            raise error_for(error.errno or errno.EIO, text) from None

    def fileno(self) -> int:
        """Readable while there is something to read."""
        return self._socket.fileno()

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def read(self) -> list[Notice | Overrun]:
        """What has come, without waiting, in order; an `Overrun` stands where some is lost. What
        was read before a failure comes with the next call."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._found += self._next()
        found, self._found = self._found, []
        return found

    def _next(self) -> list[Notice | Overrun]:
        try:
            read = [one for one in read_messages(self._socket) if one.kind == self._family]
            notices = [decode_notice(decode_message(one.data)) for one in read]
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOBUFS, errno.EBADMSG):
                return [Overrun()]
            raise error_for(error.errno or errno.EIO, os.strerror(error.errno or 0)) from None
        return [notice for notice in notices if notice is not None]


def open_socket(kind: int, protocol: int) -> socket.socket:
    """A netlink socket of the calling thread's namespace."""
    try:
        return socket.socket(socket.AF_NETLINK, kind, protocol)
    except OSError as error:
        text = f"netlink is not available: {error.strerror}"
        raise error_for(error.errno or errno.EIO, text) from None


def _set_buffer(one: socket.socket, size: int) -> None:
    try:
        one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def read_messages(one: socket.socket) -> list[Message]:
    """One read. Only the kernel is listened to: it has port 0, and other processes may send."""
    data, (port, _) = one.recvfrom(_READ)
    return list(split(data)) if port == 0 else []
