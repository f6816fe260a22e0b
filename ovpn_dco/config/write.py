"""From a configuration to the text of a file, certificates and keys inline.

Not every configuration can be written: hooks are code, and some parts are rare. So the text is read
back, and what does not give the same configuration raises instead of being lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from .endpoints import PULL_RESTART_S, ClientConfig, PoolConfig, ServerConfig
from .lexer import quote
from .options import (
    Credentials,
    DataChannelConfig,
    DeviceConfig,
    KeepaliveConfig,
    LifecycleConfig,
    ListenConfig,
    LoggingConfig,
    Material,
    MtuConfig,
    RedirectConfig,
    RemoteConfig,
    RoutesConfig,
    TlsConfig,
    TransportConfig,
    VerifyConfig,
    WrapConfig,
)
from .parse import parse_client, parse_server
from .problems import ConfigError

Lines: TypeAlias = Iterator[str]


def write_client(config: ClientConfig) -> str:
    """A profile of one file; ValueError for what a file cannot say."""
    text = "".join(f"{line}\n" for line in _client(config))
    _read_back(text, config, parse_client)
    return text


def write_server(config: ServerConfig) -> str:
    """A server's file; ValueError for what a file cannot say."""
    text = "".join(f"{line}\n" for line in _server(config))
    _read_back(text, config, parse_server)
    return text


def _read_back(
    text: str, config: object, parse: Callable[[str], ClientConfig | ServerConfig]
) -> None:
    try:
        same = parse(text) == config
    except ConfigError as error:
        raise ValueError(f"configuration cannot be written: {error}") from error
    if not same:
        raise ValueError("configuration has parts that a file cannot say, or that are not written")


def _line(name: str, *words: object) -> str:
    return " ".join([name, *(quote(str(word)) for word in words)])


def _block(name: str, material: Material | None) -> Lines:
    if material is None:
        return
    try:
        content = material.data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{name} is no text, so that it cannot be inline") from None
    yield f"<{name}>"
    yield content.removesuffix("\n")
    yield f"</{name}>"


def _client(config: ClientConfig) -> Lines:
    yield "client"
    yield from _device(config.device)
    yield from _transport(config.transport, bind=False)
    yield from map(_remote, config.remotes)
    if config.connection.random:
        yield "remote-random"
    if config.auth.user_pass:
        yield from _user_pass(config.auth.credentials)
    if not config.auth.cache:
        yield "auth-nocache"
    yield from _line_unless("ping", config.keepalive.ping_s, 0)
    yield from _line_unless("ping-restart", config.keepalive.restart_s, PULL_RESTART_S)
    yield from _shared(config)


def _server(config: ServerConfig) -> Lines:
    yield from _device(config.device)
    yield from _transport(config.transport, bind=True)
    yield from map(_listen, config.listen)
    yield "dh none"  # OpenVPN 2.6 does not start without a word about it
    yield from _pool(config.pool)
    yield from (_line("push", option) for option in config.push.options)
    if config.keepalive != KeepaliveConfig():
        yield _line("keepalive", *(config.keepalive.pushed or ()))
    yield from _line_unless("verify-client-cert", config.verify.client_cert.value, "require")
    yield from _shared(config)


def _shared(config: ClientConfig | ServerConfig) -> Lines:
    yield from _data(config.data)
    yield from _limits(config.keepalive)
    yield from _mtu(config.mtu, config.transport)
    yield from _routes(config.routes)
    yield from _lifecycle(config.lifecycle)
    yield from _logging(config.logging)
    yield from (_line("setenv", name, value) for name, value in config.environment)
    yield from _verify(config.verify)
    yield from _tls(config.tls)
    yield from _wrap(config.wrap)


def _line_unless(name: str, value: object, default: object) -> Lines:
    if value != default:
        yield _line(name, *([] if value is True else [value]))


def _device(device: DeviceConfig) -> Lines:
    yield _line("dev", device.name or "tun")
    if device.name is not None:
        yield "dev-type tun"
    if device.topology is not None:
        yield _line("topology", device.topology.value)
    if device.disable_dco:
        yield "disable-dco"


