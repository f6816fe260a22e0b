"""The group of commands. Each is imported when it is called, or when its help is shown."""

from __future__ import annotations

from importlib import import_module

import click

# By name: the module, and what the command is called there.
_COMMANDS = {
    "server": ("ovpn_dco.cli.tunnel", "server"),
    "client": ("ovpn_dco.cli.tunnel", "client"),
    "status": ("ovpn_dco.cli.status", "status"),
    "quickstart": ("ovpn_dco.cli.quickstart", "quickstart"),
    "bench": ("ovpn_dco.bench.cli", "main"),
}


class _Lazy(click.Group):
    """Commands of `_COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=_Lazy)
@click.version_option(package_name="ovpn-dco")
def main() -> None:
    """Servers and clients of OpenVPN on an offloaded data channel.

    Exit status: 0 ended on request; 1 failed while running; 2 wrong usage or configuration;
    3 the server refused the login.
    """
