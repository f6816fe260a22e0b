"""What makes no sense together: every rule is broken once, in a file and in code."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from config_files import (
    CLIENT,
    SERVER,
    client,
    parse_client,
    parse_server,
    problems,
    server,
    warned,
)

from ovpn_dco.config import (
    ClientConfig,
    ConfigError,
    Material,
    RemoteConfig,
    ServerConfig,
    TlsConfig,
    Topology,
    VerifyConfig,
    check,
)
from ovpn_dco.config.rules import CLIENT as CLIENT_RULES
from ovpn_dco.config.rules import SERVER as SERVER_RULES
from ovpn_dco.config.rules import Severity

OWN = "cert own.crt\nkey own.key\n"

# Text, directive that is named, its line, part of the reason.
CLIENT_BROKEN = [
    (CLIENT + "tls-auth ta.key\ntls-crypt ta.key", "tls-auth", 7, "excludes tls-crypt"),
    (CLIENT + "tls-crypt ta.key\ntls-crypt-v2 ta.key", "tls-crypt-v2", 8, "excludes tls-auth"),
    (CLIENT + "auth none\ntls-auth ta.key", "auth", 7, "cannot be none with tls-auth"),
    (CLIENT.replace("key own.key\n", "auth-user-pass\n"), "cert", 5, "needs key"),
    (CLIENT.replace("cert own.crt\n", "auth-user-pass\n"), "key", 6, "needs cert"),
    (CLIENT + "pkcs12 both.p12", "pkcs12", 7, "excludes cert"),
    (CLIENT + "tls-version-max 1.2\ntls-version-min 1.3", "tls-version-min", 8, "is above"),
    (CLIENT.replace("remote-cert-tls", "ns-cert-type"), "ns-cert-type", 3, "use remote-cert-tls"),
    (CLIENT + "nobind\nlport 3", "nobind", 7, "excludes lport"),
    (CLIENT + "keepalive 1 9\nping 3", "keepalive", 7, "excludes ping"),
    (CLIENT + "ping-exit 9\nping-restart 9", "ping-exit", 7, "excludes ping-restart"),
    (CLIENT + "reneg-sec 10 20", "reneg-sec", 7, "minimum above"),
    (CLIENT + "management-hold", "management-hold", 7, "needs management"),
    (
        CLIENT + "management-query-passwords",
        "management-query-passwords",
        7,
        "needs management",
    ),
    (CLIENT.replace("client", "pull"), "client", 0, "is missing"),
    (CLIENT.replace("client", "tls-client"), "pull", 0, "no peer id"),
    (CLIENT.replace("remote vpn.example\n", ""), "remote", 0, "is missing"),
    (CLIENT.replace("ca ca.crt\n", ""), "ca", 0, "any server is as good"),
    (CLIENT.replace(OWN, ""), "cert", 0, "auth-user-pass"),
    (CLIENT + "auth-token-user u", "auth-token-user", 7, "needs auth-token"),
    (CLIENT + "static-challenge a 1", "static-challenge", 7, "needs auth-user-pass"),
]
SERVER_BROKEN = [
    (SERVER + "management-client-auth", "management-client-auth", 5, "needs management"),
    (
        SERVER.replace("server 10.8.0.0 255.255.255.0", "tls-server\nifconfig 10.8.0.1 255.0.0.0"),
        "server",
        0,
        "only servers of many clients",
    ),
    (
        SERVER.replace("server 10.8.0.0 255.255.255.0", "mode server\ntls-server"),
        "ifconfig",
        0,
        "has no address",
    ),
    (SERVER + "ifconfig 10.8.0.1 255.255.255.0", "server", 1, "excludes ifconfig"),
    (
        SERVER + "server-ipv6 fd00::/64\nifconfig-ipv6-pool fd00::5/64",
        "server-ipv6",
        5,
        "excludes ifconfig-ipv6",
    ),
    (
        SERVER.replace(
            "server 10.8.0.0 255.255.255.0",
            "mode server\ntls-server\nifconfig "
            "10.8.0.1 255.255.255.0\nifconfig-pool 10.8.0.1 10.8.0.9",
        ),
        "ifconfig-pool",
        4,
        "without the server's own",
    ),
    (SERVER + "ifconfig-ipv6-pool fd00::5/64", "ifconfig-ipv6-pool", 5, "in the network"),
    (SERVER + "nobind", "nobind", 5, "makes no sense"),
    (SERVER.replace(OWN, ""), "cert", 0, "are missing"),
    (SERVER.replace("ca ca.crt\n", ""), "ca", 0, "no client can be told"),
    (SERVER + "ccd-exclusive", "ccd-exclusive", 5, "needs client-config-dir"),
    (SERVER + "auth-gen-token-secret ta.key", "auth-gen-token-secret", 5, "needs auth-gen-token"),
]
WARNED = [
    (CLIENT + "proto tcp\nmultihome", "multihome", "no effect on TCP"),
    (CLIENT + "proto tcp\npasstos", "passtos", "no effect on TCP"),
    (CLIENT + "proto tcp\nmtu-disc yes", "mtu-disc", "no effect on TCP"),
    (CLIENT + "key-direction 1\ntls-crypt ta.key", "key-direction", "without tls-auth"),
    (CLIENT.replace("remote-cert-tls server\n", ""), "remote-cert-tls", "passes for the server"),
    (SERVER + "verify-client-cert none", "verify-client-cert", "lets everybody in"),
    (SERVER + "username-as-common-name", "username-as-common-name", "nobody checks"),
    (SERVER + "duplicate-cn\nifconfig-pool-persist p", "duplicate-cn", "useless"),
    (SERVER + "proto tcp\nexplicit-exit-notify 1", "explicit-exit-notify", "no effect on TCP"),
    *(
        (SERVER + line, line.split()[0], "no effect")
        for line in (
            "management 127.0.0.1 1",
            "status file",
            "status-version 2",
            "ping-timer-rem",
        )
    ),
]


@pytest.mark.parametrize(("text", "directive", "line", "reason"), CLIENT_BROKEN)
def test_client_rules(text: str, directive: str, line: int, reason: str) -> None:
    found = problems(parse_client, text)
    assert [(p.directive, p.line) for p in found] == [(directive, line)]
    assert reason in found[0].reason


@pytest.mark.parametrize(("text", "directive", "line", "reason"), SERVER_BROKEN)
def test_server_rules(text: str, directive: str, line: int, reason: str) -> None:
    found = problems(parse_server, text)
    assert [(p.directive, p.line) for p in found] == [(directive, line)]
    assert reason in found[0].reason


@pytest.mark.parametrize(("text", "directive", "reason"), WARNED)
def test_rules_that_warn(text: str, directive: str, reason: str) -> None:
    parse = parse_server if text.startswith("server") else parse_client
    assert reason in warned(parse(text))[directive]


def test_every_rule_is_broken_here() -> None:
    broken = {directive for _, directive, *_ in CLIENT_BROKEN + SERVER_BROKEN}
    broken |= {directive for _, directive, _ in WARNED}
    # A file cannot get there: the directives themselves refuse.
    unreachable = {"topology", "push", "tls-verify"}
    assert {rule.directive for rule in CLIENT_RULES + SERVER_RULES} - broken == unreachable


TLS = TlsConfig(ca=Material(b"CA"), cert=Material(b"CERT"), key=Material(b"KEY"))


def test_rules_hold_for_values_made_in_code() -> None:
    config = ClientConfig(remotes=(RemoteConfig(host="a.example"),), tls=TLS)
    check(config)
    with pytest.raises(ConfigError) as caught:
        check(replace(config, remotes=(), tls=replace(TLS, key=None)))
    assert [p.directive for p in caught.value.problems] == ["cert", "remote", "cert"]
    with pytest.raises(ConfigError, match="for servers"):
        check(replace(config, verify=VerifyConfig(hook=lambda _peer: True)))
    with pytest.raises(ConfigError, match="subnet"):
        check(replace(server(), device=replace(server().device, topology=Topology.P2P)))
    with pytest.raises(ConfigError, match="no client can read"):
        check(replace(server(), push=replace(server().push, options=("a,b",))))
    pool = replace(server().pool, first_ipv4=IPv4Address("10.8.0.1"))
    with pytest.raises(ConfigError, match="own address"):
        check(replace(server(), pool=pool))


def test_what_code_must_add_is_refused_where_it_did_not() -> None:
    config = parse_server(SERVER + "verify-client-cert none")
    with pytest.raises(ConfigError, match="lets everybody in"):
        check(config)
    check(replace(config, auth=replace(config.auth, user_pass_hook=lambda: True)))
    late = {rule.directive for rule in SERVER_RULES if rule.severity is Severity.LATE}
    assert late == {"verify-client-cert", "username-as-common-name"}


def test_a_hook_names_the_server_too() -> None:
    config = client()
    assert "remote-cert-tls" not in warned(config)


def test_no_second_complaint_about_a_refused_line() -> None:
    assert [p.directive for p in problems(parse_client, CLIENT.replace("ca.crt", "nowhere"))] == [
        "ca"
    ]


def test_a_server_without_certificates_of_clients_needs_no_ca() -> None:
    text = SERVER.replace("ca ca.crt\n", "verify-client-cert none\n")
    assert isinstance(parse_server(text), ServerConfig)
