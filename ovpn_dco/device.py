"""The data channel: a device, and through it transports, peers, keys and routes."""

from __future__ import annotations

import errno
import logging
import os
import threading
import types
import warnings
import weakref
from collections.abc import AsyncIterator, Iterable
from socket import SOL_SOCKET
from typing import TYPE_CHECKING

from . import net
from .backend.base import Backend
from .control import ControlPort, EventPort
from .model import (
    DeviceStats,
    Event,
    Feature,
    Mode,
    Offload,
    Offloads,
    SourceCheck,
    StatsTable,
)
from .peer import Peer, Peers, PeerSpec
from .routes import Routes
from .transport import Transport
from .validation.arguments import integer, interface_addresses, offloads_of
from .validation.rules import DEVICE_OPEN, DeviceAttributes, check, refuse

if TYPE_CHECKING:
    import socket

    from .backend.userspace import UserspaceBackend

SO_COOKIE = 57  # asm-generic/socket.h; not in the socket module
MTU_DEFAULT = 1420
MAX_PEERS_DEFAULT = 65536
DATA_OVERHEAD = 24  # bytes that sealing adds: header, packet id, tag
UDP_PAYLOAD_MAX = 65507  # bytes, over IPv4
GSO_SEGMENTS_MAX = 64

logger = logging.getLogger("ovpn_dco")


