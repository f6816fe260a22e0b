"""A socket that peers are reached through."""

from __future__ import annotations

import errno
from collections.abc import Callable

from .backend.base import Backend
from .errors import DeviceClosed, NotASocket
from .model import Buffer, TransportInfo
from .validation.arguments import raw_address
from .validation.rules import refuse


class Transport:
    """A UDP socket attached to a device; made by `Device.attach_udp`.

    The device has a descriptor of its own, so closing the caller's socket changes nothing here.
    From the attachment on nobody else may read the socket."""

    def __init__(
        self,
        backend: Backend,
        transport_id: int,
        cookie: bytes,
        on_close: Callable[[Transport], None],
    ) -> None:
        self._backend = backend
        self._id = transport_id
        self._cookie = cookie
        self._on_close = on_close
        self._closed = False

    def __repr__(self) -> str:
        return f"<Transport {self._id}{' closed' if self.closed else ''}>"

    @property
    def transport_id(self) -> int:
        """The engine's number for it; a later transport may get it again."""
        return self._id

    @property
    def closed(self) -> bool:
        """True after `close` or `detach`, and when the device is closed."""
        return self._closed or self._backend.closed

    def holds(self, cookie: bytes) -> bool:
        """Whether it is attached to the socket with this SO_COOKIE."""
        return self._cookie == cookie and not self.closed

    def belongs_to(self, backend: Backend) -> bool:
        """Whether it is a transport of the device with this back end."""
        return self._backend is backend

    def info(self) -> TransportInfo:
        """Local address, buffer sizes and offloads in effect, counters.

        Raises NotASocket when closed, DeviceClosed when the device is."""
        self._require_open()
        return self._backend.transport_info(self._id)

    def send_control(self, data: Buffer, remote: object, local: object = None) -> None:
        """Sends one datagram as it is, from the attached socket, without waiting.

        `remote` is a socket address, `local` the source address (both as in a `ControlPacket`;
        None: the kernel's choice). Raises MessageTooBig, TryAgain when the socket buffer is full,
        NotASocket when closed, and DcoError with the errno of the send."""
        self._require_open()
        try:
            packed = memoryview(data).cast("B")
        except TypeError:
            raise refuse(errno.EINVAL, "data", "must be a contiguous buffer of bytes") from None
        to = raw_address("remote", remote)
        if to is None or to.port == 0:
            raise refuse(errno.EINVAL, "remote", "is needed on a UDP transport, with its port")
        self._backend.send_control(self._id, packed, to, raw_address("local", local))

    def detach(self) -> None:
        """Gives the socket back: its options are restored, and its peers are deleted.

        They go with reason TRANSPORT_DISCONNECT. Idempotent."""
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
