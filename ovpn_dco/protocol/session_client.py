"""The client's end of a session: it logs in, asks for options, and takes what the server decides.

ClientSession(...).start(now) -> PushReceived, PeerReady, KeyReady"""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass, field

from ovpn_dco.errors import DcoError, InvalidArgument
from ovpn_dco.model import Address

from .authtoken import ClientLogin
from .errors import ProtocolError, Refusal, refused
from .keyevents import KeyMessageReceived, KeyStage
from .keymaterial import KeyMessage, KeySource, encode_key_message
from .messages import (
    AuthFailed,
    AuthPending,
    Exit,
    Halt,
    Message,
    PushReply,
    PushRequest,
    PushUpdate,
    Refused,
    Restart,
)
from .ncp import agree_as_client
from .occ import Compatibility, parse_options_string
from .peerinfo import Announcement, IvProto
from .push import PullFilter, PushAssembler, Pushed, parse_options
from .push_update import apply_update
from .role import Role
from .session import EXIT_LINGER_S, Session, SessionSettings
from .session_events import (
    Ended,
    EndReason,
    PeerReady,
    PushReceived,
    PushUpdated,
    TokenRenewed,
)
from .text import TextRefused
from .wire import ControlPacket, Opcode, draw_session_id
from .wrap.base import Wrapping
from .wrap.tls_crypt_v2 import TlsCryptV2Client

__all__ = ["ClientProfile", "ClientSession"]

FIRST_REQUEST_S = 1.0
REQUEST_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class ClientProfile:
    """What is the same in each session of a client, besides the settings: what it says about
    itself, and with `filters` and `no_pull` what it takes of what is pushed, see
    `push.parse_options`."""

    announcement: Announcement = field(default_factory=Announcement)
    filters: tuple[PullFilter, ...] = ()
    no_pull: bool = False


