"""Exceptions. Every refusal is a `DcoError`, and so an `OSError` with the kernel driver's errno.

The subclasses say what kind of refusal it is; `attribute` names the argument at fault, if one is.
Errno values are those of the Linux `ovpn` driver for the same mistake (docs/architecture.md)."""

from __future__ import annotations

import errno

__all__ = [
    "AddressInUse",
    "AlreadyExists",
    "Busy",
    "ConnectionFailed",
    "DcoError",
    "DeviceClosed",
    "InterfaceMissing",
    "InvalidArgument",
    "LimitReached",
    "LoginRefused",
    "MessageTooBig",
    "NotASocket",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "TryAgain",
    "UnsupportedError",
    "error_for",
]


class DcoError(OSError):
    """A refused or failed call; it changed nothing.

    `errno` is the error number, `strerror` the message, `attribute` the argument at fault."""

    def __init__(self, number: int, message: str, *, attribute: str | None = None) -> None:
        super().__init__(number, message)
        self.attribute = attribute

    def __str__(self) -> str:
        return f"{self.strerror} [{errno.errorcode.get(self.errno or 0, self.errno)}]"


class InvalidArgument(DcoError, ValueError):
    """EINVAL: a value, or a combination of values, that makes no sense. Of an address that nobody
    can have, such as a multicast one, the kernel driver says EADDRNOTAVAIL."""


class OutOfRange(InvalidArgument):
    """ERANGE: a number outside of what the attribute can hold."""


class NotFound(DcoError):
    """ENOENT: no such peer, key or route."""


class AlreadyExists(DcoError):
    """EEXIST: a peer, route or interface of that name is there already."""


class AddressInUse(DcoError):
    """EADDRINUSE: another peer owns the address."""


class NotASocket(DcoError):
    """ENOTSOCK: the transport is closed, or was never a socket."""


class Busy(DcoError):
    """EBUSY: in use by another device."""


class UnsupportedError(DcoError):
    """EOPNOTSUPP and its relatives: this back end, kernel or build cannot do it."""


class DeviceClosed(DcoError):
    """EBADF: the device was closed, or belongs to the parent of a forked process."""


class InterfaceMissing(DcoError):
    """ENODEV: no such interface, or no TUN driver."""


class PermissionDenied(DcoError, PermissionError):
    """EPERM or EACCES."""


class LoginRefused(PermissionDenied):
    """EACCES: the server does not let the client in; `reason` is what the user is told, or empty.

    A hook of a server raises or returns it to say why."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(errno.EACCES, f"login refused: {reason}" if reason else "login refused")
        self.reason = reason

    def __reduce__(self) -> tuple[type[LoginRefused], tuple[str]]:
        return type(self), (self.reason,)


class LimitReached(DcoError):
    """ENOBUFS and its relatives: a limit of the device or of the system."""


class MessageTooBig(DcoError):
    """EMSGSIZE: larger than what the transport carries."""


class TryAgain(DcoError, BlockingIOError):
    """EAGAIN: the socket buffer is full just now."""


class ConnectionFailed(DcoError):
    """A client has given up: no server that it may use answers, or keeps it."""


_CLASSES: dict[int, type[DcoError]] = {
    errno.EINVAL: InvalidArgument,
    errno.EADDRNOTAVAIL: InvalidArgument,
    errno.ERANGE: OutOfRange,
    errno.ENOENT: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.EADDRINUSE: AddressInUse,
    errno.ENOTSOCK: NotASocket,
    errno.EBUSY: Busy,
    errno.EOPNOTSUPP: UnsupportedError,
    errno.EAFNOSUPPORT: UnsupportedError,
    errno.EPROTONOSUPPORT: UnsupportedError,
    errno.EBADF: DeviceClosed,
    errno.ENODEV: InterfaceMissing,
    errno.ENXIO: InterfaceMissing,
    errno.EPERM: PermissionDenied,
    errno.EACCES: PermissionDenied,
    errno.ENOBUFS: LimitReached,
    errno.ENOMEM: LimitReached,
    errno.ENOSPC: LimitReached,
    errno.EMFILE: LimitReached,
    errno.ENFILE: LimitReached,
    errno.EMSGSIZE: MessageTooBig,
    errno.EAGAIN: TryAgain,
}


def error_for(number: int, message: str, *, attribute: str | None = None) -> DcoError:
    """The exception of the class that fits `number`; `DcoError` itself where none does."""
    return _CLASSES.get(number, DcoError)(number, message, attribute=attribute)
