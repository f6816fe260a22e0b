"""What a figure must be read with: the machine and the versions."""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import subprocess
from pathlib import Path

from ovpn_dco.backend.userspace import openssl_version, probe_gcm
from ovpn_dco.bench.errors import UnavailableError
from ovpn_dco.testing import become_namespace_root, namespaces_available

_TUN_NODE = "/dev/net/tun"


def describe() -> dict[str, str]:
    """Processor, kernel and libraries."""
    return {
        "processor": _processor(),
        "cpus": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "openssl": openssl_version(),
        "aes-gcm": f"own, {own} bit" if (own := probe_gcm()) else "OpenSSL",
        "python": platform.python_version(),
        "iperf3": _iperf_version(),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return found[1] if found else platform.machine()


def _iperf_version() -> str:
    if not shutil.which("iperf3"):
        return "none"
    said = subprocess.run(["iperf3", "--version"], capture_output=True, text=True).stdout
    return said.split("\n", 1)[0].removeprefix("iperf ").split(" ")[0]


def require_traffic() -> None:
    """Make sure that namespaces, TUN and programs are there; call it before any thread starts.

    Without privilege the process becomes root of a user namespace of its own.

    Raises UnavailableError, saying what is missing.
    """
    missing = [name for name in ("iperf3", "ping") if not shutil.which(name)]
    if missing:
        packages = " ".join({"iperf3": "iperf3", "ping": "iputils-ping"}[name] for name in missing)
        raise UnavailableError(f"{' and '.join(missing)} not installed: apt-get install {packages}")
    if namespaces_available() is not None:
        try:
            become_namespace_root()
        except OSError as error:
            raise UnavailableError(
                "network namespaces need root, or user namespaces, which are refused here: "
                f"{error.strerror}"
            ) from error
        reason = namespaces_available()
        if reason is not None:
            raise UnavailableError(reason)
    try:
        os.close(os.open(_TUN_NODE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        mode = ""
        if os.path.exists(_TUN_NODE):
            mode = f" (its mode is {stat.filemode(os.stat(_TUN_NODE).st_mode)})"
        raise UnavailableError(f"{_TUN_NODE}: {error.strerror}{mode}") from error
