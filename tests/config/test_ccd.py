"""Files for one client."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any

import pytest
from config_files import Files, problems

from ovpn_dco.config import ClientOverrides, Refusal, client_file_names, parse_client_overrides


def parse(text: str) -> ClientOverrides:
    return parse_client_overrides(text, source="alice", read_file=Files({"more": b"disable\n"}))


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("", "disabled", False),
        ("disable", "disabled", True),
        ("config more", "disabled", True),
        ("ifconfig-push 10.8.0.9 255.255.255.0", "ipv4", IPv4Interface("10.8.0.9/24")),
        ("ifconfig-push 10.8.0.9 255.255.255.0 1.2.3.4", "ipv4_alias", IPv4Address("1.2.3.4")),
        ("ifconfig-ipv6-push fd00::9/64", "ipv6", IPv6Interface("fd00::9/64")),
        ("ifconfig-ipv6-push fd00::9/64 fd00::1", "ipv6_remote", IPv6Address("fd00::1")),
        (
            "iroute 10.1.0.0 255.255.0.0\niroute 10.2.0.1\niroute-ipv6 fd01::/48",
            "iroutes",
            (IPv4Network("10.1.0.0/16"), IPv4Network("10.2.0.1/32"), IPv6Network("fd01::/48")),
        ),
        ('push "route 10.0.0.0 255.0.0.0"', "pushes", (("push", "route 10.0.0.0 255.0.0.0"),)),
        ("push-reset", "pushes", (("push-reset", ""),)),
        ("push-remove route-gateway", "pushes", (("push-remove", "route-gateway"),)),
        ("max-routes-per-client 4", "max_routes", 4),
        ("override-username bob", "username", "bob"),
    ],
)
def test_grammar(text: str, field: str, value: Any) -> None:
    assert getattr(parse(text), field) == value


@pytest.mark.parametrize(
    ("text", "directive", "reason"),
    [
        ("verb 3", "verb", "is not for files of client-config-dir"),
        ("max-clients 3", "max-clients", "is for servers"),
        ("up /bin/sh", "up", "no program is run"),
        ("vlan-pvid 3", "vlan-pvid", "TAP"),
        ("ifconfig-push 10.8.0.9 10.8.0.10", "ifconfig-push", "no netmask"),
        ("ifconfig-ipv6-push fd00::9", "ifconfig-ipv6-push", "no prefix length"),
        ("iroute fd00::", "iroute", "no IPv4 address"),
        ("push-remove ''", "push-remove", "is empty"),
        ('push "a,b"', "push", "comma"),
        ("odd", "odd", "unknown directive"),
    ],
)
def test_refusals(text: str, directive: str, reason: str) -> None:
    found = problems(parse, f"\n{text}")
    assert [(p.source, p.line, p.directive) for p in found] == [("alice", 2, directive)]
    assert reason in found[0].reason


def test_pushed_options_are_changed_in_order() -> None:
    common = ("route-gateway 10.8.0.1", "route 10.0.0.0", "ping 10")
    assert parse("").pushed_options(common) == common
    assert parse("push-remove 'route '\npush 'route 9.0.0.0'").pushed_options(common) == (
        "route-gateway 10.8.0.1",
        "ping 10",
        "route 9.0.0.0",
    )
    assert parse("push a\npush-reset\npush b").pushed_options(common) == ("b",)


def test_names_of_files() -> None:
    assert client_file_names("alice@example.org") == ("alice@example.org", "DEFAULT")
    assert client_file_names("DEFAULT") == ("DEFAULT",)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../alice", "a/b", "a\\b", "a\0", "a\n", "x" * 256]
)
def test_names_that_lead_out_of_the_folder(name: str) -> None:
    with pytest.raises(Refusal):
        client_file_names(name)
