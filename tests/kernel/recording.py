"""Writes down what goes over netlink; record.py has the scenes."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ovpn_dco.errors import DcoError
from ovpn_dco.model import Cipher, DataKey, KeyDirection
from ovpn_dco.netlink import family, sockets
from ovpn_dco.netlink.codec import encode_request
from ovpn_dco.netlink.commands import Commands
from ovpn_dco.netlink.probe import find_family
from ovpn_dco.netlink.sockets import EventSocket

EXCHANGES: list[dict[str, Any]] = []
NOTICES: list[dict[str, Any]] = []
READ: list[str] = []
ASKED: list[tuple[str, list[str]]] = []
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def recording_read(one: socket.socket) -> list[Any]:
    data, _ = one.recvfrom(256 * 1024)
    READ.append(data.hex())
    return list(sockets.split(data))


class RecordingRequests(sockets.RequestSocket):
    def _answers(self, request: Any, step: str) -> list[Any]:
        READ.clear()
        try:
            return super()._answers(request, step)
        finally:
            ASKED.append((request.data.hex(), list(READ)))


@contextmanager
def exchange(name: str) -> Iterator[None]:
    """Everything asked and answered meanwhile; a refusal is part of it."""
    ASKED.clear()
    problem = None
    try:
        yield
    except DcoError as error:
        problem = error
    for request, answers in ASKED:
        entry: dict[str, Any] = {"name": name, "request": request, "answers": answers}
        if problem is not None:
            entry["refused"] = {
                "errno": problem.errno,
                "message": problem.strerror,
                "attribute": problem.attribute,
            }
        EXCHANGES.append(entry)
    print(name, "" if problem is None else f"-> {problem!r}", flush=True)


def udp(family_: int = socket.AF_INET, address: str | None = None) -> socket.socket:
    one = socket.socket(family_, socket.SOCK_DGRAM)
    one.bind((address or LOOPBACK[family_], 0))
    return one


def key(key_id: int, *, client: bool, cipher: Cipher = Cipher.AES_256_GCM) -> DataKey:
    size = cipher.key_size
    ends = [KeyDirection(bytes([n]) * size, bytes([0xA0 + n] * 8)) for n in (1, 2)]
    encrypt, decrypt = ends if client else ends[::-1]
    return DataKey(key_id, cipher, encrypt, decrypt)


class Recording:
    def __init__(self) -> None:
        with exchange("family"):
            known = find_family()
        self.family = known.number
        self.commands = Commands(known.number)
        self.events = EventSocket(known.number, known.peers_group)
        self.release = os.uname().release

    def notices(self, name: str, *, wait_s: float = 0.0, count: int = 1) -> None:
        """What the event socket has, raw; waits for `count` of them."""
        deadline = time.monotonic() + wait_s
        found: list[str] = []
        while True:
            READ.clear()
            told = self.events.read()
            found += READ
            if len(found) >= count or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        for message in found:
            NOTICES.append({"name": name, "message": message})
        print(name, [repr(one) for one in told] if found else "NOTHING", flush=True)

    def raw(self, name: str, command: int, ifindex: int | None, *nests: Any, **kwargs: Any) -> None:
        """A request that no typed call would make."""
        message = encode_request(command, ifindex or 0, *nests)
        if ifindex is None:
            message["attrs"] = message["attrs"][1:]
        with exchange(name):
            self.commands._requests.request(self.family, message, name, **kwargs)


def peer(**cells: Any) -> tuple[str, list[tuple[str, Any]]]:
    return "OVPN_A_PEER", [(f"OVPN_A_PEER_{name}", value) for name, value in cells.items()]


def keyconf(**cells: Any) -> tuple[str, list[tuple[str, Any]]]:
    return "OVPN_A_KEYCONF", [(f"OVPN_A_KEYCONF_{name}", value) for name, value in cells.items()]


def direction(**cells: Any) -> dict[str, Any]:
    return {"attrs": [(f"OVPN_A_KEYDIR_{name}", value) for name, value in cells.items()]}


def record_everything() -> None:
    """From now on."""
    sockets.read_messages = recording_read  # type: ignore[assignment]
    for module in ("commands", "link", "probe"):
        sys.modules[f"ovpn_dco.netlink.{module}"].RequestSocket = RecordingRequests  # type: ignore[attr-defined]


def tcp() -> tuple[socket.socket, socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname())
        return listener.accept()[0], client


def write(target: str, rec: Recording) -> None:
    """A line for each exchange; of the list of all families only ours."""
    for one in EXCHANGES:
        if one["name"] == "family":
            one["answers"] = ["".join(filter(_of_interest, map(hex_of, messages(one))))]
    head = json.dumps({"kernel": rec.release, "family": rec.family})[:-1]
    parts = [
        f'"{name}": [\n' + ",\n".join(map(json.dumps, entries)) + "\n]"
        for name, entries in (("exchanges", EXCHANGES), ("notices", NOTICES))
    ]
    with open(target, "w") as file:
        file.write(",\n".join([head, *parts]) + "}\n")


def messages(exchange: dict[str, Any]) -> list[Any]:
    return [one for answer in exchange["answers"] for one in sockets.split(bytes.fromhex(answer))]


def hex_of(message: Any) -> str:
    return str(message.data.hex())


def _of_interest(message: str) -> bool:
    """CTRL_CMD_NEWFAMILY of other families is not."""
    ours = family.OVPN_FAMILY_NAME.encode().hex() + "00"
    return not (message[8:12] == "1000" and message[32:34] == "01" and ours not in message)
