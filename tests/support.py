"""Small helpers for tests: what a test needs from its machine, said once."""

from __future__ import annotations

import os
import shutil
from functools import cache

import pytest

TUN_NODE = "/dev/net/tun"

# What devices of the unit and security tests have unless a test says how many it wants:
#     OVPN_DCO_TEST_WORKERS=3 make test PYTEST_ARGS='tests/unit tests/security'
WORKERS = int(os.environ.get("OVPN_DCO_TEST_WORKERS", "1"))


@cache
def missing_privilege() -> str | None:
    """Why real interfaces and namespaces cannot be made here, or None when they can."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.access(TUN_NODE, os.R_OK | os.W_OK):
        return f"needs a usable {TUN_NODE}"
    return None


@cache
def processor_has_vaes() -> bool:
    """Whether `Offload.VAES_GCM` can be in effect here, by the flags that the kernel shows."""
    with open("/proc/cpuinfo") as info:
        flags = next((line.split() for line in info if line.startswith("flags")), [])
    return {"vaes", "vpclmulqdq", "avx2"} <= set(flags)


needs_root = pytest.mark.root


def find_tool(name: str) -> str | None:
    """Where a program is, also those that only root has in its path."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin:/usr/local/sbin"
    return shutil.which(name, path=path)


def needs_tool(*names: str) -> pytest.MarkDecorator:
    """Skips a test where a program is not installed.

    >>> @needs_tool("iperf3", "ping")
    ... def test_throughput(): ...
    """
    missing = [name for name in names if find_tool(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
