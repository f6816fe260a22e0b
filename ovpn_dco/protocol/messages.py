"""Control messages: text with a NUL at its end, each in a TLS record of its own.

`parse` and `encode` turn one message into a value and back. A `MessageReader` takes what TLS
delivers, in any pieces, and never raises: what it cannot accept becomes a `Refused`, what it does
not know an `Unknown`, and the session goes on."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from .challenge import DynamicChallenge, parse_dynamic_challenge
from .text import TextRefused, check_text, decode_text, encode_base64, shown
from .text import decode_base64 as read_base64

__all__ = [
    "MAX_MESSAGE",
    "MAX_RECEIVED",
    "Advance",
    "AuthFailed",
    "AuthFailedTemporarily",
    "AuthPending",
    "ChallengeIssued",
    "CrResponse",
    "Exit",
    "Halt",
    "Info",
    "InfoPre",
    "Message",
    "MessageReader",
    "PushReply",
    "PushRequest",
    "PushUpdate",
    "Refused",
    "Restart",
    "SessionExpired",
    "Unknown",
    "challenge_message",
    "encode",
    "parse",
]

MAX_MESSAGE = 1024
"""Bytes of a message that we send, the NUL included: the buffer of stock peers."""

MAX_RECEIVED = 2048
"""Bytes of a message that we take, the NUL included: twice that, for more generous peers."""

_UINT32 = 0xFFFFFFFF


class Advance(enum.Enum):
    """Where a client should go after a temporary failure."""

    NO = "no"
    """The same address again."""
    ADDRESS = "addr"
    """The next address of the same remote."""
    REMOTE = "remote"
    """The next remote."""


@dataclass(frozen=True)
class PushRequest:
    """The client asks for its options; may come at any time, and repeatedly."""


@dataclass(frozen=True, repr=False)
class PushReply:
    """Options for the client, unparsed: see `push`. None at all is legal. `repr` hides tokens."""

    options: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"PushReply(options={_hidden(self.options)!r})"


@dataclass(frozen=True, repr=False)
class PushUpdate:
    """Changes of options while connected, unparsed: see `push_update`."""

    options: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"PushUpdate(options={_hidden(self.options)!r})"


def _hidden(options: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("auth-token ..." if "auth-token" in text else text for text in options)


@dataclass(frozen=True)
class AuthFailed:
    """The server refuses the client's credentials; `reason` is for the user, or empty."""

    reason: str = ""


@dataclass(frozen=True)
class AuthFailedTemporarily(AuthFailed):
    """Not now: try again, after `backoff_s` seconds and where `advance` says, if it is there."""

    backoff_s: int | None = field(default=None, kw_only=True)
    advance: Advance | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class SessionExpired(AuthFailed):
    """The auth token is no longer good: drop it and use real credentials."""


@dataclass(frozen=True)
class ChallengeIssued(AuthFailed):
    """The server asks a question; `reason` is its text in the message."""

    challenge: DynamicChallenge = field(kw_only=True)


@dataclass(frozen=True)
class AuthPending:
    """Authentication goes on elsewhere: keep asking, for up to `timeout_s` seconds if given."""

    timeout_s: int | None = None


@dataclass(frozen=True)
class Info:
    """Information for the user interface: see `challenge.parse_pending_request`."""

    text: str


@dataclass(frozen=True)
class InfoPre:
    """The same before authentication is complete."""

    text: str


@dataclass(frozen=True)
class CrResponse:
    """The client's answer to a CR_TEXT, decoded."""

    response: str = field(repr=False)


@dataclass(frozen=True)
class Restart:
    """The server goes down: connect again, to the next remote if `next_remote`."""

    reason: str = ""
    keep_password: bool = field(default=False, kw_only=True)
    next_remote: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Halt:
    """The server wants the client to stop for good."""

    reason: str = ""


@dataclass(frozen=True)
class Exit:
    """The peer is gone. A second one changes nothing."""


@dataclass(frozen=True)
class Unknown:
    """A well-formed message of no known kind: to be logged and passed over."""

    text: str


@dataclass(frozen=True)
class Refused:
    """A message that was thrown away: why, and what it was as a line of printable ASCII."""

    reason: str
    preview: str


