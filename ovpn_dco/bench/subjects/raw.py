"""The link itself: what the machine could do without any tunnel."""

from __future__ import annotations

import platform

from ovpn_dco.bench.subjects.base import Course, Tunnel


class RawTunnel(Tunnel):
    """No tunnel: the addresses of the veth pair."""

    def __init__(self, course: Course, *, peers: int = 1) -> None:
        super().__init__(course, peers=peers)
        link = self.topology.link
        self.server_ipv4, self.client_ipv4 = link.left_ipv4, link.right_ipv4
        self.server_ipv6, self.client_ipv6 = link.left_ipv6, link.right_ipv6

    def server_ipv4_for(self, number: int) -> str:
        """Each veth pair has a network of its own."""
        return self.topology.links[number].left_ipv4


class RawLink:
    """The veth pair, with the MTU that others have inside."""

    name = "raw"
    title = "raw veth"

    def __init__(self, *, peers: int = 1) -> None:
        self._peers = peers

    def obstacle(self, transport: str) -> str | None:
        """Nothing: it is always there."""
        return None

    def caveat(self) -> str | None:
        """No tunnel, so no rival."""
        return "no tunnel"

    def version(self) -> str:
        """The kernel's."""
        return f"Linux {platform.release()}"

    def open(self, course: Course) -> Tunnel:
        """The bare link."""
        tunnel = RawTunnel(course, peers=self._peers)
        for client, link in zip(tunnel.clients, tunnel.topology.links, strict=True):
            tunnel.server.set_mtu(link.left_name, course.inner_mtu)
            client.set_mtu(link.right_name, course.inner_mtu)
        tunnel.wait_connected()
        return tunnel
