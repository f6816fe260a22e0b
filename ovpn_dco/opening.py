"""What `Device.open` is asked for: judged before anything is made, and joined with the state of a
device that goes on here."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .backend.base import Backend
from .backend.choice import KERNEL
from .model import Buffer, Feature, Mode, Offload, SourceCheck
from .state import DeviceState, read
from .validation import settings
from .validation.arguments import descriptors_of, integer, interface_addresses, offloads_of
from .validation.rules import DEVICE_OPEN, DeviceAttributes, check, refuse


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `Device.open` that describe the engine, as they come."""

    name: str
    mode: Mode
    mtu: int
    addresses: Iterable[object]
    tun_fd: int | Sequence[int] | None
    workers: int | None
    single_thread: bool | None
    offloads: Offload | Iterable[str] | None
    source_check: SourceCheck | str | None
    icmp_unreachable: bool | None
    max_peers: int
    persist: bool
    owner: int | None
    start: bool
    restore: Buffer | None
    descriptors: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The same, all of it good. `sockets` are those of the state, in its order."""

    mode: Mode
    attributes: DeviceAttributes
    addresses: tuple[tuple[str, int], ...]
    offloads: Offload
    source_check: SourceCheck
    icmp_unreachable: bool
    single_thread: bool
    state: DeviceState | None
    sockets: tuple[int, ...]

    @classmethod
    def of(cls, request: Request) -> Opening:
        """Raises InvalidArgument or OutOfRange naming the argument."""
        state = None if request.restore is None else read(request.restore, request.mode)
        if state is not None:
            _refuse_what_the_state_says(request, state)
        fds = [integer("descriptors", fd) for fd in request.descriptors]
        needed = state.descriptors if state else 0
        if len(fds) != needed:
            raise refuse(errno.EINVAL, "descriptors", f"must be {needed}, those of the state")
        tun_fd, workers = request.tun_fd, request.workers
        check_of, unreachable = request.source_check, request.icmp_unreachable
        max_peers = integer("max_peers", request.max_peers)
        if state is not None:
            tun_fd, workers = fds[: state.tun_queues], state.workers
            check_of = check_of or state.source_check
            unreachable = state.icmp_unreachable if unreachable is None else unreachable
            max_peers = max(max_peers, state.max_peers)
        attributes = DeviceAttributes(
            name=request.name,
            mode=request.mode,
            mtu=integer("mtu", request.mtu),
            max_peers=max_peers,
            workers=None if workers is None else integer("workers", workers),
            single_thread=request.single_thread,
            tun_fd=None if tun_fd is None else descriptors_of(tun_fd),
            persist=request.persist,
            owner=None if request.owner is None else integer("owner", request.owner),
        )
        check(DEVICE_OPEN, attributes)
        return cls(
            mode=request.mode,
            attributes=attributes,
            addresses=interface_addresses(request.addresses),
            offloads=offloads_of(request.offloads),
            source_check=source_check_of(check_of, request.mode),
            icmp_unreachable=bool(unreachable),
            single_thread=_single_thread(request.single_thread, workers),
            state=state,
            sockets=tuple(fds[state.tun_queues :] if state else ()),
        )

    @property
    def adopts(self) -> bool:
        """Whether the inner side is somebody else's, and not one that a device had before."""
        return self.attributes.tun_fd is not None and self.state is None

    def needs(self, request: Request, require: Iterable[Feature]) -> dict[Feature, str]:
        """The features that this takes of a back end, with the argument that does."""
        unchecked = self.mode is Mode.MULTIPEER and self.source_check is SourceCheck.OFF
        asked = (
            (Feature.PACKET_DESCRIPTOR, "tun_fd", request.tun_fd is not None),
            (Feature.SOURCE_CHECK_OFF, "source_check", unchecked),
            (Feature.SOURCE_CHECK_LOOSE, "source_check", self.source_check is SourceCheck.LOOSE),
            (Feature.ICMP_UNREACHABLE, "icmp_unreachable", self.icmp_unreachable),
            (Feature.UNPRIVILEGED, "owner", request.owner is not None),
            (Feature.UNPRIVILEGED, "start", not request.start),
            (Feature.HANDING_OVER, "restore", self.state is not None),
        )
        found = {feature: argument for feature, argument, taken in asked if taken}
        found.update(dict.fromkeys(require, "require"))
        return found

    def make_backend(self, name: str) -> Backend:
        """Without an interface, and without threads."""
        if name == KERNEL:
            from .backend.kernel import KernelBackend

            return KernelBackend(mode=self.mode, max_peers=self.attributes.max_peers)
        from .backend.userspace import UserspaceBackend

        return UserspaceBackend(
            mode=self.mode,
            source_check=self.source_check,
            max_peers=self.attributes.max_peers,
            offloads=self.offloads,
            workers=self.attributes.workers or 1,
            single_thread=self.single_thread,
            icmp_unreachable=self.icmp_unreachable,
        )


def _refuse_what_the_state_says(request: Request, state: DeviceState) -> None:
    if request.tun_fd is not None:
        raise refuse(errno.EINVAL, "tun_fd", "is among the descriptors of a restored state")
    if request.workers not in (None, state.workers):
        raise refuse(errno.EINVAL, "workers", f"of the state are {state.workers}")


def _single_thread(asked: bool | None, workers: int | None) -> bool:
    """Two threads on one core only take turns."""
    if asked is None:
        return workers is None and len(os.sched_getaffinity(0)) == 1
    return asked


def source_check_of(value: SourceCheck | str | None, mode: Mode) -> SourceCheck:
    """What a device of this mode does when asked for `value`; None: as is usual there."""
    if value is None:
        return SourceCheck.STRICT if mode is Mode.MULTIPEER else SourceCheck.OFF
    return settings.source_check(value, of_device=True)
