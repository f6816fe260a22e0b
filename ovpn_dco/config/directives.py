"""The directives: one table of all that are known, and the only list of them.

A row says who may use a directive, how many arguments it takes, what becomes of it and why, and
which parser reads it. What is in no row is unknown, which is refused like OpenVPN does."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ..model import AuthRetry, CertRole, ClientCert
from . import handlers as h
from . import overrides as o
from . import routing as r
from . import services as s
from .options import CertProfile
from .settings import Parser, Role, every, flag, frequency, into, material, pair, path_into
from .values import (
    account,
    aead,
    cipher_string,
    integer,
    ipv6_interface,
    local_port,
    oid,
    port,
    seconds,
)
from .values import choice as one_of

CLIENT, SERVER, BOTH, CCD = Role.CLIENT, Role.SERVER, Role.BOTH, Role.CCD


class Status(enum.Enum):
    """What becomes of a directive."""

    SUPPORTED = "supported"
    WARNED = "accepted with a warning"
    IGNORED = "accepted, nothing to do"
    REFUSED = "refused"


@dataclass(frozen=True)
class Row:
    """One directive. `most` None: any number of arguments; `text` is the reason or a remark."""

    name: str
    status: Status
    roles: Role
    least: int
    most: int | None
    text: str
    parser: Parser | None
    inline: bool = False
    connection: bool = False


def _supported(
    name: str,
    roles: Role,
    least: int,
    most: int | None,
    parser: Parser | None,
    remark: str = "",
    *,
    inline: bool = False,
    connection: bool = False,
) -> Row:
    return Row(name, Status.SUPPORTED, roles, least, most, remark, parser, inline, connection)


def _warned(
    names: str,
    reason: str,
    parser: Parser | None = None,
    most: int | None = None,
    roles: Role = BOTH,
    *,
    least: int = 0,
    connection: bool = False,
) -> list[Row]:
    return [
        Row(name, Status.WARNED, roles, least, most, reason, parser, connection=connection)
        for name in names.split()
    ]


def _ignored(names: str, reason: str, parser: Parser | None = None, least: int = 0) -> list[Row]:
    return [Row(name, Status.IGNORED, BOTH, least, None, reason, parser) for name in names.split()]


def _refused(names: str, reason: str, *, inline: bool = False) -> list[Row]:
    return [
        Row(name, Status.REFUSED, BOTH | CCD, 0, None, reason, None, inline, connection=True)
        for name in names.split()
    ]


_ROLE = [
    _supported("client", CLIENT, 0, 0, h.client, "stands for pull and tls-client"),
    _supported("pull", CLIENT, 0, 0, h.client),
    _supported("tls-client", CLIENT, 0, 0, None),
    _supported("tls-server", SERVER, 0, 0, None),
    _supported("mode", BOTH, 1, 1, h.mode, "server for a server, p2p for a client"),
    _supported("config", BOTH | CCD, 1, 1, None, "read in its place; at most 10 deep"),
    _supported("dev", BOTH, 1, 1, h.dev, "no TAP"),
    _supported("dev-type", BOTH, 1, 1, h.dev_type, "tun only"),
    _supported("topology", BOTH, 1, 1, h.topology, "subnet only on a server"),
    _supported("setenv", BOTH, 1, None, s.setenv),
    _supported("setenv-safe", BOTH, 1, None, s.setenv),
    _supported("ignore-unknown-option", BOTH, 1, None, s.ignore_unknown_option),
]

_TRANSPORT = [
    _supported("proto", BOTH, 1, 1, h.proto, connection=True),
    _supported("port", BOTH, 1, 1, h.port, "stands for lport and rport", connection=True),
    _supported("lport", BOTH, 1, 1, into("transport.local_port", local_port), connection=True),
    _supported("rport", CLIENT, 1, 1, into("transport.remote_port", port), connection=True),
    _supported("local", BOTH, 1, 3, h.local, "a server may have several", connection=True),
    _supported("bind", BOTH, 0, 1, h.bind, connection=True),
    _supported("nobind", BOTH, 0, 0, flag("transport.bind", value=False), connection=True),
    _supported("float", BOTH, 0, 0, flag("transport.may_float"), "always on", connection=True),
    _supported("remote", CLIENT, 1, 3, h.remote, connection=True),
    _supported("connection", CLIENT, 0, 0, None, "a block for one remote", inline=True),
    _supported("remote-random", CLIENT, 0, 0, flag("connection.random")),
    _supported("resolv-retry", CLIENT, 1, 1, h.resolv_retry),
    _supported(
        "connect-retry",
        CLIENT,
        1,
        2,
        pair("transport.connect_retry_s", "transport.connect_retry_max_s", integer(1)),
        connection=True,
    ),
    _supported(
        "connect-retry-max",
        CLIENT,
        1,
        1,
        into("transport.connect_retry_rounds", integer(1)),
        connection=True,
    ),
    _supported(
        "connect-timeout",
        CLIENT,
        1,
        1,
        into("transport.connect_timeout_s", integer(1)),
        connection=True,
    ),
    _supported(
        "server-poll-timeout", CLIENT, 1, 1, into("transport.connect_timeout_s", integer(1))
    ),
    _supported("sndbuf", BOTH, 1, 1, into("transport.sndbuf", integer(0))),
    _supported("rcvbuf", BOTH, 1, 1, into("transport.rcvbuf", integer(0))),
    _supported("mark", BOTH, 1, 1, into("transport.mark", integer(0, 2**32 - 1))),
    _supported("multihome", BOTH, 0, 0, flag("transport.multihome")),
    _supported(
        "shaper",
        CLIENT,
        1,
        1,
        into("transport.shaper_bytes_per_s", integer(100, 100_000_000)),
        "of packets inside; what exceeds it is dropped, not held back",
        connection=True,
    ),
    _supported(
        "passtos",
        BOTH,
        0,
        0,
        flag("transport.passtos"),
        "the DSCP of packets inside; ECN needs no directive",
        connection=True,
    ),
    _supported("tcp-nodelay", BOTH, 0, 0, flag("transport.tcp_nodelay")),
    _supported(
        "max-packet-size",
        BOTH,
        1,
        1,
        h.max_packet_size,
        "of control packets, outer headers included; the same as `mssfix N mtu`, too",
        connection=True,
    ),
    _supported("explicit-exit-notify", BOTH, 0, 1, h.explicit_exit_notify, connection=True),
    _supported("tun-mtu", BOTH, 1, 1, into("mtu.tun_mtu", integer(100, 65451)), connection=True),
    _supported("tun-mtu-max", BOTH, 1, 1, into("mtu.tun_mtu_max", integer(100, 65451))),
    _supported("mssfix", BOTH, 0, 2, h.mssfix, connection=True),
    _supported("mtu-disc", BOTH, 1, 1, h.mtu_disc, "`maybe` is taken as `no`", connection=True),
]

_TLS = [
    _supported("ca", BOTH, 1, 1, material("tls.ca"), inline=True),
    _supported("capath", BOTH, 1, 1, path_into("tls.ca_directory")),
    _supported("cert", BOTH, 1, 1, material("tls.cert"), inline=True),
    _supported("key", BOTH, 1, 1, material("tls.key"), inline=True),
    _supported("pkcs12", BOTH, 1, 1, h.pkcs12, "inline content is Base64", inline=True),
    _supported("extra-certs", BOTH, 1, 1, material("tls.extra_certs"), inline=True),
    _supported(
        "dh", BOTH, 1, 1, h.dh, "never read: key agreement is by elliptic curves", inline=True
    ),
    _supported("askpass", BOTH, 0, 1, h.askpass),
    _supported("tls-version-min", BOTH, 1, 2, h.tls_version_min, "1.2 is the lowest"),
    _supported("tls-version-max", BOTH, 1, 1, h.tls_version_max, "1.2 is the lowest"),
    _supported("tls-cipher", BOTH, 1, 1, into("tls.ciphers", cipher_string)),
    _supported("tls-ciphersuites", BOTH, 1, 1, into("tls.ciphersuites", cipher_string)),
    _supported("tls-cert-profile", BOTH, 1, 1, into("tls.cert_profile", one_of(CertProfile))),
    _supported("tls-timeout", BOTH, 1, 1, into("tls.retransmit_s", integer(1))),
    _supported("hand-window", BOTH, 1, 1, into("tls.handshake_window_s", integer(1))),
    _supported("tran-window", BOTH, 1, 1, into("tls.transition_window_s", seconds)),
    _supported("remote-cert-tls", BOTH, 1, 1, into("verify.remote_cert_tls", one_of(CertRole))),
    _supported("remote-cert-ku", BOTH, 0, None, h.remote_cert_ku),
    _supported("remote-cert-eku", BOTH, 1, 1, into("verify.remote_cert_eku", oid)),
    _supported("verify-x509-name", BOTH, 1, 2, h.verify_x509_name),
    _supported("x509-username-field", BOTH, 1, None, every("verify.x509_username_fields")),
    _supported("peer-fingerprint", BOTH, 1, 1, h.peer_fingerprint, "SHA-256", inline=True),
    _supported("verify-client-cert", SERVER, 1, 1, into("verify.client_cert", one_of(ClientCert))),
    _supported("crl-verify", BOTH, 1, 2, h.crl_verify, inline=True),
    _supported("tls-auth", BOTH, 1, 2, h.tls_auth, inline=True, connection=True),
    _supported(
        "key-direction", BOTH, 1, 1, into("wrap.key_direction", integer(0, 1)), connection=True
    ),
    _supported("tls-crypt", BOTH, 1, 1, material("wrap.tls_crypt"), inline=True, connection=True),
    _supported("tls-crypt-v2", BOTH, 1, 2, h.tls_crypt_v2, inline=True, connection=True),
    _supported(
        "tls-crypt-v2-max-age",
        SERVER,
        1,
        1,
        into("wrap.tls_crypt_v2_max_age_days", integer(1)),
        "days",
    ),
]

_DATA = [
    _supported("data-ciphers", BOTH, 1, 1, h.data_ciphers, "AEAD ciphers only"),
    _supported("ncp-ciphers", BOTH, 1, 1, h.data_ciphers, "the old name of data-ciphers"),
    _supported("data-ciphers-fallback", BOTH, 1, 1, into("data.fallback", aead), "an AEAD cipher"),
    _supported("cipher", BOTH, 1, 1, h.cipher, "a hint only; use data-ciphers"),
    _supported("auth", BOTH, 1, 1, h.auth, "of tls-auth; AEAD ciphers need none"),
    _supported("force-tls-key-material-export", BOTH, 0, 0, flag("data.force_key_export")),
    _supported("replay-window", BOTH, 1, 2, h.replay_window),
    _supported(
        "reneg-sec", BOTH, 1, 2, pair("data.renegotiate_s", "data.renegotiate_min_s", seconds)
    ),
    _supported("reneg-bytes", BOTH, 1, 1, into("data.renegotiate_bytes", integer(0, 2**63 - 1))),
    _supported("reneg-pkts", BOTH, 1, 1, into("data.renegotiate_packets", integer(0, 2**63 - 1))),
    _supported("keepalive", BOTH, 2, 2, h.keepalive, "a server waits twice as long as its clients"),
    _supported("ping", BOTH, 1, 1, into("keepalive.ping_s", seconds)),
    _supported("ping-restart", BOTH, 1, 1, into("keepalive.restart_s", seconds)),
    _supported("ping-exit", BOTH, 1, 1, into("keepalive.exit_s", seconds)),
    _supported("ping-timer-rem", BOTH, 0, 0, flag("keepalive.only_after_contact")),
    _supported("inactive", BOTH, 1, 2, h.inactive),
    _supported("session-timeout", BOTH, 1, 1, into("keepalive.session_timeout_s", seconds)),
]

_AUTH = [
    _supported("auth-user-pass", CLIENT, 0, 1, h.auth_user_pass, inline=True),
    _supported("auth-retry", CLIENT, 1, 1, into("auth.retry", one_of(AuthRetry))),
    _supported("auth-nocache", BOTH, 0, 0, flag("auth.cache", value=False)),
    _supported("static-challenge", CLIENT, 2, 3, h.static_challenge),
    _supported("auth-token", CLIENT, 1, 1, h.auth_token),
    _supported("auth-token-user", CLIENT, 1, 1, h.auth_token),
    _supported("auth-user-pass-optional", SERVER, 0, 0, flag("auth.user_pass_optional")),
    _supported("username-as-common-name", SERVER, 0, 0, flag("auth.username_as_common_name")),
    _supported("auth-gen-token", SERVER, 0, 3, h.auth_gen_token),
    _supported("auth-gen-token-secret", SERVER, 1, 1, material("auth.token_secret"), inline=True),
]

_SERVER = [
    _supported("server", SERVER, 2, 3, h.server, "stands for ifconfig, ifconfig-pool and pushes"),
    _supported("server-ipv6", SERVER, 1, 1, h.server_ipv6, "stands for ifconfig-ipv6 and its pool"),
    _supported("ifconfig", BOTH, 2, 2, h.ifconfig),
    _supported("ifconfig-ipv6", BOTH, 1, 2, h.ifconfig_ipv6),
    _supported("ifconfig-pool", SERVER, 2, 3, h.ifconfig_pool),
    _supported("ifconfig-ipv6-pool", SERVER, 1, 1, into("pool.first_ipv6", ipv6_interface)),
    _supported("ifconfig-pool-persist", SERVER, 1, 2, h.ifconfig_pool_persist),
    _supported("client-config-dir", SERVER, 1, 1, path_into("pool.client_config_dir")),
    _supported("ccd-exclusive", SERVER, 0, 0, flag("pool.client_config_required")),
    _supported(
        "client-to-client",
        SERVER,
        0,
        0,
        flag("pool.client_to_client"),
        "inside the device, past the firewall of the system; multicast, too",
    ),
    _supported("duplicate-cn", SERVER, 0, 0, flag("pool.duplicate_cn")),
    _supported("max-clients", SERVER, 1, 1, into("pool.max_clients", integer(1, 2**24 - 1))),
    _supported("connect-freq", SERVER, 2, 2, frequency("limits.connect_frequency")),
    _supported("connect-freq-initial", SERVER, 2, 2, frequency("limits.initial_frequency")),
    _supported("max-routes-per-client", SERVER | CCD, 1, 1, o.max_routes),
    _supported("push", SERVER | CCD, 1, 1, h.push),
]

_CCD = [
    _supported("push-reset", CCD, 0, 0, o.change_push),
    _supported("push-remove", CCD, 1, None, o.change_push, "every option that begins so"),
    _supported("ifconfig-push", CCD, 2, 3, o.ifconfig_push),
    _supported("ifconfig-ipv6-push", CCD, 1, 2, o.ifconfig_ipv6_push),
    _supported("iroute", CCD, 1, 2, o.iroute),
    _supported("iroute-ipv6", CCD, 1, 1, o.iroute),
    _supported("disable", CCD, 0, 0, o.disable),
    _supported("override-username", CCD, 1, 1, o.override_username),
]

_ROUTES = [
    _supported("route", BOTH, 1, 4, r.route),
    _supported("route-ipv6", BOTH, 1, 3, r.route_ipv6),
    _supported("route-gateway", BOTH, 1, 1, r.route_gateway),
    _supported("route-metric", BOTH, 1, 1, into("routes.metric", seconds)),
    _supported("route-nopull", CLIENT, 0, 0, flag("routes.pull", value=False)),
    _supported("route-noexec", BOTH, 0, 0, flag("routes.apply", value=False)),
    _supported("redirect-gateway", CLIENT, 0, None, r.redirect),
    _supported("redirect-private", CLIENT, 0, None, r.redirect),
    _supported("block-ipv6", BOTH, 0, 0, flag("routes.block_ipv6")),
    _supported("dhcp-option", CLIENT, 1, 2, r.dhcp_option),
    _supported("dns", CLIENT, 2, None, r.dns),
    _supported("pull-filter", CLIENT, 2, 2, h.pull_filter),
    _supported("push-peer-info", CLIENT, 0, 0, flag("pull.push_peer_info")),
]

_SERVICES = [
    _supported("verb", BOTH, 1, 1, into("logging.verb", integer(0, 15))),
    _supported("mute", BOTH, 1, 1, into("logging.mute", seconds)),
    _supported("log", BOTH, 1, 1, s.log),
    _supported("log-append", BOTH, 1, 1, s.log),
    _supported("status", BOTH, 1, 2, s.status),
    _supported("status-version", BOTH, 1, 1, into("logging.status_version", integer(1, 3))),
    _supported("management", BOTH, 2, 3, s.management),
    _supported("management-client-auth", SERVER, 0, 0, flag("management.client_auth")),
    _supported("management-hold", BOTH, 0, 0, flag("management.hold")),
    _supported("management-query-passwords", BOTH, 0, 0, flag("management.query_passwords")),
    _supported("user", BOTH, 1, 1, into("lifecycle.user", account)),
    _supported("group", BOTH, 1, 1, into("lifecycle.group", account)),
    _supported("disable-dco", BOTH, 0, 0, flag("device.disable_dco")),
    _supported("persist-tun", BOTH, 0, 0, flag("lifecycle.persist_tun")),
]

_ACCEPTED = [
    *_ignored("persist-key", "keys are always kept over a restart"),
    *_ignored("tun-ipv6", "a tunnel always carries IPv6"),
    *_ignored("disable-occ", "options of both ends are not compared"),
    *_ignored("key-method", "2 is the only one", s.key_method, 1),
    *_ignored("comp-noadapt", "nothing is compressed"),
    *_ignored("compress", "migrate only: nothing is compressed", s.compress),
    *_ignored("allow-compression", "nothing is compressed", s.allow_compression, 1),
    *_ignored("mute-replay-warnings", "replays are counted, not logged"),
    *_ignored("fast-io", "packets are always sent in batches"),
    *_ignored(
        "bcast-buffers tcp-queue-limit hash-size", "tables and queues have sizes of their own"
    ),
    *_ignored("machine-readable-output suppress-timestamps", "the log is the program's"),
    *_ignored("preresolve", "names are resolved before each attempt"),
    *_warned(
        "comp-lzo", "no: works only with a peer that does not frame packets for it", s.comp_lzo, 1
    ),
    *_warned(
        "script-security",
        "no effect: no program is run at any level",
        s.script_security,
        1,
        least=1,
    ),
    *_warned(
        "ns-cert-type", "no effect: remote-cert-tls does its work", s.ns_cert_type, 1, least=1
    ),
    *_warned("persist-local-ip persist-remote-ip", "no effect: addresses are resolved anew"),
    *_warned("chroot daemon mlock nice writepid", "no effect: leave it to what starts the program"),
    *_warned("cd", "no effect: names of files are relative to the folder of the configuration"),
    *_warned("syslog echo", "no effect: the log is the program's"),
    *_warned("bind-dev", "no effect: give the socket to the device in code"),
    *_warned("socket-flags", "no effect: tcp-nodelay stands for itself"),
    *_warned("txqueuelen", "no effect: set it on the interface"),
    *_warned("migrate", "no effect: nothing is compressed"),
    *_warned("ecdh-curve tls-groups", "no effect: the TLS library picks the groups"),
    *_warned("tls-exit single-session remap-usr1", "no effect: the application decides"),
    *_warned("stale-routes-check", "no effect: routes go with their client"),
    *_warned("compat-mode", "no effect: old defaults are not brought back"),
    *_warned("mtu-test tun-mtu-extra route-delay", "no effect", connection=True),
    *_warned("allow-recursive-routing", "no effect: packets to the server never enter the tunnel"),
    *_warned("remote-random-hostname", "no effect: names are taken as they are"),
    *_warned("keysize prng engine providers", "no effect: the TLS library has its own settings"),
    *_warned("ncp-disable", "no effect: ciphers are always negotiated"),
    *_warned("opt-verify", "no effect: options of both ends are not compared"),
    *_warned(
        "block-outside-dns register-dns ip-win32 route-method tap-sleep windows-driver "
        "dhcp-renew dhcp-release",
        "no effect: of Windows",
    ),
]

_PROGRAM = "no program is run: give a Python callable in its place, "
_REFUSED = [
    *_refused("up", _PROGRAM + "ClientHooks.up"),
    *_refused("down", _PROGRAM + "ClientHooks.down"),
    *_refused("route-up", _PROGRAM + "ClientHooks.route_up"),
    *_refused("client-connect", _PROGRAM + "ServerHooks.client_connect"),
    *_refused("client-disconnect", _PROGRAM + "ServerHooks.client_disconnect"),
    *_refused("client-crresponse", _PROGRAM + "ServerHooks.client_response"),
    *_refused("learn-address", _PROGRAM + "ServerHooks.learn_address"),
    *_refused("tls-crypt-v2-verify", _PROGRAM + "ServerHooks.tls_crypt_v2_verify"),
    *_refused("tls-verify", _PROGRAM + "VerifyConfig.hook"),
    *_refused("auth-user-pass-verify", _PROGRAM + "AuthConfig.user_pass_hook"),
    *_refused(
        "route-pre-down ipchange iproute dns-updown tls-export-cert",
        "no program is run, and no hook takes its place",
    ),
    *_refused("up-delay up-restart down-pre", "no program is run whose time it could set"),
    *_refused("plugin", "plugins are programs for another process: use hooks"),
    *_refused("secret", "static keys are not spoken: use TLS", inline=True),
    *_refused("server-bridge", "bridging needs TAP, which is not offloaded: use server"),
    *_refused("vlan-tagging vlan-accept vlan-pvid", "VLANs need TAP, which is not offloaded"),
    *_refused("fragment", "fragments are not offloaded: use mssfix or a smaller tun-mtu"),
    *_refused("link-mtu", "is gone: use tun-mtu"),
    *_refused("no-replay", "replayed packets are always refused"),
    *_refused("ifconfig-pool-linear", "is of topology p2p: use topology subnet"),
    *_refused(
        "pkcs11-providers pkcs11-id pkcs11-id-management pkcs11-pin-cache pkcs11-cert-private "
        "pkcs11-protected-authentication pkcs11-private-mode",
        "no PKCS#11: use key or pkcs12",
    ),
    *_refused("cryptoapicert", "is of Windows: use cert and key"),
    *_refused("port-share", "data channels of foreign connections are not carried"),
    *_refused(
        "http-proxy http-proxy-option http-proxy-user-pass",
        "proxies are not offloaded",
        inline=True,
    ),
    *_refused("socks-proxy", "proxies are not offloaded"),
    *_refused("management-external-key management-external-cert", "use key and cert"),
    *_refused("management-query-proxy", "proxies are not offloaded"),
    *_refused("verify-hash", "use peer-fingerprint", inline=True),
    *_refused("dev-node", "a TUN interface is made, or given as a descriptor in code"),
    *_refused("inetd mktun rmtun genkey test-crypto", "is a command, not a configuration"),
]

_ALL = [
    *_ROLE,
    *_TRANSPORT,
    *_TLS,
    *_DATA,
    *_AUTH,
    *_SERVER,
    *_CCD,
    *_ROUTES,
    *_SERVICES,
    *_ACCEPTED,
    *_REFUSED,
]

DIRECTIVES: dict[str, Row] = {row.name: row for row in _ALL}
