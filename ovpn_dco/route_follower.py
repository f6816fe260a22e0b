"""The system's routes into the interface of a device, followed by a thread.

What they mean is `net.PeerRoutes`' business, what is done about it `WatchedRoutes`'."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import select
import threading
from typing import TYPE_CHECKING

from .backend.base import PeerRef
from .errors import DcoError, DeviceClosed, NotFound
from .net.peer_routes import PeerRoutes
from .net.rtnetlink import IpNetwork

if TYPE_CHECKING:
    from typing_extensions import Self

    from .net.route_monitor import RouteMonitor
    from .peer import Peers
    from .watched import Prefix

logger = logging.getLogger("ovpn_dco")


class RouteFollower:
    """Made by `Routes.watch`. `close`, or the end of the context, takes back what it has added.

    Should the system cease to tell, the log says so, `error` is why, and what was added stays."""

    def __init__(self, peers: Peers, monitor: RouteMonitor) -> None:
        self.error: Exception | None = None
        self._peers = peers
        self._monitor = monitor
        found = {_network(key): ref for key, ref in peers.watched.wanted().items()}
        self._known: PeerRoutes[PeerRef] = PeerRoutes(found)
        self._lock = threading.Lock()  # of _known, and of the order in which changes are made
        self._wake, self._stop = os.pipe()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ovpn_dco-routes", daemon=True)

    def start(self) -> None:
        """What is there already is followed when it returns."""
        try:
            self._monitor.look(self._known, self._lock)
            with self._lock:  # what a device has taken over stays until all is known
                self._peers.observers.append(self)
                for ref in self._peers.backend.peers():
                    self._learn(ref)
                self._bring_about()
            self._thread.start()
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """True after `close`, and after that of the device."""
        return self._closed

    def close(self) -> None:
        """Ends it. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        with contextlib.suppress(ValueError):  # it has failed to start
            self._peers.observers.remove(self)
        os.close(self._stop)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._monitor.close()
        os.close(self._wake)
        watched = self._peers.watched
        with contextlib.suppress(DeviceClosed):
            watched.follow(dict.fromkeys(watched.wanted()))

    def forget(self) -> None:
        """In a forked child, where there is no thread, but perhaps its hold on the lock."""
        self._lock = threading.Lock()
        if not self._closed:
            self._closed = True
            os.close(self._stop)
            os.close(self._wake)
            self._monitor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # PeerObserver

    def peer_changed(self, ref: PeerRef) -> None:
        """See `PeerObserver`."""
        with self._lock:
            self._learn(ref)
            self._bring_about()

    def peer_deleted(self, ref: PeerRef) -> None:
        """See `PeerObserver`."""
        with self._lock:
            self._known.set_addresses(ref, ())
            self._bring_about()

    def _learn(self, ref: PeerRef) -> None:
        with contextlib.suppress(NotFound):
            info = self._peers.backend.peer_info(ref)
            addresses = [ip for ip in (info.vpn_ipv4, info.vpn_ipv6) if ip is not None]
            self._known.set_addresses(ref, [ipaddress.ip_address(ip) for ip in addresses])

    # The thread

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._monitor.fileno(), select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        try:
            while not self._closed:
                poll.poll()
                self._monitor.follow(self._known, self._lock)
                with self._lock:
                    if not self._closed:
                        self._bring_about()
        except DeviceClosed:
            return
        except Exception as error:
            self.error = error
            logger.error("routes of the system are not followed any more: %s", error)
            if not isinstance(error, DcoError | OSError):
                raise  # a mistake of ours

    def _bring_about(self) -> None:
        changes = self._known.changes()
        if changes:
            self._peers.watched.follow({_prefix(network): ref for network, ref in changes.items()})


def _prefix(network: IpNetwork) -> Prefix:
    return network.network_address.packed, network.prefixlen


def _network(prefix: Prefix) -> IpNetwork:
    return ipaddress.ip_network(prefix)
