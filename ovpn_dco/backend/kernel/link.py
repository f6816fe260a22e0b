"""An interface of the kernel's driver: made, kept or taken away, and what is told of it.

It has to stay in the namespace where it was made: the driver finds it by its number there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import select
import socket
import struct
from collections.abc import Iterator

from ... import netlink
from ...errors import AlreadyExists, DcoError, InterfaceMissing, error_for
from ...model import Mode
from ...net import open_namespace, run_in_namespace
from ...validation.answers import answer
from ...validation.rules import refuse
from ..base import Interface
from . import remains

SIOCGIFNAME, SIOCGSKNS = 0x8910, 0x894C  # linux/sockios.h
_OWN_NAMESPACE = "/proc/thread-self/ns/net"


class KernelLink:
    """The interface of one device. `telling` is what waits for events."""

    def __init__(self, mode: Mode, telling: select.epoll) -> None:
        self._persistent = False
        self._mode = mode
        self._telling = telling
        self._driver: netlink.Interface | None = None
        self._watch: netlink.LinkWatch | None = None
        self._inside: socket.socket | None = None  # of the interface's namespace
        self._alive: socket.socket | None = None
        self._namespace = -1
        self._heard: set[tuple[int, int]] = set()  # namespaces
        self._name = ""
        self._existed = False

    # Lifecycle

    def open(self, name: str, netns_fd: int, *, existing: bool) -> None:
        """Makes the interface, or takes over one that has stayed."""
        self._namespace = open_namespace(_OWN_NAMESPACE if netns_fd < 0 else netns_fd)
        run_in_namespace(self._namespace, lambda: self._open(name, existing))

    def _open(self, name: str, existing: bool) -> None:
        found = self._take_over(name) if existing else None
        self._existed = self._persistent = found is not None
        driver = self._driver = found or _create(name, self._mode)
        with contextlib.suppress(OSError):  # anybody may take the name: then remains stay
            self._alive = remains.sign_of_life(driver.link.ifindex)
        if not self._persistent:
            remains.mark(driver.link.ifindex)
        self._name = driver.link.name
        self._inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._watch = netlink.LinkWatch(driver.link.ifindex)
        for fd in (driver.fileno(), self._watch.fileno()):
            self._telling.register(fd, select.EPOLLIN)
        self._heard.add(_identity(self._namespace))

    def _take_over(self, name: str) -> netlink.Interface | None:
        try:
            driver = netlink.Interface.adopt(name)
        except InterfaceMissing:
            return None
        except DcoError as error:
            if error.errno != errno.EINVAL:
                raise
            text = "is an interface that exists already, of another driver"
            raise refuse(errno.EINVAL, "name", text) from None
        with contextlib.ExitStack() as undo:
            undo.callback(driver.close)
            if driver.link.mode not in (None, self._mode):
                raise refuse(errno.EINVAL, "mode", "is not that of the interface, for life")
            if driver.get_peers():
                raise answer("open_persistent", errno.EBUSY, "")
            undo.pop_all()
        return driver

    def close(self) -> None:
        """Takes the interface away, unless it is to stay."""
        if self._driver is not None:
            with contextlib.suppress(DcoError):
                run_in_namespace(self._namespace, self._take_away)
        self._close_descriptors()

    def _take_away(self) -> None:
        """Also one that was taken over, and is to stay no more."""
        self.driver.close(keep=True)
        if not self._persistent:
            netlink.delete_link(self.ifindex)

    def forget(self) -> None:
        """In a forked child: closes what was inherited."""
        if self._driver is not None:
            self._driver.forget()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        for one in (self._watch, self._inside, self._alive):
            if one is not None:
                one.close()
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    # What it is

    @property
    def driver(self) -> netlink.Interface:
        """Its commands. InterfaceMissing before it was opened."""
        if self._driver is None:
            raise error_for(errno.ENODEV, "the device has no interface")
        return self._driver

    @property
    def ifindex(self) -> int:
        """Its number."""
        return self.driver.link.ifindex

    @property
    def name(self) -> str:
        """As it was when it was last looked at."""
        return self._name

    def namespace(self) -> int:
        """A new descriptor of where it was made."""
        return os.dup(self._namespace)

    def info(self) -> Interface:
        """As it is now."""
        if self._driver is None:
            return Interface("", 0, owned=False)
        present = self.is_present()
        return Interface(
            self._name,
            self.ifindex,
            owned=True,
            existed=self._existed,
            present=present,
            persistent=self._persistent,
        )

    @property
    def persistent(self) -> bool:
        """Whether it stays when the device is closed."""
        return self._persistent

    def set_persistent(self, on: bool) -> None:
        """Takes effect for what a killed process leaves behind, too."""
        write = remains.unmark if on else remains.mark
        run_in_namespace(self._namespace, lambda: write(self.ifindex))
        self._persistent = on

    def is_present(self) -> bool:
        """Whether it is where it was made; it may have another name by now."""
        assert self._inside is not None
        try:
            reply = fcntl.ioctl(self._inside, SIOCGIFNAME, struct.pack("16xi20x", self.ifindex))
        except OSError:
            return False
        self._name = os.fsdecode(reply[:16].partition(b"\0")[0])
        return True

    # What is told

    def hear_of(self, sock: socket.socket) -> None:
        """The driver tells of a peer in the namespace of its socket."""
        with contextlib.suppress(OSError), _namespace_of(sock) as namespace:
            if _identity(namespace) not in self._heard:
                fd = run_in_namespace(namespace, self.driver.listen)
                self._telling.register(fd, select.EPOLLIN)
                self._heard.add(_identity(namespace))

    def read(self) -> tuple[list[netlink.Told], bool]:
        """What has happened to peers since the last call, and whether the interface has gone."""
        if self._driver is None or self._watch is None:
            return [], False
        told = self._driver.read_events()
        return told, self._watch.may_be_gone() and not self.is_present()


def _create(name: str, mode: Mode) -> netlink.Interface:
    """`name` may have %d in it: the first number that is free."""
    names = (name.replace("%d", str(n)) for n in itertools.count()) if "%d" in name else [name]
    for one in names:
        with contextlib.suppress(AlreadyExists):
            return netlink.Interface.create(one, mode)
        if remains.remove(one):
            return netlink.Interface.create(one, mode)
    raise answer("open_tun", errno.EEXIST, "")


@contextlib.contextmanager
def _namespace_of(sock: socket.socket) -> Iterator[int]:
    """A descriptor of the network namespace of a socket. OSError without CAP_NET_ADMIN over it."""
    namespace = fcntl.ioctl(sock, SIOCGSKNS)
    try:
        yield namespace
    finally:
        os.close(namespace)


def _identity(namespace: int) -> tuple[int, int]:
    status = os.fstat(namespace)
    return status.st_dev, status.st_ino
