"""What follows the end of an attempt: another one, somewhere and somewhen, or none.

A decision about values, without a clock: docs/client.md has it as a table."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TypeAlias

from ..config import ClientConfig
from ..errors import ConnectionFailed, DcoError, LoginRefused
from ..protocol.authtoken import ClientLogin, FailureAction
from ..protocol.challenge import DynamicChallenge
from ..protocol.messages import Advance, AuthFailed, ChallengeIssued, Halt, Restart
from ..protocol.session_events import Ended, EndReason

__all__ = ["Again", "GiveUp", "Verdict", "judge"]


@dataclass(frozen=True, kw_only=True)
class Again:
    """Another attempt, not before `delay_s` seconds, with `login`, or the answer to `question`."""

    advance: Advance = Advance.ADDRESS
    delay_s: float = 0.0
    login: ClientLogin | None = None
    question: DynamicChallenge | None = None


@dataclass(frozen=True)
class GiveUp:
    """No more attempts. `error` is None where the client ends because it wants to."""

    error: DcoError | None


Verdict: TypeAlias = Again | GiveUp

# Where the server was there it is tried again before any other.
_SAME_SERVER = frozenset(
    {
        EndReason.EXPIRED,
        EndReason.TRANSPORT_GONE,
        EndReason.PEER_EXIT,
        EndReason.KEY_EXPIRED,
        EndReason.EXHAUSTED,
    }
)


def judge(
    outcome: Ended,
    config: ClientConfig,
    login: ClientLogin,
    *,
    was_connected: bool,
    can_ask: bool,
    exit_when_silent: bool,
) -> Verdict:
    """What follows. `can_ask`: somebody is there to answer a question; `exit_when_silent`: of
    `ping-exit`, so that a silent server is no reason to try again."""
    if outcome.reason is EndReason.LOCAL:
        return GiveUp(outcome.error)
    match outcome.message:
        case AuthFailed() as failure:
            return _after_refusal(failure, config, login, can_ask=can_ask)
        case Halt() as halt:
            return GiveUp(_gave_up(errno.ECONNABORTED, "the server wants no reconnection", halt))
        case Restart() as restart:
            return Again(advance=Advance.REMOTE if restart.next_remote else Advance.NO)
    if outcome.reason is EndReason.EXPIRED and exit_when_silent:
        return GiveUp(ConnectionFailed(errno.ETIMEDOUT, "nothing came from the server (ping-exit)"))
    if was_connected and outcome.reason in _SAME_SERVER:
        return Again(advance=Advance.NO)
    return Again()


def _after_refusal(
    failure: AuthFailed, config: ClientConfig, login: ClientLogin, *, can_ask: bool
) -> Verdict:
    remaining, following = login.after_failure(failure, auth_retry=config.auth.retry)
    match following.action:
        case FailureAction.RECONNECT:
            advance = following.advance or Advance.NO
            return Again(advance=advance, delay_s=following.delay_s, login=remaining)
        case FailureAction.ANSWER if can_ask and isinstance(failure, ChallengeIssued):
            return Again(advance=Advance.NO, question=failure.challenge)
    return GiveUp(LoginRefused(failure.reason))


def _gave_up(number: int, text: str, halt: Halt) -> ConnectionFailed:
    return ConnectionFailed(number, f"{text}: {halt.reason}" if halt.reason else text)
