"""The session table: two sessions on a path, floats, limits, and late packets of a session."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from control_packets import ADDRESS, ENDS, NOW, stateless
from session_link import LOGIN, OPTIONS, SERVER_ADDRESS, WRAPPINGS, profile
from session_link import settings as session_settings

from ovpn_dco.protocol.keyevents import KeyTimers
from ovpn_dco.protocol.messages import Info
from ovpn_dco.protocol.ratelimit import TokenBucket
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session_client import ClientSession
from ovpn_dco.protocol.session_events import (
    AuthRequired,
    Ended,
    EndReason,
    KeyReady,
    PeerReady,
    SessionEvent,
)
from ovpn_dco.protocol.session_server import ServerSession
from ovpn_dco.protocol.table import Path, SessionTable

HERE = Path(1, ADDRESS)
ELSEWHERE = Path(1, ("198.51.100.8", 999))


class Site:
    """A table whose owner lets everybody in, and clients that share a clock with it."""

    def __init__(
        self, kind: str = "tls-crypt", *, settings: dict[str, Any] | None = None, **limits: Any
    ) -> None:
        self.kind = kind
        self.now = float(NOW)
        shared = session_settings(Role.SERVER, **(settings or {}))
        self.table = SessionTable(stateless(kind), lambda _path: shared, **limits)
        self.events: list[tuple[ServerSession, SessionEvent]] = []
        self.clients: dict[Path, ClientSession] = {}
        self.seed = 0
        self.decides = True

    def client(self, path: Path = HERE) -> ClientSession:
        self.seed += 1
        session = ClientSession(
            session_settings(Role.CLIENT, self.seed),
            LOGIN,
            profile(),
            wrapping=ENDS[self.kind]()[0],
            address=SERVER_ADDRESS,
        )
        session.start(self.now)
        self.clients[path] = session
        return session

    def collect(self) -> None:
        while (item := self.table.next_event()) is not None:
            self.events.append(item)
            session, event = item
            if isinstance(event, AuthRequired) and self.decides:
                session.accept(self.now, username=event.username, peer_id=7, options=OPTIONS)
                self.table.touch(session)

    def step(self, *, stream: bool = False) -> None:
        for path, client in list(self.clients.items()):
            for data in client.packets_to_send(self.now):
                answer = self.table.receive(data, path, self.now, stream=stream)
                if isinstance(answer, bytes):
                    client.receive(answer, SERVER_ADDRESS, self.now)
        self.collect()
        for session, data in self.table.packets_to_send(self.now):
            path = self.table.path_of(session)
            if path in self.clients:
                self.clients[path].receive(data, SERVER_ADDRESS, self.now)

    def run(self, steps: int = 12, *, stream: bool = False) -> Site:
        for _ in range(steps):
            self.step(stream=stream)
        return self

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.table.next_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.table.handle_timeout(self.now)
            self.collect()
            self.table.packets_to_send(self.now)
        self.now = end

    def happened(self, kind: type[Any]) -> list[Any]:
        return [event for _, event in self.events if isinstance(event, kind)]


@pytest.mark.parametrize("kind", WRAPPINGS)
def test_connect(kind: str) -> None:
    site = Site(kind)
    site.client()
    site.run()
    assert len(site.happened(PeerReady)) == len(site.happened(KeyReady)) == 1
    assert (len(site.table), site.table.negotiating) == (1, 0)
    assert not site.table.refusals


@pytest.mark.parametrize("kind", WRAPPINGS)
def test_connect_through_a_stream(kind: str) -> None:
    site = Site(kind)
    site.client()
    site.run(stream=True)
    assert len(site.happened(KeyReady)) == 1


def test_a_stream_begins_with_a_reset() -> None:
    site = Site("plain")
    client = site.client()
    site.run(2)
    (hello, *_) = client.packets_to_send(site.now + 3)
    site.table.receive(hello, ELSEWHERE, site.now, stream=True)
    assert site.table.refusals == {"unexpected_opcode": 1}


def test_a_client_that_was_started_anew_takes_its_place() -> None:
    site = Site()
    site.client()
    site.run()
    (first,) = site.table
    site.client()
    site.run(3)
    assert len(site.table) == 2
    site.run()
    (second,) = site.table
    assert second is not first
    assert [
        (session, event.reason) for session, event in site.events if isinstance(event, Ended)
    ] == [(first, EndReason.SUPERSEDED)]


def test_a_newcomer_that_never_logs_in_changes_nothing() -> None:
    site = Site()
    first = site.client()
    site.run()
    (session,) = site.table
    site.decides = False
    site.client()
    site.run()
    assert len(site.table) == 2
    site.clients = {HERE: first}
    site.pass_time(120)
    assert list(site.table) == [session]


def test_a_second_newcomer_displaces_the_first() -> None:
    site = Site()
    site.decides = False
    site.client()
    site.run(4)
    (first,) = site.table
    site.client()
    site.run(4)
    assert first not in list(site.table)
    assert len(site.table) == site.table.negotiating == 1


def test_float() -> None:
    site = Site()
    client = site.client()
    site.run()
    (session,) = site.table
    site.table.move(session, ELSEWHERE)
    site.clients = {ELSEWHERE: client}
    client.renegotiate()
    client.handle_timeout(site.now)
    site.run()
    assert site.table.path_of(session) == ELSEWHERE
    assert [event.key_id for event in site.happened(KeyReady)] == [0, 1]


def test_control_packets_do_not_move_a_session() -> None:
    site = Site()
    client = site.client()
    site.run()
    site.clients = {ELSEWHERE: client}
    client.renegotiate()
    client.handle_timeout(site.now)
    site.run()
    (session,) = site.table
    assert site.table.path_of(session) == HERE
    assert sum(site.table.refusals.values()) > 0


def test_late_packets_do_not_bring_a_session_back() -> None:
    site = Site()
    site.decides = False
    client = site.client()
    sent: list[bytes] = []
    for _ in range(2):
        sent = client.packets_to_send(site.now)
        for data in sent:
            answer = site.table.receive(data, HERE, site.now)
            if isinstance(answer, bytes):
                client.receive(answer, SERVER_ADDRESS, site.now)
    (session,) = site.table
    session.abandon(EndReason.EXPIRED)
    site.table.touch(session)
    site.table.packets_to_send(site.now)
    assert len(site.table) == 0
    site.table.receive(sent[0], HERE, site.now)
    assert len(site.table) == 0
    assert site.table.refusals == {"session_over": 1}


def test_limit_of_negotiations() -> None:
    site = Site(max_negotiating=1)
    site.decides = False
    site.client()
    site.run(4)
    site.client(ELSEWHERE)
    site.run(4)
    assert len(site.table) == 1
    assert site.table.refusals["table_full"] > 0


def test_limit_of_admissions() -> None:
    site = Site(admissions=TokenBucket(rate_per_s=0, burst=1, now=0))
    for path in (HERE, ELSEWHERE):
        site.client(path)
    site.run()
    assert len(site.table) == 1
    assert site.table.refusals["rate_limited"] > 0


def test_a_connection_that_is_gone_takes_its_session_with_it() -> None:
    site = Site()
    for transport in (1, 2):
        site.client(Path(transport, ADDRESS))
    site.run(stream=True)
    for _ in range(2):
        site.table.end_stream(1)
        site.run(1, stream=True)
    assert [path.transport for path in map(site.table.path_of, site.table) if path] == [2]
    assert [e.reason for e in site.happened(Ended)] == [EndReason.TRANSPORT_GONE]


def test_nothing_is_left_of_sessions_that_are_over() -> None:
    site = Site()
    for number in range(20):
        site.client(Path(1, ("198.51.100.9", 1000 + number)))
    site.run()
    assert len(site.table) == 20
    for session in site.table:
        session.abandon(EndReason.LOCAL)
        site.table.touch(session)
    site.run(1)
    assert len(site.table) == 0
    assert site.table.next_timeout() is None
    assert not site.table._places
    assert not site.table._timers


def test_nothing_holds_a_session_that_is_over() -> None:
    """Not even a timer that was to go off in an hour, behind those of others."""
    site = Site()
    site.client(ELSEWHERE)
    site.run()
    site.client()
    site.run()
    gone = weakref.ref(next(s for s in site.table if site.table.path_of(s) == HERE))
    site.clients = {}
    site.events.clear()
    held = gone()
    assert held is not None
    held.abandon(EndReason.LOCAL)
    site.table.touch(held)
    held = None
    site.step()
    site.events.clear()
    site.table.take_finished()
    gc.collect()
    assert gone() is None


def test_timers_that_were_set_anew_do_not_pile_up() -> None:
    site = Site(settings={"timers": KeyTimers(reneg_s=3600)})
    site.client()
    site.run()
    (session,) = site.table
    for _ in range(500):
        site.now += 0.001
        session.send(Info("again"), site.now)
        site.table.touch(session)
        site.step()
    assert len(site.table._deadlines) < 100


def test_the_end_of_a_session_is_told_before_its_place_is_taken() -> None:
    """The peer of the one must go before that of the other comes: they have one address."""
    site = Site()
    site.client()
    site.run()
    (first,) = site.table
    site.client()
    site.run()
    (second,) = site.table
    told = [(s, type(e)) for s, e in site.events if isinstance(e, (Ended, PeerReady))]
    assert told == [(first, PeerReady), (first, Ended), (second, PeerReady)]


def test_a_connection_has_one_session() -> None:
    site = Site()
    site.client()
    site.run(stream=True)
    (session,) = site.table
    site.client()
    site.run(stream=True)
    assert list(site.table) == [session]
    assert site.table.refusals["session_unknown"] > 0


def test_who_is_refused_counts_until_it_is_over() -> None:
    """Else those that never acknowledge a refusal would pile up without a limit."""
    site = Site(max_negotiating=1)
    site.decides = False
    site.client()
    site.run()
    (session,) = site.table
    session.refuse(site.now)
    site.table.touch(session)
    site.clients = {}
    site.step()
    assert site.happened(Ended)
    site.client(ELSEWHERE)
    site.run(4)
    assert list(site.table) == [session]
    site.clients = {}
    site.pass_time(60)
    assert len(site.table) == site.table.negotiating == 0


def test_no_more_sessions() -> None:
    site = Site()
    site.client()
    site.run()
    site.table.stop_admitting()
    site.client(ELSEWHERE)
    site.run()
    assert len(site.table) == 1
    assert site.table.refusals["table_full"] > 0
