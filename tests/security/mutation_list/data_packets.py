"""Single packets and keys: what a forged, repeated, misplaced or malformed one meets."""

from __future__ import annotations

from .mutation import Mutation

RECEIVE = "ext/engine/receive.c"
RECEIVE_UDP = "ext/engine/receive_udp.c"
TRANSMIT = "ext/engine/transmit.c"
KEYSLOT = "ext/peers/keyslot.c"
EPOCHS = "ext/peers/epochs.c"
SPENT = "tests/unit/test_state.py::test_a_key_opens_nothing_after_its_last_forgery"


def checks(name: str) -> str:
    return f"tests/security/test_receive_checks.py::{name}"


def epochs(name: str) -> str:
    return f"tests/security/test_epochs.py::{name}"


MUTATIONS = [
    # Authentication
    Mutation(
        "tag-not-compared",
        checks("test_every_bit_counts"),
        "ext/codec/aead.c",
        """
           && aead->final(context, out + size, &n, 0) == 1;
}

static void nonce_make(""",
        """;
}

static void nonce_make(""",
        # Whichever code opens on the machine that runs this.
        (("ext/codec/gcm.c", "    return same_tag(computed, tag);\n", "    return true;\n"),),
    ),
    Mutation(
        "half-of-the-tag-compared",
        "tests/vectors/test_data_v2.py::test_every_bit_counts",
        "ext/codec/gcm.c",
        "((left[0] ^ right[0]) | (left[1] ^ right[1])) == 0",
        "(left[0] ^ right[0]) == 0",
    ),
    Mutation(
        "additional-data-not-hashed",
        "tests/vectors/test_data_v2.py::test_codec",
        "ext/codec/gcm_lanes.h",
        "        .hash = hash_aad(gcm, aad, aad_size),\n",
        "        .hash = hash_aad(gcm, aad, 0 * aad_size),\n",
    ),
    # With the first change alone OpenSSL does the work, and the test passes.
    Mutation(
        "known-answer-not-asked-for",
        "tests/vectors/test_data_v2.py::test_on_the_wire_of_a_device",
        "ext/codec/gcm_block.h",
        "(long long)(aad_size * 8)",
        "(long long)(aad_size * 8 + 8)",
        (
            (
                "ext/codec/aead.c",
                "        if (!probe_key(library, kind, key_size))\n",
                "        if (!probe_key(library, kind, key_size) && !kind)\n",
            ),
        ),
    ),
    Mutation(
        "code-of-our-own-against-orders",
        "tests/unit/test_traffic.py::test_code_for_aes_gcm_is_chosen_when_a_key_is_installed",
        "ext/engine/key_ops.c",
        "return allowed ? engine->own_gcm : DCO_GCM_NONE;",
        "return allowed || engine ? engine->own_gcm : DCO_GCM_NONE;",
    ),
    Mutation(
        "configured-openssl-passed-over",
        "tests/unit/test_traffic.py::test_a_configured_openssl_does_all_ciphers",
        "ext/engine/engine.c",
        "    if (configuration && *configuration)\n",
        """    engine->own_gcm = dco_aead_probe(engine->library);
    if (configuration && *configuration)
""",
    ),
    Mutation(
        "authentication-result-ignored",
        checks("test_every_bit_counts"),
        RECEIVE,
        "if (!dco_aead_open(&key->opening, packet, size)) {",
        "if (!dco_aead_open(&key->opening, packet, size) && size == 0) {",
    ),
    Mutation(
        "header-shorter-than-read",
        checks("test_truncated_at_every_length"),
        RECEIVE_UDP,
        "if (size < DCO_WIRE_HEADER) {",
        "if (size < 1) {",
    ),
    Mutation(
        "runt-decrypted",
        checks("test_truncated_at_every_length"),
        RECEIVE,
        """    if (size < DCO_WIRE_OVERHEAD)
        return DCO_DROP_RX_RUNT;
""",
        "",
    ),
    Mutation(
        "key-id-not-compared",
        checks("test_wrong_key_id"),
        "ext/peers/keyslot.h",
        """    if (key && key->key_id == key_id)
        return key;
    /* Both""",
        """    if (key)
        return key;
    /* Both""",
    ),
    Mutation(
        "deleted-key-still-opens",
        checks("test_key_of_the_other_slot"),
        "ext/engine/key_ops.c",
        "retire(engine, dco_keyslots_set(&peer->keys, slot, NULL));",
        "(void)retire;",
    ),
    Mutation(
        "undefined-id-not-looked-up-by-address",
        checks("test_undefined_id_means_the_address"),
        RECEIVE_UDP,
        """        if (id == DCO_PEER_ID_UNDEFINED)
            return dco_peer_table_by_address""",
        """        if (id == DCO_PEER_ID_UNDEFINED && !train)
            return dco_peer_table_by_address""",
    ),
    Mutation(
        "p2p-takes-any-id",
        checks("test_p2p_takes_its_peers_id_only"),
        RECEIVE_UDP,
        "if (only && only->id != id) {",
        "if (only && only->id != id && !train) {",
    ),
    Mutation(
        "data-v1-handed-up",
        checks("test_data_v1_names_no_peer"),
        RECEIVE_UDP,
        "    case DCO_WIRE_DATA_V1: dco_receive_drop(receive, DCO_DROP_RX_DATA_V1, 1); break;\n",
        "",
    ),
    # Replay
    Mutation(
        "packet-id-zero-taken",
        checks("test_packet_id_zero"),
        "ext/codec/pktid.c",
        """    if (id == 0)
        return false;
""",
        """    if (id == 0)
        return true;
""",
    ),
    Mutation(
        "seen-ids-taken-again",
        checks("test_replayed"),
        "ext/codec/pktid.c",
        """        if (test_and_set(window, id))
            return false;
""",
        """        test_and_set(window, id);
""",
    ),
    Mutation(
        "window-without-end",
        checks("test_replay_window_ends_after_2047"),
        "ext/codec/pktid.c",
        "if (window->newest - id >= window->extent || id <= window->floor)",
        "if (id <= window->floor)",
    ),
    Mutation(
        "window-moved-before-authentication",
        checks("test_forged_packet_does_not_touch_the_window"),
        RECEIVE,
        "        key->forgeries++;\n",
        """        key->forgeries++;
        dco_pktid_accept(&key->window, packet_id, receive->now_ns / 1000000000u);
""",
    ),
    Mutation(
        "forgeries-keep-a-peer-alive",
        "tests/security/test_isolation.py::test_forged_packets_do_not_keep_a_peer_alive",
        RECEIVE,
        "    dco_counter_add(&peer->link_rx_packets, 1);\n",
        """    dco_counter_add(&peer->link_rx_packets, 1);
    dco_counter_set(&peer->last_received_ns, receive->now_ns);
""",
    ),
    # Inner packets
    Mutation(
        "keepalive-by-its-beginning",
        checks("test_keepalive_is_exactly_its_sixteen_bytes"),
        RECEIVE,
        "if (size == DCO_KEEPALIVE_SIZE && !memcmp(packet, dco_wire_keepalive, size)) {",
        """if (size >= DCO_KEEPALIVE_SIZE
            && !memcmp(packet, dco_wire_keepalive, DCO_KEEPALIVE_SIZE)) {""",
    ),
    Mutation(
        "short-ipv6-header",
        checks("test_ipv6_header_needs_forty_bytes"),
        RECEIVE,
        "size >= 40)",
        "size >= 20)",
    ),
    Mutation(
        "no-ip-packet-delivered",
        checks("test_payload_that_is_no_ip_packet"),
        RECEIVE,
        "if (!is_ip(packet, size)) {",
        "if (!is_ip(packet, size) && size == DCO_KEEPALIVE_SIZE) {",
    ),
    # Packet ids
    Mutation(
        "ids-start-over",
        "tests/security/test_packet_ids.py::test_nothing_is_sent_after_the_last_id",
        "ext/codec/pktid.h",
        """    if (__builtin_expect(counter->next > counter->last, 0))
        return false;
""",
        "",
    ),
    Mutation(
        "exhaustion-not-obeyed",
        "tests/security/test_packet_ids.py::test_nothing_is_sent_after_the_last_id",
        KEYSLOT,
        "        news |= DCO_KEY_NO_ID;\n",
        "        *packet_id = 1;\n",
    ),
    Mutation(
        "no-warning-before-the-end",
        "tests/security/test_packet_ids.py::test_soon_is_told_once",
        KEYSLOT,
        "bool near = usage >= key->usage_soon || packet_id >= key->counter.last / 8 * 7;",
        "bool near = usage >= key->usage_soon && packet_id;",
    ),
    Mutation(
        "warning-again-and-again",
        "tests/security/test_packet_ids.py::test_soon_is_told_once",
        "ext/engine/key_ops.c",
        "&& !atomic_exchange(reported, true))",
        "&& reported)",
    ),
    # Epochs
    Mutation(
        "future-without-end",
        epochs("test_jump_to_the_border_of_the_future"),
        EPOCHS,
        """        if (number - current > epochs->futures)
            return DCO_DROP_RX_EPOCH_AHEAD;
""",
        "",
        ((EPOCHS, "if (!*epoch || (*epoch)->key.epoch != number)", "if (!*epoch)"),),
    ),
    Mutation(
        "future-ends-one-too-early",
        epochs("test_jump_to_the_border_of_the_future"),
        EPOCHS,
        "if (number - current > epochs->futures)",
        "if (number - current >= epochs->futures)",
    ),
    Mutation(
        "future-not-refilled",
        epochs("test_jump_after_jump"),
        "ext/engine/timer.c",
        "if (!epochs || !dco_epochs_wanting(epochs))",
        "if (!epochs || dco_epochs_wanting(epochs))",
    ),
    Mutation(
        "retired-epochs-still-open",
        epochs("test_jump_back"),
        EPOCHS,
        "if (!epochs->retiring || epochs->retiring->key.epoch != number)",
        "if (!epochs->retiring)",
    ),
    *(
        Mutation(
            f"epoch-moves-before-{before}",
            epochs(test),
            EPOCHS,
            place,
            f"""    if (epoch->key.epoch > epochs->current->key.epoch)
        move_to(epochs, epoch);
{place}""",
        )
        for before, test, place in (
            (
                "authentication",
                "test_unauthenticated_jump_moves_nothing",
                "    if (!dco_epochkey_open(&epoch->key, packet, size)) {\n",
            ),
            (
                "replay-check",
                "test_counter_zero_of_a_future_epoch_moves_nothing",
                "    if (!dco_pktid_accept(&epoch->window, counter, now_s))\n",
            ),
        )
    ),
    Mutation(
        "epoch-authentication-ignored",
        epochs("test_unauthenticated_jump_moves_nothing"),
        EPOCHS,
        "if (!dco_epochkey_open(&epoch->key, packet, size)) {",
        "if (!dco_epochkey_open(&epoch->key, packet, size) && !size) {",
    ),
    Mutation(
        "one-window-for-all-epochs",
        epochs("test_each_epoch_has_its_own_window"),
        EPOCHS,
        "if (!dco_pktid_accept(&epoch->window, counter, now_s))",
        "if (!dco_pktid_accept(&epochs->current->window, counter, now_s))",
    ),
    Mutation(
        "late-epoch-moves-the-peer",
        epochs("test_late_packet_of_the_last_epoch_does_not_move_the_peer"),
        EPOCHS,
        "opened->newest = epoch == epochs->current && ",
        "opened->newest = ",
    ),
    Mutation(
        "epoch-runt-decrypted",
        epochs("test_truncated_at_every_length"),
        EPOCHS,
        """    if (size < DCO_WIRE_EPOCH_OVERHEAD)
        return DCO_DROP_RX_RUNT;
""",
        "",
    ),
    Mutation(
        "overhead-of-the-other-format",
        epochs("test_outer_length_is_exactly_as_computed"),
        TRANSMIT,
        "uint32_t total = prefix + dco_key_overhead(key) + size, header;",
        "uint32_t total = prefix + DCO_WIRE_OVERHEAD + size, header;",
    ),
    Mutation(
        "overhead-miscounted-at-the-largest-datagram",
        epochs("test_largest_datagram_and_one_byte_more"),
        "ext/peers/keyslot.h",
        "return key->epochs ? DCO_WIRE_EPOCH_OVERHEAD : DCO_WIRE_OVERHEAD;",
        "return key->epochs ? DCO_WIRE_EPOCH_OVERHEAD - 1 : DCO_WIRE_OVERHEAD;",
    ),
    Mutation(
        "counter-runs-into-the-epoch",
        epochs("test_nothing_is_sent_after_the_last_counter_of_the_last_epoch"),
        "ext/codec/pktid.h",
        """    if (__builtin_expect(counter->next > counter->last, 0))
        return false;
""",
        "",
    ),
    Mutation(
        "counter-starts-over-in-its-epoch",
        epochs("test_last_counter_leads_to_the_next_epoch"),
        EPOCHS,
        "    epochs->sealing = next;\n",
        "",
    ),
    Mutation(
        "silent-at-the-last-epoch",
        epochs("test_nothing_is_sent_after_the_last_counter_of_the_last_epoch"),
        EPOCHS,
        "return epoch < DCO_EPOCH_MAX\n           && ",
        "return ",
    ),
    Mutation(
        "no-warning-before-the-last-epoch",
        epochs("test_soon_is_told_once_near_the_last_epoch"),
        KEYSLOT,
        "return key->epochs->sealing->key.epoch >= DCO_EPOCH_SOON\n           || ",
        "return ",
    ),
    Mutation(
        "runs-away-from-its-peer",
        epochs("test_no_epoch_after_one_that_the_peer_has_not_shown"),
        EPOCHS,
        "return epoch < DCO_EPOCH_MAX\n           && epoch <= ",
        "return epoch < DCO_EPOCH_MAX || epoch <= ",
    ),
    Mutation(
        "usage-limit-passed",
        epochs("test_no_packet_beyond_the_usage_limit_of_an_epoch"),
        KEYSLOT,
        "bool spent = dco_counter_read(&key->usage) + cost > key->usage_limit",
        "bool spent = dco_counter_read(&key->usage) > key->usage_limit",
        (
            (
                KEYSLOT,
                "if (usage > key->usage_limit || !dco_pktid_next",
                "if (!dco_pktid_next",
            ),
        ),
    ),
    Mutation(
        "forgeries-without-limit",
        epochs("test_forgeries_of_each_epoch_are_counted_apart"),
        EPOCHS,
        "if (epoch->forgeries >= epochs->forgery_limit)",
        "if (epoch->forgeries > size + epochs->forgery_limit)",
    ),
    *(
        Mutation(name, SPENT, file, old, new)
        for name, file, old, new in (
            (
                "classic-forgeries-without-limit",
                RECEIVE,
                "if (key->forgeries >= key->forgery_limit)",
                "if (key->forgeries > size + key->forgery_limit)",
            ),
            (
                "forgeries-of-one-cipher-as-of-another",
                KEYSLOT,
                "gcm ? DCO_AES_GCM_FORGERY_LIMIT : DCO_CHACHA_FORGERY_LIMIT;",
                "DCO_AES_GCM_FORGERY_LIMIT;",
            ),
            (
                "classic-forgeries-forgotten",
                KEYSLOT,
                "    state->forgeries = key->forgeries;\n",
                "",
            ),
            (
                "forgeries-of-an-epoch-forgotten",
                KEYSLOT,
                "    state->forgeries = key->epochs->current->forgeries;\n",
                "",
            ),
        )
    ),
]
