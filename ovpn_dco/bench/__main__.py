"""``python -m ovpn_dco.bench``."""

from ovpn_dco.bench.cli import main

if __name__ == "__main__":
    main(prog_name="python -m ovpn_dco.bench")
