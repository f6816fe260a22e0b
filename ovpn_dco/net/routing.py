"""What one interface adds to the system, over rtnetlink, and how all of it is undone."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import Any, TypeAlias

from ..errors import DcoError, error_for
from .interface import IFF_UP, get_index
from .namespace import run_in_namespace
from .rtnetlink import (
    MAIN_TABLE,
    Hop,
    IpAddress,
    IpNetwork,
    family_of,
    hop_of,
    main_routes,
    metric_of,
    naming,
    network_of,
    rtnetlink,
    usable_at_once,
)
from .surroundings import Surroundings, look, way, way_around

logger = logging.getLogger(__name__)

IPV6_METRIC = 1024  # what the kernel takes for a route without one

_GONE = {errno.ENODEV, errno.ENXIO, errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL}


@dataclass(frozen=True)
class LinkMtu:
    """MTU of the interface, bytes."""

    mtu: int

    def __str__(self) -> str:
        return f"mtu {self.mtu}"


@dataclass(frozen=True)
class LinkUp:
    """The interface is up."""

    def __str__(self) -> str:
        return "state up"


@dataclass(frozen=True)
class SystemAddress:
    """An address of the interface; `peer` is the other end of a link between two."""

    interface: IPv4Interface | IPv6Interface
    peer: IPv4Address | None = None

    def __str__(self) -> str:
        return f"address {self.interface}" + (f" peer {self.peer}" if self.peer else "")


@dataclass(frozen=True)
class SystemRoute:
    """A route of the main table. `hop` None: unreachable, senders are told so.

    `first`: it goes before other routes of the same network and metric, and fails where it
    cannot (IPv6); others make way for what is there."""

    network: IpNetwork
    hop: Hop | None
    metric: int | None = None
    first: bool = False

    def __str__(self) -> str:
        via = f" via {self.hop.gateway}" if self.hop and self.hop.gateway else ""
        metric = "" if self.metric is None else f" metric {self.metric}"
        return f"route {self.network}{via}{metric}{'' if self.hop else ' unreachable'}"


Change: TypeAlias = LinkMtu | LinkUp | SystemAddress | SystemRoute


_Undo: TypeAlias = Callable[[Any], None]


class Routing:
    """The changes that are in effect for one interface. Calls block for milliseconds.

    `apply` does all of a list or, if one fails, none. What is there already exactly as wanted is
    left alone, then and by `undo`. One call at a time."""

    def __init__(self, name: str, *, namespace: int = -1) -> None:
        """`namespace` is a descriptor, the caller's to close after the last call; < 0: that of the
        process. InterfaceMissing if there is no interface of this name."""
        self._name = name
        self._namespace = namespace
        self._index = get_index(name, namespace=namespace)
        self._done: list[tuple[Change, _Undo]] = []

    @property
    def applied(self) -> tuple[Change, ...]:
        """What was changed and is to be undone, in the order of application."""
        return tuple(change for change, _ in self._done)

    def look(self, addresses: Iterable[IpAddress] = ()) -> Surroundings:
        """The surroundings, with the ways to these addresses as they are now."""
        return run_in_namespace(self._namespace, lambda: look(self._index, addresses))

    def way(self, address: IpAddress) -> Hop | None:
        """How packets to this address leave the host now; None if they do not."""
        return run_in_namespace(self._namespace, lambda: way(address))

    def way_around(self, address: IpAddress) -> Hop | None:
        """How packets to this address leave the host now; None if they do not, or by this
        interface."""
        return run_in_namespace(self._namespace, lambda: way_around(self._index, address))

    def apply(self, changes: Sequence[Change]) -> None:
        """Puts these in effect, in their order. DcoError names the one that failed; those before
        it are undone then."""
        run_in_namespace(self._namespace, lambda: self._apply(changes))

    def undo(self, chosen: Collection[Change] | None = None) -> None:
        """Takes these back (None: all), the last first; what is gone already is no matter, nor
        what was not changed here.

        DcoError names the first that failed, after all others were tried; it stays to be undone."""
        done = [one for one in self._done if chosen is None or one[0] in chosen]
        if done:
            run_in_namespace(self._namespace, lambda: self._undo(done))

    def _apply(self, changes: Sequence[Change]) -> None:
        already = len(self._done)
        with rtnetlink() as route:
            try:
                for change in changes:
                    with naming(f"{self._name} refuses {change}"):
                        undo = _put(route, self._index, change)
                    if undo is not None:
                        self._done.append((change, undo))
            except BaseException:
                self._take_back(route, self._done[already:])
                raise

    def _undo(self, done: list[tuple[Change, _Undo]]) -> None:
        with rtnetlink() as route:
            failed = self._take_back(route, done)
        if failed:
            raise failed[0]

    def _take_back(self, route: Any, done: list[tuple[Change, _Undo]]) -> list[DcoError]:
        """Errors are logged and returned; what they are of is kept."""
        failed: list[DcoError] = []
        for change, undo in reversed(done):
            try:
                with naming(f"{self._name} keeps {change}"):
                    undo(route)
            except DcoError as error:
                if error.errno not in _GONE:
                    logger.warning("%s", error)
                    failed.append(error)
                    continue
            self._done.remove((change, undo))
        return failed


# Changes


def _put(route: Any, index: int, change: Change) -> _Undo | None:
    """How to undo the change that was made; None if it was there before."""
    match change:
        case LinkMtu():
            return _put_mtu(route, index, change)
        case LinkUp():
            return _put_up(route, index)
        case SystemAddress():
            return _put_address(route, index, change)
        case SystemRoute():
            return _put_route(route, change)


def _put_mtu(route: Any, index: int, change: LinkMtu) -> _Undo | None:
    (link,) = route.get_links(index)
    before = int(link.get_attr("IFLA_MTU"))
    if before == change.mtu:
        return None
    route.link("set", index=index, mtu=change.mtu)
    return lambda route: route.link("set", index=index, mtu=before)


def _put_up(route: Any, index: int) -> _Undo | None:
    (link,) = route.get_links(index)
    if link["flags"] & IFF_UP:
        return None
    route.link("set", index=index, state="up")
    return lambda route: route.link("set", index=index, state="down")


def _put_address(route: Any, index: int, change: SystemAddress) -> _Undo | None:
    host = str(change.interface.ip)
    words: dict[str, Any] = {"address": host}
    if change.peer is not None:
        words = {"address": str(change.peer), "local": host}
    words |= {"index": index, "prefixlen": change.interface.network.prefixlen}
    if _is_new(lambda: route.addr("add", **words, **usable_at_once(host))):
        return lambda route: route.addr("del", **words)
    logger.warning("%s is there already, and is left alone", change)
    return None


def _put_route(route: Any, change: SystemRoute) -> _Undo | None:
    words = _route_words(change)
    if _is_new(lambda: route.route(_prepend() if _may_precede(change) else "add", **words)):
        return lambda route: route.route("del", **words)
    if _is_there(route, change):
        logger.warning("%s is there already, and is left alone", change)
    elif change.first:
        raise error_for(errno.EEXIST, f"{change} would come after another route")
    else:
        logger.warning("%s is not made: another route of the same metric is there", change)
    return None


def _is_new(call: Callable[[], object]) -> bool:
    """Whether the kernel did not have it yet."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        call()
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        return False
    return True


