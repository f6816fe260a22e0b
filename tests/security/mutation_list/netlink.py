"""The kernel's driver over netlink."""

from __future__ import annotations

from .mutation import Mutation

SOCKETS = "ovpn_dco/netlink/sockets.py"
TRACKER = "ovpn_dco/netlink/tracker.py"


def of_sockets(name: str) -> str:
    return f"tests/netlink/test_sockets.py::{name}"


def of_tracker(name: str) -> str:
    return f"tests/netlink/test_tracker.py::{name}"


MUTATIONS = [
    Mutation(
        "netlink-forged-event",
        of_sockets("test_other_processes_are_not_listened_to"),
        SOCKETS,
        "if port == 0 else []",
        "",
    ),
    Mutation(
        "netlink-stale-answer",
        of_sockets("test_answer_to_an_earlier_request_is_not_taken"),
        SOCKETS,
        "if message.sequence != self._sequence:",
        "if False:",
    ),
    Mutation(
        "netlink-refusal-quotes-keys",
        of_sockets("test_refusals_do_not_quote_requests"),
        SOCKETS,
        "self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)",
        "pass",
    ),
    Mutation(
        "netlink-cut-off-message",
        "tests/netlink/test_recorded.py::test_cut_off_messages_are_refused",
        "ovpn_dco/netlink/answers.py",
        "if not HEADER_SIZE <= length <= len(data) - offset:",
        "if length <= 0:",
    ),
    Mutation(
        "netlink-late-deletion",
        of_tracker("test_notification_behind_a_look_does_not_end_the_next_peer"),
        TRACKER,
        "                    self._unsure.add(peer.peer_id)",
        "                    pass",
    ),
    Mutation(
        "netlink-look-older-than-float",
        of_tracker("test_float_that_a_look_has_not_seen_stays"),
        TRACKER,
        "if peer.generation not in moved:",
        "if True:",
    ),
    Mutation(
        "netlink-former-peer-with-the-id",
        of_tracker("test_what_comes_during_a_look_is_of_the_present_peer"),
        TRACKER,
        "told = [self._deletion(peer) for peer in list(self._all()) if peer.doomed]",
        "told: list[Told] = []",
    ),
]
