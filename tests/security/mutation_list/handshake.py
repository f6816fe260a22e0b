"""Certificates, key messages and key-states."""

from __future__ import annotations

from .mutation import Mutation

TLS = "ovpn_dco/protocol/tls.py"
TLS_CONTEXT = "ovpn_dco/protocol/tlscontext.py"
CERTIFICATES = "ovpn_dco/protocol/certificates.py"
KEY_STATE = "ovpn_dco/protocol/keystate.py"
KEY_MATERIAL = "ovpn_dco/protocol/keymaterial.py"
RELIABLE = "ovpn_dco/protocol/reliable.py"


def certificates(name: str) -> str:
    return f"tests/security/test_control_certificates.py::{name}"


MUTATIONS = [
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
        "self._context.rules.check(certificate)\n",
        "certificate.subject\n",
    ),
    Mutation(
        "serial-not-looked-up",
        certificates("test_revoked_by_serial_number"),
        TLS,
        "            self._context.rules.check_serial(presented.get_serial_number())\n",
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
        "message-beyond-the-window-stored",
        "tests/protocol/test_reliable.py::test_window_is_twelve_and_what_is_beyond_is_not_acknowledged",
        RELIABLE,
        "        if message_id >= self._next_id + RECEIVE_WINDOW:\n",
        "        if message_id >= self._next_id + 2 * RECEIVE_WINDOW:\n",
    ),
    Mutation(
        "repeated-reset-rotates",
        "tests/protocol/test_keystate_renewal.py::test_soft_resets_are_told_apart",
        KEY_STATE,
        "self.failed or (self._stage is KeyStage.ACTIVE and self._derived)",
        "self.failed or self._stage is KeyStage.ACTIVE",
    ),
    Mutation(
        "misplaced-packet-taken",
        "tests/protocol/test_keystate.py::test_packets_out_of_place_change_nothing",
        KEY_STATE,
        "        if not has_place(self.role, self.key_id, opcode, message_id):\n",
        "        if not has_place(self.role, self.key_id, opcode, message_id) and opcode < 0:\n",
    ),
    Mutation(
        "unread-records-unbounded",
        "tests/protocol/test_tls.py::test_more_than_anybody_reads_is_an_error",
        TLS,
        "        if self._unread > UNREAD_LIMIT:\n",
        "        if self._unread > 2 * UNREAD_LIMIT:\n",
    ),
]
