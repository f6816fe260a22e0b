"""Routes of the system into the interface of a server: those of its configuration, and those to
the networks behind its clients.

The device knows by itself which network is behind which client; these bring it the packets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from ipaddress import ip_address, ip_network

from ..config import ClientOverrides, PoolConfig, RouteConfig, ServerConfig
from ..device import Device
from ..errors import DcoError
from ..net import Netns, open_namespace
from ..net.routing import Routing, SystemRoute
from ..net.rtnetlink import Hop, IpNetwork

__all__ = ["SystemRoutes", "networks_of"]

# A network behind a client goes before one that was only said to be behind the server.
CLIENT_METRIC = 100
CONFIGURED_METRIC = 200

_log = logging.getLogger("ovpn_dco.server")


class SystemRoutes:
    """Adds and removes them in threads: no call holds up the loop.

    A network that several clients hold is routed until the last one lets go. With `route-noexec`
    nothing is done."""

    def __init__(self, config: ServerConfig, device: Device, netns: Netns) -> None:
        """InterfaceMissing for a device without an interface; errors of `netns` as of a device."""
        self._config = config
        self._index = device.ifindex
        self._holders: Counter[IpNetwork] = Counter()
        self._present: set[IpNetwork] = set()
        self._work: asyncio.Task[None] | None = None
        self._closed = not config.routes.apply
        self._namespace = -1
        if config.routes.apply:
            self._namespace = open_namespace(netns)
            try:
                self._routing = Routing(device.name, namespace=self._namespace)
            except BaseException:
                self._close_namespace()
                raise

    async def open(self) -> None:
        """Adds those of the configuration. DcoError names one that the system refuses."""
        if not self._closed:
            await asyncio.to_thread(self._routing.apply, list(self._configured()))

    async def hold(self, networks: Collection[IpNetwork]) -> None:
        """Returns when all are routed into the interface. One that the system refuses is logged:
        the client may still be reached by a route of the configuration."""
        self._holders.update(networks)
        while not self._closed and not self._present.issuperset(networks):
            await asyncio.shield(self._start())

    def release(self, networks: Iterable[IpNetwork]) -> None:
        """Lets go of what was held, and soon removes it. To be called also if `hold` was cancelled,
        or has not returned yet."""
        self._holders -= Counter(networks)
        if self._present - self._holders.keys():
            self._start()

    async def close(self) -> None:
        """When the interface is gone: removes what is not gone with it."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._work is not None:
                await asyncio.wait({self._work})
            left = [one for one in self._routing.applied if not self._leads_inside(one)]
            with contextlib.suppress(DcoError):  # which has been logged
                await asyncio.to_thread(self._routing.undo, left)
        finally:
            self._close_namespace()

    # Steps

    def _close_namespace(self) -> None:
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    def _start(self) -> asyncio.Task[None]:
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._bring_about())
        return self._work

    async def _bring_about(self) -> None:
        """Makes the system's routes what they should be now."""
        missing = self._holders.keys() - self._present
        surplus = self._present - self._holders.keys()
        try:
            await asyncio.to_thread(self._change, surplus, missing)
            self._present = self._present - surplus | missing
        finally:
            self._work = None
        if not self._closed and self._holders.keys() != self._present:
            self._start()

    def _change(self, surplus: set[IpNetwork], missing: set[IpNetwork]) -> None:
        with contextlib.suppress(DcoError):  # which has been logged
            self._routing.undo([self._inside(network) for network in surplus])
        for network in sorted(missing, key=str):
            try:
                self._routing.apply([self._inside(network)])
            except DcoError as error:
                _log.warning("no route to a network behind a client: %s", error)

    def _inside(self, network: IpNetwork, metric: int = CLIENT_METRIC) -> SystemRoute:
        return SystemRoute(network, Hop(self._index), metric)

    def _leads_inside(self, change: object) -> bool:
        return isinstance(change, SystemRoute) and change.hop == Hop(self._index)

    def _configured(self) -> Iterator[SystemRoute]:
        config = self._config.routes
        for route in config.routes:
            metric = CONFIGURED_METRIC if config.metric is None else config.metric
            if route.metric is not None:
                metric = route.metric
            if _is_inside(route, self._config.pool):
                yield self._inside(route.network, metric)
            elif route.gateway in ("net_gateway", "remote_host"):
                _log.warning("route %s: %s means nothing here", route.network, route.gateway)
            else:
                yield SystemRoute(route.network, Hop(0, ip_address(route.gateway or "")), metric)


def networks_of(
    overrides: ClientOverrides, pool: PoolConfig, *, iroutes: bool
) -> tuple[IpNetwork, ...]:
    """What has to be routed into the interface for a client: the networks behind it, unless
    `iroutes` are the device's to route, and addresses of its own that are outside of the server's
    network."""
    own = (overrides.ipv4, overrides.ipv6)
    hosts = (ip_network(one.ip) for one in own if one is not None and not _is_local(one.ip, pool))
    behind = overrides.iroutes if iroutes else ()
    return tuple(dict.fromkeys((*behind, *hosts)))


def _is_local(address: object, pool: PoolConfig) -> bool:
    ours = (pool.local_ipv4, pool.local_ipv6)
    return any(one is not None and address in one.network for one in ours)


def _is_inside(route: RouteConfig, pool: PoolConfig) -> bool:
    if route.gateway in (None, "vpn_gateway"):
        return True
    with contextlib.suppress(ValueError):
        return _is_local(ip_address(route.gateway or ""), pool)
    return False