Message: TypeAlias = (
    PushRequest
    | PushReply
    | PushUpdate
    | AuthFailed
    | AuthPending
    | Info
    | InfoPre
    | CrResponse
    | Restart
    | Halt
    | Exit
    | Unknown
)


# Text to value


def _options(rest: str) -> tuple[str, ...]:
    return tuple(filter(None, rest.split(",")))


def _auth_failed(reason: str) -> AuthFailed:
    """A challenge that is malformed is still a refusal of the credentials."""
    if reason.startswith("TEMP"):
        return _temporary(reason[len("TEMP") :])
    if reason == "SESSION" or reason.startswith("SESSION:"):
        return SessionExpired(reason[len("SESSION") :].removeprefix(":").strip(" "))
    try:
        challenge = parse_dynamic_challenge(reason)
    except TextRefused:
        challenge = None
    return ChallengeIssued(reason, challenge=challenge) if challenge else AuthFailed(reason)


def _temporary(rest: str) -> AuthFailed:
    """`[backoff 42,advance no]: text`, all of it optional. Unknown hints are passed over, and so
    are malformed ones: they would not make the failure a permanent one."""
    shape = re.fullmatch(r"(?:\[([^\]]*)\])?(?::(.*))?", rest)
    if not shape:
        return AuthFailed("TEMP" + rest)
    backoff_s: int | None = None
    advance: Advance | None = None
    for hint in filter(None, (shape[1] or "").split(",")):
        name, _, value = hint.strip(" ").partition(" ")
        if name == "backoff" and re.fullmatch(r"[0-9]{1,9}", value):
            backoff_s = int(value)
        elif name == "advance" and value in {place.value for place in Advance}:
            advance = Advance(value)
    reason = (shape[2] or "").strip(" ")
    return AuthFailedTemporarily(reason, backoff_s=backoff_s, advance=advance)


def _auth_pending(rest: str) -> AuthPending:
    for keyword in rest.split(","):
        found = re.fullmatch(r"timeout ([0-9]{1,10})", keyword.strip(" "))
        if found:
            return AuthPending(min(int(found[1]), _UINT32))
    return AuthPending()


def _cr_response(rest: str) -> CrResponse:
    return CrResponse(read_base64(rest, "CR_RESPONSE", max_bytes=MAX_MESSAGE))


def _flagged(rest: str) -> tuple[str, str]:
    """The letters inside of [...] at the start, and the text behind."""
    shape = re.fullmatch(r"\[([A-Za-z,]*)\](.*)", rest)
    return (shape[1], shape[2]) if shape else ("", rest)


def _restart(rest: str) -> Restart:
    flags, reason = _flagged(rest)
    return Restart(reason, keep_password="P" in flags, next_remote="N" in flags)


def _halt(rest: str) -> Halt:
    return Halt(_flagged(rest)[1])


_WITH_REST: dict[str, Callable[[str], Message]] = {
    "PUSH_REPLY": lambda rest: PushReply(_options(rest)),
    "PUSH_UPDATE": lambda rest: PushUpdate(_options(rest)),
    "AUTH_FAILED": _auth_failed,
    "AUTH_PENDING": _auth_pending,
    "INFO": Info,
    "INFO_PRE": InfoPre,
    "CR_RESPONSE": _cr_response,
    "RESTART": _restart,
    "HALT": _halt,
}
_BARE: dict[str, Message] = {"PUSH_REQUEST": PushRequest(), "EXIT": Exit()}


def parse(data: bytes) -> Message:
    """One message without its NUL. TextRefused if it is over-long, no UTF-8, has control
    characters other than a line end at its end, or is of a known kind with a bad form."""
    text = decode_text(bytes(data).rstrip(b"\r\n"), "message", max_bytes=MAX_RECEIVED - 1)
    name, _, rest = text.partition(",")
    if name in _BARE:
        return _BARE[name]
    reader = _WITH_REST.get(name)
    return reader(rest) if reader else Unknown(text)


# Value to text


