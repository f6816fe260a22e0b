"""Two key-states and the link between them, with a session at each end that does the minimum."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import certificate_lab as lab
from lossy_link import LossyLink

from ovpn_dco.protocol.keyevents import KeyActive, KeyEvent, KeyMessageReceived
from ovpn_dco.protocol.keystate import KeyState
from ovpn_dco.protocol.reliable import Outgoing, Receipt
from ovpn_dco.protocol.role import Role


def dice(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def key_state(role: Role, key_id: int = 0, **options: Any) -> KeyState:
    options = {"tls": lab.context(role), "random_bytes": dice(len(role.value))} | options
    return KeyState(role=role, key_id=key_id, **options)


class Pair:
    """Client and server; `step` carries packets, `run` does so until nothing is left to do."""

    def __init__(
        self,
        client: KeyState,
        server: KeyState,
        *,
        seed: int = 0,
        loss: float = 0.0,
        doubling: float = 0.0,
        jitter_s: float = 0.0,
    ) -> None:
        self.client, self.server = client, server
        self.now = 100.0
        drawn = random.Random(seed)
        self.links: dict[Role, LossyLink[Outgoing]] = {
            role: LossyLink(drawn, loss, doubling, jitter_s=jitter_s) for role in Role
        }
        self.events: dict[Role, list[KeyEvent]] = {role: [] for role in Role}
        self.sent: dict[Role, list[Outgoing]] = {role: [] for role in Role}
        self.answers = True

    @property
    def states(self) -> tuple[KeyState, KeyState]:
        return self.client, self.server

    def start(self) -> None:
        self.client.send_key_message(
            now=self.now, options="V4,c", username="alice", password="secret", peer_info="IV_X=1\n"
        )
        for state in self.states:
            state.start(self.now)

    def collect(self) -> None:
        for state in self.states:
            while (event := state.next_event()) is not None:
                self.events[state.role].append(event)
                asked = state.role is Role.SERVER and isinstance(event, KeyMessageReceived)
                if asked and self.answers:
                    state.send_key_message(now=self.now, options="V4,s")

    def step(self) -> bool:
        """One moment: all that is due leaves, and time goes on to what comes next, if it does."""
        self.collect()
        for state in self.states:
            for packet in state.packets_to_send(self.now):
                self.sent[state.role].append(packet)
                self.links[state.role].send(packet, self.now)
        times = [state.next_timeout() for state in self.states]
        times += [link.next_arrival() for link in self.links.values()]
        known = [time for time in times if time is not None]
        if not known:
            return False
        self.now = max(self.now, min(known))
        for state in self.states:
            state.handle_timeout(self.now)
            for packet in self.links[state.role.other].arrivals(self.now):
                give(state, packet, self.now)
        self.collect()
        return True

    def run(self, until: Callable[[], bool] | None = None) -> None:
        reached = until or self.both_active
        for _ in range(5000):
            if reached() or not self.step():
                break
        assert reached(), f"{self.client} {self.server}"

    def both_active(self) -> bool:
        return all(self.count(role, KeyActive) == 1 for role in Role)

    def count(self, role: Role, kind: type[KeyEvent]) -> int:
        return sum(isinstance(event, kind) for event in self.events[role])

    def kinds(self, role: Role) -> list[str]:
        return [type(event).__name__ for event in self.events[role]]


def made(client: dict[str, Any] | None = None, server: dict[str, Any] | None = None) -> Pair:
    """A pair that has negotiated."""
    pair = Pair(key_state(Role.CLIENT, **(client or {})), key_state(Role.SERVER, **(server or {})))
    pair.start()
    pair.run()
    return pair


def give(state: KeyState, packet: Outgoing, now: float = 100.0) -> Receipt:
    return state.receive(
        opcode=packet.opcode,
        message_id=packet.message_id,
        acks=packet.acks,
        payload=packet.payload,
        now=now,
    )
