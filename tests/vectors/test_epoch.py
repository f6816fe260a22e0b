"""The epoch format byte for byte: what independent implementations made, and the key schedule by
the HKDF of another library.

The plaintext is the keepalive message."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from loopback import KEEPALIVE

import ovpn_dco as dco
from ovpn_dco import _core

AES_GCM, CHACHA20_POLY1305 = 1, 2
SECRET = b"\x42" * 32
KEY_ID, PEER_ID = 2, 7

DATA_KEYS = [
    "b198c4d32986ea81ae978d8b7892765fca7552d90148d5013125b1ccaff0d85c",
    "7fc11a3df65bba2a7464c02fe38e8528f370e099f180e7d7eca49a3a01755ca1",
]
IVS = ["8de16e7bf974edc5797c8601", "84b5ea20d48ff6aa1cd6bfe8"]
SECOND_SECRET = "6ec26acb3ed8422162e6dc4395b055faaae30045d253a3ee16fb223419086c03"
PACKETS = [
    "4a00000700010000000000010bfb182b613878561afe0b2a61e45b55cfed74cc8e8cfbe0266479217317f87d",
    "4a0000070002000000000001b4d879c55d6cae82e26b5be77e9b9fef0a54bf0afc4f08021d09dbccfc9c5123",
]

CIPHERS = {
    dco.Cipher.AES_128_GCM: AES_GCM,
    dco.Cipher.AES_192_GCM: AES_GCM,
    dco.Cipher.AES_256_GCM: AES_GCM,
    dco.Cipher.CHACHA20_POLY1305: CHACHA20_POLY1305,
}
each = pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)


def independent_label(secret: bytes, label: bytes, size: int) -> bytes:
    info = size.to_bytes(2, "big") + bytes([5 + len(label)]) + b"ovpn " + label + b"\0"
    return HKDFExpand(SHA256(), size, info).derive(secret)


# Whose AES-GCM: OpenSSL's, and those of our own that this processor has. ChaCha has one only.
everyone = pytest.mark.parametrize("own", _core.GCM_KINDS)


def packet_key(
    cipher: dco.Cipher, epoch: int, own: int, secret: bytes = SECRET
) -> _core.EpochPacketKey:
    return _core.EpochPacketKey(CIPHERS[cipher], cipher.key_size, secret, epoch, own)


@pytest.mark.parametrize("epoch", [1, 2])
def test_key_schedule(epoch: int) -> None:
    secret = SECRET if epoch == 1 else _core.next_epoch(SECRET)
    assert secret.hex() == (SECRET.hex(), SECOND_SECRET)[epoch - 1]
    assert _core.expand_label(secret, b"data_key", 32).hex() == DATA_KEYS[epoch - 1]
    assert _core.expand_label(secret, b"data_iv", 12).hex() == IVS[epoch - 1]


def test_key_schedule_of_ascending_bytes() -> None:
    secret = bytes(range(32))
    assert _core.expand_label(secret, b"data_key", 32).hex() == (
        "ebbbf838a8658beb56f2324d691351bd4c8c230fb271ada8f67de830b7ee3192"
    )
    assert _core.expand_label(secret, b"data_iv", 12).hex() == "568de14f8f744bfb0b721f66"
    assert _core.next_epoch(secret).hex() == (
        "e35bffa31e2723bf09e8d394fa9171ca4e534553bffa1d3482de4c9b3bc639d7"
    )


def test_codec_with_ascending_bytes() -> None:
    key = _core.EpochPacketKey(AES_GCM, 32, bytes(range(32)))
    packet = (
        "480000050001000000000001c2fe07b4542687fb92a265089da510f7f4079376ee42dfc6f9fce729f1e3dbbf"
    )
    assert key.seal(0, 5, 1, KEEPALIVE).hex() == packet
    assert key.open(bytes.fromhex(packet)) == KEEPALIVE


@pytest.mark.parametrize("size", [1, 12, 16, 24, 32, 33, 64, 255])
def test_expand_label_against_another_library(size: int) -> None:
    for label in (b"", b"data_key", b"datakey upd", b"x" * 250):
        expected = independent_label(SECRET, label, size)
        assert _core.expand_label(SECRET, label, size) == expected


@everyone
@pytest.mark.parametrize("epoch", [1, 2])
def test_codec(epoch: int, own: int) -> None:
    key = packet_key(dco.Cipher.AES_256_GCM, epoch, own)
    packet = bytes.fromhex(PACKETS[epoch - 1])
    assert key.iv.hex() == IVS[epoch - 1]
    assert key.seal(KEY_ID, PEER_ID, 1, KEEPALIVE) == packet
    assert key.open(packet) == KEEPALIVE


@everyone
@each
@pytest.mark.parametrize(("epoch", "counter"), [(1, 1), (2, 77), (5, (1 << 48) - 1)])
def test_every_cipher_against_another_library(
    cipher: dco.Cipher, epoch: int, counter: int, own: int
) -> None:
    secret = SECRET
    for _ in range(1, epoch):
        secret = independent_label(secret, b"datakey upd", 32)
    aead = ChaCha20Poly1305 if cipher is dco.Cipher.CHACHA20_POLY1305 else AESGCM
    head = bytes([9 << 3 | KEY_ID]) + PEER_ID.to_bytes(3, "big")
    packet_id = epoch.to_bytes(2, "big") + counter.to_bytes(6, "big")
    iv = independent_label(secret, b"data_iv", 12)
    nonce = bytes(a ^ b for a, b in zip(packet_id + bytes(4), iv, strict=True))
    data_key = independent_label(secret, b"data_key", cipher.key_size)
    expected = head + packet_id + aead(data_key).encrypt(nonce, KEEPALIVE, head + packet_id)

    key = packet_key(cipher, epoch, own)
    assert key.seal(KEY_ID, PEER_ID, counter, KEEPALIVE) == expected
    assert key.open(expected) == KEEPALIVE


@everyone
@each
def test_every_bit_counts(cipher: dco.Cipher, own: int) -> None:
    key = packet_key(cipher, 1, own)
    packet = key.seal(KEY_ID, PEER_ID, 1, KEEPALIVE)
    for bit in range(8 * len(packet)):
        changed = bytearray(packet)
        changed[bit // 8] ^= 1 << bit % 8
        assert key.open(bytes(changed)) is None
    for size in range(len(packet)):
        assert key.open(packet[:size]) is None


@everyone
@each
def test_empty_plaintext(cipher: dco.Cipher, own: int) -> None:
    key = packet_key(cipher, 3, own)
    packet = key.seal(0, 1, 1, b"")
    assert len(packet) == 28
    assert key.open(packet) == b""
