"""Negotiation of the data channel: the cipher, where keys come from, the format of packets.

Only the AEAD ciphers of the engine take part. The server decides, in the order of its own list;
a client checks what was pushed."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import DcoError
from ..model import DEFAULT_CIPHERS, Cipher
from .occ import Compatibility
from .peerinfo import Announcement, IvProto
from .text import TextRefused, shown

__all__ = [
    "DEFAULT_CIPHERS",
    "NO_SHARED_CIPHER",
    "Agreement",
    "NegotiationFailed",
    "agree_as_client",
    "agree_as_server",
    "parse_cipher_list",
]

MAX_CIPHER_LIST = 127
"""Bytes of `data-ciphers`."""

NO_SHARED_CIPHER = "Data channel cipher negotiation failed (no shared cipher)"
"""The reason in AUTH_FAILED; clients show it to the user."""

LEGACY_CIPHERS = (Cipher.AES_256_GCM, Cipher.AES_128_GCM)
"""What IV_NCP=2 without IV_CIPHERS means."""

_FLAGS = {
    "cc-exit": IvProto.CC_EXIT_NOTIFY,
    "tls-ekm": IvProto.TLS_KEY_EXPORT,
    "dyn-tls-crypt": IvProto.DYN_TLS_CRYPT,
    "aead-epoch": IvProto.DATA_EPOCH,
}


class NegotiationFailed(DcoError):
    """EPROTO: the two sides have nothing in common that the engine can do.

    `strerror` says what, for the log; `auth_failed` is what a server tells the client."""

    def __init__(self, reason: str, *, auth_failed: str = NO_SHARED_CIPHER) -> None:
        super().__init__(errno.EPROTO, reason)
        self.auth_failed = auth_failed


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How the data channel works. It holds for all key ids of a session.

    `push_cipher`: whether the client understands a pushed cipher. `protocol_flags`: whether it
    understands `protocol-flags`, and not only `key-derivation`."""

    cipher: Cipher
    use_ekm: bool
    epoch: bool
    dynamic_tls_crypt: bool
    exit_message: bool
    push_cipher: bool = True
    protocol_flags: bool = True

    def pushed_options(self) -> tuple[str, ...]:
        """What a server pushes so that the client comes to the same agreement."""
        options = [f"cipher {self.cipher.value}"] if self.push_cipher else []
        flags = [
            name
            for name, wanted in (
                ("cc-exit", self.exit_message),
                ("tls-ekm", self.use_ekm),
                ("dyn-tls-crypt", self.dynamic_tls_crypt),
                ("aead-epoch", self.epoch),
            )
            if wanted
        ]
        if self.protocol_flags and flags:
            options.append(f"protocol-flags {' '.join(flags)}")
        elif self.use_ekm:
            options.append("key-derivation tls-ekm")
        return tuple(options)


def parse_cipher_list(text: str) -> tuple[Cipher, ...]:
    """`data-ciphers` of a configuration, without duplicates. `?NAME` may be unknown, `DEFAULT`
    is the default list. TextRefused for an unknown or non-AEAD name, or if nothing is left."""
    if len(text.encode(errors="replace")) > MAX_CIPHER_LIST:
        raise TextRefused("data-ciphers", f"is longer than {MAX_CIPHER_LIST} bytes")
    chosen: dict[Cipher, None] = {}
    for word in text.split(":"):
        if word.upper() == "DEFAULT":
            chosen |= dict.fromkeys(DEFAULT_CIPHERS)
            continue
        cipher = _cipher_named(word.removeprefix("?"))
        if cipher:
            chosen[cipher] = None
        elif not word.startswith("?"):
            raise TextRefused("data-ciphers", f"has no AEAD cipher {shown(word)}")
    if not chosen:
        raise TextRefused("data-ciphers", "has no cipher at all")
    return tuple(chosen)


def _cipher_named(name: str) -> Cipher | None:
    """An AEAD cipher by name. `none` is never one: it would be a tunnel in the clear."""
    try:
        cipher = Cipher(name)
    except ValueError:
        return None
    return None if cipher is Cipher.NONE else cipher


def _known(names: Iterable[str]) -> tuple[Cipher, ...]:
    return tuple(filter(None, map(_cipher_named, names)))


# Server


def _ciphers_of(client: Announcement, occ: Compatibility) -> tuple[Cipher, ...]:
    """What the client accepts. A client that lists nothing accepts what its own side is set to."""
    if client.cipher_names is not None:
        return _known(client.cipher_names)
    listed = LEGACY_CIPHERS if client.ncp_version >= 2 else ()
    return listed + _known([occ.cipher_name or ""])


def _says_nothing(client: Announcement, occ: Compatibility) -> bool:
    return client.cipher_names is None and client.ncp_version < 2 and not occ.cipher_name


