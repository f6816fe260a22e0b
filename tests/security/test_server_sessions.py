"""Sessions of a server against each other: whose place and whose address somebody may take."""

from __future__ import annotations

from typing import Any

import pytest
from server_lab import Caller, Server, eventually, run, serving

from ovpn_dco.model import PeerFloatRefused
from ovpn_dco.protocol.statickey import Metadata
from ovpn_dco.server.connection import Connection
from ovpn_dco.server.server import _plain

pytestmark = pytest.mark.security

NOBODY = ("127.0.0.1", 9)


def connection_of(server: Server, name: str) -> Connection:
    (found,) = (one for one in server._connections.values() if str(one).startswith(name))
    return found


def wants(server: Server, connection: Connection, remote: Any) -> None:
    """As if authenticated packets of this client had come from there, where another peer is."""
    assert connection._channel is not None
    peer = connection._channel.peer
    event = PeerFloatRefused(
        sequence=1, peer_id=peer.peer_id, generation=peer.generation, remote=remote, local=None
    )
    server.receive_event(event, server._clock.now())


def test_a_client_cannot_take_the_address_of_another_one() -> None:
    async def body() -> None:
        async with serving() as server:
            async with Caller(server, "alice") as alice, Caller(server, "bob") as bob:
                wants(server, connection_of(server, "alice"), bob.at)
                assert {one.remote for one in server.clients} == {alice.at, bob.at}
                await bob.renegotiate()
                await alice.renegotiate()

    run(body)


def test_a_client_with_the_same_name_neither() -> None:
    """With `duplicate-cn` a name does not say who somebody is."""

    async def body() -> None:
        async with serving("duplicate-cn") as server:
            async with Caller(server) as first, Caller(server) as second:
                (one, other) = server._connections.values()
                assert one.path.address == first.at
                wants(server, one, second.at)
                assert {one.path.address, other.path.address} == {first.at, second.at}
                assert len(server.clients) == 2

    run(body)


def test_an_address_that_was_left_can_be_taken() -> None:
    async def body() -> None:
        async with serving() as server:
            async with Caller(server, "alice"):
                alice = connection_of(server, "alice")
                wants(server, alice, NOBODY)
                (client,) = server.clients
                assert client.remote == NOBODY
                # The news may come twice: it does not throw itself out.
                wants(server, alice, NOBODY)
                assert [one.remote for one in server.clients] == [NOBODY]

    run(body)


def test_a_peer_that_is_gone_takes_no_address(caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with serving() as server:
            async with Caller(server, "alice") as caller:
                alice = connection_of(server, "alice")
                assert alice._channel is not None
                alice._channel.peer.delete()
                wants(server, alice, NOBODY)
                assert alice.path.address == caller.at
                await eventually(lambda: not server._connections)

    run(body)
    assert "cannot be moved" in caplog.text


def test_a_goodbye_of_the_peer_before_does_not_reach_the_next_one() -> None:
    """It may come through the queue when its number would be somebody else's already."""

    async def body() -> None:
        async with serving("max-clients 1") as server:
            numbers = []
            for name in ("alice", "bob"):
                async with Caller(server, name):
                    (client,) = server.clients
                    numbers.append(client.peer_id)
                    server.disconnect(client.peer_id)
                    await eventually(lambda: not server.clients)
            assert len(set(numbers)) == 2

    run(body)


def test_a_check_of_keys_that_fails_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    def fails(metadata: Metadata) -> bool:
        raise ValueError("secret")

    assert _plain(fails)(Metadata.timestamp(0)) is False
    assert _plain(lambda _: "yes")(Metadata.timestamp(0)) is False
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text
