"""The userspace engine: `_core` with values of the model instead of tuples.

The only importer of `_core`."""

from __future__ import annotations

import errno
import math
import os
import select
import threading
import types
from collections.abc import Callable, Collection, Sequence
from typing import Any

from .. import _core
from ..errors import DcoError, InvalidArgument
from ..model import (
    Buffer,
    ControlPacket,
    DataKey,
    DeviceStats,
    EpochKey,
    Event,
    Feature,
    ForwardingMode,
    KeyInfo,
    KeySlot,
    Mode,
    Offload,
    Offloads,
    PeerInfo,
    PeerSetting,
    SourceCheck,
    StatsTable,
    TraceRecord,
    TraceSettings,
    TransportInfo,
    TransportKind,
)
from ..validation.answers import answer
from ..validation.rules import PeerAttributes, RawAddress
from . import readings
from .base import FindTransport, Interface, PeerRef, ReservedAddress
from .tun_node import describe_tun_node

FEATURES = frozenset(Feature)
DATA_OVERHEAD = 28  # bytes that sealing adds at most, in the epoch format
UDP_PAYLOAD_MAX = 65507  # bytes, over IPv4
GSO_SEGMENTS_MAX = 64

_EVENTS: dict[int, Callable[[readings.Raw], Event]] = {
    _core.EVENT_PEER_DELETED: readings.peer_deleted(_core.PEER_COUNTERS),
    _core.EVENT_PEER_FLOATED: readings.peer_floated,
    _core.EVENT_PEER_FLOAT_REFUSED: readings.peer_float_refused,
    _core.EVENT_KEY_SOON: readings.key_soon,
    _core.EVENT_KEY_EXHAUSTED: readings.key_exhausted,
    _core.EVENT_LIMIT_REACHED: readings.limit_reached,
    _core.EVENT_TRANSPORT_FAILED: readings.transport_failed,
    _core.EVENT_INTERFACE_GONE: readings.interface_gone,
}


class _Answers:
    """Around a call into `_core`: its OSError leaves as the `DcoError` that says what is wrong."""

    __slots__ = ("command",)

    def __init__(self, command: str) -> None:
        self.command = command

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, DcoError):
            raise answer(self.command, error.errno or 0, error.strerror or "") from None


