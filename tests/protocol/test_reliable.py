"""The rules of the reliable layer, one by one."""

from __future__ import annotations

import itertools
import math

import pytest

from ovpn_dco.errors import InvalidArgument, LimitReached, MessageTooBig
from ovpn_dco.protocol.errors import ProtocolError, Refusal
from ovpn_dco.protocol.reliable import (
    Incoming,
    Outgoing,
    Receipt,
    ReliableLayer,
    ReliableReceiver,
)
from ovpn_dco.protocol.wire import Opcode

CONTROL = Opcode.CONTROL_V1


def filled(count: int, **options: int) -> ReliableLayer:
    layer = ReliableLayer(**options)  # type: ignore[arg-type]
    for number in range(count):
        layer.send(b"%d" % number, CONTROL)
    return layer


def ids(packets: list[Outgoing]) -> list[int | None]:
    return [packet.message_id for packet in packets]


def ack(layer: ReliableLayer, *acks: int) -> Receipt:
    return layer.receive(opcode=Opcode.ACK_V1, message_id=None, acks=acks, payload=b"")


def refusal(layer: ReliableLayer, *ids: int, payload: bytes = b"m") -> Refusal:
    with pytest.raises(ProtocolError) as caught:
        message(layer, *ids, payload=payload)
    return caught.value.reason


def message(layer: ReliableLayer, message_id: int, *acks: int, payload: bytes = b"m") -> Receipt:
    return layer.receive(opcode=CONTROL, message_id=message_id, acks=acks, payload=payload)


# Sending


def test_ids_start_at_zero_or_where_the_cookie_left_off() -> None:
    assert filled(1).packets_to_send(0) == [Outgoing(CONTROL, 0, (), b"0")]
    assert ids(filled(1, first_send_id=1).packets_to_send(0)) == [1]


def test_six_in_flight_counted_from_the_oldest() -> None:
    layer = filled(6)
    assert layer.room == 0
    with pytest.raises(LimitReached):
        layer.send(b"7", CONTROL)
    ack(layer, 1, 2, 3, 4, 5)
    assert (layer.room, layer.unacknowledged, layer.oldest_unacknowledged) == (0, 1, 0)
    ack(layer, 0)
    assert (layer.room, layer.unacknowledged, layer.oldest_unacknowledged) == (6, 0, 6)
    assert layer.send(b"6", CONTROL) == 6


def test_backoff_doubles_up_to_a_limit() -> None:
    layer = filled(1)
    sent_at = []
    now = 0.0
    for _ in range(7):
        assert ids(layer.packets_to_send(now)) == [0]
        assert layer.packets_to_send(now) == []
        sent_at.append(now)
        timeout = layer.next_timeout()
        assert timeout is not None
        assert layer.packets_to_send(timeout - 0.01) == []
        now = timeout
    gaps = [b - a for a, b in itertools.pairwise(sent_at)]
    assert gaps == [2, 4, 4, 4, 4, 4]


def test_timeouts_say_when_something_is_due() -> None:
    layer = ReliableLayer(first_timeout_s=1)
    assert layer.next_timeout() is None
    layer.send(b"", CONTROL)
    assert layer.next_timeout() == -math.inf
    layer.packets_to_send(10)
    assert layer.next_timeout() == 11
    ack(layer, 0)
    assert layer.next_timeout() is None
    message(layer, 0)
    assert layer.next_timeout() == -math.inf


def test_third_later_acknowledgement_sends_again_at_once() -> None:
    layer = filled(6)
    layer.packets_to_send(0)
    ack(layer, 2)
    ack(layer, 3)
    assert layer.packets_to_send(0.1) == []
    ack(layer, 4)
    assert layer.next_timeout() == -math.inf
    assert ids(layer.packets_to_send(0.1)) == [0, 1]
    # Once, and the timeout was not doubled by it.
    assert layer.packets_to_send(0.1) == []
    assert ids(layer.packets_to_send(2.05)) == [5]
    assert ids(layer.packets_to_send(4.1)) == [0, 1]


def test_repeated_acknowledgements_skip_nobody() -> None:
    layer = filled(3)
    layer.packets_to_send(0)
    for _ in range(5):
        ack(layer, 2)
    assert layer.packets_to_send(0.1) == []


def test_acknowledgement_of_what_was_never_sent_is_nothing() -> None:
    layer = filled(1)
    assert ack(layer, 9, 0xFFFFFFFF) is Receipt.ACKS_ONLY
    assert (layer.unacknowledged, layer.next_send_id) == (1, 1)


def test_first_packet_of_the_peer_makes_everything_due() -> None:
    layer = filled(2)
    for now in (0, 2, 6):
        layer.packets_to_send(now)
    layer.make_due()
    assert ids(layer.packets_to_send(6.1)) == [0, 1]
    assert layer.next_timeout() == pytest.approx(8.1)


