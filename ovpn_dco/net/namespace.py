"""Network namespaces by name, path or descriptor.

Entering one changes the calling thread only, so what is to be done inside is done on a thread that
then ends. That also keeps pyroute2, which runs an event loop of its own, away from the caller's."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from ..errors import error_for

Netns: TypeAlias = "str | os.PathLike[str] | int | None"
T = TypeVar("T")

NAMED = "/run/netns"  # where iproute2 keeps them
CLONE_NEWNET = 0x40000000
NS_GET_NSTYPE = 0xB703  # linux/nsfs.h


def open_namespace(netns: Netns) -> int:
    """A new descriptor of the namespace, to be closed by the caller; -1 for None.

    A name is looked for where iproute2 keeps them, anything with a slash is a path, a number is a
    descriptor. InvalidArgument, NotFound and PermissionDenied name `netns`."""
    if netns is None:
        return -1
    try:
        if isinstance(netns, bool):
            raise TypeError
        if isinstance(netns, int):
            descriptor = os.dup(netns)
        else:
            path = os.path.join(NAMED, os.fspath(netns))
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        number = errno.EINVAL if error.errno == errno.EBADF else error.errno or errno.EIO
        text = f"netns {netns!r} cannot be opened: {error.strerror}"
        raise error_for(number, text, attribute="netns") from None
    except (TypeError, ValueError, OverflowError):
        text = f"netns {netns!r} is no name, path or descriptor"
        raise error_for(errno.EINVAL, text, attribute="netns") from None
    if not _is_network_namespace(descriptor):
        os.close(descriptor)
        text = f"netns {netns!r} is no network namespace"
        raise error_for(errno.EINVAL, text, attribute="netns")
    return descriptor


def _is_network_namespace(descriptor: int) -> bool:
    try:
        return fcntl.ioctl(descriptor, NS_GET_NSTYPE) == CLONE_NEWNET
    except OSError:
        return False


def is_current(namespace: int) -> bool:
    """Whether the descriptor is of the namespace that the calling thread is in."""
    with contextlib.suppress(OSError):  # no /proc: then it has to be entered
        here, there = os.stat("/proc/thread-self/ns/net"), os.fstat(namespace)
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
    return False


def _enter(namespace: int) -> None:
    # Even the thread's own could be entered with CAP_SYS_ADMIN only: setns(2).
    if is_current(namespace):
        return
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        number = ctypes.get_errno()
        text = f"netns cannot be entered: {os.strerror(number)}"
        raise error_for(number, text, attribute="netns")


def run_in_namespace(namespace: int, function: Callable[[], T]) -> T:
    """The result of `function`, run on a thread inside the namespace (< 0: the caller's)."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            if namespace >= 0:
                _enter(namespace)
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="ovpn_dco-netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
