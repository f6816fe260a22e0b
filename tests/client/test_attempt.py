"""One attempt, with a server session in memory and a device that only writes down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from config_files import client as client_config
from control_packets import ADDRESS
from session_link import OPTIONS, PRF_ONLY, SERVER_ADDRESS, Network

from ovpn_dco.client.attempt import Attempt
from ovpn_dco.config import ClientConfig, Epoch
from ovpn_dco.errors import DcoError, LimitReached, NotFound, UnsupportedError
from ovpn_dco.model import (
    ControlPacket,
    DeleteReason,
    Ecn,
    Feature,
    KeySlot,
    KeySwapNeeded,
    KeySwapReason,
    Limit,
    PeerDeleted,
    PeerFloated,
    PeerLimitReached,
    TransportKind,
)
from ovpn_dco.protocol.datamessage import EXIT
from ovpn_dco.protocol.messages import Info, PushUpdate
from ovpn_dco.protocol.peerinfo import IvProto, proto_for
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session_events import EndReason

GENERATION = 5


class FakePeer:
    generation = GENERATION

    def __init__(self) -> None:
        self.keys: dict[KeySlot, int] = {}
        self.keepalive: tuple[int, int] | None = None
        self.marking: dict[str, Any] = {}
        self.deleted = False
        self.messages: list[bytes] = []
        self.sealed = 0
        self.error: DcoError | None = None
        self.limits: list[dict[str, int]] = []

    def set_rate_limit(self, *, transmit_bits_per_s: int) -> None:
        self.transmit_bits_per_s = transmit_bits_per_s

    def set_limits(self, **limits: int) -> None:
        self.limits.append(limits)

    def send_message(self, data: bytes) -> None:
        if self.error:
            raise self.error
        self.messages.append(data)

    def set_marking(self, **marking: Any) -> None:
        self.marking = marking

    def set_keepalive(self, *, interval_s: int, timeout_s: int) -> None:
        self.keepalive = interval_s, timeout_s

    def install_key(self, slot: KeySlot, key: Any, *, consume: bool) -> None:
        self.keys[slot] = key.key_id

    def swap_keys(self) -> None:
        first, second = self.keys[KeySlot.PRIMARY], self.keys[KeySlot.SECONDARY]
        self.keys = {KeySlot.PRIMARY: second, KeySlot.SECONDARY: first}

    def stats(self) -> Any:
        if self.deleted:
            raise NotFound(2, "no such peer")
        return SimpleNamespace(vpn_rx_bytes=30, vpn_tx_bytes=12, messages_tx=self.sealed)

    def delete(self) -> None:
        self.deleted = True


class FakeDevice:
    features = frozenset({Feature.ECN, Feature.DSCP, Feature.LIMITS, Feature.RATE_LIMIT})

    def __init__(self) -> None:
        self.peer = FakePeer()
        self.added: dict[str, Any] = {}
        self.error: DcoError | None = None

    def add_peer(self, peer_id: int, transport: Any, **attributes: Any) -> FakePeer:
        if self.error:
            raise self.error
        self.added = {"peer_id": peer_id, **attributes}
        interval_s, timeout_s = (attributes[f"keepalive_{n}_s"] for n in ("interval", "timeout"))
        self.peer.keepalive = interval_s, timeout_s
        return self.peer


class FakeTransport:
    kind = TransportKind.UDP

    def __init__(self, number: int = 1) -> None:
        self.transport_id = number
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Link(Network):
    """An attempt in the place of the client's session."""

    def __init__(self, config: ClientConfig | None = None, *pushed: str, **more: Any) -> None:
        super().__init__("plain", **more)
        self.device, self.transport = FakeDevice(), FakeTransport()
        self.attempt = Attempt(
            config or client_config(),
            self.device,  # type: ignore[arg-type]
            self.client,
            self.transport,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            lambda: self.now,
        )
        self.decide = lambda session, asked, now: session.accept(
            now, username=asked.username, peer_id=7, options=(*OPTIONS, *pushed)
        )

    # The driver

    def wake(self) -> None:
        """The next step flushes."""

    def send(self, transport: Any, data: bytes, remote: Any) -> None:
        assert transport is self.transport
        assert remote == self.attempt.address
        self.links[Role.CLIENT].send(data, self.now)

    # The network

    def collect(self) -> None:
        self.attempt.flush(self.now)
        client, self.client = self.client, self._silent()
        try:
            super().collect()
        finally:
            self.client = client

    def flush(self) -> None:
        client, self.client = self.client, self._silent()
        try:
            super().flush()
        finally:
            self.client = client

    @staticmethod
    def _silent() -> Any:
        return SimpleNamespace(next_event=lambda: None, packets_to_send=lambda now: [])

    def deliver(self, role: Role, data: bytes) -> None:
        if role is Role.CLIENT:
            self.attempt.receive_packet(self.packet(data), self.now)
        else:
            super().deliver(role, data)

    def packet(self, data: bytes, **changes: Any) -> ControlPacket:
        values = {"transport": self.transport, "remote": SERVER_ADDRESS, "local": None}
        return ControlPacket(**{"data": data, "peer_id": None, "sequence": 0, **values, **changes})

    def up(self) -> Link:
        self.run(lambda: self.attempt.was_connected)
        return self

    def happened(self, kind: Callable[..., Any], **fields: Any) -> None:
        values = {"sequence": 0, "peer_id": 7, "generation": GENERATION}
        self.attempt.receive_event(kind(**{**values, **fields}), self.now)

    def vanished(self, reason: DeleteReason, **fields: Any) -> None:
        self.happened(PeerDeleted, reason=reason, stats=None, **fields)

    @property
    def reason(self) -> EndReason:
        self.attempt.flush(self.now)
        return self.attempt.ended.result().reason


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def checked() -> None:
        await test()

    asyncio.run(checked())


