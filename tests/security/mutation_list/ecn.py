"""TOS of inner and outer headers: what is copied out, and what marks of routers do."""

from __future__ import annotations

from .mutation import Mutation

ECN = "ext/codec/ecn.c"
RECEIVE = "ext/engine/receive.c"
TRANSMIT = "ext/engine/transmit.c"
UDP = "ext/io/udp.c"
UDP_SEND = "ext/io/udp_send.c"
MARKING = "ovpn_dco/runtime/marking.py"


def unit(name: str) -> str:
    return f"tests/unit/test_ecn.py::{name}"


MUTATIONS = [
    # Out
    Mutation(
        "one-train-for-every-tos",
        unit("test_each_datagram_of_a_batch_has_its_own"),
        TRANSMIT,
        "    if ((tos ^ transmit->tos) & copied || !transmit->head)\n"
        "        transmit->growing = false;\n",
        "",
    ),
    Mutation(
        "keepalive-with-the-tos-of-a-flow",
        unit("test_control_packets_and_keepalives_have_the_tos_of_the_socket"),
        TRANSMIT,
        "        transmit->tos = transmit->tos_copied = 0;\n",
        "",
    ),
    Mutation(
        "dscp-copied-unasked",
        unit("test_ecn_is_copied_out"),
        "ext/engine/features.c",
        "if (!peer->transport->stream && peer->dscp)",
        "if (!peer->transport->stream)",
    ),
    Mutation(
        "ecn-copied-for-any-peer",
        unit("test_nothing_is_copied_for_a_peer_that_would_lose_marks"),
        "ext/engine/features.c",
        "if (!peer->transport->stream && atomic_load(&peer->ecn) == DCO_ECN_NORMAL)",
        "if (!peer->transport->stream)",
    ),
    Mutation(
        "a-write-for-every-tos",
        unit("test_a_connection_carries_all_packets_alike"),
        "ext/engine/features.c",
        "if (!peer->transport->stream && peer->dscp)",
        "if (peer->dscp)",
    ),
    Mutation(
        "tos-of-the-owner-forgotten",
        unit("test_what_is_not_copied_is_as_the_owner_of_the_socket_wants_it"),
        UDP_SEND,
        "int tos = (own & ~message->tos_mask) | message->tos;",
        "int tos = message->tos;",
    ),
    Mutation(
        "traffic-class-for-mapped-addresses",
        unit("test_ecn_is_copied_out"),
        UDP_SEND,
        "bool ipv4 = message->remote.family == AF_INET;",
        "bool ipv4 = udp->family == AF_INET;",
    ),
    # In
    Mutation(
        "congestion-hidden-from-a-flow-without-ecn",
        unit("test_marks_are_brought_in"),
        ECN,
        "{DCO_ECN_NOT_ECT, DCO_ECN_NOT_ECT, DCO_ECN_NOT_ECT, DROP}",
        "{DCO_ECN_NOT_ECT, DCO_ECN_NOT_ECT, DCO_ECN_NOT_ECT, DCO_ECN_NOT_ECT}",
    ),
    Mutation(
        "mark-without-its-checksum",
        unit("test_marks_are_brought_in"),
        ECN,
        "    dco_checksum_replace(packet + 10, before, after);\n",
        "",
    ),
    Mutation(
        "marks-ignored",
        unit("test_marks_are_brought_in"),
        RECEIVE,
        "if (dco_ecn_matters(train->tos) && ",
        "if (train->tos > 255 && ",
    ),
    Mutation(
        "marks-of-a-spoilt-network-believed",
        unit("test_a_peer_whose_marks_do_not_count"),
        RECEIVE,
        "if (atomic_load_explicit(&peer->ecn, memory_order_relaxed) == DCO_ECN_OFF\n        || ",
        "if (",
    ),
    Mutation(
        "mark-lost-between-workers",
        unit("test_the_mark_goes_along_to_another_worker"),
        "ext/engine/receive_udp.c",
        "        train.tos = head.tos;\n",
        "",
    ),
    Mutation(
        "tos-of-ipv4-not-asked-for-on-ipv6-sockets",
        unit("test_marks_are_brought_in"),
        UDP,
        "    dco_udp_set_option(udp, IPPROTO_IP, IP_RECVTOS, 1);\n",
        "    if (udp->family == AF_INET)\n"
        "        dco_udp_set_option(udp, IPPROTO_IP, IP_RECVTOS, 1);\n",
    ),
    Mutation(
        "unknown-treatment-of-marks",
        unit("test_settings_of_peers"),
        "ovpn_dco/validation/settings.py",
        "Ecn.__members__.get(str(ecn).upper())",
        "Ecn.__members__.get(str(ecn).upper(), Ecn.OFF)",
    ),
    Mutation(
        "marks-of-the-predecessor-forgotten",
        unit("test_a_successor_goes_on_with_the_same"),
        "ext/convert.pxi",
        "            config.marking.dscp = dscp\n",
        "            config.marking.dscp = 0\n",
    ),
    Mutation(
        "marks-merged",
        "tests/system/test_ecn.py::test_each_datagram_keeps_its_own_mark",
        "ext/codec/gro.c",
        "if (a[1] != b[1] || !same(a + 6, b + 6, 3))",
        "if (!same(a + 6, b + 6, 3))",
    ),
    # What the ends tell each other
    Mutation(
        "ecn-for-a-client-that-loses-marks",
        "tests/server/test_server.py::test_outer_headers_are_as_the_client_can_take_them",
        MARKING,
        "return Ecn.NORMAL if said.values.get(LINE) == YES else Ecn.COMPATIBILITY",
        "return Ecn.NORMAL",
    ),
    Mutation(
        "ecn-for-a-server-that-loses-marks",
        "tests/client/test_attempt.py::test_outer_headers_are_as_the_server_can_take_them",
        MARKING,
        "return Ecn.NORMAL if knows else Ecn.COMPATIBILITY",
        "return Ecn.NORMAL",
    ),
    Mutation(
        "marks-promised-without-an-engine-for-it",
        "tests/runtime/test_marking.py::test_copied_out_only_to_who_brings_in",
        MARKING,
        "both = Feature.ECN in features and ",
        "both = ",
    ),
]
