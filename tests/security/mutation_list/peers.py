"""Peers beside one another: addresses, routes, trains, and the errors of one of them."""

from __future__ import annotations

from .mutation import Mutation

RECEIVE = "ext/engine/receive.c"
RECEIVE_UDP = "ext/engine/receive_udp.c"
KEYSLOT = "ext/peers/keyslot.c"
EPOCHS = "ext/peers/epochs.c"


def floats(name: str) -> str:
    return f"tests/security/test_float.py::{name}"


MUTATIONS = [
    Mutation(
        "peer-loses-in-silence",
        "tests/security/test_receive_checks.py::test_wrong_key_id",
        "ext/engine/receive.c",
        "    dco_counter_add(&peer->rx_dropped, packets);\n",
        "",
    ),
    Mutation(
        "peer-is-lost-to-in-silence",
        "tests/unit/test_trace.py::test_a_datagram_says_why_it_was_not_sent",
        "ext/engine/transmit.c",
        "    dco_counter_add(&peer->tx_dropped, packets);\n",
        "",
    ),
    # Float
    Mutation(
        "any-packet-moves",
        floats("test_older_packet_is_delivered_and_does_not_move"),
        RECEIVE,
        """    if (opened.newest)
        check_endpoint(""",
        """    check_endpoint(""",
    ),
    *(
        Mutation(
            f"moved-before-{word}",
            floats(test),
            RECEIVE,
            "    reason = open_packet(",
            "    check_endpoint(receive, transport, train, peer);\n    reason = open_packet(",
        )
        for word, test in (
            ("authentication", "test_unauthenticated_packet_does_not_move"),
            ("key", "test_peer_without_key_does_not_move"),
            ("replay-check", "test_replayed_packet_does_not_move"),
        )
    ),
    Mutation(
        "moves-onto-another-peer",
        floats("test_address_of_another_live_peer_is_refused"),
        RECEIVE,
        "if ((owner && owner != peer) || ",
        "if ((owner && !train) || ",
    ),
    Mutation(
        "moves-into-the-tunnel",
        floats("test_vpn_address_is_refused"),
        RECEIVE,
        " || is_vpn_address(receive->engine, &now.remote))",
        " || (!train && is_vpn_address(receive->engine, &now.remote)))",
    ),
    Mutation(
        "every-move-reported",
        floats("test_events_are_coalesced_to_the_latest"),
        RECEIVE,
        "if (!last || receive->now_ns >= last + 1000000000u) {",
        "if (!last || receive->now_ns >= last) {",
    ),
    # Source check
    Mutation(
        "any-known-source-passes",
        "tests/security/test_source_check.py::test_own_addresses_only",
        RECEIVE,
        "return receive->source_owner == peer\n",
        "return receive->source_owner || !peer\n",
    ),
    Mutation(
        "some-prefix-instead-of-the-longest",
        "tests/security/test_source_check.py::test_sub_range_of_another_peer",
        "ext/peers/lpm.c",
        "unsigned top = 63u - (unsigned)__builtin_clzll(present);",
        "unsigned top = (unsigned)__builtin_ctzll(present);",
    ),
    Mutation(
        "verdict-of-the-neighbour",
        "tests/security/test_source_check.py::test_one_train_with_many_sources",
        RECEIVE,
        "memcmp(receive->source_ip, source, size)) {",
        "memcmp(receive->source_ip, source, size / 4)) {",
    ),
    Mutation(
        "source-check-stays-off",
        "tests/security/test_source_check.py::test_off_lets_everything_pass",
        "ext/engine/engine_query.c",
        "        dco_features_settle(peer);",
        "        if (peer->dead)\n            dco_features_settle(peer);",
    ),
    Mutation(
        "route-outlives-its-peer",
        "tests/security/test_source_check.py::test_route_goes_with_its_peer",
        "ext/engine/engine.c",
        "        dco_lpm_remove(&engine->lpm, route);\n",
        "",
    ),
    # One for all
    Mutation(
        "opcode-of-the-train",
        "tests/security/test_isolation.py::test_trains_may_mix_peers_and_opcodes",
        RECEIVE_UDP,
        "    switch (dco_wire_opcode(packet)) {",
        "    switch (dco_wire_opcode(train->data)) {",
    ),
    Mutation(
        "peer-of-the-train",
        "tests/security/test_isolation.py::test_trains_may_mix_peers_and_opcodes",
        RECEIVE_UDP,
        "*peer = find_peer(receive, transport, train, dco_wire_peer_id(packet));",
        "*peer = find_peer(receive, transport, train, dco_wire_peer_id(train->data));",
    ),
    Mutation(
        "control-overflow-not-counted",
        "tests/security/test_isolation.py::test_control_ring_is_bounded_and_overflow_is_counted",
        RECEIVE,
        "        dco_receive_drop(receive, DCO_DROP_CONTROL_FULL, 1);\n",
        "",
    ),
    Mutation(
        "control-ring-written-over",
        "tests/security/test_isolation.py::test_control_ring_is_bounded_and_overflow_is_counted",
        "ext/sync/ring.c",
        """    if (LENGTH + length > ring->size - used)
        return false;
""",
        "    (void)used;\n",
    ),
    Mutation(
        "deletions-without-bound",
        "tests/security/test_isolation.py::test_unread_deletions_are_bounded",
        "ext/engine/peer_ops.c",
        "        return -ENOBUFS;\n",
        "        return 0;\n",
    ),
    Mutation(
        "peers-without-bound",
        "tests/security/test_isolation.py::test_peer_limit",
        "ext/engine/peer_ops.c",
        "        return -ENOSPC;\n",
        "        return 0;\n",
    ),
    Mutation(
        "one-key-id-in-both-slots",
        "tests/security/test_secrets.py::test_refused_key_is_not_consumed",
        "ext/engine/key_ops.c",
        "else if (other_slot_has(peer, slot, key->key_id))",
        "else if (other_slot_has(peer, slot, key->key_id) && !peer)",
    ),
    Mutation(
        "key-material-left-behind",
        "tests/security/test_secrets.py::test_memory_of_a_deleted_key_is_cleansed",
        KEYSLOT,
        "    OPENSSL_cleanse(key, sizeof *key);\n",
        "",
        (
            (
                "ext/codec/aead.c",
                "    OPENSSL_cleanse(aead, sizeof *aead);\n",
                "",
            ),
        ),
    ),
    Mutation(
        "epoch-secrets-left-behind",
        "tests/security/test_secrets.py::test_memory_of_epoch_secrets_is_cleansed",
        EPOCHS,
        "    OPENSSL_cleanse(epochs, sizeof *epochs);\n",
        "",
    ),
    # Coalescing
    *(
        Mutation(
            f"bad-checksum-merged-as-{which}",
            "tests/security/test_coalescing.py::test_bad_checksum_is_never_merged",
            "ext/codec/gro.c",
            old,
            new,
        )
        for which, old, new in (
            ("first", "if (!item->verified && !verify(", "if (!item && !verify("),
            (
                "later",
                "return verify(b, packet->size, transport, item->protocol);",
                "return b != NULL;",
            ),
        )
    ),
    Mutation(
        "bad-ip-header-merged",
        "tests/security/test_coalescing.py::test_bad_ip_header_checksum_is_never_merged",
        "ext/codec/gro.c",
        "if (transport == DCO_IPV4_HEADER && !verify_ipv4_header(data))",
        "if (transport == 0 && !verify_ipv4_header(data))",
    ),
    Mutation(
        "peers-merged",
        "tests/security/test_coalescing.py::test_two_peers_are_never_merged",
        "ext/codec/gro.c",
        "item->owner != owner || ",
        "(!owner && item->owner) || ",
    ),
    Mutation(
        "unlike-headers-merged",
        "tests/security/test_coalescing.py::test_unlike_headers_are_not_merged",
        "ext/codec/gro.c",
        "if (a[1] != b[1] || !same(a + 6, b + 6, 3))",
        "if (!same(a + 6, b + 6, 2))",
    ),
    Mutation(
        "gap-closed",
        "tests/security/test_coalescing.py::test_gap_in_the_sequence_is_not_closed",
        "ext/codec/gro.c",
        "return dco_load32(b + 4) == item->next_sequence && ",
        "return dco_load32(b + 4) >= item->next_sequence && ",
    ),
    # Errors of one peer
    *(
        Mutation(
            f"icmp-error-charged-to-the-next-{how}",
            "tests/security/test_isolation.py::test_icmp_errors_of_one_peer_cost_the_others_nothing",
            "ext/io/udp_send.c",
            old,
            new,
        )
        for how, old, new in (
            (
                "message",
                "&& retries < (maybe_unroutable(errno) ? 1 : DCO_SEND_RETRIES)) {",
                "&& retries > (maybe_unroutable(errno) ? 1 : DCO_SEND_RETRIES)) {",
            ),
            (
                "batch",
                "        send_with_care(udp, outbox, messages, stop_fd, tally);\n",
                """        if (sent < 0 && left_by_icmp(errno)) {
            messages->error = -errno;
            messages->failed = messages->packets;
        } else {
            send_with_care(udp, outbox, messages, stop_fd, tally);
        }
""",
            ),
        )
    ),
    Mutation(
        "packet-information-not-looked-up",
        "tests/system/test_interface.py::test_descriptors_that_carry_no_ip_packets",
        "ovpn_dco/device.py",
        "        if opening.adopts:\n",
        "        if opening.adopts and opening.attributes.mtu < 0:\n",
    ),
    Mutation(
        "tap-not-told-from-tun",
        "tests/system/test_interface.py::test_descriptors_that_carry_no_ip_packets",
        "ext/io/tun.c",
        "(request->ifr_flags & (IFF_TUN | IFF_TAP)) != IFF_TUN",
        "!(request->ifr_flags & (IFF_TUN | IFF_TAP))",
    ),
]
