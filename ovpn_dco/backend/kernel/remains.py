"""What a killed process leaves behind: an interface of the driver, which is bound to nobody.

Every interface that is to go with its device is marked, and as long as the device lives so does a
name of a socket in the namespace of the interface, which goes with the process however it ends."""

from __future__ import annotations

import logging
import socket

from ... import netlink
from ...errors import DcoError

MARK = "of ovpn_dco, goes with its process"

_log = logging.getLogger("ovpn_dco.backend")


def mark(ifindex: int) -> None:
    """It may be removed once nobody lives who has it. In the interface's namespace, as all here."""
    netlink.set_alias(ifindex, MARK)


def unmark(ifindex: int) -> None:
    """It stays."""
    netlink.set_alias(ifindex, "")


def sign_of_life(ifindex: int) -> socket.socket:
    """To be kept open by whoever has the interface. OSError while somebody else has it."""
    sign = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sign.bind(f"\0ovpn_dco/interface/{ifindex}")
    except BaseException:
        sign.close()
        raise
    return sign


def remove(name: str) -> bool:
    """Removes an interface that nobody has any more. False: it is there, and is somebody's."""
    try:
        link = netlink.find_link(name)
        if link.alias != MARK:
            return False
        with sign_of_life(link.ifindex):
            netlink.delete_link(link.ifindex)
    except (DcoError, OSError):
        return False
    _log.info("%s: removed, which a killed process had left", name)
    return True
