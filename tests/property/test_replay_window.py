"""The replay window against a set of all that was accepted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco import _core

WINDOW = 2048
SILENCE_S = 30
LAST = (1 << 48) - 1  # of the epoch format; the classic one has 32 bits


class Model:
    """The rules without a bitmap: a fresh id is new, near, and not from before a pause."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.newest = 0
        self.floor = 0
        self.last_s: int | None = None

    def accept(self, packet_id: int, now_s: int) -> bool:
        if self.last_s is not None and now_s >= self.last_s + SILENCE_S:
            self.floor = self.newest
        fresh = (
            packet_id > self.floor
            and packet_id > self.newest - WINDOW
            and packet_id not in self.seen
        )
        if fresh:
            self.seen.add(packet_id)
            self.newest = max(self.newest, packet_id)
            self.last_s = now_s
        return fresh


# Steps relative to the newest id: in order, reordered, at the edges of the window, far away.
steps = st.one_of(
    st.just(1),
    st.integers(-70, 70),
    st.integers(-WINDOW - 3, WINDOW + 3),
    st.sampled_from([-WINDOW, 1 - WINDOW, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW]),
    st.integers(-(1 << 20), 1 << 20),
)


@given(
    start=st.one_of(st.integers(0, 5000), st.integers(0, 0xFFFFFFFF), st.integers(0, LAST)),
    moves=st.lists(st.tuples(steps, st.sampled_from([0, 0, 0, 0, 1, 29, 30, 31])), max_size=400),
)
def test_against_a_set(start: int, moves: list[tuple[int, int]]) -> None:
    window, model = _core.ReplayWindow(), Model()
    now_s = 1
    assert window.accept(start, now_s) == model.accept(start, now_s)
    for step, pause_s in moves:
        now_s += pause_s
        packet_id = min(max(model.newest + step, 0), LAST)
        assert window.accept(packet_id, now_s) == model.accept(packet_id, now_s)


@given(st.permutations(range(1, 300)))
def test_each_id_once_in_any_order(order: list[int]) -> None:
    window = _core.ReplayWindow()
    assert all(window.accept(packet_id, 1) for packet_id in order)
    assert not any(window.accept(packet_id, 2) for packet_id in order)
