"""Replay ids of protected control packets: `id (4) | time (4)`.

The id counts from 1; the time is that of the sender's first packet and stays until the id wraps.
One counter and one window belong to one session and one protection, whatever the key id."""

from __future__ import annotations

import errno
from collections import deque
from typing import NamedTuple

from ovpn_dco.errors import InvalidArgument

from .errors import Refusal, SequenceExhausted, refused

__all__ = ["STAMP_SIZE", "ReplayWindow", "SendCounter", "Stamp"]

STAMP_SIZE = 8
_MAX = 0xFFFFFFFF


class Stamp(NamedTuple):
    """The two numbers in the packet."""

    replay_id: int
    net_time: int

    def encode(self) -> bytes:
        """Eight bytes."""
        return self.replay_id.to_bytes(4, "big") + self.net_time.to_bytes(4, "big")

    @classmethod
    def decode(cls, data: bytes) -> Stamp:
        """From the first eight bytes of `data`."""
        return cls(int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big"))


class SendCounter:
    """Hands out stamps, none twice.

    `last` is the id that counts as used: 1 after a stateless answer, 0x0F000000 where a client of
    tls-crypt-v2 announces that it can answer a cookie."""

    def __init__(self, *, last: int = 0, net_time: int | None = None) -> None:
        if not 0 <= last <= _MAX:
            raise InvalidArgument(errno.EINVAL, "a replay id has 32 bits", attribute="last")
        self._last = last
        self._net_time = net_time

    def next(self, now: float) -> Stamp:
        """The next stamp at Unix time `now` (seconds); `SequenceExhausted` if there is none."""
        if self._net_time is None:
            self._net_time = min(max(int(now), 0), _MAX)
        if self._last == _MAX:
            # The pair must not repeat even if the clock stood still or was put back.
            following = max(int(now), self._net_time + 1)
            if following > _MAX:
                raise SequenceExhausted(errno.EOVERFLOW, "replay ids and times are used up")
            self._net_time, self._last = following, 0
        self._last += 1
        return Stamp(self._last, self._net_time)


class ReplayWindow:
    """Accepts each stamp once, and an id not long after a higher one.

    `size` is how many ids behind the highest are still told apart; `duration_s` how many seconds an
    id may come after a higher one. (`replay-window n t`; the defaults are the protocol's.)"""

    def __init__(self, *, size: int = 64, duration_s: float = 15) -> None:
        if size < 1 or duration_s < 0:
            raise InvalidArgument(errno.EINVAL, "a replay window holds at least one id")
        self._size = size
        self._duration_s = duration_s
        self._net_time = -1
        self._highest = 0
        self._floor = 0
        self._seen = 0  # bit n: highest - n came
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=size)

    def accept(self, stamp: Stamp, now: float) -> None:
        """Take an authentic packet's stamp at `now` (seconds); raises `ReplayedPacket`.

        Only for packets that were authenticated: it moves the window."""
        replay_id, net_time = stamp
        if not replay_id:
            raise refused(Refusal.REPLAY_ID_ZERO)
        if net_time < self._net_time:
            raise refused(Refusal.REPLAY_TIME)
        if net_time > self._net_time:
            self._net_time, self._highest, self._floor, self._seen = net_time, 0, 0, 0
            self._arrivals.clear()
        if replay_id > self._highest:
            self._advance(replay_id, now)
            return
        behind = self._highest - replay_id
        if behind >= self._size:
            raise refused(Refusal.REPLAY_BEHIND)
        if self._seen >> behind & 1:
            raise refused(Refusal.REPLAY_SEEN)
        self._expire(now)
        if replay_id <= self._floor:
            raise refused(Refusal.REPLAY_LATE)
        self._seen |= 1 << behind

    def _advance(self, replay_id: int, now: float) -> None:
        step = min(replay_id - self._highest, self._size)
        self._seen = (self._seen << step | 1) & ((1 << self._size) - 1)
        self._highest = replay_id
        self._arrivals.append((now, replay_id))

    def _expire(self, now: float) -> None:
        while self._arrivals and now - self._arrivals[0][0] > self._duration_s:
            self._floor = self._arrivals.popleft()[1]