@pytest.mark.parametrize(
    ("pushed", "ecn"), [((), Ecn.COMPATIBILITY), (("setenv-safe DCO_ECN 1",), Ecn.NORMAL)]
)
@pytest.mark.parametrize("passtos", [False, True])
def test_outer_headers_are_as_the_server_can_take_them(
    pushed: tuple[str, ...], ecn: Ecn, passtos: bool
) -> None:
    async def test() -> None:
        link = Link(client_config(*["passtos"] * passtos), *pushed).up()
        assert link.device.peer.marking == {"ecn": ecn, "dscp": passtos}

    run(test)


def test_a_session_becomes_a_peer_with_a_key() -> None:
    async def test() -> None:
        link = Link()
        assert not link.attempt.was_answered
        assert link.attempt.stats() is None
        link.up()
        assert link.attempt.was_answered
        assert link.device.added["peer_id"] == 7
        assert link.device.added["remote"] == SERVER_ADDRESS
        assert link.device.peer.keys == {KeySlot.PRIMARY: 0}
        established = await link.attempt.established()
        assert established.remote == SERVER_ADDRESS
        assert established.agreement == link.client.agreement
        assert str(established.options.tunnel_ipv4.interface) == "10.8.0.2/24"

    run(test)


@pytest.mark.parametrize(
    ("pushed", "own", "expected", "exits"),
    [
        ([], [], (0, 120), False),
        ([], ["ping 5", "ping-restart 50"], (5, 50), False),
        ([], ["ping 5", "ping-exit 50"], (5, 50), True),
        (["ping 9", "ping-restart 90"], ["ping 5", "ping-exit 50"], (9, 90), False),
        (["ping 9", "ping-exit 90"], [], (9, 90), True),
        (["ping 9"], [], (9, 120), False),
        (["ping-restart 0"], [], (0, 0), False),
    ],
)
def test_keepalive_is_what_is_pushed_or_else_configured(
    pushed: list[str], own: list[str], expected: tuple[int, int], exits: bool
) -> None:
    async def test() -> None:
        link = Link(client_config(*own), *pushed).up()
        assert link.device.peer.keepalive == expected
        assert link.attempt.exits_when_silent == exits

    run(test)


def test_who_waits_in_vain_leaves_no_trace() -> None:
    """A cancelled wait must not look like a connection that was."""

    async def test() -> None:
        link = Link()
        waiting = asyncio.ensure_future(link.attempt.established())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert not link.attempt.was_connected
        link.up()
        await link.attempt.established()

    run(test)


def test_a_server_that_moves_is_followed() -> None:
    async def test() -> None:
        link = Link().up()
        await link.attempt.established()
        link.happened(PeerFloated, remote=ADDRESS, local=None)
        assert (await link.attempt.established()).remote == ADDRESS
        assert link.attempt.address == ADDRESS

    run(test)


