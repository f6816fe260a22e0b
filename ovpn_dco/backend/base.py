"""What a device needs of an engine. Arguments are checked and packed before they get here.

Every call may come from any thread, raises `DcoError`, and changes nothing when it does. A peer is
named by (id, generation); generation 0 is whichever peer has the id now. Transports are numbers;
events carry `None` for them until the device puts its own objects in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from ..model import (
    Buffer,
    ControlPacket,
    ControlTransport,
    DataKey,
    DeviceStats,
    EpochKey,
    Event,
    Feature,
    ForwardingMode,
    KeyInfo,
    KeySlot,
    Offload,
    Offloads,
    PeerInfo,
    PeerSetting,
    SourceCheck,
    StatsTable,
    TraceRecord,
    TraceSettings,
    TransportInfo,
)
from ..validation.rules import PeerAttributes, RawAddress

PeerRef: TypeAlias = tuple[int, int]
FindTransport: TypeAlias = Callable[[int], ControlTransport | None]


class ReservedAddress(NamedTuple):
    """A prefix that no peer may have, though a wider route covers it. `group`: it is broadcast."""

    ip: bytes
    bits: int
    group: bool = False


class Interface(NamedTuple):
    """The inner side. `name`, as it is now or was before, is empty where it is no interface.

    `ifindex` is what it was when it was opened. `owned`: the device made it, or took over a
    persistent one, which is then `existed`. `present`: not deleted. `persistent`: stays."""

    name: str
    ifindex: int
    owned: bool
    existed: bool = False
    present: bool = True
    persistent: bool = False


class Backend(Protocol):
    """One open device of some engine."""

    name: str
    features: frozenset[Feature]
    system_routes: bool
    """Whether the routes of the system are the only ones: `add_route` makes one there."""

    def open_interface(self, name: str, netns_fd: int, *, existing: bool) -> None:
        """Makes interface `name` ("%d" in it: a number that is free) in the namespace (< 0: the
        caller's). With `existing` one that has stayed is taken over, if there is one."""

    def adopt_tun(self, fds: Sequence[int]) -> None:
        """Uses copies of descriptors: queues of one TUN, or one that gives one packet per read.
        UnsupportedError without Feature.PACKET_DESCRIPTOR."""

    def train_length(self, mtu: int) -> int | None:
        """How many segments a super-packet of the interface should have at most; None: any."""

    @property
    def closed(self) -> bool: ...

    def start(self) -> None: ...

    def close(self) -> None:
        """Stops all threads; idempotent."""

    def freeze(self) -> None:
        """Before a fork: nothing is half changed until `thaw`, or `forget` in the child."""

    def thaw(self) -> None: ...

    def forget(self) -> None:
        """In a forked child: closes what was inherited, without effect on the parent."""

    def interface(self) -> Interface: ...

    def interface_namespace(self) -> int:
        """A new descriptor of the namespace where the interface is now. PermissionDenied without
        CAP_NET_ADMIN over that namespace, InterfaceMissing when there is none."""

    def set_persistent(self, on: bool) -> None: ...

    def set_owner(self, user: int) -> None: ...

    def set_source_check(self, check: SourceCheck) -> None: ...

    def offloads(self) -> Offloads: ...

    def set_offloads(self, offloads: Offload) -> None: ...

    def stats(self) -> DeviceStats: ...

    def stats_table(self) -> StatsTable: ...

    # Traces

    def trace_start(self, settings: TraceSettings) -> int:
        """A descriptor that is readable while records wait, until the next trace starts. Busy while
        there is one."""

    def trace_stop(self) -> None:
        """Records that wait can still be read. NotFound without a trace."""

    def trace_read(self, maximum: int) -> list[TraceRecord]:
        """The oldest that wait."""

    def trace_lost(self) -> int:
        """Records of the present trace, or the last one, for which there was no room."""

    # Waiting

    def fileno(self) -> int:
        """A descriptor that is readable while a control packet or an event waits."""

    def control_fileno(self) -> int:
        """The same for control packets alone."""

    def event_fileno(self) -> int:
        """The same for events alone."""

    def wait(self, timeout_s: float | None) -> bool:
        """Until an event waits; False after the time, or after a signal."""

    def receive_control(self, maximum: int, find: FindTransport) -> list[ControlPacket]:
        """What has come, each packet with the transport that `find` gives for its number."""

    def poll_events(self, maximum: int) -> list[tuple[int, Event]]:
        """(transport number, event) of each; the number matters for transport events only."""

    # Transports

    def attach_udp(self, fd: int, *, df: bool, send_buffer: int, receive_buffer: int) -> int: ...

    def attach_tcp(self, fd: int, *, send_buffer: int, receive_buffer: int) -> int: ...

    def listen_tcp(
        self, fd: int, *, trials_max: int, trials_per_source_max: int, deadline_s: int
    ) -> int: ...

    def detach(self, transport: int) -> None: ...

    def transport_info(self, transport: int) -> TransportInfo: ...

    def send_control(
        self, transport: int, data: Buffer, remote: RawAddress | None, local: RawAddress | None
    ) -> None: ...

    # Peers

    def add_peer(self, transport: int, attributes: PeerAttributes) -> PeerRef: ...

    def set_peer(self, peer: PeerRef, attributes: PeerAttributes) -> None: ...

    def set_feature(self, peer: PeerRef, setting: PeerSetting) -> None: ...

    def send_message(self, peer: PeerRef, data: Buffer) -> None: ...

    def delete_peer(self, peer: PeerRef) -> None: ...

    def peer_info(self, peer: PeerRef) -> PeerInfo: ...

    def peers(self) -> list[PeerRef]: ...

    # Packets between peers

    def set_forwarding(self, mode: ForwardingMode) -> None: ...

    def set_multicast(self, copies_per_s: int) -> None:
        """0: off."""

    def permit(self, peer: PeerRef, destinations: Collection[PeerRef]) -> None:
        """Those that it may reach, in place of the ones before."""

    def reserve(self, addresses: Sequence[ReservedAddress]) -> None:
        """Those that are nobody's, in place of the ones before."""

    # Keys

    def install_key(self, peer: PeerRef, slot: KeySlot, key: DataKey | EpochKey) -> None:
        """A back end without Feature.EPOCH_KEYS answers an EpochKey with UnsupportedError."""

    def swap_keys(self, peer: PeerRef) -> None: ...

    def delete_key(self, peer: PeerRef, slot: KeySlot) -> None: ...

    def key_info(self, peer: PeerRef, slot: KeySlot) -> KeyInfo: ...

    # Routes

    def add_route(self, prefix: tuple[bytes, int], peer: PeerRef) -> None: ...

    def delete_route(self, prefix: tuple[bytes, int]) -> None: ...

    def lookup_route(self, ip: bytes) -> PeerRef: ...
