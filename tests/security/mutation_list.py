"""Checks, how each is taken out, and the test that must fail then; see mutations.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECEIVE, RECEIVE_UDP = "ext/engine/receive.c", "ext/engine/receive_udp.c"
RECEIVE_TCP, STREAM = "ext/engine/receive_tcp.c", "ext/engine/stream.c"
TRANSMIT = "ext/engine/transmit.c"
PROTOCOL = "ovpn_dco/protocol/"
TLS, TLS_CONTEXT = "ovpn_dco/protocol/tls.py", "ovpn_dco/protocol/tlscontext.py"
CERTIFICATES, KEY_STATE = "ovpn_dco/protocol/certificates.py", "ovpn_dco/protocol/keystate.py"
KEY_MATERIAL, RELIABLE = "ovpn_dco/protocol/keymaterial.py", "ovpn_dco/protocol/reliable.py"
KEYSLOT, EPOCHS = "ext/peers/keyslot.c", "ext/peers/epochs.c"
CONFIG = "ovpn_dco/config"
TEXT, MESSAGES = "ovpn_dco/protocol/text.py", "ovpn_dco/protocol/messages.py"
ADDRESSES, PUSH = "ovpn_dco/protocol/addresses.py", "ovpn_dco/protocol/push.py"
SESSION, CLIENT_END = "ovpn_dco/protocol/session.py", "ovpn_dco/protocol/session_client.py"
SERVER_END = "ovpn_dco/protocol/session_server.py"
NCP, TOKEN = "ovpn_dco/protocol/ncp.py", "ovpn_dco/protocol/authtoken.py"


@dataclass(frozen=True)
class Mutation:
    """In `file` the text `old`, which occurs once, becomes `new`; then `test` must fail."""

    name: str
    test: str
    file: str
    old: str
    new: str
    more: tuple[tuple[str, str, str], ...] = ()

    @property
    def changes(self) -> tuple[tuple[str, str, str], ...]:
        return ((self.file, self.old, self.new), *self.more)


def checks(name: str) -> str:
    return f"tests/security/test_receive_checks.py::{name}"


def sessions(name: str) -> str:
    return f"tests/security/test_control_session.py::{name}"


def certificates(name: str) -> str:
    return f"tests/security/test_control_certificates.py::{name}"


def floats(name: str) -> str:
    return f"tests/security/test_float.py::{name}"


def frames(name: str) -> str:
    return f"tests/property/test_tcp_frames.py::{name}"


def states(name: str) -> str:
    return f"tests/unit/test_state.py::{name}"


def connections(name: str) -> str:
    return f"tests/security/test_tcp.py::{name}"


def epochs(name: str) -> str:
    return f"tests/security/test_epochs.py::{name}"


def control(name: str) -> str:
    return f"tests/security/test_control_packets.py::{name}"


def protocol(file: str, name: str) -> str:
    return f"tests/protocol/{file}.py::{name}"


def configs(name: str) -> str:
    return f"tests/config/test_security.py::{name}"


def control_text(name: str) -> str:
    return f"tests/security/test_control_text.py::{name}"


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
        "return receive->source_owner == peer;",
        "return receive->source_owner || !peer;",
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
        "atomic_store(&engine->source_check, on);",
        "atomic_store(&engine->source_check, on && !engine);",
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
        "find_peer(receive, transport, train, dco_wire_peer_id(packet));",
        "find_peer(receive, transport, train, dco_wire_peer_id(train->data));",
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
        "if (transport == IPV4_HEADER && !verify_ipv4_header(data))",
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
    # Connections
    Mutation(
        "large-frames-before-a-peer",
        connections("test_impossible_lengths_end_the_connection"),
        "ext/io/tcp.c",
        "tcp->tail = new_tail(DCO_TCP_PENDING_FRAME);",
        "tcp->tail = new_tail(DCO_TCPFRAME_MAX);",
    ),
    Mutation(
        "reading-goes-on-behind-what-cannot-be",
        connections("test_impossible_lengths_behind_a_packet"),
        RECEIVE_TCP,
        "        error = more;\n",
        "        begin = offset + DCO_TCPFRAME_PREFIX;\n",
    ),
    Mutation(
        "large-packet-before-the-key-ends-the-connection",
        "tests/unit/test_tcp.py::test_a_packet_of_any_size_waits_for_the_key",
        RECEIVE_TCP,
        "DCO_TCPFRAME_PREFIX + dco_tcp_frame_max(&stream->tcp);",
        "DCO_TCPFRAME_PREFIX + DCO_TCP_PENDING_FRAME;",
    ),
    Mutation(
        "data-read-before-there-is-a-key",
        connections("test_data_without_a_peer_is_not_read"),
        RECEIVE_TCP,
        "dco_wire_opcode(packet) == DCO_WIRE_DATA_V2 && !atomic_load(&stream->ready);",
        "dco_wire_opcode(packet) == DCO_WIRE_DATA_V1 && !atomic_load(&stream->ready);",
    ),
    Mutation(
        "data-that-waits-wakes-the-thread",
        connections("test_data_without_a_peer_is_not_read"),
        RECEIVE_TCP,
        "    dco_worker_hold(receive->worker, stream->tcp.fd, transport->id, true);\n",
        "",
    ),
    Mutation(
        "connections-without-limit",
        connections("test_a_flood_of_connections_is_refused"),
        STREAM,
        "if (listener->listener->trials >= config->trials_max)",
        "if (listener->listener->trials >= 10 * config->trials_max)",
    ),
    Mutation(
        "sources-without-limit",
        connections("test_one_source_leaves_room_for_others"),
        STREAM,
        "return same < config->trials_per_source_max;",
        "return same < 20 * config->trials_per_source_max;",
    ),
    Mutation(
        "listener-without-descriptors-spins",
        connections("test_without_descriptors_a_listener_rests"),
        STREAM,
        "    dco_worker_unwatch(worker, listener->socket.fd);\n",
        "",
    ),
    Mutation(
        "trial-without-deadline",
        connections("test_whoever_is_slow_meets_the_deadline"),
        STREAM,
        "listener->listener->config.deadline_s * UINT64_C(1000000000);",
        "listener->listener->config.deadline_s * UINT64_C(1000000000000);",
    ),
    Mutation(
        "speaks-first",
        connections("test_nothing_is_said_before_the_client_speaks"),
        "ext/engine/transport.c",
        """    if (stream->accepted && !atomic_load(&stream->heard))
        return -EAGAIN;
