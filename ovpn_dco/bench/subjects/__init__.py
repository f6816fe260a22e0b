"""Who is measured. Every subject opens the same kind of :class:`Tunnel` on a :class:`Course`."""

from ovpn_dco.bench.subjects.base import (
    ALL_COURSES,
    COURSES,
    TCP_COURSES,
    Course,
    Subject,
    Tunnel,
)
from ovpn_dco.bench.subjects.openvpn import OpenVpn
from ovpn_dco.bench.subjects.ours import Ours
from ovpn_dco.bench.subjects.raw import RawLink
from ovpn_dco.bench.subjects.server import ServerTunnel, VpnServer
from ovpn_dco.bench.subjects.wireguard import WireGuardGo

__all__ = [
    "ALL_COURSES",
    "COURSES",
    "TCP_COURSES",
    "Course",
    "OpenVpn",
    "Ours",
    "RawLink",
    "ServerTunnel",
    "Subject",
    "Tunnel",
    "VpnServer",
    "WireGuardGo",
]
