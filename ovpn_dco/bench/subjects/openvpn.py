"""OpenVPN 2.6 in user space: TLS with certificates made on the spot, AES-256-GCM, no DCO.

Both run peer to peer, which spares openvpn the scheduling of its multi-client server.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ovpn_dco.bench.subjects.base import Course, Tunnel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ovpn_dco.testing import Namespace

_COMMON = (
    *("--sndbuf", "4194304", "--rcvbuf", "4194304", "--txqueuelen", "10000"),
    *("--tun-mtu", "9000", "--mssfix", "0"),
)
#: What its own guides say about throughput, and nothing that costs safety, by transport.
#: --fast-io is of UDP only. --tcp-queue-limit is of the queues of a multi-client server, which
#: neither end has here: a full socket stops the reading of the TUN, whose queue is --txqueuelen.
TUNED = {"udp": (*_COMMON, "--fast-io"), "tcp": (*_COMMON, "--tcp-nodelay")}


class OpenVpn:
    """One way of running openvpn."""

    def __init__(
        self, name: str, title: str, *, options: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        """`options` are further ones, by transport."""
        self.name = name
        self.title = title
        self._options = options or {}

    @classmethod
    def plain(cls) -> OpenVpn:
        """With its defaults."""
        return cls("openvpn", "openvpn")

    @classmethod
    def tuned(cls) -> OpenVpn:
        """As its guides tune it."""
        return cls("openvpn-tuned", "openvpn tuned", options=TUNED)

    def obstacle(self, transport: str) -> str | None:
        """It needs two programs."""
        for program in ("openvpn", "openssl"):
            if not shutil.which(program):
                return f"{program} is not installed"
        return None

    def caveat(self) -> str | None:
        """Only 2.6 and later have the data channel that we compare with."""
        found = re.match(r"OpenVPN (\d+)\.(\d+)", self.version())
        if found and (int(found[1]), int(found[2])) >= (2, 6):
            return None
        return "older than 2.6"

    def version(self) -> str:
        """As the program says."""
        # --version exits with 1 in the 2.x series.
        done = subprocess.run(["openvpn", "--version"], capture_output=True, text=True)
        found = re.match(r"OpenVPN \S+", done.stdout)
        return found[0] if found else "OpenVPN"

    def open(self, course: Course) -> Tunnel:
        """Two openvpn processes and their TLS handshake."""
        tunnel = Tunnel(course)
        try:
            with tempfile.TemporaryDirectory(prefix="ovpn-dco-bench-") as folder:
                prints = {name: _certificate(Path(folder), name) for name in ("server", "client")}
                link = tunnel.topology.link
                v4 = (tunnel.server_ipv4, tunnel.client_ipv4)
                v6 = (tunnel.server_ipv6, tunnel.client_ipv6)
                self._start(
                    tunnel, tunnel.server, Path(folder, "server"), prints["client"], v4, v6,
                    ("--tls-server", "--dh", "none"), (link.left_ipv4, link.right_ipv4),
                )  # fmt: skip
                self._start(
                    tunnel, tunnel.client, Path(folder, "client"), prints["server"], v4[::-1],
                    v6[::-1], ("--tls-client",), (link.right_ipv4, link.left_ipv4),
                )  # fmt: skip
                tunnel.wait_connected()
        except BaseException:
            tunnel.close()
            raise
        return tunnel

    def _start(
        self,
        tunnel: Tunnel,
        namespace: Namespace,
        files: Path,
        peer_fingerprint: str,
        ipv4: tuple[str, str],
        ipv6: tuple[str, str],
        role: tuple[str, ...],
        ends: tuple[str, str],
    ) -> None:
        command = ["openvpn", *self.arguments(tunnel.course.transport, role), *role]
        command += ["--local", ends[0], "--remote", ends[1], "--port", "1194"]
        command += ["--cert", f"{files}.crt", "--key", f"{files}.key"]
        command += ["--peer-fingerprint", peer_fingerprint]
        command += ["--ifconfig", *ipv4, "--ifconfig-ipv6", f"{ipv6[0]}/64", ipv6[1]]
        tunnel.spawn(namespace, command)

    def arguments(self, transport: str, role: Sequence[str]) -> list[str]:
        """What decides about speed: how packets are carried, sealed and buffered."""
        protocol = transport
        if transport == "tcp":
            # The client tries once a second until the server listens.
            protocol = "tcp-server" if "--tls-server" in role else "tcp-client"
        common = ["--dev", "tun", "--proto", protocol, "--disable-dco"]
        common += ["--data-ciphers", "AES-256-GCM", "--verb", "1"]
        return [*common, *self._options.get(transport, ())]


def _certificate(folder: Path, name: str) -> str:
    """Make a self-signed certificate; its SHA-256 fingerprint."""
    certificate = folder / f"{name}.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", f"/CN={name}",
         "-keyout", folder / f"{name}.key", "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    shown = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256"],
        check=True,
        capture_output=True,
        text=True,
    )
    return shown.stdout.partition("=")[2].strip()
