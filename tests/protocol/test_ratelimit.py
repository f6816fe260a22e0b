"""Token buckets: by source network, with bounded memory, whatever the clock does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.errors import InvalidArgument
from ovpn_dco.model import Address
from ovpn_dco.protocol.ratelimit import PrefixLimiter, TokenBucket, source_prefix


def allowed(limiter: PrefixLimiter, address: Address, now: float, tries: int = 100) -> int:
    return sum(limiter.allow(address, now) for _ in range(tries))


def test_bucket_fills_at_its_rate_up_to_its_burst() -> None:
    bucket = TokenBucket(rate_per_s=2, burst=3, now=0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5), bucket.take(0.6)] == [True, False]
    assert sum(bucket.take(1000) for _ in range(10)) == 3


def test_tokens_can_be_given_back_up_to_the_burst() -> None:
    bucket = TokenBucket(rate_per_s=0, burst=1, now=0)
    assert bucket.take(0)
    bucket.give_back(0)
    bucket.give_back(0)
    assert [bucket.take(0), bucket.take(0)] == [True, False]


def test_clock_put_back_gives_nothing() -> None:
    bucket = TokenBucket(rate_per_s=1, burst=2, now=1000)
    assert bucket.take(1000)
    assert bucket.take(10)
    assert not bucket.take(10)
    assert bucket.take(11)


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60))
def test_never_more_than_burst_and_rate(steps: list[tuple[float, bool]]) -> None:
    bucket = TokenBucket(rate_per_s=3, burst=5, now=0)
    now, taken = 0.0, 0
    for pause, _ in steps:
        now += pause
        taken += bucket.take(now)
        assert taken <= 5 + 3 * now + 1e-6


@pytest.mark.parametrize(("rate", "burst"), [(-1, 1), (1, 0), (1, 0.5)])
def test_impossible_buckets(rate: float, burst: float) -> None:
    with pytest.raises(InvalidArgument):
        TokenBucket(rate_per_s=rate, burst=burst, now=0)
    with pytest.raises(InvalidArgument):
        PrefixLimiter(rate_per_s=rate, burst=burst)


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        (("192.0.2.1", 1), "c00002"),
        (("192.0.2.255", 9), "c00002"),
        (("::ffff:192.0.2.77", 1, 0, 0), "c00002"),
        (("2001:db8:1:2ff::1", 1, 0, 0), "20010db8000102"),
        (("2001:db8:1:200:ffff::", 1, 5, 0), "20010db8000102"),
        (("fe80::1%eth0", 1, 0, 2), "fe800000000000"),
    ],
)
def test_prefix(address: Address, prefix: str) -> None:
    assert source_prefix(address).hex() == prefix


def test_neighbours_share_a_bucket_and_others_do_not() -> None:
    limiter = PrefixLimiter(rate_per_s=1, burst=10)
    assert allowed(limiter, ("192.0.2.1", 1), 0) == 10
    assert allowed(limiter, ("192.0.2.200", 2), 0) == 0
    assert allowed(limiter, ("192.0.3.1", 1), 0) == 10
    assert allowed(limiter, ("2001:db8::1", 1, 0, 0), 0) == 10
    assert allowed(limiter, ("2001:db8:0:ff::1", 1, 0, 0), 0) == 0
    assert allowed(limiter, ("2001:db8:0:100::1", 1, 0, 0), 0) == 10


def test_completed_handshake_gives_one_back() -> None:
    limiter = PrefixLimiter(rate_per_s=0, burst=1)
    assert allowed(limiter, ("192.0.2.1", 1), 0) == 1
    limiter.give_back(("192.0.2.9", 1), 0)
    assert allowed(limiter, ("192.0.2.1", 1), 0) == 1
    limiter.give_back(("203.0.113.1", 1), 0)  # of nobody that is known
    assert len(limiter) == 1


def test_memory_is_bounded_and_the_quiet_are_forgotten_first() -> None:
    limiter = PrefixLimiter(rate_per_s=0, burst=1, max_prefixes=3)
    for last in range(3):
        assert limiter.allow((f"192.0.{last}.1", 1), 0)
    assert not limiter.allow(("192.0.0.1", 1), 0)  # the oldest, heard again
    assert limiter.allow(("192.0.3.1", 1), 0)
    assert len(limiter) == 3
    assert not limiter.allow(("192.0.0.1", 1), 0)
    assert not limiter.allow(("192.0.2.1", 1), 0)
    assert limiter.allow(("192.0.1.1", 1), 0)  # was forgotten
    for third in range(100):
        limiter.allow((f"198.51.{third}.1", 1), 0)
    assert len(limiter) == 3
    with pytest.raises(InvalidArgument):
        PrefixLimiter(max_prefixes=0)
