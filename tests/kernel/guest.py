"""Where tests with the driver run, and where they do not."""

from __future__ import annotations

import os

import pytest

GUEST = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        "OVPN_DCO_KERNEL" not in os.environ,
        reason="needs a kernel with the ovpn driver: make test-kernel",
    ),
]
KERNEL, USERSPACE = "kernel", "userspace"
