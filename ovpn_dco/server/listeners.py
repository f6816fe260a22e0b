"""The sockets of a server, and what sessions that come through them are made with."""

from __future__ import annotations

import logging
import os
from dataclasses import replace

from ..config import Protocol, ServerConfig
from ..device import Device
from ..model import Address, ControlTransport, Feature
from ..protocol.session import SessionSettings
from ..protocol.table import Path
from ..protocol.tlscontext import TlsSource
from ..runtime.profile import session_settings
from ..runtime.sockets import listen
from ..transport import Transport

__all__ = ["Listeners", "hang_up", "is_stream", "shown"]

TRIAL_MAX_S = 65535

_log = logging.getLogger("ovpn_dco.server")


class Listeners:
    """All that a server listens on; the sockets go with the device.

    `login_s`: how long a login may take once TLS is there. A connection without a peer lasts so
    much longer than the hand-window."""

    def __init__(
        self, config: ServerConfig, device: Device, tls: TlsSource, *, login_s: int
    ) -> None:
        self._config = config
        self._device = device
        self._tls = tls
        self._trial_s = min(config.tls.handshake_window_s + login_s, TRIAL_MAX_S)
        self._sockets: list[tuple[Protocol, Transport]] = []
        self._settings: dict[int, SessionSettings] = {}
        # All TCP is alike: a connection has a number of its own.
        self._of_streams = self._settings_of(Protocol.TCP)

    @property
    def addresses(self) -> tuple[tuple[Protocol, Address], ...]:
        """Where it listens."""
        found = ((protocol, transport.info().local) for protocol, transport in self._sockets)
        return tuple((protocol, local) for protocol, local in found if local is not None)

    async def open(self) -> None:
        """Listens as the configuration says. DcoError names an address that cannot be had."""
        for host, port, protocol in self._config.listeners():
            await self._listen(host, port, protocol)

    def settings_for(self, path: Path) -> SessionSettings:
        """Of a session that begins there."""
        return self._settings.get(path.transport, self._of_streams)

    async def _listen(self, host: str | None, port: int, protocol: Protocol) -> None:
        transport = self._config.transport
        with await listen(host, port, protocol, transport) as sock:
            if protocol.is_tcp:
                attached = self._device.listen_tcp(sock, deadline_s=self._trial_s)
            else:
                attached = self._device.attach_udp(
                    sock,
                    df=transport.df,
                    send_buffer=transport.sndbuf or None,
                    receive_buffer=transport.rcvbuf or None,
                )
        self._sockets.append((protocol, attached))
        self._settings[attached.transport_id] = self._settings_of(protocol)
        local = attached.info().local
        _log.info("listening on %s %s", protocol.value, shown(local) if local else "")

    def _settings_of(self, protocol: Protocol) -> SessionSettings:
        transport = replace(self._config.transport, protocol=protocol)
        return session_settings(
            replace(self._config, transport=transport, listen=()),
            random_bytes=os.urandom,
            tls=self._tls,
            epoch=Feature.EPOCH_KEYS in self._device.features,
        )


def is_stream(transport: ControlTransport) -> bool:
    """Whether a listener brought it."""
    return isinstance(transport, Transport) and transport.accepted


def hang_up(transport: ControlTransport) -> None:
    """Closes a connection that was accepted."""
    if isinstance(transport, Transport):
        transport.close()


def shown(address: Address) -> str:
    """An address as people write it."""
    host = f"[{address[0]}]" if len(address) == 4 else address[0]
    return f"{host}:{address[1]}"
