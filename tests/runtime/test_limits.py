"""Limits of files and pushes, as the engine gets them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ovpn_dco.config import DataChannelConfig, KeepaliveConfig
from ovpn_dco.model import Feature, Limit, PeerLimits
from ovpn_dco.protocol.push import parse_options
from ovpn_dco.runtime.limits import describe, limits_of, set_limits, set_shaper

OWN = KeepaliveConfig(session_timeout_s=10, inactive_s=20, inactive_bytes=30)
DATA = DataChannelConfig(renegotiate_bytes=40, renegotiate_packets=50)


class Peer:
    def __init__(self) -> None:
        self.calls: list[dict[str, int]] = []
        self.rates: list[int] = []

    def set_rate_limit(self, *, transmit_bits_per_s: int) -> None:
        self.rates.append(transmit_bits_per_s)

    def set_limits(self, **limits: int) -> None:
        self.calls.append(limits)


def times(session_s: int, inactive_s: int, inactive_bytes: int = 0) -> PeerLimits:
    return PeerLimits(
        inactive_s=inactive_s,
        inactive_bytes=inactive_bytes,
        session_s=session_s,
        renegotiate_bytes=40,
        renegotiate_packets=50,
    )


@pytest.mark.parametrize(
    ("pushed", "expected"),
    [
        ([], times(10, 20, 30)),
        (["session-timeout 99"], times(99, 20, 30)),
        (["session-timeout 0", "inactive 0"], times(0, 0)),
        (["inactive 7"], times(10, 7)),
        (["inactive 7 1000"], times(10, 7, 1000)),
    ],
)
def test_what_is_pushed_counts(pushed: list[str], expected: PeerLimits) -> None:
    assert limits_of(DATA, OWN, parse_options(pushed)) == expected
    assert limits_of(DATA, OWN) == times(10, 20, 30)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (
            times(10, 20, 30),
            {
                "inactive_s": 20,
                "inactive_bytes": 30,
                "session_s": 10,
                "renegotiate_bytes": 40,
                "renegotiate_packets": 50,
            },
        ),
        (PeerLimits(session_s=10, inactive_s=0, inactive_bytes=30), {"session_s": 10}),
    ],
)
def test_what_is_set(limits: PeerLimits, expected: dict[str, int]) -> None:
    peer: Any = Peer()
    set_limits(peer, {Feature.LIMITS}, limits)
    assert peer.calls == [expected]


def test_nothing_is_set() -> None:
    peer: Any = Peer()
    set_limits(peer, {Feature.LIMITS}, PeerLimits(0, 0, None, None, 0, 0, 0))
    assert peer.calls == []


def test_a_back_end_without_them(caplog: pytest.LogCaptureFixture) -> None:
    peer: Any = Peer()
    with caplog.at_level(logging.WARNING):
        set_limits(peer, set(), times(0, 0))
    assert peer.calls == []
    assert "no effect on this back end: renegotiate_bytes, renegotiate_packets" in caplog.text


def test_shaper(caplog: pytest.LogCaptureFixture) -> None:
    peer: Any = Peer()
    set_shaper(peer, {Feature.RATE_LIMIT}, 12_500)
    set_shaper(peer, {Feature.RATE_LIMIT}, 0)
    with caplog.at_level(logging.WARNING):
        set_shaper(peer, set(), 12_500)
    assert peer.rates == [100_000]
    assert "no effect on this back end: shaper" in caplog.text


def test_which_it_was() -> None:
    limits = times(60, 30)
    assert describe(Limit.SESSION, limits) == "the session lasts 60 s at most"
    assert describe(Limit.INACTIVE, limits) == "too little has crossed the tunnel in 30 s"