def _transport(transport: TransportConfig, *, bind: bool) -> Lines:
    default = TransportConfig()
    yield _line("proto", transport.protocol.value)
    if transport.local_host is not None:
        yield _line("local", transport.local_host)
    if not transport.bind:
        yield "nobind"
    elif not bind or transport.local_port != default.local_port:
        yield _line("lport", transport.local_port)
    for name, value, usual in (
        ("float", transport.may_float, default.may_float),
        ("sndbuf", transport.sndbuf, default.sndbuf),
        ("rcvbuf", transport.rcvbuf, default.rcvbuf),
        ("mark", transport.mark, default.mark),
        ("multihome", transport.multihome, default.multihome),
        ("passtos", transport.passtos, default.passtos),
        ("shaper", transport.shaper_bytes_per_s, default.shaper_bytes_per_s),
        ("mtu-disc", "yes" if transport.df else "no", "no"),
        ("max-packet-size", transport.max_packet_size, default.max_packet_size),
        ("tcp-nodelay", transport.tcp_nodelay, default.tcp_nodelay),
        ("rport", transport.remote_port, default.remote_port),
        ("explicit-exit-notify", transport.explicit_exit_notify, default.explicit_exit_notify),
        ("connect-timeout", transport.connect_timeout_s, default.connect_timeout_s),
    ):
        yield from _line_unless(name, value, usual)


def _listen(listen: ListenConfig) -> str:
    words: list[object] = [listen.host or "*"]
    if listen.port is not None:
        words.append(listen.port)
    if listen.protocol is not None:
        if listen.port is None:
            raise ValueError("a listener with a protocol of its own needs a port of its own")
        words.append(listen.protocol.value)
    return _line("local", *words)


def _remote(remote: RemoteConfig) -> str:
    if remote.protocol is not None:
        return _line("remote", remote.host, remote.port or 1194, remote.protocol.value)
    return _line("remote", remote.host, *([] if remote.port is None else [remote.port]))


def _user_pass(credentials: Credentials | None) -> Lines:
    if credentials is None:
        yield "auth-user-pass"
    else:
        lines = [credentials.username, *filter(None, [credentials.password])]
        yield from _block("auth-user-pass", Material("\n".join(lines).encode()))


def _pool(pool: PoolConfig) -> Lines:
    default = PoolConfig()
    if pool.local_ipv4 is not None:
        network = pool.local_ipv4.network
        yield _line("server", network.network_address, network.netmask)
    if pool.local_ipv6 is not None:
        yield _line("server-ipv6", pool.local_ipv6.network)
    if pool.persist_path is not None:
        yield _line("ifconfig-pool-persist", pool.persist_path, pool.persist_interval_s)
    for name, value, usual in (
        ("client-config-dir", pool.client_config_dir, default.client_config_dir),
        ("ccd-exclusive", pool.client_config_required, default.client_config_required),
        ("client-to-client", pool.client_to_client, default.client_to_client),
        ("duplicate-cn", pool.duplicate_cn, default.duplicate_cn),
        ("max-clients", pool.max_clients, default.max_clients),
    ):
        yield from _line_unless(name, value, usual)


def _data(data: DataChannelConfig) -> Lines:
    default = DataChannelConfig()
    if data.ciphers != default.ciphers:
        yield _line("data-ciphers", ":".join(cipher.value for cipher in data.ciphers))
    yield from _line_unless("auth", data.auth, default.auth)
    yield from _line_unless("reneg-sec", data.renegotiate_s, default.renegotiate_s)
    yield from _line_unless("reneg-bytes", data.renegotiate_bytes, default.renegotiate_bytes)
    yield from _line_unless("reneg-pkts", data.renegotiate_packets, default.renegotiate_packets)
    yield from _line_unless("force-tls-key-material-export", data.force_key_export, False)