def test_other_options_are_established_anew() -> None:
    async def test() -> None:
        proto = proto_for(pull=True, epoch=True, push_update=True)
        link = Link(None, "ping 1", "ping-restart 2", proto=proto).up()
        await link.attempt.established()
        assert link.server is not None
        link.server.send(PushUpdate(("tun-mtu 1400", "keepalive 11 22")), link.now)
        link.drain()
        established = await link.attempt.established()
        assert established.options.number("tun-mtu") == 1400
        assert link.device.peer.keepalive == (11, 22)

    run(test)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (DeleteReason.EXPIRED, EndReason.EXPIRED),
        (DeleteReason.TRANSPORT_DISCONNECT, EndReason.TRANSPORT_GONE),
    ],
)
def test_a_peer_that_goes_ends_it(reason: DeleteReason, expected: EndReason) -> None:
    async def test() -> None:
        link = Link().up()
        link.vanished(reason, generation=GENERATION - 1)
        link.attempt.flush(link.now)
        assert not link.attempt.ended.done(), "that was another peer"
        link.vanished(reason)
        assert link.reason is expected
        assert link.device.peer.deleted

    run(test)


def test_limits_are_the_engines() -> None:
    async def test() -> None:
        config = client_config("reneg-pkts 500", "inactive 60", "shaper 1000")
        link = Link(config, "session-timeout 90").up()
        assert link.device.peer.transmit_bits_per_s == 8000
        (limits,) = link.device.peer.limits
        assert limits == {
            "inactive_s": 60,
            "session_s": 90,
            "renegotiate_packets": 500,
        }
        waiting = asyncio.ensure_future(link.attempt.limit_reached())
        link.happened(PeerLimitReached, limits=Limit.RENEGOTIATE_PACKETS)
        link.run(lambda: link.device.peer.keys.get(KeySlot.PRIMARY) == 1)
        link.happened(PeerLimitReached, limits=Limit.SESSION, generation=GENERATION - 1)
        await asyncio.wait({waiting}, timeout=0.02)
        assert not waiting.done(), "that was another peer"
        link.happened(PeerLimitReached, limits=Limit.SESSION)
        link.happened(PeerLimitReached, limits=Limit.INACTIVE)
        assert await waiting == "the session lasts 90 s at most"
        assert not link.attempt.ended.done(), "the client decides"

    run(test)


def test_a_message_inside_of_the_tunnel_ends_it() -> None:
    async def test() -> None:
        link = Link().up()
        other = FakeTransport(2)
        link.attempt.receive_packet(link.packet(EXIT, peer_id=7, transport=other), link.now)
        link.attempt.receive_packet(link.packet(EXIT, peer_id=7, transport=None), link.now)
        link.attempt.receive_packet(link.packet(b"no exit", peer_id=7), link.now)
        link.attempt.flush(link.now)
        assert not link.attempt.ended.done(), "that was said in another attempt, or something else"
        link.attempt.receive_packet(link.packet(EXIT, peer_id=7), link.now)
        assert link.reason is EndReason.PEER_EXIT

    run(test)


# Leaving a server that has no word for it in the control channel


def leaving(*pushed: str, own: int = 1, **more: Any) -> Link:
    config = client_config(f"explicit-exit-notify {own}")
    link = Link(config, *pushed, **({"proto": PRF_ONLY} | more)).up()
    link.attempt.leave()
    link.attempt.flush(link.now)
    return link


def passes(link: Link, seconds: float) -> None:
    link.now += seconds
    link.attempt.flush(link.now)


@pytest.mark.parametrize(
    ("pushed", "own", "times"),
    [([], 1, 1), ([], 3, 3), (["explicit-exit-notify 2"], 1, 2), ([], 86400, 10)],
)
def test_it_is_said_in_the_data_channel(pushed: list[str], own: int, times: int) -> None:
    async def test() -> None:
        link = leaving(*pushed, own=own)
        peer = link.device.peer
        assert link.attempt.farewell_s == times
        for number in range(1, times):
            assert peer.messages == [EXIT] * number
            passes(link, 0.5)
            link.attempt.leave()  # once more changes nothing
            passes(link, 0.5)
        passes(link, 0.5)
        assert peer.messages == [EXIT] * times
        assert link.attempt.may_leave_politely
        assert not peer.deleted, "the engine has not sealed the last one"
        due_s = link.attempt.next_timeout()
        assert due_s is not None
        assert due_s <= link.now + 0.1
        peer.sealed = times
        passes(link, 0.1)
        assert peer.deleted
        assert not link.attempt.may_leave_politely
        assert link.reason is EndReason.LOCAL

    run(test)


def test_the_engine_is_waited_for_only_so_long() -> None:
    async def test() -> None:
        link = leaving()
        passes(link, 0.9)
        assert not link.device.peer.deleted
        passes(link, 0.2)
        assert link.reason is EndReason.LOCAL

    run(test)


