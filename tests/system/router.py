"""A router between the ends of a tunnel: the hub of a topology of spokes."""

from __future__ import annotations

from ovpn_dco.testing import Topology


def route(topology: Topology) -> None:
    """The hub forwards, and the spokes send everything to it."""
    hub = topology.left
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        hub.run(["sysctl", "-qw", f"{name}=1"])
    for spoke, link in zip(topology.spokes, topology.links, strict=True):
        # From such an address a router asks for neighbours, for packets of others.
        hub.add_address(link.left_name, "fe80::1/64")
        spoke.add_route("0.0.0.0/0", via=link.left_ipv4)
        spoke.add_route("::/0", via=link.left_ipv6)
