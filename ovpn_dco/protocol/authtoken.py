"""Auth tokens: what a server hands out after a login, so that nobody types a password again.

    SESS_ID_AT_ base64( session id 12 | first issued 8 | issued 8 | HMAC-SHA256 32 )

The HMAC covers the username and everything before it. The server keeps nothing but its key; times
are seconds since 1970."""

from __future__ import annotations

import base64
import binascii
import enum
import errno
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ovpn_dco.errors import InvalidArgument
from ovpn_dco.model import AuthRetry

from . import pem
from .errors import KeyFileError
from .messages import Advance, AuthFailed, AuthFailedTemporarily, ChallengeIssued, SessionExpired
from .text import MAX_CREDENTIAL, TextRefused, check_text

__all__ = [
    "TOKEN_PREFIX",
    "AuthToken",
    "ClientLogin",
    "FailureAction",
    "NextAttempt",
    "TokenIssuer",
    "TokenState",
    "TokenVerdict",
    "build_token_secret",
    "parse_token_secret",
]

TOKEN_PREFIX = "SESS_ID_AT_"
TOKEN_CHARACTERS = 91

SECRET_BYTES = 128
SESSION_ID_BYTES = 12

_BODY = struct.Struct(f">{SESSION_ID_BYTES}sQQ")
_HMAC_BYTES = 32
_KEY = slice(64, 96)  # where a key of HMAC-SHA256 lies in the secret, which has room for others
_PEM = "OpenVPN auth-token server key"


@dataclass(frozen=True)
class AuthToken:
    """A token with what it says. `text` is a secret: it logs in."""

    text: str = field(repr=False)
    session_id: bytes
    first_issued: int
    issued: int


class TokenState(enum.Enum):
    """What a password turned out to be; the value is what external authentication is told."""

    NO_TOKEN = "Initial"
    """A plain password: authenticate as usual."""
    VALID = "Authenticated"
    EXPIRED = "Expired"
    """Genuine, but too old, or out of its time."""
    INVALID = "Invalid"
    """Malformed, forged, or of another user or session."""
    VALID_EMPTY_USERNAME = "AuthenticatedEmptyUser"
    """Genuine for a client that logged in without a username."""
    EXPIRED_EMPTY_USERNAME = "ExpiredEmptyUser"