def test_a_farewell_that_cannot_be_sent_holds_up_nothing() -> None:
    async def test() -> None:
        link = Link(client_config("explicit-exit-notify 3"), proto=PRF_ONLY).up()
        link.device.peer.error = DcoError(126, "no key")
        link.attempt.leave()
        assert link.reason is EndReason.LOCAL
        assert link.device.peer.deleted

    run(test)


@pytest.mark.parametrize(
    ("own", "more"),
    [(0, {}), (3, {"proto": PRF_ONLY | IvProto.CC_EXIT_NOTIFY}), (3, {"stream": True})],
    ids=["not wanted", "understood", "TCP"],
)
def test_no_farewell_in_the_data_channel(own: int, more: dict[str, Any]) -> None:
    async def test() -> None:
        kind = TransportKind.TCP if more.pop("stream", False) else TransportKind.UDP
        lines = [f"explicit-exit-notify {own}"] if own else []
        link = Link(client_config(*lines), **({"proto": PRF_ONLY} | more)).up()
        link.transport.kind = kind
        link.attempt.leave()
        link.attempt.flush(link.now)
        assert link.device.peer.messages == []
        assert link.attempt.farewell_s == 0
        assert link.reason is EndReason.LOCAL

    run(test)


def test_a_socket_that_dies_ends_it() -> None:
    async def test() -> None:
        link = Link()
        link.attempt.lose(FakeTransport(2))  # type: ignore[arg-type]
        link.attempt.flush(link.now)
        assert not link.attempt.ended.done()
        link.attempt.lose(link.transport)  # type: ignore[arg-type]
        assert link.reason is EndReason.TRANSPORT_GONE

    run(test)


def test_only_silence_from_the_start_is_given_up() -> None:
    async def test() -> None:
        link = Link()
        link.run(lambda: link.attempt.was_answered)
        link.attempt.hurry()
        link.attempt.flush(link.now)
        assert not link.attempt.ended.done()
        silent = Link()
        silent.attempt.hurry()
        assert silent.reason is EndReason.NEGOTIATION_TIMEOUT

    run(test)


def test_a_key_that_wears_out_is_renewed() -> None:
    async def test() -> None:
        link = Link().up()
        link.drain()
        link.happened(KeySwapNeeded, reason=KeySwapReason.SOON, key_id=0)
        link.run(lambda: 1 in link.device.peer.keys.values())

    run(test)


def test_a_key_that_has_carried_enough_is_renewed_once() -> None:
    async def test() -> None:
        link = Link().up()
        link.drain()
        for _ in range(3):
            link.happened(PeerLimitReached, limits=Limit.RENEGOTIATE_PACKETS)
            link.run(lambda: 1 in link.device.peer.keys.values())
        assert not link.client._renegotiation_wanted

    run(test)


def test_a_peer_that_cannot_be_added_ends_it() -> None:
    async def test() -> None:
        link = Link()
        link.device.error = LimitReached(105, "no room")
        link.run(link.attempt.ended.done)
        assert link.attempt.ended.result().error is link.device.error
        assert link.reason is EndReason.DISAGREEMENT
        assert not link.attempt.was_connected

    run(test)


def test_what_must_be_required_is_checked_before_a_peer_is_added() -> None:
    async def test() -> None:
        config = client_config()
        config = replace(config, data=replace(config.data, epoch=Epoch.REQUIRE))
        link = Link(config, proto=proto_for(pull=True, epoch=False))
        link.run(link.attempt.ended.done)
        assert link.reason is EndReason.DISAGREEMENT
        assert isinstance(link.attempt.ended.result().error, UnsupportedError)
        assert link.device.added == {}

    run(test)


def test_messages_are_for_the_user() -> None:
    async def test() -> None:
        link = Link().up()
        assert link.server is not None
        link.server.send(Info("hello"), link.now)
        link.drain()
        assert link.attempt.messages.get_nowait() == Info("hello")

    run(test)


def test_closing_gives_all_back() -> None:
    async def test() -> None:
        link = Link().up()
        link.attempt.close()
        link.attempt.close()
        assert link.device.peer.deleted
        assert link.transport.closed

    run(test)


def test_a_failure_here_is_final_and_polite() -> None:
    async def test() -> None:
        link = Link().up()
        error = DcoError(5, "no routes")
        link.attempt.fail(error)
        assert link.reason is EndReason.LOCAL
        assert link.attempt.ended.result().error is error
        assert link.attempt.may_leave_politely
        link.run(lambda: link.ended(Role.SERVER))
        link.run(lambda: not link.attempt.may_leave_politely)

    run(test)
