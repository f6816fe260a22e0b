"""What a server does otherwise for one client: `ClientOverrides`, and the parsers that fill it."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from ..model import PeerLimits
from . import values
from .lexer import Directive
from .problems import ConfigWarning, Refusal
from .settings import Role, Settings


@dataclass(frozen=True, kw_only=True)
class ClientOverrides:
    """Of one file of `client-config-dir`, or of a hook in its place.

    `pushes` are ("push", option), ("push-remove", prefix) and ("push-reset", ""), in order.
    `ipv4_alias` is the address for the rest of the world where addresses are translated. `limits`
    come on top of those of all, and the rates (0: none) are seen from the server; no file says
    these."""

    disabled: bool = False
    ipv4: IPv4Interface | None = None
    ipv4_alias: IPv4Address | None = None
    ipv6: IPv6Interface | None = None
    ipv6_remote: IPv6Address | None = None
    iroutes: tuple[IPv4Network | IPv6Network, ...] = ()
    pushes: tuple[tuple[str, str], ...] = ()
    max_routes: int | None = None
    username: str | None = None
    limits: PeerLimits = field(default_factory=PeerLimits)
    transmit_bits_per_s: int = 0
    receive_bits_per_s: int = 0
    warnings: tuple[ConfigWarning, ...] = ()

    def pushed_options(self, common: tuple[str, ...]) -> tuple[str, ...]:
        """What this client is sent, where all are sent `common`."""
        options = list(common)
        for kind, text in self.pushes:
            if kind == "push-reset":
                options = []
            elif kind == "push-remove":
                options = [option for option in options if not option.startswith(text)]
            else:
                options.append(text)
        return tuple(options)


def disable(_directive: Directive, settings: Settings) -> None:
    """The client is refused."""
    settings.set("disabled", True)


def change_push(directive: Directive, settings: Settings) -> None:
    """push-reset and push-remove."""
    prefix = " ".join(directive.arguments)
    if directive.name == "push-remove":
        values.text(prefix)
    settings.append("pushes", (directive.name, prefix))


def ifconfig_push(directive: Directive, settings: Settings) -> None:
    """Address, netmask, alias."""
    address, netmask, *alias = directive.arguments
    settings.set("ipv4", IPv4Interface((int(values.ipv4(address)), values.prefix(netmask))))
    settings.set("ipv4_alias", values.ipv4(alias[0]) if alias else None)


def ifconfig_ipv6_push(directive: Directive, settings: Settings) -> None:
    """Address with its length, and the server's."""
    address, *remote = directive.arguments
    settings.set("ipv6", values.ipv6_interface(address))
    settings.set("ipv6_remote", values.ipv6(remote[0]) if remote else None)


def iroute(directive: Directive, settings: Settings) -> None:
    """A network behind the client."""
    if directive.name == "iroute-ipv6":
        settings.append("iroutes", values.ipv6_network(directive.arguments[0]))
    else:
        settings.append("iroutes", values.ipv4_network(*directive.arguments))


def override_username(directive: Directive, settings: Settings) -> None:
    """Another name for the client from here on."""
    settings.set("username", values.text(directive.arguments[0]))


def max_routes(directive: Directive, settings: Settings) -> None:
    """How many networks one client may have behind it; in its own file: this client."""
    path = "max_routes" if settings.role is Role.CCD else "limits.max_routes_per_client"
    settings.set(path, values.integer(1, 65536)(directive.arguments[0]))


def client_file_names(common_name: str) -> tuple[str, ...]:
    """The files of `client-config-dir` to look for, in order; `Refusal` for a name that is a path.

    The name comes from a certificate, so it must not lead out of the folder."""
    if "/" in common_name or "\\" in common_name or not common_name.isprintable():
        raise Refusal("common name has a character that no name of a file may have")
    if common_name in ("", ".", "..") or len(common_name.encode()) > 255:
        raise Refusal("common name is no name of a file")
    return (common_name, "DEFAULT") if common_name != "DEFAULT" else ("DEFAULT",)
