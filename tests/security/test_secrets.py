"""Key material shows up nowhere but in the engine."""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from security.forge import KEEPALIVE, Forge, Material, data_key, ip
from security.lab import Lab, eventually
from security.memory import occurrences

import ovpn_dco as dco
from ovpn_dco import KeySlot

pytestmark = pytest.mark.security


def spellings(secret: bytes) -> list[str]:
    """How a secret could be spelled in a text."""
    return [secret.hex(), secret.hex(" "), repr(secret)[2:-1], str(list(secret))[1:-1]]


def assert_absent(known: tuple[bytes, ...], text: str) -> None:
    for secret in known:
        for spelling in spellings(secret):
            assert spelling not in text


def test_not_in_repr(lab: Lab) -> None:
    peer = lab.add_peer(7)
    key = peer.forge.key()
    values = [key, key.encrypt, key.decrypt, peer.peer, lab.device, lab.device.peers, lab.transport]
    values += [peer.peer.key(KeySlot.PRIMARY), peer.peer.info(), lab.device.stats()]
    for value in values:
        for text in (repr(value), str(value), f"{value}", f"{value!a}"):
            assert_absent(peer.forge.secrets, text)


def test_not_in_exceptions(lab: Lab) -> None:
    """Refused for its size, its slot, its id, its buffer: the refusal does not quote the key."""
    peer = lab.add_peer(7)
    aes = dco.Cipher.AES_256_GCM
    good, short = Material.fresh(aes), Material(Material.fresh(aes).key[:31], b"12345678")
    tail = Material(good.key, b"1234567")
    known = (*peer.forge.secrets, good.key, good.nonce_tail, short.key, tail.nonce_tail)
    attempts = [
        lambda: peer.peer.install_key(KeySlot.PRIMARY, data_key(0, aes, short, good)),
        lambda: peer.peer.install_key(KeySlot.PRIMARY, data_key(0, aes, good, short)),
        lambda: peer.peer.install_key(KeySlot.PRIMARY, data_key(0, aes, tail, good)),
        lambda: peer.peer.install_key(KeySlot.PRIMARY, data_key(8, aes, good, good)),
        lambda: peer.peer.install_key(KeySlot.SECONDARY, data_key(0, aes, good, good)),
        lambda: peer.peer.install_key(2, data_key(1, aes, good, good)),  # type: ignore[arg-type]
        lambda: peer.peer.install_key(KeySlot.PRIMARY, data_key(1, dco.Cipher.NONE, good, good)),
        lambda: peer.peer.install_key(KeySlot.PRIMARY, data_key(1, aes, good, good), consume=True),
    ]
    for attempt in attempts:
        with pytest.raises(dco.DcoError) as caught:
            attempt()
        error = caught.value
        text = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)
        assert_absent(known, text)
        assert error.attribute
    inner = ip(peer.vpn, "10.9.0.1")
    assert lab.deliver(peer.forge.seal(inner), sock=peer.socket).inner == [inner], "key unchanged"


def test_not_in_logs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), Lab() as lab:
        peer = lab.add_peer(7)
        second = Forge(7, key_id=1)
        peer.peer.install_key(KeySlot.SECONDARY, second.key())
        peer.peer.swap_keys()
        inner = ip(peer.vpn, "10.9.0.1")
        lab.deliver(
            peer.forge.seal(inner),
            second.seal(inner),
            second.seal(KEEPALIVE),
            bytes(40),
            sock=peer.socket,
        )
        peer.peer.delete_key(KeySlot.PRIMARY)
        peer.peer.delete()
        lab.peers.clear()
        lab.wait_event(dco.PeerDeleted)
    assert_absent((*peer.forge.secrets, *second.secrets), caplog.text)


