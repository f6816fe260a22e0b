"""What a server tells about its clients: to its owner, and to the hooks of its configuration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from ..config import ServerHooks
from ..model import Address, Cipher, Limit, PeerStats
from ..protocol.messages import CrResponse
from ..protocol.session_events import EndReason
from .hooks import TimeLimit, ask

__all__ = [
    "AddressNotice",
    "ConnectedClient",
    "DisconnectNotice",
    "LimitNotice",
    "Notifier",
    "ResponseNotice",
]

HOOK_LIMIT_S = 60

_log = logging.getLogger("ovpn_dco.server")


@dataclass(frozen=True, kw_only=True)
class ConnectedClient:
    """A client as it stands. `since` is Unix time in seconds; `ipv4` and `ipv6` are its addresses
    in the tunnel, `remote` is where it is."""

    peer_id: int
    common_name: str
    username: str
    remote: Address
    ipv4: IPv4Interface | None
    ipv6: IPv6Interface | None
    since: float
    cipher: Cipher | None
    stats: PeerStats = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class DisconnectNotice:
    """What `ServerHooks.client_disconnect` is told: the client with its last counters, and why."""

    client: ConnectedClient
    reason: EndReason


@dataclass(frozen=True, kw_only=True)
class AddressNotice:
    """What `ServerHooks.learn_address` is told: "add" or "delete", an address in the tunnel."""

    operation: str
    address: str
    common_name: str


@dataclass(frozen=True, kw_only=True)
class ResponseNotice:
    """What `ServerHooks.client_response` is told: an answer to a question of a pending login.

    `remote` is where it comes from, as in the `LoginRequest`; `client` is None at the first login,
    when nobody is connected yet."""

    remote: Address
    client: ConnectedClient | None
    response: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class LimitNotice:
    """What `ServerHooks.limit_reached` is told: a client, and which limits it has reached."""

    client: ConnectedClient
    limits: Limit


@dataclass(frozen=True, kw_only=True)
class ForwardingRequest:
    """What `ServerHooks.client_to_client` is asked: whether packets of `source` may go to
    `destination`."""

    source: ConnectedClient
    destination: ConnectedClient


class Notifier:
    """Runs hooks that nobody waits for; what they raise is logged.

    About one address, and about one client, they are told one thing after the other, in the order
    in which it happened; about different ones at the same time."""

    def __init__(self, hooks: ServerHooks) -> None:
        self._hooks = hooks
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: dict[tuple[str, str], asyncio.Task[None]] = {}

    @property
    def has_listeners(self) -> bool:
        """Whether anybody wants to know who comes and goes."""
        return bool(self._hooks.client_disconnect or self._hooks.learn_address)

    def connected(self, client: ConnectedClient) -> None:
        """The client has a peer."""
        self._learn("add", client)

    def disconnected(self, client: ConnectedClient, reason: EndReason, stats: PeerStats) -> None:
        """It is gone."""
        self._learn("delete", client)
        notice = DisconnectNotice(client=replace(client, stats=stats), reason=reason)
        self._run("client_disconnect", self._hooks.client_disconnect, notice, client.common_name)

    def responded(
        self, client: ConnectedClient | None, remote: Address, message: CrResponse
    ) -> None:
        """It has answered a question."""
        notice = ResponseNotice(remote=remote, client=client, response=message.response)
        self._run("client_response", self._hooks.client_response, notice, str(remote))

    def reached(self, client: ConnectedClient, limits: Limit) -> None:
        """It has used what its limits give."""
        notice = LimitNotice(client=client, limits=limits)
        self._run("limit_reached", self._hooks.limit_reached, notice, client.common_name)

    async def close(self) -> None:
        """Waits for those that run, as long as one may take."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=HOOK_LIMIT_S)
            for task in late:
                task.cancel()

    def _learn(self, operation: str, client: ConnectedClient) -> None:
        for interface in (client.ipv4, client.ipv6):
            if interface is not None:
                notice = AddressNotice(
                    operation=operation,
                    address=str(interface.ip),
                    common_name=client.common_name,
                )
                self._run("learn_address", self._hooks.learn_address, notice, notice.address)

    def _run(
        self, name: str, hook: Callable[..., Any] | None, notice: object, subject: str
    ) -> None:
        if hook is None:
            return
        key = name, subject
        call = self._call(name, hook, notice, after=self._last.get(key))
        task = self._last[key] = asyncio.get_running_loop().create_task(call)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._forget(key, done))

    def _forget(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._last.get(key) is task:
            del self._last[key]

    @staticmethod
    async def _call(
        name: str, hook: Callable[..., Any], notice: object, after: asyncio.Task[None] | None
    ) -> None:
        if after is not None:
            await asyncio.wait({after})
        try:
            await ask(hook, notice, name, TimeLimit(HOOK_LIMIT_S))
        except Exception as error:
            _log.error("hook %s: %s", name, error)
