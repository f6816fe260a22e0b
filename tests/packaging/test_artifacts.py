"""What is in the sdist and in the wheel, and that one can be built from the other."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an sdist and the wheel built from it: OVPN_DCO_DIST, or made here."""
    if ready := os.environ.get("OVPN_DCO_DIST"):
        return Path(ready)
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


@pytest.fixture(scope="session")
def sdist_names(dist: Path) -> set[str]:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="session")
def wheel_names(dist: Path) -> set[str]:
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


@pytest.mark.timeout(300)
def test_sdist_has_what_a_build_and_its_tests_need(sdist_names: set[str]) -> None:
    assert {
        "setup.py",
        "pyproject.toml",
        "Makefile",
        "LICENSE",
        "README.md",
        ".ci/run",
        ".clang-format",
        "tools/system-packages",
        "docs/architecture.md",
        "ext/_core.pyx",
        "ext/dco.pxd",
        "ext/dco.h",
        "ext/codec/gso.c",
        "ext/codec/gso.h",
        "ext/engine/transmit.c",
        "ovpn_dco/__init__.py",
        "ovpn_dco/_core.pyi",
        "ovpn_dco/py.typed",
        "tests/conftest.py",
        "tests/expected_skips.txt",
    } <= sdist_names


def test_sdist_has_nothing_that_was_built(sdist_names: set[str]) -> None:
    built = {name for name in sdist_names if name.endswith((".so", ".o", ".pyc"))}
    assert built == set()
    assert "ext/_core.c" not in sdist_names
    assert not any(name.startswith(("build/", ".venv/", "dist/")) for name in sdist_names)


def test_sdist_has_every_file_of_the_sources(sdist_names: set[str]) -> None:
    if not (ROOT / "ext").is_dir():
        return  # run from outside the tree, where there is nothing to compare with
    suffixes = {".c", ".h", ".pyx", ".pxd", ".pxi"}
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "ext").rglob("*")
        if path.suffix in suffixes and path.name != "_core.c"
    }
    assert ours - sdist_names == set()


def test_wheel_is_typed_and_compiled(wheel_names: set[str]) -> None:
    assert {"ovpn_dco/py.typed", "ovpn_dco/_core.pyi", "ovpn_dco/__init__.py"} <= wheel_names
    assert any(name.startswith("ovpn_dco/_core.") and name.endswith(".so") for name in wheel_names)
    assert any(name.endswith("licenses/LICENSE") for name in wheel_names)


def test_wheel_holds_the_package_and_nothing_else(wheel_names: set[str]) -> None:
    assert {name.split("/")[0].split("-")[0] for name in wheel_names} == {"ovpn_dco"}
    sources = {name for name in wheel_names if name.endswith((".c", ".h", ".pyx", ".pxd"))}
    assert sources == set()
