"""Negotiation of the data channel, for both roles and for equals."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.model import DEFAULT_CIPHERS, Cipher
from ovpn_dco.protocol.ncp import (
    NO_SHARED_CIPHER,
    Agreement,
    NegotiationFailed,
    agree_as_client,
    agree_as_server,
    parse_cipher_list,
)
from ovpn_dco.protocol.occ import Compatibility, parse_options_string
from ovpn_dco.protocol.peerinfo import Announcement, IvProto, announce, parse_peer_info, proto_for
from ovpn_dco.protocol.push import parse_options
from ovpn_dco.protocol.text import TextRefused

FULL = proto_for(pull=True, epoch=True, push_update=True)
AES256, AES128, CHACHA = DEFAULT_CIPHERS
NO_OCC = Compatibility()


def client(*lines: str, proto: int = 990) -> Announcement:
    return parse_peer_info("".join(f"{line}\n" for line in (f"IV_PROTO={proto}", *lines)).encode())


def occ(cipher: str) -> Compatibility:
    return parse_options_string(f"V4,dev-type tun,cipher {cipher},tls-client".encode())


def serve(peer: Announcement, compatibility: Compatibility = NO_OCC, **more: object) -> Agreement:
    settings = {"ciphers": DEFAULT_CIPHERS, "features": FULL, **more}
    return agree_as_server(peer, compatibility, **settings)  # type: ignore[arg-type]


# Lists


@pytest.mark.parametrize(
    ("text", "ciphers"),
    [
        ("AES-256-GCM", (AES256,)),
        ("chacha20-poly1305:aes-128-gcm", (CHACHA, AES128)),
        ("DEFAULT", DEFAULT_CIPHERS),
        ("AES-192-GCM:DEFAULT", (Cipher.AES_192_GCM, *DEFAULT_CIPHERS)),
        ("AES-128-GCM:?AES-256-CBC:?AES-128-GCM", (AES128,)),
    ],
)
def test_cipher_list(text: str, ciphers: tuple[Cipher, ...]) -> None:
    assert parse_cipher_list(text) == ciphers


@pytest.mark.parametrize(
    "text", ["", "none", "AES-256-CBC", "AES-256-GCM:BF-CBC", "?none", "?X", ":", "A" * 128]
)
def test_cipher_list_without_sense(text: str) -> None:
    with pytest.raises(TextRefused, match="data-ciphers"):
        parse_cipher_list(text)


# Server


def test_order_of_the_server_decides() -> None:
    for own in itertools.permutations(DEFAULT_CIPHERS):
        peer = client("IV_CIPHERS=CHACHA20-POLY1305:AES-128-GCM")
        expected = next(cipher for cipher in own if cipher is not AES256)
        assert serve(peer, ciphers=own).cipher is expected


def test_legacy_list() -> None:
    assert serve(client("IV_NCP=2"), ciphers=[CHACHA, AES128]).cipher is AES128
    with pytest.raises(NegotiationFailed, match="AES-256-GCM:AES-128-GCM"):
        serve(client("IV_NCP=2"), ciphers=[CHACHA])


def test_cipher_of_a_client_that_cannot_negotiate() -> None:
    agreement = serve(client(), occ("AES-128-GCM"))
    assert agreement.cipher is AES128
    assert not agreement.push_cipher
    assert not any("cipher" in option for option in agreement.pushed_options())


def test_cipher_of_the_options_string_does_not_count_beside_a_list() -> None:
    with pytest.raises(NegotiationFailed) as caught:
        serve(client("IV_CIPHERS=CHACHA20-POLY1305"), occ("AES-128-GCM"), ciphers=[AES128])
    assert caught.value.auth_failed == NO_SHARED_CIPHER


def test_fallback_is_for_those_that_say_nothing() -> None:
    assert serve(client(), fallback=AES128).cipher is AES128
    for peer, compatibility in (
        (client("IV_CIPHERS=BF-CBC"), NO_OCC),
        (client("IV_CIPHERS="), NO_OCC),
        (client(), occ("BF-CBC")),
    ):
        with pytest.raises(NegotiationFailed, match="no shared cipher"):
            serve(peer, compatibility, fallback=AES128)


@pytest.mark.parametrize("name", ["none", "NONE", "AES-256-CBC", ""])
def test_only_aead(name: str) -> None:
    with pytest.raises(NegotiationFailed):
        serve(client(f"IV_CIPHERS={name}"), ciphers=[*DEFAULT_CIPHERS, Cipher.NONE])
    with pytest.raises(NegotiationFailed):
        serve(client(), fallback=Cipher.NONE)


def test_without_data_v2() -> None:
    with pytest.raises(NegotiationFailed, match="DATA_V2") as caught:
        serve(client("IV_CIPHERS=AES-256-GCM", proto=8))
    assert "DATA_V2" in caught.value.auth_failed


def test_compression_framing() -> None:
    compatibility = parse_options_string(b"V4,dev-type tun,comp-lzo,tls-client")
    with pytest.raises(NegotiationFailed, match="compression"):
        serve(client("IV_CIPHERS=AES-256-GCM"), compatibility)


def test_features_are_those_of_both() -> None:
    peer = client("IV_CIPHERS=AES-256-GCM", proto=int(FULL))
    everything = serve(peer)
    assert everything.pushed_options() == (
        "cipher AES-256-GCM",
        "protocol-flags cc-exit tls-ekm dyn-tls-crypt aead-epoch",
    )
    assert not serve(peer, features=FULL & ~IvProto.DATA_EPOCH).epoch
    plain = serve(client("IV_CIPHERS=AES-256-GCM", proto=2))
    assert plain.pushed_options() == ("cipher AES-256-GCM",)
    assert not plain.use_ekm


def test_exporter_without_protocol_flags() -> None:
    peer = client("IV_CIPHERS=AES-256-GCM", proto=2 | 8 | 512 | 1024)
    agreement = serve(peer)
    assert agreement.pushed_options() == ("cipher AES-256-GCM", "key-derivation tls-ekm")
    assert not agreement.dynamic_tls_crypt
    assert not agreement.epoch


# Client


def follow(*options: str, compatibility: Compatibility = NO_OCC, **more: object) -> Agreement:
    pushed = parse_options(options)
    settings = {"ciphers": DEFAULT_CIPHERS, "announced": FULL, **more}
    return agree_as_client(
        pushed_cipher=pushed.text("cipher"),
        protocol_flags=pushed.protocol_flags,
        key_derivation=pushed.text("key-derivation"),
        peer_id=pushed.number("peer-id"),
        occ=compatibility,
        **settings,  # type: ignore[arg-type]
    )


def test_client_follows() -> None:
    agreement = follow("peer-id 0", "cipher aes-128-gcm", "protocol-flags cc-exit tls-ekm")
    assert agreement.cipher is AES128
    assert agreement.use_ekm
    assert agreement.exit_message
    assert not agreement.epoch
    assert follow("peer-id 0", "cipher AES-128-GCM", "key-derivation tls-ekm").use_ekm


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["cipher AES-256-GCM"], "peer id"),
        (["peer-id 1", "cipher AES-192-GCM"], "not allowed"),
        (["peer-id 1", "cipher none"], "not allowed"),
        (["peer-id 1", "cipher BF-CBC"], "not allowed"),
        (["peer-id 1"], "pushed no cipher"),
        (["peer-id 1", "cipher AES-256-GCM", "protocol-flags cc-exit time-travel"], "flag"),
        (["peer-id 1", "cipher AES-256-GCM", "key-derivation md5"], "derivation"),
    ],
)
def test_client_refuses(options: list[str], reason: str) -> None:
    with pytest.raises(NegotiationFailed, match=reason):
        follow(*options, fallback=None)


def test_client_refuses_what_it_did_not_offer() -> None:
    good = ("peer-id 1", "cipher AES-256-GCM")
    for flag, bit in (("aead-epoch", IvProto.DATA_EPOCH), ("tls-ekm", IvProto.TLS_KEY_EXPORT)):
        assert follow(*good, f"protocol-flags {flag}")
        with pytest.raises(NegotiationFailed, match="not offered"):
            follow(*good, f"protocol-flags {flag}", announced=FULL & ~bit)
    with pytest.raises(NegotiationFailed, match="not offered"):
        follow(*good, "key-derivation tls-ekm", announced=IvProto.DATA_V2)


def test_client_of_a_server_that_pushes_no_cipher() -> None:
    assert follow("peer-id 1", compatibility=occ("CHACHA20-POLY1305")).cipher is CHACHA
    assert follow("peer-id 1", compatibility=occ("BF-CBC"), fallback=AES128).cipher is AES128
    with pytest.raises(NegotiationFailed, match="BF-CBC"):
        follow("peer-id 1", compatibility=occ("BF-CBC"))


def test_fallback_never_overrides_a_pushed_cipher() -> None:
    with pytest.raises(NegotiationFailed, match="not allowed"):
        follow("peer-id 1", "cipher AES-192-GCM", fallback=AES128)


CIPHERS = st.lists(st.sampled_from([*DEFAULT_CIPHERS, Cipher.AES_192_GCM]), unique=True)
PROTOS = st.sets(st.sampled_from(list(IvProto))).map(lambda bits: IvProto(sum(bits)))


@given(theirs=CIPHERS, own=CIPHERS, proto=PROTOS, features=PROTOS)
def test_both_ends_agree(
    theirs: list[Cipher], own: list[Cipher], proto: IvProto, features: IvProto
) -> None:
    proto |= IvProto.DATA_V2
    peer = announce(version="1", platform="x", proto=proto, ciphers=theirs)
    try:
        server = serve(peer, ciphers=own, features=features)
    except NegotiationFailed:
        assert not set(theirs) & set(own)
        return
    side = follow("peer-id 7", *server.pushed_options(), ciphers=theirs, announced=proto)
    for name in ("cipher", "use_ekm", "epoch", "dynamic_tls_crypt", "exit_message"):
        assert getattr(side, name) == getattr(server, name)
