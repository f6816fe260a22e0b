"""What `mssfix` and `mtu-disc` mean for the path to a peer."""

from __future__ import annotations

from collections.abc import Set

from ..config.options import MtuConfig
from ..model import Feature, Measure, MssClamp
from ..peer import Peer

_USUAL_MTU, _USUAL_SIZE = 1500, 1492
_LEAST_SEGMENT, _LEAST_PATH = 128, 576  # what a peer can be set to
_IPV4_HEADERS, _IPV6_HEADERS = 28, 48  # with UDP's

__all__ = ["mss_clamp", "path_limit", "set_path"]


def mss_clamp(mtu: MtuConfig) -> MssClamp:
    """As OpenVPN 2.6 has it: without a word 1492 bytes of outer packet, which leaves room for
    PPPoE; where another `tun-mtu` was chosen, what fits that."""
    if mtu.mssfix == 0:
        return MssClamp()
    if mtu.mssfix is not None:
        measures = {"mtu": Measure.OUTER, "fixed": Measure.INNER, None: Measure.DATAGRAM}
        return MssClamp(max(mtu.mssfix, _LEAST_SEGMENT), measures[mtu.mssfix_mode])
    if mtu.tun_mtu == _USUAL_MTU:
        return MssClamp(_USUAL_SIZE, Measure.OUTER)
    return MssClamp(max(mtu.tun_mtu, _LEAST_SEGMENT), Measure.INNER)


def path_limit(clamp: MssClamp, *, ipv6: bool) -> int:
    """The outer bytes that nothing should exceed where nobody may fragment; 0: not known."""
    if not clamp.size or clamp.measure is Measure.INNER:
        return 0
    headers = _IPV6_HEADERS if ipv6 else _IPV4_HEADERS
    return max(clamp.size + (headers if clamp.measure is Measure.DATAGRAM else 0), _LEAST_PATH)


def set_path(peer: Peer, features: Set[Feature], mtu: MtuConfig, *, df: bool) -> None:
    """Of a new peer. Without Feature.MSS_CLAMP there is none, as with OpenVPN's own offload; with
    `df`, its transport lets nobody fragment. UnsupportedError where that takes Feature.PATH_MTU."""
    clamp = mss_clamp(mtu)
    if clamp.size and Feature.MSS_CLAMP in features:
        peer.set_mss_clamp(clamp.size, measure=clamp.measure)
    if df and (remote := peer.remote):
        peer.set_path_limit(path_limit(clamp, ipv6=":" in remote[0]))
