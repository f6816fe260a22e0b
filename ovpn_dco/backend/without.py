"""A back end without most of what can be had beyond peers, keys and routes: each is refused."""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence

from ..errors import DcoError
from ..model import (
    Buffer,
    Ecn,
    Feature,
    ForwardingMode,
    Marking,
    MssClamp,
    Multicast,
    Offload,
    Offloads,
    PathLimit,
    PeerLimits,
    PeerSetting,
    RateLimit,
    SourceCheck,
    TraceRecord,
    TraceSettings,
)
from ..validation.rules import refuse
from .base import PeerRef, ReservedAddress

_NEEDS: dict[type[PeerSetting], tuple[str, Feature]] = {
    RateLimit: ("rate_limit", Feature.RATE_LIMIT),
    SourceCheck: ("source_check", Feature.SOURCE_CHECK_LOOSE),
    PeerLimits: ("limits", Feature.LIMITS),
    MssClamp: ("mss_clamp", Feature.MSS_CLAMP),
    PathLimit: ("path_limit", Feature.PATH_MTU),
    Multicast: ("multicast", Feature.MULTICAST),
}


class WithoutFeatures:
    """What is asked for is refused by name, but for what is so anyway."""

    name: str

    def __init__(self, features: frozenset[Feature]) -> None:
        self.features = features

    def lacks(self, feature: Feature, attribute: str) -> DcoError:
        """The refusal of what takes this feature."""
        text = f"takes {feature.value}, which the {self.name} back end does not have: open the"
        return refuse(
            errno.EOPNOTSUPP,
            attribute,
            f"{text} device with backend='userspace', or require=[Feature.{feature.name}]",
        )

    def offloads(self) -> Offloads:
        return Offloads(allowed=Offload.NONE, active=Offload.NONE)

    def set_offloads(self, offloads: Offload) -> None:
        if offloads is not Offload.ALL:
            text = f"are of the userspace engine: the {self.name} back end has its own"
            raise refuse(errno.EOPNOTSUPP, "offloads", text)

    def adopt_tun(self, fds: Sequence[int]) -> None:
        raise self.lacks(Feature.PACKET_DESCRIPTOR, "tun_fd")

    def train_length(self, mtu: int) -> int | None:
        return None

    def set_owner(self, user: int) -> None:
        raise self.lacks(Feature.UNPRIVILEGED, "owner")

    def set_source_check(self, check: SourceCheck) -> None:
        if check is not SourceCheck.STRICT:
            feature = Feature.SOURCE_CHECK_OFF
            if check is SourceCheck.LOOSE:
                feature = Feature.SOURCE_CHECK_LOOSE
            raise self.lacks(feature, "source_check")

    def set_feature(self, peer: PeerRef, setting: PeerSetting) -> None:
        """Settings that mean nothing at all are what holds."""
        if isinstance(setting, Marking):
            if setting.dscp:
                raise self.lacks(Feature.DSCP, "dscp")
            if setting.ecn is not Ecn.OFF:
                raise self.lacks(Feature.ECN, "ecn")
            return
        attribute, feature = _NEEDS[type(setting)]
        if not _means_nothing(setting):
            raise self.lacks(feature, attribute)

    def send_message(self, peer: PeerRef, data: Buffer) -> None:
        raise self.lacks(Feature.PEER_MESSAGES, "data")

    # Packets between peers

    def set_forwarding(self, mode: ForwardingMode) -> None:
        if mode is not ForwardingMode.OFF:
            raise self.lacks(Feature.FORWARDING, "mode")

    def set_multicast(self, copies_per_s: int) -> None:
        if copies_per_s:
            raise self.lacks(Feature.MULTICAST, "multicast")

    def permit(self, peer: PeerRef, destinations: Collection[PeerRef]) -> None:
        raise self.lacks(Feature.FORWARDING, "destinations")

    def reserve(self, addresses: Sequence[ReservedAddress]) -> None:
        """Nothing is forwarded that could go to them."""

    # Traces

    def trace_start(self, settings: TraceSettings) -> int:
        raise self.lacks(Feature.TRACE, "trace")

    def trace_stop(self) -> None:
        raise self.lacks(Feature.TRACE, "trace")

    def trace_read(self, maximum: int) -> list[TraceRecord]:
        raise self.lacks(Feature.TRACE, "trace")

    def trace_lost(self) -> int:
        raise self.lacks(Feature.TRACE, "trace")


def _means_nothing(setting: PeerSetting) -> bool:
    if isinstance(setting, SourceCheck | Multicast):
        return setting in (SourceCheck.INHERIT, Multicast(received=False))
    if isinstance(setting, MssClamp):
        return not setting.size
    return not any(vars(setting).values())
