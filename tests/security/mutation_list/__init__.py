"""Checks, how each is taken out, and the test that must fail then; see mutations.py."""

from __future__ import annotations

from pathlib import Path

from . import (
    configuration,
    connections,
    control_packets,
    control_text,
    data_packets,
    ecn,
    features,
    handshake,
    kernel,
    logins,
    metrics,
    netlink,
    packet_sizes,
    peers,
    profiles,
    routing,
    servers,
    sessions,
    traces,
)
from .mutation import Mutation

__all__ = ["MUTATIONS", "ROOT", "Mutation"]

ROOT = Path(__file__).parents[3]
MUTATIONS = [
    *data_packets.MUTATIONS,
    *features.MUTATIONS,
    *peers.MUTATIONS,
    *packet_sizes.MUTATIONS,
    *ecn.MUTATIONS,
    *connections.MUTATIONS,
    *control_packets.MUTATIONS,
    *handshake.MUTATIONS,
    *control_text.MUTATIONS,
    *sessions.MUTATIONS,
    *configuration.MUTATIONS,
    *profiles.MUTATIONS,
    *logins.MUTATIONS,
    *servers.MUTATIONS,
    *routing.MUTATIONS,
    *netlink.MUTATIONS,
    *kernel.MUTATIONS,
    *traces.MUTATIONS,
    *metrics.MUTATIONS,
]
