"""Packets from client to client: by the system, inside the device, or as a hook says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from ..config import ServerConfig
from ..device import Device
from ..governor import Governor
from ..model import ForwardingMode
from ..peer import Peer
from .connection import Connection
from .hooks import LoginDenied, TimeLimit, ask
from .notices import HOOK_LIMIT_S, ForwardingRequest

__all__ = ["BetweenClients"]


class BetweenClients:
    """`client-to-client` and `ServerHooks.client_to_client` of a configuration, in effect."""

    def __init__(
        self, config: ServerConfig, device: Device, by_peer: Mapping[int, Connection]
    ) -> None:
        self._config = config
        self._device = device
        self._by_peer = by_peer
        self._governor: Governor | None = None

    async def open(self) -> None:
        """Before there are clients. The hook goes before the directive."""
        forwarding, hook = self._device.forwarding, self._config.hooks.client_to_client
        if hook is not None:
            self._governor = forwarding.govern(partial(self._may_reach, hook))
            await self._governor.start()
        elif self._config.pool.client_to_client:
            forwarding.set_mode(ForwardingMode.ALL)
        else:
            return
        self._device.set_multicast(on=True)

    async def close(self) -> None:
        """Idempotent; the device may be closed."""
        if self._governor is not None:
            await self._governor.close()

    async def _may_reach(self, hook: Callable[..., object], source: Peer, other: Peer) -> bool:
        one, another = self._by_peer.get(source.peer_id), self._by_peer.get(other.peer_id)
        if one is None or another is None:
            return False
        request = ForwardingRequest(source=one.view(), destination=another.view())
        try:
            answer = await ask(hook, request, "client_to_client", TimeLimit(HOOK_LIMIT_S))
        except LoginDenied:  # False, or an error, which has been logged
            return False
        return answer is True
