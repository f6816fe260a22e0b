"""TCP connections. Before one has a peer it is a plain stream, which is read up to the first data
packet and no further: what is left in the socket is the driver's. From then on that makes a queue
of control packets of it."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from dataclasses import replace

from ...model import Address, Buffer, TransportInfo, TransportKind
from ...validation.answers import answer
from ...validation.rules import RawAddress
from .port import NOW, PACKET_MAX, Packet, Port, check, is_shut, plain

TRIAL_FRAME_MAX = 2048
"""Bytes of a frame on a connection without a peer."""
WAITING_MAX = 64 * 1024
"""Bytes of control packets that a connection has not taken yet."""
DATA_V2 = 9
_LET_GO = (errno.EBADF, errno.EIO)  # the peer has gone, as the driver tells


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
            packet = self.sock.recv(2 + PACKET_MAX, NOW)
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
        head = self.sock.recv(3, NOW | socket.MSG_PEEK)
        size = int.from_bytes(head[:2], "big")
        if not head:
            self.ended = errno.ECONNRESET
        elif len(head) == 3 and head[2] >> 3 == DATA_V2:
            self._quiet = True
        elif len(head) == 3 and not 0 < size <= TRIAL_FRAME_MAX:
            self.ended = errno.EPROTO
        elif len(head) < 3 or len(self.sock.recv(2 + size, NOW | socket.MSG_PEEK)) < 2 + size:
            self._await(3 if len(head) < 3 else 2 + size)
        else:
            self._set_low_water(1)  # the next one may be shorter
            return self.sock.recv(2 + size, NOW)[2:]
        return None

    def _await(self, size: int) -> None:
        """Not to be told before so much is there, or the end."""
        self._set_low_water(size)
        if is_shut(self.sock):
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
            return self.sock.send(data, NOW)
        except OSError as error:
            raise answer("send_control", error.errno or 0, error.strerror or "") from None

    def _flush(self) -> None:
        while self._waiting:
            try:
                del self._waiting[: self.sock.send(self._waiting, NOW)]
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