def test_consumed_buffers_are_cleared(lab: Lab) -> None:
    peer = lab.add_peer(7, install=False)
    buffers = [bytearray(secret) for secret in peer.forge.secrets]
    own_key, own_tail, their_key, their_tail = buffers
    key = dco.DataKey(
        key_id=0,
        cipher=dco.Cipher.AES_256_GCM,
        encrypt=dco.KeyDirection(key=memoryview(their_key), nonce_tail=their_tail),
        decrypt=dco.KeyDirection(key=own_key, nonce_tail=own_tail),
    )
    peer.peer.install_key(KeySlot.PRIMARY, key, consume=True)
    assert not any(any(buffer) for buffer in buffers)
    inner = ip(peer.vpn, "10.9.0.1")
    assert lab.deliver(peer.forge.seal(inner), sock=peer.socket).inner == [inner]


def test_refused_key_is_not_consumed(lab: Lab) -> None:
    peer = lab.add_peer(7)
    buffers = [bytearray(range(32)), bytearray(b"abcdefgh")]
    direction = dco.KeyDirection(key=buffers[0], nonce_tail=buffers[1])
    key = dco.DataKey(key_id=0, cipher=dco.Cipher.AES_256_GCM, encrypt=direction, decrypt=direction)
    with pytest.raises(dco.InvalidArgument):
        peer.peer.install_key(KeySlot.SECONDARY, key, consume=True)
    assert buffers == [bytearray(range(32)), bytearray(b"abcdefgh")]


def test_memory_of_a_deleted_key_is_cleansed(lab: Lab) -> None:
    """Of key and nonce tail nothing is left in the memory of the process."""
    peer = lab.add_peer(7, install=False)
    # Only the inverse is ever kept here, so that the search cannot find its own needle.
    inverses = [secrets.token_bytes(32), secrets.token_bytes(8)]
    buffers = [bytearray(byte ^ 0xFF for byte in inverse) for inverse in inverses]
    direction = dco.KeyDirection(key=buffers[0], nonce_tail=buffers[1])
    key = dco.DataKey(key_id=0, cipher=dco.Cipher.AES_256_GCM, encrypt=direction, decrypt=direction)
    peer.peer.install_key(KeySlot.PRIMARY, key, consume=True)
    assert all(map(occurrences, inverses)), "the search does find an installed key"
    peer.peer.delete_key(KeySlot.PRIMARY)
    eventually(lambda: lab.device.stats().retired == 0, what="the key let go")
    assert not any(map(occurrences, inverses))


LATER_SECRET = """
import sys
from epoch_wire import expand_label
secret = bytes(byte ^ 0xFF for byte in bytes.fromhex(sys.stdin.read()))
for _ in range(6):
    secret = expand_label(secret, b"datakey upd", 32)
print(bytes(byte ^ 0xFF for byte in secret).hex())
"""


def later_secret(inverse: bytes) -> bytes:
    """The inverse of E(7), from that of E(1); by another process, which leaves nothing here."""
    done = subprocess.run(
        [sys.executable, "-c", LATER_SECRET],
        input=inverse.hex(),
        env={"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])},
        capture_output=True,
        text=True,
        check=True,
    )
    return bytes.fromhex(done.stdout)


def test_memory_of_epoch_secrets_is_cleansed(lab: Lab) -> None:
    """Started in epoch 2, four ahead derived: the secret of epoch 1, which leads back, is gone; and
    the secret of epoch 7, which is next, goes with the key."""
    peer = lab.add_peer(7, install=False)
    inverse = secrets.token_bytes(32)
    later = later_secret(inverse)
    buffer = bytearray(byte ^ 0xFF for byte in inverse)
    assert occurrences(inverse), "the search does find it"
    key = dco.EpochKey(0, dco.Cipher.AES_256_GCM, buffer, buffer, first_epoch=2)
    peer.peer.install_key(KeySlot.PRIMARY, key, consume=True)
    assert not occurrences(inverse)
    assert occurrences(later), "the search does find what is kept"
    peer.peer.delete_key(KeySlot.PRIMARY)
    eventually(lambda: lab.device.stats().retired == 0, what="the key let go")
    assert not occurrences(later)
