"""The Linux driver `ovpn` (6.16 and later) over generic netlink: commands, notifications, links.

Typed, over messages of pyroute2, and usable by itself:

>>> from ovpn_dco.netlink import Commands, PeerAttributes, create_link, find_family
>>> family = find_family()                                           # doctest: +SKIP
>>> link = create_link("ovpn0", Mode.MULTIPEER)                      # doctest: +SKIP
>>> with Commands(family.number) as commands:                        # doctest: +SKIP
...     commands.add_peer(link.ifindex, PeerAttributes(peer_id=7, socket=s.fileno(), ...))

`Interface` joins them: commands, events, and what was missed when events were lost. `family` has
message and sockets in pyroute2's own form. Everything needs CAP_NET_ADMIN in the initial user
namespace, but for `probe`, which says whether it is worth trying."""

from .commands import Commands
from .interface import Interface
from .link import Link, LinkWatch, create_link, delete_link, find_link, set_alias
from .probe import Availability, Family, find_family, probe
from .sockets import EVENT_BUFFER, EventSocket
from .tracker import PeerTracker, Told
from .values import (
    Algorithm,
    DeletedNotice,
    FloatedNotice,
    KeyState,
    KeySwapNotice,
    Notice,
    Overrun,
    PeerAttributes,
    PeerState,
)

__all__ = [
    "EVENT_BUFFER",
    "Algorithm",
    "Availability",
    "Commands",
    "DeletedNotice",
    "EventSocket",
    "Family",
    "FloatedNotice",
    "Interface",
    "KeyState",
    "KeySwapNotice",
    "Link",
    "LinkWatch",
    "Notice",
    "Overrun",
    "PeerAttributes",
    "PeerState",
    "PeerTracker",
    "Told",
    "create_link",
    "delete_link",
    "find_family",
    "find_link",
    "probe",
    "set_alias",
]
