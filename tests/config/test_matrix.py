"""Every row of the table of directives: the field that it sets, the warning, or the refusal."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface
from typing import Any

import pytest
from config_files import client, field, parse_client, parse_server, problems, server, warned
from config_names import ACCEPTED, HOOKS, MUST, REFUSED

from ovpn_dco import Cipher
from ovpn_dco.config import (
    AuthRetry,
    CertProfile,
    CertRole,
    ClientCert,
    Credentials,
    FilterAction,
    ListenConfig,
    Material,
    NameType,
    Protocol,
    RedirectConfig,
    RouteConfig,
    TlsVersion,
    Topology,
)
from ovpn_dco.config.directives import _ALL, DIRECTIVES, Status
from ovpn_dco.config.settings import Role

PRINT = ":".join(["ab"] * 32)
GCM256, GCM128 = Cipher.AES_256_GCM, Cipher.AES_128_GCM

# Line, path of the field, value. Where both take a directive, the client is shown.
CLIENT_FIELDS: list[tuple[str, str, Any]] = [
    ("tls-client", "pull.enabled", True),
    ("pull", "pull.enabled", True),
    ("mode p2p", "pull.enabled", True),
    ("dev tun", "device.name", None),
    ("dev tun7", "device.name", "tun7"),
    ("dev vpn0\ndev-type tun", "device.name", "vpn0"),
    ("topology net30", "device.topology", Topology.NET30),
    ("disable-dco", "device.disable_dco", True),
    ("proto tcp-client", "transport.protocol", Protocol.TCP),
    ("proto udp6", "transport.protocol", Protocol.UDP6),
    ("port 99", "transport.local_port", 99),
    ("port 99", "transport.remote_port", 99),
    ("lport 0", "transport.local_port", 0),
    ("lport 7", "transport.bind", True),
    ("rport 98", "transport.remote_port", 98),
    ("local 192.0.2.1", "transport.local_host", "192.0.2.1"),
    ("local 192.0.2.1 77", "transport.local_port", 77),
    ("local *", "transport.local_host", None),
    ("bind", "transport.bind", True),
    ("bind ipv6only", "transport.bind_ipv6_only", True),
    ("local 192.0.2.1\nnobind", "transport.bind", False),
    ("float", "transport.may_float", True),
    ("remote-random", "connection.random", True),
    ("resolv-retry 30", "connection.resolve_retry_s", 30),
    ("resolv-retry infinite", "connection.resolve_retry_s", None),
    ("connect-retry 2 9", "transport.connect_retry_s", 2),
    ("connect-retry 2 9", "transport.connect_retry_max_s", 9),
    ("connect-retry-max 4", "transport.connect_retry_rounds", 4),
    ("connect-timeout 11", "transport.connect_timeout_s", 11),
    ("server-poll-timeout 12", "transport.connect_timeout_s", 12),
    ("sndbuf 0", "transport.sndbuf", 0),
    ("rcvbuf 393216", "transport.rcvbuf", 393216),
    ("mark 42", "transport.mark", 42),
    ("multihome", "transport.multihome", True),
    ("passtos", "transport.passtos", True),
    ("shaper 12500", "transport.shaper_bytes_per_s", 12_500),
    ("tcp-nodelay", "transport.tcp_nodelay", True),
    ("max-packet-size 1400", "transport.max_packet_size", 1400),
    ("max-packet-size 1400", "mtu.mssfix", 1400),
    ("mtu-disc yes", "transport.df", True),
    ("mtu-disc no", "transport.df", False),
    ("mtu-disc maybe", "transport.df", False),
    ("explicit-exit-notify", "transport.explicit_exit_notify", 1),
    ("explicit-exit-notify 3", "transport.explicit_exit_notify", 3),
    ("tun-mtu 1400", "mtu.tun_mtu", 1400),
    ("tun-mtu-max 9000", "mtu.tun_mtu_max", 9000),
    ("mssfix 1300", "mtu.mssfix", 1300),
    ("mssfix 1300 fixed", "mtu.mssfix_mode", "fixed"),
    ("mssfix", "mtu.mssfix", None),
    ("ca ca.crt", "tls.ca", Material(b"CA\n", "ca.crt")),
    ("<ca>\nX\n</ca>", "tls.ca", Material(b"X\n")),
    ("capath cas", "tls.ca_directory", "cas"),
    ("cert own.crt", "tls.cert", Material(b"CERT\n", "own.crt")),
    ("key own.key", "tls.key", Material(b"KEY\n", "own.key")),
    ("extra-certs ca.crt", "tls.extra_certs", Material(b"CA\n")),
    ("dh none", "tls.ca", Material(b"CA\n")),
    ("askpass", "tls.ask_key_password", True),
    ("askpass pass", "tls.key_password", "opensesame"),
    ("tls-version-min 1.3", "tls.version_min", TlsVersion.V1_3),
    ("tls-version-min 1.2 or-highest", "tls.version_min", TlsVersion.V1_2),
    ("tls-version-max 1.2", "tls.version_max", TlsVersion.V1_2),
    ("tls-cipher A-B:C", "tls.ciphers", "A-B:C"),
    ("tls-ciphersuites TLS_A", "tls.ciphersuites", "TLS_A"),
    ("tls-cert-profile suiteb", "tls.cert_profile", CertProfile.SUITEB),
    ("tls-timeout 3", "tls.retransmit_s", 3),
    ("hand-window 30", "tls.handshake_window_s", 30),
    ("tran-window 40", "tls.transition_window_s", 40),
    ("remote-cert-tls client", "verify.remote_cert_tls", CertRole.CLIENT),
    ("remote-cert-ku a0 88", "verify.remote_cert_ku", (0xA0, 0x88)),
    ("remote-cert-ku", "verify.remote_cert_ku", (0,)),
    (
        'remote-cert-eku "TLS Web Server Authentication"',
        "verify.remote_cert_eku",
        "TLS Web Server Authentication",
    ),
    ("verify-x509-name srv name", "verify.x509_name", "srv"),
    ("verify-x509-name srv name-prefix", "verify.x509_name_type", NameType.NAME_PREFIX),
    (
        "x509-username-field ext:subjectAltName CN",
        "verify.x509_username_fields",
        ("ext:subjectAltName", "CN"),
    ),
    (f"peer-fingerprint {PRINT}", "verify.fingerprints", (b"\xab" * 32,)),
    (
        f"<peer-fingerprint>\n# one\n{PRINT}\n{PRINT}\n</peer-fingerprint>",
        "verify.fingerprints",
        (b"\xab" * 32,) * 2,
    ),
    ("crl-verify crl.pem", "verify.crl", Material(b"CRL\n")),
    ("crl-verify revoked dir", "verify.crl_directory", "revoked"),
    ("tls-auth ta.key 1", "wrap.tls_auth", Material(b"STATIC KEY\n")),
    ("tls-auth ta.key 1", "wrap.key_direction", 1),
    ("tls-auth ta.key", "wrap.key_direction", None),
    ("key-direction 0\n<tls-auth>\nK\n</tls-auth>", "wrap.key_direction", 0),
    ("tls-auth [inline] 1\n<tls-auth>\nK\n</tls-auth>", "wrap.key_direction", 1),
    ("tls-crypt ta.key", "wrap.tls_crypt", Material(b"STATIC KEY\n")),
    ("tls-crypt-v2 ta.key", "wrap.tls_crypt_v2", Material(b"STATIC KEY\n")),
    ("data-ciphers AES-128-GCM:AES-256-GCM", "data.ciphers", (GCM128, GCM256)),
    ("data-ciphers aes-128-gcm:?CAMELLIA-256-CBC", "data.ciphers", (GCM128,)),
    (
        "data-ciphers AES-192-GCM:DEFAULT",
        "data.ciphers",
        (Cipher.AES_192_GCM, GCM256, GCM128, Cipher.CHACHA20_POLY1305),
    ),
    ("ncp-ciphers AES-128-GCM", "data.ciphers", (GCM128,)),
    ("data-ciphers-fallback AES-128-GCM", "data.fallback", GCM128),
    ("cipher AES-128-GCM", "data.cipher", GCM128),
    ("auth sha256", "data.auth", "SHA256"),
    ("force-tls-key-material-export", "data.force_key_export", True),
    ("replay-window 128", "data.replay_window", 128),
    ("replay-window 128 30", "data.replay_time_s", 30),
    ("reneg-sec 0", "data.renegotiate_s", 0),
    ("reneg-sec 900 600", "data.renegotiate_min_s", 600),
    ("reneg-bytes 5000000000", "data.renegotiate_bytes", 5_000_000_000),
    ("reneg-pkts 77", "data.renegotiate_packets", 77),
    ("keepalive 10 60", "keepalive.ping_s", 10),
    ("keepalive 10 60", "keepalive.restart_s", 60),
    ("ping 5", "keepalive.ping_s", 5),
    ("ping-restart 0", "keepalive.restart_s", 0),
    ("ping-exit 50", "keepalive.exit_s", 50),
    ("ping-timer-rem", "keepalive.only_after_contact", True),
    ("inactive 60", "keepalive.inactive_s", 60),
    ("inactive 60 9000000000", "keepalive.inactive_bytes", 9_000_000_000),
    ("session-timeout 3600", "keepalive.session_timeout_s", 3600),
    ("auth-user-pass", "auth.user_pass", True),
    ("auth-user-pass login", "auth.credentials", Credentials("alice", "hunter2")),
    ("<auth-user-pass>\nbob\n</auth-user-pass>", "auth.credentials", Credentials("bob")),
    ("auth-user-pass username-only", "auth.username_only", True),
    ("auth-retry nointeract", "auth.retry", AuthRetry.NOINTERACT),
    ("auth-nocache", "auth.cache", False),
    ('auth-user-pass\nstatic-challenge "PIN?" 1', "auth.challenge", "PIN?"),
    ('auth-user-pass\nstatic-challenge "PIN?" 1', "auth.challenge_echo", True),
    ("auth-user-pass\nstatic-challenge P 0 concat", "auth.challenge_concatenated", True),
    ("auth-token T", "auth.token", "T"),
    ("auth-token T\nauth-token-user U", "auth.token_user", "U"),
    ("ifconfig 10.8.0.2 255.255.255.0", "device.ipv4", IPv4Interface("10.8.0.2/24")),
    ("ifconfig 10.8.0.2 10.8.0.1", "device.ipv4_peer", IPv4Address("10.8.0.1")),
    ("ifconfig-ipv6 fd00::2/64 fd00::1", "device.ipv6", IPv6Interface("fd00::2/64")),
    ("ifconfig-ipv6 fd00::2/64 fd00::1", "device.ipv6_peer", IPv6Address("fd00::1")),
    (
        "route 10.0.0.0 255.0.0.0 vpn_gateway 5",
        "routes.routes",
        (RouteConfig(network=IPv4Network("10.0.0.0/8"), gateway="vpn_gateway", metric=5),),
    ),
    ("route 10.1.2.3", "routes.routes", (RouteConfig(network=IPv4Network("10.1.2.3/32")),)),
    ("route-gateway dhcp", "routes.gateway", "dhcp"),
    ("route-gateway 10.8.0.1", "routes.gateway", "10.8.0.1"),
    ("route-metric 50", "routes.metric", 50),
    ("route-nopull", "routes.pull", False),
    ("route-noexec", "routes.apply", False),
    (
        "redirect-gateway def1 bypass-dhcp ipv6 !ipv4",
        "routes.redirect",
        RedirectConfig(def1=True, bypass_dhcp=True, ipv6=True, ipv4=False),
    ),
    (
        "redirect-private block-local",
        "routes.redirect",
        RedirectConfig(private=True, block_local=True),
    ),
    ("block-ipv6", "routes.block_ipv6", True),
    (
        "dhcp-option DNS 10.8.0.1\ndhcp-option DOMAIN vpn.example",
        "routes.dhcp_options",
        (("DNS", "10.8.0.1"), ("DOMAIN", "vpn.example")),
    ),
    ("dns search-domains a.example b.example", "routes.search_domains", ("a.example", "b.example")),
    ('pull-filter ignore "route "', "pull.filters", ((FilterAction.IGNORE, "route "),)),
    ("push-peer-info", "pull.push_peer_info", True),
    ("setenv UV_ID a", "environment", (("UV_ID", "a"),)),
    ("setenv-safe ID a", "environment", (("OPENVPN_ID", "a"),)),
    ("verb 4", "logging.verb", 4),
    ("mute 20", "logging.mute", 20),
    ("log a.log", "logging.path", "a.log"),
    ("log-append a.log", "logging.append", True),
    ("status st 10", "logging.status_path", "st"),
    ("status st 10", "logging.status_interval_s", 10),
    ("status-version 3", "logging.status_version", 3),
    ("management 127.0.0.1 7505 pass", "management.port", 7505),
    ("management 127.0.0.1 7505 pass", "management.password", Material(b"opensesame\n")),
    ("management /run/m unix", "management.host", "/run/m"),
    ("management m unix\nmanagement-hold", "management.hold", True),
    ("management m unix\nmanagement-query-passwords", "management.query_passwords", True),
    ("user nobody", "lifecycle.user", "nobody"),
    ("group nogroup", "lifecycle.group", "nogroup"),
    ("persist-tun", "lifecycle.persist_tun", True),
    ("ignore-unknown-option odd\nodd 1", "logging.verb", 1),
]

SERVER_FIELDS: list[tuple[str, str, Any]] = [
    ("local 192.0.2.1", "transport.local_host", "192.0.2.1"),
    ("local 192.0.2.1\nlport 7", "transport.local_port", 7),
    ("lport 7\nlocal * 77", "transport.local_port", 77),
    ("local * 443 tcp", "transport.protocol", Protocol.TCP),
    (
        "local 192.0.2.1\nlocal ::1 443 tcp-server\nproto udp6",
        "listen",
        (
            ListenConfig(host="192.0.2.1"),
            ListenConfig(host="::1", port=443, protocol=Protocol.TCP),
        ),
    ),
    ("mode server\ntls-server", "pool.announce", True),
    ("topology subnet", "device.topology", Topology.SUBNET),
    ("proto tcp-server", "transport.protocol", Protocol.TCP),
    ("verify-client-cert optional", "verify.client_cert", ClientCert.OPTIONAL),
    ("tls-crypt-v2 ta.key force-cookie", "wrap.tls_crypt_v2_force_cookie", True),
    ("tls-crypt-v2-max-age 90", "wrap.tls_crypt_v2_max_age_days", 90),
    ("keepalive 10 60", "keepalive.restart_s", 120),
    ("keepalive 10 60", "keepalive.pushed", (10, 60)),
    ("auth-user-pass-optional", "auth.user_pass_optional", True),
    ("username-as-common-name", "auth.username_as_common_name", True),
    ("auth-gen-token 3600 60 external-auth", "auth.token_lifetime_s", 3600),
    ("auth-gen-token 3600 60 external-auth", "auth.token_renewal_s", 60),
    ("auth-gen-token 3600 60 external-auth", "auth.token_external_auth", True),
    (
        "auth-gen-token\nauth-gen-token-secret ta.key",
        "auth.token_secret",
        Material(b"STATIC KEY\n"),
    ),
    ("ifconfig-pool-persist ipp 0", "pool.persist_path", "ipp"),
    ("ifconfig-pool-persist ipp 0", "pool.persist_interval_s", 0),
    ("client-config-dir ccd", "pool.client_config_dir", "ccd"),
    ("client-config-dir ccd\nccd-exclusive", "pool.client_config_required", True),
    ("client-to-client", "pool.client_to_client", True),
    ("duplicate-cn", "pool.duplicate_cn", True),
    ("max-clients 10", "pool.max_clients", 10),
    ("connect-freq 5 10", "limits.connect_frequency", (5, 10)),
    ("connect-freq-initial 50 20", "limits.initial_frequency", (50, 20)),
    ("max-routes-per-client 9", "limits.max_routes_per_client", 9),
    ('push "route 10.0.0.0 255.0.0.0"', "push.options", ("route 10.0.0.0 255.0.0.0",)),
    ("management m unix\nmanagement-client-auth", "management.client_auth", True),
    ("explicit-exit-notify 2", "transport.explicit_exit_notify", 2),
    ("server-ipv6 fd00:1::/64", "pool.local_ipv6", IPv6Interface("fd00:1::1/64")),
    ("server-ipv6 fd00:1::/64", "pool.first_ipv6", IPv6Interface("fd00:1::1000/64")),
    ("server-ipv6 fd00:1::/112", "pool.first_ipv6", IPv6Interface("fd00:1::2/112")),
    ("route-ipv6 fd02::/48", "routes.gateway", None),
]


@pytest.mark.parametrize(("line", "path", "value"), CLIENT_FIELDS)
def test_supported_by_a_client(line: str, path: str, value: Any) -> None:
    assert field(client(line), path) == value


@pytest.mark.parametrize(("line", "path", "value"), SERVER_FIELDS)
def test_supported_by_a_server(line: str, path: str, value: Any) -> None:
    assert field(server(line), path) == value


# Shown elsewhere: in test_parse.py what is a block, a list or a whole configuration, in test_ccd.py
# what is for one client.
ELSEWHERE = {
    "client",
    "server",
    "remote",
    "connection",
    "config",
    "pkcs12",
    "ifconfig-pool",
    "ifconfig-ipv6-pool",
}


def test_every_supported_directive_has_an_example() -> None:
    lines = "\n".join(line for line, _, _ in CLIENT_FIELDS + SERVER_FIELDS)
    shown = {line.split()[0].strip("<>") for line in lines.splitlines()}
    for row in DIRECTIVES.values():
        if row.status is Status.SUPPORTED and row.roles is not Role.CCD:
            assert row.name in shown | ELSEWHERE


def test_table_has_every_name_that_was_promised_once() -> None:
    assert len(_ALL) == len(DIRECTIVES)
    assert set(MUST + HOOKS + ACCEPTED + REFUSED) - set(DIRECTIVES) == set()
    assert {n for n in MUST if DIRECTIVES[n].status is not Status.SUPPORTED} == set()
    assert {n for n in ACCEPTED if DIRECTIVES[n].status is Status.REFUSED} == set()
    assert {n for n in REFUSED + HOOKS if DIRECTIVES[n].status is not Status.REFUSED} == set()


def test_every_row_that_does_less_says_why() -> None:
    for row in DIRECTIVES.values():
        assert row.text or row.status is Status.SUPPORTED, row.name


# Words for accepted directives that need some.
ARGUMENTS = {
    "comp-lzo": "no",
    "compress": "migrate",
    "allow-compression": "no",
    "key-method": "2",
    "ns-cert-type": "server",
    "script-security": "2",
}


@pytest.mark.parametrize("name", [r.name for r in _ALL if r.status is Status.WARNED])
def test_accepted_with_a_warning(name: str) -> None:
    config = client("", f"{name} {ARGUMENTS.get(name, '')}")
    assert [(w.source, w.line, w.directive, w.text) for w in config.warnings] == [
        ("client.ovpn", 8, name, DIRECTIVES[name].text)
    ]
    assert config == client()


@pytest.mark.parametrize("name", [r.name for r in _ALL if r.status is Status.IGNORED])
def test_accepted_in_silence(name: str) -> None:
    config = client(f"{name} {ARGUMENTS.get(name, '')}")
    assert config.warnings == ()
    assert config == client()


@pytest.mark.parametrize("name", [r.name for r in _ALL if r.status is Status.REFUSED])
@pytest.mark.parametrize("role", ["client", "server"])
def test_refused_with_line_and_reason(name: str, role: str) -> None:
    parse = parse_client if role == "client" else parse_server
    first = problems(parse, f"\n{name} one two\n")[0]
    assert (first.line, first.directive, first.reason) == (2, name, DIRECTIVES[name].text)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("dev tap0", "Ethernet"),
        ("dev null", "no tunnel without"),
        ("dev a/b", "no name of an interface"),
        ("dev-type tap", "only tun"),
        ("mode server", "must be 'p2p'"),
        ("proto tcp-server", "for the other end"),
        ("proto sctp", "must be one of udp"),
        ("port 0", "1 to 65535"),
        ("port 65536", "1 to 65535"),
        ("port http", "1 to 65535"),
        ("remote bad!host", "no host name"),
        ("remote -rf", "no host name"),
        ("remote fe80::1%a/b", "no valid zone"),
        ("comp-lzo", "compression"),
        ("comp-lzo adaptive", "compression"),
        ("comp-lzo yes", "compression"),
        ("compress", "framing"),
        ("compress lz4-v2", "lz4-v2"),
        ("compress stub-v2", "stub-v2"),
        ("allow-compression yes", "must be no or asym"),
        ("key-method 1", "must be 2"),
        ("tls-version-max 1.1", "must be 1.2 or 1.3"),
        ("tls-version-min 2", "must be one of 1.2, 1.3"),
        ("cipher none", "in the clear"),
        ("data-ciphers AES-256-CBC", "no AEAD cipher in it"),
        ("data-ciphers AES-256-GCM:none", "in the clear"),
        ("data-ciphers " + "AES-256-GCM:" * 11, "longer than 127"),
        ("data-ciphers-fallback AES-256-CBC", "no AEAD cipher"),
        ("auth MD4", "must be one of SHA1"),
        ("keepalive 10 19", "at least twice"),
        ("redirect-gateway def2", "no flag 'def2'"),
        ("peer-fingerprint ab:cd", "32 bytes"),
        ("route ten 255.0.0.0", "no IPv4 address"),
        ("route 10.0.0.0 255.0.255.0", "no netmask"),
        ("route 10.0.0.0 0.0.0.255", "no netmask"),
        ("route 10.0.0.0 255.0.0.0 fd00::1", "no IPv4 address"),
        ("route-ipv6 10.0.0.0/8", "no IPv6 address"),
        ("dhcp-option DNS evil.example", "no IPv4 address"),
        ("dhcp-option DOMAIN $(id)", "no domain name"),
        ("dns server 200 address 1.1.1.1", "-128 to 127"),
        ("dns server 1 address 1.1.1.1:99999", "1 to 65535"),
        ("dns server 1 dnssec maybe", "must be one of yes"),
        ("dns server 1 colour red", "no keyword"),
        ("dns odd thing", "takes search-domains"),
        ("ca nowhere.crt", "cannot read 'nowhere.crt'"),
        ("ca [inline]", "has no <ca>"),
        ("<verb>\n3\n</verb>", "cannot be inline"),
        ("local 192.0.2.1 7 udp", "on a server only"),
        ("verb", "takes 1 argument, not 0"),
        ("verb 3 4", "takes 1 argument, not 2"),
        ("nobind x", "takes no arguments, not 1"),
        ("connection x", "is a block"),
        ("server 10.8.0.0 255.255.255.0", "is for servers"),
        ("iroute 10.0.0.0 255.0.0.0", "is for files of client-config-dir"),
        ("verbb 3", "did you mean verb?"),
        ("management nowhere! 1", "no host name"),
        ("management 127.0.0.1 1 stdin", "name a file"),
        ("user $(id)", "no name of a user"),
        ("setenv 1x y", "no name of a variable"),
    ],
)
def test_arguments_that_are_refused_by_a_client(line: str, reason: str) -> None:
    found = problems(client, f"\n{line}")
    assert [(p.source, p.line, p.directive) for p in found] == [
        ("client.ovpn", 8, line.split()[0].strip("<>"))
    ]
    assert reason in found[0].reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("topology net30", "must be subnet"),
        ("topology p2p", "must be subnet"),
        ("mode p2p", "must be 'server'"),
        ("proto tcp-client", "for the other end"),
        ("local * 7 tcp-client", "for the other end"),
        ("explicit-exit-notify 3", "0 to 2"),
        ("remote vpn.example", "is for clients"),
        ("auth-user-pass", "is for clients"),
        ("server-ipv6 fd00::/48", "64 to 124"),
        ("server-ipv6 fd00::", "64 to 124"),
        ('push "a,b"', "comma"),
        ("push ''", "1 to 16 words"),
        (f'push "{"a " * 17}"', "1 to 16 words"),
        (f'push "{"a" * 256}"', "longer than 255"),
        ("push 'route \"x'", "quote is not closed"),
        ("max-clients 0", "1 to 16777215"),
    ],
)
def test_arguments_that_are_refused_by_a_server(line: str, reason: str) -> None:
    found = problems(server, line)
    assert [p.directive for p in found] == [line.split()[0]]
    assert reason in found[0].reason


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("cipher AES-256-CBC", "AES-256-CBC is no AEAD cipher"),
        ("data-ciphers AES-256-GCM:AES-256-CBC", "AES-256-CBC is left out"),
        ("tls-version-min 1.0", "TLS 1.0 is not spoken"),
        ("dh dh2048.pem", "elliptic curves"),
        ("dhcp-option ODD x", "not known"),
        ("management 127.0.0.1 7505", "no password"),
        ("setenv opt odd-thing 1", "unknown directive"),
    ],
)
def test_arguments_that_warn(line: str, text: str) -> None:
    assert any(text in found for found in warned(client(line)).values())
