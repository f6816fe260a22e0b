"""Data keys; their material is never shown and is compared in constant time."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from .kinds import Buffer, Cipher


@dataclass(frozen=True, eq=False)
class KeyDirection:
    """Key material of one direction. Not shown by `repr`; compared in constant time.

    `nonce_tail` is the implicit part of the nonce: the last 8 of its 12 bytes. Buffers are kept as
    they are, so that `install_key(..., consume=True)` can clear a bytearray or memoryview."""

    key: Buffer = field(repr=False)
    nonce_tail: Buffer = field(repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeyDirection):
            return NotImplemented
        same_key = hmac.compare_digest(self.key, other.key)
        return hmac.compare_digest(self.nonce_tail, other.nonce_tail) and same_key

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class DataKey:
    """What `Peer.install_key` takes: a key id of three bits, the cipher, both directions.

    `first_packet_id` is where the transmit counter starts; other values than 1 are for handing a
    key over and for tests, since repeating an id under one key breaks the cipher."""

    key_id: int
    cipher: Cipher
    encrypt: KeyDirection
    decrypt: KeyDirection
    first_packet_id: int = 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DataKey):
            return NotImplemented
        same = self.encrypt == other.encrypt
        same = (self.decrypt == other.decrypt) and same
        mine = (self.key_id, self.cipher, self.first_packet_id)
        return mine == (other.key_id, other.cipher, other.first_packet_id) and same

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class EpochKey:
    """A key in the epoch format, which `Peer.install_key` takes as it takes a `DataKey`.

    From the 32 bytes of each secret follow a data key for each epoch and the secret of the next:
    the sender goes to the next epoch at the limits of its cipher, the receiver follows, and
    neither needs a new key for it. The receiver holds the keys of `future_epochs` epochs to come
    (1 to 16); packets of later ones are dropped. The secrets are not shown by `repr` and compared
    in constant time; buffers are kept as they are, for `install_key(..., consume=True)`.

    The secrets are those of epoch 1. `first_epoch` is where both directions start, and
    `first_packet_id` the first packet id of that epoch to send; other values than 1 are for handing
    a session over and for tests, since repeating an id in one epoch breaks the cipher. The way to a
    later epoch is walked step by step, some microseconds each."""

    key_id: int
    cipher: Cipher
    encrypt_secret: Buffer = field(repr=False)
    decrypt_secret: Buffer = field(repr=False)
    future_epochs: int = 4
    first_epoch: int = field(default=1, kw_only=True)
    first_packet_id: int = field(default=1, kw_only=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EpochKey):
            return NotImplemented
        same = hmac.compare_digest(self.encrypt_secret, other.encrypt_secret)
        same = hmac.compare_digest(self.decrypt_secret, other.decrypt_secret) and same
        return self._public() == other._public() and same

    def _public(self) -> tuple[object, ...]:
        start = self.first_epoch, self.first_packet_id
        return self.key_id, self.cipher, self.future_epochs, *start

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class KeyInfo:
    """An installed key, without its material.

    `packets_sealed` and `usage` are None where the back end does not tell.
    `usage` counts what the limit of the cipher counts: blocks plus packets for AES-GCM. With an
    `EpochKey` it is that of `send_epoch`, the epoch that seals; `receive_epoch` is the latest that
    the peer has shown. Both are None for a `DataKey`. `vaes_gcm` says that `Offload.VAES_GCM` was
    in effect when the key was installed, so that it is not OpenSSL that seals and opens."""

    key_id: int
    cipher: Cipher
    packets_sealed: int | None = None
    usage: int | None = None
    send_epoch: int | None = None
    receive_epoch: int | None = None
    vaes_gcm: bool = False