""",
        "",
    ),
    Mutation(
        "packet-chooses-the-peer-of-a-connection",
        connections("test_the_id_of_another_peer_opens_nothing"),
        RECEIVE_TCP,
        "atomic_load_explicit(&stream->peer, memory_order_acquire), packet, size);",
        """dco_peer_table_by_id(&receive->engine->peers, dco_wire_peer_id(packet)), packet,
                         size);""",
    ),
    Mutation(
        "datagram-moves-a-peer-off-its-connection",
        connections("test_nothing_moves_a_peer_off_its_connection"),
        RECEIVE,
        "    if (transport != peer->transport || transport->stream)\n",
        "    if (transport->stream)\n",
    ),
    Mutation(
        "what-waits-has-no-bound",
        connections("test_one_who_does_not_read_holds_up_nobody"),
        "ext/io/tcp_queue.c",
        "return room(&queue->data, DCO_TCP_QUEUE_MAX, chunks);",
        "return room(&queue->data, 4 * DCO_TCP_QUEUE_MAX, chunks);",
    ),
    # Framing of a TCP stream
    Mutation(
        "length-zero-is-a-frame",
        frames("test_a_length_that_cannot_be_ends_the_stream"),
        "ext/codec/tcpframe.c",
        """    if (!length)
        return -EPROTO;
""",
        "",
    ),
    Mutation(
        "long-frames-awaited",
        frames("test_the_length_is_judged_before_the_frame_is_there"),
        "ext/codec/tcpframe.c",
        """    if (length > frame_max)
        return -EMSGSIZE;
    if (left - DCO_TCPFRAME_PREFIX < length)
        return 0;
""",
        """    if (left - DCO_TCPFRAME_PREFIX < length)
        return 0;
    if (length > frame_max)
        return -EMSGSIZE;
""",
    ),
    Mutation(
        "incomplete-frame-loses-its-prefix",
        frames("test_any_split_gives_the_same_frames"),
        "ext/codec/tcpframe.c",
        """    if (left - DCO_TCPFRAME_PREFIX < length)
        return 0;
""",
        """    if (left - DCO_TCPFRAME_PREFIX < length) {
        *offset += DCO_TCPFRAME_PREFIX;
        return 0;
    }
