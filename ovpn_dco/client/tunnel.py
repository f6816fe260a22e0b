"""The tunnel of a client on the system: addresses, routes and MTU of its interface.

Name servers are not changed here: hooks learn them from `TunnelInfo`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from ..config import ClientConfig, MtuConfig
from ..model import Address
from ..net import Netns, is_current, open_namespace
from ..net.routing import Routing
from ..net.rtnetlink import IpAddress
from ..protocol.push import Pushed
from .tunnel_info import TunnelInfo
from .tunnel_plan import TunnelPlan, plan_tunnel, redirection

__all__ = ["Tunnel", "TunnelInfo", "address_of"]

logger = logging.getLogger("ovpn_dco.client")

RESOLVER_FILE = Path("/etc/resolv.conf")


class Tunnel:
    """What a push makes of one interface, until the next one or `undo`.

    With the interface in another namespace than this process the server's packets do not pass its
    routes, so none is made for them there. Calls block for milliseconds and come from one thread
    at a time; they raise DcoError that names what the system refuses, and leave nothing then."""

    def __init__(self, interface: str, config: ClientConfig, *, netns: Netns = None) -> None:
        """InterfaceMissing if there is no such interface; errors of `netns` as of a device's."""
        self._interface = interface
        self._config = config
        self._namespace = open_namespace(netns)
        try:
            self._sockets_here = self._namespace < 0 or is_current(self._namespace)
            self._routing = Routing(interface, namespace=self._namespace)
        except BaseException:
            self._close_namespace()
            raise
        self._made_of: object = None
        self._info: TunnelInfo | None = None
        self._outside: IpAddress | None = None

    @property
    def info(self) -> TunnelInfo | None:
        """What is in effect; None: nothing."""
        return self._info

    def apply(
        self, pushed: Pushed, remote: Address | None, *, mtu: MtuConfig | None = None
    ) -> TunnelInfo:
        """Puts a push in effect, in place of the one before.

        Nothing is touched if that made the same tunnel to the same server. `remote` is where the
        server's packets come from, `mtu` that of the connection if it has its own. With an error
        nothing is in effect, neither the new one nor the one before."""
        server = address_of(remote) if remote else None
        made_of = pushed.digest(), server, mtu
        if self._info is not None and made_of == self._made_of:
            return self._info
        self.undo()
        plan = self._plan(pushed, server, mtu)
        for note in plan.notes:
            logger.warning("%s: %s", self._interface, note)
        self._routing.apply(plan.changes)
        self._made_of, self._info = made_of, plan.info
        return plan.info

    def leads_to_server(self) -> bool:
        """Whether the server's packets still stay outside. When the network around changes, the
        route that kept them there may be gone: they would go into the tunnel, be sealed, and go
        into the tunnel again."""
        return self._outside is None or self._routing.way_around(self._outside) is not None

    def _plan(self, pushed: Pushed, server: IpAddress | None, mtu: MtuConfig | None) -> TunnelPlan:
        redirect = redirection(pushed, self._config)
        bypass = tuple(_name_servers()) if redirect and redirect.bypass_dns else ()
        around = self._routing.look((*bypass, *([server] if server else [])))
        self._outside = server if self._sockets_here and server in around.ways else None
        return plan_tunnel(
            self._interface,
            pushed,
            self._config,
            around,
            remote=server,
            sockets_here=self._sockets_here,
            bypass=bypass,
            mtu=mtu,
        )

    def undo(self) -> None:
        """Takes the tunnel back, as far as it is still there; the interface itself stays."""
        self._made_of = self._info = self._outside = None
        self._routing.undo()

    def close(self) -> None:
        """`undo`, and no more calls."""
        try:
            self.undo()
        finally:
            self._close_namespace()

    def _close_namespace(self) -> None:
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1


def address_of(remote: Address) -> IpAddress:
    """Without the scope of a link, and IPv4 as what it is on a socket for both."""
    address = ip_address(remote[0].partition("%")[0])
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _name_servers() -> Iterator[IpAddress]:
    """Those of the system. Lines that are not understood are passed over."""
    with contextlib.suppress(OSError):
        for line in RESOLVER_FILE.read_text(errors="replace").splitlines():
            keyword, *words = line.split() or [""]
            if keyword == "nameserver" and words:
                with contextlib.suppress(ValueError):
                    yield ip_address(words[0])
