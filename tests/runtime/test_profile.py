"""Configurations as sessions take them, field by field and in whole handshakes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import certificate_lab as lab
import pytest
from profile_lab import WRAPS, ProfileNetwork, client, server

from ovpn_dco.config import (
    ClientConfig,
    ConfigError,
    Credentials,
    DataChannelConfig,
    Epoch,
    RemoteConfig,
)
from ovpn_dco.errors import UnsupportedError
from ovpn_dco.model import Cipher, EpochKey, FilterAction
from ovpn_dco.protocol.ncp import Agreement
from ovpn_dco.protocol.peerinfo import IvProto
from ovpn_dco.protocol.push import PullFilter
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session import SessionSettings
from ovpn_dco.protocol.session_client import ClientProfile
from ovpn_dco.protocol.session_events import AuthRequired
from ovpn_dco.runtime.profile import (
    check_agreement,
    client_login,
    client_profile,
    for_remote,
    session_settings,
)


def settings(config: Any, **more: Any) -> SessionSettings:
    role = Role.CLIENT if hasattr(config, "remotes") else Role.SERVER
    tls = lab.context(role)
    return session_settings(config, random_bytes=random.Random(0).randbytes, tls=tls, **more)


def profile(*lines: str, **more: Any) -> ClientProfile:
    config = client(*lines)
    return client_profile(config, settings(config), **more)


# Handshakes


@pytest.mark.parametrize("kind", WRAPS)
def test_two_configurations_connect(kind: str) -> None:
    ours, theirs = WRAPS[kind]
    network = ProfileNetwork(client(ours), server(theirs)).connected()
    network.assert_keys_fit(0)
    (asked,) = network.every(Role.SERVER, AuthRequired)
    assert (asked.username, asked.peer.common_name) == ("alice", "client-1")
    assert asked.announcement.platform == "linux"
    network.client.renegotiate()
    network.run(lambda: network.has_key(1))
    network.assert_keys_fit(1)


def test_ciphers_and_key_format_come_of_both_configurations() -> None:
    network = ProfileNetwork(
        client("data-ciphers CHACHA20-POLY1305:AES-128-GCM"),
        server("data-ciphers AES-256-GCM:AES-128-GCM"),
    ).connected()
    agreement = network.client.agreement
    assert agreement is not None
    assert agreement.cipher is Cipher.AES_128_GCM
    assert isinstance(network.engines[Role.CLIENT].key(0), EpochKey)


# Settings


def test_timers() -> None:
    lines = ("hand-window 11", "tran-window 12", "reneg-sec 13", "tls-timeout 14")
    timers = settings(server(*lines)).timers
    assert (timers.hand_window_s, timers.tran_window_s) == (11, 12)
    assert (timers.reneg_s, timers.tls_timeout_s) == (13, 14)


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("proto udp4", 1250 - 28),
        ("proto udp6", 1250 - 48),
        ("proto udp", 1250 - 48),
        ("proto tcp4-client", 1250 - 40),
        ("proto tcp6-client", 1250 - 60),
        ("max-packet-size 900\nproto udp4", 900 - 28),
    ],
)
def test_room_in_a_packet(line: str, size: int) -> None:
    assert settings(client(line)).max_packet == size


def test_ciphers() -> None:
    found = settings(client("data-ciphers AES-192-GCM", "data-ciphers-fallback AES-128-GCM"))
    assert (found.ciphers, found.fallback) == ((Cipher.AES_192_GCM,), Cipher.AES_128_GCM)
    assert found.compatibility.cipher_name == "AES-128-GCM"


@pytest.mark.parametrize(
    ("setting", "engine", "announced"),
    [
        (Epoch.OFF, True, False),
        (Epoch.OFFER, True, True),
        (Epoch.OFFER, False, False),
        (Epoch.REQUIRE, True, True),
    ],
)
def test_epoch_format_is_offered(setting: Epoch, engine: bool, announced: bool) -> None:
    for config in (client(), server()):
        changed = replace(config, data=replace(config.data, epoch=setting))
        features = settings(changed, epoch=engine).features
        assert (IvProto.DATA_EPOCH in features) == announced
        assert (IvProto.PUSH_UPDATE in features) == isinstance(config, ClientConfig)
        assert IvProto.TLS_KEY_EXPORT in features


@pytest.mark.parametrize(
    ("parse", "lines", "text"),
    [
        (
            client,
            ("proto tcp6-client", "tls-auth ta.key 1", "auth SHA256", "tun-mtu 1400"),
            "V4,dev-type tun,link-mtu 1453,tun-mtu 1400,proto TCPv6_CLIENT,keydir 1,auth SHA256,"
            "keysize 128,tls-auth,key-method 2,tls-client",
        ),
        (
            server,
            ("proto udp", "tls-crypt ta.key", "auth none"),
            "V4,dev-type tun,link-mtu 1521,tun-mtu 1500,proto UDPv4,auth [null-digest],"
            "keysize 128,key-method 2,tls-server",
        ),
    ],
)
def test_options_string(parse: Any, lines: tuple[str, ...], text: str) -> None:
    assert str(settings(parse(*lines)).compatibility) == text


AGREEMENT = Agreement(
    cipher=Cipher.AES_128_GCM, use_ekm=True, epoch=True, dynamic_tls_crypt=True, exit_message=True
)


@pytest.mark.parametrize(
    ("wish", "lack"),
    [
        ({"epoch": Epoch.REQUIRE}, {"epoch": False}),
        ({"force_key_export": True}, {"use_ekm": False}),
    ],
)
def test_what_is_insisted_on(wish: dict[str, Any], lack: dict[str, Any]) -> None:
    poor = replace(AGREEMENT, **lack)
    check_agreement(DataChannelConfig(**wish), AGREEMENT)
    check_agreement(DataChannelConfig(), poor)
    with pytest.raises(UnsupportedError):
        check_agreement(DataChannelConfig(**wish), poor)


def test_server_of_several_protocols_leaves_room_for_each() -> None:
    found = settings(server("local 192.0.2.1 1194 udp4", "local 192.0.2.1 443 tcp4"))
    assert found.max_packet == 1250 - 40
    assert found.compatibility.items["proto"] == "UDPv4"


# Remotes


def test_remote_has_its_own_parts() -> None:
    config = client(
        "<connection>\nremote other.example 443 tcp4\ntls-crypt ta.key\ntun-mtu 1300\n</connection>"
    )
    (other,) = (remote for remote in config.remotes if remote.host == "other.example")
    own = for_remote(config, other)
    assert own.remotes == (other,)
    assert own.transport.protocol.is_tcp
    assert own.transport.remote_port == 443
    assert own.wrap.tls_crypt is not None
    assert own.mtu.tun_mtu == 1300
    assert own.tls == config.tls


def test_remote_without_parts_has_those_of_the_configuration() -> None:
    config = client("tls-crypt ta.key", "port 1195", "proto udp6", "tun-mtu 1300")
    own = for_remote(config, RemoteConfig(host="192.0.2.1"))
    assert (own.transport, own.wrap, own.mtu) == (config.transport, config.wrap, config.mtu)


# What a client says


def test_announcement() -> None:
    config = client("tun-mtu-max 1550", "data-ciphers AES-128-GCM:CHACHA20-POLY1305")
    said = client_profile(config, settings(config)).announcement
    assert said.version.startswith("ovpn-dco")
    assert said.mtu_max == 1550
    assert said.cipher_names == ("AES-128-GCM", "CHACHA20-POLY1305")
    assert said.proto is settings(config).features
    assert said.sso_methods == frozenset()


ENVIRONMENT = ("setenv IV_GUI_VER gui_1", "setenv UV_ID 7", "setenv IV_PLAT_VER 6", "setenv A b")


def test_environment_is_told_as_far_as_wanted() -> None:
    def told(*lines: str) -> dict[str, str]:
        usual = profile().announcement.environment
        said = profile(*ENVIRONMENT, *lines).announcement.environment
        return {name: value for name, value in said.items() if name not in usual}

    assert told() == {"IV_GUI_VER": "gui_1"}
    everything = {"IV_GUI_VER": "gui_1", "UV_ID": "7", "IV_PLAT_VER": "6"}
    assert told("push-peer-info") == everything


def test_sso_methods_of_hooks_and_of_the_environment() -> None:
    said = profile("setenv IV_SSO webauth,openurl", sso_methods=["crtext"]).announcement
    assert said.sso_methods == {"webauth", "openurl", "crtext"}


@pytest.mark.parametrize(
    "line", ["setenv IV_VER 3", "setenv UV_a.b 1", "setenv UV_X " + "x" * 600, "setenv IV_SSO x"]
)
def test_environment_that_cannot_be_told(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        profile(line, "push-peer-info")
    assert caught.value.directive == "setenv"


def test_what_is_taken_of_a_push() -> None:
    made = profile("pull-filter ignore dns", 'pull-filter accept "route 10."', "route-nopull")
    assert made.filters == (
        PullFilter(FilterAction.IGNORE, "dns"),
        PullFilter(FilterAction.ACCEPT, "route 10."),
    )
    assert made.no_pull
    assert not profile().no_pull


def test_login() -> None:
    files = {"login": b"alice\nhunter2\n"}
    assert client_login(client()).credentials == ("", "")
    config = client("auth-user-pass login", **files)
    assert client_login(config).credentials == ("alice", "hunter2")
    asked = client_login(config, Credentials("bob", "sesame"))
    assert asked.credentials == ("bob", "sesame")
    assert "sesame" not in repr(asked)
    assert client_login(client(), Credentials("bob")).credentials == ("bob", "")


def test_login_with_a_token() -> None:
    lines = ("auth-user-pass login", "auth-token TOKEN", "auth-token-user carol")
    assert client_login(client(*lines)).credentials == ("carol", "TOKEN")
