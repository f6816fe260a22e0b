"""The epoch format a second time, on another library: keys of any epoch, packets forged and opened.

Written from the wire format only, so that engine and test can disagree."""

from __future__ import annotations

import secrets
import struct
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

import ovpn_dco as dco

DATA_V2 = 9
HEAD, TAG = 12, 16
OVERHEAD = HEAD + TAG
EPOCH_MAX = 0xFFFF
COUNTER_MAX = (1 << 48) - 1
SOON = 0xF000


def expand_label(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label with the prefix of this protocol and no context."""
    info = struct.pack("!HB", size, 5 + len(label)) + b"ovpn " + label + b"\0"
    return HKDFExpand(SHA256(), size, info).derive(secret)


class Opened(NamedTuple):
    """What a packet held."""

    key_id: int
    peer_id: int
    epoch: int
    counter: int
    payload: bytes


class EpochWire:
    """One direction of a key. Epochs may be asked for in any order."""

    def __init__(self, secret: bytes, cipher: dco.Cipher = dco.Cipher.AES_256_GCM) -> None:
        self.cipher = cipher
        self._secrets = [secret]

    def _epoch(self, epoch: int) -> tuple[AESGCM | ChaCha20Poly1305, bytes]:
        while len(self._secrets) < epoch:
            self._secrets.append(expand_label(self._secrets[-1], b"datakey upd", 32))
        # Epoch 0 has no secret: sealed with that of epoch 1, it is wrong by its number alone.
        secret = self._secrets[max(epoch, 1) - 1]
        kind = ChaCha20Poly1305 if self.cipher is dco.Cipher.CHACHA20_POLY1305 else AESGCM
        data_key = expand_label(secret, b"data_key", self.cipher.key_size)
        return kind(data_key), expand_label(secret, b"data_iv", 12)

    @staticmethod
    def _nonce(packet_id: bytes, iv: bytes) -> bytes:
        return bytes(a ^ b for a, b in zip(packet_id + bytes(4), iv, strict=True))

    def seal(
        self, payload: bytes, *, epoch: int, counter: int, key_id: int = 0, peer_id: int = 7
    ) -> bytes:
        """One packet."""
        aead, iv = self._epoch(epoch)
        head = struct.pack("!IHHI", DATA_V2 << 27 | key_id << 24 | peer_id, epoch,
                           counter >> 32, counter & 0xFFFFFFFF)  # fmt: skip
        return head + aead.encrypt(self._nonce(head[4:], iv), payload, head)

    def open(self, packet: bytes) -> Opened:
        """Raises InvalidTag for what was not sealed with this key."""
        word, epoch, high, low = struct.unpack("!IHHI", packet[:HEAD])
        assert word >> 27 == DATA_V2
        aead, iv = self._epoch(epoch)
        payload = aead.decrypt(self._nonce(packet[4:HEAD], iv), packet[HEAD:], packet[:HEAD])
        return Opened(word >> 24 & 7, word & 0xFFFFFF, epoch, high << 32 | low, payload)


class EpochPeer:
    """The far end of a key in the epoch format: `key` is what the engine has to install."""

    def __init__(
        self,
        *,
        key_id: int = 0,
        peer_id: int = 7,
        cipher: dco.Cipher = dco.Cipher.AES_256_GCM,
        future_epochs: int = 4,
    ) -> None:
        self.key_id = key_id
        self.peer_id = peer_id
        self.cipher = cipher
        self.future_epochs = future_epochs
        self.send_secret, self.receive_secret = secrets.token_bytes(32), secrets.token_bytes(32)
        self._send = EpochWire(self.send_secret, cipher)
        self._receive = EpochWire(self.receive_secret, cipher)
        self.counters: dict[int, int] = {}

    def key(self, **start: int) -> dco.EpochKey:
        """With `first_epoch` and `first_packet_id` as given."""
        return dco.EpochKey(
            self.key_id,
            self.cipher,
            self.receive_secret,
            self.send_secret,
            self.future_epochs,
            **start,
        )

    def seal(self, payload: bytes, epoch: int = 1, counter: int | None = None) -> bytes:
        """One packet; the next counter of its epoch unless one is given."""
        if counter is None:
            counter = self.counters[epoch] = self.counters.get(epoch, 0) + 1
        where = {"key_id": self.key_id, "peer_id": self.peer_id}
        return self._send.seal(payload, epoch=epoch, counter=counter, **where)

    def open(self, packet: bytes) -> Opened:
        return self._receive.open(packet)
