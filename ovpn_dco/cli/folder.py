"""The folder of one small VPN: the authority's key, the server's file, a profile for each client.

Everything but the authority's key is inline, so that each file works wherever it is carried."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from ovpn_dco import config
from ovpn_dco.cli.authority import Authority, Identity
from ovpn_dco.errors import AlreadyExists, InvalidArgument, NotFound
from ovpn_dco.model import Cipher
from ovpn_dco.protocol.statickey import Metadata, ServerKey

__all__ = ["AUTHORITY_KEY", "SERVER_FILE", "Plan", "add_clients", "create", "is_made", "profile"]

AUTHORITY_KEY = "ca.key"
SERVER_FILE = "server.conf"
_HEADER = "# Made by ovpn-dco quickstart. It contains a private key: show it to nobody.\n"
# A common name, and a file name that leads nowhere else.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,47}", re.ASCII)
_CIPHERS = (Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305, Cipher.AES_128_GCM)
_MTU = 1420  # fits into 1500 bytes of wire, over IPv6 as well
_VERB = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a new VPN is to be. `host` is where clients find the server."""

    host: str
    port: int = 1194
    protocol: config.Protocol = config.Protocol.UDP
    ipv4: IPv4Network
    ipv6: IPv6Network | None = None


def profile(path: Path, client: str) -> Path:
    """The file of a client."""
    return path / f"{client}.ovpn"


def is_made(path: Path) -> bool:
    """Whether the folder is one of ours, to which clients can be added."""
    return (path / SERVER_FILE).is_file()


def create(path: Path, plan: Plan, clients: Iterable[str]) -> list[Path]:
    """Makes the folder and returns its files. Either all of them are made, or none.

    AlreadyExists if there is something in it; ValueError for a plan that makes no sense."""
    names = _checked(clients)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise AlreadyExists(errno.EEXIST, f"{path} is there already, and not empty")
    authority = Authority.create(f"{plan.host[:48]} VPN CA")
    key = ServerKey.generate(secrets.token_bytes)
    server = _server(plan, authority, key)
    contents = {AUTHORITY_KEY: authority.key, SERVER_FILE: _text(config.write_server(server))}
    contents |= _profiles(server, authority, key, plan.host, names)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return _write(path, contents)


def add_clients(path: Path, host: str | None, clients: Iterable[str]) -> list[Path]:
    """Makes profiles for more clients, and returns their files.

    Without `host` they get that of the profiles that are there. AlreadyExists for the name of a
    client that has a profile, NotFound if a file that this takes is not in the folder."""
    names = _checked(clients)
    for name in names:
        if profile(path, name).exists():
            raise AlreadyExists(errno.EEXIST, f"{profile(path, name)} is there already")
    server = config.parse_server(path / SERVER_FILE)
    if server.tls.ca is None or server.wrap.tls_crypt_v2 is None:
        text = f"{path / SERVER_FILE} has no ca and tls-crypt-v2 to make clients with"
        raise InvalidArgument(errno.EINVAL, text)
    authority = Authority.load(server.tls.ca.data, _authority_key(path))
    key = ServerKey.parse(server.wrap.tls_crypt_v2.data)
    contents = _profiles(server, authority, key, host or _known_host(path), names)
    return _write(path, contents)


def _authority_key(path: Path) -> bytes:
    try:
        return (path / AUTHORITY_KEY).read_bytes()
    except FileNotFoundError:
        text = f"{path / AUTHORITY_KEY} is not there: bring it back for as long as this takes"
        raise NotFound(errno.ENOENT, text) from None


def _known_host(path: Path) -> str:
    for file in sorted(path.glob("*.ovpn")):
        return config.parse_client(file).remotes[0].host
    text = f"no profile is left in {path} that tells the server's address: give --host"
    raise NotFound(errno.ENOENT, text)


def _checked(clients: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(clients))
    for name in names:
        if not _NAME.fullmatch(name):
            text = f"{name!r} is no name for a client: letters, digits, '.', '_' and '-', up to 48"
            raise InvalidArgument(errno.EINVAL, text, attribute="client")
    return names


def _server(plan: Plan, authority: Authority, key: ServerKey) -> config.ServerConfig:
    server = config.ServerConfig(
        device=config.DeviceConfig(topology=config.Topology.SUBNET),
        transport=config.TransportConfig(
            protocol=plan.protocol,
            bind=True,
            local_port=plan.port,
            explicit_exit_notify=_notices(plan.protocol),
        ),
        mtu=config.MtuConfig(tun_mtu=_MTU),
        pool=config.PoolConfig.for_networks(plan.ipv4, plan.ipv6),
        keepalive=config.KeepaliveConfig.for_server(10, 60),
        data=config.DataChannelConfig(ciphers=_CIPHERS),
        verify=config.VerifyConfig(remote_cert_tls=config.CertRole.CLIENT),
        tls=_tls(authority, authority.issue_server("server")),
        wrap=config.WrapConfig(tls_crypt_v2=config.Material(key.format().encode())),
        logging=config.LoggingConfig(verb=_VERB),
    )
    config.check(server)
    return server


def _profiles(
    server: config.ServerConfig,
    authority: Authority,
    key: ServerKey,
    host: str,
    names: Iterable[str],
) -> dict[str, bytes]:
    """Of clients of this server, by file name."""
    return {
        profile(Path(), name).name: _text(
            config.write_client(_client(server, authority, key, host, name))
        )
        for name in names
    }


def _client(
    server: config.ServerConfig, authority: Authority, key: ServerKey, host: str, name: str
) -> config.ClientConfig:
    _, port, protocol = server.listeners()[0]
    mine = key.issue(secrets.token_bytes, Metadata.timestamp(time.time())).format()
    remote = config.RemoteConfig(host=host, port=port, protocol=protocol)
    client = config.ClientConfig(
        remotes=(remote,),
        transport=config.TransportConfig(
            protocol=protocol, explicit_exit_notify=_notices(protocol)
        ),
        mtu=config.MtuConfig(tun_mtu=_MTU),
        data=config.DataChannelConfig(ciphers=server.data.ciphers),
        verify=config.VerifyConfig(remote_cert_tls=config.CertRole.SERVER),
        tls=_tls(authority, authority.issue_client(name)),
        wrap=config.WrapConfig(tls_crypt_v2=config.Material(mine.encode())),
        logging=config.LoggingConfig(verb=_VERB),
    )
    config.check(client)
    return client


def _notices(protocol: config.Protocol) -> int:
    """Without a word over UDP the other end would wait for its timeout."""
    return 0 if protocol.is_tcp else 1


def _tls(authority: Authority, identity: Identity) -> config.TlsConfig:
    return config.TlsConfig(
        ca=config.Material(authority.certificate),
        cert=config.Material(identity.certificate),
        key=config.Material(identity.key),
        version_min=config.TlsVersion.V1_3,
    )


def _text(configuration: str) -> bytes:
    return (_HEADER + configuration).encode()


def _write(path: Path, contents: dict[str, bytes]) -> list[Path]:
    """Writes new files, which only the owner can read; none stays if one fails."""
    written: list[Path] = []
    try:
        for name, content in contents.items():
            descriptor = os.open(path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            written.append(path / name)
            with open(descriptor, "wb") as file:
                file.write(content)
    except OSError:
        for file_path in written:
            file_path.unlink(missing_ok=True)
        raise
    return written
