"""A socket of a device whose data packets the kernel takes: what is left for its owner.

`udp` and `tcp` have the two kinds. Nothing here waits."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from typing import NamedTuple

from ...model import Address, Buffer, Offload, TransportInfo, TransportKind
from ...validation.answers import answer
from ...validation.rules import RawAddress, fold
from ..base import PeerRef
from ..readings import address

SO_PROTOCOL = 38  # asm-generic/socket.h
PACKET_MAX = 65535
NOW = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Packet(NamedTuple):
    """What came out of a socket."""

    data: bytes
    remote: Address | None
    local: Address | None


def adopt(fd: int) -> socket.socket:
    """Takes the descriptor, or closes it. Whatever socket.setdefaulttimeout() says, nothing waits
    here, and the socket blocks those who share it, or not, as before."""
    blocking = os.get_blocking(fd)
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        raise
    if sock.gettimeout() is not None:
        sock.settimeout(None)
        os.set_blocking(fd, blocking)
    return sock


def check(sock: socket.socket, command: str, protocol: int) -> None:
    """Refuses what is no IPv4 or IPv6 socket of this protocol."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise answer(command, errno.EAFNOSUPPORT, "")
    if sock.getsockopt(socket.SOL_SOCKET, SO_PROTOCOL) != protocol:
        raise answer(command, errno.EPROTONOSUPPORT, "")


class _Options:
    """Socket options that are set for a while."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._before: list[tuple[int, int, int]] = []

    def set(self, level: int, name: int, value: int) -> None:
        before = self._sock.getsockopt(level, name)
        self._sock.setsockopt(level, name, value)
        # The kernel doubles the size of a buffer when it is set, and tells the double.
        if level == socket.SOL_SOCKET and name in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            before //= 2
        self._before.append((level, name, before))

    def restore(self) -> None:
        for level, name, value in reversed(self._before):
            with contextlib.suppress(OSError):
                self._sock.setsockopt(level, name, value)
        self._before.clear()


class Port:
    """A socket of a device; the descriptor is the device's own. `peers` are reached through it."""

    kind: TransportKind
    ended: int | None = None
    """Why nothing comes of it any more: an errno. `told`: whoever has it knows."""
    told = False
    closing = False

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.peers: set[PeerRef] = set()
        self._options = _Options(sock)

    @property
    def interest(self) -> int:
        """What epoll is to tell of."""
        return select.EPOLLIN

    def receive(self, maximum: int) -> list[Packet]:
        """Up to so many packets that are there: none of a listener."""
        return []

    def send(self, data: Buffer, remote: RawAddress | None, local: RawAddress | None) -> None:
        """Sends one packet, or raises the DcoError of `send_control`."""
        raise answer("send_control", errno.EOPNOTSUPP, "")

    def prepare(self) -> None:
        """Before a peer is added."""

    @property
    def bound(self) -> bytes | None:
        """The one local address that it has; None: any of the host's."""
        return None

    @property
    def driven(self) -> bool:
        """Whether the driver has it, and leaves its end to be found here."""
        return False

    def taken(self) -> None:
        """A peer was added: the driver has the socket."""

    def released(self) -> None:
        """The last peer has gone: the driver has it no more."""

    def info(self) -> TransportInfo:
        """As it stands."""
        return self._info()

    def forget(self) -> None:
        """In a forked child: without effect on the parent's socket."""
        self.sock.close()

    def close(self) -> None:
        """Restores the options and lets go of the socket."""
        self._options.restore()
        self.sock.close()

    def _set_buffers(self, send: int, receive: int) -> None:
        for name, size in ((socket.SO_SNDBUF, send), (socket.SO_RCVBUF, receive)):
            if size:
                self._options.set(socket.SOL_SOCKET, name, size)

    def _info(self) -> TransportInfo:
        buffers = [
            self.sock.getsockopt(socket.SOL_SOCKET, name)
            for name in (socket.SO_SNDBUF, socket.SO_RCVBUF)
        ]
        return TransportInfo(
            kind=self.kind,
            sockets=1,
            local=plain(self.sock.getsockname()),
            remote=None,
            send_buffer=buffers[0],
            receive_buffer=buffers[1],
            offloads=Offload.NONE,
            peers=len(self.peers),
            receive_overflows=0,
            icmp_errors=0,
            waiting=0,
            trials=0,
            accepted=0,
            refused=0,
            expired=0,
            failed=self.ended is not None,
        )


def plain(name: object) -> Address | None:
    """A name of a socket as an address of the model: IPv4 as what it is, and no %scope."""
    if not isinstance(name, tuple) or not name:
        return None
    host = str(name[0]).partition("%")[0]
    if len(name) == 2:
        return host, int(name[1])
    ip = fold(socket.inet_pton(socket.AF_INET6, host)) or b""
    return address((ip, int(name[1]), int(name[3])))


def is_shut(sock: socket.socket) -> bool:
    """Whether nothing more will come."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))