def _limits(keepalive: KeepaliveConfig) -> Lines:
    if keepalive.inactive_s:
        yield _line("inactive", keepalive.inactive_s, keepalive.inactive_bytes)
    yield from _line_unless("session-timeout", keepalive.session_timeout_s, 0)


def _mtu(mtu: MtuConfig, transport: TransportConfig) -> Lines:
    default = MtuConfig()
    yield from _line_unless("tun-mtu", mtu.tun_mtu, default.tun_mtu)
    if mtu.mssfix is not None:
        yield _line("mssfix", mtu.mssfix, *([mtu.mssfix_mode] if mtu.mssfix_mode else []))
    elif transport.max_packet_size != TransportConfig().max_packet_size:
        yield "mssfix"  # the default, though max-packet-size has said something else


def _redirect(redirect: RedirectConfig) -> str:
    words = [
        name.replace("_", "-")
        for name in ("local", "autolocal", "def1", "bypass_dhcp", "bypass_dns", "block_local")
        if getattr(redirect, name)
    ]
    words += ["ipv6"] * redirect.ipv6 + ["!ipv4"] * (not redirect.ipv4)
    return _line("redirect-private" if redirect.private else "redirect-gateway", *words)


def _routes(routes: RoutesConfig) -> Lines:
    for route in routes.routes:
        more = [route.gateway or "default", *([] if route.metric is None else [route.metric])]
        if route.network.version == 4:
            yield _line("route", route.network.network_address, route.network.netmask, *more)
        else:
            yield _line("route-ipv6", route.network, *more)
    if routes.redirect is not None:
        yield _redirect(routes.redirect)
    for kind, value in routes.dhcp_options:
        yield _line("dhcp-option", kind, *filter(None, [value]))


def _lifecycle(lifecycle: LifecycleConfig) -> Lines:
    yield from _line_unless("user", lifecycle.user, None)
    yield from _line_unless("group", lifecycle.group, None)
    if lifecycle.persist_tun:
        yield "persist-tun"


def _logging(logging: LoggingConfig) -> Lines:
    default = LoggingConfig()
    yield from _line_unless("verb", logging.verb, default.verb)
    yield from _line_unless("mute", logging.mute, default.mute)
    if logging.path is not None:
        yield _line("log-append" if logging.append else "log", logging.path)
    if logging.status_path is not None:
        yield _line("status", logging.status_path, logging.status_interval_s)
    yield from _line_unless("status-version", logging.status_version, default.status_version)


def _verify(verify: VerifyConfig) -> Lines:
    if verify.remote_cert_tls is not None:
        yield _line("remote-cert-tls", verify.remote_cert_tls.value)
    if verify.x509_name is not None:
        yield _line("verify-x509-name", verify.x509_name, verify.x509_name_type.value)
    if verify.fingerprints:
        yield "<peer-fingerprint>"
        yield from (value.hex(":").upper() for value in verify.fingerprints)
        yield "</peer-fingerprint>"
    yield from _block("crl-verify", verify.crl)


def _tls(tls: TlsConfig) -> Lines:
    default = TlsConfig()
    if tls.version_min is not default.version_min:
        yield _line("tls-version-min", tls.version_min.value)
    if tls.version_max is not default.version_max:
        yield _line("tls-version-max", tls.version_max.value)
    yield from _line_unless("tls-cert-profile", tls.cert_profile.value, default.cert_profile.value)
    yield from _line_unless("tls-cipher", tls.ciphers, default.ciphers)
    yield from _line_unless("tls-ciphersuites", tls.ciphersuites, default.ciphersuites)
    yield from _block("ca", tls.ca)
    yield from _block("cert", tls.cert)
    yield from _block("key", tls.key)
    yield from _block("extra-certs", tls.extra_certs)


def _wrap(wrap: WrapConfig) -> Lines:
    if wrap.key_direction is not None:
        yield _line("key-direction", wrap.key_direction)
    yield from _block("tls-auth", wrap.tls_auth)
    yield from _block("tls-crypt", wrap.tls_crypt)
    yield from _block("tls-crypt-v2", wrap.tls_crypt_v2)
