"""Traces: packets with what became of them, as a file that Wireshark reads."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import math
import os
import select
import stat
import struct
import threading
import time
import types
from collections.abc import Iterable, Sequence
from typing import Protocol

from . import pcapng
from .backend.base import Backend, PeerRef
from .errors import DcoError, DeviceClosed
from .model import PackedAddress, TracePoint, TraceRecord, TraceSettings
from .peer import Peer, Peers
from .validation.arguments import bounded
from .validation.rules import PEER_ID_MAX, refuse

SNAP_MAX = 65535  # DCO_TRACE_SNAP_MAX
PEERS_MAX = 64  # DCO_TRACE_PEERS_MAX
BUFFER_MAX = 1 << 30
_WHOLE = 1 << 32  # what a share is of
_RECORD = 256  # bytes at most that a record has beside its packet
_BATCH = 256
# Records of this time are written together: a busy device rings for each.
_PAUSE_S = 0.02
# How long the end of a trace, and so of a device, waits for a file that takes nothing.
_PATIENCE_S = 5.0
_INNER, _OUTER = 0, 1  # interfaces of the file
_HEADERS_MAX = 48  # IPv6 and UDP

logger = logging.getLogger("ovpn_dco")


class Sink(Protocol):
    """What a trace is written to, beside a path: a binary file, or what looks like one."""

    def write(self, data: memoryview, /) -> object:
        """Takes the bytes, or at least as many as it says."""
        ...


# Arguments


def settings(
    *,
    sample: float,
    snap: int,
    peers: Iterable[Peer | int] | None,
    known: Peers,
    points: TracePoint | Iterable[str],
    drops_only: bool,
    buffer_bytes: int,
) -> TraceSettings:
    """What `Device.trace` says, checked. InvalidArgument, OutOfRange."""
    length = bounded("snap", snap, 0, SNAP_MAX)
    least = 4 * (_RECORD + length)
    room = bounded("buffer_bytes", buffer_bytes, least, BUFFER_MAX)
    return TraceSettings(
        points=_points(points),
        drops_only=bool(drops_only),
        share=_share(sample),
        snap=length,
        buffer_bytes=1 << (room - 1).bit_length(),
        peers=_refs(peers, known),
    )


def _share(sample: float) -> int:
    number = isinstance(sample, int | float) and not isinstance(sample, bool)
    if not number or not 0 < sample <= 1:
        raise refuse(errno.EINVAL, "sample", f"must be above 0 and at most 1, not {sample!r}")
    return math.ceil(sample * _WHOLE) % _WHOLE


def _points(points: TracePoint | Iterable[str]) -> TracePoint:
    if isinstance(points, str):
        raise refuse(errno.EINVAL, "points", "must be a sequence of names, not one string")
    chosen = points if isinstance(points, TracePoint) else TracePoint(0)
    for name in () if isinstance(points, TracePoint) else points:
        try:
            chosen |= TracePoint[str(name).upper()]
        except KeyError:
            raise refuse(errno.EINVAL, "points", f"has {name!r}, which is no point") from None
    if not chosen:
        raise refuse(errno.EINVAL, "points", "names no point: nothing would be recorded")
    return chosen


def _refs(peers: Iterable[Peer | int] | None, known: Peers) -> tuple[PeerRef, ...]:
    if peers is None:
        return ()
    refs = tuple(_ref(peer, known) for peer in peers)
    if not 0 < len(refs) <= PEERS_MAX:
        raise refuse(errno.ERANGE, "peers", f"must be 1 to {PEERS_MAX}, or None for all")
    return refs


def _ref(peer: Peer | int, known: Peers) -> PeerRef:
    """Of an id: whoever has it now, and later."""
    if not isinstance(peer, Peer):
        return bounded("peers", peer, 0, PEER_ID_MAX), 0
    if not peer.belongs_to(known):
        raise refuse(errno.EINVAL, "peers", "has a peer of another device")
    return peer.ref


# Records as blocks


def comment(record: TraceRecord) -> str:
    """What the packet itself does not show, as words with values.

    >>> comment(record)
    'rx_outer peer=7 generation=1 key=0 packet=42 drop=rx_decrypt (authentication failed)'"""
    words = [(record.point.name or "").lower()]
    if record.peer is not None:
        words.append("peer={} generation={}".format(*record.peer))
    if record.packet_id is not None:
        words.append(f"key={record.key_id}")
        if record.epoch is not None:
            words.append(f"epoch={record.epoch}")
        words.append(f"packet={record.packet_id}")
    elif record.data and not record.point.is_inner:
        words.append(f"opcode={record.data[0] >> 3}")
    if record.packets > 1:
        words.append(f"packets={record.packets}")
    if record.stream:
        words.append("tcp")
    if record.drop is not None:
        words.append(f"drop={record.drop.name.lower()}")
        if record.lost != record.packets:
            words.append(f"lost={record.lost}")
        words.append(f"({record.drop.text})")
    return " ".join(words)


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


@functools.lru_cache(maxsize=1024)
def _headers(source: PackedAddress, target: PackedAddress, size: int) -> bytes:
    """IP and UDP as they were, or would have been over UDP; their checksums were not kept."""
    length = min(size + 8, 65535)
    udp = struct.pack("!HHHH", source[1], target[1], length, 0)
    if len(source[0]) == 16:
        return struct.pack("!IHBB", 6 << 28, length, 17, 64) + source[0] + target[0] + udp
    total = min(size + 28, 65535)
    head = struct.pack("!BBHHHBBH", 0x45, 0, total, 0, 0, 64, 17, 0) + source[0] + target[0]
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + udp


def _outer_headers(record: TraceRecord) -> bytes:
    nowhere = (bytes(len(record.remote[0]) if record.remote else 4), 0, 0)
    remote, local = record.remote or nowhere, record.local or nowhere
    if len(local[0]) != len(remote[0]):
        local = (nowhere[0], local[1], 0)
    if record.point.is_outbound:
        return _headers(local, remote, record.size)
    return _headers(remote, local, record.size)


def block(record: TraceRecord) -> bytes:
    """The record as a packet of its interface."""
    headers = b"" if record.point.is_inner else _outer_headers(record)
    return pcapng.packet(
        _INNER if record.point.is_inner else _OUTER,
        record.time_ns,
        headers + record.data,
        size=len(headers) + record.size,
        direction=pcapng.OUTBOUND if record.point.is_outbound else pcapng.INBOUND,
        comment=comment(record),
    )


# The trace


class _File:
    """A file of our own, that nobody else may read: there are packets in it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if stat.S_ISREG(os.fstat(self._fd).st_mode):
                os.fchmod(self._fd, 0o600)  # it may have been there
                os.ftruncate(self._fd, 0)
        except OSError:
            os.close(self._fd)
            raise

    def write(self, data: memoryview, /) -> int:
        return os.write(self._fd, data)

    def close(self) -> None:
        os.close(self._fd)


