"""The compiled core. `dco.h` says what the calls mean; an address is (ip, port, scope) or None."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from .model import Buffer

_Address: TypeAlias = tuple[bytes, int, int]
_Counters: TypeAlias = tuple[int, ...]
_Packet: TypeAlias = tuple[int, int, int, _Address | None, _Address | None, bytes]
_Event: TypeAlias = tuple[
    int, int, int, int, _Address | None, _Address | None, int, int, _Counters, int, int, int
]
_Settings: TypeAlias = dict[str, tuple[int | None, ...]]
_Peer: TypeAlias = tuple[
    int,
    int,
    int,
    int,
    _Address | None,
    _Address | None,
    bytes,
    bytes,
    int,
    int,
    _Counters,
    int,
    int,
    int,
    _Settings,
    int,
    int,
]

_TraceRecord: TypeAlias = tuple[
    int,
    int,
    int,
    int,
    int,
    int,
    int,
    int,
    bool,
    _Address | None,
    _Address | None,
    int,
    int,
    int,
    bytes,
]

PEER_COUNTERS: tuple[str, ...]
ENGINE_COUNTERS: tuple[str, ...]
TABLE_COLUMNS: tuple[str, ...]
DROPS: tuple[tuple[str, str], ...]
BATCH_BUCKETS: int
OFFLOAD_ALL: int
PEERS_DEFAULT: int
SOCKET_BUFFER: int
TRANSPORTS_MAX: int
WORKERS_MAX: int
EPOCH_FUTURES_MAX: int
TRACE_SNAP_MAX: int
TRACE_PEERS_MAX: int
EVENT_PEER_DELETED: int
EVENT_PEER_FLOATED: int
EVENT_PEER_FLOAT_REFUSED: int
EVENT_KEY_SOON: int
EVENT_KEY_EXHAUSTED: int
EVENT_TRANSPORT_FAILED: int
EVENT_INTERFACE_GONE: int
EVENT_LIMIT_REACHED: int

class Engine:
    def __init__(
        self,
        *,
        mode: int,
        source_check: int,
        max_peers: int,
        offloads: int,
        workers: int = 1,
        single_thread: bool = False,
        unreachable: bool = False,
    ) -> None: ...
    def open_tun(self, name: bytes, netns_fd: int, existing: bool) -> None: ...
    def adopt_tun(self, fds: Sequence[int]) -> None: ...
    def start(self) -> None: ...
    def close(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def forget(self) -> None: ...
    @property
    def is_closed(self) -> bool: ...
    def event_fd(self) -> int: ...
    def control_fd(self) -> int: ...
    def wait(self, timeout_ms: int) -> bool: ...
    def set_offloads(self, offloads: int) -> None: ...
    def offloads(self) -> tuple[int, int]: ...
    def set_source_check(self, check_: int) -> None: ...
    def stats(
        self,
    ) -> tuple[_Counters, _Counters, tuple[int, ...], tuple[int, ...], int, int, int]: ...
    def tun_info(self) -> tuple[bytes, int, int, int, bool, bool, bool, bool, bool]: ...
    def tun_namespace(self) -> int: ...
    def set_persistent(self, on: bool) -> None: ...
    def set_owner(self, user: int) -> None: ...
    def attach_udp(self, fd: int, *, df: bool, send_buffer: int, receive_buffer: int) -> int: ...
    def attach_tcp(self, fd: int, *, send_buffer: int, receive_buffer: int) -> int: ...
    def listen_tcp(
        self, fd: int, *, trials_max: int, trials_per_source_max: int, deadline_s: int
    ) -> int: ...
    def detach(self, transport: int) -> None: ...
    def send_control(
        self, transport: int, data: Buffer, remote: _Address | None, local: _Address | None
    ) -> None: ...
    def query_transport(
        self, transport: int
    ) -> tuple[
        int,
        int,
        _Address | None,
        _Address | None,
        int,
        int,
        int,
        int,
        int,
        int,
        int,
        int,
        int,
        int,
        int,
        bool,
    ]: ...
    def add_peer(
        self,
        peer_id: int,
        transport: int,
        *,
        tx_id: int | None = None,
        remote: _Address | None = None,
        local: _Address | None = None,
        vpn_ipv4: bytes | None = None,
        vpn_ipv6: bytes | None = None,
        keepalive: tuple[int, int] | None = None,
        settings: _Settings | None = None,
    ) -> int: ...
    def set_peer(
        self,
        peer_id: int,
        generation: int,
        *,
        tx_id: int | None = None,
        remote: _Address | None = None,
        local: _Address | None = None,
        vpn_ipv4: bytes | None = None,
        vpn_ipv6: bytes | None = None,
        keepalive: tuple[int, int] | None = None,
        settings: _Settings | None = None,
    ) -> None: ...
    def delete_peer(self, peer_id: int, generation: int) -> None: ...
    def send_message(self, peer_id: int, generation: int, data: Buffer) -> None: ...
    def query_peer(self, peer_id: int, generation: int) -> _Peer: ...
    def list_peers(self) -> list[tuple[int, int]]: ...
    def peer_table(self) -> tuple[int, bytearray]: ...
    def install_key(
        self,
        peer_id: int,
        generation: int,
        slot: int,
        *,
        key_id: int,
        cipher: int,
        encrypt_key: Buffer,
        encrypt_tail: Buffer,
        decrypt_key: Buffer,
        decrypt_tail: Buffer,
        first_packet_id: int = 0,
    ) -> None: ...
    def install_epoch_key(
        self,
        peer_id: int,
        generation: int,
        slot: int,
        *,
        key_id: int,
        cipher: int,
        key_size: int,
        encrypt_secret: Buffer,
        decrypt_secret: Buffer,
        future_epochs: int,
        first_epoch: int = 0,
        first_packet_id: int = 0,
    ) -> None: ...
    def swap_keys(self, peer_id: int, generation: int) -> None: ...
    def delete_key(self, peer_id: int, generation: int, slot: int) -> None: ...
    def query_key(
        self, peer_id: int, generation: int, slot: int
    ) -> tuple[int, int, int, int, int, int, int, bool]: ...
    def add_route(self, ip: bytes, length: int, peer_id: int, generation: int) -> None: ...
    def delete_route(self, ip: bytes, length: int) -> None: ...
    def lookup_route(self, ip: bytes) -> tuple[int, int]: ...
    def receive_control(self, maximum: int) -> list[_Packet]: ...
    def poll_events(self, maximum: int) -> list[_Event]: ...

def trace_start(
    engine: Engine,
    *,
    points: int,
    drops_only: bool,
    share: int,
    snap: int,
    ring_size: int,
    peers: list[tuple[int, int]],
) -> int: ...
def trace_stop(engine: Engine) -> None: ...
def trace_lost(engine: Engine) -> int: ...
def trace_read(engine: Engine, maximum: int) -> list[_TraceRecord]: ...
def halt(engine: Engine) -> None: ...
def tun_queues(engine: Engine) -> list[int]: ...
def export_key(
    engine: Engine, peer_id: int, generation: int, slot: int, reserve: int
) -> dict[str, Any] | None: ...
def import_key(
    engine: Engine, peer_id: int, generation: int, slot: int, values: dict[str, Any]
) -> None: ...
def export_peer(engine: Engine, peer_id: int, generation: int) -> dict[str, Any]: ...
def import_peer(engine: Engine, peer_id: int, generation: int, values: dict[str, Any]) -> None: ...
def export_transport(engine: Engine, transport: int) -> tuple[dict[str, Any], list[int]] | None: ...
def import_transport(engine: Engine, values: dict[str, Any], fds: Sequence[int]) -> int: ...
def openssl_version() -> str: ...
def bench_crypto(
    cipher: int, key_size: int, size: int, batches: int, seal: bool, *, own: int = 0
) -> tuple[float, float]: ...
def probe_gcm() -> int: ...
def bench_send(
    fd: int, size: int, run: int, rate_pps: float, time_s: float
) -> tuple[int, int, float]: ...
def bench_receive(
    fd: int, run: int, limit_s: float, quiet_s: float
) -> tuple[int, int, int, int, float]: ...
def checksum(data: Buffer) -> int: ...
def split(packet: bytes, vnet: bytes | None = None) -> list[bytes]: ...
def clamp_mss(packet: bytes, packet_max: int) -> bytes: ...
def icmp_error(packet: bytes, error: int, mtu: int = 0) -> bytes: ...
def fragment(packet: bytes, mtu: int) -> list[bytes] | None: ...
def coalesce(
    packets: Iterable[bytes], *, tcp: bool, udp: bool, owners: Sequence[int] | None = None
) -> list[tuple[bytes, bytes, int]]: ...
def tcp_frames(stream: bytes, *, frame_max: int) -> tuple[list[bytes], int]: ...

class ReplayWindow:
    def accept(self, packet_id: int, now_s: int) -> bool: ...

GCM_KINDS: tuple[int, ...]

class PacketKey:
    def __init__(self, cipher: int, key: Buffer, nonce_tail: Buffer, *, own: int = 0) -> None: ...
    def seal(self, key_id: int, peer_id: int, packet_id: int, plain: bytes) -> bytes: ...
    def open(self, packet: bytes) -> bytes | None: ...
    def encrypt(self, nonce: bytes, aad: bytes, plain: bytes) -> tuple[bytes, bytes]: ...
    def decrypt(self, nonce: bytes, aad: bytes, ciphertext: bytes, tag: bytes) -> bytes | None: ...

def expand_label(secret: bytes, label: bytes, size: int) -> bytes: ...
def next_epoch(secret: bytes) -> bytes: ...

class EpochPacketKey:
    def __init__(
        self, cipher: int, key_size: int, secret: bytes, epoch: int = 1, own: int = 0
    ) -> None: ...
    @property
    def iv(self) -> bytes: ...
    def seal(self, key_id: int, peer_id: int, counter: int, plain: bytes) -> bytes: ...
    def open(self, packet: bytes) -> bytes | None: ...

class EpochKeyring:
    def __init__(
        self,
        cipher: int,
        key_size: int,
        send_secret: bytes,
        receive_secret: bytes,
        *,
        future_epochs: int = 4,
        first_epoch: int = 1,
        first_packet_id: int = 1,
        own: int = 0,
    ) -> None: ...
    @property
    def send_epoch(self) -> int: ...
    @property
    def receive_epoch(self) -> int: ...
    def limit(self, *, usage: int | None = None, forgeries: int | None = None) -> None: ...
    def refill(self) -> None: ...
    def seal(self, plain: bytes) -> tuple[bytes | None, set[str]]: ...
    def open(self, packet: bytes, now_s: int = 1) -> tuple[bytes | str, bool]: ...

class PrefixTable:
    def __init__(self, buckets: int = 256) -> None: ...
    def insert(self, ip: bytes, length: int, owner: int) -> None: ...
    def remove(self, ip: bytes, length: int) -> None: ...
    def lookup(self, ip: bytes) -> int | None: ...
