"""Who may come in at a server, and which verdict is about whom."""

from __future__ import annotations

from .mutation import Mutation

AUTHENTICATION = "ovpn_dco/server/authentication.py"
HOOKS = "ovpn_dco/server/hooks.py"


def login(name: str) -> str:
    return f"tests/security/test_server_login.py::{name}"


def authentication(name: str) -> str:
    return f"tests/server/test_authentication.py::{name}"


def tokens(name: str) -> str:
    return f"tests/server/test_login_tokens.py::{name}"


MUTATIONS = [
    Mutation(
        "verdict-on-an-earlier-login",
        login("test_only_the_verdict_on_the_latest_login_counts"),
        AUTHENTICATION,
        "        if not is_latest:\n            return None\n",
        "",
    ),
    Mutation(
        "refused-token-goes-on",
        login("test_token_of_any_length_is_refused_and_nothing_else"),
        AUTHENTICATION,
        "if refused and not self._auth.token_external_auth:",
        "if False:",
    ),
    Mutation(
        "empty-password-in-a-static-answer",
        login("test_static_answer_hides_no_empty_password"),
        AUTHENTICATION,
        "    if not static.password and not optional:",
        "    if False:",
    ),
    Mutation(
        "missing-password-goes-on",
        authentication("test_missing_credentials"),
        AUTHENTICATION,
        "if not (asked.username and asked.password) and not self._auth.user_pass_optional:",
        "if False:",
    ),
    Mutation(
        "anything-true-lets-in",
        authentication("test_refusals_of_the_hook"),
        AUTHENTICATION,
        'if answer is not True:\n            misfit(answer, "user_pass_hook")',
        'if not answer:\n            misfit(answer, "user_pass_hook")',
    ),
    Mutation(
        "another-client-renegotiates",
        authentication("test_another_client_is_refused_before_anybody_is_asked"),
        AUTHENTICATION,
        "    if identity.common_name != before.common_name:",
        "    if False:",
    ),
    Mutation(
        "token-of-another-login",
        tokens("test_token_of_another_session_is_refused_within_one"),
        AUTHENTICATION,
        "now=now, session_id=session_id",
        "now=now",
    ),
    Mutation(
        "password-in-the-log",
        authentication("test_failures_are_logged_without_the_password"),
        HOOKS,
        '{type(error).__name__}{_place(error)}"',
        '{error!r}{_place(error)}"',
    ),
    Mutation(
        "reason-of-a-hook-in-the-log",
        login("test_text_of_hooks_and_names_of_clients_make_no_lines"),
        HOOKS,
        "{shown(answer.reason)}",
        "{answer.reason}",
    ),
    Mutation(
        "lease-of-somebody-else",
        "tests/server/test_pool.py::test_required_address_never_throws_a_holder_out",
        "ovpn_dco/server/pool.py",
        "            if required in self._held:",
        "            if False:",
    ),
]
