"""The first thing that a newcomer may see: what is missing, said once and exactly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import needs_root, needs_tool

ROOT = Path(__file__).parents[2]


def build(tmp_path: Path, **environment: str) -> str:
    """What `setup.py build_ext` says when it refuses."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", f"--build-lib={tmp_path}"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"PKG_CONFIG": "no-pkg-config"}, "no-pkg-config is not installed"),
        ({"PKG_CONFIG_LIBDIR": "/nonexistent"}, "finds no libcrypto >= 3.0"),
        ({"CC": "no-such-compiler"}, "no-such-compiler is not installed"),
        ({"CC": "false"}, "false finds no header <stdlib.h>"),
    ],
)
def test_missing_prerequisite_is_named(
    tmp_path: Path, environment: dict[str, str], problem: str
) -> None:
    message = build(tmp_path, PKG_CONFIG_PATH="", **environment)
    assert problem in message
    for package in ("libssl-dev", "pkg-config", "gcc", "python3-dev", "openssl-devel"):
        assert package in message


def test_old_openssl_is_refused(tmp_path: Path) -> None:
    (tmp_path / "libcrypto.pc").write_text(
        "Name: libcrypto\nDescription: old\nVersion: 1.1.1\nLibs:\nCflags:\n"
    )
    message = build(tmp_path, PKG_CONFIG_LIBDIR=str(tmp_path), PKG_CONFIG_PATH="")
    assert "finds no libcrypto >= 3.0" in message


def test_other_systems_are_refused() -> None:
    program = (
        "import sys, runpy, setuptools.command.build_ext; sys.platform = 'darwin';"
        "sys.argv = ['setup.py', '-q', 'build_ext']; runpy.run_path('setup.py')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "runs on Linux only; this is darwin" in done.stderr


@needs_root
@needs_tool("apt-get")
def test_missing_system_package_is_named_when_not_root(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-s", "build"],
        stdin=(ROOT / "tools/system-packages").open(),
        env={"PATH": "/usr/bin:/bin", "CC": "no-such-compiler"},
        user="nobody",
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert re.search(r"sudo apt-get install .*\bgcc\b", done.stderr)


def test_make_lists_the_targets() -> None:
    output = subprocess.check_output(["make", "-s", "-C", str(ROOT)], text=True)
    targets = "build debug test test-installed lint format fuzz bench docs clean".split()
    assert [name for name in targets if f"make {name} " not in output] == []
