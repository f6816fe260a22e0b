"""All sessions of a server, by where their packets come from. Sans-I/O, like a single session.

A path has at most two: the session in use, and a newcomer, such as a client that was started anew,
which takes its place once it has logged in. Control packets never move a session to another path.

After each `receive`, `handle_timeout` and change to a session (`touch`): take `next_event` until
None, then send `packets_to_send`, and come back at `next_timeout`."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ovpn_dco.model import Address

from .cookie import Admitted, Answer, StatelessServer
from .errors import ProtocolError, Refusal, refused
from .ratelimit import TokenBucket
from .replay import ReplayWindow
from .session import SessionSettings
from .session_events import EndReason, PeerReady, SessionEvent
from .session_server import ServerSession
from .wire import HEADER_SIZE

__all__ = ["Path", "SessionTable"]

REMEMBERED = 4096
# Timers that were set anew are swept out once they are more than those that run, and this many.
STALE_MAX = 64


class Path(NamedTuple):
    """Where packets come from: one of our sockets, and an address that is seen through it."""

    transport: int
    address: Address


class _Timer:
    """When a session is due. One that was set anew, or is not needed, forgets its session."""

    __slots__ = ("due_s", "session")

    def __init__(self, due_s: float, session: ServerSession) -> None:
        self.due_s = due_s
        self.session: ServerSession | None = session


class _Place:
    """The sessions of a path."""

    __slots__ = ("current", "newcomer")

    def __init__(self) -> None:
        self.current: ServerSession | None = None
        self.newcomer: ServerSession | None = None

    def __iter__(self) -> Iterator[ServerSession]:
        return (one for one in (self.current, self.newcomer) if one is not None)

    def remove(self, session: ServerSession) -> None:
        if self.current is session:
            self.current = None
        if self.newcomer is session:
            self.newcomer = None


class SessionTable:
    """Finds the session of a packet, opens new ones, and runs their timers.

    `gate` decides about packets that no session claims. `settings(path)` gives what a session
    there is made with, `window()` its replay window. At most `max_negotiating` sessions without a
    peer are there at one time, and `admissions` limits how fast they come (`connect-freq`); who is
    too much is not answered, and may try again."""

    def __init__(
        self,
        gate: StatelessServer,
        settings: Callable[[Path], SessionSettings],
        *,
        window: Callable[[], ReplayWindow] = ReplayWindow,
        max_negotiating: int = 512,
        admissions: TokenBucket | None = None,
    ) -> None:
        self._gate = gate
        self._settings = settings
        self._window = window
        self._max_negotiating = max_negotiating
        self._admissions = admissions
        self._now = 0.0
        self._places: dict[Path, _Place] = {}
        self._paths: dict[ServerSession, Path] = {}
        self._streams: dict[int, ServerSession] = {}
        self._negotiating: set[ServerSession] = set()
        self._touched: dict[ServerSession, None] = {}
        self._eventful: dict[ServerSession, None] = {}
        self._ready: deque[tuple[ServerSession, SessionEvent]] = deque()
        self._deadlines: list[tuple[float, int, _Timer]] = []
        self._timers: dict[ServerSession, _Timer] = {}
        self._finished: list[ServerSession] = []
        self._order = itertools.count()
        self._over: OrderedDict[tuple[Path, bytes], None] = OrderedDict()
        self.refusals: Counter[str] = Counter()
        """How many packets were dropped, by `Refusal.label`."""

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[ServerSession]:
        return iter(list(self._paths))

    @property
    def negotiating(self) -> int:
        """Sessions that never had a peer; those that were refused count until they are over."""
        return len(self._negotiating)

    def has(self, path: Path) -> bool:
        """Whether there is a session there."""
        return path in self._places

    def take_finished(self) -> list[ServerSession]:
        """Sessions that are over since the last call, and not in the table any more."""
        finished, self._finished = self._finished, []
        return finished

    def current(self, path: Path) -> ServerSession | None:
        """The session there that has logged in."""
        place = self._places.get(path)
        return place.current if place else None

    def path_of(self, session: ServerSession) -> Path | None:
        """Where its packets go; None once it is over."""
        return self._paths.get(session)

    # Packets

    def receive(
        self, data: bytes, path: Path, now: float, *, stream: bool = False
    ) -> ServerSession | bytes | None:
        """Takes a packet, and gives the session that it was for, or the answer that must go back
        to where it came from. None: it was refused and counted, and changed nothing.

        `stream`: from a connection, whose other end needs no cookie to prove where it is. It has
        one session: a client that begins anew connects anew."""
        self._now = now
        try:
            return self._receive(data, path, now, stream)
        except ProtocolError as error:
            self.refusals[error.reason.label] += 1
            return None

    def packets_to_send(self, now: float) -> list[tuple[ServerSession, bytes]]:
        """All that must leave now, to the path of its session."""
        packets: list[tuple[ServerSession, bytes]] = []
        while self._touched:
            session, _ = self._touched.popitem()
            if session in self._paths:
                packets += ((session, data) for data in session.packets_to_send(now))
                self._schedule(session)
        return packets

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due; -inf: now; None: never."""
        while self._deadlines and self._deadlines[0][2].session is None:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def handle_timeout(self, now: float) -> None:
        """Does what is due."""
        self._now = now
        while (due_s := self.next_timeout()) is not None and due_s <= now:
            session = heapq.heappop(self._deadlines)[2].session
            if session is not None:
                self._stop_timer(session)
                session.handle_timeout(now)
                self.touch(session)

    def next_event(self) -> tuple[ServerSession, SessionEvent] | None:
        """What happened next to which session; None: nothing more."""
        while self._eventful and not self._ready:
            session = next(iter(self._eventful))
            event = session.next_event()
            if event is None:
                del self._eventful[session]
            else:
                self._follow(session, event)
                self._ready.append((session, event))
        return self._ready.popleft() if self._ready else None

    # What the owner does

    def touch(self, session: ServerSession) -> None:
        """Something was done to the session: it may have events, packets and another timeout."""
        if session in self._paths:
            self._touched[session] = self._eventful[session] = None

    def move(self, session: ServerSession, path: Path) -> None:
        """The peer is elsewhere, as an authenticated data packet proved."""
        old = self._paths.get(session)
        if old is None or old == path:
            return
        self._leave(session, old)
        place = self._places.setdefault(path, _Place())
        if place.current is not None:
            self._displace(place.current)
        place.current = session
        self._paths[session] = path
        session.move(path.address)
        self.touch(session)

    def stop_admitting(self) -> None:
        """No more sessions: those that are there go on."""
        self._max_negotiating = 0

    def end_stream(self, transport: int) -> None:
        """A connection is gone, and with it the session that came through it."""
        session = self._streams.get(transport)
        if session is not None:
            session.abandon(EndReason.TRANSPORT_GONE)
            self.touch(session)

    # Steps

    def _receive(self, data: bytes, path: Path, now: float, stream: bool) -> ServerSession | bytes:
        # Looked up as it is: whoever takes the packet judges its form.
        session_id = data[1:HEADER_SIZE]
        for session in self._places.get(path, ()):
            if session.remote_session_id == session_id:
                self.touch(session)
                session.receive(data, path.address, now)
                return session
        if stream and path in self._places:
            raise refused(Refusal.SESSION_UNKNOWN)
        if (path, session_id) in self._over:
            raise refused(Refusal.SESSION_OVER)
        if len(self._negotiating) >= self._max_negotiating:
            raise refused(Refusal.TABLE_FULL)
        window = self._window()
        if stream:
            session = self._open(self._gate.admit(data, now, window=window), path, now)
            self._streams[path.transport] = session
            return session
        outcome = self._gate.receive(data, path.address, now, window=window)
        if isinstance(outcome, Answer):
            return outcome.data
        return self._open(outcome, path, now)

    def _open(self, admitted: Admitted, path: Path, now: float) -> ServerSession:
        if self._admissions is not None and not self._admissions.take(now):
            raise refused(Refusal.RATE_LIMITED)
        session = ServerSession(self._settings(path), admitted, address=path.address, now=now)
        place = self._places.setdefault(path, _Place())
        if place.newcomer is not None:
            self._displace(place.newcomer)
        place.newcomer = session
        self._paths[session] = path
        self._negotiating.add(session)
        self.touch(session)
        return session

    def _follow(self, session: ServerSession, event: SessionEvent) -> None:
        if isinstance(event, PeerReady) and not session.is_finished:
            self._settle(session)

    def _settle(self, session: ServerSession) -> None:
        """A newcomer has logged in: it is the session of its path from now on."""
        self._negotiating.discard(session)
        path = self._paths[session]
        self._gate.give_back(path.address, self._now)
        place = self._places[path]
        if place.newcomer is session:
            if place.current is not None:
                self._displace(place.current)
            place.current, place.newcomer = session, None

    def _displace(self, session: ServerSession) -> None:
        """Its end is told before whatever takes its place."""
        session.abandon(EndReason.SUPERSEDED)
        while (event := session.next_event()) is not None:
            self._ready.append((session, event))
        self.touch(session)

    def _schedule(self, session: ServerSession) -> None:
        if session.is_finished:
            self._forget(session)
            return
        due_s, timer = session.next_timeout(), self._timers.get(session)
        if timer is not None and timer.due_s == due_s:
            return
        self._stop_timer(session)
        if due_s is not None:
            timer = self._timers[session] = _Timer(due_s, session)
            heapq.heappush(self._deadlines, (due_s, next(self._order), timer))
            if len(self._deadlines) > 2 * len(self._timers) + STALE_MAX:
                self._deadlines = [one for one in self._deadlines if one[2].session]
                heapq.heapify(self._deadlines)

    def _stop_timer(self, session: ServerSession) -> None:
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.session = None

    def _forget(self, session: ServerSession) -> None:
        """Its cookie is good for a while: late packets must not bring the session back."""
        path = self._paths.pop(session)
        self._finished.append(session)
        self._leave(session, path)
        if self._streams.get(path.transport) is session:
            del self._streams[path.transport]
        self._negotiating.discard(session)
        self._stop_timer(session)
        self._eventful.pop(session, None)
        if session.remote_session_id is not None:
            self._over[path, session.remote_session_id] = None
            if len(self._over) > REMEMBERED:
                self._over.popitem(last=False)

    def _leave(self, session: ServerSession, path: Path) -> None:
        place = self._places.get(path)
        if place is None:
            return
        place.remove(session)
        if place.current is None and place.newcomer is None:
            del self._places[path]
