"""The data channel: a device, and through it transports, peers, keys and routes."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import types
import warnings
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, cast

from . import net, registry
from .backend.base import Backend
from .backend.choice import choose
from .control import ControlPort, EventPort
from .forwarding import Forwarding
from .interface import InnerSide
from .model import (
    Buffer,
    DeviceStats,
    Event,
    Feature,
    Mode,
    Offload,
    Offloads,
    SourceCheck,
    StatsTable,
    TracePoint,
)
from .opening import Opening, Request, source_check_of
from .peer import Peer, Peers, PeerSpec
from .routes import Routes
from .state import (
    DeviceState,
    permits_of,
    restore_peers,
    restore_transports,
    write,
)
from .transport import Transport
from .validation.arguments import (
    bounded,
    offloads_of,
)
from .validation.rules import refuse

if TYPE_CHECKING:
    import socket

    from .backend.userspace import UserspaceBackend
    from .trace import Sink, Trace


MTU_DEFAULT = 1420
MAX_PEERS_DEFAULT = 65536
RESERVE_DEFAULT = 4096  # packet ids
PACKET_ID_MAX = 0xFFFFFFFF
COPIES_DEFAULT = 10_000
COPIES_MAX = 1 << 25  # DCO_GROUP_COPIES_MAX

logger = logging.getLogger("ovpn_dco.backend")  # an operator wants to know which it is


class Device:
    """An open data channel device; `Device.open` makes one.

    Any thread may call anything at any time. A call either takes effect or raises a `DcoError` and
    changes nothing; after `close`, and in a forked child, every call raises DeviceClosed."""

    def __init__(self, backend: Backend, opening: Opening, inner: InnerSide) -> None:
        self._backend = backend
        self._mode = opening.mode
        self._check = opening.source_check
        self._icmp_unreachable = opening.icmp_unreachable
        self._max_peers = opening.attributes.max_peers
        self._inner = inner
        self._trace: Trace | None = None
        self._peers = Peers(backend, self._mode)
        self._events = EventPort(self._peers)
        self.control = ControlPort(backend, self._peers.transports)
        self.routes = Routes(self._peers, inner)
        self.forwarding = Forwarding(self._peers, inner)
        self._copies_per_s = 0
        registry.enter(self)

    # Lifecycle

    @classmethod
    def open(
        cls,
        name: str,
        *,
        mode: Mode,
        backend: str = "auto",
        mtu: int = MTU_DEFAULT,
        addresses: Iterable[object] = (),
        up: bool = False,
        netns: net.Netns = None,
        tun_fd: int | Sequence[int] | None = None,
        workers: int | None = None,
        single_thread: bool | None = None,
        offloads: Offload | Iterable[str] | None = None,
        require: Iterable[Feature] = frozenset(),
        start: bool = True,
        source_check: SourceCheck | str | None = None,
        icmp_unreachable: bool | None = None,
        max_peers: int = MAX_PEERS_DEFAULT,
        persist: bool = False,
        owner: int | None = None,
        restore: Buffer | None = None,
        descriptors: Sequence[int] = (),
    ) -> Device:
        """Makes interface `name` ("ovpn%d": the first free number), or uses `tun_fd`.

        `mtu` (bytes, of the inner side), `addresses` (such as "10.8.0.1/24") and `up` are set on
        an interface that is made here; of them an adopted interface gets what is given, but its
        MTU stays. `netns` is a name, path or descriptor of the namespace of the interface; sockets
        may be of any. `tun_fd` is a TUN with IFF_NO_PI, or any descriptor with one packet per read,
        such as one end of `socketpair(AF_UNIX, SOCK_SEQPACKET)`; the device uses a copy of it, and
        `name` is then a label. Of a multi-queue TUN it may be a sequence, at most one for each
        worker.

        `backend` is "kernel", the driver of Linux 6.16 and later, "userspace", the engine of this
        package, or "auto": the driver where it is there, may be used and can do all that is asked
        for, by `require` or by another argument, and else the engine. `Device.backend` tells, and
        one line of the log says why. `workers`, `single_thread` and `offloads` are the engine's.

        `workers` (None: 1) share the peers among them; each has two threads, a queue of the
        interface and a socket of its own. More of them pay where there are more cores and several
        busy peers. `single_thread` does the work of one worker in one thread (None: on a machine,
        or an affinity, of one core).

        `offloads` is what may be used (None: all); each is probed, and `Device.offloads` tells.
        `source_check` is STRICT in MULTIPEER mode and OFF in P2P mode unless given. With
        `icmp_unreachable` whoever sends to an address that no peer has is told so by ICMP (None:
        no). `start=False` makes no thread before `start()`, so that privileges can be dropped in
        between.

        The interface goes with the device, or with the process, unless `persist`: then it stays
        with its addresses, and the next `open` of that name with `persist` takes it over. What is
        set already is not set again, so that this takes no privilege for the user id `owner`.

        `restore` is what `export_state` of another device gave, and `descriptors` are copies of its
        descriptors, in their order: the device goes on where that one was halted, with as many
        workers. Its transports are then in `transports`, its peers in `peers`.

        Raises InvalidArgument or OutOfRange naming the argument, UnsupportedError for what the
        back end lacks, AlreadyExists or Busy for a name in use, PermissionDenied and others naming
        /dev/net/tun with its mode and owner."""
        request = Request(
            name=name,
            mode=mode,
            mtu=mtu,
            addresses=addresses,
            tun_fd=tun_fd,
            workers=workers,
            single_thread=single_thread,
            offloads=offloads,
            source_check=source_check,
            icmp_unreachable=icmp_unreachable,
            max_peers=max_peers,
            persist=persist,
            owner=owner,
            start=start,
            restore=restore,
            descriptors=descriptors,
        )
        opening = Opening.of(request)
        choice = choose(backend, opening.needs(request, require))
        engine = opening.make_backend(choice.name)
        device = cls(engine, opening, InnerSide(engine, opening.attributes, netns))
        try:
            device._set_up(opening, up=up)
            if start:
                device.start()
        except BaseException:
            device.close()
            raise
        what = f"{device.backend} back end, {mode.name} mode"
        logger.info("%s: %s: %s", device.name, what, choice.reason)
        return device

    def _set_up(self, opening: Opening, *, up: bool) -> None:
        self._inner.open(opening.addresses, up)
        if opening.adopts:
            self._inner.check_framing()
        if opening.state is not None:
            engine = cast("UserspaceBackend", self._backend)
            self._restore(engine, opening.state, opening.sockets)

    def _restore(self, engine: UserspaceBackend, state: DeviceState, fds: Sequence[int]) -> None:
        numbers = restore_transports(engine, self._peers.transports, state, fds)
        self.routes.restored(*restore_peers(engine, state, numbers))
        self.forwarding.restore(state.forwarding, permits_of(engine, state))
        if state.copies_per_s:
            self.set_multicast(on=True, copies_per_s=state.copies_per_s)

    def start(self) -> None:
        """Starts the threads, if they do not run yet; after `export_state`, again."""
        self._backend.start()

    def export_state(self, *, reserve: int = RESERVE_DEFAULT) -> tuple[bytearray, list[int]]:
        """Halts the device and describes it, so that another one can go on: (state, descriptors).

        The other one may be in another process of this machine, to which the descriptors go by
        SCM_RIGHTS: `Device.open(..., restore=state, descriptors=fds)`. They are the device's own
        and stay open until it is closed. The state holds keys: seal it where it leaves the two
        processes, and clear it. Packets wait in the kernel meanwhile.

        From here on `close` leaves sockets and interface to the other device. If that could not be
        opened, `start` takes all back: `reserve` packet ids of each key stay here, so that no
        nonce can be used twice, even if both were to go on. Connections that no peer has been added
        to stay behind; so do events and control packets, which can still be read here.

        Raises InvalidArgument when the device does not run, UnsupportedError for a back end that
        cannot."""
        backend = self._backend
        limit = bounded("reserve", reserve, 0, PACKET_ID_MAX)
        if Feature.HANDING_OVER not in backend.features:
            raise refuse(errno.EOPNOTSUPP, "backend", "cannot hand its state over")
        engine = cast("UserspaceBackend", backend)
        engine.halt()
        return write(
            engine,
            mode=self._mode,
            source_check=self._check,
            icmp_unreachable=self._icmp_unreachable,
            max_peers=self._max_peers,
            transports=self._peers.transports.to_hand_over(),
            of_peers={
                "routes": self.routes.by_owner(),
                "watched_routes": self.routes.watched_by_owner(),
                "permits": self.forwarding.permitted_ids(),
            },
            of_device={
                "forwarding": self.forwarding.mode.value,
                "copies_per_s": self._copies_per_s,
            },
            reserve=limit,
        )

    def close(self) -> None:
        """Stops the threads, removes the interface if it was made here and is not persistent, and
        gives sockets back.

        Peers go with their device; their events can no longer be read. Idempotent, and done when
        it returns, also where another thread was first; calls of other threads that wait return or
        raise DeviceClosed. A descriptor that `fileno` has given away stays open and readable until
        the device is collected, since somebody may be waiting on it; all others are closed."""
        self.routes.close()
        if self._trace is not None:
            with contextlib.suppress(OSError):  # its own `close` tells
                self._trace.close()
        self._backend.close()
        self._inner.close()

    # What the registry sees of it

    def _holds(self, cookie: bytes) -> bool:
        return self._peers.transports.holds(cookie)

    def _freeze(self) -> None:
        self._backend.freeze()

    def _thaw(self) -> None:
        self._backend.thaw()

    def _forget(self) -> None:
        self._backend.forget()
        if self._trace is not None:
            self._trace.forget()
        self.routes.forget()
        self.forwarding.forget()
        self._inner.forget()

    @property
    def closed(self) -> bool:
        """True after `close`, and in a forked child."""
        return self._backend.closed

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        backend = getattr(self, "_backend", None)
        if backend is not None and not backend.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<Device {self.name} {self._mode.name} {self._backend.name}{state}>"

    # What it is

    @property
    def name(self) -> str:
        """Of the interface as it is called now, since anybody may rename it; the last one after it
        was deleted or the device closed. The label given to `open` where there is no interface."""
        return self._inner.name

    @property
    def mode(self) -> Mode:
        """Fixed when the device is opened."""
        return self._mode

    @property
    def backend(self) -> str:
        """Which engine carries the packets."""
        return self._backend.name

    @property
    def features(self) -> frozenset[Feature]:
        """What `require` may ask of this back end."""
        return self._backend.features

    @property
    def ifindex(self) -> int:
        """In the namespace where the interface is now; 0 where there is none, or none that can be
        seen."""
        return self._inner.index

    @property
    def netns(self) -> net.Netns:
        """As given to `open`. An interface that is moved to another namespace works on there, and
        `mtu` and `ifindex` follow it; this does not."""
        return self._inner.netns

    @property
    def mtu(self) -> int:
        """Bytes of the largest inner packet. A packet descriptor has no MTU of its own: there it
        is what was last set here, and nothing enforces it."""
        return self._inner.mtu

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self._inner.mtu = mtu

    @property
    def persist(self) -> bool:
        """Whether the interface stays when the device is closed or its process dies."""
        return self._inner.persist

    @persist.setter
    def persist(self, persist: bool) -> None:
        self._inner.persist = persist

    @property
    def offloads(self) -> Offloads:
        """What is allowed and what is in effect."""
        return self._backend.offloads()

    def set_offloads(self, offloads: Offload | Iterable[str] | None) -> None:
        """Changes what may be used while traffic flows; None: all.

        `Offload.VAES_GCM` takes effect for keys that are installed afterwards."""
        self._backend.set_offloads(offloads_of(offloads))

    def set_source_check(self, source_check: SourceCheck | str) -> None:
        """Changes the check of inner source addresses while traffic flows, for all peers but those
        that have one of their own by `Peer.set_source_check`."""
        verdict = source_check_of(source_check, self._mode)
        self._backend.set_source_check(verdict)
        self._check = verdict

    def set_multicast(self, *, on: bool, copies_per_s: int = COPIES_DEFAULT) -> None:
        """Whether multicast and broadcast go to all peers of a MULTIPEER device: a copy for each
        that has a key and has not refused (`Peer.set_multicast`). Off, they find no peer.

        A worker makes up to `copies_per_s` in a second, and looks at sixteen peers for the price of
        one; a packet that is cut short counts as TX_GROUP_LIMIT.
        Where forwarding is on those of a peer go to the other peers as well, as far as it may
        reach them. Broadcast is 255.255.255.255 and that of the device's networks as they are
        now. InvalidArgument, OutOfRange."""
        copies = bounded("copies_per_s", copies_per_s, 1, COPIES_MAX) if on else 0
        if on:
            self._backend.reserve(self._inner.reserved())
        self._backend.set_multicast(copies)
        self._copies_per_s = copies

    def stats(self) -> DeviceStats:
        """Counters of the device; reading them never stops traffic."""
        return self._backend.stats()

    def stats_table(self) -> StatsTable:
        """Counters of all peers in one columnar buffer."""
        return self._backend.stats_table()

    def trace(
        self,
        target: str | os.PathLike[str] | Sink,
        *,
        sample: float = 1.0,
        snap: int = 128,
        peers: Iterable[Peer | int] | None = None,
        points: TracePoint | Iterable[str] = TracePoint.ALL,
        drops_only: bool = False,
        buffer_bytes: int = 1 << 20,
    ) -> Trace:
        """Writes packets, with what became of them, to a file (pcapng) until the trace is closed.

        `target` is a path, or a binary file that stays open. Of each packet the first `snap` bytes
        are kept: **inner packets are plain text there**, keys never are. `sample` is the share of
        packets, told by their packet ids, so that one packet is there at all `points` and at both
        ends of a tunnel, or at none. `peers`, handles or ids, leaves out all others and what has no
        peer; `drops_only` what was not dropped. `buffer_bytes` for each thread of the device are
        set aside; what finds no room there is counted as `Trace.lost`, and traffic goes on.

        Busy while there is a trace, also a closed one whose file takes nothing; InvalidArgument,
        OutOfRange, UnsupportedError for a back end without Feature.TRACE, and OSError of the
        file."""
        from . import trace

        if Feature.TRACE not in self.features:
            raise refuse(errno.EOPNOTSUPP, "trace", "is not part of this back end")
        if self._trace is not None and self._trace.stuck:  # it would take records of the next
            raise refuse(errno.EBUSY, "trace", "has not ended: what it is written to takes nothing")
        chosen = trace.settings(
            sample=sample,
            snap=snap,
            peers=peers,
            known=self._peers,
            points=points,
            drops_only=drops_only,
            buffer_bytes=buffer_bytes,
        )
        self._trace = trace.Trace(self._backend, target, name=self.name, chosen=chosen)
        return self._trace

    # Transports

    def attach_udp(
        self,
        sock: socket.socket,
        *,
        df: bool = False,
        send_buffer: int | None = None,
        receive_buffer: int | None = None,
    ) -> Transport:
        """Attaches a bound UDP socket, IPv4, IPv6 or dual-stack.

        The device duplicates the descriptor; from now on nobody else may read the socket. Without
        `df` datagrams may be fragmented on their way, over IPv6 by this host. With it data packets
        are not: what a path carries is learned from ICMP, and packets beyond that are dealt with as
        a router does; see `Peer.set_path_limit`. Buffers are in bytes (None: 4 MiB each;
        `Transport.info` tells the sizes in effect). NotASocket, UnsupportedError, InvalidArgument
        for one that is not bound, Busy."""
        return self._peers.transports.attach_udp(
            sock, df=bool(df), send_buffer=send_buffer, receive_buffer=receive_buffer
        )

    def attach_tcp(
        self,
        sock: socket.socket,
        *,
        send_buffer: int | None = None,
        receive_buffer: int | None = None,
    ) -> Transport:
        """Attaches a connected TCP socket, which one peer can be reached through.

        The device duplicates the descriptor; from now on nobody else may read or write the socket.
        What has arrived already is read as usual. Each packet stands behind its length, two bytes.
        Before it has a peer the connection takes frames of up to 2048 bytes, and a data packet
        makes it wait: the peer gets it first. Buffers are in bytes (None: the kernel tunes them).
        The connection's end deletes its peer and is told by `TransportFailed`. NotASocket,
        UnsupportedError, DcoError with ENOTCONN, InvalidArgument for one that listens, Busy."""
        return self._peers.transports.attach_tcp(
            sock, send_buffer=send_buffer, receive_buffer=receive_buffer
        )

    def listen_tcp(
        self,
        sock: socket.socket,
        *,
        trials_max: int = 512,
        trials_per_source_max: int = 32,
        deadline_s: int = 60,
    ) -> Transport:
        """Accepts connections from a listening TCP socket; nobody else may accept from now on.

        Each becomes a transport of its own, which its first control packet brings. It is on trial
        until a peer is added to it: at most `trials_max` at one time, of which
        `trials_per_source_max` of one /24 of IPv4 or /56 of IPv6 (more are closed at once), and
        for `deadline_s` seconds. Nothing is sent to a client that has not sent a packet.

        NotASocket, UnsupportedError, InvalidArgument for a socket that does not listen, Busy."""
        return self._peers.transports.listen_tcp(
            sock,
            trials_max=trials_max,
            trials_per_source_max=trials_per_source_max,
            deadline_s=deadline_s,
        )

    @property
    def transports(self) -> list[Transport]:
        """Those that are open, in the order in which they came."""
        found = map(self._peers.transports.find, self._peers.transports.numbers())
        return [transport for transport in found if transport is not None]

    # Peers

    @property
    def peers(self) -> Peers:
        """All peers by id: a mapping that reads the engine whenever it is asked."""
        return self._peers

    def add_peer(
        self,
        peer_id: int,
        transport: Transport,
        *,
        remote: object = None,
        local: object = None,
        vpn_ipv4: object = None,
        vpn_ipv6: object = None,
        tx_id: int | None = None,
        keepalive_interval_s: int | None = None,
        keepalive_timeout_s: int | None = None,
    ) -> Peer:
        """Adds a peer; in P2P mode it takes the place of the one before.

        `peer_id` is the id in packets that it sends, `tx_id` the one in packets that it gets (None:
        the same). `remote` is its socket address, `local` the host of ours that it talks to. The
        VPN addresses are what it owns of a MULTIPEER device's inner side; one is needed there.
        Keepalive is described at `Peer.set_keepalive`.

        InvalidArgument, OutOfRange, AlreadyExists for an id in use, AddressInUse for a VPN address,
        NotASocket for a closed transport, LimitReached at `max_peers` peers or unread deletions."""
        return self._peers.add(
            PeerSpec(
                peer_id=peer_id,
                transport=transport,
                remote=remote,
                local=local,
                vpn_ipv4=vpn_ipv4,
                vpn_ipv6=vpn_ipv6,
                tx_id=tx_id,
                keepalive_interval_s=keepalive_interval_s,
                keepalive_timeout_s=keepalive_timeout_s,
            )
        )

    def add_peers(self, specs: Iterable[PeerSpec]) -> list[Peer]:
        """Adds all or none. Raises what `add_peer` does; peers that were already added when one
        is refused are deleted again, which their PeerDeleted events show."""
        return self._peers.add_all(specs)

    def delete_peers(self, peers: Iterable[Peer | int]) -> None:
        """Deletes peers, or ids. NotFound, and none deleted, if one of them is not there."""
        self._peers.delete_all(peers)

    # Events

    def fileno(self) -> int:
        """Readable while an event or a control packet waits; the device closes it."""
        return self._backend.fileno()

    def poll_events(self, *, timeout_s: float | None = 0.0) -> list[Event]:
        """Events in the order in which they happened; waits for the first (None: for ever).

        Empty after the time, and when a signal arrives, so that its Python handler is run."""
        return self._events.poll(timeout_s)

    def events(self) -> AsyncIterator[Event]:
        """The same through asyncio, until the device is closed."""
        return self._events.stream()
