"""The server's first two packets with a client, for which it keeps nothing.

The session id of the server's reset is a keyed hash of the client's session id, address and port,
and of the time. Whoever echoes it from there received it there; until then no memory, no session
and no second packet is spent on an address that may be forged.

Amplification: the answer is 12 bytes longer than the smallest reset, which the acknowledgement that
the client waits for needs. That is 26 for 14 bytes without protection, 54 for 42 with tls-auth and
SHA1, 66 for 54 with SHA256 or tls-crypt; on the wire, with the headers of IPv4 and UDP, at most
1.29 times. Under tls-crypt-v2 it is less than the client sent: 72 for 353 and more."""

from __future__ import annotations

import errno
import hmac
import math
import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from ovpn_dco.errors import InvalidArgument
from ovpn_dco.model import Address

from .addresses import pack_host
from .early_negotiation import ResetFlag, encode_reset_flags, is_cookie_capable
from .errors import Refusal, refused
from .ratelimit import PrefixLimiter
from .replay import ReplayWindow
from .wire import SESSION_ID_SIZE, ControlPacket, Opcode, RandomBytes, draw_session_id
from .wrap.base import Wrapping
from .wrap.front import Greeting, ServerFront

__all__ = ["Admitted", "Answer", "ResetCookie", "StatelessServer"]

_SECRET_SIZE = 32
# Message 0 is each side's reset; the first packet after it is message 1.
_FIRST_IDS = frozenset((0, 1))


class ResetCookie:
    """Makes and checks session ids that only this server can have made.

    A cookie holds from the slot of time that it was made in to the end of the next: at least
    `lifetime_s`, which should be the hand-window, and less than twice that."""

    def __init__(self, random_bytes: RandomBytes, *, lifetime_s: float = 60) -> None:
        if lifetime_s <= 0:
            raise InvalidArgument(
                errno.EINVAL, "cookies last for some time", attribute="lifetime_s"
            )
        self._random_bytes = random_bytes
        self._slot_s = lifetime_s
        self._secret = self._draw()
        self._retired: tuple[HMAC, float] | None = None

    def __repr__(self) -> str:
        return f"ResetCookie(lifetime_s={self._slot_s})"

    def make(self, address: Address, client_session_id: bytes, now: float) -> bytes:
        """The server's session id for this client at `now` (seconds)."""
        return _keyed_id(self._secret, _client(address, client_session_id), self._slot(now))

    def check(
        self, address: Address, client_session_id: bytes, session_id: bytes, now: float
    ) -> bool:
        """Whether `session_id` was made for this client in this slot or in the one before.

        Compares in constant time, and all candidates in any case."""
        client, current = _client(address, client_session_id), self._slot(now)
        secrets = [self._secret]
        if self._retired is not None and now < self._retired[1]:
            secrets.append(self._retired[0])
        valid = False
        for secret in secrets:
            for slot in (current, current - 1):
                expected = _keyed_id(secret, client, slot)
                valid |= hmac.compare_digest(expected, session_id)
        return valid

    def rotate(self, now: float) -> None:
        """Draw a new secret; cookies of the old one hold as long as they would have."""
        self._retired = self._secret, now + 2 * self._slot_s
        self._secret = self._draw()

    def _draw(self) -> HMAC:
        secret = self._random_bytes(_SECRET_SIZE)
        if len(secret) != _SECRET_SIZE:
            raise InvalidArgument(errno.EINVAL, "too few bytes", attribute="random_bytes")
        return HMAC(secret, SHA256())  # a copy has the key already

    def _slot(self, now: float) -> int:
        return math.floor(now / self._slot_s)


def _client(address: Address, session_id: bytes) -> bytes:
    """Who a cookie is for. The flow label is left out: a client may change it."""
    host, _, zone = address[0].partition("%")
    packed = pack_host(host)
    scope = address[3] if len(address) == 4 else 0
    # Every field but the last has one size for its family, so no two inputs look alike.
    fields = (
        session_id,
        bytes([len(packed)]),
        packed,
        address[1].to_bytes(2, "big"),
        scope.to_bytes(4, "big"),
        zone.encode(),
    )
    return b"".join(fields)


def _keyed_id(secret: HMAC, client: bytes, slot: int) -> bytes:
    keyed = secret.copy()
    keyed.update(slot.to_bytes(8, "big", signed=True) + client)
    digest = keyed.finalize()
    candidates = (digest[at : at + SESSION_ID_SIZE] for at in range(0, len(digest), 8))
    # Zeros are no session id, and 2^-256 is never.
    return next((candidate for candidate in candidates if any(candidate)), digest[:8])


@dataclass(frozen=True)
class Answer:
    """Send `data` to where the reset came from, and forget it."""

    data: bytes


