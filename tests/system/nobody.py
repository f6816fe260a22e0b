"""A command prefix under which a program is a user without any privilege."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import ovpn_dco


def nobody_prefix(scratch: Path, *capabilities: str) -> tuple[str, ...]:
    """User `nobody` with these capabilities and no other, in a mount namespace with a TUN node for
    all.

    Python and the package may lie where only root may enter: there each gets a way in.
    `scratch` is an empty directory, for what is mounted."""
    lines = [
        "set -e",
        "mount --make-rprivate /",
        f"mknod {scratch}/tun c 10 200",
        f"chmod 666 {scratch}/tun",
        f"mount --bind {scratch}/tun /dev/net/tun",
    ]
    for number, (shut, paths) in enumerate(_shut_directories().items()):
        ways = {path: scratch / f"{number}-{i}" for i, path in enumerate(sorted(paths))}
        for path, place in ways.items():
            lines += [f"mkdir {place}", f"mount --rbind {_quote(path)} {place}"]
        lines.append(f"mount -t tmpfs -o mode=755 none {_quote(shut)}")
        for path, place in ways.items():
            lines += [f"mkdir -p {_quote(path)}", f"mount --rbind {place} {_quote(path)}"]
    kept = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    sets = " ".join(f"--{name}={kept}" for name in ("inh-caps", "ambient-caps", "bounding-set"))
    drop = f"setpriv --reuid=65534 --regid=65534 --clear-groups {sets}"
    lines += ["cd /", f'exec {drop} "$@"']
    return ("unshare", "--mount", "sh", "-c", "\n".join(lines), "sh")


def _shut_directories() -> dict[Path, set[Path]]:
    """Directories that others may not enter, with what of theirs is needed."""
    needed = (sys.base_prefix, sys.prefix, Path(ovpn_dco.__file__).parents[1])
    shut: dict[Path, set[Path]] = {}
    for path in map(Path.resolve, map(Path, needed)):
        for directory in reversed([path, *path.parents]):
            if not directory.stat().st_mode & 0o001:
                shut.setdefault(directory, set()).add(path)
                break
    return shut


def _quote(path: Path) -> str:
    return shlex.quote(str(path))
