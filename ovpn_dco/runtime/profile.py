"""A configuration as sessions take it. For an attempt of a client, with `tls` a `ReloadingTls`:

own = for_remote(config, remote)
settings = session_settings(own, random_bytes=os.urandom, tls=tls)
ClientSession(settings, client_login(own), client_profile(own, settings),
              wrapping=client_wrapping(own), address=address)"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import TypeAlias

from ..config import (
    ClientConfig,
    Credentials,
    DataChannelConfig,
    Epoch,
    Protocol,
    RemoteConfig,
    ServerConfig,
)
from ..errors import UnsupportedError
from ..protocol.authtoken import ClientLogin
from ..protocol.keyevents import KeyTimers
from ..protocol.ncp import Agreement
from ..protocol.occ import Compatibility, describe
from ..protocol.peerinfo import Announcement, IvProto, announce, proto_for
from ..protocol.push import PullFilter
from ..protocol.session import SessionSettings
from ..protocol.session_client import ClientProfile
from ..protocol.text import TextRefused
from ..protocol.tlscontext import TlsSource
from ..protocol.wire import RandomBytes
from .material import unusable

__all__ = ["check_agreement", "client_login", "client_profile", "for_remote", "session_settings"]

Config: TypeAlias = ClientConfig | ServerConfig

# Told to every server, as OpenVPN does; other lines of `setenv` only with `push-peer-info`.
GUI_VERSION = "IV_GUI_VER"

IPV4_HEADER, IPV6_HEADER = 20, 40
UDP_HEADER, TCP_HEADER = 8, 20


def for_remote(config: ClientConfig, remote: RemoteConfig) -> ClientConfig:
    """The configuration with what one of its `remotes` has of its own in place."""
    transport = replace(
        remote.transport or config.transport, protocol=config.remote_protocol(remote)
    )
    if remote.port is not None:
        transport = replace(transport, remote_port=remote.port)
    return replace(
        config,
        remotes=(remote,),
        transport=transport,
        mtu=remote.mtu or config.mtu,
        wrap=remote.wrap or config.wrap,
    )


def session_settings(
    config: Config, *, random_bytes: RandomBytes, tls: TlsSource, epoch: bool = True
) -> SessionSettings:
    """What the sessions of a server are made with, or those with one remote (`for_remote`).
    `epoch`: whether the engine has the epoch format."""
    tls_config, data = config.tls, config.data
    return SessionSettings(
        tls=tls,
        random_bytes=random_bytes,
        timers=KeyTimers(
            hand_window_s=tls_config.handshake_window_s,
            tran_window_s=tls_config.transition_window_s,
            reneg_s=data.renegotiate_s,
            tls_timeout_s=tls_config.retransmit_s,
        ),
        ciphers=data.ciphers,
        fallback=data.fallback,
        features=_features(config, epoch),
        compatibility=_compatibility(config),
        max_packet=config.transport.max_packet_size - max(map(_outer_headers, _protocols(config))),
    )


def client_login(config: ClientConfig, credentials: Credentials | None = None) -> ClientLogin:
    """The login that a client begins with: `credentials`, or those of the configuration, and the
    token of `auth-token`."""
    known = credentials or config.auth.credentials
    return ClientLogin(
        known.username if known else "",
        (known.password or "") if known else "",
        token=config.auth.token,
        token_username=config.auth.token_user,
    )


def client_profile(
    config: ClientConfig,
    settings: SessionSettings,
    *,
    sso_methods: Iterable[str] = (),
    lines: Mapping[str, str] = MappingProxyType({}),
) -> ClientProfile:
    """What a client says about itself in sessions with these settings, and takes of what is
    pushed. `sso_methods` are those that somebody is there to answer, of webauth, openurl and
    crtext; `lines` of peer info are told in any case. ConfigError for a `setenv` that cannot be
    announced."""
    return ClientProfile(
        announcement=_announcement(config, settings, sso_methods, lines),
        filters=tuple(PullFilter(action, prefix) for action, prefix in config.pull.filters),
        no_pull=not config.routes.pull,
    )


def check_agreement(data: DataChannelConfig, agreement: Agreement) -> None:
    """UnsupportedError (EOPNOTSUPP) for an agreement without what the configuration insists on. To
    be called before the data channel carries anything."""
    if data.epoch is Epoch.REQUIRE and not agreement.epoch:
        raise UnsupportedError(errno.EOPNOTSUPP, "peer does not have the epoch format")
    if data.force_key_export and not agreement.use_ekm:
        message = "peer cannot take keys from the exporter of TLS"
        raise UnsupportedError(errno.EOPNOTSUPP, message, attribute="force-tls-key-material-export")


def _features(config: Config, epoch: bool) -> IvProto:
    wanted = epoch and config.data.epoch is not Epoch.OFF
    return proto_for(pull=True, epoch=wanted, push_update=isinstance(config, ClientConfig))


def _compatibility(config: Config) -> Compatibility:
    protocol, wrap = _protocols(config)[0], config.wrap
    family = "v6" if protocol in (Protocol.UDP6, Protocol.TCP6) else "v4"
    return describe(
        server=isinstance(config, ServerConfig),
        transport=("TCP" if protocol.is_tcp else "UDP") + family,
        tun_mtu=config.mtu.tun_mtu,
        auth=config.data.auth,
        cipher=config.data.fallback or config.data.cipher,
        tls_auth=wrap.tls_auth is not None,
        key_direction=wrap.key_direction if wrap.tls_auth is not None else None,
    )


def _protocols(config: Config) -> tuple[Protocol, ...]:
    """All that sessions may run over: a server does not know which it will be."""
    if isinstance(config, ServerConfig):
        return tuple(protocol for _, _, protocol in config.listeners())
    return (config.transport.protocol,)


def _outer_headers(protocol: Protocol) -> int:
    """Bytes; where the family of addresses is open the larger ones. TCP frames may share a segment,
    but then they need no more room."""
    ip = IPV4_HEADER if protocol in (Protocol.UDP4, Protocol.TCP4) else IPV6_HEADER
    return ip + (TCP_HEADER if protocol.is_tcp else UDP_HEADER)


def _announcement(
    config: ClientConfig,
    settings: SessionSettings,
    sso_methods: Iterable[str],
    lines: Mapping[str, str],
) -> Announcement:
    said = dict(config.environment)
    methods = {*filter(None, said.pop("IV_SSO", "").split(",")), *sso_methods}
    prefixes = ("IV_", "UV_") if config.pull.push_peer_info else GUI_VERSION
    try:
        return announce(
            version=_version(),
            platform="linux",
            proto=settings.features,
            ciphers=settings.ciphers,
            mtu_max=config.mtu.tun_mtu_max,
            sso_methods=methods,
            extra={n: value for n, value in said.items() if n.startswith(prefixes)} | dict(lines),
        )
    except TextRefused as error:
        raise unusable("setenv", error.strerror or "") from None


def _version() -> str:
    try:
        return f"ovpn-dco/{version('ovpn-dco')}"
    except PackageNotFoundError:  # run from a source tree
        return "ovpn-dco"
