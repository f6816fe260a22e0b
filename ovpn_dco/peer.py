"""A peer, and the peers of a device."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from .backend.base import Backend, PeerRef
from .errors import NotFound, error_for
from .model import (
    Address,
    Buffer,
    DataKey,
    Ecn,
    EpochKey,
    KeyInfo,
    KeySlot,
    Measure,
    Mode,
    Multicast,
    PeerInfo,
    PeerLimits,
    PeerStats,
    SourceCheck,
)
from .transport import Transport, Transports
from .validation import settings
from .validation.arguments import message_of, peer_attributes, slot_of
from .validation.rules import (
    EPOCH_KEY_NEW,
    KEY_NEW,
    EpochKeyAttributes,
    KeyAttributes,
    PeerAttributes,
    check,
    refuse,
)
from .watched import WatchedRoutes


@dataclass(frozen=True, kw_only=True)
class PeerSpec:
    """A peer to be added; what its fields mean is said at `Device.add_peer`."""

    peer_id: int
    transport: Transport
    remote: object = None
    local: object = None
    vpn_ipv4: object = None
    vpn_ipv6: object = None
    tx_id: int | None = None
    keepalive_interval_s: int | None = None
    keepalive_timeout_s: int | None = None


class Peer:
    """A handle on one peer. Every call raises NotFound once the peer is deleted, also when
    another peer has its id by then."""

    __slots__ = ("_peers", "_ref")

    def __init__(self, peers: Peers, ref: PeerRef) -> None:
        self._peers = peers
        self._ref = ref

    def __repr__(self) -> str:
        return f"<Peer {self.peer_id} generation {self.generation}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Peer):
            return NotImplemented
        return self._peers is other._peers and self._ref == other._ref

    def __hash__(self) -> int:
        return hash(self._ref)

    @property
    def peer_id(self) -> int:
        """The id in packets that we receive from it."""
        return self._ref[0]

    @property
    def generation(self) -> int:
        """Tells it from other peers with the same id, before and after; events carry it."""
        return self._ref[1]

    @property
    def ref(self) -> PeerRef:
        """(id, generation)."""
        return self._ref

    def belongs_to(self, peers: Peers) -> bool:
        """Whether it is a peer of the device with these peers."""
        return self._peers is peers

    def info(self) -> PeerInfo:
        """Addresses, keepalive, times and counters, read together."""
        return self._peers.backend.peer_info(self._ref)

    @property
    def remote(self) -> Address | None:
        """Where it is now; follows floats."""
        return self.info().remote

    @property
    def local(self) -> Address | None:
        """Our address that it talks to; None: the kernel's choice."""
        return self.info().local

    @property
    def transport(self) -> Transport | None:
        """What it is reached through."""
        return self._peers.transports.find(self.info().transport_id)

    def stats(self) -> PeerStats:
        """Counters since the peer was added."""
        return self.info().stats

    def set(
        self,
        *,
        remote: object = None,
        local: object = None,
        vpn_ipv4: object = None,
        vpn_ipv6: object = None,
        tx_id: int | None = None,
        keepalive_interval_s: int | None = None,
        keepalive_timeout_s: int | None = None,
    ) -> None:
        """Changes what is given, all or nothing.

        `local` goes with `remote` only; a new remote without it forgets the old local.
        "0.0.0.0" and "::" clear a VPN address. InvalidArgument, AddressInUse, NotFound."""
        attributes = peer_attributes(
            mode=self._peers.mode,
            new=False,
            peer_id=self.peer_id,
            remote=remote,
            local=local,
            vpn_ipv4=vpn_ipv4,
            vpn_ipv6=vpn_ipv6,
            tx_id=tx_id,
            keepalive_interval_s=keepalive_interval_s,
            keepalive_timeout_s=keepalive_timeout_s,
        )
        with self._peers.watched.behind(attributes):
            self._peers.backend.set_peer(self._ref, attributes)
        self._peers.changed(self._ref)

    def set_keepalive(self, *, interval_s: int, timeout_s: int) -> None:
        """Sends a keepalive after `interval_s` without sending, and expires the peer after
        `timeout_s` without receiving. Each may be 0: off. Both start anew now."""
        self.set(keepalive_interval_s=interval_s, keepalive_timeout_s=timeout_s)

    def set_rate_limit(
        self,
        *,
        transmit_bits_per_s: int = 0,
        receive_bits_per_s: int = 0,
        burst_bytes: int | None = None,
    ) -> None:
        """Drops what exceeds a rate, of bytes of inner packets; 0: no limit in this direction.
        A call sets both directions, also one that is not given.

        After silence up to `burst_bytes` pass at once (1280 to 2**30; a larger packet never
        passes), as a rule 0.1 s at the rate and at least 65535. Of a super-packet the segments in
        front pass, as many as may. Drops count as TX_RATE_LIMIT and RX_RATE_LIMIT, and in
        `PeerStats.tx_rate_limited` and `rx_rate_limited`. OutOfRange, NotFound."""
        limit = settings.rate_limit(transmit_bits_per_s, receive_bits_per_s, burst_bytes)
        self._peers.backend.set_feature(self._ref, limit)

    def set_marking(self, *, ecn: Ecn | str = Ecn.NORMAL, dscp: bool = False) -> None:
        """What outer headers have of inner ones over UDP, and what marks of routers do.

        `ecn` is an `Ecn` or its name. NORMAL, which a new peer has, is for one that brings marks of
        outer headers into inner ones, as this engine does; the Linux driver and stock openvpn do
        not, and need COMPATIBILITY. `dscp`: outer headers get the DSCP of the inner ones, which
        tells the network what kind of traffic is inside; without it, that of the socket. Over TCP
        neither has an effect. InvalidArgument, NotFound."""
        self._peers.backend.set_feature(self._ref, settings.marking(ecn, dscp))

    def send_message(self, data: Buffer) -> None:
        """Sends a message inside the data channel, sealed like any packet, in order with others.

        Whoever is there gets it as a `ControlPacket` with the peer's id. 1 to 16384 bytes; like a
        packet it may be lost on the way, and one that is larger than the path carries is
        fragmented. InvalidArgument for what would be taken for something else: an IP packet, which
        is all that begins with the bits of 4 or 6 (as "A" and "a" do), or a keepalive.
        MessageTooBig; TryAgain when too many are on their way; `DcoError` with ENOKEY without a
        primary key; NotFound."""
        self._peers.backend.send_message(self._ref, message_of(data))

    def set_limits(
        self,
        *,
        inactive_s: int | None = None,
        inactive_bytes: int | None = None,
        session_s: int | None = None,
        quota_bytes: int | None = None,
        quota_packets: int | None = None,
        renegotiate_bytes: int | None = None,
        renegotiate_packets: int | None = None,
    ) -> None:
        """Limits that `PeerLimitReached` tells of, once each until it is set again; nothing else
        happens. What is given counts from now, 0 switches it off, None leaves it as it is.

        `inactive_s`: so many seconds in which fewer than `inactive_bytes` (as a rule, none) crossed
        the tunnel. `session_s`: seconds from now. The quotas are of both ways together, and so are
        `renegotiate_bytes` and `renegotiate_packets`, which count from the last key and anew with
        each. Bytes and packets are those of the tunnel (`vpn_` in `PeerStats`), and a super-packet
        is counted as a whole. OutOfRange, InvalidArgument, NotFound."""
        changes = PeerLimits(
            inactive_s=inactive_s,
            session_s=session_s,
            quota_bytes=quota_bytes,
            quota_packets=quota_packets,
            renegotiate_bytes=renegotiate_bytes,
            renegotiate_packets=renegotiate_packets,
            inactive_bytes=inactive_bytes,
        )
        self._peers.backend.set_feature(self._ref, settings.limits(changes))

    def set_source_check(self, source_check: SourceCheck | str) -> None:
        """From which inner addresses this one may send, whatever the device says of others;
        "inherit": as the device says. It has no effect in P2P mode. InvalidArgument, NotFound."""
        self._peers.backend.set_feature(self._ref, settings.source_check(source_check))

    def set_mss_clamp(self, size: int, *, measure: Measure = Measure.OUTER) -> None:
        """Lowers what TCP connections through the tunnel announce as their MSS, in both
        directions, so that their segments make at most `size` bytes of what `measure` counts; 0
        switches it off, down to 128 is possible. Nothing is ever raised, and connections that stand
        already keep what they have. `PeerInfo.mss` tells the value in effect, which is also as low
        as the path MTU needs it where that is known. OutOfRange, InvalidArgument, NotFound."""
        self._peers.backend.set_feature(self._ref, settings.mss_clamp(size, measure))

    def set_path_limit(self, mtu: int) -> None:
        """Says what the path carries, bytes from the outer IP header on: 576 to 65535, over IPv6 no
        less than 1280; 0: nothing is known but what ICMP tells a transport with `df`.

        Packets beyond it are dealt with as a router does: those with DF, and of IPv6, are answered
        with ICMP, dropped and counted as TX_TOO_BIG; others leave in fragments of their own. IPv6
        up to 1280 bytes goes in outer fragments, whatever the transport says. Over TCP it has no
        effect. OutOfRange, InvalidArgument, NotFound."""
        self._peers.backend.set_feature(self._ref, settings.path_limit(mtu))

    def set_multicast(self, *, received: bool) -> None:
        """Whether it gets copies of multicast and broadcast, where `Device.set_multicast` makes
        them. NotFound."""
        self._peers.backend.set_feature(self._ref, Multicast(bool(received)))

    def install_key(self, slot: KeySlot, key: DataKey | EpochKey, *, consume: bool = False) -> None:
        """Puts `key` into the slot, in place of what is there.

        The two formats may stand side by side in the two slots: the key id of a packet tells which
        key, and so which format, it is in. `consume` zeroes the caller's buffers after success,
        which must be writable then; the engine's own copies are zeroed when the key goes.
        InvalidArgument, also for a key id that the other slot has; UnsupportedError for an
        EpochKey where the back end lacks Feature.EPOCH_KEYS; NotFound."""
        if isinstance(key, EpochKey):
            check(EPOCH_KEY_NEW, EpochKeyAttributes(slot=slot, key=key))
        else:
            check(KEY_NEW, KeyAttributes(slot=slot, key=key))
        buffers = _writable_buffers(key) if consume else ()
        self._peers.backend.install_key(self._ref, KeySlot(slot), key)
        for buffer in buffers:
            buffer[:] = bytes(len(buffer))

    def swap_keys(self) -> None:
        """Exchanges primary and secondary at once; with an empty primary nothing is sent."""
        self._peers.backend.swap_keys(self._ref)

    def delete_key(self, slot: KeySlot) -> None:
        """Empties the slot; it may be empty already."""
        self._peers.backend.delete_key(self._ref, slot_of(slot))

    def key(self, slot: KeySlot) -> KeyInfo:
        """What is in the slot, never its material. NotFound when it is empty."""
        return self._peers.backend.key_info(self._ref, slot_of(slot))

    def delete(self) -> None:
        """Removes the peer; `PeerDeleted` with reason USERSPACE and the last counters follows."""
        self._peers.backend.delete_peer(self._ref)
        self._peers.deleted(self._ref)


