"""What comes out of a device: packets of the control channel, and events.

Each has a descriptor of its own, which is readable while something waits, so that whoever looks
at one of them neither misses it nor is woken for the other."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from .backend.base import Backend
from .errors import DeviceClosed
from .model import ControlPacket, Event, PeerDeleted, TransportFailed
from .peer import Peers
from .transport import Transports
from .validation.arguments import integer, seconds
from .validation.rules import refuse

BATCH = 256
T = TypeVar("T")


class ControlPort:
    """Everything that is not DATA_V2, and messages of peers. Bounded: what finds no room is
    dropped and counted as CONTROL_FULL."""

    def __init__(self, backend: Backend, transports: Transports) -> None:
        self._backend = backend
        self._transports = transports

    def fileno(self) -> int:
        """Readable while packets wait; the device closes it."""
        return self._backend.control_fileno()

    def receive(self, *, max: int = BATCH) -> list[ControlPacket]:  # noqa: A002
        """Up to `max` packets that are there, without waiting."""
        limit = integer("max", max)
        if limit < 1:
            raise refuse(errno.EINVAL, "max", "must be at least 1")
        return self._backend.receive_control(limit, self._transports.find)

    def packets(self) -> AsyncIterator[ControlPacket]:
        """Packets as they come, through asyncio, until the device is closed."""
        return _stream(self._backend, self.fileno, self.receive)


class EventPort:
    """The events of a device, for threads and for asyncio."""

    def __init__(self, peers: Peers) -> None:
        self._backend = peers.backend
        self._peers = peers
        self._transports = peers.transports

    def poll(self, timeout_s: float | None) -> list[Event]:
        """See `Device.poll_events`."""
        limit = seconds("timeout_s", timeout_s)
        events = self._take()
        if not events and limit != 0 and self._backend.wait(limit):
            events = self._take()
        return events

    def stream(self) -> AsyncIterator[Event]:
        """See `Device.events`."""
        return _stream(self._backend, self._backend.event_fileno, self._take)

    def _take(self) -> list[Event]:
        events = []
        for transport, event in self._backend.poll_events(BATCH):
            if isinstance(event, TransportFailed):
                event = dataclasses.replace(event, transport=self._transports.find(transport))
            elif isinstance(event, PeerDeleted):
                self._peers.deleted((event.peer_id, event.generation))
            events.append(event)
        return events


async def _stream(
    backend: Backend, fileno: Callable[[], int], take: Callable[[], list[T]]
) -> AsyncIterator[T]:
    # A loop takes each descriptor only once, so every stream has a copy.
    copy = os.dup(fileno())
    try:
        while not backend.closed:
            items = take()
            for item in items:
                yield item
            if not items:
                await _readable(copy)
    except DeviceClosed:
        return
    finally:
        os.close(copy)


async def _readable(fd: int) -> None:
    import asyncio  # here, since it is most of what `import ovpn_dco` would cost

    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    # Only while waiting: with nobody to drain it a readable descriptor would spin the loop.
    loop.add_reader(fd, wake)
    try:
        await future
    finally:
        loop.remove_reader(fd)
