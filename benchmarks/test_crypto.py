"""Seal and open; the figures that matter are in `extra_info`, in nanoseconds per packet."""

from __future__ import annotations

from typing import Any

import pytest

from ovpn_dco import Cipher
from ovpn_dco.backend.userspace import bench_crypto
from ovpn_dco.bench.scenarios import crypto_codes

BATCHES = 20


@pytest.mark.parametrize("size", [64, 512, 1400, 8900])
@pytest.mark.parametrize("way", ["seal", "open"])
@pytest.mark.parametrize(
    ("cipher", "own"),
    [
        (cipher, own)
        for cipher in (Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305)
        for own in crypto_codes(cipher)
    ],
)
def test_crypto(benchmark: Any, cipher: Cipher, own: int, way: str, size: int) -> None:
    arguments = (cipher.number, cipher.key_size, size, BATCHES, way == "seal")
    raw_ns, core_ns = benchmark(bench_crypto, *arguments, own=own)
    benchmark.extra_info.update(raw_ns=raw_ns, core_ns=core_ns, extra_ns=core_ns - raw_ns)
