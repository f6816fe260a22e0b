"""``python -m ovpn_dco``."""

from ovpn_dco.cli.main import main

if __name__ == "__main__":
    main(prog_name="python -m ovpn_dco")
