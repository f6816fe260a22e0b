"""Parts that a client and a server configuration share: frozen values with OpenVPN's defaults.

All are `dataclasses.replace`-able, compare by value, and show no secret in `repr`. Times are
seconds (`_s`), sizes bytes. Where None is a default, a comment or docstring says what it means.
`endpoints.py` has the two configurations that are made of these."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import TypeAlias

from ..model import (
    DEFAULT_CIPHERS,
    AuthRetry,
    CertRole,
    Cipher,
    ClientCert,
    NameType,
    TlsVersion,
    Topology,
)

# A Python callable, or None: what OpenVPN runs programs for, and what no file can name.
Hook: TypeAlias = Callable[..., object] | None


class Protocol(enum.Enum):
    """Of the transport; 4 and 6 confine it to a family of addresses."""

    UDP = "udp"
    UDP4 = "udp4"
    UDP6 = "udp6"
    TCP = "tcp"
    TCP4 = "tcp4"
    TCP6 = "tcp6"

    @property
    def is_tcp(self) -> bool:
        """Whether packets go through a byte stream."""
        return self.value.startswith("tcp")


class CertProfile(enum.Enum):
    """Security levels of OpenSSL: 0, 1, 2 and 3."""

    INSECURE = "insecure"
    LEGACY = "legacy"
    PREFERRED = "preferred"
    SUITEB = "suiteb"


class Epoch(enum.Enum):
    """Whether the epoch format of the data channel is offered to the peer, or insisted on."""

    OFF = "off"
    OFFER = "offer"
    REQUIRE = "require"


@dataclass(frozen=True)
class Material:
    """Content of a file or of an inline block; `path` (None: inline) is for reading it again."""

    data: bytes = field(repr=False)
    path: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Credentials:
    """User name and password; a password of None is asked for."""

    username: str = field(repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class TransportConfig:
    """Sockets and attempts to connect. Ports 0: any. `bind` False: the system picks the port."""

    protocol: Protocol = Protocol.UDP
    local_host: str | None = None
    local_port: int = 1194
    remote_port: int = 1194
    bind: bool = False
    bind_ipv6_only: bool = False
    may_float: bool = False
    sndbuf: int | None = None  # None: what the engine takes
    rcvbuf: int | None = None
    mark: int | None = None
    multihome: bool = False
    passtos: bool = False
    shaper_bytes_per_s: int = 0  # 0: off
    df: bool = False  # outer packets must not be fragmented: mtu-disc yes
    tcp_nodelay: bool = False
    max_packet_size: int = 1250
    connect_timeout_s: int = 120
    connect_retry_s: int = 1
    connect_retry_max_s: int = 300
    connect_retry_rounds: int | None = None  # None: for ever
    explicit_exit_notify: int = 0


@dataclass(frozen=True, kw_only=True)
class ListenConfig:
    """Where a server listens. `host` None: on all addresses; the other parts that are None are
    those of the transport."""

    host: str | None = None
    port: int | None = None
    protocol: Protocol | None = None


@dataclass(frozen=True, kw_only=True)
class MtuConfig:
    """Of the tunnel. `mssfix` 0: off; None: fitted to 1492 bytes of outer packet."""

    tun_mtu: int = 1500
    tun_mtu_max: int = 1600
    mssfix: int | None = None
    mssfix_mode: str | None = None  # None, "mtu" or "fixed"


@dataclass(frozen=True, kw_only=True)
class WrapConfig:
    """What protects the control channel. `key_direction` None: both directions share keys."""

    tls_auth: Material | None = None
    key_direction: int | None = None
    tls_crypt: Material | None = None
    tls_crypt_v2: Material | None = None
    tls_crypt_v2_max_age_days: int | None = None
    tls_crypt_v2_force_cookie: bool = False


@dataclass(frozen=True, kw_only=True)
class RemoteConfig:
    """A server to connect to. Parts that are None are those of the whole configuration."""

    host: str
    port: int | None = None
    protocol: Protocol | None = None
    transport: TransportConfig | None = None
    mtu: MtuConfig | None = None
    wrap: WrapConfig | None = None


@dataclass(frozen=True, kw_only=True)
class TlsConfig:
    """Certificates and the handshake. `key_password` opens `key`; None: asked for if needed."""

    ca: Material | None = None
    ca_directory: str | None = None
    cert: Material | None = None
    key: Material | None = None
    pkcs12: Material | None = None
    extra_certs: Material | None = None
    ask_key_password: bool = False
    key_password: str | None = field(default=None, repr=False)
    version_min: TlsVersion = TlsVersion.V1_2
    version_max: TlsVersion = TlsVersion.V1_3
    ciphers: str | None = None
    ciphersuites: str | None = None
    cert_profile: CertProfile = CertProfile.LEGACY
    retransmit_s: int = 2
    handshake_window_s: int = 60
    transition_window_s: int = 3600


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Whom the peer's certificate must name. `hook` gets the `PeerCertificate` that TLS has
    verified, and returns True or False."""

    remote_cert_tls: CertRole | None = None
    remote_cert_ku: tuple[int, ...] = ()
    remote_cert_eku: str | None = None
    x509_name: str | None = None
    x509_name_type: NameType = NameType.SUBJECT
    x509_username_fields: tuple[str, ...] = ("CN",)
    fingerprints: tuple[bytes, ...] = ()
    crl: Material | None = None
    crl_directory: str | None = None
    client_cert: ClientCert = ClientCert.REQUIRE
    hook: Hook = None


