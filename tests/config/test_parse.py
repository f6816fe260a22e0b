"""Whole files: samples, helpers, blocks, nesting, and all problems at once."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path

import pytest
from config_files import (
    CLIENT,
    FILES,
    SERVER,
    Files,
    client,
    parse_client,
    parse_server,
    problems,
    server,
    warned,
)

from ovpn_dco import Cipher, Feature
from ovpn_dco.config import (
    ClientConfig,
    ConfigError,
    DnsServer,
    Epoch,
    Material,
    PoolConfig,
    Protocol,
    RemoteConfig,
    RouteConfig,
    ServerConfig,
    Topology,
    TransportConfig,
)
from ovpn_dco.config import parse_client as parse_client_file
from ovpn_dco.config import parse_server as parse_server_file

SAMPLE_CLIENT = """\
##############################################
# A client of a server with many clients     #
##############################################

client

;dev tap
dev tun
;dev-node MyTap

;proto tcp
proto udp

remote vpn-1.example 1194
remote vpn-2.example 1194
;remote-random

resolv-retry infinite
nobind

;user nobody
;group nobody
persist-tun
;http-proxy-retry # retry on connection failures

ca ca.crt
cert own.crt
key own.key
remote-cert-tls server

tls-auth ta.key 1
;cipher AES-256-CBC
;data-ciphers AES-256-GCM:AES-128-GCM
verb 3
;mute 20
"""

SAMPLE_SERVER = """\
;local 192.0.2.1
port 1194
;proto tcp
proto udp
;dev tap
dev tun
;dev-node MyTap

ca ca.crt
cert own.crt
key own.key  # keep this one secret
dh none

