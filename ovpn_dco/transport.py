"""Sockets that peers are reached through."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable

from . import registry
from .backend.base import Backend
from .errors import DcoError, DeviceClosed, NotASocket
from .model import Buffer, TransportInfo, TransportKind
from .validation.arguments import bounded, packed_data, raw_address
from .validation.rules import refuse

TRIALS_MAX = 65535
SO_COOKIE = 57  # asm-generic/socket.h; not in the socket module


def cookie_of(fd: int) -> bytes:
    """What the kernel calls the socket, whatever descriptor it is seen through."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        return sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)


class Transport:
    """A socket attached to a device; made by `Device.attach_udp`, `attach_tcp` and `listen_tcp`,
    and for each connection that the last of these brings.

    The device has a descriptor of its own, so closing the caller's socket changes nothing here.
    From the attachment on nobody else may read the socket, or write a TCP connection."""

    def __init__(
        self,
        backend: Backend,
        transport_id: int,
        kind: TransportKind,
        cookie: bytes | None,
        on_close: Callable[[Transport], None],
        *,
        accepted: bool = False,
    ) -> None:
        self._backend = backend
        self._id = transport_id
        self._kind = kind
        self._cookie = cookie
        self._on_close = on_close
        self._accepted = accepted
        self._closed = False

    def __repr__(self) -> str:
        return f"<Transport {self._id} {self._kind.name}{' closed' if self.closed else ''}>"

    @property
    def transport_id(self) -> int:
        """The engine's number for it; no later transport of the device gets it again."""
        return self._id

    @property
    def kind(self) -> TransportKind:
        """What it is."""
        return self._kind

    @property
    def accepted(self) -> bool:
        """Whether a listener brought it."""
        return self._accepted

    @property
    def closed(self) -> bool:
        """True after `close` or `detach`, and when the device is closed."""
        return self._closed or self._backend.closed

    def belongs_to(self, backend: Backend) -> bool:
        """Whether it is a transport of the device with this back end."""
        return self._backend is backend

    def info(self) -> TransportInfo:
        """Local address, buffer sizes and offloads in effect, counters.

        Raises NotASocket when closed, DeviceClosed when the device is."""
        self._require_open()
        return self._backend.transport_info(self._id)

    def send_control(self, data: Buffer, remote: object = None, local: object = None) -> None:
        """Sends one packet as it is, from the attached socket, without waiting.

        UDP: `remote` is a socket address, `local` the source address (both as in a `ControlPacket`;
        None: the kernel's choice). TCP: both are left out; the packet goes behind control packets
        and ahead of data that wait, and between frames. Raises MessageTooBig, NotASocket when
        closed, TryAgain when the socket buffer is full or 64 KiB of control packets wait, or when
        the client of an accepted connection has not sent its first packet yet, and DcoError with
        the errno of the send."""
        self._require_open()
        packed = packed_data(data)
        to, source = raw_address("remote", remote), raw_address("local", local)
        if self._kind is TransportKind.UDP and (to is None or to.port == 0):
            raise refuse(errno.EINVAL, "remote", "is needed on a UDP transport, with its port")
        if self._kind is TransportKind.TCP and (to or source):
            raise refuse(errno.EINVAL, "remote", "and local are the connection's on TCP")
        self._backend.send_control(self._id, packed, to, source)

    def detach(self) -> None:
        """Gives the socket back: its options are restored, and its peers are deleted.

        They go with reason TRANSPORT_DISCONNECT. What a TCP connection has not sent yet is lost,
        and so is the frame of which only a part has come. An accepted connection is closed, and
        with a listener those that have no peer. Idempotent."""
        if self.closed:
            return
        self._closed = True
        self._on_close(self)
        try:
            self._backend.detach(self._id)
        except (NotASocket, DeviceClosed):
            return  # another thread was faster

    def close(self) -> None:
        """The same as `detach`: what ends is our use of the socket, not the caller's descriptor."""
        self.detach()

    def _require_open(self) -> None:
        if self._closed:
            raise refuse(errno.ENOTSOCK, "transport", "is closed")


