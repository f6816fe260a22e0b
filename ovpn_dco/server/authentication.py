"""Who a client is, and whether it may come in.

    SessionLogin.authenticate(AuthRequired) -> Identity, or LoginDenied

The certificate is verified by TLS before; here come the hook about it, the user name with its
password or token, and at a renegotiation the question whether it is still the same client."""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from ovpn_dco.config import ClientCert, Material, ServerConfig
from ovpn_dco.errors import InvalidArgument
from ovpn_dco.model import Address
from ovpn_dco.protocol.authtoken import (
    SECRET_BYTES,
    AuthToken,
    TokenIssuer,
    TokenState,
    TokenVerdict,
    parse_token_secret,
)
from ovpn_dco.protocol.certificates import PeerCertificate
from ovpn_dco.protocol.challenge import (
    DynamicAnswer,
    DynamicChallenge,
    PendingRequest,
    parse_dynamic_answer,
    parse_static_answer,
)
from ovpn_dco.protocol.messages import InfoPre, SessionExpired, challenge_message, encode
from ovpn_dco.protocol.session_events import AuthRequired
from ovpn_dco.protocol.text import TextRefused, encode_base64

from .hooks import LoginDenied, TimeLimit, ask, misfit

__all__ = ["NO_NAME", "Authenticator", "Identity", "LoginRequest", "Pend", "SessionLogin"]

NO_NAME = "UNDEF"
"""The common name of a client that has neither a certificate nor a name in its place."""

MAX_COMMON_NAME = 64
"""Bytes of a user name that becomes a common name, as X.509 limits those."""

TOKEN_RENEWAL_S = 3600
"""How often a token is renewed where nothing says so and the server does not renegotiate."""


class Pend(Protocol):
    """Tells a client to wait so many seconds, and what its user should do meanwhile: for the owner,
    `ServerSession.pend`."""

    def __call__(self, timeout_s: int, request: PendingRequest | None = None) -> None:
        """TextRefused for a request that cannot be sent."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A client that may come in. `username` is for `ServerSession.accept`.

    `login_name` is the name that the client logged in with, where `username` replaces it. `token`
    takes the place of its password from now on."""

    common_name: str
    username: str
    login_name: str
    token: AuthToken | None = field(default=None, repr=False)

    @property
    def pushed_options(self) -> tuple[str, ...]:
        """The token and its name: to push with the other options at first, and in a PUSH_REPLY of
        their own after each renegotiation. They are secrets."""
        if self.token is None:
            return ()
        options = [f"auth-token {self.token.text}"]
        if self.username != self.login_name:
            options.append(f"auth-token-user {encode_base64(self.username)}")
        return tuple(options)


@dataclass(frozen=True, kw_only=True)
class LoginRequest:
    """What `AuthConfig.user_pass_hook` is asked: may this client come in?

    It returns True or False, or a `DynamicChallenge` that the client has to answer, and returns
    or raises `LoginRefused` to tell the user why not. It has as long as the hand-window; one that
    waits for a person calls `pend` first.

    `username` and `password` are the client's claim, without control characters; with
    `user_pass_optional` they may be empty, and an empty password must not be taken for a right
    one. The answer to a static challenge is in `response`, and that to a dynamic one in `answer`.
    `token_state` is other than NO_TOKEN with `token_external_auth` only: the password is a token
    of the server then, and a good one where the state is VALID. `environment` has the IV_ and UV_
    names of the peer info, unverified."""

    username: str
    password: str = field(repr=False)
    response: str | None = field(default=None, repr=False)
    answer: DynamicAnswer | None = field(default=None, repr=False)
    token_state: TokenState
    common_name: str
    certificate: PeerCertificate | None
    remote: Address
    environment: Mapping[str, str] = field(repr=False)
    renegotiation: bool
    pend: Pend = field(repr=False, compare=False)
    """Asks for so many seconds from now, and tells the client to wait for them; from any thread.
    Clients wait half of the time of renegotiation at most, or the hand-window. A second argument
    is what the user should do: an `OpenUrl`, a `WebAuth`, or a `CrText`, whose answer comes to
    `ServerHooks.client_response`. Which of them the client can show says its IV_SSO."""


