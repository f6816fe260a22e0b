"""Key method 2 and what follows from it: the message, the key block, the data keys.

Each side sends one message with random bytes, its options and, from the client, credentials and
peer info. The key block of 256 bytes comes out of the TLS exporter (RFC 5705), or for old peers out
of those random bytes by the pseudo-random function of TLS 1.0 (RFC 2246, section 5). Its slices are
the keys of both directions. All pure functions; random bytes are handed in."""

from __future__ import annotations

import errno
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from ovpn_dco.errors import DcoError, InvalidArgument, OutOfRange
from ovpn_dco.model import Cipher, DataKey, EpochKey, KeyDirection

from .role import Role
from .text import MAX_CREDENTIAL

__all__ = [
    "KeyMessage",
    "KeyMessageError",
    "KeySource",
    "data_key",
    "decode_key_message",
    "encode_key_message",
    "epoch_key",
    "key_block_from_sources",
    "key_block_from_tls",
    "next_key_id",
    "tls1_prf",
]

KEY_METHOD = 2
HEADER = bytes(4)
PRE_MASTER_SIZE = 48
RANDOM_SIZE = 32
MASTER_SIZE = 48
KEY_BLOCK_SIZE = 256
SLOT_SIZE = 64
NONCE_TAIL_SIZE = 8
EPOCH_SECRET_SIZE = 32
SESSION_ID_SIZE = 8
LAST_KEY_ID = 7

# One TLS write, and what peers have as a buffer for it.
MESSAGE_LIMIT = 2048
# Bytes with the terminating NUL.
CREDENTIAL_LIMIT = MAX_CREDENTIAL + 1
OPTIONS_LIMIT = 512

DATA_KEYS_LABEL = b"EXPORTER-OpenVPN-datakeys"
MASTER_LABEL = b"OpenVPN master secret"
EXPANSION_LABEL = b"OpenVPN key expansion"