@dataclass(frozen=True)
class TokenVerdict:
    """The state, and of a genuine token what it says and the username that it was issued for.

    That is the name to go on with: a token for no username proves none, whatever the client
    claims beside it."""

    state: TokenState
    token: AuthToken | None = None
    username: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the token alone is a login. With external authentication it is not: there the
        verifier decides, knowing the state."""
        return self.state in {TokenState.VALID, TokenState.VALID_EMPTY_USERNAME}


def parse_token_secret(text: str | bytes) -> bytes:
    """The 128 bytes in the PEM file of `auth-gen-token-secret`; raises `KeyFileError`."""
    secret = pem.decode_base64(text, _PEM)
    if len(secret) != SECRET_BYTES:
        raise KeyFileError(f"an auth-token secret has {SECRET_BYTES} bytes, not {len(secret)}")
    return secret


def build_token_secret(secret: bytes) -> str:
    """The PEM file for these 128 bytes."""
    _check_size(secret)
    return pem.encode_base64(secret, _PEM)


def _check_size(secret: bytes) -> None:
    if len(secret) != SECRET_BYTES:
        message = f"must be {SECRET_BYTES} bytes"
        raise InvalidArgument(errno.EINVAL, message, attribute="secret")


class TokenIssuer:
    """The server's side: issues, renews and checks tokens. Holds the key, never shows it.

    `renewal_s`: how often the client gets a new token (default of OpenVPN: reneg-sec); one that
    was not renewed for twice as long is no good. `lifetime_s`: from the login on, 0: unlimited.
    `random_bytes(n)` gives session ids and must be unpredictable."""

    def __init__(
        self,
        secret: bytes,
        *,
        random_bytes: Callable[[int], bytes],
        renewal_s: int = 3600,
        lifetime_s: int = 0,
    ) -> None:
        _check_size(secret)
        if renewal_s <= 0 or lifetime_s < 0:
            message = "renewal must be positive, lifetime not negative"
            raise InvalidArgument(errno.EINVAL, message, attribute="renewal_s")
        self._key = bytes(secret[_KEY])
        self._random_bytes = random_bytes
        self._renewal_s = renewal_s
        self._lifetime_s = lifetime_s

    def issue(self, username: str, *, now: float) -> AuthToken:
        """A token for a login that just succeeded; begins a session."""
        return self._make(username, self._random_bytes(SESSION_ID_BYTES), int(now), int(now))

    def renew(self, token: AuthToken, username: str, *, now: float) -> AuthToken:
        """The next token of the same session, for a renegotiation. Only the time is new."""
        return self._make(username, token.session_id, token.first_issued, int(now))

    def check(
        self, password: str, username: str, *, now: float, session_id: bytes | None = None
    ) -> TokenVerdict:
        """What a password is. `session_id`: that of the running session, where there is one.

        Never raises, whatever the length. The HMAC is compared in constant time and before
        anything that the token says is believed."""
        if not password.startswith(TOKEN_PREFIX):
            return TokenVerdict(TokenState.NO_TOKEN)
        body, code = _split(password)
        if len(body) != _BODY.size or len(code) != _HMAC_BYTES:
            return TokenVerdict(TokenState.INVALID)
        own = hmac.compare_digest(code, self._code(username, body))
        empty = hmac.compare_digest(code, self._code("", body))
        if not own and not empty:
            return TokenVerdict(TokenState.INVALID)
        token = AuthToken(password, *_BODY.unpack(body))
        if session_id is not None and not hmac.compare_digest(token.session_id, session_id):
            return TokenVerdict(TokenState.INVALID)
        if self._in_time(token, now):
            state = TokenState.VALID if own else TokenState.VALID_EMPTY_USERNAME
        else:
            state = TokenState.EXPIRED if own else TokenState.EXPIRED_EMPTY_USERNAME
        return TokenVerdict(state, token, username if own else "")

    def _in_time(self, token: AuthToken, now: float) -> bool:
        if not token.first_issued <= token.issued <= now < token.issued + 2 * self._renewal_s:
            return False
        return not self._lifetime_s or now < token.first_issued + self._lifetime_s

    def _make(self, username: str, session_id: bytes, first_issued: int, issued: int) -> AuthToken:
        body = _BODY.pack(session_id, first_issued, issued)
        text = TOKEN_PREFIX + base64.b64encode(body + self._code(username, body)).decode("ascii")
        return AuthToken(text, session_id, first_issued, issued)

    def _code(self, username: str, body: bytes) -> bytes:
        user = username.encode(errors="surrogatepass")
        return hmac.digest(self._key, user + body, "sha256")


def _split(password: str) -> tuple[bytes, bytes]:
    """The body and the HMAC, of whatever length; the sizes are the caller's to check."""
    if len(password) != TOKEN_CHARACTERS:
        return b"", b""
    try:
        data = base64.b64decode(password[len(TOKEN_PREFIX) :].encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return b"", b""
    return data[: _BODY.size], data[_BODY.size :]


# Client


class FailureAction(enum.Enum):
    """What a client does after AUTH_FAILED."""

    STOP = "stop"
    """Give up, and tell the user why."""
    RECONNECT = "reconnect"
    """Try again with the credentials that there are."""
    ASK = "ask"
    """Try again with credentials that the user gives anew."""
    ANSWER = "answer"
    """Try again with the answer to the challenge."""


@dataclass(frozen=True, kw_only=True)
class NextAttempt:
    """What to do next, and how: not before `delay_s` seconds, and where `advance` says."""

    action: FailureAction
    delay_s: int = 0
    advance: Advance | None = None


MIN_RETRY_S = 10
"""Seconds before a retry without the user (`auth-retry nointeract`), so as not to hammer."""

MAX_BACKOFF_S = 3600
"""The longest that a server can make a client wait; beyond it a user would think it dead."""


@dataclass(frozen=True)
class ClientLogin:
    """The credentials of a client with the token, if it has been given one. A value: what happens
    gives a new one, which outlives the session."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str | None = field(default=None, repr=False, kw_only=True)
    token_username: str | None = field(default=None, kw_only=True)

    @property
    def credentials(self) -> tuple[str, str]:
        """Username and password to send in the next key-method-2 message."""
        if self.token is None:
            return self.username, self.password
        return self.token_username or self.username, self.token

    def token_pushed(self, token: str, username: str | None = None) -> ClientLogin:
        """After `auth-token`, with the name of `auth-token-user` where that came along.

        TextRefused for one that is empty, over-long or not printable."""
        if not token:
            raise TextRefused("auth-token", "is empty")
        check_text(token, "auth-token", max_bytes=MAX_CREDENTIAL)
        kept = self.token_username if username is None else username
        return replace(self, token=token, token_username=kept)

    def after_failure(
        self, failure: AuthFailed, *, auth_retry: AuthRetry = AuthRetry.NONE
    ) -> tuple[ClientLogin, NextAttempt]:
        """What remains of the login, and what to do.

        A refused token is dropped and the real credentials get their turn; only their refusal is
        one of the user."""
        without = replace(self, token=None, token_username=None)
        if isinstance(failure, AuthFailedTemporarily):
            delay_s = min(failure.backoff_s or 0, MAX_BACKOFF_S)
            again = NextAttempt(
                action=FailureAction.RECONNECT, delay_s=delay_s, advance=failure.advance
            )
            return self, again
        if isinstance(failure, ChallengeIssued):
            return without, NextAttempt(action=FailureAction.ANSWER)
        if isinstance(failure, SessionExpired) or self.token is not None:
            action = FailureAction.RECONNECT if self.password else FailureAction.ASK
            return without, NextAttempt(action=action)
        if auth_retry is AuthRetry.NOINTERACT:
            return without, NextAttempt(action=FailureAction.RECONNECT, delay_s=MIN_RETRY_S)
        if auth_retry is AuthRetry.INTERACT:
            return without, NextAttempt(action=FailureAction.ASK)
        return without, NextAttempt(action=FailureAction.STOP)
