"""Text inside TLS: messages, pushed options, negotiation, tokens."""

from __future__ import annotations

from .mutation import Mutation

TLS = "ovpn_dco/protocol/tls.py"
TEXT = "ovpn_dco/protocol/text.py"
MESSAGES = "ovpn_dco/protocol/messages.py"
ADDRESSES = "ovpn_dco/protocol/addresses.py"
PUSH = "ovpn_dco/protocol/push.py"
NCP = "ovpn_dco/protocol/ncp.py"
TOKEN = "ovpn_dco/protocol/authtoken.py"


def control_text(name: str) -> str:
    return f"tests/security/test_control_text.py::{name}"


MUTATIONS = [
    # Text inside TLS
    Mutation(
        "control-characters-accepted",
        control_text("test_control_characters_are_refused_in_every_message"),
        TEXT,
        '"Cc", "Zl", "Zp", "Cs"',
        '"Zl", "Zp", "Cs"',
    ),
    Mutation(
        "line-separators-accepted",
        control_text("test_control_characters_are_refused_in_every_message"),
        TEXT,
        '"Cc", "Zl", "Zp", "Cs"',
        '"Cc", "Cs"',
    ),
    Mutation(
        "line-of-a-username-kept",
        control_text("test_a_username_injects_no_line"),
        TEXT,
        '"_" if unicodedata.category(c) in _FORBIDDEN else c',
        '"_" if c == "\\0" else c',
    ),
    Mutation(
        "preview-not-escaped",
        control_text("test_log_form_is_one_line_of_ascii"),
        TEXT,
        'encode("unicode_escape").decode("ascii")',
        'encode(errors="ignore").decode()',
    ),
    Mutation(
        "message-sent-unchecked",
        control_text("test_what_we_send_is_held_to_the_same"),
        MESSAGES,
        'check_text(_text_of(message), "message", max_bytes=MAX_MESSAGE - 1)',
        "_text_of(message)",
        (
            (
                MESSAGES,
                "    if parse(data) != message:\n",
                "    if not data and parse(data) != message:\n",
            ),
        ),
    ),
    Mutation(
        "message-read-as-another-one",
        "tests/protocol/test_messages.py::test_what_would_be_misread_is_not_sent",
        MESSAGES,
        "    if parse(data) != message:\n",
        "    if not data and parse(data) != message:\n",
    ),
    Mutation(
        "message-without-an-end-kept",
        "tests/protocol/test_messages.py::test_memory_is_bounded_without_any_end",
        MESSAGES,
        "self._pending += piece[:room]",
        "self._pending += piece",
    ),
    Mutation(
        "secrets-in-previews",
        "tests/protocol/test_messages.py::test_secrets_are_not_shown",
        MESSAGES,
        "return shown(name if name.startswith(secret) else data)",
        "return shown(name if name.startswith(secret[2:]) else data)",
    ),
    Mutation(
        "domain-not-checked",
        control_text("test_domain_that_is_none"),
        ADDRESSES,
        'if len(name) > MAX_DOMAIN or not all(map(_LABEL.fullmatch, name.split("."))):',
        "if len(name) > MAX_DOMAIN:",
    ),
    Mutation(
        "domain-checked-at-its-start-only",
        control_text("test_domain_that_is_none"),
        ADDRESSES,
        "map(_LABEL.fullmatch, ",
        "map(_LABEL.match, ",
    ),
    Mutation(
        "scope-of-an-address-accepted",
        control_text("test_scope_of_an_address_is_refused"),
        ADDRESSES,
        "    if address.scope_id is not None:\n",
        "    if address.scope_id == text:\n",
    ),
    Mutation(
        "any-scheme-opened",
        "tests/protocol/test_challenge.py::test_address_that_nobody_should_open",
        "ovpn_dco/protocol/challenge.py",
        're.compile(r"https?://[',
        're.compile(r"[a-z]+:[',
    ),
    Mutation(
        "compression-passed-over",
        control_text("test_compression_is_refused_in_every_form"),
        PUSH,
        "        raise TextRefused(name, _FRAMING)\n",
        "        return Ignored(name, _FRAMING)\n",
    ),
    Mutation(
        "push-without-an-end-kept",
        "tests/protocol/test_push.py::test_push_without_an_end",
        PUSH,
        "        if self._size > MAX_PUSH:\n",
        "        if self._size < 0:\n",
    ),
    Mutation(
        "update-of-keys-accepted",
        "tests/protocol/test_push_update.py::test_any_update_keeps_keys_and_peer_id",
        "ovpn_dco/protocol/push_update.py",
        "    if change.name not in UPDATABLE:\n",
        "    if not change.name:\n",
    ),
    Mutation(
        "variable-for-hooks-without-prefix",
        control_text("test_variables_for_hooks_have_a_prefix_and_a_name"),
        PUSH,
        'f"OPENVPN_{item.variable}"',
        "item.variable",
    ),
    Mutation(
        "pushed-cipher-not-compared",
        control_text("test_server_cannot_push_the_cipher_down"),
        NCP,
        "    if cipher and cipher in ciphers:\n",
        "    if cipher:\n",
    ),
    Mutation(
        "cipher-none-negotiated",
        control_text("test_server_cannot_push_the_cipher_down"),
        NCP,
        "    return None if cipher is Cipher.NONE else cipher\n",
        "    return cipher\n",
    ),
    Mutation(
        "token-length-asserted",
        control_text("test_token_of_every_length_is_refused_cleanly"),
        TOKEN,
        "    if len(password) != TOKEN_CHARACTERS:\n",
        "    assert len(password) == TOKEN_CHARACTERS\n    if not password:\n",
    ),
    Mutation(
        "token-code-not-compared",
        "tests/protocol/test_authtoken.py::test_every_bit_counts",
        TOKEN,
        "        if not own and not empty:\n",
        "        if not own and not body:\n",
    ),
    Mutation(
        "token-without-an-end",
        "tests/protocol/test_authtoken.py::test_token_is_good_for_twice_the_renewal",
        TOKEN,
        " <= now < token.issued + 2 * self._renewal_s:",
        " <= now:",
    ),
    Mutation(
        "token-of-another-session",
        "tests/protocol/test_authtoken.py::test_token_of_another_user_key_or_session",
        TOKEN,
        "if session_id is not None and not hmac",
        "if session_id == b'' and not hmac",
    ),
    Mutation(
        "token-of-no-username-believed",
        "tests/protocol/test_authtoken.py::test_token_of_no_username_proves_none",
        TOKEN,
        'username if own else "")',
        "username)",
    ),
]
