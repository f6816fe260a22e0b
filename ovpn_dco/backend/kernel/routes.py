"""Networks behind the peers of the kernel's driver: routes of the system, each by way of a peer's
VPN address. The driver sends a packet to the peer that has the gateway of its route."""

from __future__ import annotations

import contextlib
import errno
from ipaddress import ip_address, ip_network

from ...errors import DcoError
from ...net.routing import Routing, SystemRoute
from ...net.rtnetlink import Hop
from ...validation.answers import answer
from ...validation.rules import refuse
from .peers import KernelPeer, KernelPeers

METRIC = 100
"""What OpenVPN gives routes to networks behind clients."""

Prefix = tuple[bytes, int]


class KernelRoutes:
    """Those that were added here; they go with their peer."""

    def __init__(self, name: str, ifindex: int, namespace: int, peers: KernelPeers) -> None:
        self._routing = Routing(name, namespace=namespace)
        self._ifindex = ifindex
        self._peers = peers
        self._owned: dict[Prefix, tuple[KernelPeer, SystemRoute]] = {}

    def add(self, prefix: Prefix, peer: KernelPeer) -> None:
        """Routes the network to the peer."""
        ip, bits = prefix
        if prefix in self._owned:
            raise answer("add_route", errno.EEXIST, "")
        if bits == 8 * len(ip) and self._peers.owner(ip):
            raise answer("add_route", errno.EADDRINUSE, "")
        gateway = peer.vpn_ipv4 if len(ip) == 4 else peer.vpn_ipv6
        if not gateway:
            text = "is of a family in which the peer has no VPN address, its gateway"
            raise refuse(errno.EAFNOSUPPORT, "prefix", text)
        network = ip_network((ip, bits))
        route = SystemRoute(network, Hop(self._ifindex, ip_address(gateway)), METRIC)
        self._routing.apply([route])
        self._owned[prefix] = peer, route

    def delete(self, prefix: Prefix) -> None:
        """Takes one away that was added here."""
        if prefix not in self._owned:
            raise answer("delete_route", errno.ENOENT, "")
        self._delete([prefix])

    def release(self, peer: KernelPeer) -> None:
        """The peer is gone."""
        self._delete([prefix for prefix, (owner, _) in self._owned.items() if owner is peer])

    def _delete(self, prefixes: list[Prefix]) -> None:
        routes = [self._owned.pop(prefix)[1] for prefix in prefixes]
        if routes:
            with contextlib.suppress(DcoError):  # which has been logged
                self._routing.undo(routes)

    def owner(self, ip: bytes) -> KernelPeer | None:
        """As the driver does: whose address the destination is, or the gateway of its route."""
        found = self._peers.owner(ip)
        if found is None:
            hop = self._routing.way(ip_address(ip))
            if hop is not None and hop.index == self._ifindex and hop.gateway is not None:
                return self._peers.owner(hop.gateway.packed)
        return found
