"""Seal and open; the figures that matter are in `extra_info`, in nanoseconds per packet."""

from __future__ import annotations

from typing import Any

import pytest

from ovpn_dco import Cipher
from ovpn_dco.backend.userspace import bench_crypto

BATCHES = 20


@pytest.mark.parametrize("size", [64, 512, 1400])
@pytest.mark.parametrize("way", ["seal", "open"])
@pytest.mark.parametrize("cipher", [Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305])
def test_crypto(benchmark: Any, cipher: Cipher, way: str, size: int) -> None:
    arguments = (cipher.number, cipher.key_size, size, BATCHES, way == "seal")
    raw_ns, core_ns = benchmark(bench_crypto, *arguments)
    benchmark.extra_info.update(raw_ns=raw_ns, core_ns=core_ns, extra_ns=core_ns - raw_ns)
