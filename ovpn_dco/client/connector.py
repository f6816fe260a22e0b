"""From a remote of the configuration to an attempt: its name, a socket, and a session."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

from ..config import ClientConfig
from ..device import Device
from ..errors import ConnectionFailed, DcoError
from ..model import Address, Feature
from ..protocol.authtoken import ClientLogin
from ..protocol.session_client import ClientSession
from ..protocol.tlscontext import TlsSource
from ..runtime.control import ControlDriver
from ..runtime.marking import peer_info_lines
from ..runtime.profile import client_profile, for_remote, session_settings
from ..runtime.sockets import connect_tcp, family_of, open_udp
from ..runtime.wrap_profile import client_wrapping
from ..transport import Transport
from .attempt import Attempt
from .remotes import RemoteSequence

__all__ = ["Connector"]

RESOLVE_EVERY_S = 5.0
"""How long after a name was not found it is looked up again, with `resolv-retry`."""

_log = logging.getLogger("ovpn_dco.client")


class Connector:
    """Begins attempts on `device`, one at a time.

    `ConnectionFailed` says that this server cannot be had now, and another one, or the same one
    later, perhaps can. Any other error stays as it is, however often one tries."""

    def __init__(
        self,
        config: ClientConfig,
        device: Device,
        driver: ControlDriver,
        tls: TlsSource,
        clock: Callable[[], float],
        *,
        sso_methods: tuple[str, ...] = (),
    ) -> None:
        """ConfigError for what a session with one of the remotes could not be made of."""
        self._config = config
        self._device = device
        self._driver = driver
        self._tls = tls
        self._clock = clock
        self._sso_methods = sso_methods
        for remote in config.remotes:
            client_wrapping(for_remote(config, remote))

    async def resolve(self, remotes: RemoteSequence) -> Address:
        """Where to try now; the name of the remote whose turn it is is looked up if need be.

        With `resolv-retry` that is repeated for so many seconds. Without it, or `infinite`, the
        next remote has its turn, and this name comes back with the next round."""
        if remotes.address is None:
            patience_s = self._config.connection.resolve_retry_s or 0
            end_s = self._clock() + patience_s
            while True:
                try:
                    remotes.resolved(await self._look_up(remotes))
                    break
                except ConnectionFailed as error:
                    if self._clock() + RESOLVE_EVERY_S > end_s:
                        raise
                    _log.warning("%s", error)
                await asyncio.sleep(RESOLVE_EVERY_S)
        assert remotes.address is not None
        return remotes.address

    async def connect(
        self, remotes: RemoteSequence, address: Address, login: ClientLogin
    ) -> Attempt:
        """An attempt that has begun."""
        config = for_remote(self._config, remotes.remote)
        session = self._session(config, address, login)
        protocol = config.transport.protocol.value
        _log.info("connecting to %s port %d, %s", address[0], address[1], protocol)
        with _reaching():
            transport = await self._open(config, address)
        try:
            attempt = Attempt(config, self._device, session, transport, self._driver, self._clock)
            attempt.start()
        except BaseException:
            transport.close()
            raise
        return attempt

    async def _look_up(self, remotes: RemoteSequence) -> list[Address]:
        transport = for_remote(self._config, remotes.remote).transport
        host, protocol = remotes.remote.host, transport.protocol
        kind = socket.SOCK_STREAM if protocol.is_tcp else socket.SOCK_DGRAM
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                host, transport.remote_port, family=family_of(protocol), type=kind
            )
        except (OSError, UnicodeError) as error:
            # A UnicodeError is about labels that no name has, such as one of 64 characters.
            text = f"{host} cannot be resolved: {getattr(error, 'strerror', None) or error}"
            raise ConnectionFailed(errno.EHOSTUNREACH, text) from None
        return [address for *_, address in found]  # type: ignore[misc]

    def _session(self, config: ClientConfig, address: Address, login: ClientLogin) -> ClientSession:
        settings = session_settings(
            config,
            random_bytes=os.urandom,
            tls=self._tls,
            epoch=Feature.EPOCH_KEYS in self._device.features,
        )
        return ClientSession(
            settings,
            login,
            client_profile(
                config,
                settings,
                sso_methods=self._sso_methods,
                lines=peer_info_lines(self._device.features),
            ),
            wrapping=client_wrapping(config),
            address=address,
        )

    async def _open(self, config: ClientConfig, address: Address) -> Transport:
        transport = config.transport
        protocol = transport.protocol
        buffers: dict[str, Any] = {
            "send_buffer": transport.sndbuf or None,
            "receive_buffer": transport.rcvbuf or None,
        }
        if not protocol.is_tcp:
            with await open_udp(transport, protocol, address) as sock:
                return self._device.attach_udp(sock, df=transport.df, **buffers)
        timeout_s = transport.connect_timeout_s
        with await connect_tcp(transport, protocol, address, timeout_s=timeout_s) as sock:
            return self._device.attach_tcp(sock, **buffers)


@contextlib.contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except DcoError as error:
        raise ConnectionFailed(error.errno or 0, error.strerror or "") from error