class SessionLogin:
    """The logins of one session: the first one, and those of its renegotiations.

    Only the latest counts: a verdict on an earlier one is dropped, so that it cannot be taken for
    one on a later."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._waiting: AuthRequired | None = None
        self.identity: Identity | None = None
        """Of the last login that was accepted."""

    async def authenticate(
        self, asked: AuthRequired, *, now: float, remote: Address, pend: Pend
    ) -> Identity | None:
        """Who it is; None if a later login has taken this one's place, and nothing is to be done.

        LoginDenied if it may not come in."""
        self._waiting = asked
        loop = asyncio.get_running_loop()

        def pend_now(timeout_s: int, request: PendingRequest | None = None) -> None:
            if self._waiting is asked:
                pend(timeout_s, request)

        try:
            identity = await self._authenticator.authenticate(
                asked,
                now=now,
                remote=remote,
                before=self.identity,
                pend=lambda timeout_s, request=None: _in(loop, pend_now, timeout_s, request),
            )
        except LoginDenied:
            if self._waiting is not asked:
                return None
            raise
        finally:
            is_latest = self._waiting is asked
            if is_latest:
                self._waiting = None
        if not is_latest:
            return None
        self.identity = identity
        return identity

    def rename(self, username: str, *, now: float) -> Identity:
        """Another name from here on, as `override-username` says. `InvalidArgument` (EINVAL)
        before a login was accepted."""
        if self.identity is None:
            raise InvalidArgument(errno.EINVAL, "nobody has logged in")
        self.identity = self._authenticator.rename(self.identity, username, now=now)
        return self.identity


def _in(
    loop: asyncio.AbstractEventLoop, call: Pend, timeout_s: int, request: PendingRequest | None
) -> None:
    # A plain hook may ask when the loop is gone: then nobody waits any more.
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, timeout_s, request)


class Authenticator:
    """The rules of one server; keeps nothing about its clients.

    Tokens are those of `token_secret`, or of a secret that lasts as long as this object. Raises
    KeyFileError for a secret that is none. `random_bytes(n)` must be unpredictable."""

    def __init__(
        self, config: ServerConfig, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._auth = config.auth
        self._verify = config.verify
        self._limit_s = config.tls.handshake_window_s
        self.longest_s = self._limit_s
        """How long a login may take that waits for a person."""
        if config.auth.user_pass_hook is not None:
            self.longest_s = max(config.data.renegotiate_s // 2, self._limit_s)
        # Whoever answers for the management interface gives a hook that asks there.
        self._needs_password = (
            config.auth.user_pass_hook is not None or config.management.client_auth
        )
        self._issuer = None
        if config.auth.generate_token and self._needs_password:
            self._issuer = TokenIssuer(
                _secret(config.auth.token_secret, random_bytes),
                random_bytes=random_bytes,
                renewal_s=config.auth.token_renewal_s
                or config.data.renegotiate_s
                or TOKEN_RENEWAL_S,
                lifetime_s=config.auth.token_lifetime_s,
            )

    async def authenticate(
        self,
        asked: AuthRequired,
        *,
        now: float,
        remote: Address,
        before: Identity | None,
        pend: Pend,
    ) -> Identity:
        """Who it is, where `before` is who it was at the last key of the session. LoginDenied.

        Everything that needs nobody's answer is decided first."""
        self._check_form(asked)
        token = self._check_token(asked, before, now)
        identity = self._identify(asked, token, before)
        if before is not None:
            _check_same(before, identity)
        await self._ask_about_certificate(asked.peer)
        if self._needs_password and (self._auth.token_external_auth or not token.accepted):
            request = LoginRequest(
                username=asked.username if token.username is None else token.username,
                password=asked.password,
                token_state=token.state,
                common_name=identity.common_name,
                certificate=asked.peer,
                remote=remote,
                environment=asked.announcement.environment,
                renegotiation=before is not None,
                pend=pend,
            )
            await self._ask_about_password(_with_answers(request, self._auth.user_pass_optional))
        return replace(identity, token=self._next_token(identity, token, before, now))

    def rename(self, identity: Identity, username: str, *, now: float) -> Identity:
        """The same client under another name, with a token of that name. LoginDenied for a name
        that is too long to be a common name where it has to be one."""
        token = identity.token
        if token is not None and self._issuer is not None:
            token = self._issuer.renew(token, username, now=now)
        name = identity.common_name
        if self._auth.username_as_common_name and identity.username:
            name = _as_common_name(username)
        return replace(identity, username=username, common_name=name, token=token)

    # What needs nobody's answer

    def _check_form(self, asked: AuthRequired) -> None:
        if asked.peer is None:
            if self._verify.client_cert is ClientCert.REQUIRE:
                raise LoginDenied("the client has no certificate")
            if not self._needs_password:
                raise LoginDenied("neither a certificate nor a password says who it is")
        if not self._needs_password:
            return
        if asked.credentials_too_long:
            raise LoginDenied("user name or password is too long")
        if not (asked.username and asked.password) and not self._auth.user_pass_optional:
            raise LoginDenied("user name or password is missing")

    def _check_token(
        self, asked: AuthRequired, before: Identity | None, now: float
    ) -> TokenVerdict:
        if self._issuer is None:
            return TokenVerdict(TokenState.NO_TOKEN)
        session_id = before.token.session_id if before and before.token else None
        verdict = self._issuer.check(
            asked.password, _current_name(asked, before), now=now, session_id=session_id
        )
        refused = verdict.state is not TokenState.NO_TOKEN and not verdict.accepted
        if refused and not self._auth.token_external_auth:
            raise LoginDenied(
                f"the token of the client is refused: {verdict.state.name.lower()}",
                SessionExpired("token expired"),
            )
        return verdict

    def _identify(
        self, asked: AuthRequired, token: TokenVerdict, before: Identity | None
    ) -> Identity:
        """Who it will be if nothing speaks against it. A name that nobody checks is none."""
        username = ""
        if self._needs_password:
            username = (
                token.username if token.username is not None else _current_name(asked, before)
            )
        if self._auth.username_as_common_name and username:
            common_name = _as_common_name(username)
        else:
            common_name = asked.peer.common_name if asked.peer else NO_NAME
        login_name = before.login_name if before else username
        return Identity(common_name=common_name, username=username, login_name=login_name)

    def _next_token(
        self, identity: Identity, token: TokenVerdict, before: Identity | None, now: float
    ) -> AuthToken | None:
        """The token of the session with a new time, or one that begins a session."""
        if self._issuer is None:
            return None
        current = token.token if token.accepted else None
        if current is None and before is not None and before.token is not None:
            kept = self._issuer.check(before.token.text, identity.username, now=now)
            current = kept.token if kept.accepted else None
        if current is None:
            return self._issuer.issue(identity.username, now=now)
        return self._issuer.renew(current, identity.username, now=now)

    # What the user's functions say

    async def _ask_about_certificate(self, certificate: PeerCertificate | None) -> None:
        hook = self._verify.hook
        if hook is None or certificate is None:
            return
        answer = await ask(hook, certificate, "VerifyConfig.hook", TimeLimit(self._limit_s))
        if answer is not True:
            misfit(answer, "VerifyConfig.hook")

    async def _ask_about_password(self, request: LoginRequest) -> None:
        hook = self._auth.user_pass_hook
        if hook is None:
            raise LoginDenied("nobody is there to check passwords")
        limit = TimeLimit(self._limit_s)
        request = replace(request, pend=self._pend_within(limit, request.pend))
        answer = await ask(hook, request, "user_pass_hook", limit)
        if isinstance(answer, DynamicChallenge):
            raise _challenged(answer)
        if answer is not True:
            misfit(answer, "user_pass_hook")

    def _pend_within(self, limit: TimeLimit, pend: Pend) -> Pend:
        def request_pend(timeout_s: int, request: PendingRequest | None = None) -> None:
            if timeout_s < 1:
                raise InvalidArgument(errno.EINVAL, "timeout_s must be positive")
            if request is not None:
                encode(InfoPre(str(request)))  # a mistake is told to the hook that makes it
            granted_s = min(timeout_s, self.longest_s)
            limit.extend(granted_s)
            pend(granted_s, request)

        return request_pend


