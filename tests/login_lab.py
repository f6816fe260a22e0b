"""Logins for the tests of a server: what sessions ask, and configurations that answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ovpn_dco.config import AuthConfig, ClientCert, ServerConfig, TlsConfig, VerifyConfig
from ovpn_dco.protocol.certificates import PeerCertificate
from ovpn_dco.protocol.peerinfo import parse_peer_info
from ovpn_dco.protocol.session_events import AuthRequired
from ovpn_dco.server.authentication import Authenticator, Identity, SessionLogin

REMOTE = "192.0.2.7", 40000
START = 1_700_000_000
PEER_INFO = b"IV_VER=2.6.14\nUV_OS=x\nID=7\n"


def certificate(common_name: str = "client-1", serial: int = 5) -> PeerCertificate:
    print_ = bytes([serial]) * 32
    return PeerCertificate(f"CN={common_name}", common_name, print_, serial, (print_,))


def asked(
    username: str = "alice",
    password: str = "right",
    *,
    peer: PeerCertificate | None = None,
    too_long: bool = False,
    key_id: int = 0,
) -> AuthRequired:
    return AuthRequired(
        key_id=key_id,
        username=username,
        password=password,
        credentials_too_long=too_long,
        peer=peer,
        announcement=parse_peer_info(PEER_INFO),
    )


def server(
    hook: Callable[..., object] | None = None,
    *,
    client_cert: ClientCert = ClientCert.NONE,
    verify_hook: Callable[..., object] | None = None,
    hand_window_s: float = 60,
    **auth: Any,
) -> ServerConfig:
    return ServerConfig(
        auth=AuthConfig(user_pass_hook=hook, **auth),
        verify=VerifyConfig(client_cert=client_cert, hook=verify_hook),
        tls=TlsConfig(handshake_window_s=hand_window_s),  # type: ignore[arg-type]
    )


def right_password(request: Any) -> bool:
    return bool(request.password == "right")


class Session:
    """A client at a server: logs in once, then renegotiates."""

    def __init__(self, config: ServerConfig, **more: Any) -> None:
        self.login = SessionLogin(Authenticator(config, **more))
        self.pended: list[int] = []

    async def ask(self, question: AuthRequired, now: float = START) -> Identity | None:
        return await self.login.authenticate(
            question,
            now=now,
            remote=REMOTE,
            pend=lambda timeout_s, request=None: self.pended.append(timeout_s),
        )

    def enter(self, question: AuthRequired, now: float = START) -> Identity:
        identity = asyncio.run(self.ask(question, now))
        assert identity is not None
        return identity