""",
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
    # Fork
    Mutation(
        "child-keeps-installed-keys",
        "tests/security/test_fork.py::test_child_has_no_installed_key",
        "ext/engine/engine.c",
        """    for (struct dco_peer *peer = engine->peers.first; peer; peer = peer->next)
        for (int slot = 0; slot < 2; slot++)
            dco_key_free""",
        """    for (struct dco_peer *peer = engine->peers.first; peer; peer = peer->next)
        for (int slot = 0; slot < 0; slot++)
            dco_key_free""",
    ),
    Mutation(
        "child-keeps-retired-keys",
        "tests/security/test_fork.py::test_child_has_no_retired_key",
        "ext/engine/engine.c",
        """    dco_rcu_destroy(&engine->rcu);
    for""",
        """    engine->rcu.readers = 0;
    for""",
    ),
    # Handing over
    Mutation(
        "ids-not-reserved",
        states("test_no_nonce_is_used_twice_even_if_both_go_on"),
        KEYSLOT,
        "counter->last = counter->next - 1 + (reserve < left / 2 ? reserve : left / 2);",
        "counter->last += 0 * (left + reserve);",
        more=(
            (
                KEYSLOT,
                "state->next_packet_id = key->counter.last + 1;",
                "state->next_packet_id = key->counter.next + reserve;",
            ),
        ),
    ),
    Mutation(
        "next-id-left-behind",
        states("test_ids_and_windows_go_on"),
        KEYSLOT,
        "    key->counter.next = state->next_packet_id;\n",
        "",
    ),
    Mutation(
        "window-left-behind",
        states("test_ids_and_windows_go_on"),
        KEYSLOT,
        "    window->newest = window->floor = state->newest_packet_id;\n",
        "    window->newest = 0;\n",
    ),
    Mutation(
        "exported-epochs-turn",
        states("test_an_exported_key_turns_no_epoch"),
        KEYSLOT,
        "    if (key->exported)\n        return 0;",
        "    if (0)\n        return 0;",
    ),
    # Control channel
    Mutation(
        "cookie-compared-upside-down",
        control("test_forged_cookie"),
        PROTOCOL + "cookie.py",
        "valid |= hmac.compare_digest(expected, session_id)",
        "valid |= not hmac.compare_digest(expected, session_id)",
    ),
    Mutation(
        "cookie-of-the-next-slot",
        control("test_cookie_of_the_future"),
        PROTOCOL + "cookie.py",
        "for slot in (current, current - 1):",
        "for slot in (current, current - 1, current + 1):",
    ),
    Mutation(
        "cookie-of-a-slot-before",
        control("test_expired_cookie"),
        PROTOCOL + "cookie.py",
        "for slot in (current, current - 1):",
        "for slot in (current, current - 1, current - 2):",
    ),
    Mutation(
        "cookie-without-port",
        control("test_cookie_from_another_address_or_port"),
        PROTOCOL + "cookie.py",
        '        address[1].to_bytes(2, "big"),\n',
        "",
    ),
    Mutation(
        "cookie-without-address",
        control("test_cookie_from_another_address_or_port"),
        PROTOCOL + "cookie.py",
        "        parsed.packed,\n",
        "",
    ),
    Mutation(
        "cookie-without-client",
        control("test_cookie_of_another_client"),
        PROTOCOL + "cookie.py",
        "        client_session_id,\n        parsed",
        "        parsed",
    ),
    Mutation(
        "cookie-with-any-ack",
        control("test_valid_cookie_on_a_packet_that_is_no_first_one"),
        PROTOCOL + "cookie.py",
        "if not _FIRST_IDS.issuperset(packet.acks):",
        "if False:",
    ),
    Mutation(
        "cookie-with-any-message",
        control("test_valid_cookie_on_a_packet_that_is_no_first_one"),
        PROTOCOL + "cookie.py",
        "packet.message_id not in _FIRST_IDS:",
        "packet.message_id < 0:",
    ),
    Mutation(
        "cookie-with-any-key-id",
        control("test_valid_cookie_on_a_packet_that_is_no_first_one"),
        PROTOCOL + "cookie.py",
        "if packet.key_id:",
        "if packet.key_id < 0:",
    ),
    Mutation(
        "cookie-with-any-opcode",
        control("test_valid_cookie_on_a_packet_that_is_no_first_one"),
        PROTOCOL + "cookie.py",
        "if packet.opcode not in (Opcode.CONTROL_V1,",
        "if packet.opcode in () and (Opcode.CONTROL_V1,",
    ),
    Mutation(
        "cookie-not-demanded",
        protocol("test_cookie", "test_client_that_cannot_answer_a_cookie"),
        PROTOCOL + "cookie.py",
        "if not capable and not self._allow_noncookie:",
        "if False:",
    ),
    Mutation(
        "answers-without-limit",
        control("test_one_source_cannot_use_up_the_answers_for_all"),
        PROTOCOL + "cookie.py",
        "if not self._limiter.allow(address, now):",
        "if False:",
    ),
    Mutation(
        "one-limit-for-all",
        control("test_one_source_cannot_use_up_the_answers_for_all"),
        PROTOCOL + "ratelimit.py",
        "return parsed.packed[: IPV4_PREFIX // 8]",
        'return b""',
    ),
    Mutation(
        "limiter-grows",
        protocol("test_ratelimit", "test_memory_is_bounded_and_the_quiet_are_forgotten_first"),
        PROTOCOL + "ratelimit.py",
        "if len(self._buckets) >= self._max_prefixes:",
        "if False:",
    ),
    Mutation(
        "control-ack-count-unbounded",
        control("test_every_length_of_every_opcode"),
        PROTOCOL + "wire.py",
        "if count > MAX_ACKS:",
        "if count > 255:",
    ),
    Mutation(
        "control-acks-cut-off",
        control("test_every_length_of_every_opcode"),
        PROTOCOL + "wire.py",
        "if offset > len(body):",
        "if False:",
    ),
    Mutation(
        "control-message-id-cut-off",
        protocol("test_wire", "test_refusals"),
        PROTOCOL + "wire.py",
        "if offset + 4 > len(body):",
        "if offset > len(body):",
    ),
    Mutation(
        "control-session-id-zero",
        protocol("test_wire", "test_refusals"),
        PROTOCOL + "wire.py",
        "if session_id == _NO_SESSION:",
        "if False:",
    ),
    Mutation(
        "control-packet-of-any-size",
        protocol("test_wire", "test_refusals"),
        PROTOCOL + "wire.py",
        "if len(data) > MAX_CONTROL_PACKET:",
        "if False:",
    ),
    Mutation(
        "tls-auth-not-compared",
        control("test_unauthentic_reset_is_never_answered"),
        PROTOCOL + "wrap/tls_auth.py",
        "if not hmac.compare_digest(",
        "if not numbers and hmac.compare_digest(",
    ),
    Mutation(
        "tls-crypt-not-compared",
        control("test_unauthentic_reset_is_never_answered"),
        PROTOCOL + "siv.py",
        "return plain if hmac.compare_digest(tag, expected) else None",
        "return plain if expected else None",
    ),
    Mutation(
        "control-replay-accepted",
        protocol("test_wrap_identity", "test_same_bytes_twice_are_a_replay"),
        PROTOCOL + "replay.py",
        "if self._seen >> behind & 1:",
        "if False:",
    ),
    Mutation(
        "control-replay-of-old-time",
        control("test_replay_ids_wrap_without_a_repetition"),
        PROTOCOL + "replay.py",
        "if net_time < self._net_time:",
        "if False:",
    ),
    Mutation(
        "control-replay-after-the-window",
        protocol("test_replay", "test_id_may_be_late_for_fifteen_seconds"),
        PROTOCOL + "replay.py",
        "if replay_id <= self._floor:",
        "if False:",
    ),
    Mutation(
        "replay-time-stands-still",
        control("test_replay_ids_wrap_without_a_repetition"),
        PROTOCOL + "replay.py",
        "following = max(int(now), self._net_time + 1)",
        "following = self._net_time",
    ),
    Mutation(
        "client-key-replaced",
        control("test_client_key_is_not_set_up_twice"),
        PROTOCOL + "wrap/tls_crypt_v2.py",
        "if wrapped_key != self._wrapped_key:",
        "if False:",
    ),
    Mutation(
        "client-key-length-believed",
        protocol("test_statickey", "test_stated_length_is_checked_before_use"),
        PROTOCOL + "statickey.py",
        "return stated if MIN_CLIENT_KEY <= stated <= min(MAX_CLIENT_KEY, len(data)) else None",
        "return stated",
    ),
    Mutation(
        "client-key-where-none-belongs",
        protocol("test_wrap_identity", "test_client_keys_belong_to_tls_crypt_v2"),
        PROTOCOL + "wrap/base.py",
        "if header.opcode.has_client_key:",
        "if False:",
    ),
    Mutation(
        "client-key-of-any-age",
        protocol("test_wrap_v2", "test_age_of_a_key"),
        PROTOCOL + "wrap/tls_crypt_v2.py",
        "if issued_at is None or now - issued_at > self.max_age_s:",
        "if issued_at is None:",
    ),
    Mutation(
        "metadata-verdict-ignored",
        protocol("test_cookie", "test_metadata_are_verified_after_the_cookie_only"),
        PROTOCOL + "wrap/tls_crypt_v2.py",
        "if accepted is not True:",
        "if False:",
    ),
    Mutation(
        "metadata-verified-before-the-cookie",
        protocol("test_cookie", "test_metadata_are_verified_after_the_cookie_only"),
        PROTOCOL + "wrap/front.py",
        "        opened = issued.opened\n",
        "        v2.check(issued.metadata, 0)\n        opened = issued.opened\n",
    ),
    Mutation(
        "old-protection-after-renegotiation",
        protocol("test_wrap_dynamic", "test_old_protection_is_refused_for_later_key_ids"),
        PROTOCOL + "wrap/dynamic.py",
        "return self._dynamic if key_id and",
        "return self._dynamic if key_id > 7 and",
    ),
    Mutation(
        "client-key-with-later-key-ids",
        protocol("test_wrap_v2", "test_key_is_resent_in_message_one_of_key_id_zero_only"),
        PROTOCOL + "wrap/tls_crypt_v2.py",
        "is_first = packet.key_id == 0 and packet.message_id == 1",
        "is_first = packet.message_id == 1",
    ),
    Mutation(
        "static-key-in-repr",
        control("test_no_key_in_any_error_or_repr"),
        PROTOCOL + "statickey.py",
        "    data: bytes = field(repr=False)\n",
        "    data: bytes\n",
    ),
    # Configuration
    Mutation(
        "refused-directive-passes",
        configs("test_no_directive_runs_a_program"),
        f"{CONFIG}/parse.py",
        "if row.status is Status.REFUSED:",
        "if False:",
    ),
    Mutation(
        "control-characters-pass",
        configs("test_control_characters_are_refused_everywhere"),
        f"{CONFIG}/lexer.py",
        "        if found := _CONTROL.search(word):\n            raise Refusal",
        "        if (found := _CONTROL.search(word)) and not word:\n            raise Refusal",
    ),
    Mutation(
        "key-line-repeated",
        configs("test_a_key_that_lost_its_tag_is_not_repeated"),
        f"{CONFIG}/parse.py",
        "if _NAME.fullmatch(directive.name) is None:",
        "if False:",
    ),
    Mutation(
        "devices-are-read",
        configs("test_an_endless_file_is_no_way_to_fill_the_memory"),
        f"{CONFIG}/parse.py",
        "if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):",
        "if False:",
    ),
    Mutation(
        "domain-for-a-shell",
        configs("test_no_domain_means_anything_to_a_shell"),
        f"{CONFIG}/values.py",
        "_DOMAIN.fullmatch(word) is None",
        "_DOMAIN.match(word) is None and not word",
    ),
    Mutation(
        "compression-passes",
        configs("test_compression_of_any_kind_is_refused"),
        f"{CONFIG}/services.py",
        'if directive.arguments != ("migrate",):',
        "if False:",
    ),
    Mutation(
        "cipher-none-passes",
        configs("test_nothing_goes_in_the_clear"),
        f"{CONFIG}/values.py",
        'if name.lower() == "none":',
        "if False:",
    ),
    Mutation(
        "empty-trust",
        configs("test_a_server_lets_nobody_in_by_an_empty_trust"),
        f"{CONFIG}/settings.py",
        "if not content.data.strip():",
        "if False:",
    ),
    Mutation(
        "common-name-is-a-path",
        "tests/config/test_ccd.py::test_names_that_lead_out_of_the_folder",
        f"{CONFIG}/overrides.py",
        'if "/" in common_name or ',
        "if ",
    ),
    Mutation(
        "open-server-is-used",
        "tests/config/test_rules.py::test_what_code_must_add_is_refused_where_it_did_not",
        f"{CONFIG}/parse.py",
        "if rule.severity is not Severity.WARNING",
        "if rule.severity is Severity.ERROR",
    ),
    # Control channel: certificates, key messages, key-states
    Mutation(
        "certificate-error-excused",
        certificates("test_expired_or_early"),
        TLS,
        "                self._check_error(code, depth)\n",
        "                pass\n",
    ),
    Mutation(
        "pin-excuses-any-error",
        certificates("test_fingerprint_does_not_keep_a_certificate_alive"),
        TLS,
        "if failure is TlsFailure.UNKNOWN_CA and self._context.pins_only:",
        "if self._context.pins_only:",
    ),
    Mutation(
        "unknown-authority-excused",
        certificates("test_unknown_authority"),
        TLS,
        "if failure is TlsFailure.UNKNOWN_CA and self._context.pins_only:",
        "if failure is TlsFailure.UNKNOWN_CA:",
    ),
    Mutation(
        "leaf-rules-not-asked",
        certificates("test_name"),
        TLS,
        "                self._context.rules.check(certificate)\n",
        "",
    ),
    Mutation(
        "serial-not-looked-up",
        certificates("test_revoked_by_serial_number"),
        TLS,
        "            self._context.rules.check_serial(certificate)\n",
        "",
    ),
    Mutation(
        "missing-list-excused",
        certificates("test_list_of_somebody_else"),
        TLS,
        "(depth > 0 or self._context.settings.allow_missing_crl)",
        "(depth >= 0 or self._context.settings.allow_missing_crl)",
    ),
    Mutation(
        "revocation-not-checked",
        certificates("test_revoked"),
        TLS_CONTEXT,
        "            store.set_flags(flags.CRL_CHECK | flags.CRL_CHECK_ALL)\n",
        "            store.set_flags(flags.CRL_CHECK & 0)\n",
    ),
    Mutation(
        "sessions-resumed",
        "tests/protocol/test_tls.py::test_no_session_is_resumed",
        TLS_CONTEXT,
        "            | SSL.OP_NO_TICKET\n",
        "",
        (
            (
                TLS_CONTEXT,
                "        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)\n",
                "",
            ),
        ),
    ),
    Mutation(
        "client-certificate-not-required",
        "tests/protocol/test_tls.py::test_client_without_certificate",
        TLS_CONTEXT,
        "        return self.role is Role.CLIENT or required\n",
        "        return self.role is Role.CLIENT and required\n",
    ),
    Mutation(
        "usage-not-checked",
        certificates("test_usage_must_be_that_of_the_peer"),
        CERTIFICATES,
        "        self._check_usage(leaf)\n",
        "",
    ),
    Mutation(
        "fingerprint-not-checked",
        certificates("test_fingerprint_besides_the_authority"),
        CERTIFICATES,
        "        self._check_fingerprint(leaf)\n",
        "",
    ),
    Mutation(
        "name-without-prefix-rule",
        certificates("test_name"),
        CERTIFICATES,
        "            same = name == self.name.value\n",
        "            same = name.startswith(self.name.value)\n",
    ),
    Mutation(
        "nobody-has-a-name",
        certificates("test_nobody_has_no_name"),
        CERTIFICATES,
        "        if not name:\n",
        "        if name is None:\n",
    ),
    Mutation(
        "zero-key-taken",
        "tests/protocol/test_keymaterial.py::test_key_of_zeros_is_refused",
        KEY_MATERIAL,
        "    if not any(key):\n",
        "    if not len(key):\n",
    ),
    Mutation(
        "giant-message-stored",
        "tests/protocol/test_reliable.py::test_giant_is_dropped_and_not_acknowledged",
        RELIABLE,
        "        if len(payload) > PAYLOAD_LIMIT:\n",
        "        if len(payload) > 16 * PAYLOAD_LIMIT:\n",
    ),
    Mutation(
        "repeated-reset-rotates",
        "tests/protocol/test_keystate_renewal.py::test_soft_resets_are_told_apart",
        KEY_STATE,
        "self._stage is KeyStage.ACTIVE and self._derived",
        "self._stage is KeyStage.ACTIVE",
    ),
    Mutation(
        "misplaced-packet-taken",
        "tests/protocol/test_keystate.py::test_packets_out_of_place_change_nothing",
        KEY_STATE,
        "        if not self._has_place(opcode, message_id):\n",
        "        if not self._has_place(opcode, message_id) and opcode < 0:\n",
    ),
    Mutation(
        "unread-records-unbounded",
        "tests/protocol/test_tls.py::test_more_than_anybody_reads_is_an_error",
        TLS,
        "        if self._unread > UNREAD_LIMIT:\n",
        "        if self._unread > 2 * UNREAD_LIMIT:\n",
    ),
    # Text inside TLS
    Mutation(
        "control-characters-accepted",
        control_text("test_control_characters_are_refused_in_every_message"),
        TEXT,
        '"Cc", "Zl", "Zp", "Cs"',
        '"Zl", "Zp", "Cs"',
    ),
    Mutation(
        "line-separators-accepted",
        control_text("test_control_characters_are_refused_in_every_message"),
        TEXT,
        '"Cc", "Zl", "Zp", "Cs"',
        '"Cc", "Cs"',
    ),
    Mutation(
        "line-of-a-username-kept",
        control_text("test_a_username_injects_no_line"),
        TEXT,
        '"_" if unicodedata.category(c) in _FORBIDDEN else c',
        '"_" if c == "\\0" else c',
    ),
    Mutation(
        "preview-not-escaped",
        control_text("test_log_form_is_one_line_of_ascii"),
        TEXT,
        'encode("unicode_escape").decode("ascii")',
        'encode(errors="ignore").decode()',
    ),
    Mutation(
        "message-sent-unchecked",
        control_text("test_what_we_send_is_held_to_the_same"),
        MESSAGES,
        'check_text(_text_of(message), "message", max_bytes=MAX_MESSAGE - 1)',
        "_text_of(message)",
        (
            (
                MESSAGES,
                "    if parse(data) != message:\n",
                "    if not data and parse(data) != message:\n",
            ),
        ),
    ),
    Mutation(
        "message-read-as-another-one",
        "tests/protocol/test_messages.py::test_what_would_be_misread_is_not_sent",
        MESSAGES,
        "    if parse(data) != message:\n",
        "    if not data and parse(data) != message:\n",
    ),
    Mutation(
        "message-without-an-end-kept",
        "tests/protocol/test_messages.py::test_memory_is_bounded_without_any_end",
        MESSAGES,
        "self._pending += piece[:room]",
        "self._pending += piece",
    ),
    Mutation(
        "secrets-in-previews",
        "tests/protocol/test_messages.py::test_secrets_are_not_shown",
        MESSAGES,
        "return shown(name if name.startswith(secret) else data)",
        "return shown(name if name.startswith(secret[2:]) else data)",
    ),
    Mutation(
        "domain-not-checked",
        control_text("test_domain_that_is_none"),
        ADDRESSES,
        'if len(name) > MAX_DOMAIN or not all(map(_LABEL.fullmatch, name.split("."))):',
        "if len(name) > MAX_DOMAIN:",
    ),
    Mutation(
        "domain-checked-at-its-start-only",
        control_text("test_domain_that_is_none"),
        ADDRESSES,
        "map(_LABEL.fullmatch, ",
        "map(_LABEL.match, ",
    ),
    Mutation(
        "scope-of-an-address-accepted",
        control_text("test_scope_of_an_address_is_refused"),
        ADDRESSES,
        "    if address.scope_id is not None:\n",
        "    if address.scope_id == text:\n",
    ),
    Mutation(
        "any-scheme-opened",
        "tests/protocol/test_challenge.py::test_address_that_nobody_should_open",
        "ovpn_dco/protocol/challenge.py",
        're.compile(r"https?://[',
        're.compile(r"[a-z]+:[',
    ),
    Mutation(
        "compression-passed-over",
        control_text("test_compression_is_refused_in_every_form"),
        PUSH,
        "        raise TextRefused(name, _FRAMING)\n",
        "        return Ignored(name, _FRAMING)\n",
    ),
    Mutation(
        "push-without-an-end-kept",
        "tests/protocol/test_push.py::test_push_without_an_end",
        PUSH,
        "        if self._size > MAX_PUSH:\n",
        "        if self._size < 0:\n",
    ),
    Mutation(
        "update-of-keys-accepted",
        "tests/protocol/test_push_update.py::test_any_update_keeps_keys_and_peer_id",
        "ovpn_dco/protocol/push_update.py",
        "    if change.name not in UPDATABLE:\n",
        "    if not change.name:\n",
    ),
    Mutation(
        "variable-for-hooks-without-prefix",
        control_text("test_variables_for_hooks_have_a_prefix_and_a_name"),
        PUSH,
        'f"OPENVPN_{item.variable}"',
        "item.variable",
    ),
    Mutation(
        "pushed-cipher-not-compared",
        control_text("test_server_cannot_push_the_cipher_down"),
        NCP,
        "    if cipher and cipher in ciphers:\n",
        "    if cipher:\n",
    ),
    Mutation(
        "cipher-none-negotiated",
        control_text("test_server_cannot_push_the_cipher_down"),
        NCP,
        "    return None if cipher is Cipher.NONE else cipher\n",
        "    return cipher\n",
    ),
    Mutation(
        "token-length-asserted",
        control_text("test_token_of_every_length_is_refused_cleanly"),
        TOKEN,
        "    if len(password) != TOKEN_CHARACTERS:\n",
        "    assert len(password) == TOKEN_CHARACTERS\n    if not password:\n",
    ),
    Mutation(
        "token-code-not-compared",
        "tests/protocol/test_authtoken.py::test_every_bit_counts",
        TOKEN,
        "        if not own and not empty:\n",
        "        if not own and not body:\n",
    ),
    Mutation(
        "token-without-an-end",
        "tests/protocol/test_authtoken.py::test_token_is_good_for_twice_the_renewal",
        TOKEN,
        " <= now < token.issued + 2 * self._renewal_s:",
        " <= now:",
    ),
    Mutation(
        "token-of-another-session",
        "tests/protocol/test_authtoken.py::test_token_of_another_user_key_or_session",
        TOKEN,
        "if session_id is not None and not hmac",
        "if session_id == b'' and not hmac",
    ),
    Mutation(
        "token-of-no-username-believed",
        "tests/protocol/test_authtoken.py::test_token_of_no_username_proves_none",
        TOKEN,
        'username if own else "")',
        "username)",
    ),
    Mutation(
        "session-echo-not-checked",
        sessions("test_echoed_session_id_must_be_ours"),
        SESSION,
        "        if packet.remote_session_id not in (None, self._session_id):\n",
        "        if packet.remote_session_id == bytes(8):\n",
    ),
    Mutation(
        "session-id-not-checked",
        sessions("test_session_id_must_be_the_peers"),
        SESSION,
        "        if self._remote_session_id not in (None, header.session_id):\n",
        "        if header.session_id == bytes(8):\n",
    ),
    Mutation(
        "session-address-not-checked",
        sessions("test_control_packets_do_not_float"),
        SESSION,
        "        if _place(address) != _place(self._address):\n",
        "        if not _place(address):\n",
    ),
    Mutation(
        "session-opcode-without-direction",
        sessions("test_opcodes_have_a_direction"),
        SESSION,
        "        if header.opcode not in _FROM_BOTH | _FROM_PEER[self._role]:\n",
        "        if header.opcode.is_data:\n",
    ),
    Mutation(
        "session-reset-without-echo",
        sessions("test_reset_must_echo_the_clients_session_id"),
        CLIENT_END,
        "        if packet.remote_session_id is None:\n",
        "        if packet.remote_session_id == b'':\n",
    ),
    Mutation(
        "session-soft-reset-late-message",
        sessions("test_renegotiation_out_of_turn"),
        SESSION,
        "        if verdict is SoftReset.STALE or packet.message_id:\n",
        "        if verdict is SoftReset.STALE:\n",
    ),
    Mutation(
        "session-username-may-change",
        sessions("test_username_stays_the_same"),
        SERVER_END,
        "            if username != self._username:\n",
        "            if not username:\n",
    ),
    Mutation(
        "session-client-certificate-may-change",
        sessions("test_certificate_of_the_client_stays_the_same"),
        SERVER_END,
        "        if self._has_changed():\n",
        "        if self._has_changed() and not event.key_id:\n",
    ),
    Mutation(
        "session-server-certificate-may-change",
        sessions("test_certificate_of_the_server_stays_the_same"),
        CLIENT_END,
        "        if self._has_changed():\n",
        "        if self._has_changed() and not self._primary.key_id:\n",
    ),
    Mutation(
        "session-earlier-yes-counts",
        sessions("test_each_login_is_decided_anew"),
        SERVER_END,
        "        self._accepted = False\n        if not",
        "        if not",
    ),
    Mutation(
        "session-key-without-decision",
        sessions("test_each_login_is_decided_anew"),
        SERVER_END,
        "        if not self._accepted or state.derived",
        "        if state.derived",
    ),
    Mutation(
        "session-credentials-with-line-breaks",
        sessions("test_credentials_have_no_line_breaks"),
        SERVER_END,
        "username=without_controls(message.username)",
        "username=message.username",
    ),
    Mutation(
        "session-ends-twice",
        sessions("test_session_ends_once"),
        SESSION,
        "        if self._ended:\n            return\n        self._ended = True\n",
        "        self._ended = True\n",
        (
            (
                SESSION,
                "            if not self._ended:\n                self._take(event, now)\n",
                "            self._take(event, now)\n",
            ),
            (
                SESSION,
                "                    if not self._ended:\n                        self._take_m",
                "                    if message:\n                        self._take_m",
            ),
        ),
    ),
]
