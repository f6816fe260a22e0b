"""Between a device and an asyncio loop: control packets and events in, time, and packets out.

One descriptor tells of both packets and events; they are handed over in the order in which they
happened, a batch at a time, so that a flood does not keep the loop from everything else."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ..device import Device
from ..errors import DcoError, DeviceClosed, TryAgain
from ..model import Address, ControlPacket, ControlTransport, Event

__all__ = ["ControlDriver", "ControlHandler"]

BATCH = 64
RETRY_S = 1.0
"""When to go on after a mistake that has interrupted a `flush`."""

logger = logging.getLogger("ovpn_dco.runtime")


class ControlHandler(Protocol):
    """What a driver drives. `now` is Unix time in seconds, which does not jump."""

    def receive_packet(self, packet: ControlPacket, now: float) -> None:
        """A packet of the control channel, or a message of a peer."""

    def receive_event(self, event: Event, now: float) -> None:
        """Something happened in the device."""

    def handle_timeout(self, now: float) -> None:
        """The time that `next_timeout` gave has come."""

    def flush(self, now: float) -> None:
        """After each batch, timeout and `wake`: act on events, send what must leave."""

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due; None: never."""


class ControlDriver:
    """Drives `handler` with what comes out of `device`, on the running loop, until `close`."""

    def __init__(self, device: Device, handler: ControlHandler, clock: Callable[[], float]) -> None:
        self._device = device
        self._handler = handler
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        # A loop takes each descriptor only once, so every driver has a copy.
        self._fd = os.dup(device.fileno())
        self._timer: asyncio.TimerHandle | None = None
        self._waking: asyncio.Handle | None = None
        self.send_failures: Counter[str] = Counter()
        """Packets that the socket refused, by the name of the error class."""
        self._loop.add_reader(self._fd, self._readable)

    def close(self) -> None:
        """Lets go of the loop. Idempotent."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        for handle in (self._timer, self._waking):
            if handle is not None:
                handle.cancel()
        self._timer = self._waking = None

    def wake(self) -> None:
        """Something was done to the handler from outside: flush soon."""
        if self._fd >= 0 and self._waking is None:
            self._waking = self._loop.call_soon(self._woken)

    def send(
        self,
        transport: ControlTransport,
        data: bytes,
        remote: Address | None = None,
        local: Address | None = None,
    ) -> None:
        """Sends one packet, or counts why not: the control channel repeats what is lost."""
        try:
            transport.send_control(data, remote, local)
        except TryAgain:
            self.send_failures["TryAgain"] += 1
        except DcoError as error:
            self.send_failures[type(error).__name__] += 1
            logger.debug("control packet to %s: %s", remote, error)

    # Steps

    def _readable(self) -> None:
        now = self._clock()
        try:
            items: list[ControlPacket | Event] = [
                *self._device.control.receive(max=BATCH),
                *self._device.poll_events(),
            ]
        except DeviceClosed:
            self.close()
            return
        items.sort(key=lambda item: item.sequence)
        for item in items:
            self._guarded(partial(self._hand_over, item, now))
        self._settle()

    def _hand_over(self, item: ControlPacket | Event, now: float) -> None:
        if isinstance(item, Event):
            self._handler.receive_event(item, now)
        else:
            self._handler.receive_packet(item, now)

    def _woken(self) -> None:
        self._waking = None
        self._settle()

    def _expired(self) -> None:
        self._timer = None
        self._guarded(lambda: self._handler.handle_timeout(self._clock()))
        self._settle()

    def _settle(self) -> None:
        went_well = self._guarded(lambda: self._handler.flush(self._clock()))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_s = self._handler.next_timeout()
        if not went_well:
            retry_s = self._clock() + RETRY_S
            due_s = retry_s if due_s is None else min(due_s, retry_s)
        if due_s is not None and self._fd >= 0:
            delay_s = max(0.0, due_s - self._clock())
            self._timer = self._loop.call_later(delay_s, self._expired)

    @staticmethod
    def _guarded(step: Callable[[], None]) -> bool:
        """A mistake in the handling of one packet must not end the service for all peers."""
        try:
            step()
        except Exception:
            logger.exception("unexpected error; what caused it was dropped")
            return False
        return True
