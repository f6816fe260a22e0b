"""MSS clamp, ICMP errors, fragments and what the path is known to carry."""

from __future__ import annotations

from .mutation import Mutation

MSS = "ext/codec/mss.c"
ICMP = "ext/codec/icmp.c"
IP = "ext/codec/ip.c"
PATH = "ext/engine/path.c"
ANSWER = "ext/engine/answer.c"


def sizes(name: str) -> str:
    return f"tests/property/test_packet_sizes.py::{name}"


def path(name: str) -> str:
    return f"tests/unit/test_path.py::{name}"


def icmp(name: str) -> str:
    return f"tests/security/test_path_icmp.py::{name}"


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
        "mss-behind-an-option-that-cannot-be",
        MODEL,
        MSS,
        "tcp[at + 1] < 2 || tcp[at + 1] > header - at",
        "tcp[at + 1] < 1 || tcp[at + 1] > header - at",
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
    # Limits of a path
    Mutation(
        "clamp-larger-than-a-packet",
        path("test_bad_arguments"),
        PATH,
        "config->mss_clamp > DCO_IP_PACKET_MAX || ",
        "",
    ),
    Mutation(
        "path-smaller-than-any",
        path("test_bad_arguments"),
        PATH,
        "config->path_limit < DCO_PATH_MTU_MIN_IPV4 || ",
        "",
    ),
    Mutation(
        "path-of-ipv6-smaller-than-any",
        path("test_over_ipv6_the_outer_header_is_larger"),
        PATH,
        "if (set < DCO_PATH_MTU_MIN_IPV6 && over_ipv6(peer))",
        "if (0)",
    ),
    Mutation(
        "segments-of-next-to-nothing",
        path("test_the_clamp_counts_as_mssfix_does"),
        PATH,
        "return limit > DCO_SEGMENT_MIN ? limit : DCO_SEGMENT_MIN;",
        "return limit;",
    ),
    Mutation(
        "fragments-of-what-must-not-be",
        path("test_what_does_not_fit_is_answered"),
        PATH,
        "!(dco_load16(gso->packet + 6) & DCO_IPV4_DF)",
        "true",
    ),
    Mutation(
        "small-packets-of-ipv6-refused",
        path("test_small_packets_of_ipv6_are_never_refused"),
        PATH,
        "gso->ip_version == 6 && size <= DCO_PATH_MTU_MIN_IPV6",
        "0",
    ),
    Mutation(
        "path-mtu-raised-by-icmp",
        icmp("test_what_icmp_may_say"),
        PATH,
        "error->mtu < least || error->mtu - headers > learned(peer, now_ns)",
        "error->mtu < least",
    ),
    Mutation(
        "path-mtu-of-next-to-nothing",
        icmp("test_what_icmp_may_say"),
        PATH,
        "error->mtu < least || error->mtu",
        "error->mtu",
    ),
    Mutation(
        "path-mtu-without-df",
        icmp("test_without_df_icmp_says_nothing"),
        "ext/engine/transport.c",
        "error.error == EMSGSIZE && udp->df",
        "error.error == EMSGSIZE",
    ),
    Mutation(
        "icmp-errors-without-end",
        path("test_errors_have_a_rate"),
        ANSWER,
        "|| !dco_bucket_take(",
        "|| false && !dco_bucket_take(",
    ),
    Mutation(
        "icmp-errors-unasked",
        path("test_addresses_that_no_peer_has"),
        "ext/engine/transmit.c",
        "if (transmit->engine->config.unreachable)",
        "if (true)",
    ),
    Mutation(
        "path-learned-for-ever",
        path("test_what_was_learned_ages"),
        PATH,
        "return now_ns < until ? ",
        "return until ? ",
    ),
]
