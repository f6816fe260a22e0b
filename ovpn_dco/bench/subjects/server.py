"""A whole VPN server that takes clients in: a process with a configuration file, as operators have
it. Ours and openvpn's read the same file."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ovpn_dco.bench.credentials import CredentialFiles
from ovpn_dco.bench.subjects.base import Course, Subject, Tunnel
from ovpn_dco.bench.subjects.openvpn import OpenVpn
from ovpn_dco.bench.subjects.ours import Ours

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ovpn_dco.model import Address

PORT = 1194
_CONFIGURATION = """\
port {port}
proto udp4
dev tun
topology subnet
server 10.97.0.0 255.255.0.0
ca {files.authority}
cert {certificate}
key {private_key}
dh none
tls-crypt {files.tls_crypt}
tls-version-min 1.3
data-ciphers AES-256-GCM
keepalive 10 60
max-clients 60000
# All clients of the bench have one certificate and come at once.
duplicate-cn
connect-freq-initial 1000000 1
verb 1
"""

_PROFILE = """\
client
dev tun
proto udp4
remote {address[0]} {address[1]}
nobind
ca {files.authority}
cert {certificate}
key {private_key}
remote-cert-tls server
tls-crypt {files.tls_crypt}
tls-version-min 1.3
data-ciphers AES-256-GCM
verb 1
"""


class ServerTunnel(Tunnel):
    """A server at work in the hub; its clients are whoever knows the `credentials`."""

    def __init__(self, course: Course, *, spokes: int) -> None:
        super().__init__(course, peers=spokes)
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ovpn-dco-bench-"))
        self.credentials = CredentialFiles(Path(folder))
        self.credentials.make()
        self.configuration = Path(folder, "server.conf")
        self.configuration.write_text(configuration(self.credentials), encoding="utf-8")

    def address(self, spoke: int = 0) -> Address:
        """The server as a spoke calls it."""
        return (self.topology.links[spoke].left_ipv4, PORT)

    def connect(self, spoke: int, command: Sequence[str]) -> None:
        """Let a spoke be a client that stays. `command` is followed by the name of its file."""
        file = Path(self.credentials.folder, f"client-{spoke}.conf")
        file.write_text(profile(self.credentials, self.address(spoke)), encoding="utf-8")
        self.spawn(self.clients[spoke], [*command, str(file)])
        self.wait_reached(self.clients[spoke], self.server_ipv4)


class VpnServer:
    """A program that serves the file, on one processor where one is named."""

    def __init__(
        self,
        subject: Subject,
        command: Sequence[str],
        *,
        client: Sequence[str],
        module: str = "",
    ) -> None:
        """`subject` says who it is; `command` is followed by the name of the file, and so is that
        of its `client`. `module` is what must be there, of ours.
        """
        self._subject = subject
        self._command = tuple(command)
        self.client_command = tuple(client)
        self._module = module
        self.name, self.title = subject.name, subject.title

    @classmethod
    def openvpn(cls) -> VpnServer:
        """OpenVPN's, in user space."""
        command = ("openvpn", "--disable-dco", "--config")
        return cls(OpenVpn.plain(), command, client=command)

    @classmethod
    def ours(cls) -> VpnServer:
        """Ours, of this package."""
        program = (sys.executable, "-m", "ovpn_dco")
        return cls(
            Ours(), (*program, "server"), client=(*program, "client"), module="ovpn_dco.server"
        )

    def obstacle(self, transport: str) -> str | None:
        """What the program misses."""
        if self._module and importlib.util.find_spec(self._module) is None:
            return "this build has no server"
        return self._subject.obstacle(transport)

    def caveat(self) -> str | None:
        """As of its tunnels."""
        return self._subject.caveat()

    def version(self) -> str:
        """As of its tunnels."""
        return self._subject.version()

    def open(
        self, course: Course, *, spokes: int = 1, cpus: frozenset[int] | None = None
    ) -> ServerTunnel:
        """Start it in the hub, with so many networks of clients around it."""
        tunnel = ServerTunnel(course, spokes=spokes)
        try:
            with on_cpus(cpus):
                command = [*self._command, str(tunnel.configuration)]
                process = tunnel.spawn(tunnel.server, command)
            tunnel.wait_until(lambda: _listens(process.pid), "the server's socket")
        except BaseException:
            tunnel.close()
            raise
        return tunnel


def configuration(files: CredentialFiles) -> str:
    """The text of the file."""
    return _CONFIGURATION.format(
        port=PORT,
        files=files,
        certificate=files.certificate("server"),
        private_key=files.private_key("server"),
    )


def profile(files: CredentialFiles, address: Address) -> str:
    """The text of the file of a client, of the server at an address."""
    return _PROFILE.format(
        address=address,
        files=files,
        certificate=files.certificate("client"),
        private_key=files.private_key("client"),
    )


@contextmanager
def on_cpus(cpus: frozenset[int] | None) -> Iterator[None]:
    """Processes and threads that start inside stay on these processors; None: wherever they are."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _listens(pid: int) -> bool:
    try:
        table = Path(f"/proc/{pid}/net/udp").read_text()
    except OSError:
        return False  # it has ended, which `wait_until` tells better
    return f":{PORT:04X} " in table
