"""What a peer's settings have done to its packets."""

from __future__ import annotations

from .mutation import Mutation

FEATURES = "ext/engine/features.c"
SETTINGS = "ovpn_dco/validation/settings.py"
ARGUMENTS = "ovpn_dco/validation/arguments.py"
LIMITS = "ext/peers/limits.c"
MESSAGE = "ext/engine/message.c"


def rate(name: str) -> str:
    return f"tests/unit/test_rate_limit.py::{name}"


def limit(name: str) -> str:
    return f"tests/unit/test_limits.py::{name}"


def message(name: str) -> str:
    return f"tests/unit/test_messages.py::{name}"


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
    # Limits
    Mutation(
        "limit-told-again",
        limit("test_quotas_of_both_ways_together"),
        LIMITS,
        "return reached ? atomic_fetch_and(&meter->armed, ~reached) & reached : 0;",
        "return reached;",
    ),
    Mutation(
        "quota-of-what-was-before",
        limit("test_quotas_of_both_ways_together"),
        LIMITS,
        "TIMES >> limit & 1 ? now_ns + value * SECOND : counted(limit, crossed) + value);",
        "TIMES >> limit & 1 ? now_ns + value * SECOND : value);",
    ),
    Mutation(
        "received-bytes-uncounted",
        limit("test_quotas_of_both_ways_together"),
        "ext/peers/peer.c",
        "dco_counter_read(&peer->vpn_rx_bytes) + dco_counter_read(&peer->vpn_tx_bytes)",
        "dco_counter_read(&peer->vpn_tx_bytes)",
    ),
    Mutation(
        "limits-overwrite-one-another",
        limit("test_what_nobody_has_read_is_told_together"),
        "ext/engine/events.c",
        "(record->queued ? record->limits : 0) | news->limits;",
        "news->limits;",
    ),
    Mutation(
        "key-counts-from-the-first",
        limit("test_the_next_key_once_for_each_key"),
        "ext/engine/key_ops.c",
        "        if (fresh)\n",
        "        if (fresh && false)\n",
    ),
    Mutation(
        "limits-start-anew-elsewhere",
        limit("test_a_successor_goes_on_counting"),
        "ext/engine/state.c",
        "        dco_limits_load(&peer->limits, &info->limits);\n",
        "",
    ),
    Mutation(
        "unread-limits-lost",
        limit("test_a_successor_tells_what_nobody_has_read"),
        "ext/engine/peer_ops.c",
        "    info->limits.armed |=\n        dco_events_unread_limits(",
        "    (void)dco_events_unread_limits(",
    ),
    Mutation(
        "limits-unchecked",
        limit("test_bad_arguments"),
        SETTINGS,
        "if changes.inactive_bytes and not changes.inactive_s:",
        "if changes.inactive_bytes and not changes:",
    ),
    Mutation(
        "limits-of-a-server-unheeded",
        "tests/server/test_server.py::test_a_limit_ends_a_client",
        "ovpn_dco/server/server.py",
        "                connection.heed(event.limits)\n",
        "                pass\n",
    ),
    Mutation(
        "limits-of-another-attempt",
        "tests/client/test_attempt.py::test_limits_are_the_engines",
        "ovpn_dco/client/attempt.py",
        "if self._channel is None or self._channel.generation != event.generation:",
        "if self._channel is None:",
    ),
    Mutation(
        "limits-of-a-client-forgotten",
        "tests/server/test_server.py::test_what_one_client_may_use",
        "ovpn_dco/server/connection.py",
        "        apply_limits(peer, overrides)\n",
        "",
    ),
    Mutation(
        "impossible-limits-after-the-login",
        "tests/server/test_overrides.py::test_limits_that_cannot_be_set_are_refused",
        "ovpn_dco/server/overrides.py",
        "        _check_limits(overrides)\n",
        "",
    ),
    Mutation(
        "peer-without-its-settings-stays",
        "tests/server/test_server.py::test_limits_that_cannot_be_set_let_nobody_in",
        "ovpn_dco/server/connection.py",
        "            channel.close()  # nobody else knows of it yet\n",
        "",
    ),
    # Messages
    Mutation(
        "message-like-an-ip-packet",
        message("test_what_is_refused"),
        ARGUMENTS,
        "if data[0] >> 4 in (4, 6):",
        "if data[0] >> 4 == 4:",
    ),
    Mutation(
        "message-like-a-keepalive",
        message("test_what_is_refused"),
        ARGUMENTS,
        "if data == _KEEPALIVE:",
        "if not data:",
    ),
    Mutation(
        "message-of-any-size",
        message("test_what_is_refused"),
        MESSAGE,
        "if (!size || size > DCO_MESSAGE_MAX)",
        "if (!size)",
    ),
    Mutation(
        "message-before-a-key",
        message("test_before_there_is_a_key"),
        MESSAGE,
        "if (!dco_keyslots_get(&peer->keys, DCO_SLOT_PRIMARY))",
        "if (!peer)",
    ),
    Mutation(
        "messages-beyond-the-queue",
        message("test_no_more_is_taken_for_a_connection_than_may_wait"),
        MESSAGE,
        "atomic_load(&peer->message_due) + bytes > DCO_TCP_QUEUE_MAX)",
        "bytes > DCO_TCP_QUEUE_MAX)",
    ),
    Mutation(
        "farewell-of-any-length",
        "tests/client/test_attempt.py::test_it_is_said_in_the_data_channel",
        "ovpn_dco/client/attempt.py",
        "if pushed is None else pushed, MOST)",
        "if pushed is None else pushed, 1 << 32)",
    ),
    Mutation(
        "gone-before-the-farewell",
        "tests/client/test_attempt.py::test_it_is_said_in_the_data_channel",
        "ovpn_dco/client/farewell.py",
        "return self._peer.stats().messages_tx >= self._sealed or now >= self._end_s",
        "return True",
    ),
    Mutation(
        "message-to-a-namesake",
        message("test_a_peer_that_goes_before_its_messages"),
        "ext/engine/transmit.c",
        "struct dco_peer_ref ref = {head->peer_id, head->generation};",
        "struct dco_peer_ref ref = {head->peer_id, 0};",
    ),
]
