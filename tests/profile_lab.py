"""Configurations with certificates and keys that work, as text on both ends."""

from __future__ import annotations

import random

import certificate_lab as lab
from config_files import parse_client, parse_server
from control_packets import CLIENT_KEY, KEY, SERVER_KEY, seeded
from session_link import SERVER_ADDRESS, Network

from ovpn_dco.config import ClientConfig, Credentials, ServerConfig
from ovpn_dco.protocol.session_client import ClientSession
from ovpn_dco.protocol.tlscontext import TlsSource
from ovpn_dco.runtime.profile import client_login, client_profile, for_remote, session_settings
from ovpn_dco.runtime.tls_profile import ReloadingTls
from ovpn_dco.runtime.wrap_profile import client_wrapping, server_front, stateless_server

CLIENT = "client\nremote 192.0.2.1\nremote-cert-tls server\n"
SERVER = "server 10.8.0.0 255.255.255.0\nremote-cert-tls client\n"
IDENTITY = "ca ca.crt\ncert own.crt\nkey own.key\n"
# Of the client, and of the server.
WRAPS = {
    "plain": ("", ""),
    "tls-auth": ("tls-auth ta.key 1\nauth SHA256", "tls-auth ta.key 0\nauth SHA256"),
    "tls-auth-bidirectional": ("tls-auth ta.key", "tls-auth ta.key"),
    "tls-crypt": ("tls-crypt ta.key", "tls-crypt ta.key"),
    "tls-crypt-v2": ("tls-crypt-v2 v2.key", "tls-crypt-v2 v2.key"),
    "tls-crypt-v2 beside tls-auth": (
        "tls-crypt-v2 v2.key",
        "tls-crypt-v2 v2.key\ntls-auth ta.key 0",
    ),
    "tls-auth beside tls-crypt-v2": (
        "tls-auth ta.key 1",
        "tls-crypt-v2 v2.key\ntls-auth ta.key 0",
    ),
    "tls-crypt beside tls-crypt-v2": ("tls-crypt ta.key", "tls-crypt-v2 v2.key\ntls-crypt ta.key"),
}


def files(mine: lab.Issued, v2: str) -> dict[str, bytes]:
    return {
        "ca.crt": lab.authority().pem,
        "own.crt": mine.pem,
        "own.key": mine.key_pem,
        "ta.key": KEY.format().encode(),
        "v2.key": v2.encode(),
    }


def client(*lines: str, identity: str = IDENTITY, **more: bytes) -> ClientConfig:
    """A client of the usual authority, and these lines and files."""
    known = files(lab.client_leaf(), CLIENT_KEY.format())
    return parse_client("\n".join([CLIENT + identity, *lines]), **known | more)


def server(*lines: str, identity: str = IDENTITY, **more: bytes) -> ServerConfig:
    known = files(lab.server_leaf(), SERVER_KEY.format())
    return parse_server("\n".join([SERVER + identity, *lines]), **known | more)


class ProfileNetwork(Network):
    """A `Network` whose two ends are made of configurations."""

    def __init__(
        self, client: ClientConfig, server: ServerConfig, server_tls: TlsSource | None = None
    ) -> None:
        super().__init__("plain")
        client = for_remote(client, client.remotes[0])
        front = server_front(server)
        self.front = stateless_server(server, front, seeded(1))
        self.server_settings = session_settings(
            server, random_bytes=random.Random(2).randbytes, tls=server_tls or ReloadingTls(server)
        )
        settings = session_settings(
            client, random_bytes=random.Random(3).randbytes, tls=ReloadingTls(client)
        )
        self.client = ClientSession(
            settings,
            client_login(client, Credentials("alice", "secret")),
            client_profile(client, settings),
            wrapping=client_wrapping(client),
            address=SERVER_ADDRESS,
        )
        self.client.start(self.now)
