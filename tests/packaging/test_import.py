"""What `import ovpn_dco` costs, and that the installed version is the one that was written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import ovpn_dco

ROOT = Path(__file__).parents[2]
HEAVY = [
    "pyroute2",
    "OpenSSL",
    "cryptography",
    "asyncio",
    "ssl",
    "click",
    "rich",
    "matplotlib",
    "prometheus_client",
]


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Modules in a fresh interpreter after the import."""
    program = "import json, sys, ovpn_dco; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.check_output([sys.executable, "-c", program], text=True)
    return set(json.loads(output))


@pytest.mark.parametrize("module", HEAVY)
def test_import_leaves_heavy_modules_alone(loaded: set[str], module: str) -> None:
    assert module not in loaded


def test_public_names_exist() -> None:
    assert len(set(ovpn_dco.__all__)) == len(ovpn_dco.__all__)
    for name in ovpn_dco.__all__:
        assert hasattr(ovpn_dco, name)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ovpn_dco.no_such_name  # type: ignore[attr-defined]


def test_installed_copy_is_tested_where_that_was_asked_for() -> None:
    if os.environ.get("OVPN_DCO_INSTALLED"):
        assert "site-packages" in ovpn_dco.__file__


def test_version_is_written_down_once_and_released_under_it() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{version("ovpn-dco")}"\n' in project
    changelog = ROOT / "CHANGELOG.md"
    if changelog.exists():
        newest = next(line for line in changelog.read_text().splitlines() if line[:4] == "## [")
        assert newest.startswith(f"## [{version('ovpn-dco')}]")
