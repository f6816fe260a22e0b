"""The framing of a TCP stream: any split of it gives the same frames."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco import _core

FRAME_MAX = 2048

packets = st.lists(st.binary(min_size=1, max_size=FRAME_MAX), max_size=12)
cuts = st.lists(st.floats(0, 1), max_size=30)


def framed(items: list[bytes]) -> bytes:
    return b"".join(len(item).to_bytes(2, "big") + item for item in items)


def pieces(stream: bytes, where: list[float]) -> Iterator[bytes]:
    at = sorted({0, len(stream), *(int(part * len(stream)) for part in where)})
    return (stream[start:end] for start, end in itertools.pairwise(at))


def frames_of(chunks: Iterator[bytes], frame_max: int = FRAME_MAX) -> tuple[list[bytes], bytes]:
    """The frames, and what is left, as a reader has them that keeps incomplete ones only."""
    found: list[bytes] = []
    kept = b""
    for chunk in chunks:
        new, taken = _core.tcp_frames(kept + chunk, frame_max=frame_max)
        found += new
        kept = (kept + chunk)[taken:]
        assert len(kept) < frame_max + 2
    return found, kept


@given(items=packets, where=cuts)
def test_any_split_gives_the_same_frames(items: list[bytes], where: list[float]) -> None:
    assert frames_of(pieces(framed(items), where)) == (items, b"")


@given(items=packets, last=st.binary(min_size=1, max_size=FRAME_MAX), where=cuts, part=st.data())
def test_an_incomplete_frame_is_kept(
    items: list[bytes], last: bytes, where: list[float], part: st.DataObject
) -> None:
    start = framed([last])[: part.draw(st.integers(0, len(last) + 1))]
    assert frames_of(pieces(framed(items) + start, where)) == (items, start)


@pytest.mark.parametrize(
    ("length", "error"), [(0, errno.EPROTO), (FRAME_MAX + 1, errno.EMSGSIZE)], ids=["zero", "long"]
)
@given(items=packets, where=cuts, junk=st.binary(max_size=50))
def test_a_length_that_cannot_be_ends_the_stream(
    length: int, error: int, items: list[bytes], where: list[float], junk: bytes
) -> None:
    stream = framed(items) + length.to_bytes(2, "big") + junk
    with pytest.raises(OSError, match=os.strerror(error)) as caught:
        frames_of(pieces(stream, where))
    assert caught.value.errno == error


def test_the_length_is_judged_before_the_frame_is_there() -> None:
    assert _core.tcp_frames(b"\x08", frame_max=FRAME_MAX) == ([], 0)
    assert _core.tcp_frames(b"\x08\x00", frame_max=FRAME_MAX) == ([], 0)
    with pytest.raises(OSError, match=os.strerror(errno.EMSGSIZE)):
        _core.tcp_frames(b"\x08\x01", frame_max=FRAME_MAX)
