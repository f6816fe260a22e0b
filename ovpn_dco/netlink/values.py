"""What goes into and comes out of the driver, as values. Integers are in host order, sizes in
bytes, addresses as in `ovpn_dco.model`. None: absent, in a request left as it is."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ..model import Address, DeleteReason, KeySlot, PeerStats


class Algorithm(enum.IntEnum):
    """OVPN_CIPHER_ALG: what the driver calls a cipher. The size of the key tells the AES ones
    apart; the driver parses NONE and refuses it."""

    NONE = 0
    AES_GCM = 1
    CHACHA20_POLY1305 = 2


@dataclass(frozen=True, kw_only=True)
class PeerAttributes:
    """Of a peer that is to be added or changed.

    `socket` is a descriptor of this process, for a new peer only. `local` is the source address
    to prefer, and goes with a `remote` of its family; the two are for UDP. VPN addresses are for
    MULTIPEER. The keepalive times come as a pair; 0 is off. `tx_id` is what packets that are sent
    carry, `peer_id` unless given; older drivers refuse it."""

    peer_id: int
    socket: int | None = None
    remote: Address | None = None
    local: str | None = None
    vpn_ipv4: str | None = None
    vpn_ipv6: str | None = None
    keepalive_interval_s: int | None = None
    keepalive_timeout_s: int | None = None
    tx_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class PeerState:
    """A peer as the driver knows it. Over TCP there is no `remote`, and of `local` the port alone.

    `local` is the address that the peer last talked to. `socket_netnsid` is given where the socket
    is of another namespace than the interface: a number of the interface's namespace, -1 for one
    that has none. `tx_id` is None where the driver knows no such thing. The driver fills the `link`
    and `vpn` counters alone."""

    peer_id: int
    tx_id: int | None = None
    remote: Address | None = None
    local: str | None = None
    local_port: int | None = None
    socket_netnsid: int | None = None
    vpn_ipv4: str | None = None
    vpn_ipv6: str | None = None
    keepalive_interval_s: int = 0
    keepalive_timeout_s: int = 0
    stats: PeerStats = field(default_factory=PeerStats)


@dataclass(frozen=True, kw_only=True)
class KeyState:
    """A key that is installed; nothing tells its material."""

    peer_id: int
    slot: KeySlot
    key_id: int
    algorithm: Algorithm


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something happened to a peer of the interface with this number."""

    ifindex: int
    peer_id: int


@dataclass(frozen=True, kw_only=True)
class DeletedNotice(Notice):
    """OVPN_CMD_PEER_DEL_NTF: a peer went. `reason` is None where the notification was lost and
    nothing else tells why."""

    reason: DeleteReason | None


@dataclass(frozen=True, kw_only=True)
class FloatedNotice(Notice):
    """OVPN_CMD_PEER_FLOAT_NTF: an authenticated packet came from another address, which is the
    endpoint from now on."""

    remote: Address


@dataclass(frozen=True, kw_only=True)
class KeySwapNotice(Notice):
    """OVPN_CMD_KEY_SWAP_NTF: the packet ids of this key are used up, and the driver has removed
    it."""

    key_id: int


@dataclass(frozen=True)
class Overrun:
    """Notifications are lost: the socket had no room, or what came could not be read."""
