"""A `Server` from its start to its end: who comes, who goes, and that nothing is left of them."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from dataclasses import replace
from typing import Any

import pytest
from server_lab import (
    Caller,
    assert_idle,
    configuration,
    eventually,
    open_files,
    run,
    serving,
)

from ovpn_dco.config import ClientOverrides, ListenConfig, Protocol, ServerHooks
from ovpn_dco.errors import DcoError, InterfaceMissing, InvalidArgument, NotFound, error_for
from ovpn_dco.model import (
    Ecn,
    InterfaceGone,
    Limit,
    Marking,
    PeerLimitReached,
    PeerLimits,
)
from ovpn_dco.protocol.keyevents import KeyStage
from ovpn_dco.protocol.messages import AuthFailed, Halt, Restart
from ovpn_dco.protocol.session_events import EndReason, PushReceived
from ovpn_dco.protocol.statickey import StaticKey
from ovpn_dco.server import AddressNotice, DisconnectNotice, LimitNotice, Server, connection
from ovpn_dco.server.connection import Connection

UDP, TCP = Protocol.UDP4, Protocol.TCP4
BOTH = (UDP, TCP)


async def idle(server: Server) -> None:
    await eventually(lambda: not server._connections, "the end of all connections")
    assert_idle(server)


# Who comes and goes


@pytest.mark.parametrize("protocol", BOTH)
def test_a_client_comes_and_goes(protocol: Protocol) -> None:
    async def body() -> None:
        async with serving(protocols=(protocol,)) as server:
            async with Caller(server) as caller:
                (client,) = server.clients
                assert (client.common_name, str(client.ipv4)) == ("client-1", "10.8.0.2/24")
                assert client.remote == caller.at
                assert caller.address == "10.8.0.2"
                await caller.renegotiate()
                await caller.leave()
            await eventually(lambda: not server.clients)
            await idle(server)
            assert server.stats().accepted == 1
            assert not server.stats().refusals

    run(body)


@pytest.mark.parametrize("passtos", [False, True])
@pytest.mark.parametrize("says", [False, True])
def test_outer_headers_are_as_the_client_can_take_them(says: bool, passtos: bool) -> None:
    """ECN is copied out to one that brings marks in, which it alone is answered to."""

    async def body() -> None:
        lines = ("push-peer-info", "setenv UV_DCO_ECN 1") if says else ()
        async with (
            serving(*["passtos"] * passtos) as server,
            Caller(server, "client-1", *lines) as caller,
        ):
            (peer,) = server.device.peers.values()
            ecn = Ecn.NORMAL if says else Ecn.COMPATIBILITY
            assert peer.info().marking == Marking(ecn, dscp=passtos)
            (pushed,) = caller.said(PushReceived)
            variables = {"OPENVPN_DCO_ECN": "1"} if says else {}
            assert pushed.options.environment == variables

    run(body)


@pytest.mark.parametrize(
    ("lines", "mss", "path"),
    [
        ((), 1492 - 28 - 28 - 40, None),  # the epoch format has 28 bytes
        (("mssfix 1400 mtu", "mtu-disc yes"), 1400 - 28 - 28 - 40, 1400),
        (("mssfix 0",), None, None),
    ],
)
def test_peers_have_the_clamp_of_the_file(
    lines: tuple[str, ...], mss: int | None, path: int | None
) -> None:
    async def body() -> None:
        async with serving(*lines) as server, Caller(server, "client-1"):
            (peer,) = server.device.peers.values()
            assert (peer.info().mss, peer.info().path_mtu) == (mss, path)

    run(body)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((), 1500),
        (("tun-mtu 1400",), 1400),
        (("tun-mtu 1400", 'push "tun-mtu 1300"'), 1300),
        (('push "tun-mtu 1300"', 'push "tun-mtu 1350"'), 1350),
        (('push "tun-mtu 9000"',), 1600),  # more than it takes would end the connection
    ],
)
def test_one_mtu_is_pushed(lines: tuple[str, ...], told: int) -> None:
    """The one that was chosen for clients, or else the server's own."""

    async def body() -> None:
        async with serving(*lines) as server, Caller(server, "client-1") as caller:
            (pushed,) = caller.said(PushReceived)
            sizes = [option for option in pushed.options.options if option.name == "tun-mtu"]
            assert len(sizes) == 1
            assert pushed.options.number("tun-mtu") == told

    run(body)


