"""Key files of the control channel: static keys, and the two kinds of tls-crypt-v2 keys.

A static key is 256 bytes, two keys of a cipher slot and an HMAC slot (64 bytes each):

    key[0].cipher 0..63 | key[0].hmac 64..127 | key[1].cipher 128..191 | key[1].hmac 192..255

A wrapped client key, which only the server can open, is

    tag (32) | sealed static key (256) and metadata | length of all of it (2)"""

from __future__ import annotations

import enum
import errno
import hmac
from dataclasses import dataclass, field
from typing import NamedTuple

from ovpn_dco.errors import InvalidArgument

from .errors import KeyFileError, Refusal, refused
from .pem import decode_base64, decode_hex, encode_base64, encode_hex
from .siv import TAG_SIZE, SivKey
from .wire import RandomBytes

__all__ = [
    "MAX_CLIENT_KEY",
    "MIN_CLIENT_KEY",
    "ClientKey",
    "Direction",
    "KeySlice",
    "Metadata",
    "ServerKey",
    "StaticKey",
    "client_key_length",
    "split_client_key",
]

_STATIC_NAME = "OpenVPN Static key V1"
_SERVER_NAME = "OpenVPN tls-crypt-v2 server key"
_CLIENT_NAME = "OpenVPN tls-crypt-v2 client key"

_SLOT = 64
_STATIC_SIZE = 4 * _SLOT
_SERVER_SIZE = 2 * _SLOT
_LENGTH_SIZE = 2
MIN_CLIENT_KEY = TAG_SIZE + _STATIC_SIZE + _LENGTH_SIZE
MAX_CLIENT_KEY = 1024
_TIMESTAMP_SIZE = 8


class Direction(enum.Enum):
    """Which of the two keys sends: (index to send with, index to receive with)."""

    NORMAL = (0, 1)
    INVERSE = (1, 0)
    BIDIRECTIONAL = (0, 0)

    @classmethod
    def from_option(cls, argument: str | None) -> Direction:
        """From the argument of `key-direction`: "0", "1", or None where the option is absent."""
        options = {None: cls.BIDIRECTIONAL, "0": cls.NORMAL, "1": cls.INVERSE}
        if argument not in options:
            message = f"key direction {argument!r} is neither 0 nor 1"
            raise InvalidArgument(errno.EINVAL, message, attribute="key-direction")
        return options[argument]


class KeySlice(NamedTuple):
    """Secrets of one direction, 64 bytes each; uses take the front of them."""

    cipher: bytes
    hmac: bytes

    def __repr__(self) -> str:
        return "KeySlice(...)"


