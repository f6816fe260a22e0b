"""The inner side of a device: an interface, whatever it is called and wherever it is by now.

Others may rename it, move it to another namespace, or delete it and give its name to another one.
So nothing here trusts the name that it was opened by: the TUN descriptor is asked (TUNGETIFF,
TUNGETDEVNETNS of linux/if_tun.h), and what is then set is set where the interface is now."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from . import net
from .backend.base import Backend, Interface, ReservedAddress
from .errors import DcoError, DeviceClosed, InterfaceMissing, PermissionDenied, error_for
from .validation.arguments import integer
from .validation.rules import DEVICE_OPEN, DeviceAttributes, check, refuse

GROUPS = (  # RFC 5771, RFC 4291; and the limited broadcast of RFC 919
    ReservedAddress(bytes([224, 0, 0, 0]), 4),
    ReservedAddress(bytes([0xFF]) + bytes(15), 8),
    ReservedAddress(bytes([255] * 4), 32, group=True),
)
T = TypeVar("T")


class InnerSide:
    """What `Device` says and sets of its interface."""

    def __init__(self, backend: Backend, asked: DeviceAttributes, netns: net.Netns) -> None:
        self.netns = netns
        self._backend = backend
        self._asked = asked
        self._name = asked.name
        self._mtu = asked.mtu
        self._namespace = -1  # where it was opened
        self._lock = threading.Lock()  # of _namespace
        self._opened_with: tuple[tuple[str, int], ...] = ()

    def open(self, addresses: tuple[tuple[str, int], ...], up: bool) -> None:
        """Makes the interface, takes a persistent one over, or adopts `tun_fd`."""
        asked, engine = self._asked, self._backend
        self._opened_with = addresses
        self._namespace = net.open_namespace(self.netns)
        if asked.tun_fd is None:
            engine.open_interface(asked.name, self._namespace, existing=bool(asked.persist))
        else:
            engine.adopt_tun(asked.tun_fd)
        interface = engine.interface()
        if not interface.name:
            if addresses or up:
                argument = "addresses" if addresses else "up"
                raise refuse(errno.EINVAL, argument, "needs an interface, which tun_fd is not")
            return
        self._name = interface.name
        config = net.InterfaceConfig(
            mtu=self._mtu if interface.owned else None,
            gso_segments=engine.train_length(self._mtu) if interface.owned else None,
            addresses=addresses,
            up=up,
        )
        if config != net.InterfaceConfig():
            net.configure(
                self._name, config, namespace=self._namespace, missing_only=interface.existed
            )
        # Last: whatever fails before, and whoever is killed, leaves no interface behind.
        if asked.owner is not None:
            engine.set_owner(asked.owner)
        if asked.persist and not interface.persistent:
            engine.set_persistent(True)

    def check_framing(self) -> None:
        """Refuses an adopted TUN whose packets begin with something else than the IP header, as
        far as that can be seen."""
        if not self._backend.interface().name:
            return
        with contextlib.suppress(InterfaceMissing, PermissionDenied):
            if self._at_interface(
                lambda name, where: net.has_packet_information(name, namespace=where)
            ):
                raise refuse(errno.EPROTO, "tun_fd", "is a TUN without IFF_NO_PI")

    def close(self) -> None:
        """Lets go of the namespace."""
        with self._lock:
            namespace, self._namespace = self._namespace, -1
        if namespace >= 0:
            os.close(namespace)

    def forget(self) -> None:
        """In a forked child, where the lock may be held by a thread that is not there."""
        self._lock = threading.Lock()
        self.close()

    @property
    def name(self) -> str:
        """The present one; the last known one of an interface that is gone."""
        with contextlib.suppress(DeviceClosed):
            interface = self._backend.interface()
            if interface.name and interface.present:
                self._name = interface.name
        return self._name

    @property
    def index(self) -> int:
        """In the namespace where it is now; 0 where it cannot be seen."""
        if not self._backend.interface().name:
            return 0
        try:
            return self._at_interface(lambda name, where: net.get_index(name, namespace=where))
        except (InterfaceMissing, PermissionDenied):
            return 0

    def reserved(self) -> list[ReservedAddress]:
        """Addresses that are no peer's: the host's own on this interface, and those of groups.
        Where the system cannot be asked, as it was opened with."""
        try:
            addresses = self._at_interface(
                lambda name, where: net.get_addresses(name, namespace=where)
            )
        except DcoError:
            addresses = self._opened_with
        found = set(GROUPS)
        for host, bits in addresses:
            interface = ipaddress.ip_interface(f"{host}/{bits}")
            found.add(ReservedAddress(interface.ip.packed, interface.max_prefixlen))
            if interface.version == 4 and bits < 31:
                broadcast = interface.network.broadcast_address.packed
                found.add(ReservedAddress(broadcast, 32, group=True))
        return sorted(found)

    def monitor_routes(self) -> net.RouteMonitor:
        """Of the system's routes into it. InterfaceMissing where there is no interface."""
        if not self._backend.interface().name:
            raise error_for(errno.ENODEV, f"{self._name} is no interface: nothing routes to it")

        def monitor(name: str, where: int) -> net.RouteMonitor:
            return net.RouteMonitor(net.get_index(name, namespace=where), namespace=where)

        return self._at_interface(monitor)

    @property
    def mtu(self) -> int:
        """Bytes; where there is no interface what was last set."""
        if not self._backend.interface().name:
            return self._mtu
        return self._at_interface(lambda name, where: net.get_mtu(name, namespace=where))

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        value = integer("mtu", mtu)
        check(DEVICE_OPEN, DeviceAttributes("any", self._asked.mode, value, max_peers=1))
        if self._backend.interface().name:
            config = net.InterfaceConfig(mtu=value, gso_segments=self._backend.train_length(value))
            self._at_interface(lambda name, where: net.configure(name, config, namespace=where))
        self._mtu = value

    @property
    def persist(self) -> bool:
        """Whether it stays."""
        return self._backend.interface().persistent

    @persist.setter
    def persist(self, persist: bool) -> None:
        mode, mtu = self._asked.mode, self._mtu
        check(DEVICE_OPEN, DeviceAttributes("any", mode, mtu, max_peers=1, persist=persist))
        self._backend.set_persistent(persist)

    def _at_interface(self, function: Callable[[str, int], T]) -> T:
        """`function` of the present name, and of a descriptor of the namespace where it is now.

        InterfaceMissing when it is gone or out of sight."""
        interface = self._backend.interface()
        if not interface.present:
            raise error_for(errno.ENODEV, f"{self._name} was deleted")
        try:
            namespace = self._backend.interface_namespace()
        except (DeviceClosed, InterfaceMissing):
            raise
        except DcoError:  # no CAP_NET_ADMIN over it, or a kernel before 5.2
            return self._where_it_was_opened(interface, function)
        try:
            return function(interface.name, namespace)
        finally:
            os.close(namespace)

    def _where_it_was_opened(self, interface: Interface, function: Callable[[str, int], T]) -> T:
        # Another one of the same name has another index.
        with self._lock:
            if net.get_index(interface.name, namespace=self._namespace) != interface.ifindex:
                text = f"{interface.name} was moved to a namespace that is out of sight"
                raise error_for(errno.ENODEV, text)
            return function(interface.name, self._namespace)
