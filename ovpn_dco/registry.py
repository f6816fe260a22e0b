"""All open devices of this process, for the two things that concern them together: a socket is
attached to one of them at most, and a fork finds none of them half changed.

In a forked child only the thread that forked goes on: the engines' are gone, and what they held
locked stays locked. So the child only closes what it inherited and cleanses the keys."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Member(Protocol):
    """An open device, as far as it is seen here."""

    def _holds(self, cookie: bytes) -> bool:
        """Whether the socket with this SO_COOKIE is attached to it."""

    def _freeze(self) -> None:
        """Before a fork: nothing is half changed until `_thaw`, or `_forget` in the child."""

    def _thaw(self) -> None: ...

    def _forget(self) -> None:
        """In the child: without effect on the parent."""


_members: weakref.WeakSet[Member] = weakref.WeakSet()
_lock = threading.RLock()
_frozen: list[Member] = []  # between a fork's beginning and its end, in which _lock is held


def enter(device: Member) -> None:
    """From here on, until it is collected."""
    with _lock:
        _members.add(device)


@contextmanager
def attaching(cookie: bytes) -> Iterator[bool]:
    """Whether a socket is free to be attached inside the block, where nobody else does that."""
    with _lock:
        yield not any(device._holds(cookie) for device in list(_members))


def _freeze_all() -> None:
    _lock.acquire()
    _frozen.extend(_members)
    for device in _frozen:
        device._freeze()


def _thaw_all() -> None:
    for device in _frozen:
        device._thaw()
    _frozen.clear()
    _lock.release()


def _forget_all() -> None:
    global _lock
    _lock = threading.RLock()
    for device in _frozen:
        device._forget()
    _frozen.clear()
    _members.clear()


os.register_at_fork(before=_freeze_all, after_in_parent=_thaw_all, after_in_child=_forget_all)