class Trace:
    """A trace that is being written, until it is closed; `Device.trace` makes it."""

    def __init__(
        self,
        backend: Backend,
        target: str | os.PathLike[str] | Sink,
        *,
        name: str,
        chosen: TraceSettings,
    ) -> None:
        self._backend = backend
        self._own: _File | None = None
        self._counts = [0, 0]
        self._lost = 0
        self._error: OSError | None = None
        self._stopping = False
        self._stopped = threading.Event()  # nothing is recorded any more
        ready = backend.trace_start(chosen)  # before the file: another trace may be writing it
        try:
            if isinstance(target, str | os.PathLike):
                target = self._own = _File(target)
            self._sink = target
            self._write(_beginning(name, chosen.snap))
        except BaseException:
            self._finish()
            raise
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="ovpn-dco-trace", daemon=True
        )
        self._thread.start()

    @property
    def written(self) -> int:
        """Packets in the file."""
        return sum(self._counts)

    @property
    def stuck(self) -> bool:
        """Closed and still not complete, since what it is written to takes nothing."""
        return self._stopped.is_set() and self._thread.is_alive()

    @property
    def lost(self) -> int:
        """Packets that are missing in it, since they came faster than they could be written."""
        if self._thread.is_alive():
            with contextlib.suppress(DcoError):  # closed meanwhile
                return self._backend.trace_lost()
        return self._lost

    def close(self) -> None:
        """Ends it, when all that was recorded is in the file; idempotent.

        Raises the OSError that has ended it before, such as a full disk."""
        self._stopping = True
        with contextlib.suppress(DcoError):  # it has ended by itself, or the device was closed
            self._backend.trace_stop()
        self._stopped.set()
        self._thread.join(_PATIENCE_S)
        if self.stuck:
            logger.warning("trace: what it is written to takes nothing: the end is missing")
        error, self._error = self._error, None
        if error is not None:
            raise error

    def forget(self) -> None:
        """In a forked child: it is the parent's."""
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.close()

    # The thread that writes

    def _run(self, ready: int) -> None:
        waiting = select.poll()
        waiting.register(ready, select.POLLIN)
        try:
            self._write_records(waiting)
        except DeviceClosed:
            pass
        except OSError as error:
            self._error = error
            logger.warning("trace: ended: %s", error)
        finally:
            self._finish()

    def _write_records(self, waiting: select.poll) -> None:
        while True:
            stopped = self._stopped.is_set()  # before reading: then nothing follows what is read
            records = self._backend.trace_read(_BATCH)
            if records:
                self._write(b"".join(map(block, records)))
                inner = sum(record.point.is_inner for record in records)
                self._counts[_INNER] += inner
                self._counts[_OUTER] += len(records) - inner
            elif stopped:
                self._lost = self._backend.trace_lost()
                self._write(_ending(self._counts, self._lost))
                return
            elif self._stopping:
                self._stopped.wait()
            else:
                waiting.poll()
                self._stopped.wait(_PAUSE_S)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            taken = self._sink.write(view)
            # Those that do not say how much have taken all.
            view = view[taken:] if isinstance(taken, int) else view[:0]

    def _finish(self) -> None:
        with contextlib.suppress(DcoError):  # stopped, or closed
            self._lost = self._backend.trace_lost()
            self._backend.trace_stop()
        if self._own is not None:
            self._own.close()


def _beginning(name: str, snap: int) -> bytes:
    about = {"link_type": pcapng.LINKTYPE_RAW, "snap": snap + _HEADERS_MAX}
    return (
        pcapng.section("ovpn_dco")
        + pcapng.interface(name, "inner packets", **about)
        + pcapng.interface(
            f"{name}-outer", "datagrams, behind headers of IP and UDP that were made up", **about
        )
    )


def _ending(counts: Sequence[int], lost: int) -> bytes:
    """Nobody knows at which points those were that are missing: they are told with the first."""
    now = time.time_ns()
    return b"".join(
        pcapng.statistics(number, now, received=count + missing, dropped=missing)
        for number, count, missing in ((_INNER, counts[_INNER], lost), (_OUTER, counts[_OUTER], 0))
    )