@dataclass(frozen=True, kw_only=True)
class DataChannelConfig:
    """Ciphers and keys of the data channel. A limit of 0 is off.

    `cipher` is what older peers are told; `auth` is the digest of `tls-auth`. `fallback` is for
    peers that do not negotiate."""

    ciphers: tuple[Cipher, ...] = DEFAULT_CIPHERS
    fallback: Cipher | None = None
    cipher: Cipher | None = None
    auth: str = "SHA1"
    replay_window: int = 64
    replay_time_s: int = 15
    renegotiate_s: int = 3600
    renegotiate_min_s: int | None = None
    renegotiate_bytes: int = 0
    renegotiate_packets: int = 0
    force_key_export: bool = False
    epoch: Epoch = Epoch.OFFER


@dataclass(frozen=True, kw_only=True)
class KeepaliveConfig:
    """When to ping, and when a silent peer is given up; 0: never.

    `pushed` is (interval, timeout) that a server tells its clients."""

    ping_s: int = 0
    restart_s: int = 0
    exit_s: int = 0
    only_after_contact: bool = False
    pushed: tuple[int, int] | None = None
    inactive_s: int = 0
    inactive_bytes: int = 0
    session_timeout_s: int = 0

    @classmethod
    def for_client(cls, interval_s: int, timeout_s: int) -> KeepaliveConfig:
        """What `keepalive` of a client stands for."""
        return cls(ping_s=interval_s, restart_s=timeout_s)

    @classmethod
    def for_server(cls, interval_s: int, timeout_s: int) -> KeepaliveConfig:
        """What `keepalive` of a server stands for: it waits twice as long as its clients."""
        pushed = interval_s, timeout_s
        return cls(ping_s=interval_s, restart_s=2 * timeout_s, pushed=pushed)


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """The TUN interface; `name` None: any. Addresses of a client are usually pushed."""

    name: str | None = None
    topology: Topology | None = None  # None: SUBNET for a server, the pushed one for a client
    ipv4: IPv4Interface | None = None
    ipv4_peer: IPv4Address | None = None
    ipv6: IPv6Interface | None = None
    ipv6_peer: IPv6Address | None = None
    disable_dco: bool = False  # the kernel's driver is not to be used


@dataclass(frozen=True, kw_only=True)
class AuthConfig:
    """Passwords of a client and how a server checks them.

    `token_lifetime_s` 0: for ever; `token_renewal_s` None: the time of renegotiation."""

    user_pass: bool = False
    credentials: Credentials | None = None
    username_only: bool = False
    retry: AuthRetry = AuthRetry.NONE
    cache: bool = True
    challenge: str | None = None
    challenge_echo: bool = False
    challenge_concatenated: bool = False
    token: str | None = field(default=None, repr=False)
    token_user: str | None = field(default=None, repr=False)
    user_pass_hook: Hook = None
    user_pass_optional: bool = False
    username_as_common_name: bool = False
    generate_token: bool = False
    token_lifetime_s: int = 0
    token_renewal_s: int | None = None
    token_external_auth: bool = False
    token_secret: Material | None = None


@dataclass(frozen=True, kw_only=True)
class RedirectConfig:
    """`redirect-gateway`, or with `private` the same without a default route."""

    private: bool = False
    local: bool = False
    autolocal: bool = False
    def1: bool = False
    bypass_dhcp: bool = False
    bypass_dns: bool = False
    block_local: bool = False
    ipv4: bool = True
    ipv6: bool = False


@dataclass(frozen=True, kw_only=True)
class RouteConfig:
    """A network behind the tunnel. `gateway` None: the route gateway; or an address, or one of
    `vpn_gateway`, `net_gateway` and `remote_host`."""

    network: IPv4Network | IPv6Network
    gateway: str | None = None
    metric: int | None = None


@dataclass(frozen=True, kw_only=True)
class DnsServer:
    """One `dns server`; the lowest priority wins. An address comes with its port, None: 53."""

    priority: int
    addresses: tuple[tuple[str, int | None], ...] = ()
    resolve_domains: tuple[str, ...] = ()
    dnssec: str | None = None
    transport: str | None = None
    sni: str | None = None


@dataclass(frozen=True, kw_only=True)
class RoutesConfig:
    """What goes through the tunnel, and who resolves names there."""

    routes: tuple[RouteConfig, ...] = ()
    gateway: str | None = None  # an address or "dhcp"
    metric: int | None = None
    pull: bool = True
    apply: bool = True
    redirect: RedirectConfig | None = None
    block_ipv6: bool = False
    dns_servers: tuple[DnsServer, ...] = ()
    search_domains: tuple[str, ...] = ()
    dhcp_options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """What is written down. Files are opened by whoever runs the configuration."""

    verb: int = 1
    mute: int = 0
    path: str | None = None
    append: bool = False
    status_path: str | None = None
    status_interval_s: int = 60
    status_version: int = 1


@dataclass(frozen=True, kw_only=True)
class ManagementConfig:
    """Where the management interface listens; `port` None: `host` is the path of a socket."""

    host: str | None = None
    port: int | None = None
    password: Material | None = None
    client_auth: bool = False
    hold: bool = False
    query_passwords: bool = False


@dataclass(frozen=True, kw_only=True)
class LifecycleConfig:
    """Privileges, and what outlives a restart."""

    user: str | None = None
    group: str | None = None
    persist_tun: bool = False
