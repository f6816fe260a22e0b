"""A search of the memory of this process for a secret of which only the inverse is known."""

from __future__ import annotations

import ctypes
import io
import mmap
import os
from pathlib import Path


def occurrences(inverse: bytes) -> int:
    """How often the bytes with this inverse are in writable memory of the process."""
    count, size = 0, len(inverse)
    with open("/proc/self/mem", "rb", buffering=0) as memory, mmap.mmap(-1, 1 << 20) as window:
        here = _address(window)
        for start, end in writable_regions():
            for at in range(start, end, len(window) - size):
                if here - len(window) < at < here + len(window):
                    continue  # the window itself
                count += _occurrences_at(memory, at, min(end - at, len(window)), window, inverse)
    return count


def _address(window: mmap.mmap) -> int:
    first = ctypes.c_char.from_buffer(window)  # holds on to the map: not to be kept
    return ctypes.addressof(first)


def _occurrences_at(
    memory: io.FileIO, at: int, size: int, window: mmap.mmap, inverse: bytes
) -> int:
    head = bytes(byte ^ 0xFF for byte in inverse[:4])
    try:
        got = os.preadv(memory.fileno(), [memoryview(window)[:size]], at)
    except OSError:
        return 0  # a guard page, or gone by now
    count, found = 0, window.find(head, 0, got)
    while found >= 0:
        rest = window[found + 4 : found + len(inverse)]
        count += bytes(byte ^ 0xFF for byte in rest) == inverse[4:]
        found = window.find(head, found + 1, got)
    return count


def writable_regions() -> list[tuple[int, int]]:
    regions = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode, *_ = line.split()
        if mode.startswith("rw") and "p" in mode:
            start, end = (int(text, 16) for text in span.split("-"))
            regions.append((start, end))
    return regions