@dataclass(frozen=True, eq=False)
class _Secret:
    """Bytes that are not shown and are compared in constant time."""

    data: bytes = field(repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return hmac.compare_digest(self.data, other.data)


@dataclass(frozen=True, eq=False)
class StaticKey(_Secret):
    """256 bytes that both ends share."""

    def __post_init__(self) -> None:
        _check_size(self.data, _STATIC_SIZE, "a static key")

    @classmethod
    def parse(cls, text: str | bytes) -> StaticKey:
        """From the text of a key file; raises `KeyFileError`."""
        data = decode_hex(text, _STATIC_NAME)
        _check_file_size(data, _STATIC_SIZE, "a static key")
        return cls(data)

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> StaticKey:
        """A new one."""
        return cls(random_bytes(_STATIC_SIZE))

    def format(self) -> str:
        """The text of a key file."""
        return encode_hex(self.data, _STATIC_NAME)

    def slice(self, index: int) -> KeySlice:
        """Key 0 or 1."""
        start = 2 * _SLOT * index
        cipher, authentication = start + _SLOT, start + 2 * _SLOT
        return KeySlice(self.data[start:cipher], self.data[cipher:authentication])

    def directed(self, direction: Direction) -> tuple[KeySlice, KeySlice]:
        """(what to send with, what to receive with)."""
        send, receive = direction.value
        return self.slice(send), self.slice(receive)


class _MetadataKind(enum.IntEnum):
    USER = 0
    TIMESTAMP = 1


@dataclass(frozen=True)
class Metadata:
    """What the issuer put into a wrapped client key; `kind` is its first byte, None without any.

    Kind 0 is free bytes, kind 1 the Unix time of issue."""

    kind: int | None = None
    data: bytes = b""

    @classmethod
    def user(cls, data: bytes) -> Metadata:
        """Free bytes, at most 733."""
        return cls(_MetadataKind.USER, data)

    @classmethod
    def timestamp(cls, unix_time_s: float) -> Metadata:
        """The time of issue."""
        return cls(_MetadataKind.TIMESTAMP, int(unix_time_s).to_bytes(8, "big", signed=True))

    @classmethod
    def decode(cls, data: bytes) -> Metadata:
        """As it stands in the key; raises `MalformedPacket` for a timestamp of another size."""
        if not data:
            return cls()
        metadata = cls(data[0], bytes(data[1:]))
        if metadata.kind == _MetadataKind.TIMESTAMP and len(metadata.data) != _TIMESTAMP_SIZE:
            raise refused(Refusal.CLIENT_KEY_METADATA, f"timestamp of {len(metadata.data)} bytes")
        return metadata

    def encode(self) -> bytes:
        """As it stands in the key."""
        return b"" if self.kind is None else bytes((self.kind,)) + self.data

    @property
    def issued_at(self) -> int | None:
        """Unix time of issue in seconds, if it is known."""
        if self.kind != _MetadataKind.TIMESTAMP:
            return None
        return int.from_bytes(self.data, "big", signed=True)


@dataclass(frozen=True, eq=False)
class ServerKey(_Secret):
    """The 128 bytes with which a server opens the client keys that were issued with them."""

    def __post_init__(self) -> None:
        _check_size(self.data, _SERVER_SIZE, "a tls-crypt-v2 server key")

    @classmethod
    def parse(cls, text: str | bytes) -> ServerKey:
        """From the text of a key file; raises `KeyFileError`."""
        data = decode_base64(text, _SERVER_NAME)
        _check_file_size(data, _SERVER_SIZE, "a tls-crypt-v2 server key")
        return cls(data)

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> ServerKey:
        """A new one."""
        return cls(random_bytes(_SERVER_SIZE))

    def format(self) -> str:
        """The text of a key file."""
        return encode_base64(self.data, _SERVER_NAME)

    def issue(self, random_bytes: RandomBytes, metadata: Metadata) -> ClientKey:
        """A new client key; give `Metadata.timestamp(now)` where there is nothing else to say."""
        key = StaticKey.generate(random_bytes)
        return ClientKey(key, self.wrap(key, metadata))

    def wrap(self, key: StaticKey, metadata: Metadata) -> bytes:
        """The wrapped client key; `InvalidArgument` if the metadata makes it longer than 1024."""
        plain = key.data + metadata.encode()
        size = TAG_SIZE + len(plain) + _LENGTH_SIZE
        if size > MAX_CLIENT_KEY:
            message = f"{size - MAX_CLIENT_KEY} bytes of metadata too many"
            raise InvalidArgument(errno.EINVAL, message, attribute="metadata")
        length = size.to_bytes(_LENGTH_SIZE, "big")
        tag, ciphertext = self._siv.seal(length, plain)
        return tag + ciphertext + length

    def unwrap(self, wrapped: bytes) -> tuple[StaticKey, Metadata]:
        """What `wrap` put in; raises `ProtocolError` for anything that it did not make."""
        if client_key_length(wrapped) != len(wrapped):
            raise refused(Refusal.CLIENT_KEY_LENGTH)
        tag, ciphertext = wrapped[:TAG_SIZE], wrapped[TAG_SIZE:-_LENGTH_SIZE]
        plain = self._siv.open(wrapped[-_LENGTH_SIZE:], tag, ciphertext)
        if plain is None:
            raise refused(Refusal.CLIENT_KEY_TAG)
        return StaticKey(plain[:_STATIC_SIZE]), Metadata.decode(plain[_STATIC_SIZE:])

    @property
    def _siv(self) -> SivKey:
        return SivKey(self.data[:_SLOT], self.data[_SLOT:])


@dataclass(frozen=True, eq=False)
class ClientKey:
    """What a tls-crypt-v2 client has: its static key, and the same wrapped for the server."""

    key: StaticKey = field(repr=False)
    wrapped: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if client_key_length(self.wrapped) != len(self.wrapped):
            message = f"{len(self.wrapped)} bytes make no wrapped client key"
            raise InvalidArgument(errno.EINVAL, message, attribute="wrapped")

    @classmethod
    def parse(cls, text: str | bytes) -> ClientKey:
        """From the text of a key file; raises `KeyFileError`."""
        data = decode_base64(text, _CLIENT_NAME)
        if len(data) < _STATIC_SIZE + MIN_CLIENT_KEY:
            least = _STATIC_SIZE + MIN_CLIENT_KEY
            raise KeyFileError(f"a client key has at least {least} bytes, this one {len(data)}")
        wrapped = data[_STATIC_SIZE:]
        if client_key_length(wrapped) != len(wrapped):
            stated = int.from_bytes(wrapped[-_LENGTH_SIZE:], "big")
            raise KeyFileError(f"wrapped key of {len(wrapped)} bytes says it has {stated}")
        return cls(StaticKey(data[:_STATIC_SIZE]), wrapped)

    def format(self) -> str:
        """The text of a key file."""
        return encode_base64(self.key.data + self.wrapped, _CLIENT_NAME)


def client_key_length(data: bytes) -> int | None:
    """Size of the wrapped client key at the end of `data`, None if there cannot be one.

    The two last bytes, which anybody may have written, say it; they are good for nothing before
    they are in bounds."""
    if len(data) < MIN_CLIENT_KEY:
        return None
    stated = int.from_bytes(data[-_LENGTH_SIZE:], "big")
    return stated if MIN_CLIENT_KEY <= stated <= min(MAX_CLIENT_KEY, len(data)) else None


def split_client_key(data: bytes) -> tuple[bytes, bytes]:
    """(packet without it, wrapped client key); raises `MalformedPacket`."""
    length = client_key_length(data)
    if length is None:
        raise refused(Refusal.CLIENT_KEY_LENGTH)
    return data[:-length], data[-length:]


def _check_size(data: bytes, size: int, what: str) -> None:
    if len(data) != size:
        message = f"{what} has {size} bytes, not {len(data)}"
        raise InvalidArgument(errno.EINVAL, message, attribute="data")


def _check_file_size(data: bytes, size: int, what: str) -> None:
    if len(data) != size:
        raise KeyFileError(f"{what} has {size} bytes, this file {len(data)}")
