"""Folders with the configuration of one end, and the keys and certificates that it names.

Both implementations read the same text."""

from __future__ import annotations

import datetime
import os
from functools import cache
from pathlib import Path

from certificate_lab import (
    CLIENT,
    DAY,
    NOW,
    SERVER,
    Issued,
    Leaf,
    authority,
    name_of,
    revocation_list,
    sign,
)
from interop.cases import Case, Transport, Wrap

from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.statickey import Metadata, ServerKey, StaticKey

PORT = 1194
SERVER_IPV4, SERVER_IPV6 = "10.9.0.1", "fd09::1"

_USAGE = {Role.SERVER: SERVER, Role.CLIENT: CLIENT}
_COMMON = """
dev tun
persist-key
persist-tun
ca ca.crt
cert own.crt
key own.key
hand-window 8
"""
_SERVER = f"""
server 10.9.0.0 255.255.255.0
topology subnet
dh none
port {PORT}
keepalive 1 4
"""
_CLIENT = """
client
nobind
remote-cert-tls server
connect-retry 1 2
connect-timeout 5
"""


@cache
def issued(role: Role, name: str) -> Issued:
    """A good certificate."""
    return sign(Leaf(name_of(name), _USAGE[role]), authority())


@cache
def expired(role: Role) -> Issued:
    """A certificate that was good until yesterday."""
    leaf = Leaf(name_of(f"expired-{role.value}"), _USAGE[role], before=NOW - 9 * DAY)
    leaf.after = NOW - DAY
    return sign(leaf, authority())


def revocations(*revoked: Issued) -> bytes:
    return revocation_list(authority(), *revoked, until=NOW + datetime.timedelta(days=30))


@cache
def static_key() -> StaticKey:
    return StaticKey.generate(os.urandom)


@cache
def server_key() -> ServerKey:
    return ServerKey.generate(os.urandom)


class Folder:
    """The folder of one end. `lines` are added to what the case says, `files` are written first."""

    def __init__(
        self,
        path: Path,
        role: Role,
        case: Case,
        *,
        ipv6: bool = False,
        remote: str = "",
        lines: str = "",
        identity: Issued | None = None,
        files: dict[str, bytes] | None = None,
        wrap: str | None = None,
    ) -> None:
        """`ipv6` is about the outer addresses, `remote` that of the server for a client; `wrap`
        takes the place of the lines that protect control packets."""
        path.mkdir()
        self.path, self.role = path, role
        self.config = path / f"{role.value}.conf"
        identity = identity or issued(role, f"{role.value}-1")
        content = {
            "ca.crt": authority().pem,
            "own.crt": identity.pem,
            "own.key": identity.key_pem,
            "static.key": static_key().format().encode(),
            "v2.key": _v2_key(role),
        }
        for name, data in (content | (files or {})).items():
            (path / name).write_bytes(data)
            (path / name).chmod(0o600)
        self.config.write_text(
            _COMMON
            + (_SERVER if role is Role.SERVER else _CLIENT + f"remote {remote} {PORT}\n")
            + _transport(role, case, ipv6=ipv6)
            + f"data-ciphers {case.cipher.value}\n"
            + (_wrap(role, case.wrap) if wrap is None else wrap)
            + lines
        )


def _v2_key(role: Role) -> bytes:
    if role is Role.SERVER:
        return server_key().format().encode()
    metadata = Metadata.timestamp(NOW.timestamp())
    return server_key().issue(os.urandom, metadata).format().encode()


def _transport(role: Role, case: Case, *, ipv6: bool) -> str:
    family = 6 if ipv6 else 4
    if case.transport is Transport.TCP:
        return f"proto tcp{family}-{role.value}\n"
    return f"proto udp{family}\nexplicit-exit-notify 1\n"


def _wrap(role: Role, wrap: Wrap) -> str:
    direction = 0 if role is Role.SERVER else 1
    return {
        Wrap.NONE: "",
        Wrap.TLS_AUTH: f"auth SHA256\ntls-auth static.key {direction}\n",
        Wrap.TLS_CRYPT: "tls-crypt static.key\n",
        Wrap.TLS_CRYPT_V2: "tls-crypt-v2 v2.key\n",
    }[wrap]
