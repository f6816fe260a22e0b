"""Whom the sockets listen to, and what they ask the kernel for."""

from __future__ import annotations

import errno
import socket

import pytest
from netlink_replay import EXCHANGES, FAMILY, NOTICES, ReplayedSocket, replay

from ovpn_dco.errors import LimitReached, NotFound
from ovpn_dco.netlink import Commands, DeletedNotice, EventSocket, Overrun, sockets

SERVER = 2
_SOL_NETLINK, _ADD_MEMBERSHIP, _CAP_ACK, _EXT_ACK = 270, 1, 10, 11


def answers_of(name: str) -> list[bytes]:
    return [answer for one in EXCHANGES if one.name == name for answer in one.answers]


def test_refusals_do_not_quote_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are keys in some; the kernel's words are asked for instead."""
    played = replay(monkeypatch, "get peer missing")
    Commands(FAMILY)
    assert (_SOL_NETLINK, _CAP_ACK, 1) in played.options
    assert (_SOL_NETLINK, _EXT_ACK, 1) in played.options


def test_answer_to_an_earlier_request_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal may have ended the wait for it."""
    played = replay(monkeypatch, "get peer missing")
    played.waiting += answers_of("get peer udp4")  # sequence of another request
    with pytest.raises(NotFound):
        Commands(FAMILY).get_peer(SERVER, 20)


def test_other_processes_are_not_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted = next(data for name, data in NOTICES if name == "deleted by userspace")

    class Forged(ReplayedSocket):
        def recvfrom(self, size: int) -> tuple[bytes, tuple[int, int]]:
            data, _ = super().recvfrom(size)
            return data, (4242, 0)

    for kind, expected in ((ReplayedSocket, 1), (Forged, 0)):
        one = kind([])
        one.waiting.append(deleted)
        monkeypatch.setattr(sockets, "open_socket", lambda *_, one=one: one)
        assert len(EventSocket(FAMILY, 5).read()) == expected


class Listener(ReplayedSocket):
    """Raises what it is given, or returns it."""

    def __init__(self, *waiting: bytes | OSError) -> None:
        super().__init__([])
        self.script = list(waiting)

    def setsockopt(self, *option: int) -> None:
        super().setsockopt(*option)
        if option[1] == sockets._SO_RCVBUFFORCE:
            raise PermissionError(errno.EPERM, "no")

    def recvfrom(self, size: int) -> tuple[bytes, tuple[int, int]]:
        one = self.script.pop(0) if self.script else BlockingIOError(errno.EAGAIN, "empty")
        if isinstance(one, OSError):
            raise one
        return one, (0, 0)


def test_overrun_is_told_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted = next(data for name, data in NOTICES if name == "deleted by userspace")
    listener = Listener(OSError(errno.ENOBUFS, "lost"), deleted, deleted)
    monkeypatch.setattr(sockets, "open_socket", lambda *_: listener)
    events = EventSocket(FAMILY, 5, buffer=4096)
    assert [type(one) for one in events.read()] == [Overrun, DeletedNotice, DeletedNotice]
    assert events.read() == []
    assert (_SOL_NETLINK, _ADD_MEMBERSHIP, 5) in listener.options
    # Without the privilege to have more than the system allows.
    assert (socket.SOL_SOCKET, socket.SO_RCVBUF, 4096) in listener.options


def test_what_was_read_before_a_failure_comes_with_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deleted = next(data for name, data in NOTICES if name == "deleted by userspace")
    listener = Listener(deleted, OSError(errno.ENOMEM, "none"), deleted)
    monkeypatch.setattr(sockets, "open_socket", lambda *_: listener)
    events = EventSocket(FAMILY, 5)
    with pytest.raises(LimitReached):
        events.read()
    assert [type(one) for one in events.read()] == [DeletedNotice, DeletedNotice]
    assert events.read() == []


@pytest.mark.parametrize("size", [30, -24], ids=["cut off", "without a peer"])
def test_what_cannot_be_read_is_lost(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so, since a listener that died of it would hear nothing more."""
    deleted = next(data for name, data in NOTICES if name == "deleted by userspace")
    spoiled = deleted[:size]
    if size < 0:
        spoiled = len(spoiled).to_bytes(4, "little") + spoiled[4:]
    listener = Listener(deleted, spoiled, deleted)
    monkeypatch.setattr(sockets, "open_socket", lambda *_: listener)
    found = EventSocket(FAMILY, 5).read()
    assert [type(one) for one in found] == [DeletedNotice, Overrun, DeletedNotice]
