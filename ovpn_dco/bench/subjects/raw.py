"""The link itself: what the machine could do without any tunnel."""

from __future__ import annotations

import platform

from ovpn_dco.bench.subjects.base import Course, Tunnel


class RawTunnel(Tunnel):
    """No tunnel: the addresses of the veth pair."""

    def __init__(self, course: Course) -> None:
        super().__init__(course)
        link = self.topology.link
        self.server_ipv4, self.client_ipv4 = link.left_ipv4, link.right_ipv4
        self.server_ipv6, self.client_ipv6 = link.left_ipv6, link.right_ipv6


class RawLink:
    """The veth pair, with the MTU that others have inside."""

    name = "raw"
    title = "raw veth"

    def obstacle(self) -> str | None:
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
        tunnel = RawTunnel(course)
        tunnel.server.set_mtu(tunnel.topology.link.left_name, course.inner_mtu)
        tunnel.client.set_mtu(tunnel.topology.link.right_name, course.inner_mtu)
        tunnel.wait_connected()
        return tunnel
