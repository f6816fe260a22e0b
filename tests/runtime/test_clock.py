"""The clock of sessions, and the one of tests."""

from __future__ import annotations

import time

import pytest

from ovpn_dco.runtime.clock import Clock, SystemClock
from ovpn_dco.testing import FakeClock


def test_system_clock_follows_the_time_since_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    boot_s = 100.0
    monkeypatch.setattr(time, "time", lambda: 5000.0)
    monkeypatch.setattr(
        time, "clock_gettime", lambda kind: boot_s if kind == time.CLOCK_BOOTTIME else 0.0
    )
    clock: Clock = SystemClock()
    assert clock.now() == 5000.0
    monkeypatch.setattr(time, "time", lambda: 1.0)  # somebody sets the wall clock
    assert clock.now() == 5000.0
    boot_s += 7.5
    assert clock.now() == 5007.5


def test_fake_clock_goes_on_when_told() -> None:
    clock = FakeClock(10.0)
    current: Clock = clock
    assert clock.advance(2.5) == 12.5 == current.now()
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="does not go on"):
            clock.advance(seconds)
    assert current.now() == 12.5