def _secret(material: Material | None, random_bytes: Callable[[int], bytes]) -> bytes:
    if material is None:
        return random_bytes(SECRET_BYTES)
    return parse_token_secret(material.data)


def _current_name(asked: AuthRequired, before: Identity | None) -> str:
    """The claimed name; of a client that was renamed the new one, whichever it claims."""
    if before is not None and asked.username == before.login_name:
        return before.username
    return asked.username


def _as_common_name(username: str) -> str:
    if len(username.encode()) > MAX_COMMON_NAME:
        raise LoginDenied(f"user name has more than the {MAX_COMMON_NAME} bytes of a common name")
    return username


def _check_same(before: Identity, identity: Identity) -> None:
    if identity.username != before.username:
        raise LoginDenied("another user name at a renegotiation")
    if identity.common_name != before.common_name:
        raise LoginDenied("another common name at a renegotiation")


def _with_answers(request: LoginRequest, optional: bool) -> LoginRequest:
    """With the answer to a challenge taken out of the password.

    An answer to a static challenge must not hide that the password is empty."""
    try:
        static = parse_static_answer(request.password)
        if static is None:
            return replace(request, answer=parse_dynamic_answer(request.password))
    except TextRefused as error:
        raise LoginDenied(f"the answer to a challenge is malformed: {error.strerror}") from None
    if not static.password and not optional:
        raise LoginDenied("password is missing")
    return replace(request, password=static.password, response=static.response)


def _challenged(challenge: DynamicChallenge) -> LoginDenied:
    try:
        message = challenge_message(challenge)
        encode(message)
    except TextRefused as error:
        return LoginDenied(f"user_pass_hook gave a challenge that cannot be sent: {error.strerror}")
    return LoginDenied("the client is asked a question", message)
