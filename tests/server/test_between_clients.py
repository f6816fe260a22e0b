"""Packets from client to client, as far as the configuration and its hook let them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from server_lab import Caller, configuration, eventually, run, serving

from ovpn_dco.config import ServerHooks
from ovpn_dco.model import Feature, ForwardingMode
from ovpn_dco.server import ForwardingRequest, Server


def names(request: ForwardingRequest) -> tuple[str, str]:
    return request.source.common_name, request.destination.common_name


def reaches(server: Server) -> set[tuple[int, int]]:
    forwarding, peers = server.device.forwarding, server.device.peers.values()
    return {(one.peer_id, two.peer_id) for one in peers for two in forwarding.permitted(one)}


def test_the_system_decides_unless_told_otherwise() -> None:
    async def body() -> None:
        async with serving() as server:
            assert server.device.forwarding.mode is ForwardingMode.OFF
        assert not {Feature.FORWARDING, Feature.MULTICAST} & configuration().requirements()

    run(body)


def test_client_to_client_is_all() -> None:
    async def body() -> None:
        async with (
            serving("client-to-client") as server,
            Caller(server),
            Caller(server, "client-2"),
        ):
            assert server.device.forwarding.mode is ForwardingMode.ALL
        needed = configuration("client-to-client").requirements()
        assert {Feature.FORWARDING, Feature.MULTICAST} <= needed

    run(body)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_the_hook_is_asked_about_clients(kind: str) -> None:
    """Both ways of each pair; what fails is a refusal."""
    asked: list[tuple[str, str]] = []

    def plain(request: ForwardingRequest) -> bool:
        asked.append(names(request))
        if request.source.common_name == "client-3":
            raise ValueError("no opinion")
        return request.destination.common_name != "client-3"

    async def awaited(request: ForwardingRequest) -> bool:
        return plain(request)

    async def body() -> None:
        hook: Callable[..., object] = plain if kind == "plain" else awaited
        config = configuration("client-to-client", hooks=ServerHooks(client_to_client=hook))
        async with (
            serving(config=config) as server,
            Caller(server),
            Caller(server, "client-2") as second,
            Caller(server, "client-3"),
        ):
            assert server.device.forwarding.mode is ForwardingMode.PERMITTED
            await eventually(lambda: len(set(asked)) == 6)
            ids = {client.common_name: client.peer_id for client in server.clients}
            one, two = ids["client-1"], ids["client-2"]
            await eventually(lambda: reaches(server) == {(one, two), (two, one)})
            await second.leave()
            await eventually(lambda: not reaches(server))

    run(body)
