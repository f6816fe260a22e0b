"""The server's end of a session: it asks its owner about the login, and pushes the options.

    ServerSession(admitted) -> AuthRequired -> accept(...) -> PeerReady, KeyReady

The client was admitted by `cookie.StatelessServer`. The server's key message does not wait for the
decision, so that a refusal can be told inside of TLS; options and keys do wait."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable

from ovpn_dco.errors import DcoError, InvalidArgument
from ovpn_dco.model import Address

from .challenge import PendingRequest
from .cookie import Admitted
from .keyevents import KeyFailed, KeyMessageReceived, KeyStage
from .messages import (
    AuthFailed,
    AuthPending,
    Exit,
    Halt,
    InfoPre,
    Message,
    PushReply,
    PushRequest,
    Refused,
    Restart,
)
from .ncp import Agreement, NegotiationFailed, agree_as_server
from .occ import Compatibility, parse_options_string
from .peerinfo import Announcement, IvProto, parse_peer_info
from .push import build_push
from .role import Role
from .session import LINGER_S, Session, SessionSettings
from .session_events import AuthRequired, Ended, EndReason, PeerReady
from .text import TextRefused, without_controls
from .wire import ControlPacket

__all__ = ["ServerSession"]


class ServerSession(Session):
    """A session with the client that `admitted` is about, whose first packet is taken at once."""

    _role = Role.SERVER

    def __init__(
        self, settings: SessionSettings, admitted: Admitted, *, address: Address, now: float
    ) -> None:
        self._announcement = Announcement()
        self._compatibility = Compatibility()
        self._username: str | None = None
        self._peer_id = 0
        self._options: tuple[str, ...] = ()
        self._pushes: tuple[PushReply, ...] = ()
        self._asked: AuthRequired | None = None
        self._accepted = self._push_requested = False
        self._offer: Agreement | None = None
        self._ready_until_s = math.inf
        super().__init__(
            settings,
            wrapping=admitted.wrapping,
            session_id=admitted.session_id,
            remote_session_id=admitted.remote_session_id,
            address=address,
            after_cookie=admitted.is_validated,
        )
        self._primary.start(now)
        self._dispatch(admitted.packet, now)
        self._pump(now)

    @property
    def is_undecided(self) -> bool:
        """Whether a login waits for `accept` or `refuse`."""
        return self._asked is not None and not self._ended

    # What the owner does

    def waits_for(self, asked: AuthRequired) -> bool:
        """Whether it is this login that waits for a decision: one that takes time may come too
        late, when the negotiation has failed, and perhaps another one asks."""
        return self._asked is asked and not self._ended

    def agree(self, now: float) -> Agreement | None:
        """How the data channel would work if the client were let in; None if there is nothing that
        both can do, which the client is told: the session has ended then. `InvalidArgument`
        (EINVAL) without an `AuthRequired`."""
        self._check_undecided()
        if self._offer is not None:
            return self._offer
        try:
            self._offer = agree_as_server(
                self._announcement,
                self._compatibility,
                ciphers=self._settings.ciphers,
                features=self._settings.features,
                fallback=self._settings.fallback,
            )
        except NegotiationFailed as error:
            self._send_away(now, AuthFailed(error.auth_failed), EndReason.DISAGREEMENT, error)
        return self._offer

    def accept(
        self, now: float, *, username: str, peer_id: int = 0, options: Iterable[str] = ()
    ) -> None:
        """Lets the client in, as `username`: that of a token where the login was one, never the
        mere claim. At a renegotiation it must be the same, and `peer_id` and `options`, what is
        pushed besides the agreement, are those of the first time.

        `InvalidArgument` (EINVAL) without an `AuthRequired`, TextRefused for options that cannot
        be pushed."""
        self._check_undecided()
        if self._primary.key_id:
            if username != self._username:
                self._refuse_change(now, "another username at a renegotiation")
                return
        elif not self._prepare_push(now, peer_id, tuple(options)):
            return
        self._username = username
        self._asked, self._accepted = None, True
        self._proceed(now)

    def refuse(self, now: float, message: AuthFailed | None = None) -> None:
        """Sends AUTH_FAILED and ends. `InvalidArgument` (EINVAL) without an `AuthRequired`."""
        self._check_undecided()
        self._send_away(now, message or AuthFailed(), EndReason.AUTH_FAILED)

    def pend(self, now: float, timeout_s: int, request: PendingRequest | None = None) -> None:
        """The decision takes up to so many seconds from now, because a person is asked: tells the
        client, and waits as long. `request` is what the person should do; whether the client can
        show it says `AuthRequired.announcement.sso_methods`.

        `InvalidArgument` (EINVAL) without an `AuthRequired`, TextRefused for a request that cannot
        be sent."""
        self._check_undecided()
        asked = None if request is None else InfoPre(str(request))
        self._ready_until_s = max(self._ready_until_s, now + timeout_s)
        # Older clients understand the message without its keyword only.
        knows = IvProto.AUTH_PENDING_KW in self._announcement.proto
        self._send(AuthPending(timeout_s if knows else None), now)
        if asked is not None:
            self._send(asked, now)

    def dismiss(
        self, now: float, message: Restart | Halt, reason: EndReason = EndReason.LOCAL
    ) -> None:
        """Tells a connected client to come again or to stop, and ends."""
        if self._ended:
            return
        if self._primary.exchanged and not self._primary.failed:
            self._send(message, now)
        self._end(Ended(reason=reason), now, LINGER_S)

    # Steps

    def _check_undecided(self) -> None:
        if self._asked is None or self._ended:
            raise InvalidArgument(errno.EINVAL, "no login waits for a decision")

    def _prepare_push(self, now: float, peer_id: int, options: tuple[str, ...]) -> bool:
        agreement = self.agree(now)
        if agreement is None:
            return False
        pushed = (*options, f"peer-id {peer_id}", *agreement.pushed_options())
        # What cannot be sent is the owner's mistake, told at once.
        self._pushes = build_push(PushReply, pushed)
        self._agreement, self._peer_id, self._options = agreement, peer_id, pushed
        return True

    def _send_away(
        self, now: float, message: AuthFailed, reason: EndReason, error: DcoError | None = None
    ) -> None:
        self._asked = None
        if not self._primary.failed:
            self._send(message, now)
        self._end(Ended(reason=reason, error=error, message=message), now, LINGER_S)

    def _refuse_change(self, now: float, what: str) -> None:
        error = InvalidArgument(errno.EINVAL, what)
        self._send_away(now, AuthFailed(), EndReason.IDENTITY_CHANGED, error)

    def _meet(self, packet: ControlPacket, now: float) -> None:
        """The cookie came from this client, so it is known from the start."""

    def _greet(self, now: float) -> None:
        """A change of certificate is told after the key messages, when it can be."""

    def _take_key_message(self, event: KeyMessageReceived, now: float) -> None:
        message = event.message
        self._accepted = False
        if not event.key_id:
            try:
                self._announcement = parse_peer_info(message.peer_info.encode())
                self._compatibility = parse_options_string(message.options.encode())
            except TextRefused as error:
                self._primary.fail(error)
                return
        self._primary.send_key_message(now=now, options=str(self._settings.compatibility))
        if self._has_changed():
            self._refuse_change(now, "another certificate at a renegotiation")
            return
        self._ready_until_s = now + self._settings.timers.hand_window_s
        self._asked = AuthRequired(
            key_id=event.key_id,
            username=without_controls(message.username),
            password=without_controls(message.password),
            credentials_too_long=message.credentials_too_long,
            peer=self._primary.peer,
            announcement=self._announcement,
        )
        self._events.append(self._asked)

    def _fail(self, event: KeyFailed, now: float) -> None:
        # Nobody waits for this login any more, and its deadline must not end the old key.
        self._asked = None
        self._ready_until_s = math.inf
        super()._fail(event, now)

    def _activate(self, now: float) -> None:
        self._proceed(now)

    def _proceed(self, now: float) -> None:
        """Pushes and makes keys as soon as the login is accepted and all has arrived."""
        state = self._primary
        if not self._accepted or state.derived or state.stage is not KeyStage.ACTIVE:
            return
        if state.key_id == 0 and not self._push(self._agreement, now):
            return
        self._ready_until_s = math.inf
        self._make_key()

    def _push(self, agreement: Agreement | None, now: float) -> bool:
        """Old clients must have asked; the others do not need to."""
        if agreement is None:
            return False
        if not self._push_requested and IvProto.REQUEST_PUSH not in self._announcement.proto:
            return False
        for message in self._pushes:
            self._send(message, now)
        ready = PeerReady(peer_id=self._peer_id, agreement=agreement, options=self._options)
        self._events.append(ready)
        return True

    def _take_message(self, message: Message | Refused, now: float) -> None:
        match message:
            case PushRequest():
                # It may come at any time, and again: only the first push is an answer.
                self._push_requested = True
                self._proceed(now)
            case Exit():
                self._end(Ended(reason=EndReason.PEER_EXIT, message=message), now, LINGER_S)
            case _:
                super()._take_message(message, now)

    def _next_deadline(self) -> float | None:
        return None if self._ready_until_s == math.inf else self._ready_until_s

    def _handle_deadline(self, now: float) -> None:
        if now < self._ready_until_s:
            return
        self._ready_until_s = math.inf
        error = DcoError(errno.ETIMEDOUT, "not connected within the hand-window")
        self._send_away(now, AuthFailed(), EndReason.LOGIN_TIMEOUT, error)
