"""Questions to the user: static (SCRV1) and dynamic (CRV1) challenges, and those of a pending
authentication, which come in INFO and INFO_PRE messages.

Answers are secrets; nothing here shows them in `repr`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from .text import MAX_CREDENTIAL, TextRefused, check_text, decode_base64, encode_base64, shown

__all__ = [
    "CrText",
    "DynamicAnswer",
    "DynamicChallenge",
    "OpenUrl",
    "PendingRequest",
    "StaticAnswer",
    "WebAuth",
    "parse_dynamic_answer",
    "parse_dynamic_challenge",
    "parse_pending_request",
    "parse_static_answer",
]

MAX_STATE_ID = 255
MAX_CHALLENGE = 512

_STATE_ID = re.compile(r"[!-9;-~]+")  # anything visible but the colon
_URL = re.compile(r"https?://[A-Za-z0-9\-._~:/?#\[\]@!&()*+,;=%]+")
_FLAG = re.compile(r"[A-Za-z0-9_-]{1,32}")


# Static challenge: the question is in the configuration, the answer goes with the password.


@dataclass(frozen=True)
class StaticAnswer:
    """A password with the answer to a static challenge."""

    password: str = field(repr=False)
    response: str = field(repr=False)

    def as_password(self) -> str:
        """What goes into the password field; TextRefused if it does not fit."""
        for value in (self.password, self.response):
            check_text(value, "answer", max_bytes=MAX_CREDENTIAL)
        text = f"SCRV1:{encode_base64(self.password)}:{encode_base64(self.response)}"
        return check_text(text, "password", max_bytes=MAX_CREDENTIAL)


def parse_static_answer(password: str) -> StaticAnswer | None:
    """The parts of a password field; None if it is a plain password.

    TextRefused if it starts with SCRV1: and is not of that form."""
    if not password.startswith("SCRV1:"):
        return None
    parts = password.split(":")
    if len(parts) != 3:
        raise TextRefused("SCRV1", "needs two parts of base64")
    return StaticAnswer(
        decode_base64(parts[1], "SCRV1 password", max_bytes=MAX_CREDENTIAL),
        decode_base64(parts[2], "SCRV1 response", max_bytes=MAX_CREDENTIAL),
    )


# Dynamic challenge: the question comes with AUTH_FAILED, the answer in the next connection.


@dataclass(frozen=True)
class DynamicChallenge:
    """A question of the server: the client connects again as `username`, with the answer."""

    state_id: str
    username: str
    text: str
    echo: bool = field(default=False, kw_only=True)
    response_required: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        """The reason of AUTH_FAILED that asks it; TextRefused for parts that cannot be sent."""
        _check_state_id(self.state_id)
        check_text(self.username, "username", max_bytes=MAX_CREDENTIAL)
        check_text(self.text, "challenge", max_bytes=MAX_CHALLENGE)
        flags = _flags(echo=self.echo, response_required=self.response_required)
        return f"CRV1:{flags}:{self.state_id}:{encode_base64(self.username)}:{self.text}"

    def answer(self, response: str) -> DynamicAnswer:
        """The answer to this question."""
        return DynamicAnswer(self.state_id, response)


@dataclass(frozen=True)
class DynamicAnswer:
    """The answer to the dynamic challenge with this state id."""

    state_id: str
    response: str = field(repr=False)

    def as_password(self) -> str:
        """What goes into the password field; TextRefused if it does not fit."""
        _check_state_id(self.state_id)
        text = f"CRV1::{self.state_id}::{self.response}"
        return check_text(text, "password", max_bytes=MAX_CREDENTIAL)


def _check_state_id(state_id: str) -> None:
    if not _STATE_ID.fullmatch(state_id) or len(state_id) > MAX_STATE_ID:
        raise TextRefused("state id", f"must be 1 to {MAX_STATE_ID} visible characters, no colon")


def _flags(*, echo: bool, response_required: bool) -> str:
    return ",".join(["E"] * echo + ["R"] * response_required)


def parse_dynamic_challenge(reason: str) -> DynamicChallenge | None:
    """The question in the reason of AUTH_FAILED; None if it is another reason.

    TextRefused if it starts with CRV1: and is not of that form. Unknown flags are passed over."""
    if not reason.startswith("CRV1:"):
        return None
    parts = reason.split(":", 4)
    if len(parts) != 5:
        raise TextRefused("CRV1", "needs flags, state id, username and text")
    _, flags, state_id, username, text = parts
    _check_state_id(state_id)
    return DynamicChallenge(
        state_id,
        decode_base64(username, "CRV1 username", max_bytes=MAX_CREDENTIAL),
        check_text(text, "challenge", max_bytes=MAX_CHALLENGE),
        echo="E" in flags.split(","),
        response_required="R" in flags.split(","),
    )


def parse_dynamic_answer(password: str) -> DynamicAnswer | None:
    """The answer in a password field; None if it is no answer. TextRefused as above."""
    if not password.startswith("CRV1:"):
        return None
    parts = password.split(":", 4)
    if len(parts) != 5 or parts[1] or parts[3]:
        raise TextRefused("CRV1", "needs a state id and a response")
    _check_state_id(parts[2])
    check_text(parts[4], "response", max_bytes=MAX_CREDENTIAL)
    return DynamicAnswer(parts[2], parts[4])


# Pending authentication: the server asks while the session waits.


@dataclass(frozen=True)
class OpenUrl:
    """The user should open this page."""

    url: str

    def __str__(self) -> str:
        return f"OPEN_URL:{_check_url(self.url)}"


@dataclass(frozen=True)
class WebAuth:
    """The user should log in on this page; flags such as `hidden`, `external`."""

    url: str
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"WEB_AUTH:{','.join(_check_flags(self.flags))}:{_check_url(self.url)}"


@dataclass(frozen=True)
class CrText:
    """A question that is answered with CR_RESPONSE, without a new connection."""

    text: str
    echo: bool = field(default=False, kw_only=True)
    response_required: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        flags = _flags(echo=self.echo, response_required=self.response_required)
        return f"CR_TEXT:{flags}:{check_text(self.text, 'CR_TEXT', max_bytes=MAX_CHALLENGE)}"


PendingRequest: TypeAlias = OpenUrl | WebAuth | CrText


def _check_url(url: str) -> str:
    """A page of the web, in ASCII. A browser, or a shell that starts one, gets this text, so
    other schemes, quotes, blanks, backslashes, `$` and backquotes do not pass."""
    if not _URL.fullmatch(url):
        raise TextRefused("url", f"is no http(s) address: {shown(url)}")
    return url


def _check_flags(flags: Iterable[str]) -> tuple[str, ...]:
    kept = tuple(flags)
    if not all(_FLAG.fullmatch(flag) for flag in kept):
        raise TextRefused("flags", "must be words of letters")
    return kept


def parse_pending_request(text: str) -> PendingRequest | None:
    """What an INFO or INFO_PRE asks for; None if its text is of no known kind.

    TextRefused for a known kind with a bad form."""
    kind, colon, rest = text.partition(":")
    if not colon:
        return None
    if kind == "OPEN_URL":
        return OpenUrl(_check_url(rest))
    if kind not in {"WEB_AUTH", "CR_TEXT"}:
        return None
    first, colon, value = rest.partition(":")
    flags = tuple(filter(None, first.split(",")))
    if not colon:
        raise TextRefused(kind, "needs flags and a value")
    if kind == "WEB_AUTH":
        return WebAuth(_check_url(value), _check_flags(flags))
    check_text(value, kind, max_bytes=MAX_CHALLENGE)
    return CrText(value, echo="E" in flags, response_required="R" in flags)