def agree_as_server(
    client: Announcement,
    occ: Compatibility,
    *,
    ciphers: Iterable[Cipher],
    features: IvProto,
    fallback: Cipher | None = None,
) -> Agreement:
    """What to use with this client. `features`: what our side can do, bits of IV_PROTO.

    `fallback` (`data-ciphers-fallback`) is for clients that say nothing about ciphers at all.
    NegotiationFailed if there is no common cipher, no DATA_V2, or compression framing."""
    proto = client.proto
    if IvProto.DATA_V2 not in proto:
        raise NegotiationFailed(
            "client has no DATA_V2, which data channel offload needs",
            auth_failed="Client does not support DATA_V2 (needs OpenVPN 2.4 or later)",
        )
    _refuse_compression(occ)
    accepted = _ciphers_of(client, occ)
    cipher = next((own for own in ciphers if own in accepted), None)
    if cipher is None and fallback and _says_nothing(client, occ):
        cipher = fallback
    if cipher is None or cipher is Cipher.NONE:
        names = client.cipher_names or _names(accepted) or (occ.cipher_name or "none",)
        raise NegotiationFailed(f"no shared cipher; client has {shown(':'.join(names), 128)}")
    return Agreement(
        cipher=cipher,
        push_cipher=client.cipher_names is not None or client.ncp_version >= 2,
        **_common(proto & features),
    )


def _names(ciphers: Iterable[Cipher]) -> tuple[str, ...]:
    return tuple(cipher.value for cipher in ciphers)


def _refuse_compression(occ: Compatibility) -> None:
    if occ.has_compression_framing:
        raise NegotiationFailed(
            "peer uses compression framing, which data channel offload has not",
            auth_failed="Compression is not supported (remove comp-lzo and compress)",
        )


def _common(shared: IvProto) -> dict[str, bool]:
    """Dynamic tls-crypt and the epoch format are pushed as protocol flags, so they need those."""
    flags = IvProto.CC_EXIT_NOTIFY in shared
    return {
        "use_ekm": IvProto.TLS_KEY_EXPORT in shared,
        "epoch": flags and IvProto.DATA_EPOCH in shared,
        "dynamic_tls_crypt": flags and IvProto.DYN_TLS_CRYPT in shared,
        "exit_message": flags,
        "protocol_flags": flags,
    }


# Client


def agree_as_client(
    *,
    pushed_cipher: str | None,
    protocol_flags: Iterable[str],
    key_derivation: str | None,
    peer_id: int | None,
    occ: Compatibility,
    ciphers: Iterable[Cipher],
    announced: IvProto,
    fallback: Cipher | None = None,
) -> Agreement:
    """What the server has decided, as its push reply says. `announced`: our own IV_PROTO.

    Without a pushed cipher the one in the server's options string counts if it is in `ciphers`,
    then `fallback`. NegotiationFailed for anything that we did not offer: a client that went on
    would encrypt in a way that the server does not expect, or that its user did not allow."""
    flags = frozenset(protocol_flags)
    for flag in sorted(flags):
        if flag not in _FLAGS or _FLAGS[flag] not in announced:
            raise NegotiationFailed(f"server pushed a protocol flag not offered: {shown(flag)}")
    if key_derivation not in {None, "tls-ekm"}:
        raise NegotiationFailed(f"unknown key derivation {shown(str(key_derivation))}")
    if key_derivation and IvProto.TLS_KEY_EXPORT not in announced:
        raise NegotiationFailed("server pushed a key derivation not offered")
    if peer_id is None:
        raise NegotiationFailed("server pushed no peer id: it does not use DATA_V2")
    return Agreement(
        cipher=_cipher_for_client(pushed_cipher, occ, tuple(ciphers), fallback),
        use_ekm=bool(key_derivation) or "tls-ekm" in flags,
        epoch="aead-epoch" in flags,
        dynamic_tls_crypt="dyn-tls-crypt" in flags,
        exit_message="cc-exit" in flags,
        push_cipher=pushed_cipher is not None,
        protocol_flags=bool(flags),
    )


def _cipher_for_client(
    pushed: str | None, occ: Compatibility, ciphers: tuple[Cipher, ...], fallback: Cipher | None
) -> Cipher:
    name = pushed if pushed is not None else occ.cipher_name
    cipher = _cipher_named(name or "")
    if cipher and cipher in ciphers:
        return cipher
    if pushed is not None:
        raise NegotiationFailed(f"server pushed a cipher that is not allowed: {shown(pushed)}")
    if fallback and fallback is not Cipher.NONE:
        return fallback
    raise NegotiationFailed(f"server pushed no cipher, and is set to {shown(name or 'none')}")