def _text_of(message: Message) -> str:
    match message:
        case PushRequest():
            return "PUSH_REQUEST"
        case PushReply(options):
            return ",".join(["PUSH_REPLY", *options])
        case PushUpdate(options):
            return ",".join(["PUSH_UPDATE", *options])
        case AuthFailed():
            return _auth_failed_text(message)
        case AuthPending(timeout_s):
            return "AUTH_PENDING" + ("" if timeout_s is None else f",timeout {timeout_s}")
        case Info(text):
            return f"INFO,{text}"
        case InfoPre(text):
            return f"INFO_PRE,{text}"
        case CrResponse(response):
            return f"CR_RESPONSE,{encode_base64(response)}"
        case Restart(reason):
            flags = "P" * message.keep_password + "N" * message.next_remote
            rest = (f"[{flags}]" if flags or reason.startswith("[") else "") + reason
            return f"RESTART,{rest}" if rest else "RESTART"
        case Halt(reason):
            guard = "[]" if reason.startswith("[") else ""
            return f"HALT,{guard}{reason}" if reason else "HALT"
        case Exit():
            return "EXIT"
        case Unknown(text):
            return text


def _auth_failed_text(message: AuthFailed) -> str:
    match message:
        case AuthFailedTemporarily(reason):
            hints = [] if message.backoff_s is None else [f"backoff {message.backoff_s}"]
            hints += [f"advance {message.advance.value}"] if message.advance else []
            rest = "TEMP" + (f"[{','.join(hints)}]" if hints else "")
            rest += f": {reason}" if reason else ""
        case SessionExpired(reason):
            rest = f"SESSION: {reason}" if reason else "SESSION"
        case _:
            rest = message.reason
    return f"AUTH_FAILED,{rest}" if rest else "AUTH_FAILED"


def challenge_message(challenge: DynamicChallenge) -> ChallengeIssued:
    """The AUTH_FAILED that asks this question."""
    return ChallengeIssued(str(challenge), challenge=challenge)


def encode(message: Message) -> bytes:
    """The message with its NUL, for one write into TLS. TextRefused if it is over-long, has
    control characters, or would be read as something else than it is."""
    text = check_text(_text_of(message), "message", max_bytes=MAX_MESSAGE - 1)
    data = text.encode()
    if parse(data) != message:
        raise TextRefused("message", f"would be read as another one: {_without_secrets(data)}")
    return data + b"\0"


# Stream to values


class MessageReader:
    """Cuts the plaintext of TLS into messages; not thread-safe.

    Stock peers send one message in a record, others several; here only the NULs count. Memory is
    bounded: of a message that is longer than MAX_RECEIVED only the start is kept, for the log."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._overlong = False

    @property
    def pending_bytes(self) -> int:
        """Bytes of a message whose end has not come yet."""
        return len(self._pending)

    def receive(self, data: bytes) -> tuple[Message | Refused, ...]:
        """The messages that `data` completes, in their order. Empty ones are passed over."""
        *complete, rest = bytes(data).split(b"\0")
        results: list[Message | Refused] = []
        for piece in complete:
            self._keep(piece)
            results += self._take()
        self._keep(rest)
        return tuple(results)

    def _keep(self, piece: bytes) -> None:
        room = MAX_RECEIVED - 1 - len(self._pending)
        self._overlong = self._overlong or len(piece) > room
        self._pending += piece[:room]

    def _take(self) -> list[Message | Refused]:
        data, overlong = bytes(self._pending), self._overlong
        self._pending.clear()
        self._overlong = False
        if overlong:
            reason = f"message is longer than {MAX_RECEIVED - 1} bytes"
            return [Refused(reason, _without_secrets(data))]
        if not data.rstrip(b"\r\n"):
            return []
        try:
            return [parse(data)]
        except TextRefused as error:
            return [Refused(error.strerror or "", _without_secrets(data))]


def _without_secrets(data: bytes) -> str:
    """A preview for the log; of messages that carry tokens or answers only the name."""
    name = data.split(b",", 1)[0]
    secret = (b"PUSH_REPLY", b"PUSH_UPDATE", b"CR_RESPONSE", b"AUTH_FAILED")
    return shown(name if name.startswith(secret) else data)
