"""Dynamic tls-crypt: from the first renegotiation on, a key that only these two ends know.

Both ends export 256 bytes from the TLS session of key id 0, mix in the key that protected the
session so far, and use the result as a tls-crypt key for all control packets of key ids 1 to 7.
Those of key id 0 keep their protection. The key is made once per session."""

from __future__ import annotations

import errno
from functools import cached_property

from ovpn_dco.errors import AlreadyExists, InvalidArgument

from ..replay import ReplayWindow
from ..role import Role
from ..statickey import StaticKey
from ..wire import KEY_ID_MASK, ControlPacket
from .base import Wrapping
from .tls_crypt import TlsCrypt, TlsCryptFormat

__all__ = ["EXPORTER_LABEL", "EXPORTER_SIZE", "DynamicTlsCrypt", "derive_dynamic_key"]

EXPORTER_LABEL = b"EXPORTER-OpenVPN-dynamic-tls-crypt"
"""For the TLS exporter, which must be called without a context: an empty one gives other bytes."""
EXPORTER_SIZE = 256


def derive_dynamic_key(exported: bytes, original: StaticKey | None) -> StaticKey:
    """The exported bytes, xor the key of the original protection if it had one."""
    if len(exported) != EXPORTER_SIZE:
        message = f"{EXPORTER_SIZE} exported bytes are needed, not {len(exported)}"
        raise InvalidArgument(errno.EINVAL, message, attribute="exported")
    if original is None:
        return StaticKey(exported)
    mixed = int.from_bytes(exported, "big") ^ int.from_bytes(original.data, "big")
    return StaticKey(mixed.to_bytes(EXPORTER_SIZE, "big"))


class DynamicTlsCrypt:
    """The original wrapping, joined by the dynamic one as soon as its key is installed."""

    def __init__(self, original: Wrapping, role: Role) -> None:
        self._original = original
        self._role = role
        self._key: StaticKey | None = None
        self._window: ReplayWindow | None = None

    @cached_property
    def _dynamic(self) -> TlsCrypt:
        """Made when it is needed, which in most sessions is never."""
        assert self._key is not None
        return TlsCrypt(self._key, self._role, window=self._window)

    @property
    def is_installed(self) -> bool:
        """Whether key ids 1 to 7 use the dynamic key."""
        return self._key is not None

    @property
    def overhead(self) -> int:
        """See `Wrapping`; the larger of the two."""
        return max(self._original.overhead, TlsCryptFormat.overhead if self._key else 0)

    @property
    def static_key(self) -> StaticKey | None:
        """See `Wrapping`; that of the original."""
        return self._original.static_key

    def install(self, exported: bytes, *, window: ReplayWindow | None = None) -> None:
        """Take the bytes exported from the TLS session of key id 0; once, else `AlreadyExists`.

        Replay ids of the new protection start at 1."""
        if self._key is not None:
            raise AlreadyExists(errno.EEXIST, "the dynamic key is made once per session")
        self._key = derive_dynamic_key(exported, self._original.static_key)
        self._window = window

    def overhead_of(self, *, key_id: int, message_id: int) -> int:
        """See `Wrapping`."""
        return self._for(key_id).overhead_of(key_id=key_id, message_id=message_id)

    def wrap(self, packet: ControlPacket, now: float) -> bytes:
        """See `Wrapping`."""
        return self._for(packet.key_id).wrap(packet, now)

    def unwrap(self, data: bytes, now: float) -> ControlPacket:
        """See `Wrapping`. The key id chooses, in both directions: once the dynamic key is there,
        nothing of a renegotiation is accepted under the old one."""
        return self._for(data[0] & KEY_ID_MASK if data else 0).unwrap(data, now)

    def _for(self, key_id: int) -> Wrapping:
        return self._dynamic if key_id and self._key is not None else self._original
