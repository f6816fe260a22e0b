"""The kernel's driver over netlink."""

from __future__ import annotations

from .mutation import Mutation

INTERFACE = "ovpn_dco/netlink/interface.py"
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
        "for peer in [peer for peer in self._all() if peer.doomed]:",
        "for peer in list[_Peer]():",
    ),
    Mutation(
        "netlink-unreadable-event",
        of_sockets("test_what_cannot_be_read_is_lost"),
        SOCKETS,
        "if error.errno in (errno.ENOBUFS, errno.EBADMSG):",
        "if error.errno in (errno.ENOBUFS,):",
    ),
    Mutation(
        "netlink-read-before-a-failure",
        of_sockets("test_what_was_read_before_a_failure_comes_with_the_next_call"),
        SOCKETS,
        "        with contextlib.suppress(BlockingIOError):\n",
        "        self._found = []\n        with contextlib.suppress(BlockingIOError):\n",
    ),
    Mutation(
        "netlink-known-before-a-failure",
        of_tracker("test_what_is_known_waits_while_the_rest_cannot_be_found"),
        INTERFACE,
        "    tracker.take(read())\n",
        "    tracker.tell()\n    tracker.take(read())\n",
    ),
    Mutation(
        "netlink-reason-of-another",
        of_tracker("test_reason_is_not_of_a_later_peer_with_the_id"),
        TRACKER,
        "if not peers or (self.behind and len(peers) > 1):",
        "if not peers:",
    ),
    Mutation(
        "netlink-interface-gone",
        "tests/netlink/test_interface.py::test_peers_are_gone_with_their_interface",
        INTERFACE,
        "except InterfaceMissing:",
        "except NotFound:",
    ),
    Mutation(
        "netlink-scope-cut-off",
        "tests/netlink/test_recorded.py::test_what_is_no_address_is_refused_here",
        "ovpn_dco/netlink/codec.py",
        'if "%" not in text:\n            return ipaddress.ip_address(text)',
        'if text:\n            return ipaddress.ip_address(text.partition("%")[0])',
    ),
]
