"""The two configurations: `ClientConfig` and `ServerConfig`, made of the parts of `options.py`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
)

from ..model import Feature, FilterAction
from .options import (
    AuthConfig,
    DataChannelConfig,
    DeviceConfig,
    Epoch,
    Hook,
    KeepaliveConfig,
    LifecycleConfig,
    ListenConfig,
    LoggingConfig,
    ManagementConfig,
    MtuConfig,
    Protocol,
    RemoteConfig,
    RoutesConfig,
    TlsConfig,
    TransportConfig,
    VerifyConfig,
    WrapConfig,
)
from .problems import ConfigWarning

# Seconds after which a client that pulls gives up a silent server, unless it is told otherwise.
PULL_RESTART_S = 120
MAX_CLIENTS = 1024
MAX_ROUTES_PER_CLIENT = 256


def _requirements(
    config: ClientConfig | ServerConfig,
    protocols: set[Protocol],
    transports: Iterable[TransportConfig],
    sizes: Iterable[MtuConfig],
) -> set[Feature]:
    data, keepalive = config.data, config.keepalive
    needed = {Feature.TCP if protocol.is_tcp else Feature.UDP for protocol in protocols}
    chosen = list(transports)
    if Feature.UDP in needed and any(transport.passtos for transport in chosen):
        needed.add(Feature.DSCP)
    if Feature.UDP in needed and any(transport.df for transport in chosen):
        needed.add(Feature.PATH_MTU)
    if any(mtu.mssfix for mtu in sizes):
        needed.add(Feature.MSS_CLAMP)
    if any(transport.shaper_bytes_per_s for transport in chosen):
        needed.add(Feature.RATE_LIMIT)
    limits = (data.renegotiate_bytes, data.renegotiate_packets)
    if any((*limits, keepalive.inactive_s, keepalive.session_timeout_s)):
        needed.add(Feature.LIMITS)
    return needed | ({Feature.EPOCH_KEYS} if data.epoch is Epoch.REQUIRE else set())


@dataclass(frozen=True, kw_only=True)
class ClientHooks:
    """Python callables in the places where OpenVPN runs programs of a client."""

    up: Hook = None
    down: Hook = None
    route_up: Hook = None


@dataclass(frozen=True, kw_only=True)
class ConnectionConfig:
    """Which remote comes next. `resolve_retry_s` None: for ever."""

    random: bool = False
    resolve_retry_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class PullConfig:
    """What of a server's options is taken; the first filter whose prefix fits decides."""

    enabled: bool = True
    filters: tuple[tuple[FilterAction, str], ...] = ()
    push_peer_info: bool = False


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """A client. `environment` is of `setenv`; `warnings` are of the parser and do not compare."""

    remotes: tuple[RemoteConfig, ...] = ()
    device: DeviceConfig = field(default_factory=DeviceConfig)
    transport: TransportConfig = field(default_factory=TransportConfig)
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    wrap: WrapConfig = field(default_factory=WrapConfig)
    data: DataChannelConfig = field(default_factory=DataChannelConfig)
    mtu: MtuConfig = field(default_factory=MtuConfig)
    keepalive: KeepaliveConfig = field(
        default_factory=lambda: KeepaliveConfig(restart_s=PULL_RESTART_S)
    )
    auth: AuthConfig = field(default_factory=AuthConfig)
    pull: PullConfig = field(default_factory=PullConfig)
    routes: RoutesConfig = field(default_factory=RoutesConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    management: ManagementConfig = field(default_factory=ManagementConfig)
    lifecycle: LifecycleConfig = field(default_factory=LifecycleConfig)
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    hooks: ClientHooks = field(default_factory=ClientHooks)
    warnings: tuple[ConfigWarning, ...] = field(default=(), compare=False)

    def remote_protocol(self, remote: RemoteConfig) -> Protocol:
        """The protocol for one of `remotes`."""
        if remote.protocol is not None:
            return remote.protocol
        return (remote.transport or self.transport).protocol

    def requirements(self) -> set[Feature]:
        """What the back end must be able to do for this configuration."""
        protocols = {self.remote_protocol(remote) for remote in self.remotes}
        transports = [self.transport, *(r.transport for r in self.remotes if r.transport)]
        sizes = [self.mtu, *(r.mtu for r in self.remotes if r.mtu)]
        return _requirements(self, protocols or {self.transport.protocol}, transports, sizes)


@dataclass(frozen=True, kw_only=True)
class ServerHooks:
    """Python callables in the places where OpenVPN runs programs of a server."""

    client_connect: Hook = None
    client_disconnect: Hook = None
    client_response: Hook = None
    learn_address: Hook = None
    limit_reached: Hook = None
    client_to_client: Hook = None
    tls_crypt_v2_verify: Hook = None


@dataclass(frozen=True, kw_only=True)
class PushConfig:
    """Options for every client, each as the text that goes to it."""

    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """Limits on newcomers, each (how many, in how many seconds). None: no limit."""

    connect_frequency: tuple[int, int] | None = None
    initial_frequency: tuple[int, int] = (100, 10)
    max_routes_per_client: int = MAX_ROUTES_PER_CLIENT


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Addresses of the server and its clients, and who the clients are.

    `local_ipv4` and `local_ipv6` are the server's with the length of its network. A client's IPv6
    address is as far from `first_ipv6` as its IPv4 address is from `first_ipv4`. `announce`: the
    gateway and the topology are pushed, as `server` does."""

    local_ipv4: IPv4Interface | None = None
    first_ipv4: IPv4Address | None = None
    last_ipv4: IPv4Address | None = None
    local_ipv6: IPv6Interface | None = None
    first_ipv6: IPv6Interface | None = None
    announce: bool = False
    persist_path: str | None = None
    persist_interval_s: int = 600
    client_config_dir: str | None = None
    client_config_required: bool = False
    client_to_client: bool = False
    duplicate_cn: bool = False
    max_clients: int = MAX_CLIENTS

    @classmethod
    def for_networks(
        cls, ipv4: IPv4Network | None = None, ipv6: IPv6Network | None = None
    ) -> PoolConfig:
        """What `server` and `server-ipv6` stand for; ValueError if a network has no room.

        The server is .1 and clients get .2 to the last but the broadcast address; in IPv6 the
        server is ::1 and clients start at ::1000, or at ::2 in a network of less than 16 bits."""
        pool = {**_ipv4_pool(ipv4), **_ipv6_pool(ipv6)}
        return cls(**pool)  # type: ignore[arg-type]


def _ipv4_pool(network: IPv4Network | None) -> dict[str, object]:
    if network is None:
        return {}
    if not 16 <= network.prefixlen <= 30:
        raise ValueError("network must have a prefix of 16 to 30 bits")
    return {
        "local_ipv4": IPv4Interface((int(network[1]), network.prefixlen)),
        "first_ipv4": network[2],
        "last_ipv4": network[-2],
        "announce": True,
    }


def _ipv6_pool(network: IPv6Network | None) -> dict[str, object]:
    if network is None:
        return {}
    if not 64 <= network.prefixlen <= 124:
        raise ValueError("network must have a prefix of 64 to 124 bits")
    first = network[0x1000 if network.prefixlen < 112 else 2]
    return {
        "local_ipv6": IPv6Interface((int(network[1]), network.prefixlen)),
        "first_ipv6": IPv6Interface((int(first), network.prefixlen)),
    }


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """A server. `environment` is of `setenv`; `warnings` are of the parser and do not compare.

    `listen`: where, if that is more than the host and port of `transport`."""

    device: DeviceConfig = field(default_factory=DeviceConfig)
    transport: TransportConfig = field(default_factory=lambda: TransportConfig(bind=True))
    listen: tuple[ListenConfig, ...] = ()
    tls: TlsConfig = field(default_factory=TlsConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    wrap: WrapConfig = field(default_factory=WrapConfig)
    data: DataChannelConfig = field(default_factory=DataChannelConfig)
    mtu: MtuConfig = field(default_factory=MtuConfig)
    keepalive: KeepaliveConfig = field(default_factory=KeepaliveConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    push: PushConfig = field(default_factory=PushConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    routes: RoutesConfig = field(default_factory=RoutesConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    management: ManagementConfig = field(default_factory=ManagementConfig)
    lifecycle: LifecycleConfig = field(default_factory=LifecycleConfig)
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    hooks: ServerHooks = field(default_factory=ServerHooks)
    warnings: tuple[ConfigWarning, ...] = field(default=(), compare=False)

    def listeners(self) -> tuple[tuple[str | None, int, Protocol], ...]:
        """Host (None: all addresses), port and protocol of each socket."""
        transport = self.transport
        if not self.listen:
            return ((transport.local_host, transport.local_port, transport.protocol),)
        return tuple(
            (
                one.host,
                transport.local_port if one.port is None else one.port,
                one.protocol or transport.protocol,
            )
            for one in self.listen
        )

    def pushed_options(self) -> tuple[str, ...]:
        """All that every client is sent: `push` lines, then what `server` and `keepalive` add."""
        options = list(self.push.options)
        if self.pool.announce and self.pool.local_ipv4 is not None:
            options += [f"route-gateway {self.pool.local_ipv4.ip}", "topology subnet"]
        if self.keepalive.pushed is not None:
            interval, timeout = self.keepalive.pushed
            options += [f"ping {interval}", f"ping-restart {timeout}"]
        return tuple(dict.fromkeys(options))

    def requirements(self) -> set[Feature]:
        """What the back end must be able to do for this configuration.

        Files of `client-config-dir`, and a hook in their place, may route networks to clients."""
        protocols = {protocol for _, _, protocol in self.listeners()}
        needed = _requirements(self, protocols, [self.transport], [self.mtu])
        if self.pool.client_config_dir is not None or self.hooks.client_connect is not None:
            needed.add(Feature.IROUTES)
        if self.pool.client_to_client or self.hooks.client_to_client is not None:
            needed |= {Feature.FORWARDING, Feature.MULTICAST}
        if self.lifecycle.user is not None or self.lifecycle.group is not None:
            needed.add(Feature.UNPRIVILEGED)
        return needed
