"""What is written is read back as the same values, or not written at all."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest

from ovpn_dco import Cipher
from ovpn_dco.config import (
    AuthConfig,
    CertRole,
    ClientCert,
    ClientConfig,
    Credentials,
    DataChannelConfig,
    DeviceConfig,
    Epoch,
    KeepaliveConfig,
    LifecycleConfig,
    ListenConfig,
    LoggingConfig,
    Material,
    MtuConfig,
    PoolConfig,
    Protocol,
    PushConfig,
    RedirectConfig,
    RemoteConfig,
    RouteConfig,
    RoutesConfig,
    ServerConfig,
    TlsConfig,
    TlsVersion,
    TransportConfig,
    VerifyConfig,
    WrapConfig,
    parse_client,
    parse_server,
    write_client,
    write_server,
)

PEM = b"-----BEGIN X-----\nAAAA\n-----END X-----\n"
TLS = TlsConfig(ca=Material(PEM, "ca.crt"), cert=Material(PEM), key=Material(PEM))
CLIENT = ClientConfig(
    remotes=(RemoteConfig(host="vpn.example", port=1194, protocol=Protocol.UDP),),
    tls=TLS,
    verify=VerifyConfig(remote_cert_tls=CertRole.SERVER),
    wrap=WrapConfig(tls_crypt=Material(PEM)),
)
SERVER = ServerConfig(
    tls=TLS,
    wrap=WrapConfig(tls_crypt=Material(PEM)),
    verify=VerifyConfig(remote_cert_tls=CertRole.CLIENT),
    pool=PoolConfig.for_networks(IPv4Network("10.8.0.0/24"), IPv6Network("fd00:8::/64")),
    keepalive=KeepaliveConfig.for_server(10, 60),
    push=PushConfig(options=("route 192.168.0.0 255.255.255.0",)),
)


def test_a_profile() -> None:
    text = write_client(CLIENT)
    assert text.splitlines()[:5] == [
        "client",
        "dev tun",
        "proto udp",
        "nobind",
        "remote vpn.example 1194 udp",
    ]
    assert f"<ca>\n{PEM.decode()}</ca>\n" in text
    assert parse_client(text) == CLIENT
    assert parse_client(text).warnings == ()


def test_a_server() -> None:
    text = write_server(SERVER)
    assert "server 10.8.0.0 255.255.255.0\nserver-ipv6 fd00:8::/64\n" in text
    assert 'push "route 192.168.0.0 255.255.255.0"\nkeepalive 10 60\n' in text
    assert parse_server(text) == SERVER
    assert parse_server(text).warnings == ()


@pytest.mark.parametrize(
    "change",
    [
        {"transport": TransportConfig(protocol=Protocol.TCP6, tcp_nodelay=True, sndbuf=0)},
        {"transport": TransportConfig(bind=True, local_host="192.0.2.1", local_port=0)},
        {"transport": TransportConfig(explicit_exit_notify=1, mark=3, may_float=True)},
        {"device": DeviceConfig(name="vpn0")},
        {"mtu": MtuConfig(tun_mtu=8900, mssfix=0)},
        {"mtu": MtuConfig(mssfix=1300, mssfix_mode="fixed")},
        {"transport": TransportConfig(max_packet_size=1300)},
        {"transport": TransportConfig(max_packet_size=1300), "mtu": MtuConfig(mssfix=1200)},
        {"mtu": MtuConfig(mssfix=1400), "transport": TransportConfig(df=True)},
        {"auth": AuthConfig(user_pass=True, cache=False)},
        {"auth": AuthConfig(user_pass=True, credentials=Credentials("a b", 'p"\\ #'))},
        {"keepalive": KeepaliveConfig.for_client(10, 60)},
        {"keepalive": replace(KeepaliveConfig.for_client(10, 60), inactive_s=9, inactive_bytes=7)},
        {"keepalive": replace(KeepaliveConfig.for_client(10, 60), session_timeout_s=3600)},
        {"data": DataChannelConfig(renegotiate_bytes=1 << 30, renegotiate_packets=1 << 20)},
        {"keepalive": KeepaliveConfig()},
        {"data": DataChannelConfig(ciphers=(Cipher.CHACHA20_POLY1305,), auth="SHA512")},
        {"data": DataChannelConfig(renegotiate_s=0, force_key_export=True)},
        {"lifecycle": LifecycleConfig(user="nobody", group="nogroup", persist_tun=True)},
        {"logging": LoggingConfig(verb=4, mute=1, path='a "b" \\c', append=True)},
        {"logging": LoggingConfig(status_path="s t", status_interval_s=5, status_version=2)},
        {"routes": RoutesConfig(redirect=RedirectConfig(def1=True, ipv6=True, ipv4=False))},
        {"routes": RoutesConfig(redirect=RedirectConfig(private=True, block_local=True))},
        {
            "routes": RoutesConfig(
                routes=(
                    RouteConfig(network=IPv4Network("10.0.0.0/8"), metric=3),
                    RouteConfig(network=IPv6Network("fd00::/8"), gateway="fd00::1"),
                ),
                dhcp_options=(("DNS", "192.0.2.53"), ("DISABLE-NBT", "")),
            )
        },
        {"tls": replace(TLS, version_min=TlsVersion.V1_3, ciphersuites="TLS_AES_128_GCM_SHA256")},
        {"verify": VerifyConfig(fingerprints=(b"\1" * 32, b"\2" * 32), crl=Material(PEM))},
        {"verify": VerifyConfig(x509_name="C=KG, CN=a b")},
        {"wrap": WrapConfig(tls_auth=Material(PEM), key_direction=1)},
        {"wrap": WrapConfig(tls_crypt_v2=Material(PEM))},
        {"environment": (("UV_A", "b c"), ("UV_B", "#"))},
        {"remotes": (RemoteConfig(host="a.example"), RemoteConfig(host="fe80::1%eth0", port=1))},
    ],
)
def test_other_profiles(change: dict[str, Any]) -> None:
    config = replace(CLIENT, **change)
    assert parse_client(write_client(config)) == config


@pytest.mark.parametrize(
    "change",
    [
        {"transport": TransportConfig(bind=True, local_port=443, protocol=Protocol.TCP)},
        {"transport": TransportConfig(bind=True, multihome=True, passtos=True, rcvbuf=1 << 20)},
        {"transport": TransportConfig(bind=True, local_host="192.0.2.1", local_port=0)},
        {
            "listen": (
                ListenConfig(),
                ListenConfig(host="::1", port=443, protocol=Protocol.TCP6),
            )
        },
        {"keepalive": KeepaliveConfig()},
        {"pool": PoolConfig.for_networks(IPv4Network("10.0.0.0/16"))},
        {
            "pool": replace(
                SERVER.pool,
                persist_path="ipp.txt",
                client_config_dir="c c d",
                client_config_required=True,
                duplicate_cn=True,
                max_clients=7,
            )
        },
    ],
)
def test_other_servers(change: dict[str, Any]) -> None:
    config = replace(SERVER, **change)
    assert parse_server(write_server(config)) == config


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (replace(CLIENT, data=DataChannelConfig(epoch=Epoch.REQUIRE)), "cannot say"),
        (replace(CLIENT, verify=VerifyConfig(hook=lambda: None)), "cannot say"),
        (replace(CLIENT, remotes=()), "remote: is missing"),
        (replace(CLIENT, tls=replace(TLS, ca=Material(b"\xff"))), "is no text"),
        (replace(CLIENT, tls=replace(TLS, ca=Material(b"a\n</ca>\nup evil\n"))), "up: no program"),
        (replace(CLIENT, remotes=(RemoteConfig(host="a\nup evil"),)), "control character"),
        (replace(CLIENT, remotes=(RemoteConfig(host="a b"),)), "no host name"),
        (
            replace(CLIENT, auth=AuthConfig(user_pass=True, credentials=Credentials("a\nb", "c"))),
            "cannot say",
        ),
    ],
)
def test_what_cannot_be_written_raises(config: ClientConfig, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        write_client(config)


def test_a_server_that_cannot_be_written_raises() -> None:
    config = replace(SERVER, push=PushConfig(options=("a,b",)))
    with pytest.raises(ValueError, match="comma"):
        write_server(config)
    with pytest.raises(ValueError, match="takes 2 arguments"):
        write_server(replace(SERVER, keepalive=KeepaliveConfig(ping_s=3)))
    lax = VerifyConfig(client_cert=ClientCert.NONE)
    assert parse_server(write_server(replace(SERVER, verify=lax))).verify == lax
