"""A forked child inherits the engine's memory and descriptors, and keeps none of them."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import warnings
from collections.abc import Callable

import pytest
from security.forge import ip
from security.lab import Lab
from security.memory import occurrences

import ovpn_dco as dco
from ovpn_dco import KeySlot

pytestmark = pytest.mark.security


def in_child(look: Callable[[], bool]) -> bool:
    """Whether `look` is true in a forked child, which gets a minute."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: the point
        child = os.fork()
    if child == 0:
        status = 2
        try:
            signal.alarm(60)
            status = 0 if look() else 1
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 1)
    return status == 0


def fresh_key(key_id: int) -> tuple[dco.DataKey, bytes]:
    """A key in buffers to be consumed, and the inverse of its bytes."""
    inverse = secrets.token_bytes(32)
    buffers = [bytearray(byte ^ 0xFF for byte in inverse), bytearray(8)]
    direction = dco.KeyDirection(key=buffers[0], nonce_tail=buffers[1])
    key = dco.DataKey(
        key_id=key_id, cipher=dco.Cipher.AES_256_GCM, encrypt=direction, decrypt=direction
    )
    return key, inverse


def test_child_has_no_installed_key(lab: Lab) -> None:
    """Of either slot; the parent keeps them."""
    peer = lab.add_peer(7, install=False)
    inverses = []
    for key_id, slot in enumerate((KeySlot.PRIMARY, KeySlot.SECONDARY)):
        key, inverse = fresh_key(key_id)
        peer.peer.install_key(slot, key, consume=True)
        inverses.append(inverse)
    assert all(map(occurrences, inverses)), "the search does find an installed key"
    assert in_child(lambda: not any(map(occurrences, inverses)))
    assert all(map(occurrences, inverses))


def test_child_has_no_retired_key(lab: Lab) -> None:
    """One that was deleted, while a thread of the engine that may still use it has not passed.

    The receive thread is made to wait for room on the inner side, which it does online."""
    peer, other = lab.add_peer(7), lab.add_peer(8)
    stop = threading.Event()

    def flood() -> None:
        inner = ip(other.vpn, "10.9.0.1", bytes(1000))
        while not stop.is_set():
            other.socket.sendto(other.forge.seal(inner), lab.address)

    sender = threading.Thread(target=flood)
    sender.start()
    try:
        for attempt in range(3):
            while True:  # until the thread is caught waiting
                key, inverse = fresh_key(1 + attempt)
                peer.peer.install_key(KeySlot.SECONDARY, key, consume=True)
                peer.peer.delete_key(KeySlot.SECONDARY)
                if lab.device.stats().retired:
                    break
            assert in_child(lambda: not occurrences(inverse))  # noqa: B023
    finally:
        stop.set()
        sender.join()