def test_payload_leaves_room_for_four_acknowledgements() -> None:
    layer = ReliableLayer(max_size=100)
    assert layer.payload_limit == 100 - (1 + 4 * 4 + 8) - 4
    layer.send(bytes(layer.payload_limit), CONTROL)
    with pytest.raises(MessageTooBig):
        layer.send(bytes(layer.payload_limit + 1), CONTROL)
    for number in range(8):
        message(layer, number)
    packets = layer.packets_to_send(0)
    assert [len(packet.acks) for packet in packets] == [4, 8]
    assert packets[1].acks == (7, 6, 5, 4, 3, 2, 1, 0)


def test_reserve_counts_as_payload() -> None:
    layer = ReliableLayer(max_size=100)
    with pytest.raises(MessageTooBig):
        layer.send(bytes(10), CONTROL, reserve=layer.payload_limit - 9)
    layer.send(bytes(10), CONTROL, reserve=layer.payload_limit - 10)
    for number in range(6):
        message(layer, number)
    assert len(layer.packets_to_send(0)[0].acks) == 4


def test_impossible_options_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        ReliableLayer(max_size=29)
    with pytest.raises(InvalidArgument):
        ReliableLayer(ack_slots=9)
    with pytest.raises(InvalidArgument):
        ReliableLayer(first_timeout_s=0)


# Acknowledging


def test_four_ride_on_a_message_and_the_rest_goes_alone() -> None:
    layer = filled(1)
    for number in range(6):
        message(layer, number)
    first, second = layer.packets_to_send(0)
    assert first == Outgoing(CONTROL, 0, (3, 2, 1, 0), b"0")
    assert second == Outgoing(Opcode.ACK_V1, None, (5, 4, 3, 2, 1, 0), b"")
    assert layer.packets_to_send(0) == []


def test_room_is_filled_with_what_was_acknowledged_lately() -> None:
    layer = ReliableLayer()
    for number in range(10):
        message(layer, number)
    layer.packets_to_send(0)
    layer.send(b"", CONTROL)
    # Eight of ten: the latest ones, which the peer may ignore.
    assert layer.packets_to_send(0)[0].acks == (9, 8, 7, 6, 5, 4, 3, 2)


def test_some_servers_bear_four_only() -> None:
    layer = ReliableLayer(ack_slots=4)
    for number in range(10):
        message(layer, number)
    assert [len(packet.acks) for packet in layer.packets_to_send(0)] == [4, 4, 4]


def test_duplicates_are_acknowledged_again() -> None:
    layer = ReliableLayer()
    assert message(layer, 0) is Receipt.STORED
    assert message(layer, 0) is Receipt.DUPLICATE
    assert layer.packets_to_send(0)[0].acks == (0,)
    assert layer.deliver() == Incoming(CONTROL, 0, b"m")
    assert message(layer, 0, payload=b"other") is Receipt.DUPLICATE
    assert layer.packets_to_send(0)[0].acks == (0,)
    assert layer.deliver() is None


def test_acknowledgements_alone_are_not_acknowledged() -> None:
    layer = filled(1)
    layer.packets_to_send(0)
    assert ack(layer, 0) is Receipt.ACKS_ONLY
    assert layer.packets_to_send(100) == []


# Receiving


def test_what_is_stored_twice_keeps_the_first() -> None:
    layer = ReliableLayer()
    message(layer, 1, payload=b"first")
    message(layer, 1, payload=b"second")
    message(layer, 0)
    layer.deliver()
    assert layer.deliver() == Incoming(CONTROL, 1, b"first")


def test_window_is_twelve_and_what_is_beyond_is_not_acknowledged() -> None:
    layer = ReliableLayer()
    assert message(layer, 11) is Receipt.STORED
    assert refusal(layer, 12) is Refusal.MESSAGE_ID_AHEAD
    assert [packet.acks for packet in layer.packets_to_send(0)] == [(11,)]
    message(layer, 0)
    # Stored is not delivered: the window moves with the reader.
    assert refusal(layer, 12) is Refusal.MESSAGE_ID_AHEAD
    assert layer.deliver() is not None
    assert message(layer, 12) is Receipt.STORED


def test_acknowledgements_on_a_refused_message_do_not_count() -> None:
    layer = filled(1)
    assert refusal(layer, 12, 0) is Refusal.MESSAGE_ID_AHEAD
    assert layer.unacknowledged == 1


def test_giant_is_dropped_and_not_acknowledged() -> None:
    layer = ReliableLayer()
    assert refusal(layer, 0, payload=bytes(4097)) is Refusal.OVERSIZED
    assert layer.packets_to_send(0) == []
    assert message(layer, 0, payload=bytes(4096)) is Receipt.STORED


def test_peek_leaves_the_message() -> None:
    layer = ReliableLayer()
    assert layer.peek() is None
    message(layer, 0)
    assert layer.peek() == layer.peek() == layer.deliver()


def test_memory_of_acknowledgements_is_bounded() -> None:
    receiver = ReliableReceiver(first_id=1000)
    for number in range(1000):
        assert receiver.receive(CONTROL, number, b"") is Receipt.DUPLICATE
    assert receiver.pending_acks == 24
