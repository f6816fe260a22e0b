"""What a trace has shown that it should not, and the reverse."""

from __future__ import annotations

from .mutation import Mutation

TRACE = "ext/engine/trace.c"
PYTHON = "ovpn_dco/trace.py"


def trace(name: str) -> str:
    return f"tests/unit/test_trace.py::{name}"


MUTATIONS = [
    Mutation(
        "trace-of-all-peers",
        trace("test_only_some_peers"),
        TRACE,
        "|| !concerns(trace, &record->peer) ",
        "",
    ),
    Mutation(
        "trace-of-a-successor",
        trace("test_a_handle_is_one_peer_and_an_id_whoever_has_it"),
        TRACE,
        "&& (!one->generation || one->generation == ref->generation)",
        "",
    ),
    Mutation(
        "trace-of-what-was-not-dropped",
        trace("test_an_inner_packet_says_why_it_was_dropped"),
        TRACE,
        "|| (config->drops_only && !record->drop)\n",
        "\n",
    ),
    Mutation(
        "trace-of-what-opening-has-left",
        trace("test_a_forged_packet_says_why_it_was_dropped"),
        TRACE,
        "loss.reason, loss.packets);\n    put(trace, lane, &record, lane->held);",
        "loss.reason, loss.packets);\n    put(trace, lane, &record, packet);",
    ),
    Mutation(
        "trace-samples-its-own-packets",
        trace("test_both_ends_sample_the_same_packets"),
        TRACE,
        "if (record->format != DCO_TRACE_NO_ID)",
        "if (!record)",
    ),
    Mutation(
        "trace-beyond-the-snap",
        trace("test_only_the_beginning_is_kept"),
        TRACE,
        "record->kept = record->size < config->snap ? record->size : config->snap;",
        "record->kept = record->size;",
    ),
    Mutation(
        "trace-loses-in-silence",
        trace("test_what_finds_no_room_is_counted_and_traffic_goes_on"),
        TRACE,
        "dco_counter_add(&lane->lost, 1);",
        ";",
    ),
    Mutation(
        "two-traces-at-once",
        trace("test_one_at_a_time"),
        "ext/engine/trace_ops.c",
        "if (dco_trace_on(engine)) {\n        error = -EBUSY;",
        "if (dco_trace_on(engine) && !*fd) {\n        error = -EBUSY;",
    ),
    Mutation(
        "trace-for-everybody",
        trace("test_nor_may_they_a_file_that_was_there_before"),
        PYTHON,
        "os.fchmod(self._fd, 0o600)",
        "os.fchmod(self._fd, 0o644)",
    ),
    Mutation(
        "trace-read-by-the-last-one",
        trace("test_no_next_trace_while_the_file_of_the_last_takes_nothing"),
        "ovpn_dco/device.py",
        "if self._trace is not None and self._trace.stuck:",
        "if self._trace is not None and not self._trace:",
    ),
    Mutation(
        "trace-of-a-foreign-peer",
        trace("test_a_peer_of_another_device_is_refused"),
        PYTHON,
        "if not peer.belongs_to(known):",
        "if not peer.belongs_to(known) and not known:",
    ),
]
