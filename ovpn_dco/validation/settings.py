"""The settings of a peer's features: arguments to values, or what is wrong with them."""

from __future__ import annotations

import errno

from ..model import (
    Ecn,
    ForwardingMode,
    Marking,
    Measure,
    MssClamp,
    PathLimit,
    PeerLimits,
    RateLimit,
    SourceCheck,
)
from .arguments import bounded
from .rules import U32_MAX, refuse

RATE_MAX = COUNT_MAX = (1 << 63) - 1
BURST_MIN = 1280  # what every link carries that has IPv6: smaller ones would stop all traffic
BURST_MAX = 1 << 30  # DCO_RATE_BURST_MAX
SEGMENT_MIN = 128  # DCO_SEGMENT_MIN: TCP is told no less
PATH_MTU_MIN = 576  # DCO_PATH_MTU_MIN_IPV4
_LARGEST_PACKET = 65535


def _burst(bits_per_s: int, burst_bytes: int | None) -> int:
    """A tenth of a second, and at least one packet of any size."""
    if not bits_per_s:
        return 0
    if burst_bytes is not None:
        return burst_bytes
    return min(max(bits_per_s // 80, _LARGEST_PACKET), BURST_MAX)


def rate_limit(
    transmit_bits_per_s: object, receive_bits_per_s: object, burst_bytes: object
) -> RateLimit:
    """What `Peer.set_rate_limit` says. OutOfRange, InvalidArgument."""
    transmit = bounded("transmit_bits_per_s", transmit_bits_per_s, 0, RATE_MAX)
    receive = bounded("receive_bits_per_s", receive_bits_per_s, 0, RATE_MAX)
    burst = None
    if burst_bytes is not None:
        burst = bounded("burst_bytes", burst_bytes, BURST_MIN, BURST_MAX)
    return RateLimit(transmit, _burst(transmit, burst), receive, _burst(receive, burst))


def limits(changes: PeerLimits) -> PeerLimits:
    """What `Peer.set_limits` says. OutOfRange, InvalidArgument."""
    for name, value in vars(changes).items():
        if value is not None:
            bounded(name, value, 0, U32_MAX if name.endswith("_s") else COUNT_MAX)
    if changes.inactive_bytes and not changes.inactive_s:
        message = "means nothing without inactive_s beside it"
        raise refuse(errno.EINVAL, "inactive_bytes", message)
    return changes


def _one_of(attribute: str, value: object, names: list[str]) -> str:
    name = value.value if isinstance(value, SourceCheck | ForwardingMode) else value
    if not isinstance(name, str) or name not in names:
        message = f"must be {', '.join(names[:-1])} or {names[-1]}, not {value!r}"
        raise refuse(errno.EINVAL, attribute, message)
    return name


def source_check(value: object, *, of_device: bool = False) -> SourceCheck:
    """A source check, also from its name; a device has nobody to inherit one from."""
    names = [check.value for check in SourceCheck]
    if of_device:
        names.remove(SourceCheck.INHERIT.value)
    return SourceCheck(_one_of("source_check", value, names))


def marking(ecn: object, dscp: object) -> Marking:
    """What `Peer.set_marking` says. InvalidArgument."""
    found = ecn if isinstance(ecn, Ecn) else Ecn.__members__.get(str(ecn).upper())
    if found is None:
        message = f"must be normal, compatibility or off, not {ecn!r}"
        raise refuse(errno.EINVAL, "ecn", message)
    return Marking(found, bool(dscp))


def mss_clamp(size: object, measure: Measure) -> MssClamp:
    """What `Peer.set_mss_clamp` says. OutOfRange, InvalidArgument."""
    number = bounded("size", size, 0, _LARGEST_PACKET)
    if 0 < number < SEGMENT_MIN:
        raise refuse(errno.ERANGE, "size", f"must be 0, or at least {SEGMENT_MIN}")
    try:
        return MssClamp(number, Measure(measure))
    except ValueError:
        raise refuse(errno.EINVAL, "measure", f"must be a Measure, not {measure!r}") from None


def path_limit(mtu: object) -> PathLimit:
    """What `Peer.set_path_limit` says. OutOfRange, InvalidArgument."""
    number = bounded("mtu", mtu, 0, _LARGEST_PACKET)
    if 0 < number < PATH_MTU_MIN:
        raise refuse(errno.ERANGE, "mtu", f"must be 0, or at least {PATH_MTU_MIN}")
    return PathLimit(number)


def forwarding_mode(value: object) -> ForwardingMode:
    """A mode, also from its name."""
    return ForwardingMode(_one_of("mode", value, [mode.value for mode in ForwardingMode]))
