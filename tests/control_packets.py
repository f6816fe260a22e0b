"""Control packets for tests: fixed keys and session ids, one pair of ends for each protection, and
strategies that draw packets."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from ovpn_dco.protocol.cookie import Admitted, Answer, ResetCookie, StatelessServer
from ovpn_dco.protocol.errors import ProtocolError
from ovpn_dco.protocol.ratelimit import PrefixLimiter
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.statickey import ClientKey, Direction, Metadata, ServerKey, StaticKey
from ovpn_dco.protocol.wire import ControlPacket, Opcode
from ovpn_dco.protocol.wrap.base import Wrapping
from ovpn_dco.protocol.wrap.dynamic import DynamicTlsCrypt
from ovpn_dco.protocol.wrap.front import ServerFront
from ovpn_dco.protocol.wrap.plain import Plain
from ovpn_dco.protocol.wrap.tls_auth import TlsAuth
from ovpn_dco.protocol.wrap.tls_crypt import TlsCrypt, TlsCryptFormat
from ovpn_dco.protocol.wrap.tls_crypt_v2 import (
    TlsCryptV2Client,
    TlsCryptV2Opener,
    TlsCryptV2Session,
)

KEY = StaticKey(bytes(range(256)))
SERVER_KEY = ServerKey(bytes(range(128)))
NOW = 0x5F000000
CLIENT_KEY = ClientKey(KEY, SERVER_KEY.wrap(KEY, Metadata.timestamp(NOW)))
CLIENT_SID = bytes(range(1, 9))
SERVER_SID = bytes(range(0x11, 0x19))
ADDRESS = ("198.51.100.7", 41194)

Ends = Callable[[], tuple[Wrapping, Wrapping]]


def seeded(seed: int = 0) -> Callable[[int], bytes]:
    """A random source that repeats itself."""
    return random.Random(seed).randbytes


def client_reset(opcode: Opcode = Opcode.HARD_RESET_CLIENT_V2, **changes: Any) -> ControlPacket:
    return ControlPacket(
        **{"opcode": opcode, "key_id": 0, "session_id": CLIENT_SID, "message_id": 0} | changes
    )


def server_reset(**changes: Any) -> ControlPacket:
    values: dict[str, Any] = {
        "opcode": Opcode.HARD_RESET_SERVER_V2,
        "key_id": 0,
        "session_id": SERVER_SID,
        "acks": (0,),
        "remote_session_id": CLIENT_SID,
        "message_id": 0,
    }
    return ControlPacket(**values | changes)


def control(**changes: Any) -> ControlPacket:
    """Message 1 of a client, as it follows the server's reset."""
    values: dict[str, Any] = {
        "opcode": Opcode.CONTROL_V1,
        "key_id": 0,
        "session_id": CLIENT_SID,
        "acks": (0,),
        "remote_session_id": SERVER_SID,
        "message_id": 1,
        "payload": b"\x16\x03\x01hello",
    }
    return ControlPacket(**values | changes)


def v2_ends() -> tuple[Wrapping, Wrapping]:
    server = TlsCryptV2Session(TlsCryptFormat(KEY, Role.SERVER), KEY, CLIENT_KEY.wrapped)
    return TlsCryptV2Client(CLIENT_KEY), server


def dynamic_ends() -> tuple[Wrapping, Wrapping]:
    client = DynamicTlsCrypt(TlsAuth(KEY), Role.CLIENT)
    server = DynamicTlsCrypt(TlsAuth(KEY), Role.SERVER)
    for end in (client, server):
        end.install(bytes(256))
    return client, server


ENDS: dict[str, Ends] = {
    "plain": lambda: (Plain(), Plain()),
    "tls-auth": lambda: (
        TlsAuth(KEY, direction=Direction.INVERSE, digest="SHA256"),
        TlsAuth(KEY, direction=Direction.NORMAL, digest="SHA256"),
    ),
    "tls-auth-bidirectional": lambda: (TlsAuth(KEY), TlsAuth(KEY)),
    "tls-crypt": lambda: (TlsCrypt(KEY, Role.CLIENT), TlsCrypt(KEY, Role.SERVER)),
    "tls-crypt-v2": v2_ends,
    "dynamic": dynamic_ends,
}
PROTECTED = {name: ends for name, ends in ENDS.items() if name != "plain"}

