"""Replay ids: the sender's counter, and the receiver's window against a model made of a set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.errors import InvalidArgument
from ovpn_dco.protocol.errors import Refusal, ReplayedPacket, SequenceExhausted
from ovpn_dco.protocol.replay import ReplayWindow, SendCounter, Stamp

NOW = 1000.0
LAST = 0xFFFFFFFF


def refusal(window: ReplayWindow, replay_id: int, time: int = 5, now: float = NOW) -> Refusal:
    with pytest.raises(ReplayedPacket) as caught:
        window.accept(Stamp(replay_id, time), now)
    return caught.value.reason


def test_counter_starts_at_one_and_keeps_its_time() -> None:
    counter = SendCounter()
    assert [counter.next(NOW + i) for i in range(3)] == [(1, 1000), (2, 1000), (3, 1000)]


def test_counter_may_start_later() -> None:
    assert SendCounter(last=0x0F000000).next(NOW) == (0x0F000001, 1000)
    assert SendCounter(last=1, net_time=7).next(NOW) == (2, 7)


@pytest.mark.parametrize("now", [0.0, 1000.0, 1000.9, 2000.0])
def test_no_stamp_twice_when_ids_wrap(now: float) -> None:
    counter = SendCounter(last=LAST - 100, net_time=1000)
    stamps = [counter.next(now) for _ in range(300)]
    assert len(set(stamps)) == 300
    assert stamps[99] == (LAST, 1000)
    assert stamps[100] == (1, max(1001, int(now)))
    receiver = ReplayWindow()
    for stamp in stamps:
        receiver.accept(stamp, NOW)


def test_counter_stops_when_time_is_used_up() -> None:
    counter = SendCounter(last=LAST - 1, net_time=LAST)
    assert counter.next(NOW) == (LAST, LAST)
    for _ in range(2):
        with pytest.raises(SequenceExhausted):
            counter.next(NOW)


@pytest.mark.parametrize("now", [-1.0, 2.0**33])
def test_clock_out_of_range_fits_the_field(now: float) -> None:
    stamp = SendCounter().next(now)
    assert Stamp.decode(stamp.encode()) == stamp


@pytest.mark.parametrize("last", [-1, LAST + 1])
def test_counter_of_impossible_start(last: int) -> None:
    with pytest.raises(InvalidArgument):
        SendCounter(last=last)


def test_stamp_layout() -> None:
    assert Stamp(1, 0x5F000000).encode().hex() == "000000015f000000"


def test_window_takes_each_id_once() -> None:
    window = ReplayWindow()
    for replay_id in (1, 3, 2, 70):
        window.accept(Stamp(replay_id, 5), NOW)
        assert refusal(window, replay_id) is Refusal.REPLAY_SEEN
    window.accept(Stamp(7, 5), NOW)
    assert refusal(window, 6) is Refusal.REPLAY_BEHIND
    assert refusal(window, 0) is Refusal.REPLAY_ID_ZERO


def test_later_time_begins_anew_and_earlier_is_refused() -> None:
    window = ReplayWindow()
    window.accept(Stamp(500, 5), NOW)
    assert refusal(window, 501, time=4) is Refusal.REPLAY_TIME
    window.accept(Stamp(1, 6), NOW)
    assert refusal(window, 1, time=6) is Refusal.REPLAY_SEEN
    assert refusal(window, 600, time=5) is Refusal.REPLAY_TIME
    assert refusal(window, 0, time=9) is Refusal.REPLAY_ID_ZERO
    window.accept(Stamp(2, 6), NOW)


def test_id_may_be_late_for_fifteen_seconds() -> None:
    window = ReplayWindow()
    window.accept(Stamp(10, 5), NOW)
    window.accept(Stamp(9, 5), NOW + 15)
    assert refusal(window, 8, now=NOW + 15.1) is Refusal.REPLAY_LATE
    window.accept(Stamp(20, 5), NOW + 20)
    window.accept(Stamp(15, 5), NOW + 30)
    assert refusal(window, 7, now=NOW + 30) is Refusal.REPLAY_LATE


def test_window_has_the_given_size() -> None:
    window = ReplayWindow(size=4, duration_s=0)
    window.accept(Stamp(10, 5), NOW)
    window.accept(Stamp(7, 5), NOW)
    assert refusal(window, 6) is Refusal.REPLAY_BEHIND
    assert refusal(window, 8, now=NOW + 1) is Refusal.REPLAY_LATE
    for options in ({"size": 0}, {"duration_s": -1}):
        with pytest.raises(InvalidArgument):
            ReplayWindow(**options)


@given(
    st.integers(1, 80),
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 2), st.integers(0, 8)),
        max_size=120,
    ),
)
def test_window_against_a_model(size: int, packets: list[tuple[int, int, int]]) -> None:
    """Accepted: not seen, not behind, no higher id older than the duration, time never back."""
    window = ReplayWindow(size=size, duration_s=15)
    accepted: list[tuple[int, float]] = []
    time, now = -1, NOW
    for replay_id, net_time, pause in packets:
        now += pause
        same = accepted if net_time == time else []
        highest = max((seen for seen, _ in same), default=0)
        fits = (
            replay_id > 0
            and net_time >= time
            and replay_id > highest - size
            and all(replay_id != seen for seen, _ in same)
            and not any(seen > replay_id and now - at > 15 for seen, at in same)
        )
        if fits:
            window.accept(Stamp(replay_id, net_time), now)
            accepted, time = [*same, (replay_id, now)], net_time
        else:
            refusal(window, replay_id, net_time, now)
