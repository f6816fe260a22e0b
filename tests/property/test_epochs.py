"""The epochs of a key against models: the receiver by sets, the sender by its rules."""

from __future__ import annotations

import struct
from functools import cache

from epoch_wire import COUNTER_MAX, EPOCH_MAX, EpochWire
from hypothesis import given, settings
from hypothesis import strategies as st
from property.test_replay_window import Model as Window

from ovpn_dco import _core

AES_GCM, KEY_SIZE = 1, 32
HERE, THERE = b"\x01" * 32, b"\x02" * 32


@cache
def wire(secret: bytes) -> EpochWire:
    return EpochWire(secret)


class Receiver:
    """What is held: an epoch with its window, or nothing. `derived` is how far keys reach."""

    def __init__(self, futures: int) -> None:
        self.futures = futures
        self.current = 1
        self.retiring: int | None = None
        self.derived = 1 + futures
        self.windows: dict[int, Window] = {}

    def refill(self) -> None:
        self.derived = max(self.derived, self.current + self.futures)

    def open(self, epoch: int, counter: int, genuine: bool, now_s: int) -> str:
        if epoch < self.current and epoch != self.retiring:
            return "rx_epoch_past"
        if epoch > min(self.current + self.futures, self.derived):
            return "rx_epoch_ahead"
        if not genuine:
            return "rx_decrypt"
        if not self.windows.setdefault(epoch, Window()).accept(counter, now_s):
            return "rx_replay"
        if epoch > self.current:
            self.retiring, self.current = self.current, epoch
        return "opened"


packets = st.tuples(
    # Epoch, relative to the current one: mostly near, at the borders, and absurd.
    st.one_of(st.integers(-3, 3), st.integers(-6, 20), st.sampled_from([-EPOCH_MAX, 0x8000])),
    st.one_of(st.integers(0, 40), st.integers(COUNTER_MAX - 40, COUNTER_MAX)),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([0, 0, 0, 0, 1, 30]),  # seconds since the last
    st.booleans(),  # whether the refill was in time
)


@settings(max_examples=60)
@given(futures=st.integers(1, 16), moves=st.lists(packets, min_size=20, max_size=120))
def test_receiver_against_sets(futures: int, moves: list[tuple[int, int, bool, int, bool]]) -> None:
    ring = _core.EpochKeyring(AES_GCM, KEY_SIZE, HERE, THERE, future_epochs=futures)
    model = Receiver(futures)
    now_s = 1
    for step, counter, genuine, pause_s, refilled in moves:
        now_s += pause_s
        epoch = min(max(model.current + step, 0), EPOCH_MAX)
        # Keys far beyond are slow to come by, and what is refused by its number needs none.
        packet = bytearray(
            wire(THERE).seal(b"payload", epoch=min(epoch, model.current + 17), counter=counter)
        )
        packet[4:6] = struct.pack("!H", epoch)
        if not genuine:
            packet[12 + counter % 23] ^= 1
        expected = model.open(epoch, counter, genuine, now_s)
        outcome, newest = ring.open(bytes(packet), now_s)
        assert (b"payload" if expected == "opened" else expected) == outcome
        assert ring.receive_epoch == model.current
        window = model.windows.get(model.current)
        latest = expected == "opened" and epoch == model.current
        assert newest == (latest and window is not None and window.newest == counter)
        if refilled:
            model.refill()
            ring.refill()


@settings(max_examples=60)
@given(
    limits=st.tuples(st.integers(5, 60), st.integers(5, 60)),
    turns=st.lists(
        st.tuples(st.booleans(), st.integers(0, 64), st.booleans(), st.booleans()),
        min_size=50,
        max_size=300,
    ),
)
def test_two_senders_and_the_rules(
    limits: tuple[int, int], turns: list[tuple[bool, int, bool, bool]]
) -> None:
    """No id twice, no epoch beyond its limit, at most one epoch ahead of what the peer has shown,
    never back; and whatever arrives is opened."""
    rings = [
        _core.EpochKeyring(AES_GCM, KEY_SIZE, HERE, THERE),
        _core.EpochKeyring(AES_GCM, KEY_SIZE, THERE, HERE),
    ]
    for ring, limit in zip(rings, limits, strict=True):
        ring.limit(usage=limit)
    ids: list[set[bytes]] = [set(), set()]
    used: list[dict[int, int]] = [{}, {}]
    last = [0, 0]
    for who, size, arrives, refilled in turns:
        near, far = rings[who], rings[not who]
        packet, news = near.seal(bytes(size))
        if packet is None:
            assert "soon" not in news
        else:
            epoch = int.from_bytes(packet[4:6], "big")
            assert packet[4:12] not in ids[who]
            ids[who].add(packet[4:12])
            assert max(last[who], 1) <= epoch <= max(near.receive_epoch + 1, last[who])
            last[who] = epoch
            used[who][epoch] = used[who].get(epoch, 0) + (size + 15) // 16 + 1
            assert used[who][epoch] <= limits[who]
            if arrives:
                outcome, newest = far.open(packet)
                assert (outcome, newest) == (bytes(size), True)
        if refilled:
            for ring in rings:
                ring.refill()
