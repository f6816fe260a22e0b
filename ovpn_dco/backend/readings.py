"""What the compiled core says, tuples of numbers and bytes, as values of the model."""

from __future__ import annotations

import socket
import types
from collections.abc import Callable
from typing import Any

from ..model import (
    Address,
    Cipher,
    ControlPacket,
    ControlTransport,
    DeleteReason,
    DeviceStats,
    DropReason,
    InterfaceGone,
    KeyInfo,
    KeySwapNeeded,
    KeySwapReason,
    Limit,
    Marking,
    MssClamp,
    Multicast,
    Offload,
    Offloads,
    PathLimit,
    PeerDeleted,
    PeerFloated,
    PeerFloatRefused,
    PeerInfo,
    PeerLimitReached,
    PeerLimits,
    PeerSetting,
    PeerStats,
    RateLimit,
    SourceCheck,
    TracePoint,
    TraceRecord,
    TransportFailed,
    TransportInfo,
    TransportKind,
)

# By their names in the core, which are those in `PeerInfo`.
SETTINGS: dict[str, tuple[type[PeerSetting], Callable[..., PeerSetting]]] = {
    "rate_limit": (RateLimit, RateLimit),
    "source_check": (SourceCheck, lambda number: list(SourceCheck)[number]),
    "marking": (Marking, Marking.numbered),
    "limits": (PeerLimits, PeerLimits),
    "mss_clamp": (MssClamp, MssClamp.numbered),
    "path_limit": (PathLimit, PathLimit),
    "multicast": (Multicast, Multicast),
}
_NAMES = {kind: name for name, (kind, _) in SETTINGS.items()}

_EPOCH_ID = 2  # DCO_TRACE_EPOCH_ID
_EPOCH_COUNTER = (1 << 48) - 1

Raw = tuple[Any, ...]


def address(raw: tuple[bytes, int, int] | None) -> Address | None:
    """A socket address."""
    if raw is None:
        return None
    ip, port, scope = raw
    if len(ip) == 4:
        return socket.inet_ntop(socket.AF_INET, ip), port
    return socket.inet_ntop(socket.AF_INET6, ip), port, 0, scope


def _host(ip: bytes) -> str | None:
    if not any(ip):
        return None
    return socket.inet_ntop(socket.AF_INET if len(ip) == 4 else socket.AF_INET6, ip)


def _ago(then_ns: int, now_ns: int) -> float | None:
    return max(now_ns - then_ns, 0) / 1e9 if then_ns else None


# Events


def _peer_of(raw: Raw) -> dict[str, Any]:
    return {"sequence": raw[1], "peer_id": raw[2], "generation": raw[3]}


def _place_of(raw: Raw) -> dict[str, Any]:
    return {"remote": address(raw[4]), "local": address(raw[5])}


def peer_deleted(counters: tuple[str, ...]) -> Callable[[Raw], PeerDeleted]:
    """The reader of these events, where the last counters stand in this order."""
    return lambda raw: PeerDeleted(
        **_peer_of(raw), reason=DeleteReason(raw[7]), stats=_peer_stats(counters, raw[8])
    )


def peer_floated(raw: Raw) -> PeerFloated:
    """The peer has moved."""
    return PeerFloated(**_peer_of(raw), **_place_of(raw))


def peer_float_refused(raw: Raw) -> PeerFloatRefused:
    """It would have, onto another peer's address."""
    return PeerFloatRefused(**_peer_of(raw), **_place_of(raw))


def key_soon(raw: Raw) -> KeySwapNeeded:
    """A key wears out."""
    return KeySwapNeeded(**_peer_of(raw), key_id=raw[6], reason=KeySwapReason.SOON)


def key_exhausted(raw: Raw) -> KeySwapNeeded:
    """A key has worn out."""
    return KeySwapNeeded(**_peer_of(raw), key_id=raw[6], reason=KeySwapReason.EXHAUSTED)


def limit_reached(raw: Raw) -> PeerLimitReached:
    """One limit or several."""
    return PeerLimitReached(**_peer_of(raw), limits=Limit(raw[11]))


def transport_failed(raw: Raw) -> TransportFailed:
    """Of which the device knows the object."""
    return TransportFailed(sequence=raw[1], transport=None, errno=raw[10])


def interface_gone(raw: Raw) -> InterfaceGone:
    """The inner side."""
    return InterfaceGone(sequence=raw[1], errno=raw[10])


