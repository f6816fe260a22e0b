"""MSS clamp, fragments and ICMP errors against models that share nothing with the codec."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from codec_packets import TCP, UDP, Flow, is_valid, ones_sum
from hypothesis import example, given
from hypothesis import strategies as st

from ovpn_dco import _core

SYN, ACK = 0x02, 0x10
TOO_BIG, NO_ROUTE, UNREACHABLE, PROHIBITED = range(4)

versions = st.sampled_from([4, 6])
option = st.one_of(
    st.just(b"\x01"),
    st.builds(lambda mss: b"\x02\x04" + struct.pack("!H", mss), st.integers(0, 0xFFFF)),
    st.builds(
        lambda kind, body: bytes([kind, len(body) + 2]) + body,
        st.integers(3, 255),
        st.binary(max_size=8),
    ),
    st.binary(min_size=1, max_size=3),
)
option_lists = st.lists(option, max_size=12).map(
    lambda items: b"".join(items)[:40].ljust(-(-min(40, len(b"".join(items))) // 4) * 4, b"\0")
)


def mss_places(options: bytes) -> list[int]:
    """Where values of MSS options are, as RFC 9293 has them read."""
    places, at = [], 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        if at + 1 == len(options) or not 2 <= options[at + 1] <= len(options) - at:
            break
        if options[at] == 2 and options[at + 1] == 4:
            places.append(at + 2)
        at += options[at + 1]
    return places


@given(
    version=versions,
    options=option_lists,
    flags=st.integers(0, 255),
    limit=st.integers(0, 70000),
    payload=st.binary(max_size=40),
)
@example(version=4, options=b"\x02\x04\xff\xff", flags=SYN, limit=1400, payload=b"")
@example(version=4, options=b"\x08\x01\x02\x04\xff\xff\0\0", flags=SYN, limit=1400, payload=b"")
def test_the_clamp_is_the_models(
    version: int, options: bytes, flags: int, limit: int, payload: bytes
) -> None:
    flow = Flow(version, TCP, options=options)
    packet = flow.packet(payload, flags=flags)
    mss = limit - flow.transport - 20
    lowered = bytearray(options)
    for place in mss_places(options) if flags & SYN and mss > 0 else []:
        if struct.unpack_from("!H", options, place)[0] > mss:
            struct.pack_into("!H", lowered, place, mss)
    expected = Flow(version, TCP, options=bytes(lowered)).packet(payload, flags=flags)
    clamped = _core.clamp_mss(packet, limit)
    assert is_valid(clamped)
    at = flow.transport + 16  # zero and all ones are the same sum
    assert clamped[:at] + clamped[at + 2 :] == expected[:at] + expected[at + 2 :]


@given(packet=st.binary(max_size=120), limit=st.integers(0, 1500))
def test_anything_may_be_clamped(packet: bytes, limit: int) -> None:
    assert len(_core.clamp_mss(packet, limit)) == len(packet)


def reassembled(pieces: list[bytes]) -> bytes:
    """What a receiver makes of fragments in any order."""
    parts: dict[int, bytes] = {}
    for piece in pieces:
        header = (piece[0] & 15) * 4
        assert ones_sum(piece[:header]) == 0xFFFF
        assert struct.unpack_from("!H", piece, 2)[0] == len(piece)
        parts[(struct.unpack_from("!H", piece, 6)[0] & 0x1FFF) * 8] = piece[header:]
    whole = b""
    for offset in sorted(parts):
        assert offset == len(whole)
        whole += parts[offset]
    return whole


@given(payload=st.binary(max_size=5000), mtu=st.integers(28, 1600), ident=st.integers(0, 0xFFFF))
def test_fragments_make_the_packet_again(payload: bytes, mtu: int, ident: int) -> None:
    packet = Flow(4, UDP, df=False).packet(payload, ident=ident)
    pieces = _core.fragment(packet, mtu)
    assert pieces is not None
    assert all(len(piece) <= mtu for piece in pieces)
    assert (len(pieces) == 1) == (len(packet) <= mtu)
    assert reassembled(pieces[::-1]) == packet[20:]
    assert [bool(piece[6] & 0x20) for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    again = [small for piece in pieces for small in _core.fragment(piece, max(28, mtu // 2)) or ()]
    assert reassembled(again) == packet[20:]
    assert _core.fragment(Flow(4, UDP).packet(payload), mtu) is None


@given(
    error=st.sampled_from([TOO_BIG, NO_ROUTE, UNREACHABLE, PROHIBITED]),
    size=st.integers(0, 3000),
    mtu=st.integers(0, 3000),
)
def test_errors_quote_what_they_are_about(error: int, size: int, mtu: int) -> None:
    packet = Flow(4, UDP).packet(bytes(size))
    answer = _core.icmp_error(packet, error, mtu)
    header, quoted = answer[:28], answer[28:]
    assert header[20:22] == {
        TOO_BIG: b"\x03\x04",
        NO_ROUTE: b"\x03\x00",
        UNREACHABLE: b"\x03\x01",
        PROHIBITED: b"\x03\x0d",
    }.get(error)
    assert quoted == packet[: 576 - 28]
    assert ones_sum(answer[:20]) == ones_sum(answer[20:]) == 0xFFFF
    assert header[12:20] == packet[16:20] + packet[12:16]
    assert header[26:28] == (struct.pack("!H", max(68, mtu)) if error == TOO_BIG else b"\0\0")
    assert _core.icmp_error(answer, error, mtu) == b""


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255"])
@pytest.mark.parametrize("at", [12, 16], ids=["source", "destination"])
def test_nobody_in_particular_gets_no_error(address: str, at: int) -> None:
    packet = bytearray(Flow(4, UDP).packet(b"x"))
    packet[at : at + 4] = ipaddress.ip_address(address).packed
    assert _core.icmp_error(bytes(packet), UNREACHABLE) == b""


def test_later_fragments_get_no_error() -> None:
    first, *later = _core.fragment(Flow(4, UDP, df=False).packet(bytes(3000)), 1000) or ()
    assert _core.icmp_error(first, UNREACHABLE)
    assert later
    assert not any(_core.icmp_error(piece, UNREACHABLE) for piece in later)


@given(packet=st.binary(max_size=100), error=st.integers(0, 3))
def test_anything_may_be_complained_about(packet: bytes, error: int) -> None:
    answer = _core.icmp_error(packet, error)
    assert answer == b"" or answer[0] in {0x45, 0x60}
