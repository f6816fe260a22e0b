"""What is particular to one client: its file of `client-config-dir`, and what a hook says.

The file comes first. The `client_connect` hook is told what it says, and has the last word."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from ovpn_dco.config import (
    ClientOverrides,
    ConfigError,
    Refusal,
    ServerConfig,
    client_file_names,
    parse_client_overrides,
)
from ovpn_dco.errors import DcoError
from ovpn_dco.model import Address, PeerLimits
from ovpn_dco.peer import Peer
from ovpn_dco.protocol.certificates import PeerCertificate
from ovpn_dco.protocol.messages import PushReply
from ovpn_dco.protocol.push import build_push
from ovpn_dco.protocol.text import TextRefused, shown, split_words
from ovpn_dco.validation import settings

from .hooks import LoginDenied, TimeLimit, ask, misfit

__all__ = ["ClientSettings", "ConnectRequest", "OverrideReader", "apply_limits", "merge"]

_log = logging.getLogger("ovpn_dco.server")


@dataclass(frozen=True, kw_only=True)
class ConnectRequest:
    """What `ServerHooks.client_connect` is told of a client that has logged in.

    It returns `ClientOverrides`, which add to `overrides` of the client's file and have
    precedence, or None; it returns False, or raises `LoginRefused`, to send the client away.
    `environment` has the IV_ and UV_ names of the peer info, unverified."""

    common_name: str
    username: str
    certificate: PeerCertificate | None
    remote: Address
    environment: Mapping[str, str] = field(repr=False)
    overrides: ClientOverrides = field(default_factory=ClientOverrides)


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """What holds for one client. `options` are pushed, before those of its addresses."""

    overrides: ClientOverrides
    options: tuple[str, ...]


class OverrideReader:
    """Reads what a server does otherwise for one client, each time that one connects."""

    def __init__(self, config: ServerConfig) -> None:
        folder = config.pool.client_config_dir
        self._folder = None if folder is None else Path(folder)
        self._file_required = config.pool.client_config_required
        self._hook = config.hooks.client_connect
        self._limit_s = config.tls.handshake_window_s
        self._max_routes = config.limits.max_routes_per_client
        self._common_options = config.pushed_options()
        self._can_be_sent: tuple[str, ...] | None = None

    async def read(self, request: ConnectRequest) -> ClientSettings:
        """All that is particular to the client. LoginDenied if it may not come in, or if what is
        written about it cannot be used; the log says why."""
        overrides = await self._read_file(request.common_name)
        if self._hook is not None and not overrides.disabled:
            answer = await self._ask(self._hook, replace(request, overrides=overrides))
            overrides = merge(overrides, answer)
        if overrides.disabled:
            raise LoginDenied("the client is disabled")
        self._check_routes(overrides)
        _check_limits(overrides)
        return ClientSettings(overrides=overrides, options=self._options(overrides))

    async def _read_file(self, common_name: str) -> ClientOverrides:
        if self._folder is None:
            if self._file_required:
                raise LoginDenied("ccd-exclusive without client-config-dir lets nobody in")
            return ClientOverrides()
        try:
            overrides = await asyncio.to_thread(self._read_first, self._folder, common_name)
        except ConfigError as error:
            for problem in error.problems:
                _log.error("client-config-dir: %s", problem)
            raise LoginDenied(f"client-config-dir: {error.problems[0]}") from None
        for warning in overrides.warnings:
            _log.warning("client-config-dir: %s", warning)
        return overrides

    def _read_first(self, folder: Path, common_name: str) -> ClientOverrides:
        """The file of that name, or DEFAULT where a file of its own is not asked for."""
        try:
            names = client_file_names(common_name)
        except Refusal as error:
            raise LoginDenied(f"{error}: {shown(common_name)}") from None
        for name in names[:1] if self._file_required else names:
            try:
                return parse_client_overrides(folder / name)
            except FileNotFoundError:
                continue
            except ConfigError:
                raise
            except OSError as error:
                failure = f"{folder / name}: {error.strerror}"
                _log.error("client-config-dir: %s", failure)
                raise LoginDenied(f"client-config-dir: {failure}") from None
        if self._file_required:
            raise LoginDenied("the client has no file in client-config-dir")
        return ClientOverrides()

    async def _ask(self, hook: Callable[..., object], request: ConnectRequest) -> ClientOverrides:
        answer = await ask(hook, request, "client_connect", TimeLimit(self._limit_s))
        if answer is None:
            return ClientOverrides()
        if not isinstance(answer, ClientOverrides):
            misfit(answer, "client_connect")
        return answer

    def _check_routes(self, overrides: ClientOverrides) -> None:
        limit = overrides.max_routes or self._max_routes
        if len(overrides.iroutes) > limit:
            message = f"{len(overrides.iroutes)} networks are behind the client, {limit} may be"
            _log.error("max-routes-per-client: %s", message)
            raise LoginDenied(f"max-routes-per-client: {message}")

    def _options(self, overrides: ClientOverrides) -> tuple[str, ...]:
        """What is pushed. The client has its own networks already and needs no route to them."""
        own = set(overrides.iroutes)
        options = overrides.pushed_options(self._common_options)
        if own:
            options = tuple(option for option in options if _route_of(option) not in own)
        if options != self._can_be_sent:
            self._check_options(options)
        return options

    def _check_options(self, options: tuple[str, ...]) -> None:
        try:
            build_push(PushReply, options)
        except TextRefused as error:
            _log.error("options of a client cannot be pushed: %s", error.strerror)
            raise LoginDenied(f"options cannot be pushed: {error.strerror}") from None
        self._can_be_sent = options


def merge(first: ClientOverrides, second: ClientOverrides) -> ClientOverrides:
    """Both; where only one can hold, the second does. An address brings its companion along."""
    with_ipv4 = second if second.ipv4 is not None else first
    with_ipv6 = second if second.ipv6 is not None else first
    return ClientOverrides(
        disabled=first.disabled or second.disabled,
        ipv4=with_ipv4.ipv4,
        ipv4_alias=with_ipv4.ipv4_alias,
        ipv6=with_ipv6.ipv6,
        ipv6_remote=with_ipv6.ipv6_remote,
        iroutes=tuple(dict.fromkeys((*first.iroutes, *second.iroutes))),
        pushes=(*first.pushes, *second.pushes),
        max_routes=second.max_routes or first.max_routes,
        username=second.username if second.username is not None else first.username,
        limits=second.limits if second.limits != PeerLimits() else first.limits,
        transmit_bits_per_s=second.transmit_bits_per_s or first.transmit_bits_per_s,
        receive_bits_per_s=second.receive_bits_per_s or first.receive_bits_per_s,
        warnings=(*first.warnings, *second.warnings),
    )


def apply_limits(peer: Peer, overrides: ClientOverrides) -> None:
    """What one client may use of its new peer. `DcoError` where the engine refuses."""
    limits = {name: value for name, value in vars(overrides.limits).items() if value is not None}
    if limits:
        peer.set_limits(**limits)
    if overrides.transmit_bits_per_s or overrides.receive_bits_per_s:
        peer.set_rate_limit(
            transmit_bits_per_s=overrides.transmit_bits_per_s,
            receive_bits_per_s=overrides.receive_bits_per_s,
        )


def _check_limits(overrides: ClientOverrides) -> None:
    """Before the client is told that it may come in: a hook may have said anything."""
    try:
        settings.limits(overrides.limits)
        settings.rate_limit(overrides.transmit_bits_per_s, overrides.receive_bits_per_s, None)
    except DcoError as error:
        raise LoginDenied(f"limits cannot be set: {error.strerror}") from None


def _route_of(option: str) -> IPv4Network | IPv6Network | None:
    """The network of a pushed route; None for other options, and for routes to names."""
    with contextlib.suppress(TextRefused, ValueError):
        match split_words(option):
            case ["route", network] | ["route", network, "default", *_]:
                return ipaddress.IPv4Network(network)
            case ["route", network, netmask, *_]:
                return ipaddress.IPv4Network(f"{network}/{netmask}", strict=False)
            case ["route-ipv6", network, *_]:
                return ipaddress.IPv6Network(network, strict=False)
    return None
