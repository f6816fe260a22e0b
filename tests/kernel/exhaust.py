"""Host side of the recording of a key that ran out: nobody can wait for 2^32 packets.

    tools/kernel-guest/run -r MEMORY ... | python tests/kernel/exhaust.py MEMORY

passes the guest's output on. At a line `@@EXHAUST TAILS SENT` it looks for the key with these two
nonce tails in the guest's memory, and sets its packet counter to the last id. The counter is known
by its value, and by its place: it begins a cache line of its own behind the tails, after the replay
window of 2048 bits."""

from __future__ import annotations

import mmap
import re
import struct
import sys
from collections.abc import Iterator

LINE = 64
WINDOW = 2048 // 8
SLOT = 1536
LATER = 40  # packets that may have been sent since the line was printed


def counters(memory: mmap.mmap, tails: bytes, sent: int) -> Iterator[int]:
    at = memory.find(tails)
    while at >= 0:
        start = at - at % LINE
        for place in range(start + WINDOW + LINE, start + SLOT, LINE):
            if sent <= struct.unpack_from("<I", memory, place)[0] <= sent + LATER:
                yield place
                break
        at = memory.find(tails, at + 1)


def main(path: str) -> None:
    for line in sys.stdin:
        print(line, end="", flush=True)
        found = re.match(r"@@EXHAUST (\w+) (\d+)", line)
        if found:
            with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
                for place in list(counters(memory, bytes.fromhex(found[1]), int(found[2]))):
                    struct.pack_into("<I", memory, place, 0xFFFFFFFF)


if __name__ == "__main__":
    main(sys.argv[1])
