"""What `mssfix` and `mtu-disc` come to."""

from __future__ import annotations

from typing import Any

import pytest

from ovpn_dco.config import MtuConfig
from ovpn_dco.model import Feature, Measure, MssClamp
from ovpn_dco.runtime.path import mss_clamp, path_limit, set_path


class FakePeer:
    def __init__(self, remote: Any = ("192.0.2.1", 1194)) -> None:
        self.remote = remote
        self.clamp: MssClamp | None = None
        self.limit: int | None = None

    def set_mss_clamp(self, size: int, *, measure: Measure) -> None:
        self.clamp = MssClamp(size, measure)

    def set_path_limit(self, mtu: int) -> None:
        self.limit = mtu


@pytest.mark.parametrize(
    ("mtu", "expected"),
    [
        (MtuConfig(), MssClamp(1492, Measure.OUTER)),
        (MtuConfig(tun_mtu=1420), MssClamp(1420, Measure.INNER)),
        (MtuConfig(tun_mtu=100), MssClamp(128, Measure.INNER)),
        (MtuConfig(mssfix=0), MssClamp()),
        (MtuConfig(mssfix=1450), MssClamp(1450, Measure.DATAGRAM)),
        (MtuConfig(mssfix=1400, mssfix_mode="mtu"), MssClamp(1400, Measure.OUTER)),
        (MtuConfig(mssfix=1300, mssfix_mode="fixed", tun_mtu=9000), MssClamp(1300, Measure.INNER)),
        (MtuConfig(mssfix=1), MssClamp(128, Measure.DATAGRAM)),
    ],
)
def test_clamps(mtu: MtuConfig, expected: MssClamp) -> None:
    assert mss_clamp(mtu) == expected


@pytest.mark.parametrize(
    ("clamp", "ipv4", "ipv6"),
    [
        (MssClamp(1400, Measure.OUTER), 1400, 1400),
        (MssClamp(1372, Measure.DATAGRAM), 1400, 1420),
        (MssClamp(1400, Measure.INNER), 0, 0),
        (MssClamp(), 0, 0),
        (MssClamp(128, Measure.OUTER), 576, 576),
    ],
)
def test_limits(clamp: MssClamp, ipv4: int, ipv6: int) -> None:
    assert path_limit(clamp, ipv6=False) == ipv4
    assert path_limit(clamp, ipv6=True) == ipv6


def set_on(peer: FakePeer, features: set[Feature], mtu: MtuConfig, *, df: bool) -> FakePeer:
    set_path(peer, features, mtu, df=df)  # type: ignore[arg-type]
    return peer


def test_a_peer_gets_what_the_engine_can() -> None:
    both = {Feature.MSS_CLAMP, Feature.PATH_MTU}
    peer = set_on(FakePeer(), both, MtuConfig(), df=False)
    assert (peer.clamp, peer.limit) == (MssClamp(1492), None)
    peer = set_on(FakePeer(("2001:db8::1", 1194, 0, 0)), both, MtuConfig(mssfix=1300), df=True)
    assert (peer.clamp, peer.limit) == (MssClamp(1300, Measure.DATAGRAM), 1348)
    peer = set_on(FakePeer(), set(), MtuConfig(mssfix=0), df=False)
    assert (peer.clamp, peer.limit) == (None, None)
    assert set_on(FakePeer(), set(), MtuConfig(), df=False).clamp is None