def test_both_listeners_at_once() -> None:
    """And each client is told of its own protocol."""

    async def body() -> None:
        async with serving(protocols=BOTH) as server:
            assert [protocol for protocol, _ in server.addresses] == [UDP, TCP]
            async with Caller(server, "alice") as first, Caller(server, "bob", number=1) as second:
                assert [one.common_name for one in server.clients] == ["alice", "bob"]
                assert {first.address, second.address} == {"10.8.0.2", "10.8.0.3"}
                assert "proto UDPv4" in str(first.session._compatibility)
                assert "proto TCPv4" in str(second.session._compatibility)

    run(body)


def test_twenty_clients_at_once() -> None:
    async def body() -> None:
        async with serving(protocols=BOTH) as server:
            before = open_files()
            callers = [Caller(server, f"client-{n}", number=n % 2) for n in range(20)]
            await asyncio.gather(*(caller.connected() for caller in callers))
            assert len(server.clients) == 20
            assert len({caller.address for caller in callers}) == 20
            for caller in callers[:10]:
                server.disconnect(next(c.peer_id for c in server.clients if c.remote == caller.at))
            await asyncio.gather(*(caller.leave() for caller in callers))
            await idle(server)
            assert open_files() == before

    run(body)


def test_a_tcp_client_that_vanishes() -> None:
    async def body() -> None:
        async with serving(protocols=(TCP,)) as server:
            caller = await Caller(server).connected()
            await caller.vanish()
            await eventually(lambda: not server.clients)
            await idle(server)

    run(body)


def test_the_message_of_the_end_goes_through_tcp_and_the_connection_is_closed() -> None:
    async def body() -> None:
        async with serving(protocols=(TCP,)) as server:
            async with Caller(server) as caller:
                server.disconnect(server.clients[0].peer_id)
                end = await caller.ended()
                assert isinstance(end.message, Restart)
            await eventually(lambda: not server.clients)
            await idle(server)

    run(body)


def test_disconnect() -> None:
    async def body() -> None:
        async with serving() as server:
            async with Caller(server) as caller:
                peer_id = server.clients[0].peer_id
                with pytest.raises(NotFound):
                    server.disconnect(peer_id + 1)
                server.disconnect(peer_id, message=Halt("go away"))
                end = await caller.ended()
                assert end.message == Halt("go away")
                assert not server.clients
                with pytest.raises(NotFound):
                    server.disconnect(peer_id)

    run(body)


# The same client again


def test_a_client_that_is_started_anew_from_the_same_port() -> None:
    async def body() -> None:
        async with serving() as server:
            first = await Caller(server).connected()
            await first.vanish()
            async with Caller(server, port=first.port) as second:
                (client,) = server.clients
                assert client.remote == first.at
                assert second.address == first.address
            assert server.stats().accepted == 2

    run(body)


@pytest.mark.parametrize("protocol", BOTH)
def test_the_same_name_from_elsewhere_takes_the_place(protocol: Protocol) -> None:
    async def body() -> None:
        gone: list[DisconnectNotice] = []
        hooks = ServerHooks(client_disconnect=gone.append)
        async with serving(protocols=(protocol,), hooks=hooks) as server:
            async with Caller(server) as first, Caller(server) as second:
                (client,) = server.clients
                assert client.remote == second.at
                assert second.address == first.address
                await eventually(lambda: gone)
                assert [notice.reason for notice in gone] == [EndReason.SUPERSEDED]

    run(body)


def test_duplicate_names() -> None:
    async def body() -> None:
        async with serving("duplicate-cn") as server:
            async with Caller(server) as first, Caller(server) as second:
                assert len(server.clients) == 2
                assert first.address != second.address

    run(body)


