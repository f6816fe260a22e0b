"""Configurations that are complete but for what a test adds, and files that exist in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovpn_dco.config import ClientConfig, ConfigError, Problem, ServerConfig
from ovpn_dco.config import parse_client as _parse_client
from ovpn_dco.config import parse_server as _parse_server

FILES = {
    "ca.crt": b"CA\n",
    "own.crt": b"CERT\n",
    "own.key": b"KEY\n",
    "ta.key": b"STATIC KEY\n",
    "crl.pem": b"CRL\n",
    "both.p12": b"\x30\x82",
    "login": b"alice\r\nhunter2\r\n",
    "pass": b"opensesame\n",
}
CLIENT = (
    "client\nremote vpn.example\nremote-cert-tls server\nca ca.crt\ncert own.crt\nkey own.key\n"
)
SERVER = "server 10.8.0.0 255.255.255.0\nca ca.crt\ncert own.crt\nkey own.key\n"


@dataclass
class Files:
    """Reads from a dictionary, and remembers what was asked for."""

    content: Mapping[str, bytes]

    def __post_init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, name: str) -> bytes:
        self.asked.append(name)
        if name not in self.content:
            raise FileNotFoundError(2, "No such file or directory", name)
        return self.content[name]


def parse_client(text: str, **files: bytes) -> ClientConfig:
    return _parse_client(text, source="client.ovpn", read_file=Files(FILES | files))


def parse_server(text: str, **files: bytes) -> ServerConfig:
    return _parse_server(text, source="server.conf", read_file=Files(FILES | files))


def client(*lines: str) -> ClientConfig:
    """Of a complete configuration and these lines."""
    return parse_client(CLIENT + "\n".join(lines))


def server(*lines: str) -> ServerConfig:
    return parse_server(SERVER + "\n".join(lines))


def problems(parse: Any, text: str) -> tuple[Problem, ...]:
    """What is wrong with a text; it must be refused."""
    try:
        parse(text)
    except ConfigError as error:
        return error.problems
    raise AssertionError("was not refused")


def warned(config: ClientConfig | ServerConfig) -> dict[str, str]:
    texts: dict[str, str] = {}
    for warning in config.warnings:
        before = texts.get(warning.directive)
        texts[warning.directive] = f"{before}; {warning.text}" if before else warning.text
    return texts


def field(config: object, path: str) -> Any:
    """`tls.ca` of a configuration."""
    for name in path.split("."):
        config = getattr(config, name)
    return config
