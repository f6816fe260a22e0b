"""Two sessions and a link between them, with the least that a server has around a session."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import certificate_lab as lab
from control_packets import ADDRESS, ENDS, NOW, stateless
from lossy_link import LossyLink

from ovpn_dco.model import DEFAULT_CIPHERS, DataKey, EpochKey, KeySlot
from ovpn_dco.protocol.authtoken import ClientLogin
from ovpn_dco.protocol.cookie import Answer
from ovpn_dco.protocol.errors import ProtocolError
from ovpn_dco.protocol.keyevents import KeyExpired, KeyPromotionDue, KeyTimers
from ovpn_dco.protocol.occ import describe
from ovpn_dco.protocol.peerinfo import IvProto, announce, proto_for
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session import Session, SessionSettings
from ovpn_dco.protocol.session_client import ClientProfile, ClientSession
from ovpn_dco.protocol.session_events import AuthRequired, Ended, KeyReady, SessionEvent
from ovpn_dco.protocol.session_server import ServerSession

SERVER_ADDRESS = ("192.0.2.1", 1194)
OPTIONS = ("topology subnet", "ifconfig 10.8.0.2 255.255.255.0")
WRAPPINGS = ("plain", "tls-auth", "tls-crypt", "tls-crypt-v2")
FULL = proto_for(pull=True, epoch=True)
PRF_ONLY = IvProto.DATA_V2 | IvProto.REQUEST_PUSH


def settings(role: Role, seed: int = 0, **changes: Any) -> SessionSettings:
    values: dict[str, Any] = {
        "tls": lab.context(role),
        "random_bytes": random.Random(f"{seed}{role.value}").randbytes,
        "compatibility": describe(server=role is Role.SERVER),
        "timers": KeyTimers(reneg_s=0),
        "features": FULL,
    }
    return SessionSettings(**(values | changes))


LOGIN = ClientLogin("alice", "secret")


def profile(proto: IvProto = FULL) -> ClientProfile:
    said = announce(version="1", platform="linux", proto=proto, ciphers=DEFAULT_CIPHERS)
    return ClientProfile(announcement=said)


class Engine:
    """The two key slots of a data channel, as the events of a session say."""

    def __init__(self) -> None:
        self.slots: dict[KeySlot, DataKey | EpochKey] = {}

    def take(self, event: SessionEvent) -> None:
        if isinstance(event, KeyReady):
            assert event.slot not in self.slots, "a key was to be deleted first"
            self.slots[event.slot] = event.key
        elif isinstance(event, KeyPromotionDue):
            first, second = self.slots.get(KeySlot.PRIMARY), self.slots.pop(KeySlot.SECONDARY)
            assert second.key_id == event.key_id
            self.slots[KeySlot.PRIMARY] = second
            if first is not None:
                self.slots[KeySlot.SECONDARY] = first
        elif isinstance(event, KeyExpired):
            keep = {slot: key for slot, key in self.slots.items() if key.key_id != event.key_id}
            self.slots = keep
        elif isinstance(event, Ended):
            self.slots = {}

    def key(self, key_id: int) -> DataKey | EpochKey | None:
        return next((key for key in self.slots.values() if key.key_id == key_id), None)


class Network:
    """A client, a server that makes its session when the cookie comes back, and a lossy link."""

    def __init__(
        self,
        kind: str = "tls-crypt",
        *,
        seed: int = 0,
        loss: float = 0.0,
        doubling: float = 0.0,
        jitter_s: float = 0.0,
        proto: IvProto = FULL,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        login: ClientLogin = LOGIN,
    ) -> None:
        self.now = float(NOW)
        self.drawn = random.Random(seed)
        self.links: dict[Role, LossyLink[bytes]] = {
            role: LossyLink(self.drawn, loss, doubling, jitter_s=jitter_s) for role in Role
        }
        self.front = stateless(kind)
        self.client = ClientSession(
            settings(Role.CLIENT, seed, **({"features": proto} | (client or {}))),
            login,
            profile(proto),
            wrapping=ENDS[kind]()[0],
            address=SERVER_ADDRESS,
        )
        self.server_settings = settings(Role.SERVER, seed, **(server or {}))
        self.server: ServerSession | None = None
        self.events: dict[Role, list[SessionEvent]] = {role: [] for role in Role}
        self.engines = {role: Engine() for role in Role}
        self.alarms: list[tuple[float, Callable[[], None]]] = []
        self.refused: list[ProtocolError] = []
        self.sent: dict[Role, list[bytes]] = {role: [] for role in Role}
        self.decide: Callable[[ServerSession, AuthRequired, float], None] = self.let_in
        self.client.start(self.now)

    @staticmethod
    def let_in(session: ServerSession, asked: AuthRequired, now: float) -> None:
        session.accept(now, username=asked.username, peer_id=7, options=OPTIONS)

    @property
    def sessions(self) -> dict[Role, Session]:
        ends: dict[Role, Session] = {Role.CLIENT: self.client}
        return ends | ({Role.SERVER: self.server} if self.server else {})

    def collect(self) -> None:
        for role, session in self.sessions.items():
            while (event := session.next_event()) is not None:
                self.events[role].append(event)
                self.engines[role].take(event)
                if isinstance(event, AuthRequired) and self.server is not None:
                    self.decide(self.server, event, self.now)

    def flush(self) -> None:
        for role, session in self.sessions.items():
            for data in session.packets_to_send(self.now):
                self.sent[role].append(data)
                self.links[role].send(data, self.now)

    def deliver(self, role: Role, data: bytes) -> None:
        try:
            if role is Role.CLIENT:
                self.client.receive(data, SERVER_ADDRESS, self.now)
            elif self.server is not None:
                self.server.receive(data, ADDRESS, self.now)
            else:
                self.open(data)
        except ProtocolError as error:
            self.refused.append(error)

    def open(self, data: bytes) -> None:
        outcome = self.front.receive(data, ADDRESS, self.now)
        if isinstance(outcome, Answer):
            self.links[Role.SERVER].send(outcome.data, self.now)
        else:
            self.server = ServerSession(
                self.server_settings, outcome, address=ADDRESS, now=self.now
            )

    def step(self) -> bool:
        self.collect()
        self.flush()
        times = [session.next_timeout() for session in self.sessions.values()]
        times += [link.next_arrival() for link in self.links.values()]
        times += [time for time, _ in self.alarms]
        known = [time for time in times if time is not None]
        if not known:
            return False
        self.now = max(self.now, min(known))
        due = [alarm for alarm in self.alarms if alarm[0] <= self.now]
        self.alarms = [alarm for alarm in self.alarms if alarm[0] > self.now]
        for _, call in due:
            call()
        for session in self.sessions.values():
            session.handle_timeout(self.now)
        for role in Role:
            for data in self.links[role.other].arrivals(self.now):
                self.deliver(role, data)
        self.collect()
        return True

    def run(self, reached: Callable[[], bool], *, steps: int = 3000) -> Network:
        for _ in range(steps):
            if reached() or not self.step():
                break
        assert reached(), f"{self.client} {self.server} {self.events}"
        return self

    def drain(self, seconds: float = 3) -> Network:
        """Lets all that flies arrive, for so long."""
        end = self.now + seconds
        while self.now < end and self.step():
            pass
        return self

    def has_key(self, key_id: int) -> bool:
        return all(engine.key(key_id) is not None for engine in self.engines.values())

    def connected(self) -> Network:
        return self.run(lambda: self.has_key(0))

    def every(self, role: Role, kind: type[Any]) -> list[Any]:
        return [event for event in self.events[role] if isinstance(event, kind)]

    def ended(self, role: Role) -> bool:
        return bool(self.every(role, Ended))

    def assert_keys_fit(self, key_id: int) -> None:
        ours, theirs = (self.engines[role].key(key_id) for role in Role)
        assert ours is not None
        assert theirs is not None
        assert_fit(ours, theirs)


def assert_fit(ours: DataKey | EpochKey, theirs: DataKey | EpochKey) -> None:
    """What one end seals, the other opens."""
    assert ours.key_id == theirs.key_id
    assert ours.cipher is theirs.cipher
    if isinstance(ours, EpochKey):
        assert isinstance(theirs, EpochKey)
        assert bytes(ours.encrypt_secret) == bytes(theirs.decrypt_secret)
        assert bytes(ours.decrypt_secret) == bytes(theirs.encrypt_secret)
    else:
        assert isinstance(theirs, DataKey)
        assert ours.encrypt == theirs.decrypt
        assert ours.decrypt == theirs.encrypt