def _writable_buffers(key: DataKey | EpochKey) -> list[memoryview]:
    if isinstance(key, EpochKey):
        secrets = ("encrypt_secret", "decrypt_secret")
        return [_writable(name, getattr(key, name)) for name in secrets]
    views = []
    for name, direction in (("encrypt", key.encrypt), ("decrypt", key.decrypt)):
        for field, data in (("key", direction.key), ("nonce_tail", direction.nonce_tail)):
            views.append(_writable(f"{name}.{field}", data))
    return views


def _writable(attribute: str, data: Buffer) -> memoryview:
    view = memoryview(data).cast("B")
    if view.readonly:
        message = "cannot be consumed: give a bytearray or a writable memoryview"
        raise refuse(errno.EINVAL, attribute, message)
    return view


class PeerObserver(Protocol):
    """Hears of peers that come, change and go, in the thread that causes it or reads of it."""

    def peer_changed(self, ref: PeerRef) -> None:
        """It was added, or set anew; it may be gone by now."""

    def peer_deleted(self, ref: PeerRef) -> None:
        """It is gone; may be told twice."""


class Peers(Mapping[int, Peer]):
    """The peers of a device by id, as they are at the moment of asking."""

    def __init__(self, backend: Backend, mode: Mode) -> None:
        self.backend = backend
        self.mode = mode
        self.transports = Transports(backend)
        self.watched = WatchedRoutes(backend)
        self.observers: list[PeerObserver] = []

    def __getitem__(self, peer_id: int) -> Peer:
        if not isinstance(peer_id, int) or not 0 <= peer_id <= 0xFFFFFF:
            raise KeyError(peer_id)
        try:
            info = self.backend.peer_info((peer_id, 0))
        except NotFound:
            raise KeyError(peer_id) from None
        return Peer(self, (info.peer_id, info.generation))

    def __iter__(self) -> Iterator[int]:
        return iter([peer_id for peer_id, _ in self.backend.peers()])

    def __len__(self) -> int:
        return len(self.backend.peers())

    def __repr__(self) -> str:
        return f"<Peers {list(self)}>" if not self.backend.closed else "<Peers of a closed device>"

    def add(self, spec: PeerSpec) -> Peer:
        """Adds one; see `Device.add_peer`."""
        attributes, transport = self._judge(spec)
        ref = self._add(attributes, transport)
        self.changed(ref)
        return Peer(self, ref)

    def add_all(self, specs: Iterable[PeerSpec]) -> list[Peer]:
        """Adds all or none; see `Device.add_peers`."""
        judged = [self._judge(spec) for spec in specs]
        refs: list[PeerRef] = []
        try:
            for attributes, transport in judged:
                refs.append(self._add(attributes, transport))
        except BaseException:
            self._delete_quietly(refs)
            raise
        for ref in refs:
            self.changed(ref)
        return [Peer(self, ref) for ref in refs]

    def _add(self, attributes: PeerAttributes, transport: int) -> PeerRef:
        with self.watched.behind(attributes):
            return self.backend.add_peer(transport, attributes)

    def delete_all(self, peers: Iterable[Peer | int]) -> None:
        """Deletes all or none; see `Device.delete_peers`."""
        present = dict(self.backend.peers())
        refs: list[PeerRef] = []
        for peer in peers:
            peer_id, generation = peer.ref if isinstance(peer, Peer) else (peer, None)
            found = present.get(peer_id)
            if found is None or generation not in (None, found):
                message = f"{peer_id} names no peer, or one that was deleted"
                raise refuse(errno.ENOENT, "peer_id", message)
            refs.append((peer_id, found))
        self._delete_quietly(refs)

    def _judge(self, spec: PeerSpec) -> tuple[PeerAttributes, int]:
        if self.backend.closed:
            raise error_for(errno.EBADF, "device is closed")
        transport = spec.transport
        if transport is not None and (
            not isinstance(transport, Transport) or not transport.belongs_to(self.backend)
        ):
            raise refuse(errno.EINVAL, "transport", "must be a transport of this device")
        kind = None
        if transport is not None:
            kind = "closed" if transport.closed else transport.kind.name.lower()
        attributes = peer_attributes(
            mode=self.mode,
            new=True,
            transport=kind,
            peer_id=spec.peer_id,
            remote=spec.remote,
            local=spec.local,
            vpn_ipv4=spec.vpn_ipv4,
            vpn_ipv6=spec.vpn_ipv6,
            tx_id=spec.tx_id,
            keepalive_interval_s=spec.keepalive_interval_s,
            keepalive_timeout_s=spec.keepalive_timeout_s,
        )
        return attributes, transport.transport_id

    def _delete_quietly(self, refs: Iterable[PeerRef]) -> None:
        for ref in refs:
            with contextlib.suppress(NotFound):
                self.backend.delete_peer(ref)
            self.deleted(ref)

    def changed(self, ref: PeerRef) -> None:
        """Tells the observers."""
        for observer in tuple(self.observers):
            observer.peer_changed(ref)

    def deleted(self, ref: PeerRef) -> None:
        """Tells the observers, and those who wait for its place."""
        for observer in tuple(self.observers):
            observer.peer_deleted(ref)
        self.watched.try_again()
