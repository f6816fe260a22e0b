"""TCP connections, and the device as a whole: fork and handing over."""

from __future__ import annotations

from .mutation import Mutation

RECEIVE = "ext/engine/receive.c"
RECEIVE_TCP = "ext/engine/receive_tcp.c"
STREAM = "ext/engine/stream.c"
KEYSLOT = "ext/peers/keyslot.c"


def frames(name: str) -> str:
    return f"tests/property/test_tcp_frames.py::{name}"


def states(name: str) -> str:
    return f"tests/unit/test_state.py::{name}"


def connections(name: str) -> str:
    return f"tests/security/test_tcp.py::{name}"


MUTATIONS = [
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
        "held-data-vanishes",
        "tests/unit/test_tcp.py::test_data_that_waited_until_the_end_is_counted",
        "ext/engine/transport.c",
        "        if (transport->engine)\n            dco_counter_add_shared",
        "        if (transport->engine && transport->listener)\n            dco_counter_add_shared",
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
    # Sending
    Mutation(
        "what-a-firewall-refuses-is-sent-again",
        "tests/scenarios/test_mark.py::test_marked_packets_meet_the_rule",
        "ext/io/udp_send.c",
        "if (sent < 0 && errno == EPERM)",
        "if (0)",
    ),
]
