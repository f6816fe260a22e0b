"""What is known of peers, devices and transports at one moment. Sizes are bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .kinds import Address, DropReason, SourceCheck, TransportKind
from .offloads import Offload, Offloads
from .settings import Marking, MssClamp, Multicast, PathLimit, PeerLimits, RateLimit


@dataclass(frozen=True)
class PeerStats:
    """Counters of a peer since it was added.

    link: DATA_V2 packets as on the wire without IP and UDP headers, received ones before they are
    authenticated. vpn: inner packets that were delivered or sealed; a super-packet counts as the
    packets that it becomes. The errors are those of the Linux driver's error list, but for
    `tx_rate_limited` and `rx_rate_limited`, packets beyond a rate limit. `rx_dropped` and
    `tx_dropped` are packets that were lost for any reason, those of the other counters included,
    but for what found its worker too busy. A keepalive that is due
    and cannot be sealed counts as any other packet: without a key as `tx_no_key`."""

    link_rx_bytes: int = 0
    link_rx_packets: int = 0
    link_tx_bytes: int = 0
    link_tx_packets: int = 0
    vpn_rx_bytes: int = 0
    vpn_rx_packets: int = 0
    vpn_tx_bytes: int = 0
    vpn_tx_packets: int = 0
    rx_decrypt_errors: int = 0
    rx_replay_errors: int = 0
    rx_unknown_key_id: int = 0
    rx_unsupported_protocol: int = 0
    rx_source_errors: int = 0
    rx_forward_denied: int = 0
    rx_rate_limited: int = 0
    rx_dropped: int = 0
    tx_encrypt_errors: int = 0
    tx_iv_exhausted: int = 0
    tx_no_key: int = 0
    tx_no_transport: int = 0
    tx_gso_errors: int = 0
    tx_rate_limited: int = 0
    tx_dropped: int = 0
    keepalive_rx: int = 0
    keepalive_tx: int = 0
    messages_tx: int = 0
    float_count: int = 0
    link_errors: int = 0


@dataclass(frozen=True)
class PeerInfo:
    """A peer as it stands. Times are seconds ago, None: never.

    `path_mtu` is what the path carries, bytes from the outer IP header on, as far as that was set
    or learned; `mss` what TCP over IPv4 is told at most, and 20 less over IPv6. None: nothing."""

    peer_id: int
    generation: int
    tx_id: int
    transport_id: int
    remote: Address | None
    local: Address | None
    vpn_ipv4: str | None
    vpn_ipv6: str | None
    keepalive_interval_s: int
    keepalive_timeout_s: int
    last_received_s: float | None
    last_sent_s: float | None
    stats: PeerStats
    rate_limit: RateLimit
    limits: PeerLimits
    source_check: SourceCheck
    marking: Marking
    mss_clamp: MssClamp
    path_limit: PathLimit
    path_mtu: int | None
    mss: int | None
    multicast: Multicast


@dataclass(frozen=True)
class DeviceStats:
    """Counters of the device: system calls and what they carried, drops by reason, batch sizes.

    `tx_batches` and `rx_batches` count batches by powers of two: 1, 2-3, 4-7, ... packets.
    `peer_messages` are those of `Peer.send_message` that are sent by now, or dropped.
    `forwarded_packets` and `forwarded_bytes` went from peer to peer without the interface.
    `group_packets` are those of the interface that were for multicast or broadcast,
    `replicated_packets` the copies that were to be made of them and of such from peers.
    `handed_to_seal` and `handed_to_open` are packets that another worker than the peer's own read.
    `mss_lowered` are SYNs, `packets_fragmented` inner packets that left in several datagrams, and
    `icmp_errors_written` answers of the device into its interface.
    `retired` is how many objects wait until no thread can still see them."""

    tun_reads: int
    tun_read_packets: int
    tun_writes: int
    tun_write_packets: int
    udp_sends: int
    udp_send_messages: int
    udp_send_packets: int
    udp_receives: int
    udp_receive_messages: int
    udp_receive_packets: int
    control_packets: int
    wakeups: int
    gso_fallbacks: int
    gro_fallbacks: int
    send_retries: int
    oversize_sends: int
    handed_to_seal: int
    handed_to_open: int
    mss_lowered: int
    packets_fragmented: int
    icmp_errors_written: int
    forwarded_packets: int
    forwarded_bytes: int
    group_packets: int
    replicated_packets: int
    tcp_sends: int
    tcp_send_packets: int
    tcp_receives: int
    tcp_receive_packets: int
    peer_messages: int
    drops: Mapping[DropReason, int]
    tx_batches: tuple[int, ...]
    rx_batches: tuple[int, ...]
    peers: int
    transports: int
    retired: int
    offloads: Offloads

    @property
    def packets_per_send(self) -> float:
        """Datagrams per `sendmmsg`; 0 before the first."""
        return self.udp_send_packets / self.udp_sends if self.udp_sends else 0.0

    @property
    def packets_per_receive(self) -> float:
        """Datagrams per `recvmmsg`; 0 before the first."""
        return self.udp_receive_packets / self.udp_receives if self.udp_receives else 0.0


class StatsTable(Mapping[str, "memoryview[int]"]):
    """Counters of all peers at one time: column name to unsigned 64-bit values, one per peer.

    The columns are `id`, `generation`, those of `PeerStats`, and `last_received_ns` and
    `last_sent_ns` of the boot-time clock (0: never). `buffer` holds them one after the other."""

    def __init__(self, columns: tuple[str, ...], peers: int, buffer: bytearray) -> None:
        self.columns = columns
        self.peers = peers
        self.buffer = buffer

    def __getitem__(self, column: str) -> memoryview[int]:
        try:
            start = self.columns.index(column) * self.peers * 8
        except ValueError:
            raise KeyError(column) from None
        return memoryview(self.buffer)[start : start + self.peers * 8].cast("Q")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


@dataclass(frozen=True)
class TransportInfo:
    """A transport as it stands: buffer sizes and offloads are those in effect.

    `sockets` is 1, or of a UDP transport of several workers one for each, bound to the same port.
    `remote` and `waiting`, bytes that the socket has not taken yet, are those of a TCP connection.
    A listener has `trials`, connections that wait for a peer, and counts those that it `accepted`,
    `refused` for want of room, and gave up when their time had `expired`."""

    kind: TransportKind
    sockets: int
    local: Address | None
    remote: Address | None
    send_buffer: int
    receive_buffer: int
    offloads: Offload
    peers: int
    receive_overflows: int
    icmp_errors: int
    waiting: int
    trials: int
    accepted: int
    refused: int
    expired: int
    failed: bool
