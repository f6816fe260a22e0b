"""Limits of a data channel: from files, and what a server pushes, to what the engine watches."""

from __future__ import annotations

import logging
from collections.abc import Set

from ..config import DataChannelConfig, KeepaliveConfig
from ..model import Feature, Limit, PeerLimits
from ..peer import Peer
from ..protocol.push import Pushed

__all__ = ["ENDING", "RENEWING", "describe", "limits_of", "set_limits", "set_shaper"]

RENEWING = Limit.RENEGOTIATE_BYTES | Limit.RENEGOTIATE_PACKETS
"""What new keys follow on."""
ENDING = Limit.INACTIVE | Limit.SESSION
"""What ends the connection."""

_log = logging.getLogger("ovpn_dco.runtime")


def limits_of(
    data: DataChannelConfig, keepalive: KeepaliveConfig, pushed: Pushed | None = None
) -> PeerLimits:
    """What is pushed counts, and else what is configured."""
    session_s = pushed.number("session-timeout") if pushed else None
    inactive = pushed.inactive if pushed else None
    return PeerLimits(
        inactive_s=inactive.timeout_s if inactive else keepalive.inactive_s,
        inactive_bytes=inactive.least_bytes if inactive else keepalive.inactive_bytes,
        session_s=keepalive.session_timeout_s if session_s is None else session_s,
        renegotiate_bytes=data.renegotiate_bytes,
        renegotiate_packets=data.renegotiate_packets,
    )


def set_limits(peer: Peer, features: Set[Feature], limits: PeerLimits) -> None:
    """Of a new peer: those that are not 0."""
    wanted = {name: value for name, value in vars(limits).items() if value}
    if not limits.inactive_s:
        wanted.pop("inactive_bytes", None)
    if wanted and Feature.LIMITS in features:
        peer.set_limits(**wanted)
    elif wanted:
        _log.warning("no effect on this back end: %s", ", ".join(sorted(wanted)))


def set_shaper(peer: Peer, features: Set[Feature], bytes_per_s: int) -> None:
    """Of a new peer; 0: none."""
    if bytes_per_s and Feature.RATE_LIMIT in features:
        peer.set_rate_limit(transmit_bits_per_s=8 * bytes_per_s)
    elif bytes_per_s:
        _log.warning("no effect on this back end: shaper")


def describe(reached: Limit, limits: PeerLimits) -> str:
    """Why a connection ends, for a log."""
    if Limit.SESSION in reached:
        return f"the session lasts {limits.session_s} s at most"
    return f"too little has crossed the tunnel in {limits.inactive_s} s"
