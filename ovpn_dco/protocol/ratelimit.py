"""Limits by where a packet comes from: a token bucket for each source network.

One limit for all would let a single sender lock everybody out, so there is none; one for each
address would be no limit for who has a network full of them."""

from __future__ import annotations

import errno
from collections import OrderedDict

from ovpn_dco.errors import InvalidArgument
from ovpn_dco.model import Address

from .addresses import pack_host

__all__ = ["PrefixLimiter", "TokenBucket", "source_prefix"]

IPV4_PREFIX = 24
IPV6_PREFIX = 56
_IPV4_MAPPED = bytes(10) + b"\xff\xff"


def source_prefix(address: Address) -> bytes:
    """The network of `address` in a form that can be compared: an IPv4 /24, or an IPv6 /56."""
    packed = pack_host(address[0].partition("%")[0])
    if packed.startswith(_IPV4_MAPPED) and len(packed) > len(_IPV4_MAPPED):
        packed = packed.removeprefix(_IPV4_MAPPED)
    return packed[: (IPV4_PREFIX if len(packed) == 4 else IPV6_PREFIX) // 8]


class TokenBucket:
    """`burst` tokens at first, `rate_per_s` more each second, never more than `burst`."""

    __slots__ = ("_burst", "_rate_per_s", "_tokens", "_updated")

    def __init__(self, *, rate_per_s: float, burst: float, now: float) -> None:
        if rate_per_s < 0 or burst < 1:
            message = "a token bucket holds at least one token and never loses any"
            raise InvalidArgument(errno.EINVAL, message, attribute="burst")
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._updated = now

    def take(self, now: float) -> bool:
        """Take one token at `now` (seconds), if there is one."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def give_back(self, now: float) -> None:
        """Return a token that proved to be well spent."""
        self._refill(now)
        self._tokens = min(self._burst, self._tokens + 1)

    def _refill(self, now: float) -> None:
        # A clock that was put back gives nothing, and starts anew from there.
        elapsed_s = max(0.0, now - self._updated)
        self._tokens = min(self._burst, self._tokens + elapsed_s * self._rate_per_s)
        self._updated = now


class PrefixLimiter:
    """A bucket for each source network, at most `max_prefixes` of them.

    Where there is no room the network that was quiet for longest is forgotten: its bucket had the
    most time to fill, so forgetting it changes least. The defaults are those of
    `connect-freq-initial 100 10`."""

    def __init__(
        self, *, rate_per_s: float = 10, burst: float = 100, max_prefixes: int = 4096
    ) -> None:
        if max_prefixes < 1:
            raise InvalidArgument(errno.EINVAL, "no room at all", attribute="max_prefixes")
        TokenBucket(rate_per_s=rate_per_s, burst=burst, now=0)  # checks the two
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._max_prefixes = max_prefixes
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def allow(self, address: Address, now: float) -> bool:
        """Whether one more packet of this network is within its limit at `now` (seconds)."""
        prefix = source_prefix(address)
        bucket = self._buckets.get(prefix)
        if bucket is None:
            if len(self._buckets) >= self._max_prefixes:
                self._buckets.popitem(last=False)
            bucket = TokenBucket(rate_per_s=self._rate_per_s, burst=self._burst, now=now)
            self._buckets[prefix] = bucket
        self._buckets.move_to_end(prefix)
        return bucket.take(now)

    def give_back(self, address: Address, now: float) -> None:
        """A handshake that began with an allowed packet was completed."""
        bucket = self._buckets.get(source_prefix(address))
        if bucket is not None:
            bucket.give_back(now)
