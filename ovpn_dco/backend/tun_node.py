"""The device node that TUN interfaces come from, and why it gives none."""

from __future__ import annotations

import errno
import os
import stat

from ..errors import DcoError, error_for

TUN_NODE = "/dev/net/tun"


def describe_tun_node(error: OSError, path: str = TUN_NODE) -> DcoError:
    """Why no TUN could be opened: names the node with its mode and owner, or what is missing."""
    number = error.errno or errno.EIO
    try:
        status = os.stat(path)
    except OSError as missing:
        text = f"{path} is not there ({missing.strerror}): load the tun module, or bind the node in"
        return error_for(missing.errno or number, text)
    node = f"{path} (mode {stat.filemode(status.st_mode)}, owner {status.st_uid}:{status.st_gid})"
    if not os.access(path, os.R_OK | os.W_OK):
        return error_for(
            errno.EACCES, f"{node} cannot be opened by user {os.geteuid()}: it needs read and write"
        )
    if number in (errno.EPERM, errno.EACCES):
        text = f"{node} opens, but making an interface needs CAP_NET_ADMIN over the namespace"
        return error_for(number, text)
    return error_for(number, f"{node} cannot make an interface: {error.strerror}")