def control_packet(raw: Raw, transport: ControlTransport | None) -> ControlPacket:
    """A packet of the control port."""
    sequence, _, peer_id, remote, local, data = raw
    return ControlPacket(
        data=data,
        transport=transport,
        remote=address(remote),
        local=address(local),
        peer_id=None if peer_id < 0 else peer_id,
        sequence=sequence,
    )


# Peers


def _peer_stats(counters: tuple[str, ...], values: tuple[int, ...]) -> PeerStats:
    return PeerStats(**dict(zip(counters, values, strict=True)))


def peer_info(counters: tuple[str, ...], raw: Raw) -> PeerInfo:
    """A peer as it is; `counters` are the names of its statistics in their order."""
    peer_id, generation, tx_id, transport, remote, local, ipv4, ipv6 = raw[:8]
    interval_s, timeout_s, stats, received_ns, sent_ns, now_ns = raw[8:14]
    settings, path_mtu, mss = raw[14:]
    features: dict[str, Any] = {n: read(*settings[n]) for n, (_, read) in SETTINGS.items()}
    return PeerInfo(
        peer_id=peer_id,
        generation=generation,
        tx_id=tx_id,
        transport_id=transport,
        remote=address(remote),
        local=address(local),
        vpn_ipv4=_host(ipv4),
        vpn_ipv6=_host(ipv6),
        keepalive_interval_s=interval_s,
        keepalive_timeout_s=timeout_s,
        last_received_s=_ago(received_ns, now_ns),
        last_sent_s=_ago(sent_ns, now_ns),
        stats=_peer_stats(counters, stats),
        path_mtu=path_mtu or None,
        mss=mss or None,
        **features,
    )


def numbers_of(setting: PeerSetting) -> dict[str, tuple[int | None, ...]]:
    """A setting as the core takes it: its name, and its fields in their order."""
    if isinstance(setting, SourceCheck):
        return {_NAMES[SourceCheck]: (setting.number,)}
    return {_NAMES[type(setting)]: tuple(vars(setting).values())}


def key_info(raw: Raw) -> KeyInfo:
    """What is in a slot."""
    key_id, cipher, size, sealed, usage, send_epoch, receive_epoch, vaes_gcm = raw
    return KeyInfo(
        key_id=key_id,
        cipher=Cipher.find(cipher, size),
        packets_sealed=sealed,
        usage=usage,
        send_epoch=send_epoch or None,
        receive_epoch=receive_epoch or None,
        vaes_gcm=vaes_gcm,
    )


# Devices and transports


def device_stats(counters: tuple[str, ...], raw: Raw, offloads: Offloads) -> DeviceStats:
    """Counters of a device, named in their order."""
    values, drops, tx_batches, rx_batches, peers, transports, retired = raw
    return DeviceStats(
        **dict(zip(counters, values, strict=True)),
        drops=types.MappingProxyType(dict(zip(DropReason, drops, strict=True))),
        tx_batches=tx_batches,
        rx_batches=rx_batches,
        peers=peers,
        transports=transports,
        retired=retired,
        offloads=offloads,
    )


def transport_info(raw: Raw) -> TransportInfo:
    """A socket, and what has come through it."""
    kind, sockets, local, remote, send_buffer, receive_buffer, offloads, peers = raw[:8]
    overflows, icmp_errors, waiting, trials, accepted, refused, expired, failed = raw[8:]
    return TransportInfo(
        kind=TransportKind(kind),
        sockets=sockets,
        local=address(local),
        remote=address(remote),
        send_buffer=send_buffer,
        receive_buffer=receive_buffer,
        offloads=Offload(offloads),
        peers=peers,
        receive_overflows=overflows,
        icmp_errors=icmp_errors,
        waiting=waiting,
        trials=trials,
        accepted=accepted,
        refused=refused,
        expired=expired,
        failed=failed,
    )


def trace_record(raw: Raw) -> TraceRecord:
    """One packet of a trace. An epoch is part of the packet id on the wire."""
    time_ns, point, drop, peer_id, generation, form, packet_id, key_id, stream, *rest = raw
    remote, local, size, packets, lost, data = rest
    epoch = packet_id >> 48 if form == _EPOCH_ID else None
    if epoch is not None:
        packet_id &= _EPOCH_COUNTER
    return TraceRecord(
        time_ns=time_ns,
        point=TracePoint(point),
        drop=DropReason(drop) if drop else None,
        peer=(peer_id, generation) if generation else None,
        key_id=key_id if form else None,
        epoch=epoch,
        packet_id=packet_id if form else None,
        stream=stream,
        remote=remote,
        local=local,
        size=size,
        packets=packets,
        lost=lost,
        data=data,
    )
