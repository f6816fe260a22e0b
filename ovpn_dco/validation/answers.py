"""What only the engine can know, such as an id in use: words for its errno."""

from __future__ import annotations

import errno

from ..errors import DcoError, error_for
from .rules import refuse

# What the engine tells apart with an errno of its own, and the kernel answers alike.
SAME: dict[int, int] = {errno.EISCONN: errno.EINVAL, errno.ENOTCONN: errno.EINVAL}

# (command, errno) to (attribute, message).
ANSWERS: dict[tuple[str, int], tuple[str, str]] = {
    ("add_peer", errno.EEXIST): ("peer_id", "is in use by another peer"),
    ("add_peer", errno.EADDRINUSE): ("vpn_ipv4", "or vpn_ipv6 is owned by another peer"),
    ("add_peer", errno.ENOTSOCK): ("transport", "is closed"),
    ("add_peer", errno.EAFNOSUPPORT): ("remote", "is of a family that the socket cannot reach"),
    ("add_peer", errno.EISCONN): ("remote", "and local are the connection's on a TCP transport"),
    ("add_peer", errno.EBUSY): ("transport", "is a TCP connection that has a peer already"),
    ("add_peer", errno.ENOSPC): ("max_peers", "is reached"),
    ("add_peer", errno.ENOBUFS): (
        "max_peers",
        "is reached by PeerDeleted events that nobody has read",
    ),
    ("set_peer", errno.ENOENT): ("peer_id", "names no peer, or one that was deleted"),
    ("set_peer", errno.EADDRINUSE): ("vpn_ipv4", "or vpn_ipv6 is owned by another peer"),
    ("set_peer", errno.EINVAL): (
        "vpn_ipv4",
        "and vpn_ipv6 cannot both be cleared: in MULTIPEER mode a peer needs an address",
    ),
    ("set_peer", errno.EISCONN): ("remote", "of a peer on a TCP transport is the connection's"),
    ("set_peer", errno.EAFNOSUPPORT): ("remote", "is of a family that the socket cannot reach"),
    ("delete_peer", errno.ENOENT): ("peer_id", "names no peer, or one that was deleted"),
    ("send_message", errno.ENOENT): ("peer_id", "names no peer, or one that was deleted"),
    ("send_message", errno.ENOKEY): ("data", "cannot be sealed: the peer has no primary key"),
    ("send_message", errno.EAGAIN): ("data", "has no room: too many messages are on their way"),
    ("query_peer", errno.ENOENT): ("peer_id", "names no peer, or one that was deleted"),
    ("install_key", errno.ENOENT): ("peer_id", "names no peer, or one that was deleted"),
    ("install_key", errno.EINVAL): ("key_id", "is the id of the key in the other slot"),
    ("swap_keys", errno.ENOENT): ("peer_id", "names no peer, or one that was deleted"),
    ("delete_key", errno.ENOENT): ("peer_id", "names no peer, or one that was deleted"),
    ("query_key", errno.ENOENT): ("slot", "holds no key, or the peer was deleted"),
    ("add_route", errno.ENOENT): ("peer", "was deleted"),
    ("add_route", errno.EEXIST): ("prefix", "is routed to a peer already"),
    ("add_route", errno.EADDRINUSE): ("prefix", "is the address of a peer"),
    ("add_route", errno.EINVAL): ("prefix", "cannot be routed: P2P mode has no routes"),
    ("delete_route", errno.ENOENT): ("prefix", "is not routed"),
    ("lookup_route", errno.ENOENT): ("address", "belongs to no peer"),
    ("attach_udp", errno.ENOTSOCK): ("sock", "is not a socket"),
    ("attach_udp", errno.EAFNOSUPPORT): ("sock", "must be an IPv4 or IPv6 socket"),
    ("attach_udp", errno.EPROTONOSUPPORT): ("sock", "must be a UDP socket"),
    ("attach_udp", errno.EDESTADDRREQ): ("sock", "must be bound to a port"),
    ("attach_udp", errno.EMFILE): ("sock", "is more than the device, or the process, can hold"),
    ("attach_tcp", errno.ENOTSOCK): ("sock", "is not a socket"),
    ("attach_tcp", errno.EAFNOSUPPORT): ("sock", "must be an IPv4 or IPv6 socket"),
    ("attach_tcp", errno.EPROTONOSUPPORT): ("sock", "must be a TCP socket"),
    ("attach_tcp", errno.ENOTCONN): ("sock", "must be connected, and stay so"),
    ("attach_tcp", errno.EINVAL): ("sock", "listens: give it to listen_tcp"),
    ("attach_tcp", errno.EBUSY): ("sock", "belongs to another protocol, such as kernel TLS"),
    ("attach_tcp", errno.EMFILE): ("sock", "is more than the device, or the process, can hold"),
    ("listen_tcp", errno.ENOTSOCK): ("sock", "is not a socket"),
    ("listen_tcp", errno.EAFNOSUPPORT): ("sock", "must be an IPv4 or IPv6 socket"),
    ("listen_tcp", errno.EPROTONOSUPPORT): ("sock", "must be a TCP socket"),
    ("listen_tcp", errno.EINVAL): ("sock", "must listen"),
    ("listen_tcp", errno.EMFILE): ("sock", "is more than the device, or the process, can hold"),
    ("halt", errno.EINVAL): ("device", "does not run"),
    ("restore", errno.EINVAL): ("restore", "does not fit the descriptors, or is damaged"),
    ("restore", errno.ERANGE): (
        "restore",
        "has more sockets for one port than workers",
    ),
    ("restore", errno.EEXIST): ("restore", "is damaged: a peer stands in it twice"),
    ("restore", errno.EADDRINUSE): ("restore", "is damaged: an address has two owners"),
    ("restore", errno.EPROTONOSUPPORT): ("descriptors", "are in another order than in the state"),
    ("restore", errno.ENOTSOCK): ("descriptors", "are in another order than in the state"),
    ("restore", errno.EBADF): ("descriptors", "hold one that is not open"),
    ("restore", errno.ENOTCONN): ("descriptors", "hold a connection that has ended"),
    ("trace", errno.ENOMEM): ("buffer_bytes", "are more than there is memory for"),
    ("trace", errno.EBUSY): ("trace", "is going on already: a device has one at a time"),
    ("trace_stop", errno.ENOENT): ("trace", "is over already"),
    ("detach", errno.ENOENT): ("transport", "is closed"),
    ("detach", errno.ENOTSOCK): ("transport", "is closed"),
    ("send_control", errno.ENOENT): ("transport", "is closed"),
    ("send_control", errno.ENOTSOCK): ("transport", "is closed"),
    ("send_control", errno.EMSGSIZE): ("data", "is larger than the transport carries"),
    ("send_control", errno.EINVAL): ("data", "is empty, which a TCP frame cannot be"),
    ("send_control", errno.EOPNOTSUPP): ("transport", "listens: it sends nothing"),
    ("send_control", errno.EPIPE): ("transport", "has failed"),
    ("send_control", errno.EAGAIN): (
        "data",
        "was not sent: too much waits, or the client of a connection has not spoken first",
    ),
    ("send_control", errno.EAFNOSUPPORT): ("remote", "is of a family that the socket cannot reach"),
    ("query_transport", errno.ENOENT): ("transport", "is closed"),
    ("query_transport", errno.ENOTSOCK): ("transport", "is closed"),
    ("adopt_tun", errno.EPROTOTYPE): ("tun_fd", "is a TAP: Ethernet frames cannot be carried"),
    ("adopt_tun", errno.EPROTO): ("tun_fd", "is a TUN with odd headers"),
    ("adopt_tun", errno.EBADFD): ("tun_fd", "is a TUN that is attached to no interface"),
    ("adopt_tun", errno.EINVAL): ("tun_fd", "gives no packets: a file or directory"),
    ("adopt_tun", errno.EXDEV): ("tun_fd", "names queues that are not of one interface"),
    ("open_tun", errno.EBUSY): ("name", "is an interface that exists already"),
    ("open_tun", errno.EEXIST): ("name", "is an interface that exists already"),
    ("open_tun", errno.EINVAL): ("name", "is an interface that exists already and is no TUN"),
    ("open_persistent", errno.EBUSY): ("name", "is an interface that another program has open"),
    ("open_persistent", errno.EINVAL): (
        "name",
        "is an interface that exists already and is no TUN with one queue",
    ),
    ("set_persistent", errno.ENODEV): ("persist", "cannot be set: the interface was deleted"),
    ("set_persistent", errno.EINVAL): (
        "persist",
        "is for interfaces that are opened by name: of tun_fd its owner decides",
    ),
}


def answer(command: str, number: int, text: str) -> DcoError:
    """The exception for what the engine answered to `command`."""
    attribute, message = ANSWERS.get((command, number), ("", ""))
    if not attribute:
        return error_for(number, f"{command}: {text}")
    return refuse(SAME.get(number, number), attribute, message)
