"""tls-auth: an HMAC over each control packet, which stays readable.

    header (9) | HMAC (digest size) | replay id (4) | time (4) | body

The HMAC covers replay id, time, header, body: in that order, which is not the order of the wire."""

from __future__ import annotations

import errno
import hmac

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from ovpn_dco.errors import InvalidArgument, UnsupportedError

from ..errors import Refusal, refused
from ..replay import STAMP_SIZE, ReplayWindow, SendCounter, Stamp
from ..statickey import Direction, StaticKey
from ..wire import HEADER_SIZE, ControlPacket, encode_body, encode_header
from .base import Opened, Protected, header_without_client_key

__all__ = ["DIGESTS", "TlsAuth", "TlsAuthFormat", "find_digest"]

DIGESTS: dict[str, hashes.HashAlgorithm] = {
    "MD5": hashes.MD5(),
    "SHA1": hashes.SHA1(),
    "SHA224": hashes.SHA224(),
    "SHA256": hashes.SHA256(),
    "SHA384": hashes.SHA384(),
    "SHA512": hashes.SHA512(),
    "SHA512-224": hashes.SHA512_224(),
    "SHA512-256": hashes.SHA512_256(),
    "SHA3-224": hashes.SHA3_224(),
    "SHA3-256": hashes.SHA3_256(),
    "SHA3-384": hashes.SHA3_384(),
    "SHA3-512": hashes.SHA3_512(),
    "BLAKE2B512": hashes.BLAKE2b(64),
    "BLAKE2S256": hashes.BLAKE2s(32),
    "SM3": hashes.SM3(),
}
"""By the names of the `auth` option, in capitals."""


def find_digest(name: str) -> hashes.HashAlgorithm:
    """The digest that `auth` calls `name`, without regard to case. "SHA-256" and "RSA-SHA256",
    which OpenSSL knows as well, are SHA256.

    Raises `InvalidArgument` for a name that nobody knows, and for "none"."""
    upper = name.upper().removeprefix("RSA-")
    digest = DIGESTS.get(upper) or DIGESTS.get(upper.replace("SHA-", "SHA", 1))
    if digest is None:
        message = f"{name!r} is no digest for tls-auth; there are {', '.join(DIGESTS)}"
        raise InvalidArgument(errno.EINVAL, message, attribute="auth")
    return digest


class TlsAuthFormat:
    """Keys and digest."""

    def __init__(
        self,
        key: StaticKey,
        *,
        direction: Direction = Direction.BIDIRECTIONAL,
        digest: str = "SHA1",
    ) -> None:
        algorithm = find_digest(digest)
        self._digest_size = algorithm.digest_size
        self._tag_end = HEADER_SIZE + self._digest_size
        self._body_start = self._tag_end + STAMP_SIZE
        send, receive = key.directed(direction)
        try:
            self._sending = HMAC(send.hmac[: self._digest_size], algorithm)
            self._receiving = HMAC(receive.hmac[: self._digest_size], algorithm)
        except UnsupportedAlgorithm:
            message = f"the OpenSSL in use has no {algorithm.name}"
            raise UnsupportedError(errno.EOPNOTSUPP, message, attribute="auth") from None

    @property
    def overhead(self) -> int:
        """See `Format`."""
        return self._digest_size + STAMP_SIZE

    def seal(self, packet: ControlPacket, stamp: Stamp) -> bytes:
        """See `Format`."""
        header, numbers, body = encode_header(packet), stamp.encode(), encode_body(packet)
        tag = self._sending.copy()
        tag.update(numbers + header + body)
        return b"".join((header, tag.finalize(), numbers, body))

    def open(self, data: bytes) -> Opened:
        """See `Format`."""
        header = header_without_client_key(data)
        if len(data) <= self._body_start:
            raise refused(Refusal.TOO_SHORT, f"{len(data)} bytes")
        numbers, body = data[self._tag_end : self._body_start], data[self._body_start :]
        expected = self._receiving.copy()
        expected.update(numbers + data[:HEADER_SIZE] + body)
        if not hmac.compare_digest(expected.finalize(), data[HEADER_SIZE : self._tag_end]):
            raise refused(Refusal.TAG_MISMATCH)
        return Opened(header, Stamp.decode(numbers), body)


class TlsAuth(Protected):
    """One session under tls-auth. By convention servers have direction 0 and clients 1."""

    def __init__(
        self,
        key: StaticKey,
        *,
        direction: Direction = Direction.BIDIRECTIONAL,
        digest: str = "SHA1",
        counter: SendCounter | None = None,
        window: ReplayWindow | None = None,
    ) -> None:
        sealing = TlsAuthFormat(key, direction=direction, digest=digest)
        super().__init__(sealing, key, counter=counter, window=window)
