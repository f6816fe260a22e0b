"""Tells when links or routes of the system change, whoever changes them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import error_for

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RouteWatch"]

# linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_ROUTE and RTMGRP_IPV6_ROUTE
_GROUPS = 0x1 | 0x40 | 0x400
_NETLINK_ROUTE = 0


class RouteWatch:
    """Watches the namespace of the calling thread, on the running loop, while the context lasts.

    `DcoError` for a system that does not tell."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            self._sock = socket.socket(socket.AF_NETLINK, kind, _NETLINK_ROUTE)
        except OSError as error:
            raise error_for(error.errno or 0, f"routes cannot be watched: {error}") from None
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def __enter__(self) -> Self:
        self._sock.bind((0, _GROUPS))
        self._loop.add_reader(self._sock.fileno(), self._readable)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    async def changed(self) -> None:
        """Waits for a change since the last call, or since the beginning."""
        await self._event.wait()
        self._event.clear()

    def _readable(self) -> None:
        # What it was does not matter, and neither does ENOBUFS: so much has changed.
        with contextlib.suppress(OSError):
            while self._sock.recv(65536):
                pass
        self._event.set()