@dataclass(frozen=True)
class Admitted:
    """A client that may have a session; `packet` is the first to process, already unwrapped.
    A CONTROL_WKC_V1 counts as CONTROL_V1 from here on.

    Where `is_validated` the exchange of resets is done: the next message of each side is number 1,
    and the server's first replay id is 2. Otherwise `packet` is the client's reset, from a client
    that cannot answer a cookie: the server's reset is still to be sent."""

    packet: ControlPacket
    session_id: bytes
    remote_session_id: bytes
    wrapping: Wrapping
    is_validated: bool


class StatelessServer:
    """Decides about packets from addresses without a session.

    `allow_noncookie` admits tls-crypt-v2 clients from before 2.6 by their first packet alone, so
    with an address that nothing vouches for."""

    def __init__(
        self,
        front: ServerFront,
        cookie: ResetCookie,
        limiter: PrefixLimiter,
        *,
        random_bytes: RandomBytes = os.urandom,
        allow_noncookie: bool = False,
    ) -> None:
        self._front = front
        self._cookie = cookie
        self._random_bytes = random_bytes
        self._limiter = limiter
        self._allow_noncookie = allow_noncookie

    def receive(
        self, data: bytes, address: Address, now: float, *, window: ReplayWindow | None = None
    ) -> Answer | Admitted:
        """Take a control packet that no session claims; raises `ProtocolError`, to be counted and
        never answered. `window` is for the session that may begin."""
        greeting = self._front.open(data)
        packet = greeting.packet
        if packet.opcode.is_client_reset:
            return self._receive_reset(greeting, address, now, window)
        if packet.opcode not in (Opcode.CONTROL_V1, Opcode.CONTROL_WKC_V1, Opcode.ACK_V1):
            raise refused(Refusal.UNEXPECTED_OPCODE, packet.opcode.name)
        return self._receive_echo(greeting, address, now, window)

    def admit(self, data: bytes, now: float, *, window: ReplayWindow | None = None) -> Admitted:
        """Take the first packet of a connection, whose other end has proved that it is there;
        raises `ProtocolError`. The connection must be closed then."""
        greeting = self._front.open(data)
        packet = greeting.packet
        if not packet.opcode.is_client_reset:
            raise refused(Refusal.UNEXPECTED_OPCODE, packet.opcode.name)
        wrapping = greeting.begin_session(now, window=window)
        session_id = draw_session_id(self._random_bytes)
        return Admitted(packet, session_id, packet.session_id, wrapping, is_validated=False)

    def give_back(self, address: Address, now: float) -> None:
        """A handshake that began with a packet from there was completed."""
        self._limiter.give_back(address, now)

    def _receive_reset(
        self, greeting: Greeting, address: Address, now: float, window: ReplayWindow | None
    ) -> Answer | Admitted:
        packet = greeting.packet
        session_id = self._cookie.make(address, packet.session_id, now)
        is_v2 = packet.opcode is Opcode.HARD_RESET_CLIENT_V3
        capable = not is_v2 or (
            greeting.stamp is not None and is_cookie_capable(greeting.stamp.replay_id)
        )
        if not capable and not self._allow_noncookie:
            raise refused(Refusal.COOKIE_UNSUPPORTED)
        if not self._limiter.allow(address, now):
            raise refused(Refusal.RATE_LIMITED)
        if not capable:
            wrapping = greeting.begin_session(now, window=window)
            return Admitted(packet, session_id, packet.session_id, wrapping, is_validated=False)
        reset = ControlPacket(
            Opcode.HARD_RESET_SERVER_V2,
            key_id=0,
            session_id=session_id,
            acks=(0,),
            remote_session_id=packet.session_id,
            message_id=0,
            payload=encode_reset_flags(ResetFlag.RESEND_WKC) if is_v2 else b"",
        )
        return Answer(greeting.answer(reset, now))

    def _receive_echo(
        self, greeting: Greeting, address: Address, now: float, window: ReplayWindow | None
    ) -> Admitted:
        packet = greeting.packet
        session_id = packet.remote_session_id
        if packet.key_id:
            raise refused(Refusal.COOKIE_KEY_ID, str(packet.key_id))
        if session_id is None:
            raise refused(Refusal.COOKIE_WITHOUT_ACK)
        # Else a control packet from the middle of a session whose client moved would open another.
        if not _FIRST_IDS.issuperset(packet.acks):
            raise refused(Refusal.COOKIE_ACK_ID)
        if packet.message_id is not None and packet.message_id not in _FIRST_IDS:
            raise refused(Refusal.COOKIE_MESSAGE_ID, str(packet.message_id))
        if not self._cookie.check(address, packet.session_id, session_id, now):
            raise refused(Refusal.COOKIE_MISMATCH)
        wrapping = greeting.begin_session(now, window=window)
        return Admitted(packet, session_id, packet.session_id, wrapping, is_validated=True)