def test_another_client_from_the_same_port() -> None:
    """The peer that was there is gone before the next one is added."""

    async def body() -> None:
        async with serving("duplicate-cn") as server:
            first = await Caller(server, "alice").connected()
            await first.vanish()
            async with Caller(server, "bob", port=first.port) as second:
                (client,) = server.clients
                assert client.common_name == "bob"
                await second.renegotiate()

    run(body)


def test_who_cannot_come_in_displaces_nobody(tmp_path: Any) -> None:
    """The same client with nothing in common, refused by a hook, or with an address in use."""
    allowed = ["alice-first"]

    def decide(request: Any) -> bool | None:
        return None if allowed else False

    async def body() -> None:
        (tmp_path / "bob").write_text("ifconfig-push 10.8.0.9 255.255.255.0\n")
        hooks = ServerHooks(client_connect=decide)
        lines = ("data-ciphers AES-256-GCM", f"client-config-dir {tmp_path}")
        async with serving(*lines, hooks=hooks) as server:
            async with Caller(server, "alice") as alice, Caller(server, "bob") as bob:
                cipher = Caller(server, "alice", "data-ciphers AES-128-GCM")
                assert "cipher" in (await cipher.refusal()).reason
                await cipher.vanish()
                (tmp_path / "alice").write_text("ifconfig-push 10.8.0.9 255.255.255.0\n")
                address = Caller(server, "alice")
                await address.refusal()
                await address.vanish()
                allowed.clear()
                hook = Caller(server, "alice")
                await hook.refusal()
                await hook.vanish()
                names = {one.common_name: str(one.ipv4.ip) for one in server.clients if one.ipv4}
                assert names == {"alice": alice.address, "bob": bob.address}
                await alice.renegotiate()

    run(body)


def test_max_clients() -> None:
    """Whoever is too many may try again; who is there already can always connect anew."""

    async def body() -> None:
        async with serving("max-clients 1") as server:
            async with Caller(server, "alice") as first:
                second = Caller(server, "bob")
                assert (await second.refusal()).reason == "the server has no room"
                await second.vanish()
                async with Caller(server, "alice") as again:
                    assert again.address == first.address
                    (client,) = server.clients
                    assert client.common_name == "alice"

    run(body)


# What is told


def test_what_hooks_are_told_comes_in_order() -> None:
    """The address of a client that connects anew is deleted before it is added again."""

    async def body() -> None:
        told: list[str] = []

        async def learn(notice: AddressNotice) -> None:
            if notice.operation == "delete":
                await asyncio.sleep(0.05)
            told.append(notice.operation)

        async with serving(hooks=ServerHooks(learn_address=learn)) as server:
            async with Caller(server), Caller(server):
                await eventually(lambda: len(told) == 3)
                assert told == ["add", "delete", "add"]
        assert told == ["add", "delete", "add", "delete"]

    run(body)


def test_a_hook_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: object) -> None:
        raise ValueError("secret")

    async def body() -> None:
        async with serving(hooks=ServerHooks(learn_address=fails)) as server:
            async with Caller(server):
                await eventually(lambda: "ValueError" in caplog.text)

    run(body)
    assert "secret" not in caplog.text


# Start and end


def test_a_start_that_fails_half_way_leaves_nothing() -> None:
    async def body() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            listen = (
                ListenConfig(host="127.0.0.1", port=0, protocol=UDP),
                ListenConfig(host="127.0.0.1", port=port, protocol=TCP),
            )
            config = replace(configuration(), listen=listen)
            before = open_files()
            with pytest.raises(DcoError, match=f"port {port}"):
                async with serving(config=config):
                    pass
            assert open_files() <= before

    run(body)


