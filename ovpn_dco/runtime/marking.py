"""Whether the other end brings marks of outer headers into inner ones. It must before inner ECN is
copied out to it (RFC 6040, section 4.3): else a flow would never hear of congestion.

OpenVPN neither does so nor has a word for it. Ours are such as it carries without a look at them:
a line of peer info from the client, and a variable for hooks from a server that has seen it."""

from __future__ import annotations

from collections.abc import Mapping, Set

from ..model import Ecn, Feature
from ..peer import Peer
from ..protocol.peerinfo import Announcement
from ..protocol.push import Pushed

__all__ = ["ecn_of_client", "ecn_of_server", "peer_info_lines", "pushed_to", "set_marking"]

LINE, VARIABLE, YES = "UV_DCO_ECN", "DCO_ECN", "1"


def peer_info_lines(features: Set[Feature]) -> Mapping[str, str]:
    """What a client with an engine of these features tells beside the usual."""
    return {LINE: YES} if Feature.ECN in features else {}


def ecn_of_client(said: Announcement) -> Ecn:
    """What a server does for a client that has said this."""
    return Ecn.NORMAL if said.values.get(LINE) == YES else Ecn.COMPATIBILITY


def pushed_to(said: Announcement, features: Set[Feature]) -> tuple[str, ...]:
    """Options for a client that has said this, from a server with an engine of these features."""
    both = Feature.ECN in features and ecn_of_client(said) is Ecn.NORMAL
    return (f"setenv-safe {VARIABLE} {YES}",) if both else ()


def ecn_of_server(pushed: Pushed) -> Ecn:
    """What a client does for a server that has pushed this."""
    knows = pushed.environment.get(f"OPENVPN_{VARIABLE}") == YES
    return Ecn.NORMAL if knows else Ecn.COMPATIBILITY


def set_marking(peer: Peer, features: Set[Feature], *, ecn: Ecn, dscp: bool) -> None:
    """Of a new peer. UnsupportedError where the back end lacks Feature.DSCP; one without
    Feature.ECN has none either way."""
    if dscp or Feature.ECN in features:
        peer.set_marking(ecn=ecn, dscp=dscp)
