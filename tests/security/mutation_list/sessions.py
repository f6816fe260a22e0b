"""Sessions: whose packets count, who somebody is, and how it ends."""

from __future__ import annotations

from .mutation import Mutation

SESSION = "ovpn_dco/protocol/session.py"
CLIENT_END = "ovpn_dco/protocol/session_client.py"
SERVER_END = "ovpn_dco/protocol/session_server.py"


def sessions(name: str) -> str:
    return f"tests/security/test_control_session.py::{name}"


def recovery(name: str) -> str:
    return f"tests/protocol/test_session_recovery.py::{name}"


def traffic(name: str) -> str:
    return f"tests/protocol/test_session_traffic.py::{name}"


MUTATIONS = [
    # Sessions
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
        "        if address != self._address and _place(address) != _place(self._address):\n",
        "        if not _place(address):\n",
    ),
    Mutation(
        "session-opcode-without-direction",
        sessions("test_opcodes_have_a_direction"),
        SESSION,
        "header.opcode not in _FROM_BOTH and header.opcode not in _FROM_PEER[self._role]:\n",
        "header.opcode.is_data:\n",
        # The key-state looks once more, when the packet is open.
        more=(
            (
                "ovpn_dco/protocol/keystate.py",
                "        if not has_place(self.role, self.key_id, opcode, message_id):\n",
                "        if opcode < 0:\n",
            ),
        ),
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
        "verdict is SoftReset.STALE or packet.message_id or (begins and packet.acks)",
        "verdict is SoftReset.STALE or (begins and packet.acks)",
    ),
    Mutation(
        "session-soft-reset-proves-nothing",
        recovery("test_last_acknowledgement_is_lost"),
        "ovpn_dco/protocol/keystate.py",
        "                return SoftReset.PROOF\n",
        "                return SoftReset.STALE\n",
    ),
    Mutation(
        "session-soft-reset-passes-over-a-login",
        recovery("test_login_without_a_decision_is_not_passed_over"),
        SESSION,
        "        if verdict is SoftReset.ROTATE:\n",
        "        if begins:\n",
    ),
    Mutation(
        "session-late-decision-counts-for-the-next",
        recovery("test_decision_that_comes_too_late_is_told_from_the_next_one"),
        SERVER_END,
        "        return self._asked is asked and not self._ended\n",
        "        return self._asked is not None and not self._ended\n",
    ),
    Mutation(
        "session-unknown-key-id-left-out",
        recovery("test_key_id_of_which_the_peer_never_heard_is_used_again"),
        SESSION,
        "        return key_id if unknown else next_key_id(key_id)\n",
        "        return next_key_id(key_id)\n",
    ),
    Mutation(
        "session-same-key-id-of-both-unanswered",
        recovery("test_two_that_never_try_at_the_same_time"),
        "ovpn_dco/protocol/keystate.py",
        "            unknown = self.failed and not self._heard\n",
        "            unknown = False\n",
    ),
    Mutation(
        "session-tries-again-too-early",
        recovery("test_both_fail_and_begin_again"),
        SESSION,
        "            self._retry_s = now + self._settings.timers.hand_window_s\n",
        "            self._retry_s = now\n",
    ),
    Mutation(
        "session-lame-duck-lost-with-a-failure",
        recovery("test_one_end_fails_and_the_other_does_not"),
        SESSION,
        "        if self._primary.derived:\n            self._primary.retire(now)\n",
        "        if True:\n            self._primary.retire(now)\n",
    ),
    Mutation(
        "session-old-key-goes-while-the-peer-seals-with-it",
        traffic("test_renegotiations_lose_nothing"),
        SESSION,
        "            self._lame_ducks.append(self._primary)\n",
        "            self._lame_ducks.append(self._primary)\n            self._make_room()\n",
    ),
    Mutation(
        "session-next-key-seals-before-the-peer-has-it",
        traffic("test_renegotiations_lose_nothing"),
        SESSION,
        "            self._lame_ducks.append(self._primary)\n",
        "            self._lame_ducks.append(self._primary)\n            self._promote()\n",
    ),
    Mutation(
        "session-renews-a-key-that-does-not-seal-yet",
        traffic("test_what_has_carried_enough_is_the_key_that_seals"),
        SESSION,
        "        if self._primary.derived and self._unpromoted is None:\n",
        "        if self._primary.derived:\n",
    ),
    Mutation(
        "session-renews-a-key-twice-at-once",
        traffic("test_what_has_carried_enough_is_the_key_that_seals"),
        SESSION,
        "        if self._primary.derived and self._unpromoted is None:\n",
        "        if self._unpromoted is None:\n",
    ),
    Mutation(
        "session-next-key-seals-at-the-time-of-another",
        traffic("test_each_key_seals_at_its_own_time"),
        SESSION,
        "            case KeyPromotionDue(key_id) if key_id == self._unpromoted:\n",
        "            case KeyPromotionDue():\n",
    ),
    Mutation(
        "failed-key-state-answers-nothing",
        "tests/protocol/test_keystate_renewal.py::test_soft_resets_are_told_apart",
        "ovpn_dco/protocol/keystate.py",
        "        ready = self.failed or (",
        "        ready = (",
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
    Mutation(
        "session-rotates-before-it-acknowledged",
        "tests/protocol/test_session.py::test_one_more_renegotiation_in_the_middle_of_one",
        "ovpn_dco/protocol/keystate.py",
        " and not self._reliable.pending_acks\n\n",
        "\n\n",
    ),
    Mutation(
        "session-login-not-tried-before",
        "tests/protocol/test_session.py::test_login_that_cannot_be_sent",
        CLIENT_END,
        "        encode_key_message(\n",
        "        (lambda *_: None)(\n",
    ),
]