def test_a_server_that_is_over() -> None:
    async def body() -> None:
        async with serving() as server:
            waiting = asyncio.create_task(server.wait_closed())
            await asyncio.gather(server.close(), server.close())
            await waiting
            assert not server.addresses
            assert not server.clients
            with pytest.raises(InvalidArgument):
                server.stats()

    run(body)


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        ("session-timeout 1", Restart, EndReason.SESSION_TIMEOUT),
        ("inactive 1", Halt, EndReason.INACTIVE),
    ],
)
def test_a_limit_ends_a_client(line: str, kind: type, reason: EndReason) -> None:
    async def body() -> None:
        gone: list[DisconnectNotice] = []
        hooks = ServerHooks(client_disconnect=gone.append)
        config = replace(configuration(line), hooks=hooks)
        async with serving(config=config) as server, Caller(server, "alice") as caller:
            end = await caller.ended()
            assert isinstance(end.message, kind)
            await eventually(lambda: gone)
            assert [notice.reason for notice in gone] == [reason]
            assert not server.clients

    run(body)


def test_what_one_client_may_use() -> None:
    """A hook says it, another is told; who has used a quota stays."""

    async def body() -> None:
        told: list[LimitNotice] = []
        more = ClientOverrides(
            limits=PeerLimits(quota_bytes=1000, renegotiate_packets=7), transmit_bits_per_s=8000
        )
        hooks = ServerHooks(client_connect=lambda request: more, limit_reached=told.append)
        async with serving("inactive 60", hooks=hooks) as server, Caller(server, "alice") as alice:
            (client,) = server.clients
            peer = server.device.peers[client.peer_id]
            info = peer.info()
            assert info.limits == PeerLimits(60, 0, 1000, 0, 0, 7, 0)
            assert info.rate_limit.transmit_bits_per_s == 8000
            for generation in (peer.generation + 1, peer.generation):
                event = PeerLimitReached(
                    sequence=0,
                    peer_id=client.peer_id,
                    generation=generation,
                    limits=Limit.QUOTA_BYTES,
                )
                server.receive_event(event, 0)
            await eventually(lambda: told)
            assert [notice.limits for notice in told] == [Limit.QUOTA_BYTES]
            assert told[0].client.common_name == "alice"
            await alice.renegotiate()

    run(body)