FRONTS: dict[str, Callable[..., ServerFront]] = {
    "plain": lambda **_: ServerFront.plain(),
    "tls-auth": lambda **_: ServerFront.tls_auth(KEY, direction=Direction.NORMAL, digest="SHA256"),
    "tls-crypt": lambda **_: ServerFront.tls_crypt(KEY),
    "tls-crypt-v2": lambda **options: ServerFront.tls_crypt_v2(
        TlsCryptV2Opener(SERVER_KEY, **options)
    ),
}


def stateless(kind: str, *, burst: float = 1000, **options: Any) -> StatelessServer:
    """A server that knows nobody, with fixed secrets."""
    allow = options.pop("allow_noncookie", False)
    limiter = PrefixLimiter(rate_per_s=1, burst=burst)
    cookie = ResetCookie(seeded(1))
    return StatelessServer(FRONTS[kind](**options), cookie, limiter, allow_noncookie=allow)


class FirstContact:
    """A client that has sent its reset and read the answer, ready to send message 1."""

    def __init__(
        self,
        kind: str,
        server: StatelessServer,
        address: tuple[str, int] = ADDRESS,
        now: float = NOW,
    ) -> None:
        self.wrapping = ENDS[kind]()[0]
        self.is_v2 = isinstance(self.wrapping, TlsCryptV2Client)
        opcode = Opcode.HARD_RESET_CLIENT_V3 if self.is_v2 else Opcode.HARD_RESET_CLIENT_V2
        self.reset = self.wrapping.wrap(client_reset(opcode), now)
        answer = server.receive(self.reset, address, now)
        assert isinstance(answer, Answer)
        self.answer = answer.data
        self.server_reset = self.wrapping.unwrap(answer.data, now)
        if isinstance(self.wrapping, TlsCryptV2Client):
            self.wrapping.learn_from_reset(self.server_reset)

    def first_message(self, now: float = NOW, **changes: Any) -> bytes:
        remote = {"remote_session_id": self.server_reset.session_id}
        return self.wrapping.wrap(control(**remote | changes), now)


def attempt(call: Callable[..., Any], *arguments: Any) -> Any:
    """What `call` returns, or the reason why it refused; no other exception is caught."""
    try:
        return call(*arguments)
    except ProtocolError as error:
        return error.reason


def admitted(outcome: Answer | Admitted) -> Admitted:
    assert isinstance(outcome, Admitted)
    return outcome


def uint32() -> st.SearchStrategy[int]:
    return st.integers(0, 0xFFFFFFFF)


def session_ids() -> st.SearchStrategy[bytes]:
    return st.binary(min_size=8, max_size=8).filter(any)


@st.composite
def control_packets(draw: st.DrawFn, *, client_keys: bool = True) -> ControlPacket:
    """Any packet that can be sent."""
    opcodes = [
        opcode
        for opcode in Opcode
        if opcode.is_control and (client_keys or not opcode.has_client_key)
    ]
    opcode = draw(st.sampled_from(opcodes))
    key_id = draw(st.integers(opcode is Opcode.SOFT_RESET_V1, 7))
    acks = tuple(draw(st.lists(uint32(), max_size=8)))
    message_id: int | None = draw(uint32())
    if opcode.is_hard_reset:
        message_id = 0
    elif opcode is Opcode.CONTROL_WKC_V1:
        message_id = 1
    elif opcode is Opcode.ACK_V1:
        message_id = None
    return ControlPacket(
        opcode,
        0 if opcode.needs_key_id_zero else key_id,
        draw(session_ids()),
        acks,
        draw(st.binary(min_size=8, max_size=8)) if acks else None,
        message_id,
        b"" if opcode is Opcode.ACK_V1 else draw(st.binary(max_size=200)),
    )


def single_bit_flips(data: bytes) -> itertools.chain[bytes]:
    """`data` with each one bit changed."""
    return itertools.chain.from_iterable(
        (data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :] for bit in range(8))
        for at in range(len(data))
    )
