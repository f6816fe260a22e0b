"""What the driver was asked and answered, as tests/kernel/record.py wrote it down, and sockets
that play it back."""

from __future__ import annotations

import errno
import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ovpn_dco.netlink import sockets

RECORDED = json.loads(Path(__file__).with_name("vectors").joinpath("netlink.json").read_text())
FAMILY = RECORDED["family"]
_SEQUENCE_AND_PORT = slice(8, 16)


class Exchange(NamedTuple):
    name: str
    request: bytes
    answers: list[bytes]
    refused: dict[str, Any] | None


EXCHANGES = [
    Exchange(
        one["name"],
        bytes.fromhex(one["request"]),
        [bytes.fromhex(answer) for answer in one["answers"]],
        one.get("refused"),
    )
    for one in RECORDED["exchanges"]
]
NOTICES = [(one["name"], bytes.fromhex(one["message"])) for one in RECORDED["notices"]]


def without_sequence(message: bytes) -> bytes:
    return message[:8] + bytes(8) + message[16:]


class ReplayedSocket:
    """Takes requests as they were recorded, and gives the answers."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self.expected = list(exchanges)
        self.waiting: list[bytes] = []
        self.options: list[tuple[int, ...]] = []

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)

    def bind(self, address: tuple[int, int]) -> None: ...

    def close(self) -> None: ...

    def sendto(self, data: bytes, address: tuple[int, int]) -> None:
        exchange = self.expected.pop(0)
        assert without_sequence(bytes(data)).hex() == without_sequence(exchange.request).hex()
        self.waiting += [renumbered(answer, bytes(data)[8:12]) for answer in exchange.answers]

    def recvfrom(self, size: int) -> tuple[bytes, tuple[int, int]]:
        if not self.waiting:
            raise BlockingIOError(errno.EAGAIN, "nothing was recorded")
        return self.waiting.pop(0), (0, 0)


def renumbered(answers: bytes, sequence: bytes) -> bytes:
    data = bytearray(answers)
    offset = 0
    while offset < len(data):
        (length,) = struct.unpack_from("=I", data, offset)
        data[offset + 8 : offset + 12] = sequence
        offset += (length + 3) & ~3
    return bytes(data)


def replay(monkeypatch: pytest.MonkeyPatch, name: str) -> ReplayedSocket:
    """Whatever socket is opened next takes part in this exchange."""
    exchanges = [one for one in EXCHANGES if one.name == name]
    assert exchanges, f"nothing recorded under {name!r}"
    one = ReplayedSocket(exchanges)
    monkeypatch.setattr(sockets, "open_socket", lambda kind, protocol: one)
    return one
