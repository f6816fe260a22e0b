"""The sealing that tls-crypt and wrapped client keys share: AES-256-CTR under HMAC-SHA256.

    tag = HMAC-SHA256(authentication key, associated | plain)
    ciphertext = AES-256-CTR(encryption key, first 16 bytes of tag as counter, plain)

The tag is the nonce, so that two packets with one replay id would betray nothing but equality."""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

__all__ = ["TAG_SIZE", "SivKey"]

TAG_SIZE = 32
_KEY_SIZE = 32
_COUNTER_SIZE = 16


class SivKey:
    """One direction: the first 32 bytes of a cipher slot and of an HMAC slot."""

    def __init__(self, cipher_slot: bytes, hmac_slot: bytes) -> None:
        algorithm = algorithms.AES256(cipher_slot[:_KEY_SIZE])
        # One for all packets: to make one costs ten times as much as to start it anew.
        self._cipher = Cipher(algorithm, modes.CTR(bytes(_COUNTER_SIZE))).encryptor()
        # Likewise: a copy has the key already.
        self._authentication = HMAC(hmac_slot[:_KEY_SIZE], SHA256())

    def seal(self, associated: bytes, plain: bytes) -> tuple[bytes, bytes]:
        """(tag, ciphertext of the same length as `plain`)."""
        tag = self._tag(associated + plain)
        return tag, self._stream(tag, plain)

    def open(self, associated: bytes, tag: bytes, ciphertext: bytes) -> bytes | None:
        """The plain text; None if any bit of the three was not sealed with this key."""
        plain = self._stream(tag, ciphertext)
        return plain if hmac.compare_digest(tag, self._tag(associated + plain)) else None

    def _tag(self, text: bytes) -> bytes:
        authentication = self._authentication.copy()
        authentication.update(text)
        return authentication.finalize()

    def _stream(self, tag: bytes, data: bytes) -> bytes:
        self._cipher.reset_nonce(tag[:_COUNTER_SIZE])
        return self._cipher.update(data)