topology subnet
server 10.8.0.0 255.255.255.0
ifconfig-pool-persist ipp.txt
;server-bridge 10.8.0.4 255.255.255.0 10.8.0.50 10.8.0.100
push "route 192.168.10.0 255.255.255.0"
;client-config-dir ccd
;push "redirect-gateway def1 bypass-dhcp"
push "dhcp-option DNS 208.67.222.222"
;client-to-client
;duplicate-cn
keepalive 10 120
tls-auth ta.key 0
;max-clients 100
;user openvpn
persist-key
persist-tun
status openvpn-status.log
;log         openvpn.log
verb 3
explicit-exit-notify 1
"""


def test_sample_client() -> None:
    config = parse_client(SAMPLE_CLIENT)
    assert config.remotes == (
        RemoteConfig(host="vpn-1.example", port=1194),
        RemoteConfig(host="vpn-2.example", port=1194),
    )
    assert config.warnings == ()
    assert config.wrap.tls_auth == Material(b"STATIC KEY\n")
    assert config.wrap.key_direction == 1
    assert (config.lifecycle.persist_tun, config.transport.bind) == (True, False)
    assert (config.keepalive.ping_s, config.keepalive.restart_s) == (0, 120)
    assert config.requirements() == {Feature.UDP}


def test_sample_server() -> None:
    config = parse_server(SAMPLE_SERVER)
    assert set(warned(config)) == {"status"}
    assert config.pool == replace(
        PoolConfig(),
        local_ipv4=IPv4Interface("10.8.0.1/24"),
        first_ipv4=IPv4Address("10.8.0.2"),
        last_ipv4=IPv4Address("10.8.0.254"),
        announce=True,
        persist_path="ipp.txt",
    )
    assert config.pushed_options() == (
        "route 192.168.10.0 255.255.255.0",
        "dhcp-option DNS 208.67.222.222",
        "route-gateway 10.8.0.1",
        "topology subnet",
        "ping 10",
        "ping-restart 120",
    )
    assert (config.keepalive.ping_s, config.keepalive.restart_s) == (10, 240)
    assert config.requirements() == {Feature.UDP}


def test_defaults_of_a_file_are_those_of_the_values() -> None:
    assert replace(client(), remotes=(), tls=ClientConfig().tls, verify=ClientConfig().verify) == (
        ClientConfig()
    )
    assert replace(server(), pool=PoolConfig(), tls=ServerConfig().tls) == ServerConfig()


def test_last_one_counts_and_lists_grow() -> None:
    config = client("verb 3", "route 10.0.0.0 255.0.0.0", "verb 5", "route 10.1.1.1")
    assert config.logging.verb == 5
    assert len(config.routes.routes) == 2


def test_a_client_that_pulls_restarts_unless_told_otherwise() -> None:
    assert client().keepalive.restart_s == 120
    assert client("ping-restart 7").keepalive.restart_s == 7
    assert client("ping-exit 7").keepalive.restart_s == 0


def test_addresses_of_both_families() -> None:
    config = server("server-ipv6 fd00:8::/64")
    assert config.pool.local_ipv6 == IPv6Interface("fd00:8::1/64")
    assert config.pool.last_ipv4 == IPv4Address("10.8.0.254")


def test_server_without_a_pool() -> None:
    config = parse_server(SERVER.replace("255.255.255.0", "255.255.255.0 nopool"))
    assert config.pool.first_ipv4 is None
    assert config.pool.local_ipv4 == IPv4Interface("10.8.0.1/24")


def test_server_without_its_helper() -> None:
    lines = "mode server\ntls-server\nifconfig 10.9.0.1 255.255.0.0\n"
    lines += "ifconfig-pool 10.9.1.0 10.9.1.255 255.255.0.0\nifconfig-ipv6 fd09::1/64\n"
    config = parse_server(lines + "ifconfig-ipv6-pool fd09::100/64\n" + SERVER.split("\n", 1)[1])
    assert config.pool.first_ipv4 == IPv4Address("10.9.1.0")
    assert config.pool.first_ipv6 == IPv6Interface("fd09::100/64")
    assert config.pushed_options() == ()


def test_smallest_network_has_one_client() -> None:
    config = parse_server(SERVER.replace("255.255.255.0", "255.255.255.252"))
    assert config.pool.first_ipv4 == config.pool.last_ipv4 == IPv4Address("10.8.0.2")


@pytest.mark.parametrize("mask", ["255.254.0.0", "255.255.255.254", "255.255.255.255", "0.0.0.0"])
def test_network_without_room(mask: str) -> None:
    found = problems(parse_server, SERVER.replace("255.255.255.0", mask))
    assert "16 to 30 bits" in found[0].reason or "bits of the host" in found[0].reason


def test_connection_blocks() -> None:
    config = client(
        "<connection>",
        "remote vpn-a.example 443 tcp",
        "tun-mtu 1400",
        "connect-timeout 5",
        "</connection>",
        "port 5000",
        "<connection>",
        "remote vpn-b.example",
        "proto udp6",
        "tls-crypt ta.key",
        "</connection>",
    )
    plain, first, second = config.remotes
    assert plain == RemoteConfig(host="vpn.example")
    assert (first.port, first.protocol) == (443, Protocol.TCP)
    assert first.mtu is not None
    assert first.mtu.tun_mtu == 1400
    assert first.transport == TransportConfig(connect_timeout_s=5)
    assert second.transport == TransportConfig(
        protocol=Protocol.UDP6, local_port=5000, remote_port=5000
    )
    assert second.wrap is not None
    assert second.wrap.tls_crypt == Material(b"STATIC KEY\n")
    assert config.wrap.tls_crypt is None
    assert config.mtu.tun_mtu == 1500
    assert warned(config) == {"port": "does not count for the <connection> blocks before it"}
    assert config.remote_protocol(second) is Protocol.UDP6
    assert config.requirements() == {Feature.UDP, Feature.TCP}


@pytest.mark.parametrize(
    ("inside", "line", "directive", "reason"),
    [
        ("remote a.example\nverb 3", 10, "verb", "cannot stand in <connection>"),
        ("proto udp", 8, "connection", "has no remote inside"),
        ("remote a.example\nhttp-proxy h 1", 10, "http-proxy", "proxies"),
        ("remote a.example 0", 9, "remote", "1 to 65535"),
        ("remote a.example\nfragment 1300", 10, "fragment", "mssfix"),
        ("remote a.example\nport 'x", 10, None, "not closed"),
        ("remote a.example\n<connection>", 10, "connection", "has no </connection>"),
    ],
)
def test_problems_in_a_connection_block(
    inside: str, line: int, directive: str | None, reason: str
) -> None:
    found = problems(client, f"\n<connection>\n{inside}\n</connection>\n")
    assert [(p.line, p.directive) for p in found] == [(line, directive)]
    assert reason in found[0].reason


def test_name_servers() -> None:
    config = client(
        "dns server 2 address 192.0.2.1 [2001:db8::1]:5353 198.51.100.1:53",
        "dns server -1 address 2001:db8::2",
        "dns server -1 resolve-domains a.example b.example",
        "dns server -1 dnssec yes",
        "dns server -1 transport DoT",
        "dns server -1 sni ns.example",
    )
    assert config.routes.dns_servers == (
        DnsServer(
            priority=-1,
            addresses=(("2001:db8::2", None),),
            resolve_domains=("a.example", "b.example"),
            dnssec="yes",
            transport="DoT",
            sni="ns.example",
        ),
        DnsServer(
            priority=2,
            addresses=(("192.0.2.1", None), ("2001:db8::1", 5353), ("198.51.100.1", 53)),
        ),
    )


def test_pkcs12_inline_is_base64() -> None:
    text = "client\nremote a.example\nremote-cert-tls server\n"
    inline = parse_client(text + "<pkcs12>\nMII=\n</pkcs12>\n")
    assert inline.tls.pkcs12 == Material(b"\x30\x82")
    assert parse_client(text + "pkcs12 both.p12\n").tls.pkcs12 == Material(b"\x30\x82")
    found = problems(parse_client, text + "<pkcs12>\n*\n</pkcs12>\n")
    assert found[0].reason == "is no Base64"


def test_options_that_are_let_pass() -> None:
    assert warned(client("setenv opt odd 1")) == {"odd": "no effect: unknown directive"}
    assert client("setenv opt verb 4").logging.verb == 4
    assert warned(client("ignore-unknown-option odd even", "odd", "even 1")).keys() == {
        "odd",
        "even",
    }
    assert warned(client("setenv FORWARD_COMPATIBLE 1", "odd")).keys() == {"odd"}
    assert problems(client, "odd\nsetenv FORWARD_COMPATIBLE 1")[0].directive == "odd"
    assert problems(client, "setenv FORWARD_COMPATIBLE 0\nodd")[0].directive == "odd"


def test_nothing_lets_a_refused_directive_pass() -> None:
    for lines in (
        "setenv opt up a",
        "ignore-unknown-option up\nup a",
        "setenv FORWARD_COMPATIBLE 1\nup a",
    ):
        assert [p.directive for p in problems(client, lines)] == ["up"]


def test_nested_files_are_read_in_place() -> None:
    config = parse_client(CLIENT + "verb 1\nconfig more\n", more=b"\xef\xbb\xbfverb 5\n")
    assert config.logging.verb == 5
    found = problems(lambda text: parse_client(text, more=b"\nverb x\n"), "config more\nport x\n")
    places = [(p.source, p.line, p.directive) for p in found if p.line]
    assert places == [("client.ovpn", 2, "port"), ("more", 2, "verb")]


def test_nesting_ends() -> None:
    found = problems(lambda text: parse_client(text, more=b"config more\n"), CLIENT + "config more")
    assert [(p.source, p.directive) for p in found] == [("more", "config")]
    assert "10 deep" in found[0].reason


def test_all_problems_come_at_once_and_in_order() -> None:
    text = "remote\nport x\nca 'x\nup /bin/sh\nca nowhere\nverb 99\n"
    with pytest.raises(ConfigError) as caught:
        parse_client(text)
    error = caught.value
    assert [(p.line, p.directive) for p in error.problems] == [
        (1, "remote"),
        (2, "port"),
        (3, None),
        (4, "up"),
        (5, "ca"),
        (6, "verb"),
        (0, "client"),
        (0, "pull"),
        (0, "cert"),
    ]
    assert (error.source, error.line, error.directive) == ("client.ovpn", 1, "remote")
    assert error.reason == "takes 1 to 3 arguments, not 0"
    assert str(error).splitlines()[0] == f"client.ovpn:1: remote: {error.reason}"
    assert len(str(error).splitlines()) == len(error.problems)
    assert isinstance(error, ValueError)


def test_files_are_read_through_the_reader_only() -> None:
    files = Files(FILES | {"dir/c.ovpn": CLIENT.encode()})
    config = parse_client_file(Path("dir/c.ovpn"), read_file=files)
    assert files.asked == ["dir/c.ovpn", "ca.crt", "own.crt", "own.key"]
    assert config.tls.ca == Material(b"CA\n")


def test_names_are_relative_to_the_folder_of_the_file(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "c.ovpn").write_text(CLIENT)
    (tmp_path / "s.conf").write_text(SERVER)
    assert parse_client_file(tmp_path / "c.ovpn") == client()
    assert parse_server_file(tmp_path / "s.conf") == server()
    more = "crl-verify crl.pem\ncapath trust\nclient-config-dir ccd\nstatus /run/status\n"
    (tmp_path / "s.conf").write_text(SERVER + more)
    config = parse_server_file(tmp_path / "s.conf")
    assert config.verify.crl is not None
    assert config.verify.crl.path == str(tmp_path / "crl.pem")
    assert config.tls.ca_directory == str(tmp_path / "trust")
    assert config.pool.client_config_dir == str(tmp_path / "ccd")
    assert config.logging.status_path == "/run/status"
    with pytest.raises(FileNotFoundError):
        parse_client_file(tmp_path / "none.ovpn")


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ca.crt")
    (tmp_path / "c.ovpn").write_text("client\nca ca.crt\ncert .\nkey /dev/zero\n")
    found = problems(parse_client_file, tmp_path / "c.ovpn")  # type: ignore[arg-type]
    reasons = {p.directive: p.reason for p in found}
    assert "is no regular file" in reasons["ca"]
    assert "cannot read '.'" in reasons["cert"]
    assert "is no regular file" in reasons["key"]


def test_empty_text_is_no_configuration() -> None:
    assert {p.directive for p in problems(parse_client, "")} == {"pull", "remote", "ca", "cert"}
    assert {p.directive for p in problems(parse_server, "")} == {"ifconfig", "cert", "ca"}


def test_requirements_of_passtos() -> None:
    assert client("passtos").requirements() == {Feature.UDP, Feature.DSCP}
    assert server("passtos").requirements() == {Feature.UDP, Feature.DSCP}
    own = "<connection>\nremote b.example\npasstos\n</connection>"
    assert client(own).requirements() == {Feature.UDP, Feature.DSCP}
    assert server("passtos", "proto tcp").requirements() == {Feature.TCP}


def test_requirements_of_paths() -> None:
    """What is so by default is no reason for another back end."""
    assert client().requirements() == {Feature.UDP}
    assert client("mssfix 1300").requirements() == {Feature.UDP, Feature.MSS_CLAMP}
    own = "<connection>\nremote b.example\nmssfix 1300\n</connection>"
    assert client(own).requirements() == {Feature.UDP, Feature.MSS_CLAMP}
    assert server("mtu-disc yes", "mssfix 0").requirements() == {Feature.UDP, Feature.PATH_MTU}
    assert server("mtu-disc yes", "proto tcp").requirements() == {Feature.TCP}


def test_mtu_disc_and_mssfix_are_read_strictly() -> None:
    for line in ("mtu-disc perhaps", "mssfix 1300 outer", "mssfix 65536"):
        assert {p.directive for p in problems(parse_client, CLIENT + line)} == {line.split()[0]}
    (warning,) = client("mtu-disc maybe").warnings
    assert warning.directive == "mtu-disc"


def test_requirements() -> None:
    config = replace(client(), data=replace(client().data, epoch=Epoch.REQUIRE))
    assert config.requirements() == {Feature.UDP, Feature.EPOCH_KEYS}
    assert server("client-config-dir ccd", "proto tcp").requirements() == {
        Feature.TCP,
        Feature.IROUTES,
    }


def test_typed_values() -> None:
    config = ClientConfig(remotes=(RemoteConfig(host="a.example"),))
    assert config.data.ciphers[0] is Cipher.AES_256_GCM
    assert replace(config, remotes=()).remotes == ()
    assert config.device.topology is None
    assert Topology("subnet") is Topology.SUBNET
    with pytest.raises(AttributeError):
        config.remotes = ()  # type: ignore[misc]


def test_pool_of_networks() -> None:
    config = server("route 10.9.0.0 255.255.0.0")
    assert config.routes.routes[0] == RouteConfig(network=config.routes.routes[0].network)
    assert PoolConfig.for_networks(ipv4=config.pool.local_ipv4.network) == config.pool  # type: ignore[union-attr]
