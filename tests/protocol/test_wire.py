"""Packets without protection: their format, byte for byte, and all that it refuses."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from control_packets import (
    CLIENT_SID,
    SERVER_SID,
    attempt,
    client_reset,
    control,
    control_packets,
    seeded,
    server_reset,
)
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.errors import InvalidArgument
from ovpn_dco.protocol import errors
from ovpn_dco.protocol.errors import ProtocolError, Refusal, refused
from ovpn_dco.protocol.wire import (
    HEADER_SIZE,
    MAX_CONTROL_PACKET,
    ControlPacket,
    Opcode,
    decode_body,
    decode_header,
    draw_session_id,
    encode_body,
    encode_header,
    first_byte,
    split_first_byte,
)


def encode(packet: ControlPacket) -> bytes:
    return encode_header(packet) + encode_body(packet)


def decode(data: bytes) -> ControlPacket:
    return decode_body(decode_header(data), data[HEADER_SIZE:])


def refusal(data: bytes) -> Refusal:
    with pytest.raises(ProtocolError) as caught:
        decode(data)
    return caught.value.reason


@pytest.mark.parametrize(
    ("opcode", "byte"),
    [
        (Opcode.SOFT_RESET_V1, 0x18),
        (Opcode.CONTROL_V1, 0x20),
        (Opcode.ACK_V1, 0x28),
        (Opcode.DATA_V1, 0x30),
        (Opcode.HARD_RESET_CLIENT_V2, 0x38),
        (Opcode.HARD_RESET_SERVER_V2, 0x40),
        (Opcode.DATA_V2, 0x48),
        (Opcode.HARD_RESET_CLIENT_V3, 0x50),
        (Opcode.CONTROL_WKC_V1, 0x58),
    ],
)
def test_first_byte(opcode: Opcode, byte: int) -> None:
    for key_id in range(8):
        assert first_byte(opcode, key_id) == byte | key_id
        assert split_first_byte(byte | key_id) == (opcode, key_id)


@pytest.mark.parametrize("key_id", [-1, 8])
def test_key_id_has_three_bits(key_id: int) -> None:
    with pytest.raises(InvalidArgument):
        first_byte(Opcode.CONTROL_V1, key_id)


def test_opcodes_by_kind() -> None:
    control_opcodes = {3, 4, 5, 7, 8, 10, 11}
    assert {opcode for opcode in Opcode if opcode.is_control} == control_opcodes
    assert {opcode for opcode in Opcode if opcode.has_message_id} == control_opcodes - {5}
    assert {opcode for opcode in Opcode if opcode.is_hard_reset} == {7, 8, 10}
    assert {opcode for opcode in Opcode if opcode.is_client_reset} == {7, 10}
    assert {opcode for opcode in Opcode if opcode.has_client_key} == {10, 11}
    assert {opcode for opcode in Opcode if opcode.is_data} == {6, 9}


@pytest.mark.parametrize(
    ("packet", "data"),
    [
        (client_reset(), f"38{CLIENT_SID.hex()}0000000000"),
        (server_reset(), f"40{SERVER_SID.hex()}0100000000{CLIENT_SID.hex()}00000000"),
        (
            ControlPacket(Opcode.ACK_V1, 2, CLIENT_SID, (7, 0xFFFFFFFF), SERVER_SID),
            f"2a{CLIENT_SID.hex()}0200000007ffffffff{SERVER_SID.hex()}",
        ),
        (
            ControlPacket(Opcode.SOFT_RESET_V1, 7, SERVER_SID, message_id=0),
            f"1f{SERVER_SID.hex()}0000000000",
        ),
        (
            control(payload=b"tls"),
            f"20{CLIENT_SID.hex()}0100000000{SERVER_SID.hex()}00000001746c73",
        ),
    ],
)
def test_layout(packet: ControlPacket, data: str) -> None:
    assert encode(packet).hex() == data
    assert decode(bytes.fromhex(data)) == packet


@given(control_packets())
def test_decoding_inverts_encoding(packet: ControlPacket) -> None:
    assert decode(encode(packet)) == packet


@given(st.integers(0, 255), st.binary(max_size=80))
def test_any_bytes_are_a_packet_or_refused(first: int, rest: bytes) -> None:
    data = bytes((first,)) + rest
    outcome = attempt(decode, data)
    assert isinstance(outcome, Refusal) or encode(outcome) == data


SID = CLIENT_SID


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Refusal.EMPTY),
        (b"\x38", Refusal.TOO_SHORT),
        (b"\x38" + SID[:7], Refusal.TOO_SHORT),
        (b"\x38" + SID, Refusal.TOO_SHORT),
        (b"\x08" + SID + bytes(5), Refusal.OBSOLETE_OPCODE),
        (b"\x10" + SID + bytes(5), Refusal.OBSOLETE_OPCODE),
        (b"\x30" + SID + bytes(5), Refusal.DATA_OPCODE),
        (b"\x48" + SID + bytes(5), Refusal.DATA_OPCODE),
        (b"\x00" + SID + bytes(5), Refusal.UNKNOWN_OPCODE),
        (b"\x60" + SID + bytes(5), Refusal.UNKNOWN_OPCODE),
        (b"\xff" + SID + bytes(5), Refusal.UNKNOWN_OPCODE),
        (b"\x38" + bytes(8) + bytes(5), Refusal.SESSION_ID_ZERO),
        (b"\x39" + SID + bytes(5), Refusal.KEY_ID_NOT_ZERO),
        (b"\x59" + SID + bytes(4) + b"\x01", Refusal.KEY_ID_NOT_ZERO),
        (b"\x18" + SID + bytes(5), Refusal.KEY_ID_ZERO),
        (b"\x20" + SID + b"\x09" + bytes(99), Refusal.TOO_MANY_ACKS),
        (b"\x20" + SID + b"\xff" + bytes(9999)[:2000], Refusal.TOO_MANY_ACKS),
        (b"\x20" + SID + b"\x01" + bytes(11), Refusal.ACKS_TRUNCATED),
        (b"\x28" + SID + b"\x01" + bytes(11), Refusal.ACKS_TRUNCATED),
        (b"\x20" + SID + b"\x01" + bytes(15), Refusal.MESSAGE_ID_TRUNCATED),
        (b"\x20" + SID + bytes(4), Refusal.MESSAGE_ID_TRUNCATED),
        (b"\x28" + SID + bytes(2), Refusal.ACK_WITH_PAYLOAD),
        (b"\x38" + SID + bytes(4) + b"\x01", Refusal.RESET_MESSAGE_ID),
        (b"\x58" + SID + bytes(4) + b"\x02", Refusal.CLIENT_KEY_MESSAGE_ID),
        (b"\x20" + SID + bytes(MAX_CONTROL_PACKET), Refusal.OVERSIZED),
    ],
)
def test_refusals(data: bytes, reason: Refusal) -> None:
    assert refusal(data) is reason


def test_largest_packet() -> None:
    data = b"\x20" + SID + bytes(MAX_CONTROL_PACKET - HEADER_SIZE)
    assert len(decode(data).payload) == MAX_CONTROL_PACKET - 14
    assert refusal(data + b"\0") is Refusal.OVERSIZED


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"opcode": Opcode.DATA_V2}, "opcode"),
        ({"key_id": 8}, "key_id"),
        ({"session_id": bytes(8)}, "session_id"),
        ({"session_id": b"short"}, "session_id"),
        ({"acks": tuple(range(9))}, "acks"),
        ({"acks": ()}, "remote_session_id"),
        ({"remote_session_id": None}, "remote_session_id"),
        ({"remote_session_id": b"short"}, "remote_session_id"),
        ({"message_id": None}, "message_id"),
        ({"message_id": 1 << 32}, "message_id"),
        ({"acks": (-1,)}, "message_id"),
        ({"opcode": Opcode.ACK_V1}, "message_id"),
        ({"opcode": Opcode.ACK_V1, "message_id": None}, "payload"),
    ],
)
def test_impossible_packets_cannot_be_made(changes: dict[str, Any], attribute: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        control(**changes)
    assert caught.value.attribute == attribute


def test_session_id_of_zeros_is_drawn_again() -> None:
    draws = iter([bytes(8), SERVER_SID])
    assert draw_session_id(lambda size: next(draws)) == SERVER_SID
    assert draw_session_id(seeded()) != draw_session_id(seeded(1))
    with pytest.raises(InvalidArgument):
        draw_session_id(bytes)


@pytest.mark.parametrize("reason", Refusal)
def test_reasons_have_an_error_a_label_and_a_text(reason: Refusal) -> None:
    error = refused(reason, "detail")
    assert error.reason is reason
    assert error.errno == type(error).number
    assert reason.label.replace("_", "").isalnum()
    assert reason.label == reason.label.lower()
    assert reason.value in str(error)
    assert str(error).count("detail") == 1
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.reason, str(copy)) == (reason, str(error))


def test_reason_decides_the_class() -> None:
    assert type(refused(Refusal.TAG_MISMATCH)) is errors.AuthenticationFailed
    assert type(refused(Refusal.REPLAY_SEEN)) is errors.ReplayedPacket
    assert type(refused(Refusal.COOKIE_MISMATCH)) is errors.ClientRefused
    assert type(refused(Refusal.RATE_LIMITED)) is errors.RateLimited
    assert type(refused(Refusal.TOO_SHORT)) is errors.MalformedPacket


def test_payload_is_not_shown() -> None:
    assert "secret" not in repr(control(payload=b"secret"))