class KeyMessageError(DcoError):
    """EPROTO: a key method 2 message that breaks its format, or keys that must not be used."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EPROTO, message)


@dataclass(frozen=True, eq=False)
class KeySource:
    """Random bytes of one side: 48 of the client only, then twice 32. Not shown by `repr`."""

    pre_master: bytes = field(repr=False)
    random1: bytes = field(repr=False)
    random2: bytes = field(repr=False)

    @classmethod
    def generate(cls, role: Role, random_bytes: Callable[[int], bytes]) -> KeySource:
        """Drawn from `random_bytes(n)`, which gives n bytes, `os.urandom` for instance."""
        pre_master = random_bytes(PRE_MASTER_SIZE) if role is Role.CLIENT else b""
        return cls(pre_master, random_bytes(RANDOM_SIZE), random_bytes(RANDOM_SIZE))

    @classmethod
    def split(cls, data: bytes, role: Role) -> KeySource:
        """From the bytes as they are on the wire."""
        size = source_size(role)
        if len(data) != size:
            raise KeyMessageError(f"{len(data)} random bytes instead of {size}")
        start = size - 2 * RANDOM_SIZE
        return cls(data[:start], data[start:-RANDOM_SIZE], data[-RANDOM_SIZE:])

    def __bytes__(self) -> bytes:
        return self.pre_master + self.random1 + self.random2

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeySource):
            return NotImplemented
        return hmac.compare_digest(bytes(self), bytes(other))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class KeyMessage:
    """A key method 2 message. Texts are as on the wire, without the terminating NUL.

    `credentials_too_long` of a received one says that username or password exceeded the limit, and
    is empty here: authentication has failed, which the client should be told. Line breaks and
    control characters in received credentials have become `_`."""

    source: KeySource
    options: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    peer_info: str = ""
    credentials_too_long: bool = False


def source_size(role: Role) -> int:
    """Random bytes that this side sends."""
    return 2 * RANDOM_SIZE + (PRE_MASTER_SIZE if role is Role.CLIENT else 0)


# The message


def encode_key_message(message: KeyMessage, role: Role) -> bytes:
    """The bytes of one TLS write by `role`. OutOfRange (ERANGE) where a field is too long,
    InvalidArgument (EINVAL) for a NUL, a lone surrogate, or random bytes of the other role."""
    if len(bytes(message.source)) != source_size(role):
        raise InvalidArgument(errno.EINVAL, "random bytes are not those of this role")
    encoded = b"".join(
        (
            HEADER,
            bytes([KEY_METHOD]),
            bytes(message.source),
            _encode_text("options", message.options, OPTIONS_LIMIT),
            _encode_text("username", message.username, CREDENTIAL_LIMIT),
            _encode_text("password", message.password, CREDENTIAL_LIMIT),
            _encode_text("peer_info", message.peer_info, MESSAGE_LIMIT),
        )
    )
    if len(encoded) > MESSAGE_LIMIT:
        raise OutOfRange(errno.ERANGE, f"key message of {len(encoded)} bytes")
    return encoded


def decode_key_message(data: bytes, role: Role) -> KeyMessage:
    """What `role`, the sender, put into one TLS record; KeyMessageError for anything malformed.

    Old peers leave texts at the end out, which reads as empty ones."""
    start = len(HEADER) + 1
    if len(data) > MESSAGE_LIMIT:
        raise KeyMessageError(f"key message of {len(data)} bytes")
    if len(data) < start or data[: len(HEADER)] != HEADER:
        raise KeyMessageError("no key message")
    # The upper bits are flags that nobody uses.
    if data[len(HEADER)] & 0x0F != KEY_METHOD:
        raise KeyMessageError(f"key method {data[len(HEADER)] & 0x0F}")
    end = start + source_size(role)
    source = KeySource.split(data[start:end], role)
    options, end = _next_text(data, end)
    username, end = _next_text(data, end)
    password, end = _next_text(data, end)
    peer_info, _ = _next_text(data, end)
    if len(options) >= OPTIONS_LIMIT:
        raise KeyMessageError(f"options of {len(options)} bytes")
    too_long = max(len(username), len(password)) >= CREDENTIAL_LIMIT
    return KeyMessage(
        source=source,
        options=_readable(options),
        username="" if too_long else _readable(username),
        password="" if too_long else _readable(password),
        peer_info="\n".join(_readable(line) for line in peer_info.split(b"\n")),
        credentials_too_long=too_long,
    )


def _encode_text(name: str, text: str, limit: int) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(errno.EINVAL, f"no Unicode text in {name}", attribute=name) from None
    if b"\0" in data:
        raise InvalidArgument(errno.EINVAL, f"NUL in {name}", attribute=name)
    if len(data) >= limit:
        raise OutOfRange(errno.ERANGE, f"{name} of {len(data)} bytes", attribute=name)
    # An empty text is a length of 0, not a lone NUL, which some peers refuse.
    return (len(data) + 1).to_bytes(2, "big") + data + b"\0" if data else bytes(2)


def _next_text(data: bytes, start: int) -> tuple[bytes, int]:
    """The text at `start` without its NUL, and where the next one starts."""
    if start == len(data):
        return b"", start
    if start + 2 > len(data):
        raise KeyMessageError("length of a text is cut off")
    end = start + 2 + int.from_bytes(data[start : start + 2], "big")
    if end > len(data):
        raise KeyMessageError("text is cut off")
    text = data[start + 2 : end]
    if text and text.find(b"\0") != len(text) - 1:
        raise KeyMessageError("text does not end with its only NUL")
    return text[:-1], end


def _readable(data: bytes) -> str:
    """Text that may go to logs, scripts and files: neither control characters nor broken UTF-8."""
    text = data.decode(errors="replace")
    if text.isascii() and text.isprintable():
        return text  # as nearly all is
    return "".join(
        c if c >= " " and not "\x7f" <= c < "\xa0" and c != "\ufffd" else "_" for c in text
    )


# The key block


def tls1_prf(secret: bytes, seed: bytes, size: int) -> bytes:
    """The pseudo-random function of TLS 1.0: MD5 and SHA-1 over one half of the secret each.

    RFC 2246, section 5; a secret of odd size has its middle byte in both halves. The label is a
    part of `seed`."""
    half = (len(secret) + 1) // 2
    by_md5 = _expand(_md5, secret[:half], seed, size)
    by_sha1 = _expand(_sha1, secret[len(secret) - half :], seed, size)
    return bytes(a ^ b for a, b in zip(by_md5, by_sha1, strict=True))


def key_block_from_sources(
    client: KeySource, server: KeySource, *, client_session_id: bytes, server_session_id: bytes
) -> bytes:
    """The 256 bytes where keys are not exported from TLS; session ids are the 8 bytes of the
    control channel."""
    if len(client_session_id) != SESSION_ID_SIZE or len(server_session_id) != SESSION_ID_SIZE:
        raise InvalidArgument(errno.EINVAL, "session ids have 8 bytes")
    master = tls1_prf(
        client.pre_master, MASTER_LABEL + client.random1 + server.random1, MASTER_SIZE
    )
    session_ids = client_session_id + server_session_id
    seed = EXPANSION_LABEL + client.random2 + server.random2 + session_ids
    return tls1_prf(master, seed, KEY_BLOCK_SIZE)


def key_block_from_tls(export: Callable[[bytes, int], bytes]) -> bytes:
    """The 256 bytes from `export(label, size)`, the exporter of this key-state's TLS session.

    It must be called without a context: an empty one gives other bytes under TLS 1.2 (RFC 5705)."""
    return export(DATA_KEYS_LABEL, KEY_BLOCK_SIZE)


def _md5(data: bytes = b"") -> hashlib._Hash:
    # Hosts in FIPS mode refuse MD5 otherwise.
    return hashlib.md5(data, usedforsecurity=False)


def _sha1(data: bytes = b"") -> hashlib._Hash:
    return hashlib.sha1(data, usedforsecurity=False)


def _expand(digest: Callable[..., hashlib._Hash], secret: bytes, seed: bytes, size: int) -> bytes:
    """P_hash of RFC 2246, section 5."""
    output = b""
    link = seed
    while len(output) < size:
        link = hmac.new(secret, link, digest).digest()
        output += hmac.new(secret, link + seed, digest).digest()
    return output[:size]


# The data keys


def data_key(block: bytes, role: Role, *, key_id: int, cipher: Cipher) -> DataKey:
    """The classic data key of this side. Its buffers are bytearrays, for `consume=True`."""
    encrypt, decrypt = _slots(block, role)
    return DataKey(
        key_id,
        cipher,
        KeyDirection(*(bytearray(part) for part in _parts(encrypt, cipher))),
        KeyDirection(*(bytearray(part) for part in _parts(decrypt, cipher))),
    )


def epoch_key(
    block: bytes, role: Role, *, key_id: int, cipher: Cipher, future_epochs: int = 4
) -> EpochKey:
    """The key in the epoch format of this side: the secrets of epoch 1, as bytearrays."""
    encrypt, decrypt = _slots(block, role)
    send, receive = (bytearray(slot[:EPOCH_SECRET_SIZE]) for slot in (encrypt, decrypt))
    _refuse_zeros(send)
    _refuse_zeros(receive)
    return EpochKey(key_id, cipher, send, receive, future_epochs)


def next_key_id(key_id: int) -> int:
    """0, 1, ... 7, and then 1 again: 0 is the first of a session only."""
    return key_id % LAST_KEY_ID + 1


def _slots(block: bytes, role: Role) -> tuple[bytes, bytes]:
    """What encrypts and what decrypts here, 128 bytes each: the client sends with the first."""
    if len(block) != KEY_BLOCK_SIZE:
        raise InvalidArgument(errno.EINVAL, f"key block of {len(block)} bytes")
    half = KEY_BLOCK_SIZE // 2
    first, second = block[:half], block[half:]
    return (first, second) if role is Role.CLIENT else (second, first)


def _parts(slot: bytes, cipher: Cipher) -> tuple[bytes, bytes]:
    """Key and implicit nonce: the start of the cipher part and of the HMAC part."""
    if cipher is Cipher.NONE:
        raise InvalidArgument(errno.EINVAL, "no cipher, no key")
    key = slot[: cipher.key_size]
    _refuse_zeros(key)
    return key, slot[SLOT_SIZE : SLOT_SIZE + NONCE_TAIL_SIZE]


def _refuse_zeros(key: bytes | bytearray) -> None:
    if not any(key):
        raise KeyMessageError("key of zeros")
