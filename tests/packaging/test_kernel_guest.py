"""When the virtual machine is built, and when it is there; nothing is built or installed here."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from support import needs_tool

BUILD = Path(__file__).parents[2] / "tools/kernel-guest/build"
USED = ("bash", "dirname", "readlink", "realpath", "mkdir", "flock", "grep", "tail", "env")
FAKES = {
    "id": "echo 0",
    "dpkg": "echo amd64",
    "dpkg-query": '[ "$3" = qemu-system-x86 ] || echo installed',
    "apt-get": 'echo "$*" >>"$OVPN_DCO_GUEST/../asked"',
}


class Machine:
    """Of a machine just what it takes to come as far as that."""

    def __init__(self, folder: Path, *, emulator: bool, complete: bool) -> None:
        self.guest = folder / "guest"
        self.programs = folder / "bin"
        self.guest.mkdir()
        self.programs.mkdir()
        for name in USED:
            (self.programs / name).symlink_to(shutil.which(name) or "/nowhere")
        for name, text in FAKES.items():
            self.add(name, text)
        if emulator:
            self.add("qemu-system-x86_64", "exit 0")
        if complete:
            (self.guest / "complete").touch()

    def add(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def build(self) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.programs), "OVPN_DCO_GUEST": str(self.guest)}
        return subprocess.run([BUILD], env=environment, capture_output=True, text=True)

    def installed(self) -> list[str]:
        asked = self.guest.parent / "asked"
        return asked.read_text().splitlines()[-1].split() if asked.exists() else []


pytestmark = needs_tool("bash", "flock")


def test_several_may_use_it_at_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path, emulator=True, complete=True)
    with (machine.guest / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert machine.build().returncode == 0
    assert not machine.installed()


def test_what_runs_it_is_installed_where_it_is_complete(tmp_path: Path) -> None:
    machine = Machine(tmp_path, emulator=False, complete=True)
    done = machine.build()
    assert done.returncode == 0, done.stderr
    assert machine.installed()[-1] == "qemu-system-x86"
    assert not (machine.guest / "work").exists()


def test_only_one_builds_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path, emulator=True, complete=False)
    with (machine.guest / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = machine.build()
    assert done.returncode == 1
    assert "somebody builds it already" in done.stderr
