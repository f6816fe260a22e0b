"""What the kernel's driver takes and says, as values of the model and back."""

from __future__ import annotations

import socket
import types
from array import array
from collections.abc import Sequence
from dataclasses import fields

from ...model import (
    Address,
    DeviceStats,
    DropReason,
    Ecn,
    Marking,
    MssClamp,
    Multicast,
    Offloads,
    PathLimit,
    PeerInfo,
    PeerLimits,
    PeerSetting,
    PeerStats,
    RateLimit,
    SourceCheck,
    StatsTable,
)
from ...netlink import PeerAttributes as DriverAttributes
from ...netlink import PeerState
from ...validation.rules import PeerAttributes, RawAddress
from ..base import PeerRef
from .peers import KernelPeer

IN_EFFECT: dict[str, PeerSetting] = {
    "rate_limit": RateLimit(),
    "limits": PeerLimits(),
    "source_check": SourceCheck.INHERIT,
    "marking": Marking(ecn=Ecn.OFF),
    "mss_clamp": MssClamp(),
    "path_limit": PathLimit(),
    "multicast": Multicast(received=False),
}
"""What holds for every peer of the driver, by the names in `PeerInfo`."""

LONGEST_S = 86_400
"""Of a keepalive's times, as Linux 7.3 takes them."""
_COUNTERS = tuple(one.name for one in fields(PeerStats))
_COLUMNS = ("id", "generation", *_COUNTERS, "last_received_ns", "last_sent_ns")
_SIZES = 8  # of the two tables of batch sizes


def peer_attributes(
    peer_id: int,
    attributes: PeerAttributes,
    *,
    socket: int | None = None,
    bound: bytes | None,
) -> DriverAttributes:
    """What PEER_NEW or PEER_SET is to say.

    `bound` is the one address of the socket: the driver does not look at it, and would send from
    whichever address the route prefers."""
    local, remote = attributes.local, attributes.remote
    interval_s, timeout_s = _keepalive(*attributes.keepalive or (None, None))
    if local is None and remote is not None and bound is not None:
        local = RawAddress(bound) if len(bound) == len(remote.ip) else None
    return DriverAttributes(
        peer_id=peer_id,
        socket=socket,
        remote=_address(remote) if remote else None,
        local=_host(local.ip) if local else None,
        vpn_ipv4=_host(attributes.vpn_ipv4),
        vpn_ipv6=_host(attributes.vpn_ipv6),
        keepalive_interval_s=interval_s,
        keepalive_timeout_s=timeout_s,
        tx_id=attributes.tx_id,
    )


def _keepalive(interval_s: int | None, timeout_s: int | None) -> tuple[int | None, int | None]:
    """The driver neither sends nor expires where one of the two times is 0: as late as can be
    stands for never."""
    if interval_s or timeout_s:
        return interval_s or LONGEST_S, timeout_s or LONGEST_S
    return interval_s, timeout_s


def _host(ip: bytes | None) -> str | None:
    if ip is None:
        return None
    return socket.inet_ntop(socket.AF_INET if len(ip) == 4 else socket.AF_INET6, ip)


def _address(raw: RawAddress) -> Address:
    host = _host(raw.ip) or ""
    return (host, raw.port) if len(raw.ip) == 4 else (host, raw.port, 0, raw.scope)


def local_of(state: PeerState) -> Address | None:
    """Our address that the peer talks to."""
    if state.local is None or state.local_port is None:
        return None
    port = state.local_port
    return (state.local, port, 0, 0) if ":" in state.local else (state.local, port)


def peer_info(peer: KernelPeer, state: PeerState, remote: Address | None) -> PeerInfo:
    """A peer as it is. When it was last heard of the driver does not tell."""
    return PeerInfo(
        peer_id=peer.peer_id,
        generation=peer.generation,
        tx_id=peer.tx_id if state.tx_id is None else state.tx_id,
        transport_id=peer.transport,
        remote=remote,
        local=local_of(state),
        vpn_ipv4=state.vpn_ipv4,
        vpn_ipv6=state.vpn_ipv6,
        keepalive_interval_s=peer.keepalive[0],
        keepalive_timeout_s=peer.keepalive[1],
        last_received_s=None,
        last_sent_s=None,
        stats=state.stats,
        path_mtu=None,
        mss=None,
        **IN_EFFECT,  # type: ignore[arg-type]
    )


def stats_table(rows: Sequence[tuple[PeerRef, PeerStats]]) -> StatsTable:
    """Counters of these peers."""
    columns = array("Q")
    for number in range(2):
        columns.extend(ref[number] for ref, _ in rows)
    for name in _COUNTERS:
        columns.extend(getattr(stats, name) for _, stats in rows)
    columns.extend([0] * (2 * len(rows)))
    return StatsTable(_COLUMNS, len(rows), bytearray(columns.tobytes()))


def device_stats(
    *, peers: int, transports: int, control_packets: int, offloads: Offloads
) -> DeviceStats:
    """What is counted here; packets and drops are counted by the interface (`ip -s link`)."""
    known = {
        "peers": peers,
        "transports": transports,
        "control_packets": control_packets,
        "offloads": offloads,
        "drops": types.MappingProxyType(dict.fromkeys(DropReason, 0)),
        "tx_batches": (0,) * _SIZES,
        "rx_batches": (0,) * _SIZES,
    }
    return DeviceStats(**{one.name: known.get(one.name, 0) for one in fields(DeviceStats)})  # type: ignore[arg-type]
