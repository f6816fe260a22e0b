"""Routes of the system that are in a device's table, and those that wait until there is a place."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from .backend.base import Backend, PeerRef
from .errors import DcoError, NotFound
from .validation.rules import PeerAttributes

Prefix: TypeAlias = tuple[bytes, int]


class WatchedRoutes:
    """What `Routes.watch` has found.

    What is added by a call, and the own address of a peer, go before it: whoever brings such a
    thing withdraws the route while it holds `lock`, and lets what waits try again."""

    def __init__(self, backend: Backend) -> None:
        self.lock = threading.RLock()
        self._backend = backend
        self._wanted: dict[Prefix, PeerRef] = {}
        self._waiting: set[Prefix] = set()  # of those

    def forget(self) -> None:
        """In a forked child, where the lock may be held by a thread that is not there."""
        self.lock = threading.RLock()

    def wanted(self) -> dict[Prefix, PeerRef]:
        """All of them."""
        with self.lock:
            return dict(self._wanted)

    def installed(self) -> dict[Prefix, PeerRef]:
        """Those that are in the table."""
        with self.lock:
            return {key: ref for key, ref in self._wanted.items() if key not in self._waiting}

    def restored(self, routes: Mapping[Prefix, PeerRef]) -> None:
        """The engine has them already; they stay until a watch knows better."""
        with self.lock:
            self._wanted.update(routes)

    def follow(self, changes: Mapping[Prefix, PeerRef | None]) -> None:
        """What the watch has found; None: no peer's any more."""
        with self.lock:
            for key, ref in changes.items():
                self.withdraw(key)
                self._wanted.pop(key, None)
                self._waiting.discard(key)
                if ref is not None:
                    self._wanted[key] = ref
                    self._install(key)

    def withdraw(self, key: Prefix) -> None:
        """Makes a place, until `try_again`."""
        with self.lock:
            if key in self._wanted and key not in self._waiting and not self._backend.system_routes:
                self._waiting.add(key)
                with contextlib.suppress(NotFound):  # it has gone with its peer
                    self._backend.delete_route(key)

    def try_again(self) -> None:
        """Somebody may have left a place."""
        with self.lock:
            for key in tuple(self._waiting):
                self._install(key)

    @contextlib.contextmanager
    def behind(self, attributes: PeerAttributes) -> Iterator[None]:
        """While a peer gets its addresses, which are then its own whatever was there before."""
        with self.lock:
            for ip in (attributes.vpn_ipv4, attributes.vpn_ipv6):
                if ip is not None:
                    self.withdraw((ip, 8 * len(ip)))
            try:
                yield
            finally:
                self.try_again()

    def _install(self, key: Prefix) -> None:
        if self._backend.system_routes:
            return  # it is in effect, since the system has it
        self._waiting.add(key)
        with contextlib.suppress(DcoError):  # the place is taken, or the peer gone, or memory short
            self._backend.add_route(key, self._wanted[key])
            self._waiting.discard(key)
