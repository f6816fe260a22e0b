"""From a configuration to what it is meant to forbid."""

from __future__ import annotations

from .mutation import Mutation

TLS_PROFILE = "ovpn_dco/runtime/tls_profile.py"
WRAP_PROFILE = "ovpn_dco/runtime/wrap_profile.py"
CERTIFICATES = "ovpn_dco/protocol/certificates.py"


def tls(name: str) -> str:
    return f"tests/runtime/test_tls_profile.py::{name}"


def wrap(name: str) -> str:
    return f"tests/runtime/test_wrap_profile.py::{name}"


def certificates(name: str) -> str:
    return f"tests/security/test_control_certificates.py::{name}"


MUTATIONS = [
    # Profiles
    Mutation(
        "key-usage-ignored",
        certificates("test_bits_of_the_key_usage"),
        CERTIFICATES,
        "if not any(bits & wanted == wanted for wanted in self.key_usages):",
        "if not any(bits & wanted for wanted in self.key_usages):",
    ),
    Mutation(
        "extended-usage-ignored",
        certificates("test_extended_usage_by_its_number"),
        CERTIFICATES,
        "        if self.extended_usage is None:\n            return\n",
        "        return\n",
    ),
    Mutation(
        "revocation-list-read-once",
        tls("test_changed_revocation_list_counts_for_the_next_session"),
        TLS_PROFILE,
        "            self._refresh()\n",
        "            pass\n",
    ),
    Mutation(
        "renegotiation-with-the-old-list",
        tls("test_revoked_client_is_turned_away_at_its_renegotiation"),
        "ovpn_dco/protocol/session.py",
        "tls=self._settings.tls.current(),",
        "tls=self._settings.tls._context,",
    ),
    Mutation(
        "empty-revocation-list-revokes-nobody",
        tls("test_broken_list_leaves_the_old_one"),
        TLS_PROFILE,
        "    if not crl.strip():\n",
        "    if False:\n",
    ),
    Mutation(
        "state-for-an-address-without-a-cookie",
        wrap("test_client_that_cannot_answer_a_cookie_is_refused"),
        WRAP_PROFILE,
        "burst=count),\n    )",
        "burst=count),\n        allow_noncookie=True,\n    )",
    ),
]
