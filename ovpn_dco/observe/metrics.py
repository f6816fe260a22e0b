"""Which metrics there are: name, kind, labels, meaning, and what they are read from."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from ..device import Device
    from ..model import DeviceStats, StatsTable
    from ..server.server import ServerStats

__all__ = ["DEVICE", "PEER", "SERVER", "DeviceReading", "Metric"]

_Source = TypeVar("_Source")

Sample = tuple[Any, ...]
"""Label values, and what `add_metric` of the kind's family takes behind them."""


@dataclass(frozen=True)
class DeviceReading:
    """A device at one moment. `series` are peers that have series of their own: row to id."""

    device: Device
    stats: DeviceStats
    peers: StatsTable
    series: Mapping[int, int]

    @classmethod
    def of(cls, device: Device, peer_series_max: int) -> DeviceReading:
        """With series for so many peers at most, those of the lowest ids. DeviceClosed."""
        stats, peers = device.stats(), device.stats_table()
        ids = peers["id"] if peer_series_max else ()
        rows = heapq.nsmallest(peer_series_max, range(len(ids)), key=ids.__getitem__)
        return cls(device, stats, peers, {row: ids[row] for row in rows})


@dataclass(frozen=True)
class Metric(Generic[_Source]):
    """One family of samples. `name` is without the suffix that its kind has on the wire."""

    kind: str
    name: str
    text: str
    read: Callable[[_Source], Iterable[Sample]] = field(repr=False)
    labels: tuple[str, ...] = ()

    @property
    def wire_name(self) -> str:
        """As Prometheus shows it; a histogram has more suffixes."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


def _metric(
    kind: str,
    name: str,
    text: str,
    read: Callable[[Any], Iterable[Sample]],
    *labels: str,
) -> Metric[Any]:
    return Metric(kind, f"ovpn_dco_{name}", text, read, labels)


def _single(name: str, source: Any) -> Iterator[Sample]:
    yield (), getattr(source, name)


# Of a device. Names are those of `DeviceStats`.

_COUNTERS = {
    "tun_reads": "System calls that read from the interface.",
    "tun_read_packets": "Packets of those reads: of a super-packet all that it becomes.",
    "tun_writes": "System calls that wrote to the interface.",
    "tun_write_packets": "Packets of those writes: of a super-packet all that it was.",
    "udp_sends": "System calls that sent datagrams.",
    "udp_send_messages": "Messages of those calls; one holds datagrams of one size to one place.",
    "udp_send_packets": "Datagrams that were sent.",
    "udp_receives": "System calls that received datagrams.",
    "udp_receive_messages": "Messages of those calls; one holds datagrams from one place.",
    "udp_receive_packets": "Datagrams that were received.",
    "tcp_sends": "System calls that wrote to connections.",
    "tcp_send_packets": "Frames that were written to connections.",
    "tcp_receives": "System calls that read from connections.",
    "tcp_receive_packets": "Frames that were read from connections.",
    "control_packets": "Packets that went up to the control channel.",
    "peer_messages": "Messages inside the data channel that were sent, or dropped.",
    "forwarded_packets": "Packets that went from peer to peer without the interface.",
    "forwarded_bytes": "Bytes of packets that went from peer to peer without the interface.",
    "group_packets": "Packets of the interface for multicast or broadcast.",
    "replicated_packets": "Copies that were to be made of packets for multicast or broadcast.",
    "handed_to_seal": "Packets that another worker than the peer's own read from the interface.",
    "handed_to_open": "Packets that another worker than the peer's own received.",
    "mss_lowered": "SYNs of TCP inside the tunnel whose MSS was lowered.",
    "packets_fragmented": "Inner packets that left in several datagrams.",
    "icmp_errors_written": "ICMP errors of the device into its interface.",
    "wakeups": "Times that a thread of the engine woke up.",
    "gso_fallbacks": "Sends that went on without UDP segmentation offload.",
    "gro_fallbacks": "Writes that went on without coalescing.",
    "send_retries": "Sends that were tried again.",
    "oversize_sends": "Sends that were too big for their path.",
}

_GAUGES = {
    "peers": "Peers that there are.",
    "transports": "Sockets and connections that are attached.",
    "retired": "Objects that wait until no thread can still see them.",
}


def _drops(reading: DeviceReading) -> Iterator[Sample]:
    for reason, count in reading.stats.drops.items():
        yield (reason.name.lower(),), count


def _batches(name: str, reading: DeviceReading) -> Iterator[Sample]:
    """Sizes 1, 2-3, 4-7, ... are counted, so a bound is just below a power of two. Nobody adds
    the sizes up: there is no sum."""
    counts = getattr(reading.stats, name)
    bounds = [str(float((2 << n) - 1)) for n in range(len(counts) - 1)] + ["+Inf"]
    yield (), list(zip(bounds, itertools.accumulate(counts), strict=True)), None


def _offloads(name: str, reading: DeviceReading) -> Iterator[Sample]:
    offloads = reading.stats.offloads
    there = getattr(offloads, name).names
    for offload in type(offloads.allowed).ALL.names:
        yield (offload,), int(offload in there)


def _info(reading: DeviceReading) -> Iterator[Sample]:
    device = reading.device
    yield (device.name, device.backend, device.mode.name.lower()), {}


_OF_PEERS = {
    "link_rx_bytes": "Bytes of data packets from {}, before they are authenticated.",
    "link_rx_packets": "Data packets from {}, before they are authenticated.",
    "link_tx_bytes": "Bytes of data packets to {}.",
    "link_tx_packets": "Data packets to {}.",
    "vpn_rx_bytes": "Bytes of inner packets of {} that were delivered.",
    "vpn_rx_packets": "Inner packets of {} that were delivered.",
    "vpn_tx_bytes": "Bytes of inner packets that were sealed for {}.",
    "vpn_tx_packets": "Inner packets that were sealed for {}.",
}
"""Columns of `StatsTable`, for all peers and for each."""


def _sum(column: str, reading: DeviceReading) -> Iterator[Sample]:
    yield (), sum(reading.peers[column])


def _stats(name: str, reading: DeviceReading) -> Iterator[Sample]:
    return _single(name, reading.stats)


DEVICE: tuple[Metric[DeviceReading], ...] = (
    _metric("info", "device", "What the device is.", _info, "device", "backend", "mode"),
    *(_metric("counter", name, text, partial(_stats, name)) for name, text in _COUNTERS.items()),
    _metric("counter", "drops", "Packets that were dropped.", _drops, "reason"),
    *(
        _metric(
            "histogram",
            f"{way}_batch_packets",
            f"{what} at one time.",
            partial(_batches, f"{way}_batches"),
        )
        for way, what in (
            ("tx", "Packets read from the interface"),
            ("rx", "Datagrams or frames received"),
        )
    ),
    *(_metric("gauge", name, text, partial(_stats, name)) for name, text in _GAUGES.items()),
    *(
        _metric("gauge", f"offload_{name}", text, partial(_offloads, name), "offload")
        for name, text in (
            ("allowed", "1 for an offload that may be used."),
            ("active", "1 for an offload that is in effect."),
        )
    ),
    # Sums over those who are there fall when one of them goes, so they are no counters.
    *(
        _metric(
            "gauge",
            f"peers_{column}",
            text.format("the peers that there are now"),
            partial(_sum, column),
        )
        for column, text in _OF_PEERS.items()
    ),
)

# Of each peer, where that was asked for.


def _each(column: str, reading: DeviceReading) -> Iterator[Sample]:
    values = reading.peers[column]
    for row, peer_id in reading.series.items():
        yield (str(peer_id),), values[row]


def _left_out(reading: DeviceReading) -> Iterator[Sample]:
    yield (), reading.peers.peers - len(reading.series)


PEER: tuple[Metric[DeviceReading], ...] = (
    *(
        _metric(
            "counter", f"peer_{column}", text.format("the peer"), partial(_each, column), "peer"
        )
        for column, text in _OF_PEERS.items()
    ),
    _metric("gauge", "peers_left_out", "Peers beyond the maximum, without series.", _left_out),
)

# Of a server.


def _counted(name: str, stats: ServerStats) -> Iterator[Sample]:
    for label, count in sorted(getattr(stats, name).items()):
        yield (label,), count


SERVER: tuple[Metric[ServerStats], ...] = (
    *(
        _metric(kind, f"server_{name}", text, partial(_single, name))
        for kind, name, text in (
            ("gauge", "connected", "Clients that are connected."),
            ("gauge", "negotiating", "Sessions that never had a peer yet."),
            ("counter", "accepted", "Sessions that were begun."),
        )
    ),
    *(
        _metric("counter", f"server_{name}", text, partial(_counted, name), label)
        for name, text, label in (
            ("refusals", "Control packets that were dropped.", "reason"),
            ("send_failures", "Control packets that a socket refused.", "error"),
        )
    ),
)
