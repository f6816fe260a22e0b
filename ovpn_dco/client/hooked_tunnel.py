"""The tunnel of a client together with the hooks that are told of it, for one event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from ..config import ClientHooks, MtuConfig
from ..errors import DcoError
from ..model import Address
from ..protocol.push import Pushed
from .tasks import call, in_thread
from .tunnel import Tunnel
from .tunnel_info import TunnelInfo

__all__ = ["HookedTunnel"]

_log = logging.getLogger("ovpn_dco.client")


class HookedTunnel:
    """A `Tunnel` whose changes come one after the other, whoever is cancelled meanwhile.

    `up` and `route_up` are called after a tunnel is there, `down` after it is gone, once for each
    that they were called for. A hook that fails is logged: it is no reason to lose the tunnel."""

    def __init__(self, tunnel: Tunnel, hooks: ClientHooks) -> None:
        self._tunnel = tunnel
        self._hooks = hooks
        self._announced: TunnelInfo | None = None
        self._changing = asyncio.Lock()

    @property
    def info(self) -> TunnelInfo | None:
        """What is in effect; None: nothing."""
        return self._tunnel.info

    async def up(
        self, pushed: Pushed, remote: Address, *, mtu: MtuConfig | None = None
    ) -> TunnelInfo:
        """Puts a push in effect, see `Tunnel.apply`. With an error nothing is in effect."""
        async with self._changing:
            try:
                info = await in_thread(partial(self._tunnel.apply, pushed, remote, mtu=mtu))
            finally:
                if self._tunnel.info is not self._announced:
                    await self._announce_end()
            if self._announced is None:
                self._announced = info
                await _tell(self._hooks.up, info)
                await _tell(self._hooks.route_up, info)
            return info

    async def leads_to_server(self) -> bool:
        """See `Tunnel`."""
        async with self._changing:
            return await in_thread(self._tunnel.leads_to_server)

    async def down(self) -> None:
        """Takes the tunnel back. What the system keeps of it is logged, and tried again later."""
        async with self._changing:
            await self._take(self._tunnel.undo)

    async def close(self) -> None:
        """`down`, and no more calls."""
        async with self._changing:
            await self._take(self._tunnel.close)

    async def _take(self, take_back: Callable[[], None]) -> None:
        try:
            await in_thread(take_back)
        except DcoError as error:
            _log.error("%s", error)
        finally:
            await self._announce_end()

    async def _announce_end(self) -> None:
        info, self._announced = self._announced, None
        if info is not None:
            await _tell(self._hooks.down, info)


async def _tell(hook: Callable[..., Any] | None, info: TunnelInfo) -> None:
    if hook is None:
        return
    try:
        await call(hook, info)
    except Exception as error:
        _log.error("hook %s: %r", getattr(hook, "__name__", hook), error)