class ClientSession(Session):
    """A session with the server at `address`, in one attempt: a new attempt is a new session, with
    a new `wrapping`, and with the `login` of the one before.

    OutOfRange (ERANGE) or InvalidArgument (EINVAL) for a login that no key message can carry, such
    as a password of more than 127 bytes."""

    _role = Role.CLIENT

    def __init__(
        self,
        settings: SessionSettings,
        login: ClientLogin,
        profile: ClientProfile,
        *,
        wrapping: Wrapping,
        address: Address,
    ) -> None:
        username, password = login.credentials
        # Now and here, not in the middle of a handshake where nobody could be told.
        encode_key_message(
            KeyMessage(
                source=KeySource.generate(self._role, bytes),
                options=str(settings.compatibility),
                username=username,
                password=password,
                peer_info=str(profile.announcement),
            ),
            self._role,
        )
        self._login = login
        self._profile = profile
        self._v2 = wrapping if isinstance(wrapping, TlsCryptV2Client) else None
        self._compatibility = Compatibility()
        self._assembler = PushAssembler()
        self._updates = PushAssembler()
        self._pushed: Pushed | None = None
        self._request_s = self._push_until_s = math.inf
        super().__init__(
            settings,
            wrapping=wrapping,
            session_id=draw_session_id(settings.random_bytes),
            remote_session_id=None,
            address=address,
            reset_opcode=Opcode.HARD_RESET_CLIENT_V3 if self._v2 else None,
        )

    @property
    def login(self) -> ClientLogin:
        """As it stands: with the token that the server pushed, for the next connection. It may
        have changed with `PushReceived` and `TokenRenewed`."""
        return self._login

    def start(self, now: float) -> None:
        """Begins; once."""
        self._primary.start(now)

    def leave(self, now: float) -> None:
        """Says goodbye if the server understands that, and ends. Without `agreement.exit_message`
        the data channel has to say it."""
        if self._ended:
            return
        understood = self._agreement is not None and self._agreement.exit_message
        # In the middle of a renegotiation nothing can be said: messages wait for its end.
        says = understood and self._primary.derived and self._primary.stage is KeyStage.ACTIVE
        if says:
            self._send(Exit(), now)
        self._end(Ended(reason=EndReason.LOCAL), now, EXIT_LINGER_S if says else 0.0)

    # Steps

    def _meet(self, packet: ControlPacket, now: float) -> None:
        """The server's reset tells its session id. It must echo ours: without that it may be the
        answer to another client, or to nobody."""
        if self._remote_session_id is not None:
            return
        if packet.opcode is not Opcode.HARD_RESET_SERVER_V2:
            raise refused(Refusal.UNEXPECTED_OPCODE, packet.opcode.name)
        if packet.remote_session_id is None:
            raise refused(Refusal.SESSION_ECHO, "no acknowledgement")
        if self._v2 is not None:
            self._learn(self._v2, packet, now)
        self._remote_session_id = packet.session_id

    def _learn(self, v2: TlsCryptV2Client, packet: ControlPacket, now: float) -> None:
        try:
            v2.learn_from_reset(packet)
        except ProtocolError as error:
            self._end(Ended(reason=EndReason.NEGOTIATION_FAILED, error=error), now)
            raise
        if v2.resends_client_key:
            carried = v2.overhead_of(key_id=0, message_id=1) - v2.overhead
            self._primary.append_client_key(carried)

    def _greet(self, now: float) -> None:
        """TLS is done. The login leaves only now, when it is known who gets it."""
        if self._has_changed():
            error = InvalidArgument(errno.EINVAL, "another certificate at a renegotiation")
            self._primary.fail(error)
            self._end(Ended(reason=EndReason.IDENTITY_CHANGED, error=error), now)
            return
        # What the server pushed since may make a login that cannot be sent.
        self._guarded(lambda: self._send_login(now), now)

    def _send_login(self, now: float) -> None:
        username, password = self._login.credentials
        self._primary.send_key_message(
            now=now,
            options=str(self._settings.compatibility),
            username=username,
            password=password,
            peer_info=str(self._profile.announcement),
        )

    def _take_key_message(self, event: KeyMessageReceived, now: float) -> None:
        if event.key_id:
            return
        try:
            self._compatibility = parse_options_string(event.message.options.encode())
        except TextRefused as error:
            self._end(Ended(reason=EndReason.NEGOTIATION_FAILED, error=error), now)

    def _activate(self, now: float) -> None:
        if self._primary.key_id:
            self._make_key()
        elif self._agreement is None:
            self._request_s = now + FIRST_REQUEST_S
            window_s = self._settings.timers.hand_window_s
            if self._push_until_s == math.inf:
                self._push_until_s = now + window_s

    def _take_message(self, message: Message | Refused, now: float) -> None:
        match message:
            case PushReply():
                self._guarded(lambda: self._take_push(message), now)
            case PushUpdate() if IvProto.PUSH_UPDATE in self._settings.features:
                self._guarded(lambda: self._take_update(message), now)
            case AuthFailed():
                self._end(Ended(reason=EndReason.AUTH_FAILED, message=message), now, EXIT_LINGER_S)
            case Restart():
                self._end(Ended(reason=EndReason.RESTART, message=message), now, EXIT_LINGER_S)
            case Halt():
                self._end(Ended(reason=EndReason.HALT, message=message), now, EXIT_LINGER_S)
            case Exit():
                self._end(Ended(reason=EndReason.PEER_EXIT, message=message), now, EXIT_LINGER_S)
            case AuthPending(timeout_s):
                self._wait_for_login(timeout_s, now)
                super()._take_message(message, now)
            case _:
                super()._take_message(message, now)

    def _wait_for_login(self, timeout_s: int | None, now: float) -> None:
        """The server knows best how long a person takes, up to half of a key's life."""
        timers = self._settings.timers
        most_s = max(timers.reneg_s / 2, timers.hand_window_s)
        if self._agreement is None and timeout_s is not None:
            known_s = 0.0 if self._push_until_s == math.inf else self._push_until_s
            self._push_until_s = max(known_s, now + min(timeout_s, most_s))

    def _take_push(self, message: PushReply) -> None:
        texts = self._assembler.add(message)
        if texts is None:
            return
        pushed = parse_options(texts, filters=self._profile.filters, no_pull=self._profile.no_pull)
        if self._agreement is None:
            self._connect(pushed)
        elif pushed.auth_token is not None:
            # After the first push a server may send nothing else but a fresh token.
            self._remember_token(pushed)
            self._events.append(TokenRenewed())

    def _take_update(self, message: PushUpdate) -> None:
        """Takes effect as a whole; what cannot be used ends the session, so that the client
        connects anew instead of going on with options that the server believes to be others."""
        items = self._updates.add(message)
        if items is None or self._pushed is None:
            return
        profile = self._profile
        self._pushed = apply_update(
            self._pushed, items, filters=profile.filters, no_pull=profile.no_pull
        )
        self._events.append(PushUpdated(options=self._pushed))

    def _connect(self, pushed: Pushed) -> None:
        peer_id = pushed.number("peer-id")
        self._agreement = agree_as_client(
            pushed_cipher=pushed.text("cipher"),
            protocol_flags=pushed.protocol_flags,
            key_derivation=pushed.text("key-derivation"),
            peer_id=peer_id,
            occ=self._compatibility,
            ciphers=self._settings.ciphers,
            announced=self._settings.features,
            fallback=self._settings.fallback,
        )
        assert peer_id is not None
        self._request_s = self._push_until_s = math.inf
        self._remember_token(pushed)
        self._pushed = pushed
        self._events.append(PushReceived(options=pushed))
        self._events.append(PeerReady(peer_id=peer_id, agreement=self._agreement))
        self._make_key()

    def _remember_token(self, pushed: Pushed) -> None:
        if pushed.auth_token is not None:
            token, username = pushed.auth_token, pushed.auth_token_user
            self._login = self._login.token_pushed(token, username)

    def _next_deadline(self) -> float | None:
        earliest = min(self._request_s, self._push_until_s)
        return None if earliest == math.inf else earliest

    def _handle_deadline(self, now: float) -> None:
        if now >= self._push_until_s:
            error = DcoError(errno.ETIMEDOUT, "no options were pushed")
            self._end(Ended(reason=EndReason.LOGIN_TIMEOUT, error=error), now)
        elif now >= self._request_s:
            self._request_s = now + REQUEST_EVERY_S
            self._send(PushRequest(), now)