def _may_precede(change: SystemRoute) -> bool:
    return change.first and change.network.version == 4


def _prepend() -> tuple[int, int]:
    # Neither NLM_F_EXCL nor NLM_F_APPEND: before what is there, as `ip route prepend`.
    from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST
    from pyroute2.netlink.rtnl import RTM_NEWROUTE

    return RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE


def _metric(change: SystemRoute) -> int:
    return change.metric or (IPV6_METRIC if change.network.version == 6 else 0)


def _route_words(change: SystemRoute) -> dict[str, Any]:
    """As arguments of pyroute2, both to add and to delete."""
    family = family_of(change.network)
    words: dict[str, Any] = {
        "family": family,
        "dst": str(change.network),
        "table": MAIN_TABLE,
        "proto": "static",
        "type": "unreachable" if change.hop is None else "unicast",
        "priority": _metric(change),
    }
    if change.hop is None:
        return words
    if change.hop.index:
        words["oif"] = change.hop.index
    gateway = change.hop.gateway
    if gateway is None:
        words["scope"] = "link" if family == socket.AF_INET else "universe"
    elif family_of(gateway) == family:
        words["gateway"] = str(gateway)
    else:
        words["via"] = {"family": family_of(gateway), "addr": str(gateway)}
    return words


def _is_there(route: Any, change: SystemRoute) -> bool:
    wanted = (change.network, _metric(change), change.hop)
    return any(
        wanted == (network_of(message), metric_of(message), hop_of(message))
        for message in main_routes(route, family_of(change.network))
    )
