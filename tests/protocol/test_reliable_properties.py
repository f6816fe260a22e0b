"""The reliable layer against an ideal queue, over links of every kind of badness."""

from __future__ import annotations

import random
from functools import partial

from control_packets import attempt
from hypothesis import given, settings
from hypothesis import strategies as st
from lossy_link import LossyLink

from ovpn_dco.protocol.errors import Refusal
from ovpn_dco.protocol.reliable import Outgoing, Receipt, ReliableLayer

CONTROL = 4
MAX_SIZE = 120


class End:
    """A layer with what it has to say, and what it heard: the ideal queue is `to_say`."""

    def __init__(self, seed: int, count: int) -> None:
        drawn = random.Random(seed)
        self.layer = ReliableLayer(max_size=MAX_SIZE)
        self.to_say = [drawn.randbytes(drawn.randrange(80)) for _ in range(count)]
        self.said = 0
        self.heard: list[bytes] = []

    def fill(self) -> None:
        while self.said < len(self.to_say) and self.layer.room:
            assert self.layer.send(self.to_say[self.said], CONTROL) == self.said
            self.said += 1

    def take(self, packet: Outgoing) -> None:
        self.layer.receive(
            opcode=packet.opcode,
            message_id=packet.message_id,
            acks=packet.acks,
            payload=packet.payload,
        )
        while (message := self.layer.deliver()) is not None:
            self.heard.append(message.payload)

    @property
    def done(self) -> bool:
        return self.said == len(self.to_say) and not self.layer.unacknowledged


def check(packet: Outgoing) -> None:
    alone = packet.message_id is None
    assert len(packet.acks) <= 8
    assert len(set(packet.acks)) == len(packet.acks)
    assert not alone or (packet.acks and not packet.payload)
    head = 1 + 4 * len(packet.acks) + (8 if packet.acks else 0) + (0 if alone else 4)
    assert head + len(packet.payload) <= MAX_SIZE


def run(one: End, two: End, there: LossyLink[Outgoing], back: LossyLink[Outgoing]) -> float:
    """Until both have said and heard all; the time it took."""
    now = 0.0
    for _ in range(20_000):
        for end, link in ((one, there), (two, back)):
            end.fill()
            for packet in end.layer.packets_to_send(now):
                check(packet)
                link.send(packet, now)
        if one.done and two.done:
            return now
        times = [one.layer.next_timeout(), two.layer.next_timeout()]
        times += [there.next_arrival(), back.next_arrival()]
        now = max(now, min(time for time in times if time is not None))
        for end, other, link in ((two, one, there), (one, two, back)):
            for packet in link.arrivals(now):
                end.take(packet)
                assert end.heard == other.to_say[: len(end.heard)]
    raise AssertionError("never came to an end")


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 32),
    counts=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    loss=st.sampled_from([0.0, 0.1, 0.3, 0.6]),
    doubling=st.sampled_from([0.0, 0.3]),
    jitter_s=st.sampled_from([0.0, 0.2, 5.0]),
)
def test_everything_arrives_once_and_in_order(
    seed: int, counts: tuple[int, int], loss: float, doubling: float, jitter_s: float
) -> None:
    drawn = random.Random(seed)
    one, two = End(seed, counts[0]), End(seed + 1, counts[1])
    links = [LossyLink[Outgoing](drawn, loss, doubling, jitter_s=jitter_s) for _ in range(2)]
    run(one, two, *links)
    assert two.heard == one.to_say
    assert one.heard == two.to_say


def test_links_are_as_bad_as_they_claim() -> None:
    drawn = random.Random(7)
    one, two = End(1, 40), End(2, 40)
    links = [LossyLink[Outgoing](drawn, 0.3, 0.3, jitter_s=5.0) for _ in range(2)]
    took = run(one, two, *links)
    assert min(link.lost for link in links) > 5
    assert min(link.doubled for link in links) > 5
    assert took > 5


def test_a_good_link_carries_nothing_twice() -> None:
    drawn = random.Random(7)
    one, two = End(1, 40), End(2, 0)
    there, back = (LossyLink[Outgoing](drawn) for _ in range(2))
    sent: list[int | None] = []
    send = there.send
    there.send = lambda packet, now: (sent.append(packet.message_id), send(packet, now))[1]  # type: ignore[method-assign]
    took = run(one, two, there, back)
    assert sent == list(range(40))
    # A window of six for each round trip of 0.1 s.
    assert took < 0.1 * 8


packets = st.tuples(
    st.one_of(st.none(), st.integers(0, 30), st.integers(0, 0xFFFFFFFF)),
    st.lists(st.one_of(st.integers(0, 12), st.integers(0, 0xFFFFFFFF)), max_size=8),
    st.binary(max_size=5),
    st.booleans(),
)


@given(st.lists(packets, max_size=80))
def test_receiver_against_a_set(
    steps: list[tuple[int | None, list[int], bytes, bool]],
) -> None:
    """Anything from the wire is stored or refused; what is stored is acknowledged."""
    layer = ReliableLayer()
    stored: dict[int, bytes] = {}
    unsent: set[int] = set()
    reached = 0
    for message_id, acks, payload, deliver in steps:
        packet = {"opcode": CONTROL, "message_id": message_id, "acks": acks, "payload": payload}
        receipt = attempt(partial(layer.receive, **packet))
        if message_id is None:
            assert receipt is Receipt.ACKS_ONLY
        elif message_id >= reached + 12:
            assert receipt is Refusal.MESSAGE_ID_AHEAD
        else:
            new = message_id >= reached and message_id not in stored
            assert receipt is (Receipt.STORED if new else Receipt.DUPLICATE)
            stored.setdefault(message_id, payload)
            if len(unsent) < 24:
                unsent.add(message_id)
        if deliver:
            while (message := layer.deliver()) is not None:
                assert (message.message_id, message.payload) == (reached, stored[reached])
                reached += 1
            sent = [one for packet in layer.packets_to_send(0) for one in packet.acks]
            assert unsent <= set(sent) <= set(stored)
            unsent.clear()
        assert layer.pending_acks <= 24