class Device:
    """An open data channel device; `Device.open` makes one.

    Any thread may call anything at any time. A call either takes effect or raises a `DcoError` and
    changes nothing; after `close`, and in a forked child, every call raises DeviceClosed."""

    def __init__(self, backend: Backend, *, name: str, mode: Mode, mtu: int, netns: net.Netns):
        self._backend = backend
        self._mode = mode
        self._mtu = mtu
        self._netns = netns
        self._namespace = -1
        self._lock = threading.Lock()  # of _namespace
        self._peers = Peers(backend, mode)
        self._events = EventPort(backend, self._peers.transports)
        self._name = name
        self.control = ControlPort(backend, self._peers.transports)
        self.routes = Routes(self._peers)
        with _registry:
            _devices.add(self)

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
        tun_fd: int | None = None,
        workers: int | None = None,
        offloads: Offload | Iterable[str] | None = None,
        require: Iterable[Feature] = frozenset(),
        start: bool = True,
        source_check: SourceCheck | str | None = None,
        max_peers: int = MAX_PEERS_DEFAULT,
    ) -> Device:
        """Makes interface `name` ("ovpn%d": the first free number), or uses `tun_fd`.

        `mtu` (bytes, of the inner side), `addresses` (such as "10.8.0.1/24") and `up` are set on
        an interface that is made here; of them an adopted interface gets what is given, but its
        MTU stays. `netns` is a name, path or descriptor of the namespace of the interface; sockets
        may be of any. `tun_fd` is a TUN with IFF_NO_PI, or any descriptor with one packet per read,
        such as one end of `socketpair(AF_UNIX, SOCK_SEQPACKET)`; the device uses a copy of it, and
        `name` is then a label.

        `offloads` is what may be used (None: all); each is probed, and `Device.offloads` tells.
        `source_check` is STRICT in MULTIPEER mode and OFF in P2P mode unless given. `start=False`
        makes no thread before `start()`, so that privileges can be dropped in between.

        Raises InvalidArgument or OutOfRange naming the argument, UnsupportedError for what the
        back end lacks, AlreadyExists or Busy for a name in use, PermissionDenied and others naming
        /dev/net/tun with its mode and owner."""
        attributes = DeviceAttributes(
            name=name,
            mode=mode,
            mtu=integer("mtu", mtu),
            max_peers=integer("max_peers", max_peers),
            workers=None if workers is None else integer("workers", workers),
        )
        check(DEVICE_OPEN, attributes)
        packed_addresses = interface_addresses(addresses)
        allowed = offloads_of(offloads)
        verdict = _source_check(source_check, mode)
        _require_userspace(backend, frozenset(require))
        from .backend.userspace import UserspaceBackend

        engine = UserspaceBackend(
            mode=mode, source_check=verdict, max_peers=max_peers, offloads=allowed
        )
        device = cls(engine, name=name, mode=mode, mtu=mtu, netns=netns)
        try:
            device._open_interface(engine, tun_fd, packed_addresses, up)
            if start:
                device.start()
        except BaseException:
            device.close()
            raise
        logger.info("%s: %s back end, %s mode", device.name, device.backend, mode.name)
        return device

    def _open_interface(
        self,
        engine: UserspaceBackend,
        tun_fd: int | None,
        addresses: tuple[tuple[str, int], ...],
        up: bool,
    ) -> None:
        self._namespace = net.open_namespace(self._netns)
        if tun_fd is None:
            engine.open_tun(self._name, self._namespace)
        else:
            engine.adopt_tun(integer("tun_fd", tun_fd))
        interface = engine.interface()
        self._name = interface.name or self._name
        if not interface.name:
            if addresses or up:
                argument = "addresses" if addresses else "up"
                raise refuse(errno.EINVAL, argument, "needs an interface, which tun_fd is not")
            return
        config = net.InterfaceConfig(
            mtu=self._mtu if interface.owned else None,
            gso_segments=_train_length(self._mtu) if interface.owned else None,
            addresses=addresses,
            up=up,
        )
        if config != net.InterfaceConfig():
            net.configure(self._name, config, namespace=self._namespace)

    def start(self) -> None:
        """Starts the threads, if they do not run yet."""
        self._backend.start()

    def close(self) -> None:
        """Stops the threads, closes the interface if it was made here, and gives sockets back.

        Peers go with their device; their events can no longer be read. Idempotent; calls of other
        threads that wait return or raise DeviceClosed."""
        self._backend.close()
        with self._lock:
            namespace, self._namespace = self._namespace, -1
        if namespace >= 0:
            os.close(namespace)

    def _forget(self) -> None:
        self._backend.forget()
        self.routes.forget()
        self._lock = threading.Lock()
        if self._namespace >= 0:
            os.close(self._namespace)
        self._namespace = -1

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
        return f"<Device {self._name} {self._mode.name} {self._backend.name}{state}>"

    # What it is

    @property
    def name(self) -> str:
        """Of the interface; the label given to `open` where there is none."""
        return self._name

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
        """In the interface's namespace; 0 where there is no interface that can be seen."""
        return self._backend.interface().ifindex

    @property
    def netns(self) -> net.Netns:
        """As given to `open`."""
        return self._netns

    @property
    def mtu(self) -> int:
        """Bytes of the largest inner packet. A packet descriptor has no MTU of its own: there it
        is what was last set here, and nothing enforces it."""
        name = self._backend.interface().name
        if not name:
            return self._mtu
        with self._lock:
            return net.get_mtu(name, namespace=self._namespace)

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        value = integer("mtu", mtu)
        check(DEVICE_OPEN, DeviceAttributes(self._name, self._mode, value, max_peers=1))
        name = self._backend.interface().name
        if name:
            with self._lock:
                config = net.InterfaceConfig(mtu=value, gso_segments=_train_length(value))
                net.configure(name, config, namespace=self._namespace)
        self._mtu = value

    @property
    def offloads(self) -> Offloads:
        """What is allowed and what is in effect."""
        return self._backend.offloads()

    def set_offloads(self, offloads: Offload | Iterable[str] | None) -> None:
        """Changes what may be used while traffic flows; None: all.

        `Offload.VAES_GCM` takes effect for keys that are installed afterwards."""
        self._backend.set_offloads(offloads_of(offloads))

    def set_source_check(self, source_check: SourceCheck | str) -> None:
        """Changes the check of inner source addresses while traffic flows."""
        self._backend.set_source_check(_source_check(source_check, self._mode))

    def stats(self) -> DeviceStats:
        """Counters of the device; reading them never stops traffic."""
        return self._backend.stats()

    def stats_table(self) -> StatsTable:
        """Counters of all peers in one columnar buffer."""
        return self._backend.stats_table()

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

        The device duplicates the descriptor; from now on nobody else may read the socket. `df`
        sets the don't-fragment bit and learns the path MTU; without it datagrams may be fragmented
        on their way. Buffers are in bytes (None: 4 MiB each; `Transport.info` tells the sizes in
        effect). NotASocket, UnsupportedError, InvalidArgument for one that is not bound, Busy."""
        fd, cookie = _identify(sock)
        sizes = {
            "send_buffer": _buffer_size("send_buffer", send_buffer),
            "receive_buffer": _buffer_size("receive_buffer", receive_buffer),
        }
        with _registry:
            if any(device._is_attached(cookie) for device in list(_devices)):
                raise refuse(errno.EBUSY, "sock", "is attached to a device already")
            number = self._backend.attach_udp(fd, df=bool(df), **sizes)
            transport = Transport(self._backend, number, cookie, self._transport_closed)
            self._peers.transports[number] = transport
        return transport

    def _is_attached(self, cookie: bytes) -> bool:
        return any(t.holds(cookie) for t in list(self._peers.transports.values()))

    def _transport_closed(self, transport: Transport) -> None:
        if self._peers.transports.get(transport.transport_id) is transport:
            del self._peers.transports[transport.transport_id]

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


def _train_length(mtu: int) -> int:
    """How many sealed packets of full size one UDP send takes (65507 bytes, 64 segments).

    A super-packet of just as many segments leaves in one message instead of a long and a short
    one: 45 packets of 1444 bytes at an MTU of 1420."""
    return max(1, min(UDP_PAYLOAD_MAX // (mtu + DATA_OVERHEAD), GSO_SEGMENTS_MAX))


def _source_check(value: SourceCheck | str | None, mode: Mode) -> SourceCheck:
    if value is None:
        return SourceCheck.STRICT if mode is Mode.MULTIPEER else SourceCheck.OFF
    try:
        return SourceCheck(value)
    except ValueError:
        message = f"must be strict or off, not {value!r}"
        raise refuse(errno.EINVAL, "source_check", message) from None


def _require_userspace(backend: str, require: frozenset[Feature]) -> None:
    if backend == "kernel":
        raise refuse(
            errno.EOPNOTSUPP, "backend", "'kernel' is not part of this version: use 'userspace'"
        )
    if backend not in ("auto", "userspace"):
        raise refuse(errno.EINVAL, "backend", f"must be auto or userspace, not {backend!r}")
    from .backend.userspace import FEATURES

    for feature in require:
        if not isinstance(feature, Feature):
            raise refuse(errno.EINVAL, "require", f"holds {feature!r}, which is no Feature")
        if feature not in FEATURES:
            raise refuse(
                errno.EOPNOTSUPP,
                "require",
                f"asks for {feature.value}, which the userspace engine does not have",
            )


def _identify(sock: socket.socket) -> tuple[int, bytes]:
    """(descriptor, what the kernel calls the socket, whatever descriptor it is seen through)."""
    try:
        fd = sock.fileno()
        if fd < 0:
            raise refuse(errno.ENOTSOCK, "sock", "is closed")
        return fd, sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8)
    except (AttributeError, TypeError):
        raise refuse(errno.ENOTSOCK, "sock", f"must be a socket, not {sock!r}") from None


def _buffer_size(attribute: str, value: int | None) -> int:
    if value is None:
        return 0
    size = integer(attribute, value)
    if not 1 <= size <= 0x3FFFFFFF:  # the kernel doubles it, in an int
        raise refuse(errno.ERANGE, attribute, "must be 1 to 1073741823 bytes")
    return size


# In a forked child only the thread that forked goes on: the engine's are gone, and what they held
# locked stays locked. So the child only closes what it inherited and cleanses the keys.

_devices: weakref.WeakSet[Device] = weakref.WeakSet()
_registry = threading.RLock()  # of _devices, and of attaching a socket to only one of them


def _forget_all() -> None:
    global _registry
    _registry = threading.RLock()
    for device in list(_devices):
        device._forget()
    _devices.clear()


os.register_at_fork(after_in_child=_forget_all)
