"""The command line of this package, with what no file can say.

runner.py [--without FEATURE] [--login FILE] server|client FILE"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from ovpn_dco.protocol import peerinfo


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--without", help="a bit of IV_PROTO that is neither announced nor used")
    parser.add_argument(
        "--login", type=Path, help="name and password of the only user, a line each"
    )
    options, command = parser.parse_known_args()
    if options.without:
        # Before anybody else imports it.
        peerinfo.OUR_PROTO &= ~peerinfo.IvProto[options.without]
    run(options.login, command)


def run(login: Path | None, command: list[str]) -> None:
    from ovpn_dco import Server
    from ovpn_dco.cli.main import main as command_line
    from ovpn_dco.cli.tunnel import Surroundings

    def server(config: Any, **options: Any) -> Server:
        if login is not None:
            user = login.read_text().split()

            def check(request: Any) -> bool:
                return [request.username, request.password] == user

            config = replace(config, auth=replace(config.auth, user_pass_hook=check))
        return Server(config, **options)

    command_line(args=command, obj=Surroundings(server=server))


if __name__ == "__main__":
    main()
