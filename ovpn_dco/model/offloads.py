"""What an engine may use, and what a back end can do."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Offload(enum.Flag):
    """What the userspace engine may use; each is probed, and degrades by itself."""

    NONE = 0
    TUN_VNET = 1 << 0
    TUN_TSO = 1 << 1
    TUN_USO = 1 << 2
    TUN_TCP_GRO = 1 << 3
    TUN_UDP_GRO = 1 << 4
    UDP_GSO = 1 << 5
    UDP_GRO = 1 << 6
    UDP_BATCH = 1 << 7
    UDP_SIBLINGS = 1 << 8
    UDP_STEERING = 1 << 9
    VAES_GCM = 1 << 10
    """AES-GCM by code of our own for processors with VAES, instead of OpenSSL's. It applies to
    keys installed from then on; a key that is installed keeps what it has."""
    ALL = (1 << 11) - 1

    @property
    def names(self) -> tuple[str, ...]:
        """The single offloads of the set, as `parse` takes them."""
        return tuple(item.name.lower() for item in _SINGLE_OFFLOADS if item in self and item.name)


_SINGLE_OFFLOADS = tuple(Offload(1 << bit) for bit in range(11))


@dataclass(frozen=True)
class Offloads:
    """What is allowed, and what of it is in effect on this kernel and these descriptors."""

    allowed: Offload
    active: Offload

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {'on' if Offload[name.upper()] in self.active else 'off'}"
            + ("" if Offload[name.upper()] in self.allowed else " (disabled)")
            for name in Offload.ALL.names
        )


class Feature(enum.Enum):
    """What a caller may require of a back end."""

    UDP = "UDP transports"
    TCP = "TCP transports"
    EPOCH_KEYS = "epoch data keys"
    IROUTES = "routes to networks behind a peer"
    SOURCE_CHECK_OFF = "switching the source check off"
    SOURCE_CHECK_LOOSE = "a loose source check, and one for each peer"
    PEER_MESSAGES = "messages of peers inside the data channel"
    FORWARDING = "packets from peer to peer inside the device"
    MULTICAST = "multicast and broadcast for all peers"
    RATE_LIMIT = "a rate limit for each peer"
    ECN = "explicit congestion notification through the tunnel"
    DSCP = "outer headers with the DSCP of the inner ones"
    TRACE = "traces of packets"
    LIMITS = "limits of time, bytes and packets for each peer"
    MSS_CLAMP = "lowering the MSS of TCP inside the tunnel"
    PATH_MTU = "path MTUs of peers, and ICMP for what does not fit"
    ASYMMETRIC_IDS = "another id in packets to a peer than in packets from it"
    PACKET_DESCRIPTOR = "packets by a descriptor instead of an interface of its own"
    UNPRIVILEGED = "going on after privileges were dropped"
    HANDING_OVER = "handing peers, keys and sockets over to another device"
    ICMP_UNREACHABLE = "ICMP for packets that no peer is to get"
