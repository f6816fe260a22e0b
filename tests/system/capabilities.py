"""Credentials of one thread, changed by the system calls themselves: libc would change all."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

CAP_NET_ADMIN = 12
SYS_SETRESUID = {"x86_64": 117, "aarch64": 147}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_SET_KEEPCAPS = 38, 22, 8
CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def set_user(user: int) -> None:
    """Of the calling thread alone; the capabilities go with it."""
    number = SYS_SETRESUID[os.uname().machine]
    check(libc.syscall(number, user, user, user), "setresuid")


def _capabilities() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of the calling thread."""
    header = ctypes.create_string_buffer(struct.pack("Ii", CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    check(libc.capget(header, data), "capget")
    low, high = struct.unpack("3I", data[:12]), struct.unpack("3I", data[12:24])
    effective, permitted, inheritable = (a | b << 32 for a, b in zip(low, high, strict=True))
    return effective, permitted, inheritable


def _set_effective(effective: int) -> None:
    _, permitted, inheritable = _capabilities()
    words = (effective, permitted, inheritable)
    data = struct.pack("6I", *(w & 0xFFFFFFFF for w in words), *(w >> 32 for w in words))
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    check(libc.capset(header, data), "capset")


@contextlib.contextmanager
def only(*capabilities: int) -> Iterator[None]:
    """The calling thread, and those that it starts meanwhile, may do no more than these."""
    before, _, _ = _capabilities()
    _set_effective(sum(1 << number for number in capabilities))
    try:
        yield
    finally:
        _set_effective(before)


def allow_everything_by_seccomp() -> None:
    """A filter that forbids nothing: what counts is that /proc shows it."""
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
    program = ctypes.create_string_buffer(struct.pack("HP", 1, ctypes.addressof(instruction)))
    check(libc.prctl(PR_SET_SECCOMP, 2, program, 0, 0), "seccomp")


def status(task: Path) -> dict[str, str]:
    """What /proc says of a thread."""
    lines = (task / "status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def engine_tasks() -> dict[str, Path]:
    """Directories in /proc of the threads of engines, by their names."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name = (task / "comm").read_text().strip()
            if name.startswith("dco-"):
                found[name] = task
    return found