class UserspaceBackend:
    """One engine, over a TUN that it makes or a descriptor that it is given."""

    name = "userspace"
    features = FEATURES
    system_routes = False

    def __init__(
        self,
        *,
        mode: Mode,
        source_check: SourceCheck,
        max_peers: int,
        offloads: Offload,
        workers: int = 1,
        single_thread: bool = False,
        icmp_unreachable: bool = False,
    ) -> None:
        with _Answers("create"):
            self._engine = _core.Engine(
                mode=int(mode),
                source_check=source_check.number,
                max_peers=max_peers,
                offloads=offloads.value,
                workers=workers,
                single_thread=single_thread,
                unreachable=icmp_unreachable,
            )
        self.workers = workers
        # Readable while events or control packets wait. Made when somebody asks for it, who may
        # then wait on it: so it stays open after `close`, until the device is collected.
        self._either: select.epoll | None = None
        self._lock = threading.Lock()  # of _either

    # Lifecycle

    def open_interface(self, name: str, netns_fd: int, *, existing: bool) -> None:
        try:
            self._engine.open_tun(name.encode(), netns_fd, existing)
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EEXIST, errno.EINVAL, errno.EBADF):
                command = "open_persistent" if existing else "open_tun"
                raise answer(command, error.errno, error.strerror or "") from None
            raise describe_tun_node(error) from None

    def adopt_tun(self, fds: Sequence[int]) -> None:
        """Uses copies of descriptors: queues of one TUN, or one that gives one packet per read."""
        for fd in fds:
            try:
                os.fstat(fd)
            except (OSError, OverflowError):
                # Not DeviceClosed, which EBADF means of a device.
                message = f"tun_fd {fd} is no open descriptor"
                raise InvalidArgument(errno.EBADF, message, attribute="tun_fd") from None
        with _Answers("adopt_tun"):
            self._engine.adopt_tun(fds)

    def train_length(self, mtu: int) -> int | None:
        """How many sealed packets of full size one UDP send takes (65507 bytes, 64 segments).

        A super-packet of just as many segments leaves in one message instead of a long and a short
        one: 45 packets of up to 1448 bytes at an MTU of 1420."""
        return max(1, min(UDP_PAYLOAD_MAX // (mtu + DATA_OVERHEAD), GSO_SEGMENTS_MAX))

    def start(self) -> None:
        try:
            self._engine.start()
        except OSError as error:
            if error.errno != errno.EALREADY:
                raise answer("start", error.errno or 0, error.strerror or "") from None

    @property
    def closed(self) -> bool:
        return self._engine.is_closed

    def close(self) -> None:
        self._engine.close()

    def freeze(self) -> None:
        self._engine.freeze()

    def thaw(self) -> None:
        self._engine.thaw()

    def forget(self) -> None:
        if self._either is not None:
            self._either.close()
        self._lock = threading.Lock()
        self._engine.forget()

    def interface(self) -> Interface:
        with _Answers("interface"):
            name, ifindex, _, _, *about, _ = self._engine.tun_info()
        return Interface(name.decode(errors="surrogateescape"), ifindex, *about)

    def interface_namespace(self) -> int:
        with _Answers("interface"):
            return self._engine.tun_namespace()

    def set_persistent(self, on: bool) -> None:
        with _Answers("set_persistent"):
            self._engine.set_persistent(on)

    def set_owner(self, user: int) -> None:
        with _Answers("set_owner"):
            self._engine.set_owner(user)

    def set_source_check(self, check: SourceCheck) -> None:
        with _Answers("set_source_check"):
            self._engine.set_source_check(check.number)

    def offloads(self) -> Offloads:
        with _Answers("offloads"):
            allowed, active = self._engine.offloads()
        return Offloads(allowed=Offload(allowed), active=Offload(active))

    def set_offloads(self, offloads: Offload) -> None:
        with _Answers("set_offloads"):
            self._engine.set_offloads(offloads.value)

    def stats(self) -> DeviceStats:
        with _Answers("stats"):
            raw = self._engine.stats()
        return readings.device_stats(_core.ENGINE_COUNTERS, raw, self.offloads())

    def stats_table(self) -> StatsTable:
        with _Answers("stats_table"):
            peers, buffer = self._engine.peer_table()
        return StatsTable(_core.TABLE_COLUMNS, peers, buffer)

    # Traces

    def trace_start(self, settings: TraceSettings) -> int:
        with _Answers("trace"):
            return _core.trace_start(
                self._engine,
                points=settings.points.value,
                drops_only=settings.drops_only,
                share=settings.share,
                snap=settings.snap,
                ring_size=settings.buffer_bytes,
                peers=list(settings.peers),
            )

    def trace_stop(self) -> None:
        with _Answers("trace_stop"):
            _core.trace_stop(self._engine)

    def trace_read(self, maximum: int) -> list[TraceRecord]:
        with _Answers("trace_read"):
            records = _core.trace_read(self._engine, maximum)
        return [readings.trace_record(raw) for raw in records]

    def trace_lost(self) -> int:
        with _Answers("trace_read"):
            return _core.trace_lost(self._engine)

    # Waiting

    def fileno(self) -> int:
        with _Answers("fileno"):
            ours = self._engine.event_fd(), self._engine.control_fd()
        with self._lock:
            if self._either is None:
                either = select.epoll()
                for fd in ours:
                    either.register(fd, select.EPOLLIN)
                self._either = either
            return self._either.fileno()

    def control_fileno(self) -> int:
        with _Answers("fileno"):
            return self._engine.control_fd()

    def event_fileno(self) -> int:
        with _Answers("fileno"):
            return self._engine.event_fd()

    def wait(self, timeout_s: float | None) -> bool:
        # Rounded up, and within a C int of milliseconds.
        limit_ms = -1 if timeout_s is None else math.ceil(min(timeout_s, 2e6) * 1000)
        with _Answers("wait"):
            return self._engine.wait(limit_ms)

    def receive_control(self, maximum: int, find: FindTransport) -> list[ControlPacket]:
        with _Answers("receive"):
            packets = self._engine.receive_control(maximum)
        return [readings.control_packet(raw, find(raw[1])) for raw in packets]

    def poll_events(self, maximum: int) -> list[tuple[int, Event]]:
        with _Answers("poll_events"):
            events = self._engine.poll_events(maximum)
        return [(raw[9], _EVENTS[raw[0]](raw)) for raw in events]

    # Transports

    def attach_udp(self, fd: int, *, df: bool, send_buffer: int, receive_buffer: int) -> int:
        with _Answers("attach_udp"):
            return self._engine.attach_udp(
                fd, df=df, send_buffer=send_buffer, receive_buffer=receive_buffer
            )

    def attach_tcp(self, fd: int, *, send_buffer: int, receive_buffer: int) -> int:
        with _Answers("attach_tcp"):
            return self._engine.attach_tcp(
                fd, send_buffer=send_buffer, receive_buffer=receive_buffer
            )

    def listen_tcp(
        self, fd: int, *, trials_max: int, trials_per_source_max: int, deadline_s: int
    ) -> int:
        with _Answers("listen_tcp"):
            return self._engine.listen_tcp(
                fd,
                trials_max=trials_max,
                trials_per_source_max=trials_per_source_max,
                deadline_s=deadline_s,
            )

    def detach(self, transport: int) -> None:
        with _Answers("detach"):
            self._engine.detach(transport)

    def transport_info(self, transport: int) -> TransportInfo:
        with _Answers("query_transport"):
            raw = self._engine.query_transport(transport)
        return readings.transport_info(raw)

    def send_control(
        self, transport: int, data: Buffer, remote: RawAddress | None, local: RawAddress | None
    ) -> None:
        with _Answers("send_control"):
            self._engine.send_control(transport, data, remote, local)

    # Peers

    def add_peer(self, transport: int, attributes: PeerAttributes) -> PeerRef:
        peer_id = attributes.peer_id or 0
        with _Answers("add_peer"):
            generation = self._engine.add_peer(
                peer_id,
                transport,
                tx_id=attributes.tx_id,
                remote=attributes.remote,
                local=attributes.local,
                vpn_ipv4=attributes.vpn_ipv4,
                vpn_ipv6=attributes.vpn_ipv6,
                keepalive=attributes.keepalive,
            )
        return peer_id, generation

    def set_peer(self, peer: PeerRef, attributes: PeerAttributes) -> None:
        with _Answers("set_peer"):
            self._engine.set_peer(
                *peer,
                tx_id=attributes.tx_id,
                remote=attributes.remote,
                local=attributes.local,
                vpn_ipv4=attributes.vpn_ipv4,
                vpn_ipv6=attributes.vpn_ipv6,
                keepalive=attributes.keepalive,
            )

    def set_feature(self, peer: PeerRef, setting: PeerSetting) -> None:
        with _Answers("set_peer"):
            self._engine.set_peer(*peer, settings=readings.numbers_of(setting))

    def send_message(self, peer: PeerRef, data: Buffer) -> None:
        with _Answers("send_message"):
            self._engine.send_message(*peer, data)

    def delete_peer(self, peer: PeerRef) -> None:
        with _Answers("delete_peer"):
            self._engine.delete_peer(*peer)

    def peer_info(self, peer: PeerRef) -> PeerInfo:
        with _Answers("query_peer"):
            raw = self._engine.query_peer(*peer)
        return readings.peer_info(_core.PEER_COUNTERS, raw)

    def peers(self) -> list[PeerRef]:
        with _Answers("peers"):
            return self._engine.list_peers()

    # Packets between peers

    def set_forwarding(self, mode: ForwardingMode) -> None:
        with _Answers("set_forwarding"):
            self._engine.set_forwarding(mode.number)

    def set_multicast(self, copies_per_s: int) -> None:
        with _Answers("set_multicast"):
            self._engine.set_multicast(copies_per_s)

    def permit(self, peer: PeerRef, destinations: Collection[PeerRef]) -> None:
        with _Answers("permit"):
            self._engine.permit(*peer, [generation for _, generation in destinations])

    def reserve(self, addresses: Sequence[ReservedAddress]) -> None:
        with _Answers("reserve"):
            self._engine.reserve(addresses)

    # Keys

    def install_key(self, peer: PeerRef, slot: KeySlot, key: DataKey | EpochKey) -> None:
        with _Answers("install_key"):
            if isinstance(key, EpochKey):
                self._engine.install_epoch_key(
                    *peer,
                    int(slot),
                    key_id=key.key_id,
                    cipher=key.cipher.number,
                    key_size=key.cipher.key_size,
                    encrypt_secret=_bytes_of(key.encrypt_secret),
                    decrypt_secret=_bytes_of(key.decrypt_secret),
                    future_epochs=key.future_epochs,
                    first_epoch=key.first_epoch,
                    first_packet_id=key.first_packet_id,
                )
                return
            self._engine.install_key(
                *peer,
                int(slot),
                key_id=key.key_id,
                cipher=key.cipher.number,
                encrypt_key=_bytes_of(key.encrypt.key),
                encrypt_tail=_bytes_of(key.encrypt.nonce_tail),
                decrypt_key=_bytes_of(key.decrypt.key),
                decrypt_tail=_bytes_of(key.decrypt.nonce_tail),
                first_packet_id=key.first_packet_id,
            )

    def swap_keys(self, peer: PeerRef) -> None:
        with _Answers("swap_keys"):
            self._engine.swap_keys(*peer)

    def delete_key(self, peer: PeerRef, slot: KeySlot) -> None:
        with _Answers("delete_key"):
            self._engine.delete_key(*peer, int(slot))

    def key_info(self, peer: PeerRef, slot: KeySlot) -> KeyInfo:
        with _Answers("query_key"):
            raw = self._engine.query_key(*peer, int(slot))
        return readings.key_info(raw)

    # State: see `ovpn_dco.state`

    def halt(self) -> None:
        """Stops the threads; everything else stays. InvalidArgument when they do not run."""
        with _Answers("halt"):
            _core.halt(self._engine)

    def tun_queues(self) -> list[int]:
        """The engine's own descriptors of the interface."""
        with _Answers("export"):
            return _core.tun_queues(self._engine)

    def export_transport(self, transport: int) -> tuple[dict[str, Any], list[int]] | None:
        """(values, the engine's own descriptors); None: it has failed."""
        with _Answers("export"):
            return _core.export_transport(self._engine, transport)

    def export_peer(self, peer: PeerRef) -> dict[str, Any]:
        """Everything but keys and routes."""
        with _Answers("export"):
            return _core.export_peer(self._engine, *peer)

    def export_key(self, peer: PeerRef, slot: KeySlot, reserve: int) -> dict[str, Any] | None:
        """The key, with its material; None: the slot is empty."""
        with _Answers("export"):
            return _core.export_key(self._engine, *peer, int(slot), reserve)

    def import_transport(self, values: dict[str, Any], fds: Sequence[int]) -> int:
        """The number of the transport here."""
        with _Answers("restore"):
            return _core.import_transport(self._engine, values, fds)

    def import_peer(self, transport: int, values: dict[str, Any]) -> PeerRef:
        """The peer as it was, on a transport of this engine."""
        peer_id = values["peer_id"]
        stream = self.transport_info(transport).kind is TransportKind.TCP
        vpn = {name: values[name] for name in ("vpn_ipv4", "vpn_ipv6") if any(values[name])}
        with _Answers("restore"):
            generation = self._engine.add_peer(
                peer_id,
                transport,
                tx_id=values["tx_id"],
                remote=None if stream else values["remote"],
                local=None if stream else values["local"],
                keepalive=tuple(values["keepalive"]) if any(values["keepalive"]) else None,
                settings=values.get("settings"),  # none in states of older releases
                **vpn,
            )
            _core.import_peer(self._engine, peer_id, generation, values)
        return peer_id, generation

    def import_key(self, peer: PeerRef, slot: KeySlot, values: dict[str, Any]) -> None:
        """The key as far as it had come."""
        with _Answers("restore"):
            _core.import_key(self._engine, *peer, int(slot), values)

    # Routes

    def add_route(self, prefix: tuple[bytes, int], peer: PeerRef) -> None:
        with _Answers("add_route"):
            self._engine.add_route(*prefix, *peer)

    def delete_route(self, prefix: tuple[bytes, int]) -> None:
        with _Answers("delete_route"):
            self._engine.delete_route(*prefix)

    def lookup_route(self, ip: bytes) -> PeerRef:
        with _Answers("lookup_route"):
            return self._engine.lookup_route(ip)


def _bytes_of(data: Buffer) -> memoryview:
    """The same memory as plain bytes, whatever the format of a memoryview."""
    return memoryview(data).cast("B")


# The loops of the compiled core that `ovpn_dco.bench` times; no part of the back end.
openssl_version = _core.openssl_version
bench_crypto = _core.bench_crypto
probe_gcm = _core.probe_gcm
bench_send = _core.bench_send
bench_receive = _core.bench_receive
