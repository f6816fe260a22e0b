"""What a server says to the user of a client, and asks."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NoReturn, TypeAlias

from ..config import ClientConfig
from ..errors import DcoError, InvalidArgument
from ..protocol.authtoken import ClientLogin
from ..protocol.challenge import CrText, DynamicChallenge, parse_pending_request
from ..protocol.messages import Info, InfoPre, Message
from ..runtime.profile import client_login
from .attempt import Attempt
from .tasks import call

__all__ = ["Answer", "Dialogue", "first_login", "with_token_of"]

Answer: TypeAlias = Callable[[CrText | DynamicChallenge], str | Awaitable[str]]
"""Asks the user what the server wants to know, and returns the answer."""

SSO_METHODS = ("openurl", "webauth", "crtext")

_log = logging.getLogger("ovpn_dco.client")


def first_login(config: ClientConfig) -> ClientLogin:
    """What a client begins with. InvalidArgument (EINVAL) where part of it is yet to be asked."""
    auth, known = config.auth, config.auth.credentials
    if auth.user_pass:
        missing = None
        if known is None:
            missing = "user name"
        elif known.password is None and not auth.username_only:
            missing = "password"
        elif auth.challenge is not None:
            missing = "answer to the static challenge"
        if missing is not None:
            message = f"{missing} is not known: give AuthConfig.credentials"
            raise InvalidArgument(errno.EINVAL, message, attribute="auth-user-pass")
    return client_login(config)


def with_token_of(used: ClientLogin, login: ClientLogin) -> ClientLogin:
    """`login` with the token that came of `used`, which may have been an answer: that is good for
    one attempt, its token for more."""
    if used.token is None:
        return replace(login, token=None, token_username=None)
    return replace(login, token=used.token, token_username=used.token_username or used.username)


class Dialogue:
    """With whoever answers, if there is somebody. What `answer` raises is passed on."""

    def __init__(self, answer: Answer | None) -> None:
        self._answer = answer

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there to answer."""
        return self._answer is not None

    @property
    def sso_methods(self) -> tuple[str, ...]:
        """What a server may ask while a login is pending, as IV_SSO announces it."""
        return SSO_METHODS if self.can_ask else ()

    async def converse(self, attempt: Attempt) -> NoReturn:
        """Shows and answers what comes in an attempt, as long as that lasts."""
        while True:
            message = await attempt.messages.get()
            try:
                await self._hear(attempt, message)
            except DcoError as error:
                _log.warning("%s", error)

    async def log_in_again(self, question: DynamicChallenge) -> ClientLogin:
        """The login of the next attempt, and of no other: it carries the answer."""
        response = await self._put(question)
        return ClientLogin(question.username, question.answer(response).as_password())

    async def _hear(self, attempt: Attempt, message: Message) -> None:
        if not isinstance(message, (Info, InfoPre)):
            _log.debug("the server says %s", message)
            return
        request = parse_pending_request(message.text)
        if isinstance(request, CrText) and self.can_ask:
            attempt.answer(await self._put(request))
        else:
            _log.info("the server says: %s", message.text)

    async def _put(self, question: CrText | DynamicChallenge) -> str:
        assert self._answer is not None
        # Whoever sits before the question is not waited for when the client ends.
        return str(await call(self._answer, question, thread=asyncio.to_thread))
