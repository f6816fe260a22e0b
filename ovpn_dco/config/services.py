"""Parsers of directives around the tunnel: environment, logs, management, and
the old ones whose argument decides whether they can be let pass."""

from __future__ import annotations

from dataclasses import replace

from . import values
from .lexer import Directive
from .problems import Refusal
from .settings import Settings

# Environment


def setenv(directive: Directive, settings: Settings) -> None:
    """A name and a value; `setenv opt` has been seen to by the parser."""
    name, value = directive.arguments[0], " ".join(directive.arguments[1:])
    if directive.name == "setenv-safe":
        name = f"OPENVPN_{name}"
    if name == "FORWARD_COMPATIBLE":
        settings.tolerates_all = value != "0"
    else:
        settings.append("environment", (values.variable(name), value))


def ignore_unknown_option(directive: Directive, settings: Settings) -> None:
    """Names that are let pass from here on."""
    settings.tolerated.update(directive.arguments)


# Logs and management


def log(directive: Directive, settings: Settings) -> None:
    """`log` begins the file anew, `log-append` does not."""
    settings.set("logging.path", settings.path(directive.arguments[0]))
    settings.set("logging.append", directive.name == "log-append")


def status(directive: Directive, settings: Settings) -> None:
    """File and seconds between two times of writing."""
    settings.set("logging.status_path", settings.path(directive.arguments[0]))
    if len(directive.arguments) > 1:
        settings.set("logging.status_interval_s", values.seconds(directive.arguments[1]))


def management(directive: Directive, settings: Settings) -> None:
    """An address and a port, or a path and `unix`; then a file with the password."""
    where, port, *password = directive.arguments
    unix = port == "unix"
    settings.set("management.host", settings.path(where) if unix else values.host(where))
    settings.set("management.port", None if unix else values.port(port))
    if password == ["stdin"]:
        raise Refusal("asks nobody for its password: name a file")
    if not unix and not password:
        settings.warn(directive, "has no password: every user of this machine can connect")
    if password:
        named = replace(directive, arguments=tuple(password))
        settings.set("management.password", settings.material(named))


# Old directives that are harmless with one argument and not with another


def compress(directive: Directive, _settings: Settings) -> None:
    """`migrate` asks the other end to do without."""
    if directive.arguments != ("migrate",):
        named = directive.arguments[0] if directive.arguments else "framing"
        raise Refusal(f"compression ({named}) is not offloaded, and leaks what it compresses")


def comp_lzo(directive: Directive, _settings: Settings) -> None:
    """Only `no` is harmless, as long as the peer does not frame packets for it."""
    if directive.arguments != ("no",):
        raise Refusal("compression is not offloaded, and leaks what it compresses")


def allow_compression(directive: Directive, _settings: Settings) -> None:
    """Nothing is compressed or decompressed, whatever is allowed."""
    if directive.arguments[0] not in ("no", "asym"):
        raise Refusal(
            f"must be no or asym: compression ({directive.arguments[0]}) is not offloaded"
        )


def key_method(directive: Directive, _settings: Settings) -> None:
    """1 has been dead for long."""
    if directive.arguments[0] != "2":
        raise Refusal("must be 2: no other key method is spoken")


def ns_cert_type(directive: Directive, _settings: Settings) -> None:
    """A rule asks for `remote-cert-tls` beside it."""
    if directive.arguments[0] not in ("server", "client"):
        raise Refusal(f"must be server or client, not {directive.arguments[0]!r}")


def script_security(directive: Directive, _settings: Settings) -> None:
    """No level makes a program run."""
    values.integer(0, 3)(directive.arguments[0])
