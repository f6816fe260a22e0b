"""What is particular to one client: its file, the hook, and what both come to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface
from pathlib import Path

import pytest
from login_lab import REMOTE, certificate

from ovpn_dco.config import (
    ClientOverrides,
    ConfigWarning,
    LimitsConfig,
    PoolConfig,
    PushConfig,
    ServerConfig,
    ServerHooks,
    TlsConfig,
)
from ovpn_dco.errors import LoginRefused
from ovpn_dco.model import PeerLimits
from ovpn_dco.protocol.messages import AuthFailed
from ovpn_dco.server import overrides
from ovpn_dco.server.hooks import LoginDenied
from ovpn_dco.server.overrides import ClientSettings, ConnectRequest, OverrideReader, merge


def request(common_name: str = "alice") -> ConnectRequest:
    return ConnectRequest(
        common_name=common_name,
        username="al",
        certificate=certificate(common_name),
        remote=REMOTE,
        environment={"IV_VER": "2.6.14"},
    )


def read(
    config: ServerConfig, common_name: str = "alice", hook: Callable[..., object] | None = None
) -> ClientSettings:
    config = replace(config, hooks=ServerHooks(client_connect=hook))
    return asyncio.run(OverrideReader(config).read(request(common_name)))


def refused(
    config: ServerConfig, common_name: str = "alice", hook: Callable[..., object] | None = None
) -> LoginDenied:
    with pytest.raises(LoginDenied) as caught:
        read(config, common_name, hook)
    return caught.value


def server(folder: Path | None = None, *, exclusive: bool = False, push: str = "") -> ServerConfig:
    return ServerConfig(
        pool=PoolConfig(
            client_config_dir=str(folder) if folder else None, client_config_required=exclusive
        ),
        push=PushConfig(options=tuple(filter(None, push.split(",")))),
        tls=TlsConfig(handshake_window_s=60),
    )


# Files


def test_without_a_folder_there_is_nothing_particular() -> None:
    settings = read(server(push="ping 10"))
    assert settings == ClientSettings(overrides=ClientOverrides(), options=("ping 10",))


def test_file_of_the_name_then_default_then_nothing(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text('push "echo alice"\n')
    assert read(server(tmp_path), "bob").options == ()
    (tmp_path / "DEFAULT").write_text('push "echo everybody"\n')
    assert read(server(tmp_path), "alice").options == ("echo alice",)
    assert read(server(tmp_path), "bob").options == ("echo everybody",)
    assert read(server(tmp_path), "DEFAULT").options == ("echo everybody",)


def test_file_is_read_anew_each_time(tmp_path: Path) -> None:
    reader = OverrideReader(server(tmp_path))
    assert asyncio.run(reader.read(request())).options == ()
    (tmp_path / "alice").write_text("push 'echo a'\n")
    assert asyncio.run(reader.read(request())).options == ("echo a",)


def test_exclusive_wants_a_file_of_the_name_itself(tmp_path: Path) -> None:
    (tmp_path / "DEFAULT").touch()
    (tmp_path / "alice").touch()
    config = server(tmp_path, exclusive=True)
    assert read(config, "alice").overrides == ClientOverrides()
    assert "no file" in str(refused(config, "bob"))
    assert "lets nobody in" in str(refused(server(exclusive=True)))


def test_broken_file_refuses_its_client_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "alice").write_text("\niroute nonsense\nverb 3\n")
    with caplog.at_level(logging.ERROR, "ovpn_dco.server"):
        error = refused(server(tmp_path))
    assert error.message == AuthFailed()
    assert f"{tmp_path}/alice:2: iroute" in str(error)
    assert f"{tmp_path}/alice:2: iroute" in caplog.text
    assert f"{tmp_path}/alice:3: verb" in caplog.text
    assert read(server(tmp_path), "bob").options == ()


def test_what_is_no_file_refuses_its_client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "alice").mkdir()
    assert f"{tmp_path}/alice" in str(refused(server(tmp_path)))
    assert f"{tmp_path}/alice" in caplog.text


def test_warnings_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned = ClientOverrides(warnings=(ConfigWarning("alice", 3, "iroute", "is odd"),))
    monkeypatch.setattr(overrides, "parse_client_overrides", lambda _: warned)
    assert read(server(tmp_path)).overrides == warned
    assert "alice:3: iroute: is odd" in caplog.text


def test_disabled_client_is_refused_without_asking(tmp_path: Path) -> None:
    def never(_: object) -> None:
        raise AssertionError("was asked")

    (tmp_path / "alice").write_text("disable\n")
    assert "disabled" in str(refused(server(tmp_path), hook=never))
    assert "disabled" in str(refused(server(), hook=lambda _: ClientOverrides(disabled=True)))


# Hook


def test_hook_is_told_what_the_file_says_and_has_the_last_word(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("ifconfig-push 10.8.0.9 255.255.255.0\npush 'echo file'\n")
    seen: list[ConnectRequest] = []

    async def hook(asked: ConnectRequest) -> ClientOverrides:
        seen.append(asked)
        return ClientOverrides(ipv4=IPv4Interface("10.8.0.7/24"), pushes=(("push", "echo hook"),))

    settings = read(server(tmp_path, push="echo all"), hook=hook)
    assert settings.overrides.ipv4 == IPv4Interface("10.8.0.7/24")
    assert settings.options == ("echo all", "echo file", "echo hook")
    (told,) = seen
    assert told.overrides.ipv4 == IPv4Interface("10.8.0.9/24")
    assert replace(told, overrides=ClientOverrides()) == request()


@pytest.mark.parametrize("kind", ["returned", "raised"])
@pytest.mark.parametrize(
    ("answer", "message", "why"),
    [
        (False, AuthFailed(), "client_connect refused"),
        (LoginRefused("not today"), AuthFailed("not today"), "not today"),
        (True, AuthFailed(), "returned bool"),
        ({}, AuthFailed(), "returned dict"),
        (ValueError("secret"), AuthFailed(), ""),
    ],
)
def test_refusals_of_the_hook(kind: str, answer: object, message: AuthFailed, why: str) -> None:
    def hook(_: object) -> object:
        if kind == "raised" and isinstance(answer, Exception):
            raise answer
        return answer

    error = refused(server(), hook=hook)
    assert error.message == message
    assert why in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        ClientOverrides(limits=PeerLimits(quota_bytes=-1)),
        ClientOverrides(limits=PeerLimits(inactive_bytes=1)),
        ClientOverrides(transmit_bits_per_s=-8),
        ClientOverrides(receive_bits_per_s=1 << 63),
    ],
)
def test_limits_that_cannot_be_set_are_refused(answer: ClientOverrides) -> None:
    """Before the client is told that it may come in."""
    assert "limits cannot be set: " in str(refused(server(), hook=lambda _: answer))


def test_hook_may_have_nothing_to_say() -> None:
    assert read(server(push="ping 10"), hook=lambda _: None).options == ("ping 10",)


def test_hook_that_takes_too_long_refuses() -> None:
    async def for_ever(_: object) -> None:
        await asyncio.Event().wait()

    config = replace(server(), tls=TlsConfig(handshake_window_s=0))
    assert "took too long" in str(refused(config, hook=for_ever))


# Both together


def test_merge() -> None:
    first = ClientOverrides(
        ipv4=IPv4Interface("10.8.0.9/24"),
        ipv4_alias=IPv4Address("1.2.3.4"),
        ipv6=IPv6Interface("fd00::9/64"),
        ipv6_remote=IPv6Address("fd00::1"),
        iroutes=(IPv4Network("10.1.0.0/16"),),
        pushes=(("push", "echo a"),),
        max_routes=4,
        username="al",
    )
    assert merge(ClientOverrides(), first) == merge(first, ClientOverrides()) == first
    second = ClientOverrides(
        disabled=True,
        ipv4=IPv4Interface("10.8.0.8/24"),
        ipv6=IPv6Interface("fd00::8/64"),
        iroutes=(IPv4Network("10.2.0.0/16"), IPv4Network("10.1.0.0/16")),
        pushes=(("push-reset", ""),),
        max_routes=5,
        username="bob",
    )
    assert merge(first, second) == replace(
        second,
        iroutes=(IPv4Network("10.1.0.0/16"), IPv4Network("10.2.0.0/16")),
        pushes=(("push", "echo a"), ("push-reset", "")),
    )


def test_limit_of_networks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "alice").write_text("iroute 10.1.0.0 255.255.0.0\niroute 10.2.0.0 255.255.0.0\n")
    config = replace(server(tmp_path), limits=LimitsConfig(max_routes_per_client=1))
    error = refused(config)
    assert "2 networks are behind the client, 1 may be" in str(error)
    assert "max-routes-per-client" in caplog.text
    read(replace(config, limits=LimitsConfig(max_routes_per_client=2)))
    (tmp_path / "bob").write_text((tmp_path / "alice").read_text() + "max-routes-per-client 2\n")
    read(config, "bob")


@pytest.mark.parametrize(
    ("option", "kept"),
    [
        ("route 10.1.0.0 255.255.0.0", False),
        ("route 10.1.0.0 255.255.0.0 vpn_gateway 5", False),
        ("route 10.1.2.3 255.255.0.0", False),
        ("route 10.9.0.1", False),
        ("route 10.9.0.1 default", False),
        ("route-ipv6 fd01::/48", False),
        ("route-ipv6 fd01::/48 fd00::1", False),
        ("route 10.1.0.0 255.255.255.0", True),
        ("route 10.0.0.0 255.0.0.0", True),
        ("route 10.1.0.0", True),
        ("route-ipv6 fd01::/56", True),
        ("route office.example 255.255.0.0", True),
        ("route-gateway 10.1.0.0", True),
        ("route 'open", True),
        ("route", True),
    ],
)
def test_client_gets_no_route_to_its_own_network(tmp_path: Path, option: str, kept: bool) -> None:
    (tmp_path / "alice").write_text(
        "iroute 10.1.0.0 255.255.0.0\niroute 10.9.0.1\niroute-ipv6 fd01::/48\n"
    )
    settings = read(server(tmp_path, push=f"ping 10,{option}"))
    assert settings.options == (("ping 10", option) if kept else ("ping 10",))
    assert read(server(tmp_path, push=option), "bob").options == (option,)


@pytest.mark.parametrize("option", ["", "a,b", "a\nb", "x" * 256, "push-continuation 2"])
def test_options_that_cannot_be_pushed_refuse_the_client(
    option: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = refused(server(), hook=lambda _: ClientOverrides(pushes=(("push", option),)))
    assert "cannot be pushed" in str(error)
    assert "cannot be pushed" in caplog.text
