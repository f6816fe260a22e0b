"""``quickstart``: a folder with all that a first tunnel takes, and clients for it later."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from ovpn_dco import config
from ovpn_dco.cli import folder
from ovpn_dco.config.values import host as check_host
from ovpn_dco.errors import DcoError

T = TypeVar("T")

_NETWORK = "10.8.0.0/24"


def _checked(check: Callable[[str], T]) -> Callable[..., T | None]:
    """A callback of an option whose value `check` makes, or refuses by ValueError."""

    def convert(_ctx: click.Context, _param: click.Parameter, value: str | None) -> T | None:
        return None if value is None else _accept(check, value)

    return convert


def _accept(check: Callable[[str], T], value: str) -> T:
    try:
        return check(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(short_help="Make an authority, a server and profiles of clients.")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--host", callback=_checked(check_host),
              help="Where clients find the server: name or address.")  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), help="Of the server.  [default: 1194]")
@click.option("--proto", type=click.Choice(["udp", "tcp"]), help="[default: udp]")
@click.option("--network", callback=_checked(ipaddress.IPv4Network), metavar="NETWORK",
              help=f"Of the tunnel, IPv4.  [default: {_NETWORK}]")  # fmt: skip
@click.option("--network6", callback=_checked(ipaddress.IPv6Network), metavar="NETWORK",
              help="Of the tunnel, IPv6, such as fd00:8::/64.  [default: none]")  # fmt: skip
@click.option("--client", "clients", multiple=True, metavar="NAME",
              help="Client to make a profile for; may be repeated.  [default: client]")  # fmt: skip
def quickstart(directory: Path, host: str | None, clients: tuple[str, ...], **plan: Any) -> None:
    """Make a certificate authority, a server and profiles of clients in DIR.

    On a DIR of before, `--client NAME` adds a client. The files are OpenVPN's own, so that stock
    clients and servers take them as well.
    """
    given = {name: value for name, value in plan.items() if value is not None}
    try:
        if folder.is_made(directory):
            _add(directory, host, clients, given)
        else:
            _create(directory, host or _ask_host(), clients or ("client",), given)
    except config.ConfigError as error:
        raise click.UsageError(str(error)) from error
    except (DcoError, ValueError) as error:
        raise click.UsageError(getattr(error, "strerror", None) or str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error


def _ask_host() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("give --host: the name or address where clients find the server")
    question = "Name or address where clients find the server"
    host: str = click.prompt(question, value_proc=partial(_accept, check_host))
    return host


def _create(directory: Path, host: str, clients: tuple[str, ...], given: dict[str, Any]) -> None:
    plan = folder.Plan(
        host=host,
        port=given.get("port", 1194),
        protocol=config.Protocol(given.get("proto", "udp")),
        ipv4=given.get("network", ipaddress.IPv4Network(_NETWORK)),
        ipv6=given.get("network6"),
    )
    files = folder.create(directory, plan, clients)
    console = _show(files)
    console.print(
        f"\nWhoever has {directory / folder.AUTHORITY_KEY} can let anybody in: keep it away from "
        "the server. It is needed only to add clients."
    )
    _show_commands(console, directory, clients[0])


def _add(
    directory: Path, host: str | None, clients: tuple[str, ...], given: dict[str, Any]
) -> None:
    if not clients:
        raise click.UsageError(f"{directory} is made already: --client NAME adds a client")
    if given:
        raise click.UsageError(
            f"--{next(iter(given))} is for a new folder: this one has {folder.SERVER_FILE}"
        )
    console = _show(folder.add_clients(directory, host, clients))
    _show_commands(console, directory, clients[0])


def _show(files: list[Path]) -> Console:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print("Made, for nobody but you to read:", style="bold")
    for file in files:
        console.print(f"  {file}  ({_purpose(file)})")
    return console


def _purpose(file: Path) -> str:
    known = {
        folder.AUTHORITY_KEY: "key of the certificate authority",
        folder.SERVER_FILE: "the server",
    }
    return known.get(file.name, f"client {file.stem}: carry it there")


def _show_commands(console: Console, directory: Path, client: str) -> None:
    console.print("\nA tunnel is two commands, as root:", style="bold")
    console.print(f"  on the server   ovpn-dco server {directory / folder.SERVER_FILE}")
    console.print(f"  on the client   ovpn-dco client {folder.profile(Path(), client)}")
