"""The protection of the control channel that a configuration asks for, on either end."""

from __future__ import annotations

from collections.abc import Callable

from ..config import ClientConfig, DataChannelConfig, Material, ServerConfig
from ..protocol.cookie import ResetCookie, StatelessServer
from ..protocol.ratelimit import PrefixLimiter
from ..protocol.replay import ReplayWindow
from ..protocol.role import Role
from ..protocol.statickey import ClientKey, Direction, Metadata, ServerKey, StaticKey
from ..protocol.wire import RandomBytes
from ..protocol.wrap.base import Wrapping
from ..protocol.wrap.front import ServerFront
from ..protocol.wrap.plain import Plain
from ..protocol.wrap.tls_auth import TlsAuth
from ..protocol.wrap.tls_crypt import TlsCrypt
from ..protocol.wrap.tls_crypt_v2 import TlsCryptV2Client, TlsCryptV2Opener
from .material import read

__all__ = ["VerifyMetadata", "client_wrapping", "replay_window", "server_front", "stateless_server"]

VerifyMetadata = Callable[[Metadata], bool]
"""Whether a client whose key was issued with this may come in."""

DAY_S = 86400


def replay_window(data: DataChannelConfig) -> ReplayWindow:
    """A fresh window for one session, as `replay-window` says."""
    return ReplayWindow(size=data.replay_window, duration_s=data.replay_time_s)


def client_wrapping(config: ClientConfig) -> Wrapping:
    """A fresh one, as each attempt to connect needs. ConfigError for keys that cannot be read."""
    wrap, window = config.wrap, replay_window(config.data)
    if wrap.tls_crypt_v2 is not None:
        client_key = read("tls-crypt-v2", ClientKey.parse, wrap.tls_crypt_v2)
        return TlsCryptV2Client(client_key, window=window)
    if wrap.tls_crypt is not None:
        key = read("tls-crypt", StaticKey.parse, wrap.tls_crypt)
        return TlsCrypt(key, Role.CLIENT, window=window)
    if wrap.tls_auth is not None:
        return TlsAuth(
            read("tls-auth", StaticKey.parse, wrap.tls_auth),
            direction=_direction(wrap.key_direction),
            digest=config.data.auth,
            window=window,
        )
    return Plain()


def server_front(
    config: ServerConfig, *, verify_metadata: VerifyMetadata | None = None
) -> ServerFront:
    """What opens the packets of unknown clients. ConfigError for keys that cannot be read."""
    wrap = config.wrap
    v2 = _opener(config, wrap.tls_crypt_v2, verify_metadata)
    if wrap.tls_crypt is not None:
        return ServerFront.tls_crypt(read("tls-crypt", StaticKey.parse, wrap.tls_crypt), v2=v2)
    if wrap.tls_auth is not None:
        return ServerFront.tls_auth(
            read("tls-auth", StaticKey.parse, wrap.tls_auth),
            direction=_direction(wrap.key_direction),
            digest=config.data.auth,
            v2=v2,
        )
    return ServerFront.plain() if v2 is None else ServerFront.tls_crypt_v2(v2)


def stateless_server(
    config: ServerConfig, front: ServerFront, random_bytes: RandomBytes
) -> StatelessServer:
    """What answers unknown clients. Its `receive` takes a `replay_window` for the session.

    Clients of tls-crypt-v2 that cannot answer a cookie, those from before OpenVPN 2.6, are refused
    with or without `force-cookie`: a session for an address that nothing vouches for would cost
    memory that anybody could use up."""
    count, period_s = config.limits.initial_frequency
    return StatelessServer(
        front,
        ResetCookie(random_bytes, lifetime_s=config.tls.handshake_window_s),
        PrefixLimiter(rate_per_s=count / period_s, burst=count),
    )


def _opener(
    config: ServerConfig, key: Material | None, verify: VerifyMetadata | None
) -> TlsCryptV2Opener | None:
    if key is None:
        return None
    days = config.wrap.tls_crypt_v2_max_age_days
    return TlsCryptV2Opener(
        read("tls-crypt-v2", ServerKey.parse, key),
        verify=verify,
        max_age_s=None if days is None else days * DAY_S,
    )


def _direction(argument: int | None) -> Direction:
    return Direction.from_option(None if argument is None else str(argument))
