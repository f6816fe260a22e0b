"""The tunnel of a client over a restart, and when the server changes it."""

from __future__ import annotations

from typing import Any

import pytest
from client_lab import Hooks, LabClient, config_for, let_in, run, served, until

from ovpn_dco.client import client as client_module
from ovpn_dco.client import connector as connector_module
from ovpn_dco.config import LifecycleConfig, RemoteConfig
from ovpn_dco.model import PeerFloated
from ovpn_dco.protocol.messages import PushUpdate, Restart

PERSIST = LifecycleConfig(persist_tun=True)


def restart(server: Any) -> None:
    server.do(lambda session, now: session.dismiss(now, Restart()))


def test_a_restart_brings_the_tunnel_down_and_up() -> None:
    async def test() -> None:
        async with served() as server:
            hooks = Hooks()
            async with LabClient(config_for(server.remote, hooks=hooks.config)) as client:
                restart(server)
                await until(lambda: client.fake.steps == ["apply", "undo", "apply"])
                await until(lambda: client.connected)
            assert hooks.told == ["up", "down"] * 2

    run(test)


def test_persist_tun_keeps_it_over_a_restart() -> None:
    async def test() -> None:
        async with served() as server:
            hooks = Hooks()
            config = config_for(server.remote, hooks=hooks.config, lifecycle=PERSIST)
            async with LabClient(config) as client:
                restart(server)
                await until(lambda: len(server.logins) == 2 and client.connected)
                assert client.fake.steps == ["apply"]
            assert hooks.told == ["up", "down"]

    run(test)


def test_a_kept_tunnel_is_replaced_where_another_one_is_pushed() -> None:
    async def test() -> None:
        async with served(let_in(), let_in("tun-mtu 1400")) as server:
            hooks = Hooks()
            config = config_for(server.remote, hooks=hooks.config, lifecycle=PERSIST)
            async with LabClient(config) as client:
                restart(server)
                await until(lambda: len(server.logins) == 2 and client.connected)
                assert client.fake.steps == ["apply", "apply"]
            assert hooks.told == ["up", "down"] * 2

    run(test)


def test_a_kept_tunnel_goes_with_an_attempt_that_fails() -> None:
    """The way to the server that it knows may be the one that there is no more."""

    async def test() -> None:
        async with served() as server:
            config = config_for(
                server.remote, lifecycle=PERSIST, transport={"connect_timeout_s": 0.05}
            )
            async with LabClient(config) as client:
                restart(server)
                await until(lambda: server.ended)
                server.deaf = True
                await until(lambda: client.fake.steps == ["apply", "undo"])
                server.deaf = False
                await until(lambda: client.connected)
                assert client.fake.steps == ["apply", "undo", "apply"]

    run(test)


def test_a_kept_tunnel_goes_before_another_server_is_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It knows the way to one only, and a question for its name would go inside, too."""

    async def test() -> None:
        async with served() as first, served(host="127.0.0.2") as second:
            named = RemoteConfig(host="vpn.test", port=second.port)
            async with LabClient(config_for(first.remote, named, lifecycle=PERSIST)) as client:
                steps_before: list[str] = []

                async def look_up(remotes: Any) -> list[Any]:
                    steps_before.extend(client.fake.steps)
                    return [("127.0.0.2", second.port)]

                monkeypatch.setattr(connector_module.Connector, "_look_up", staticmethod(look_up))
                other = Restart(next_remote=True)
                first.do(lambda session, now: session.dismiss(now, other))
                await until(lambda: second.logins and client.connected)
                assert steps_before == ["apply", "undo"]
                assert client.remote == ("127.0.0.2", second.port)

    run(test)


def test_a_kept_tunnel_goes_before_another_address_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Options that cannot be used are a reason to go there while the tunnel is up."""

    async def test() -> None:
        async with served() as first, served(host="127.0.0.2") as second:

            async def look_up(remotes: Any) -> list[Any]:
                return [("127.0.0.1", first.port), ("127.0.0.2", second.port)]

            monkeypatch.setattr(connector_module.Connector, "_look_up", staticmethod(look_up))
            config = config_for(RemoteConfig(host="vpn.test"), lifecycle=PERSIST)
            async with LabClient(config) as client:
                update = PushUpdate(("ifconfig nonsense",))
                first.do(lambda session, now: session.send(update, now))
                await until(lambda: second.logins and client.connected)
                assert client.fake.steps == ["apply", "undo", "apply"]

    run(test)


def test_other_options_make_another_tunnel() -> None:
    async def test() -> None:
        async with served() as server:
            hooks = Hooks()
            async with LabClient(config_for(server.remote, hooks=hooks.config)) as client:
                update = PushUpdate(("tun-mtu 1400",))
                server.do(lambda session, now: session.send(update, now))
                await until(lambda: client.fake.steps == ["apply", "apply"])
                await until(lambda: hooks.told == ["up", "down", "up"])
                assert client.connected
                assert len(server.logins) == 1

    run(test)


def test_a_server_that_moves_gets_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one leads to where it was, and its packets from now on into the tunnel."""
    monkeypatch.setattr(client_module, "FAREWELL_S", 0.1)

    async def test() -> None:
        async with served() as server, LabClient(config_for(server.remote)) as client:
            peer = client.device.peers[7]
            moved = PeerFloated(
                sequence=0,
                peer_id=7,
                generation=peer.generation,
                remote=("127.0.0.9", 1194),
                local=None,
            )
            client.receive_event(moved, 0.0)
            await until(lambda: client.fake.steps == ["apply", "apply"])
            assert client.remote == ("127.0.0.9", 1194)
            await until(lambda: client.tunnel is not None)
            assert str(client.tunnel.remote) == "127.0.0.9"

    run(test)
