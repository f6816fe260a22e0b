"""No file runs a program, hides a line, or brings a secret into a message."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from config_files import (
    CLIENT,
    FILES,
    SERVER,
    Files,
    client,
    parse_client,
    problems,
    server,
    warned,
)
from config_names import HOOKS

import ovpn_dco.config
from ovpn_dco.config import ClientConfig, ConfigError, ServerConfig
from ovpn_dco.config.directives import DIRECTIVES, Status
from ovpn_dco.config.parse import reader

PACKAGE = Path(ovpn_dco.config.__file__).parent
PROGRAMS = [
    *HOOKS,
    *"plugin route-pre-down ipchange iproute dns-updown tls-export-cert".split(),
    *"up-delay up-restart down-pre".split(),
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_directive_runs_a_program(name: str) -> None:
    assert DIRECTIVES[name].status is Status.REFUSED
    assert DIRECTIVES[name].parser is None
    for parse in (client, server):
        found = problems(parse, f"script-security 2\n{name} /bin/true")
        assert [p.directive for p in found] == [name]


def test_script_security_gives_no_right() -> None:
    config = client("script-security 3")
    assert config == client()
    assert "no program is run" in warned(config)["script-security"]


# What is written in a file must never end up where a callable is expected.
def hooks(kind: Any, prefix: str = "") -> set[str]:
    found = set()
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            found |= hooks(hint, f"{prefix}{name}.")
        elif "Callable" in str(hint):
            found.add(prefix + name)
    return found


@pytest.mark.parametrize("kind", [ClientConfig, ServerConfig])
def test_a_file_sets_no_hook(kind: type) -> None:
    paths = hooks(kind)
    assert {"verify.hook", "auth.user_pass_hook"} <= paths
    source = "".join(p.read_text() for p in PACKAGE.glob("*.py") if p.name != "endpoints.py")
    for path in paths:
        assert f'"{path}"' not in source


def test_the_package_starts_nothing() -> None:
    forbidden = {"subprocess", "socket", "shutil", "ctypes", "importlib", "pickle", "runpy"}
    calls = {"eval", "exec", "system", "popen", "compile", "__import__", "fork", "spawnv", "execv"}
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & forbidden, path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in forbidden, path
            elif isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                # A regular expression may be compiled.
                pattern = called == "compile" and isinstance(node.func, ast.Attribute)
                assert pattern or called not in calls, path


@pytest.mark.parametrize(
    "word",
    ["a\0b", "a\x1b[31m", "a\rb", "a\x07", "a\x7f", "a\x9b", "a\u2028b", '"a\tb"', "'a\x01'"],
)
@pytest.mark.parametrize("name", ["ca", "log", "status", "client-config-dir", "verify-x509-name"])
def test_control_characters_are_refused_everywhere(name: str, word: str) -> None:
    if word == "a\rb":
        word = '"a\rb"'
    found = problems(server, f"{name} {word}")
    assert [(p.line, p.directive) for p in found] == [(5, None)]
    assert "control character" in found[0].reason
    assert found[0].reason.isprintable()


def test_a_secret_is_in_no_message_and_no_repr() -> None:
    config = parse_client(
        CLIENT + "auth-user-pass login\naskpass pass\nauth-token TOKEN\nsetenv UV_PIN 4711\n"
        "<tls-crypt>\nWRAP\n</tls-crypt>\n",
        **{"own.key": b"PRIVATE"},
    )
    assert config.tls.key is not None
    assert config.tls.key.data == b"PRIVATE"
    shown = repr(config)
    for secret in ("alice", "hunter2", "opensesame", "TOKEN", "4711", "WRAP", "PRIVATE"):
        assert secret not in shown


@pytest.mark.parametrize(
    "line",
    [
        "auth-token SECRET SECRET",
        "auth-token-user SECRET\nauth-token-user",
        "<auth-user-pass>\n\nSECRET\n</auth-user-pass>",
        "<peer-fingerprint>\nSECRET\n</peer-fingerprint>",
        "<pkcs12>\n!SECRET\n</pkcs12>",
        "<key>\nSECRET\0\n</key>",
        "<secret>\nSECRET\n</secret>",
        "<tls-crypt>\nSECRET\n",
    ],
)
def test_a_refusal_repeats_no_secret(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        client(line)
    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in repr(caught.value.problems)


@pytest.mark.parametrize(
    "line", ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "Secret1="]
)
@pytest.mark.parametrize("before", ["", "setenv FORWARD_COMPATIBLE 1\n"])
def test_a_key_that_lost_its_tag_is_not_repeated(line: str, before: str) -> None:
    text = f"{CLIENT}{before}{line}\nverb x\n"
    with pytest.raises(ConfigError) as caught:
        parse_client(text)
    assert line not in str(caught.value)
    tolerated = parse_client(f"{CLIENT}setenv FORWARD_COMPATIBLE 1\n{line}\n")
    assert line not in str(tolerated.warnings[0])


def test_problems_without_end_are_cut_off() -> None:
    found = problems(client, "odd\n" * 5000)
    assert len(found) == 101
    assert found[-1].reason == "was not looked at, nor is anything after it"


def test_a_file_is_not_read_for_a_refused_directive() -> None:
    files = Files(FILES)
    with pytest.raises(ConfigError):
        ovpn_dco.config.parse_client(CLIENT + "secret ta.key\nplugin login\n", read_file=files)
    assert files.asked == ["ca.crt", "own.crt", "own.key"]


def test_an_endless_file_is_no_way_to_fill_the_memory(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no regular file"):
        reader(tmp_path)("/dev/zero")
    found = problems(lambda text: parse_client(text, **{"ca.crt": bytes((16 << 20) + 1)}), CLIENT)
    assert "larger than" in found[0].reason


@pytest.mark.parametrize(
    "value", ["$(id)", "`id`", "a;b", "a b", "a|b", "a&b", "-x", "a\\\\b", "a'b", "a..b", ".", "*"]
)
@pytest.mark.parametrize("option", ["dhcp-option DOMAIN", "dns search-domains"])
def test_no_domain_means_anything_to_a_shell(option: str, value: str) -> None:
    assert problems(client, f'{option} "{value}"')


def test_compression_of_any_kind_is_refused() -> None:
    for line in (
        "comp-lzo yes",
        "comp-lzo adaptive",
        "comp-lzo",
        "compress",
        "compress lzo",
        "compress lz4",
        "compress lz4-v2",
        "compress stub",
        "compress stub-v2",
        "allow-compression yes",
    ):
        assert "compression" in problems(server, line)[0].reason


def test_nothing_goes_in_the_clear() -> None:
    for line in (
        "cipher none",
        "data-ciphers none",
        "data-ciphers AES-128-GCM:NONE",
        "data-ciphers ?none",
        "data-ciphers-fallback none",
    ):
        assert problems(server, line)


def test_a_server_lets_nobody_in_by_an_empty_trust() -> None:
    found = problems(
        ovpn_dco.config.parse_server,
        SERVER.replace("ca ca.crt\n", "").replace(
            "cert own.crt\nkey own.key", "<cert>\nC\n</cert>\n<key>\nK\n</key>"
        ),
    )
    assert [p.directive for p in found] == ["ca"]
    empty = problems(lambda text: parse_client(text, **{"ca.crt": b" \n"}), CLIENT)
    assert [(p.directive, p.reason) for p in empty] == [("ca", "is empty")]
