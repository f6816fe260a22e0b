"""Interfaces, routes and network namespaces: what a device needs of the system around it.

pyroute2 is imported when the first interface is configured, not before."""

from .interface import (
    InterfaceConfig,
    configure,
    get_addresses,
    get_index,
    get_mtu,
    has_packet_information,
)
from .namespace import Netns, is_current, open_namespace, run_in_namespace
from .peer_routes import PeerRoutes
from .route_monitor import RouteMonitor

__all__ = [
    "InterfaceConfig",
    "Netns",
    "PeerRoutes",
    "RouteMonitor",
    "configure",
    "get_addresses",
    "get_index",
    "get_mtu",
    "has_packet_information",
    "is_current",
    "open_namespace",
    "run_in_namespace",
]