class Transports:
    """The transports of a device by number; those that a listener brings are met here first."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._known: dict[int, Transport] = {}
        self._attached: dict[bytes, Transport] = {}  # by SO_COOKIE

    def add(
        self,
        transport_id: int,
        kind: TransportKind,
        *,
        cookie: bytes | None = None,
        accepted: bool = False,
    ) -> Transport:
        """The object for a transport of the engine; if another thread was faster, its."""
        transport = Transport(
            self._backend, transport_id, kind, cookie, self._closed, accepted=accepted
        )
        known = self._known.setdefault(transport_id, transport)
        if cookie is not None:
            known._cookie = cookie
            self._attached[cookie] = known
        return known

    def attach_udp(
        self, sock: socket.socket, *, df: bool, send_buffer: int | None, receive_buffer: int | None
    ) -> Transport:
        """See `Device.attach_udp`."""
        sizes = _buffer_sizes(send_buffer, receive_buffer)
        return self._attach(
            sock, TransportKind.UDP, lambda fd: self._backend.attach_udp(fd, df=df, **sizes)
        )

    def attach_tcp(
        self, sock: socket.socket, *, send_buffer: int | None, receive_buffer: int | None
    ) -> Transport:
        """See `Device.attach_tcp`."""
        sizes = _buffer_sizes(send_buffer, receive_buffer)
        return self._attach(
            sock, TransportKind.TCP, lambda fd: self._backend.attach_tcp(fd, **sizes)
        )

    def listen_tcp(self, sock: socket.socket, **limits: int) -> Transport:
        """See `Device.listen_tcp`."""
        bounds = {name: bounded(name, value, 1, TRIALS_MAX) for name, value in limits.items()}
        return self._attach(
            sock, TransportKind.LISTENER, lambda fd: self._backend.listen_tcp(fd, **bounds)
        )

    def _attach(
        self, sock: socket.socket, kind: TransportKind, attach: Callable[[int], int]
    ) -> Transport:
        fd, cookie = _identify(sock)
        with registry.attaching(cookie) as is_free:
            if not is_free:
                raise refuse(errno.EBUSY, "sock", "is attached to a device already")
            return self.add(attach(fd), kind, cookie=cookie)

    def find(self, transport_id: int) -> Transport | None:
        """None if it was closed, or the device was."""
        known = self._known.get(transport_id)
        if known is not None:
            return known
        try:
            kind = self._backend.transport_info(transport_id).kind
        except DcoError:
            return None
        return self.add(transport_id, kind, accepted=True)

    def numbers(self) -> list[int]:
        """Of those that are open, in the order in which they came."""
        return [number for number, known in list(self._known.items()) if not known.closed]

    def to_hand_over(self) -> list[int]:
        """Those that others can go on with: all but accepted connections without a peer."""
        numbers = []
        for number in self.numbers():
            with contextlib.suppress(DcoError):
                info = self._backend.transport_info(number)
                lonely = info.kind is TransportKind.TCP and not info.peers
                if not (lonely and self._known[number].accepted) and not info.failed:
                    numbers.append(number)
        return numbers

    def holds(self, cookie: bytes) -> bool:
        """Whether one of them is attached to the socket with this SO_COOKIE."""
        transport = self._attached.get(cookie)
        return transport is not None and not transport.closed

    def _closed(self, transport: Transport) -> None:
        if self._known.get(transport.transport_id) is transport:
            del self._known[transport.transport_id]
        cookie = transport._cookie
        if cookie is not None and self._attached.get(cookie) is transport:
            del self._attached[cookie]


def _identify(sock: socket.socket) -> tuple[int, bytes]:
    """(descriptor, what the kernel calls the socket, whatever descriptor it is seen through)."""
    try:
        fd = sock.fileno()
        if fd < 0:
            raise refuse(errno.ENOTSOCK, "sock", "is closed")
        return fd, sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
    except (AttributeError, TypeError):
        raise refuse(errno.ENOTSOCK, "sock", f"must be a socket, not {sock!r}") from None


def _buffer_sizes(send: int | None, receive: int | None) -> dict[str, int]:
    sizes = {"send_buffer": send, "receive_buffer": receive}
    # Bytes; the kernel doubles them, in an int.
    return {
        name: 0 if value is None else bounded(name, value, 1, 0x3FFFFFFF)
        for name, value in sizes.items()
    }
