"""The kernel's own `ovpn` driver as a back end: its peers, keys and events.

The driver carries the packets. What it has no word for is refused, see `without`. The interface has
to stay in the namespace where it was made. There are no threads: control packets are read and
written by whoever asks for them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import select
import socket
import threading
from collections.abc import Iterator

from ... import netlink
from ...errors import DcoError, NotFound, error_for
from ...model import (
    Address,
    Buffer,
    ControlPacket,
    DataKey,
    DeleteReason,
    DeviceStats,
    EpochKey,
    Event,
    Feature,
    InterfaceGone,
    KeyInfo,
    KeySlot,
    KeySwapNeeded,
    KeySwapReason,
    Mode,
    PeerDeleted,
    PeerFloated,
    PeerInfo,
    SourceCheck,
    StatsTable,
    TransportFailed,
    TransportInfo,
    TransportKind,
)
from ...validation.answers import answer
from ...validation.rules import PeerAttributes, RawAddress
from ..base import FindTransport, Interface, PeerRef
from ..without import WithoutFeatures
from . import values
from .events import EventQueue
from .link import KernelLink
from .listener import Listener, TrialLimits
from .peers import KernelPeer, KernelPeers
from .port import Port, adopt
from .ports import Ports
from .routes import KernelRoutes
from .tcp import TcpPort
from .udp import UdpPort

FEATURES = frozenset({Feature.UDP, Feature.TCP, Feature.IROUTES})
"""Of every version of the driver."""
_SOCKET_DIED = (DeleteReason.TRANSPORT_ERROR, DeleteReason.TRANSPORT_DISCONNECT)
_HUNG_UP = (errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT)


def features_of(family: netlink.Family | None) -> frozenset[Feature]:
    """Of this driver; None: one that is not loaded yet, so that it cannot be asked."""
    asymmetric = family is not None and family.tx_id
    return FEATURES | ({Feature.ASYMMETRIC_IDS} if asymmetric else set())


class KernelBackend(WithoutFeatures):
    """One interface of the driver."""

    name = "kernel"
    system_routes = True

    def __init__(self, *, mode: Mode, max_peers: int) -> None:
        """UnsupportedError where there is no driver. The kernel loads it if it has to."""
        super().__init__(features_of(netlink.find_family()))
        self._mode = mode
        self._lock = threading.RLock()
        self._closed = False
        self._peers = KernelPeers(mode, max_peers)
        self._ports = Ports()
        self._queue = EventQueue()
        self._sequence = itertools.count(1)
        self._telling = select.epoll()  # while an event waits
        self._telling.register(self._queue.bell, select.EPOLLIN)
        self._link = KernelLink(mode, self._telling)
        self._routes: KernelRoutes | None = None
        self._closing = contextlib.ExitStack()
        self._either = select.epoll()
        self._telling.register(self._ports.ends, select.EPOLLIN)
        for one in (self._telling, self._ports.epoll):
            self._either.register(one, select.EPOLLIN)

    # Lifecycle

    def open_interface(self, name: str, netns_fd: int, *, existing: bool) -> None:
        with self._calls():
            link = self._link
            link.open(name, netns_fd, existing=existing)
            namespace = link.namespace()
            self._closing.callback(os.close, namespace)
            self._routes = KernelRoutes(link.name, link.ifindex, namespace, self._peers)

    def start(self) -> None:
        with self._calls():
            pass

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            for peer in self._peers if self._link.persistent else ():
                with contextlib.suppress(DcoError):
                    self._delete(peer)
            self._closed = True
            self._link.close()
            self._ports.close()
            self._closing.close()
            self._queue.ring()

    def freeze(self) -> None:
        self._lock.acquire()

    def thaw(self) -> None:
        self._lock.release()

    def forget(self) -> None:
        self._lock = threading.RLock()
        if self._closed:
            return
        self._closed = True
        self._link.forget()
        self._ports.forget()
        self._closing.close()
        for poll in (self._telling, self._either):
            poll.close()
        self._queue.close()

    def interface(self) -> Interface:
        with self._calls():
            return self._link.info()

    def interface_namespace(self) -> int:
        with self._calls():
            return self._link.namespace()

    def set_persistent(self, on: bool) -> None:
        with self._calls():
            self._link.set_persistent(on)

    def set_source_check(self, check: SourceCheck) -> None:
        if self._mode is Mode.MULTIPEER:  # P2P has none to switch
            super().set_source_check(check)

    # Statistics

    def stats(self) -> DeviceStats:
        with self._calls():
            return values.device_stats(
                peers=len(self._peers),
                transports=len(self._ports),
                control_packets=self._ports.packets,
                offloads=self.offloads(),
            )

    def stats_table(self) -> StatsTable:
        with self._calls():
            found = {state.peer_id: state.stats for state in self._link.driver.get_peers()}
            rows = [(p.ref, found[p.peer_id]) for p in self._peers if p.peer_id in found]
        return values.stats_table(rows)

    # Waiting

    def fileno(self) -> int:
        with self._calls():
            return self._either.fileno()

    def control_fileno(self) -> int:
        with self._calls():
            return self._ports.epoll.fileno()

    def event_fileno(self) -> int:
        with self._calls():
            return self._telling.fileno()

    def wait(self, timeout_s: float | None) -> bool:
        poll = select.poll()
        poll.register(self.event_fileno(), select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else math.ceil(min(timeout_s, 2e6) * 1000)))

    def receive_control(self, maximum: int, find: FindTransport) -> list[ControlPacket]:
        with self._calls():
            found = [
                (next(self._sequence), number, packet)
                for number, packet in self._ports.receive(maximum)
            ]
            self._end_transports()
        return [
            ControlPacket(
                data=packet.data,
                transport=find(number),
                remote=packet.remote,
                local=packet.local,
                peer_id=None,
                sequence=sequence,
            )
            for sequence, number, packet in found
        ]

    def poll_events(self, maximum: int) -> list[tuple[int, Event]]:
        with self._calls():
            return self._queue.take(maximum)

    # Transports

    def attach_udp(self, fd: int, *, df: bool, send_buffer: int, receive_buffer: int) -> int:
        if df:
            raise self.lacks(Feature.PATH_MTU, "df")
        with self._calls(), _duplicate(fd, "attach_udp") as sock:
            port = UdpPort(sock, send_buffer=send_buffer, receive_buffer=receive_buffer)
            return self._add(port)

    def attach_tcp(self, fd: int, *, send_buffer: int, receive_buffer: int) -> int:
        with self._calls(), _duplicate(fd, "attach_tcp") as sock:
            port = TcpPort.attach(sock, send_buffer=send_buffer, receive_buffer=receive_buffer)
            return self._add(port)

    def listen_tcp(
        self, fd: int, *, trials_max: int, trials_per_source_max: int, deadline_s: int
    ) -> int:
        limits = TrialLimits(trials_max, trials_per_source_max, deadline_s)
        with self._calls(), _duplicate(fd, "listen_tcp") as sock:
            return self._add(Listener(sock, limits))

    def _add(self, port: Port) -> int:
        with contextlib.ExitStack() as undo:
            undo.callback(port.close)
            self._link.hear_of(port.sock)
            number = self._ports.add(port)
            undo.pop_all()
        return number

    def detach(self, transport: int) -> None:
        with self._calls():
            port = self._ports.find(transport, "detach")
            self._drop_peers(port, DeleteReason.TRANSPORT_DISCONNECT)
            self._ports.remove(transport)

    def _drop_peers(self, port: Port, reason: DeleteReason) -> None:
        for ref in list(port.peers):
            peer = self._peers.find(ref, "delete_peer")
            peer.reason = reason
            with contextlib.suppress(DcoError):  # it went before, or the interface has
                self._delete(peer)

    def transport_info(self, transport: int) -> TransportInfo:
        with self._calls():
            return self._ports.find(transport, "query_transport").info()

    def send_control(
        self, transport: int, data: Buffer, remote: RawAddress | None, local: RawAddress | None
    ) -> None:
        with self._calls():
            port = self._ports.find(transport, "send_control")
            try:
                port.send(data, remote, local)
            finally:
                self._ports.changed(port)

    # Peers

    def add_peer(self, transport: int, attributes: PeerAttributes) -> PeerRef:
        with self._calls():
            port = self._ports.find(transport, "add_peer")
            self._judge_new(port, attributes)
            port.prepare()
            peer_id = attributes.peer_id or 0
            asked = values.peer_attributes(
                peer_id, attributes, socket=port.sock.fileno(), bound=port.bound
            )
            generation = self._link.driver.add_peer(asked)
            peer = KernelPeer(
                peer_id,
                generation,
                transport,
                tx_id=peer_id if attributes.tx_id is None else attributes.tx_id,
            )
            for other in self._peers if self._mode is Mode.P2P else ():
                self._release(other)
            self._peers.add(peer)
            self._peers.change(peer, attributes)
            port.peers.add(peer.ref)
            port.taken()
            self._ports.changed(port)
            return peer.ref

    def _judge_new(self, port: Port, attributes: PeerAttributes) -> None:
        if port.kind is TransportKind.TCP:
            if attributes.remote or attributes.local:
                raise answer("add_peer", errno.EISCONN, "")
            if port.peers and self._mode is Mode.MULTIPEER:
                raise answer("add_peer", errno.EBUSY, "")
        self._peers.judge_new(attributes, self._queue.deletions)
        self._judge_id(attributes)

    def _judge_id(self, attributes: PeerAttributes) -> None:
        own = attributes.tx_id in (None, attributes.peer_id)
        if not own and Feature.ASYMMETRIC_IDS not in self.features:
            raise self.lacks(Feature.ASYMMETRIC_IDS, "tx_id")

    def set_peer(self, peer: PeerRef, attributes: PeerAttributes) -> None:
        with self._calls():
            known = self._peers.find(peer, "set_peer")
            port = self._ports.find(known.transport, "set_peer")
            if port.kind is TransportKind.TCP and attributes.remote:
                raise answer("set_peer", errno.EISCONN, "")
            self._judge_id(attributes)
            self._peers.judge_change(known, attributes)
            asked = values.peer_attributes(known.peer_id, attributes, bound=port.bound)
            self._link.driver.set_peer(known.generation, asked)
            self._peers.change(known, attributes)

    def delete_peer(self, peer: PeerRef) -> None:
        with self._calls():
            self._delete(self._peers.find(peer, "delete_peer"))

    def _delete(self, peer: KernelPeer) -> None:
        driver = self._link.driver
        with contextlib.suppress(NotFound):  # its counters go with it
            peer.stats = driver.get_peer(peer.peer_id).stats
        driver.delete_peer(peer.peer_id, peer.generation)
        self._release(peer)

    def _release(self, peer: KernelPeer) -> None:
        """It is gone, and what was its is free; PeerDeleted comes when the driver tells."""
        self._peers.bury(peer)
        if self._routes is not None:
            self._routes.release(peer)
        with contextlib.suppress(DcoError):  # or it was the transport that went
            port = self._ports.find(peer.transport, "detach")
            port.peers.discard(peer.ref)
            if not port.peers:
                port.released()
            self._ports.changed(port)

    def peer_info(self, peer: PeerRef) -> PeerInfo:
        with self._calls():
            known = self._peers.find(peer, "query_peer")
            state = self._link.driver.get_peer(known.peer_id)
            known.stats = state.stats
            port = self._ports.find(known.transport, "query_peer")
            remote = port.remote if isinstance(port, TcpPort) else state.remote
            return values.peer_info(known, state, remote)

    def peers(self) -> list[PeerRef]:
        with self._calls():
            return [peer.ref for peer in self._peers]

    # Keys

    def install_key(self, peer: PeerRef, slot: KeySlot, key: DataKey | EpochKey) -> None:
        if isinstance(key, EpochKey):
            raise self.lacks(Feature.EPOCH_KEYS, "key")
        with self._calls():
            known = self._peers.find(peer, "install_key")
            other = known.keys.get(KeySlot(1 - slot))
            if other is not None and other[0] == key.key_id:
                raise answer("install_key", errno.EINVAL, "")
            self._link.driver.install_key(*known.ref, slot, key)
            known.keys[slot] = key.key_id, key.cipher

    def swap_keys(self, peer: PeerRef) -> None:
        with self._calls():
            known = self._peers.find(peer, "swap_keys")
            self._link.driver.swap_keys(*known.ref)
            known.keys = {KeySlot(1 - slot): key for slot, key in known.keys.items()}

    def delete_key(self, peer: PeerRef, slot: KeySlot) -> None:
        with self._calls():
            known = self._peers.find(peer, "delete_key")
            self._link.driver.delete_key(*known.ref, slot)
            known.keys.pop(slot, None)

    def key_info(self, peer: PeerRef, slot: KeySlot) -> KeyInfo:
        with self._calls():
            known = self._peers.find(peer, "query_key")
            if slot not in known.keys:
                raise answer("query_key", errno.ENOENT, "")
            state = self._link.driver.get_key(known.peer_id, slot)
            return KeyInfo(state.key_id, known.keys[slot][1])

    # Routes: the system's

    def add_route(self, prefix: tuple[bytes, int], peer: PeerRef) -> None:
        with self._calls():
            self._routing().add(prefix, self._peers.find(peer, "add_route"))

    def delete_route(self, prefix: tuple[bytes, int]) -> None:
        with self._calls():
            self._routing().delete(prefix)

    def lookup_route(self, ip: bytes) -> PeerRef:
        with self._calls():
            owner = self._routing().owner(ip)
            if owner is None:
                raise answer("lookup_route", errno.ENOENT, "")
            return owner.ref

    def _routing(self) -> KernelRoutes:
        if self._routes is None:
            raise error_for(errno.ENODEV, "the device has no interface")
        return self._routes

    # What the driver tells

    @contextlib.contextmanager
    def _calls(self) -> Iterator[None]:
        """One call at a time, each with all that the driver has told before."""
        with self._lock:
            if self._closed:
                raise error_for(errno.EBADF, "device is closed")
            self._hear()
            yield

    def _hear(self) -> None:
        told, gone = self._link.read()
        self._ports.look_for_ends()
        self._end_transports()
        for one in told:
            self._take(one.generation, one.notice)
        if gone:
            self._queue.put(InterfaceGone(sequence=next(self._sequence), errno=errno.ENODEV))

    def _take(self, generation: int, notice: netlink.Notice) -> None:
        peer = self._peers.of_generation(generation)
        if peer is None:
            return
        about = {"peer_id": peer.peer_id, "generation": generation}
        match notice:
            case netlink.DeletedNotice():
                self._deleted(peer, notice.reason)
            case netlink.FloatedNotice():
                local = self._local_of(peer)
                floated = PeerFloated(
                    sequence=next(self._sequence), remote=notice.remote, local=local, **about
                )
                self._queue.put(floated, generation)
            case netlink.KeySwapNotice():
                peer.keys = {s: key for s, key in peer.keys.items() if key[0] != notice.key_id}
                needed = KeySwapNeeded(
                    sequence=next(self._sequence),
                    key_id=notice.key_id,
                    reason=KeySwapReason.EXHAUSTED,
                    **about,
                )
                self._queue.put(needed, generation, notice.key_id)

    def _deleted(self, peer: KernelPeer, told: DeleteReason | None) -> None:
        self._peers.told(peer.generation)
        reason = told if peer.reason is None else peer.reason
        reason = _likely(peer) if reason is None else reason
        if reason in _SOCKET_DIED and peer.reason is None:
            self._lose_connection(peer, reason)
        self._release(peer)
        deleted = PeerDeleted(
            sequence=next(self._sequence),
            peer_id=peer.peer_id,
            generation=peer.generation,
            reason=reason,
            stats=peer.stats,
        )
        self._queue.put(deleted, peer.generation)
        self._end_transports()

    def _lose_connection(self, peer: KernelPeer, reason: DeleteReason) -> None:
        with contextlib.suppress(DcoError):  # it was closed here
            port = self._ports.find(peer.transport, "detach")
            if isinstance(port, TcpPort):
                port.fail(errno.EPROTO if reason is DeleteReason.TRANSPORT_ERROR else 0)

    def _end_transports(self) -> None:
        for number, port in self._ports.ended():
            hung_up = port.ended in _HUNG_UP
            self._drop_peers(port, _SOCKET_DIED[hung_up])
            failed = TransportFailed(
                sequence=next(self._sequence), transport=None, errno=port.ended or 0
            )
            self._queue.put(failed, number, transport=number)

    def _local_of(self, peer: KernelPeer) -> Address | None:
        """The notification leaves it out."""
        with contextlib.suppress(DcoError):
            state = self._link.driver.get_peer(peer.peer_id)
            return values.local_of(state)
        return None


def _likely(peer: KernelPeer) -> DeleteReason:
    """Why one went whose notification was lost: the driver does not remember."""
    _, timeout_s = peer.keepalive
    return DeleteReason.EXPIRED if timeout_s else DeleteReason.TRANSPORT_DISCONNECT


@contextlib.contextmanager
def _duplicate(fd: int, command: str) -> Iterator[socket.socket]:
    """A descriptor of our own, which stays if all goes well. What the system refuses meanwhile is
    what it answers to `command`."""
    with contextlib.ExitStack() as undo:
        try:
            sock = adopt(os.dup(fd))
            undo.callback(sock.close)
            yield sock
        except DcoError:
            raise
        except OSError as error:
            number = errno.ENOTSOCK if error.errno == errno.EBADF else error.errno or errno.EIO
            raise answer(command, number, error.strerror or "") from None
        undo.pop_all()
