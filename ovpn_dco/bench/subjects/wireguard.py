"""wireguard-go, configured through its own socket (https://www.wireguard.com/xplatform/)."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from ovpn_dco.bench.errors import MeasurementError
from ovpn_dco.bench.subjects.base import Course, Tunnel

if TYPE_CHECKING:
    from ovpn_dco.testing import Namespace

#: The first that Debian packages with TUN and UDP offloads.
_FIRST_WITH_OFFLOADS = 20231211
_PORT = 51820
_INTERFACE = "wg0"


class WireGuardGo:
    """The Go implementation, in user space as ours is."""

    name = "wireguard-go"
    title = "wireguard-go"

    def obstacle(self, transport: str) -> str | None:
        """It needs programs: itself, openssl for keys, unshare for a /run of its own."""
        if transport == "tcp":
            return "WireGuard has no TCP transport"
        for program in ("wireguard-go", "openssl", "unshare"):
            if not shutil.which(program):
                return f"{program} is not installed"
        return None

    def caveat(self) -> str | None:
        """An old one has no offloads: to beat it would say nothing."""
        date = release_date(self.version())
        if date is None:
            return "of unknown version"
        return "too old: without offloads" if date < _FIRST_WITH_OFFLOADS else None

    def version(self) -> str:
        """The package's version where there is a package, else what the program says.

        The constant in the program has not been raised since February 2023, so it understates.
        """
        done = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Version}", "wireguard-go"],
            capture_output=True,
            text=True,
        ) if shutil.which("dpkg-query") else None  # fmt: skip
        if done and done.returncode == 0 and done.stdout:
            return f"wireguard-go {done.stdout}"
        said = subprocess.run(["wireguard-go", "--version"], capture_output=True, text=True)
        found = re.search(r"v(\d\S*)", said.stdout)
        return f"wireguard-go {found[1]}" if found else "wireguard-go"

    def open(self, course: Course) -> Tunnel:
        """Two wireguard-go processes that know each other."""
        tunnel = Tunnel(course)
        try:
            keys = {"server": _key_pair(), "client": _key_pair()}
            link = tunnel.topology.link
            ends = (
                (tunnel.server, "server", "client", tunnel.server_ipv4, tunnel.server_ipv6,
                 f"{link.right_ipv4}:{_PORT}"),
                (tunnel.client, "client", "server", tunnel.client_ipv4, tunnel.client_ipv6,
                 f"{link.left_ipv4}:{_PORT}"),
            )  # fmt: skip
            for namespace, me, other, ipv4, ipv6, endpoint in ends:
                pid = _start(tunnel, namespace)
                _configure(pid, private=keys[me][0], peer=keys[other][1], endpoint=endpoint)
                namespace.set_mtu(_INTERFACE, course.inner_mtu)
                namespace.set_up(_INTERFACE)
                namespace.add_address(_INTERFACE, f"{ipv4}/24")
                namespace.add_address(_INTERFACE, f"{ipv6}/64")
            tunnel.wait_connected()
        except BaseException:
            tunnel.close()
            raise
        return tunnel


def release_date(version: str) -> int | None:
    """The date in a version of wireguard-go: 20231211 of ``0.0.20231211-1~bpo12+1``."""
    found = re.search(r"0\.0\.(\d{8})", version)
    return int(found[1]) if found else None


def _start(tunnel: Tunnel, namespace: Namespace) -> int:
    """Start one in a mount namespace with an empty /run: there its control socket has a fixed
    path, which would need root and could clash with a real one.
    """
    script = f"mount -t tmpfs tmpfs /run && exec wireguard-go --foreground {_INTERFACE}"
    # It asks Linux users whether they would not rather have the kernel module.
    environment = {**os.environ, "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1"}
    process = tunnel.spawn(namespace, ["unshare", "-m", "sh", "-c", script], env=environment)
    tunnel.wait_until(lambda: _listens(process.pid), "wireguard-go's control socket")
    return process.pid


def _control_path(pid: int) -> Path:
    return Path(f"/proc/{pid}/root/run/wireguard/{_INTERFACE}.sock")


def _listens(pid: int) -> bool:
    """Whether the socket takes connections: its file is there a moment before."""
    with socket.socket(socket.AF_UNIX) as control:
        return control.connect_ex(str(_control_path(pid))) == 0


def _configure(pid: int, *, private: bytes, peer: bytes, endpoint: str) -> None:
    lines = ["set=1", f"private_key={private.hex()}", f"listen_port={_PORT}"]
    lines += [f"public_key={peer.hex()}", f"endpoint={endpoint}"]
    lines += ["allowed_ip=0.0.0.0/0", "allowed_ip=::/0"]
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(_control_path(pid)))
        control.sendall("\n".join([*lines, "", ""]).encode())
        answer = control.recv(256).decode()
    if "errno=0" not in answer:
        raise MeasurementError(f"wireguard-go refuses its configuration: {answer.strip()}")


def _key_pair() -> tuple[bytes, bytes]:
    """A private and a public X25519 key. Both DER forms (RFC 8410) end in the 32 bytes."""
    command = ["openssl", "genpkey", "-algorithm", "X25519", "-outform", "DER"]
    private = subprocess.run(command, check=True, capture_output=True).stdout
    command = ["openssl", "pkey", "-inform", "DER", "-pubout", "-outform", "DER"]
    public = subprocess.run(command, check=True, capture_output=True, input=private).stdout
    return private[-32:], public[-32:]
