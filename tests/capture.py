"""Traces as another program's reader finds them."""

from __future__ import annotations

import ipaddress
import os
import struct
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket, InterfaceStatistics


class Packet(NamedTuple):
    """A packet with its comment; `words` are those of the comment that have a value."""

    interface: str
    time_s: float
    direction: str
    point: str
    words: dict[str, str]
    comment: str
    data: bytes
    size: int

    @property
    def drop(self) -> str | None:
        return self.words.get("drop")

    @property
    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Source and destination of IP and UDP, which an outer packet begins with."""
        inet = self.data[0] >> 4 == 4
        start, size = (12, 4) if inet else (8, 16)
        hosts = [str(ipaddress.ip_address(self.data[start + n * size :][:size])) for n in (0, 1)]
        ports = struct.unpack_from("!HH", self.data, start + 2 * size)
        return (hosts[0], ports[0]), (hosts[1], ports[1])

    @property
    def payload(self) -> bytes:
        """Behind these."""
        return self.data[28 if self.data[0] >> 4 == 4 else 48 :]


class Capture(NamedTuple):
    packets: list[Packet]
    received: list[int]
    dropped: list[int]

    def at(self, point: str) -> list[Packet]:
        return [packet for packet in self.packets if packet.point == point]


def _packet(block: Any) -> Packet:
    comment = block.options["opt_comment"]
    words = [word.partition("=") for word in comment.partition("(")[0].split()]
    return Packet(
        interface=block.interface.options["if_name"],
        time_s=float(block.timestamp),
        direction=block.options["epb_flags"].inout,
        point=words[0][0],
        words={name: value for name, found, value in words if found},
        comment=comment,
        data=block.packet_data,
        size=block.packet_len,
    )


def read(path: str | os.PathLike[str]) -> Capture:
    capture = Capture([], [], [])
    with Path(path).open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the library by itself
        for block in FileScanner(file):
            if isinstance(block, EnhancedPacket):
                capture.packets.append(_packet(block))
            elif isinstance(block, InterfaceStatistics):
                capture.received.append(block.options["isb_ifrecv"])
                capture.dropped.append(block.options["isb_ifdrop"])
    return capture
