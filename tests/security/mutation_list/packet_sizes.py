"""MSS clamp, ICMP errors, fragments and what the path is known to carry."""

from __future__ import annotations

from .mutation import Mutation

MSS = "ext/codec/mss.c"
ICMP = "ext/codec/icmp.c"
IP = "ext/codec/ip.c"


def sizes(name: str) -> str:
    return f"tests/property/test_packet_sizes.py::{name}"


MODEL = sizes("test_the_clamp_is_the_models")
NOBODY = sizes("test_nobody_in_particular_gets_no_error")

MUTATIONS = [
    Mutation("mss-raised", MODEL, MSS, "dco_load16(tcp + at + 2) > mss", "true"),
    Mutation(
        "mss-of-any-segment",
        MODEL,
        MSS,
        "if (!(tcp[TCP_FLAGS] & TCP_SYN) || header < TCP_HEADER",
        "if (header < TCP_HEADER",
    ),
    Mutation(
        "mss-at-an-odd-place",
        MODEL,
        MSS,
        "    if (at % 2) {\n",
        "    if (0) {\n",
    ),
    Mutation(
        "mss-option-of-any-length",
        sizes("test_anything_may_be_clamped"),
        MSS,
        "tcp[at + 1] < 2 || tcp[at + 1] > header - at",
        "tcp[at + 1] > header - at",
    ),
    Mutation(
        "icmp-error-about-an-error",
        sizes("test_errors_quote_what_they_are_about"),
        ICMP,
        "return type == 0 || type == 8 || (type >= 13 && type <= 18);",
        "return true || type;",
    ),
    Mutation("icmp-error-to-nobody", NOBODY, ICMP, "!is_ipv4_host(packet + 12) || ", ""),
    Mutation("icmp-error-about-a-group", NOBODY, ICMP, " || !is_ipv4_host(packet + 16)", ""),
    Mutation(
        "icmp-error-about-a-later-fragment",
        sizes("test_later_fragments_get_no_error"),
        IP,
        "        .first = !(place & DCO_IPV4_OFFSET),\n",
        "        .first = true,\n",
    ),
    Mutation(
        "fragments-of-what-must-stay-whole",
        sizes("test_fragments_make_the_packet_again"),
        "ext/codec/fragment.c",
        "place & DCO_IPV4_DF || mtu",
        "mtu",
    ),
]
