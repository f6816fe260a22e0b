"""What follows the end of an attempt, as a table."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ovpn_dco.client.retry import Again, GiveUp, Verdict, judge
from ovpn_dco.config import AuthConfig, ClientConfig
from ovpn_dco.errors import ConnectionFailed, DcoError, LoginRefused
from ovpn_dco.model import AuthRetry
from ovpn_dco.protocol.authtoken import MIN_RETRY_S, ClientLogin
from ovpn_dco.protocol.challenge import DynamicChallenge
from ovpn_dco.protocol.messages import (
    Advance,
    AuthFailed,
    AuthFailedTemporarily,
    Halt,
    Message,
    Restart,
    SessionExpired,
    challenge_message,
)
from ovpn_dco.protocol.session_events import Ended, EndReason

PASSWORD = ClientLogin("alice", "secret")
TOKEN = ClientLogin("alice", "secret", token="t")
TOKEN_ONLY = ClientLogin("alice", token="t")
QUESTION = DynamicChallenge("state", "alice", "Token?")


def verdict(
    reason: EndReason,
    message: Message | None = None,
    *,
    login: ClientLogin = PASSWORD,
    retry: AuthRetry = AuthRetry.NONE,
    connected: bool = False,
    can_ask: bool = False,
    exits: bool = False,
    error: DcoError | None = None,
) -> Verdict:
    return judge(
        Ended(reason=reason, message=message, error=error),
        ClientConfig(auth=AuthConfig(retry=retry)),
        login,
        was_connected=connected,
        can_ask=can_ask,
        exit_when_silent=exits,
    )


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize(
    "reason",
    sorted(
        set(EndReason)
        - {EndReason.LOCAL, EndReason.AUTH_FAILED, EndReason.RESTART, EndReason.HALT},
        key=lambda reason: reason.name,
    ),
)
def test_it_tries_again(reason: EndReason, connected: bool) -> None:
    """Where the server worked and is only gone, first there; where it refused, elsewhere."""
    gone = {"EXPIRED", "TRANSPORT_GONE", "PEER_EXIT", "KEY_EXPIRED", "EXHAUSTED"}
    same = connected and reason.name in gone
    expected = Again(advance=Advance.NO if same else Advance.ADDRESS)
    assert verdict(reason, connected=connected) == expected


@pytest.mark.parametrize(
    ("message", "options", "expected"),
    [
        (Restart(), {}, Again(advance=Advance.NO)),
        (Restart(next_remote=True), {}, Again(advance=Advance.REMOTE)),
        (
            AuthFailedTemporarily("busy"),
            {},
            Again(advance=Advance.NO, login=PASSWORD),
        ),
        (
            AuthFailedTemporarily("busy", backoff_s=7, advance=Advance.REMOTE),
            {"login": TOKEN},
            Again(advance=Advance.REMOTE, delay_s=7, login=TOKEN),
        ),
        (SessionExpired("expired"), {"login": TOKEN}, Again(advance=Advance.NO, login=PASSWORD)),
        (AuthFailed("no"), {"login": TOKEN}, Again(advance=Advance.NO, login=PASSWORD)),
        (
            AuthFailed("no"),
            {"retry": AuthRetry.NOINTERACT},
            Again(advance=Advance.NO, delay_s=MIN_RETRY_S, login=PASSWORD),
        ),
        (
            challenge_message(QUESTION),
            {"can_ask": True},
            Again(advance=Advance.NO, question=QUESTION),
        ),
    ],
)
def test_what_the_server_says_decides(
    message: Message, options: dict[str, Any], expected: Again
) -> None:
    reason = EndReason.RESTART if isinstance(message, Restart) else EndReason.AUTH_FAILED
    assert verdict(reason, message, connected=True, **options) == expected


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (AuthFailed("no"), {}),
        (AuthFailed("no"), {"retry": AuthRetry.INTERACT}),
        (AuthFailed("no"), {"login": TOKEN_ONLY}),
        (SessionExpired("no"), {"login": TOKEN_ONLY}),
        (challenge_message(QUESTION), {}),
    ],
)
def test_a_refused_login_is_the_end(message: AuthFailed, options: dict[str, Any]) -> None:
    outcome = verdict(EndReason.AUTH_FAILED, message, **options)
    assert isinstance(outcome, GiveUp)
    assert isinstance(outcome.error, LoginRefused)
    assert outcome.error.reason == message.reason


@pytest.mark.parametrize("reason", ["", "maintenance"])
def test_a_halt_is_the_end(reason: str) -> None:
    outcome = verdict(EndReason.HALT, Halt(reason), connected=True)
    assert isinstance(outcome, GiveUp)
    assert isinstance(outcome.error, ConnectionFailed)
    assert outcome.error.errno == errno.ECONNABORTED
    assert str(outcome.error).endswith(f"{': ' if reason else ''}{reason} [ECONNABORTED]")


def test_ping_exit_is_about_silence_only() -> None:
    outcome = verdict(EndReason.EXPIRED, connected=True, exits=True)
    assert isinstance(outcome, GiveUp)
    assert isinstance(outcome.error, ConnectionFailed)
    assert verdict(EndReason.PEER_EXIT, connected=True, exits=True) == Again(advance=Advance.NO)


def test_what_this_end_wants_is_final() -> None:
    assert verdict(EndReason.LOCAL, connected=True) == GiveUp(None)
    error = DcoError(errno.EIO, "no routes")
    assert verdict(EndReason.LOCAL, error=error) == GiveUp(error)
