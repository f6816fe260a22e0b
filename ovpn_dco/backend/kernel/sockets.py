"""Sockets whose data packets the kernel takes: what is left for their owner, read and written here.

The driver gives a UDP socket back whatever is no data packet, and of a TCP connection it makes a
queue of control packets, once it has a peer (docs/kernel.md). Before that the connection is a plain
stream, which is read up to the first data packet and no further: what is left in the socket is the
driver's. Nothing here waits."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from dataclasses import replace
from typing import NamedTuple

from ...model import Address, Buffer, Offload, TransportInfo, TransportKind
from ...validation.answers import answer
from ...validation.rules import RawAddress, fold
from ..base import PeerRef
from ..readings import address

SO_PROTOCOL, SO_DOMAIN = 38, 39  # asm-generic/socket.h
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 8, 49, 50  # linux/in.h, linux/in6.h
UDP_BUFFER = 4 << 20
"""Bytes that may wait on a UDP socket each way, unless told otherwise: handshakes of many."""
PACKET_MAX = 65535
TRIAL_FRAME_MAX = 2048
"""Bytes of a frame on a connection without a peer."""
WAITING_MAX = 64 * 1024
"""Bytes of control packets that a connection has not taken yet."""
DATA_V2 = 9
_NOW = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_LET_GO = (errno.EBADF, errno.EIO)  # the peer has gone, as the driver tells
_MAPPED = bytes(10) + b"\xff\xff"
_ANCILLARY = socket.CMSG_SPACE(20)


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
        """Up to so many packets that are there."""
        raise NotImplementedError

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


class UdpPort(Port):
    """A bound UDP socket, of any number of peers."""

    kind = TransportKind.UDP

    def __init__(self, sock: socket.socket, *, send_buffer: int, receive_buffer: int) -> None:
        check(sock, "attach_udp", socket.IPPROTO_UDP)
        if not sock.getsockname()[1]:
            raise answer("attach_udp", errno.EDESTADDRREQ, "")
        super().__init__(sock)
        self._ipv6 = sock.family == socket.AF_INET6
        self._number = sock.getsockname()[1]
        self._errors = 0
        if self._ipv6:
            self._options.set(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            self._options.set(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self._set_buffers(send_buffer or UDP_BUFFER, receive_buffer or UDP_BUFFER)

    @property
    def bound(self) -> bytes | None:
        ip = socket.inet_pton(self.sock.family, self.sock.getsockname()[0].partition("%")[0])
        return fold(ip) if any(ip) else None

    def receive(self, maximum: int) -> list[Packet]:
        found: list[Packet] = []
        for _ in range(maximum):
            try:
                data, extra, _, remote = self.sock.recvmsg(PACKET_MAX, _ANCILLARY, _NOW)
            except BlockingIOError:
                if not found and _is_shut(self.sock):  # it would wake us again and again
                    self.ended = errno.EPIPE
                break
            except OSError:  # what ICMP has told of an earlier datagram
                self._errors += 1
                continue
            found.append(Packet(data, plain(remote), self._local(extra)))
        return found

    def info(self) -> TransportInfo:
        return replace(self._info(), icmp_errors=self._errors)

    def _local(self, extra: list[tuple[int, int, bytes]]) -> Address | None:
        for _, kind, value in extra:
            if kind == IPV6_PKTINFO:
                ip, scope = value[:16], struct.unpack_from("=I", value, 16)[0]
                return address((fold(ip) or ip, self._number, scope if ip[0] == 0xFE else 0))
            if kind == IP_PKTINFO:  # interface, preferred source, destination
                return address((value[8:12], self._number, 0))
        return None

    def send(self, data: Buffer, remote: RawAddress | None, local: RawAddress | None) -> None:
        assert remote is not None
        if len(remote.ip) == 16 and not self._ipv6:
            raise answer("send_control", errno.EAFNOSUPPORT, "")
        extra = [self._source(local)] if local is not None else []
        try:
            self.sock.sendmsg([data], extra, _NOW, self._name(remote))
        except OSError as error:
            raise answer("send_control", error.errno or 0, error.strerror or "") from None

    def _name(self, remote: RawAddress) -> tuple[object, ...]:
        if not self._ipv6:
            return socket.inet_ntop(socket.AF_INET, remote.ip), remote.port
        host = socket.inet_ntop(socket.AF_INET6, _wide(remote.ip))
        return host, remote.port, 0, remote.scope

    def _source(self, local: RawAddress) -> tuple[int, int, bytes]:
        if self._ipv6:
            return socket.IPPROTO_IPV6, IPV6_PKTINFO, _wide(local.ip) + bytes(4)
        if len(local.ip) != 4:
            raise answer("send_control", errno.EAFNOSUPPORT, "")
        return socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + local.ip + bytes(4)


class TcpPort(Port):
    """A TCP connection, of one peer. `accepted` by a listener: nobody knows of it before its first
    packet."""

    kind = TransportKind.TCP

    def __init__(self, sock: socket.socket, *, accepted: bool = False) -> None:
        super().__init__(sock)
        self.accepted = accepted
        self.heard = not accepted
        self._names = plain(sock.getpeername()), plain(sock.getsockname())
        self._waiting = bytearray()
        self._driven = False  # by the kernel's driver
        self._quiet = False  # nothing to read before that changes
        self._low_water = 1  # bytes without which epoll does not tell
        self._options.set(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._options.set(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._low_water)

    @classmethod
    def attach(cls, sock: socket.socket, *, send_buffer: int, receive_buffer: int) -> TcpPort:
        """One that the caller has connected."""
        check(sock, "attach_tcp", socket.IPPROTO_TCP)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise answer("attach_tcp", errno.EINVAL, "")
        try:
            port = cls(sock)
        except OSError as error:
            raise answer("attach_tcp", error.errno or 0, error.strerror or "") from None
        port._set_buffers(send_buffer, receive_buffer)
        return port

    @property
    def remote(self) -> Address | None:
        """The other end."""
        return self._names[0]

    @property
    def interest(self) -> int:
        return (0 if self._quiet else select.EPOLLIN) | (select.EPOLLOUT if self._waiting else 0)

    def receive(self, maximum: int) -> list[Packet]:
        self._flush()
        found: list[Packet] = []
        while len(found) < maximum and self.ended is None:
            try:
                data = self._from_driver() if self._driven else self._from_stream()
            except BlockingIOError:
                break
            except OSError as error:
                self.ended = error.errno or errno.EIO
                break
            if data is None:
                break
            self.heard = True
            found.append(Packet(data, *self._names))
        return found

    def _from_driver(self) -> bytes | None:
        """One packet behind its length. That the connection has ended, or is no stream of frames,
        the driver leaves to whoever reads here (Linux 7.3)."""
        try:
            packet = self.sock.recv(2 + PACKET_MAX, _NOW)
        except OSError as error:
            if error.errno not in _LET_GO:
                raise
            self._quiet = True
            return None
        if not packet:
            self.ended = errno.ECONNRESET
        return packet[2:] or None

    def _from_stream(self) -> bytes | None:
        """The next frame if all of it is there and it is no data packet; else it stays there."""
        head = self.sock.recv(3, _NOW | socket.MSG_PEEK)
        size = int.from_bytes(head[:2], "big")
        if not head:
            self.ended = errno.ECONNRESET
        elif len(head) == 3 and head[2] >> 3 == DATA_V2:
            self._quiet = True
        elif len(head) == 3 and not 0 < size <= TRIAL_FRAME_MAX:
            self.ended = errno.EPROTO
        elif len(head) < 3 or len(self.sock.recv(2 + size, _NOW | socket.MSG_PEEK)) < 2 + size:
            self._await(3 if len(head) < 3 else 2 + size)
        else:
            self._set_low_water(1)  # the next one may be shorter
            return self.sock.recv(2 + size, _NOW)[2:]
        return None

    def _await(self, size: int) -> None:
        """Not to be told before so much is there, or the end."""
        self._set_low_water(size)
        if _is_shut(self.sock):
            self.ended = errno.ECONNRESET

    def _set_low_water(self, size: int) -> None:
        if size != self._low_water:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            self._low_water = size

    def send(self, data: Buffer, remote: RawAddress | None, local: RawAddress | None) -> None:
        size = memoryview(data).nbytes
        if size > PACKET_MAX or size == 0:
            raise answer("send_control", errno.EMSGSIZE if size else errno.EINVAL, "")
        if self.ended is not None:
            raise answer("send_control", errno.EPIPE, "")
        frame = size.to_bytes(2, "big") + data
        if self._driven:
            self._send(frame)  # all of it, or nothing
            return
        if len(self._waiting) + len(frame) > WAITING_MAX:
            raise answer("send_control", errno.EAGAIN, "")
        self._waiting += frame
        self._flush()

    def _send(self, data: Buffer) -> int:
        try:
            return self.sock.send(data, _NOW)
        except OSError as error:
            raise answer("send_control", error.errno or 0, error.strerror or "") from None

    def _flush(self) -> None:
        while self._waiting:
            try:
                del self._waiting[: self.sock.send(self._waiting, _NOW)]
            except BlockingIOError:
                return
            except OSError as error:
                self.ended = error.errno or errno.EPIPE
                self._waiting.clear()

    @property
    def driven(self) -> bool:
        return self._driven

    def expire(self) -> None:
        """Its time is over, as the other end sees at once."""
        self.ended = errno.ETIMEDOUT
        with contextlib.suppress(OSError):  # it was the other end that went
            self.sock.shutdown(socket.SHUT_RDWR)

    def fail(self, error: int) -> None:
        """The driver has given the connection up; `error` 0: the socket knows why."""
        known = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.ended = error or known or errno.ECONNRESET

    def prepare(self) -> None:
        """The driver may not send before what waits here."""
        if self.ended is not None:
            raise answer("add_peer", errno.ENOTSOCK, "")
        self._flush()
        if self._waiting:
            raise answer("send_control", errno.EAGAIN, "")

    def taken(self) -> None:
        self._set_low_water(1)
        self._driven, self._quiet = True, False

    def released(self) -> None:
        self._driven = self._quiet = False

    def info(self) -> TransportInfo:
        return replace(self._info(), waiting=len(self._waiting), remote=self._names[0])


def _is_shut(sock: socket.socket) -> bool:
    """Whether nothing more will come."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def plain(name: object) -> Address | None:
    """A name of a socket as an address of the model: IPv4 as what it is, and no %scope."""
    if not isinstance(name, tuple) or not name:
        return None
    host = str(name[0]).partition("%")[0]
    if len(name) == 2:
        return host, int(name[1])
    ip = fold(socket.inet_pton(socket.AF_INET6, host)) or b""
    return address((ip, int(name[1]), int(name[3])))


def _wide(ip: bytes) -> bytes:
    return ip if len(ip) == 16 else _MAPPED + ip
