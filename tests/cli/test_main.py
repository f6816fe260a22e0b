"""The group: its names, and that a command loads no more than it needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from cli.fakes import run

from ovpn_dco.cli.main import main

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_help_names_commands_and_exit_statuses() -> None:
    result = run(None, "--help")
    assert result.exit_code == 0
    for name in ("server", "client", "quickstart", "bench"):
        assert f"\n  {name} " in result.output
    for said in ("0 ended on request", "1 failed", "2 wrong usage", "3 the server refused"):
        assert said in " ".join(result.output.split())


@pytest.mark.parametrize("name", ["server", "client", "quickstart", "bench"])
def test_every_command_explains_itself(name: str) -> None:
    result = run(None, name, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


@pytest.mark.parametrize("arguments", [["status"], ["server"], ["server", "--verb", "7", "x"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert run(None, *arguments).exit_code == 2


def test_a_command_loads_only_what_it_needs() -> None:
    program = (
        "import json, sys\n"
        "from ovpn_dco.cli.main import main\n"
        "try: main(['client', '--help'])\n"
        "except SystemExit: print(json.dumps(list(sys.modules)))"
    )
    output = subprocess.check_output([sys.executable, "-c", program], text=True)
    loaded = set(json.loads(output.splitlines()[-1]))
    assert "ovpn_dco.cli.tunnel" in loaded
    heavy = {"ovpn_dco.bench", "ovpn_dco.client", "ovpn_dco.server", "pyroute2"}
    assert loaded & heavy == set()


def test_the_package_is_a_program() -> None:
    output = subprocess.check_output([sys.executable, "-m", "ovpn_dco", "--version"], text=True)
    assert output.startswith("python -m ovpn_dco, version ")


def test_the_console_script_is_the_same() -> None:
    ((module, name),) = re.findall(r'^ovpn-dco = "(.+):(.+)"$', PROJECT.read_text(), re.MULTILINE)
    assert getattr(import_module(module), name) is main
