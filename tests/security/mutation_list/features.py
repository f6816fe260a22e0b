"""What a peer's settings have done to its packets."""

from __future__ import annotations

from .mutation import Mutation

FEATURES = "ext/engine/features.c"
SETTINGS = "ovpn_dco/validation/settings.py"


def rate(name: str) -> str:
    return f"tests/unit/test_rate_limit.py::{name}"


MUTATIONS = [
    Mutation(
        "transmit-rate-unlimited",
        rate("test_the_burst_passes_and_the_rest_is_counted"),
        FEATURES,
        "features & DCO_PEER_FEATURE_TX_RATE && !limit_transmit(transmit, peer)",
        "features & DCO_PEER_FEATURE_TX_RATE && !limit_transmit(transmit, peer) && false",
    ),
    Mutation(
        "receive-rate-unlimited",
        rate("test_received_packets_likewise"),
        FEATURES,
        "features & DCO_PEER_FEATURE_RX_RATE && !limit_receive(receive, peer, size)",
        "features & DCO_PEER_FEATURE_RX_RATE && !limit_receive(receive, peer, size) && false",
    ),
    Mutation(
        "rate-before-the-source-check",
        rate("test_other_peers_are_not_held_up"),
        "ext/engine/receive.c",
        "    if (!source_allowed(receive, peer, packet)) {",
        """    features = dco_features(peer);
    if (features && !dco_features_receive(receive, peer, features, packet, size))
        return;
    if (!source_allowed(receive, peer, packet)) {""",
    ),
    Mutation(
        "burst-of-any-size",
        rate("test_the_engine_bounds_the_burst_itself"),
        FEATURES,
        "    return rate->burst_bytes > DCO_RATE_BURST_MAX;",
        "    return rate->burst_bytes > DCO_RATE_BURST_MAX && false;",
    ),
    Mutation(
        "burst-unchecked",
        rate("test_bad_arguments"),
        SETTINGS,
        'burst = bounded("burst_bytes", burst_bytes, BURST_MIN, BURST_MAX)',
        "burst = burst_bytes",
    ),
    Mutation(
        "rate-unchecked",
        rate("test_bad_arguments"),
        SETTINGS,
        'bounded("transmit_bits_per_s", transmit_bits_per_s, 0, RATE_MAX)',
        "transmit_bits_per_s",
    ),
    Mutation(
        "rate-lost-in-a-state",
        rate("test_a_successor_keeps_it"),
        "ext/state.pxi",
        ', "settings": settings_out(&info.config),',
        ",",
    ),
]