def test_limits_that_cannot_be_set_let_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine lacks memory for ends this attempt, and the next one finds nothing of it."""

    def refuse(*_: object) -> None:
        raise error_for(errno.ENOMEM, "limits")

    async def body() -> None:
        async with serving(hooks=ServerHooks(client_connect=lambda request: more)) as server:
            with monkeypatch.context() as patch:
                patch.setattr(connection, "set_limits", refuse)
                caller = Caller(server, "alice")
                end = await caller.ended()
                assert isinstance(end.message, Restart)
                await caller.vanish()
                await idle(server)
            async with Caller(server, "alice"):
                (client,) = server.clients
                assert server.device.peers[client.peer_id].info().limits.quota_bytes == 1000

    more = ClientOverrides(limits=PeerLimits(quota_bytes=1000))
    run(body)


def test_limits_that_nothing_can_have_are_a_refused_login() -> None:
    async def body() -> None:
        more = ClientOverrides(limits=PeerLimits(quota_bytes=-1))
        async with serving(hooks=ServerHooks(client_connect=lambda request: more)) as server:
            caller = Caller(server, "alice")
            assert isinstance(await caller.refusal(), AuthFailed)
            await caller.vanish()
            await idle(server)

    run(body)


def test_clients_are_told_of_the_end() -> None:
    async def body() -> None:
        async with serving("explicit-exit-notify 2") as server:
            async with Caller(server, "alice") as first, Caller(server, "bob") as second:
                await server.close()
                for caller in (first, second):
                    end = await caller.ended()
                    assert isinstance(end.message, Restart)
                    assert end.message.next_remote

    run(body)


def test_nobody_comes_in_while_the_server_says_goodbye() -> None:
    async def body() -> None:
        async with serving("explicit-exit-notify 1") as server:
            first = await Caller(server, "alice").connected()
            await first.vanish()  # so that the server waits for it in vain
            accepted = server.stats().accepted
            closing = asyncio.create_task(server.close())
            await asyncio.sleep(0)
            late = await Caller(server, "bob").start()
            await closing
            await late.vanish()
            assert server._accepted == accepted

    run(body)


def test_an_interface_that_is_gone_ends_the_server() -> None:
    async def body() -> None:
        async with serving() as server:
            server.receive_event(InterfaceGone(sequence=1, errno=19), 0.0)
            with pytest.raises(InterfaceMissing):
                await server.wait_closed()

    run(body)


@pytest.mark.parametrize("from_file", [True, False])
def test_what_is_not_there_yet_is_said_once(
    caplog: pytest.LogCaptureFixture, from_file: bool
) -> None:
    """By the parser for a file, in the log for what code has made."""
    config = configuration("status /tmp/status", "management 127.0.0.1 7505")
    told = {"status", "management"}
    assert {warning.directive for warning in config.warnings} >= told

    async def body() -> None:
        async with serving(config=config if from_file else replace(config, warnings=())):
            pass

    with caplog.at_level(logging.WARNING, "ovpn_dco.server"):
        run(body)
    logged = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert sorted(logged) == ([] if from_file else sorted(told))


# One client's mistakes are its own


def test_an_error_of_ours_ends_one_client_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opens = Connection._open

    def fails(self: Connection, event: Any) -> None:
        if "mallory" in str(self):
            raise RuntimeError("a mistake")
        opens(self, event)

    monkeypatch.setattr(Connection, "_open", fails)

    async def body() -> None:
        async with serving() as server:
            bad = await Caller(server, "mallory").start()
            async with Caller(server, "alice") as good:
                await eventually(lambda: "a mistake" in caplog.text)
                await good.renegotiate()
                assert [one.common_name for one in server.clients] == ["alice"]
                await eventually(lambda: len(server._connections) == 1)
            await bad.vanish()

    run(body)


def test_a_connection_that_begins_with_something_else_is_closed() -> None:
    async def body() -> None:
        async with serving(protocols=(TCP,)) as server:
            (_, address) = server.addresses[0]
            reader, writer = await asyncio.open_connection(*address[:2])
            writer.write(b"\x00\x20" + b"\x38" + bytes(31))
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            assert sum(server.stats().refusals.values()) == 1
            await idle(server)

    run(body)


def test_nothing_is_heard_of_a_client_after_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """Two logins may be accepted in one go, and the second ends what the first began."""

    async def body() -> None:
        told: list[str] = []

        async def until_the_push_may_go(_: object) -> None:
            (state,) = (one.session._primary for one in server._connections.values())
            await eventually(lambda: state.stage is KeyStage.ACTIVE)

        hooks = ServerHooks(
            client_connect=until_the_push_may_go,
            learn_address=lambda notice: told.append(notice.operation),
        )
        async with serving(hooks=hooks) as server:
            caller = await Caller(server).start()
            await eventually(lambda: server._connections)
            (connection,) = server._connections.values()
            accept = connection._accept

            def accept_and_end(*arguments: Any) -> None:
                accept(*arguments)
                connection.close(EndReason.SUPERSEDED)

            connection._accept = accept_and_end  # type: ignore[method-assign]
            await eventually(lambda: not server._connections)
            assert not server.device.peers
            assert_idle(server)
            await caller.vanish()
        assert told == []

    run(body)
    assert "unexpected" not in caplog.text


@pytest.mark.parametrize("protocol", BOTH)
def test_a_client_with_another_key_hears_nothing(protocol: Protocol) -> None:
    async def body() -> None:
        async with serving(protocols=(protocol,)) as server:
            caller = await Caller(server, key=StaticKey(bytes(256))).start()
            await eventually(lambda: server.stats().refusals.get("tag_mismatch"))
            assert set(server.stats().refusals) == {"tag_mismatch"}
            await eventually(lambda: caller.hung_up or not protocol.is_tcp)
            assert not caller.events
            assert server.stats().accepted == 0
            await caller.vanish()

    run(body)
