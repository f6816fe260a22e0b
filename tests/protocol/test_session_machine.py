"""Two sessions, and an adversary that decides what becomes of each packet, and when."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from lossy_link import LossyLink
from session_link import FULL, PRF_ONLY, WRAPPINGS, Network, assert_fit

from ovpn_dco.model import DataKey, EpochKey, KeySlot
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session_events import KeyReady, PeerReady

ROLES = st.sampled_from(list(Role))
# A failed attempt, the wait after it, another attempt, and the promotion of its key.
HEALED_S = 300.0


class HeldLink(LossyLink[bytes]):
    """Keeps packets until somebody decides about them."""

    def __init__(self) -> None:
        self.held: list[bytes] = []

    def send(self, packet: bytes, now: float) -> None:
        self.held.append(packet)

    def arrivals(self, now: float) -> list[bytes]:
        return []

    def next_arrival(self) -> float | None:
        return None


class TwoSessions(RuleBasedStateMachine):
    """Nothing raises, keys with the same number fit, and a good link heals everything."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()

    @initialize(
        kind=st.sampled_from(WRAPPINGS),
        proto=st.sampled_from((FULL, PRF_ONLY)),
        seed=st.integers(0, 1000),
        connected=st.booleans(),
    )
    def begin(self, kind: str, proto: int, seed: int, connected: bool) -> None:
        self.network = Network(kind, seed=seed, proto=proto)
        if connected:
            self.network.connected()
        self.links = {role: HeldLink() for role in Role}
        self.network.links.update(self.links)
        self.network.flush()

    def settle(self) -> None:
        self.network.collect()
        self.network.flush()

    @rule(sender=ROLES, which=st.integers(0, 9), keep=st.booleans())
    def deliver(self, sender: Role, which: int, keep: bool) -> None:
        """The next packet or a later one; it may come again."""
        held = self.links[sender].held
        if held:
            at = min(which, len(held) - 1)
            data = held[at] if keep else held.pop(at)
            self.network.deliver(sender.other, data)
            self.settle()

    @rule(sender=ROLES, count=st.integers(1, 5))
    def drop(self, sender: Role, count: int) -> None:
        del self.links[sender].held[:count]

    @rule(rounds=st.integers(1, 6))
    def let_all_arrive(self, rounds: int) -> None:
        for _ in range(rounds):
            for sender in Role:
                for data in self.links[sender].held[:]:
                    self.links[sender].held.remove(data)
                    self.network.deliver(sender.other, data)
                self.settle()

    @rule(seconds=st.sampled_from((0.1, 3.0, 20.0, 61.0)))
    def wait(self, seconds: float) -> None:
        self.network.now += seconds
        self.handle_timeouts()

    @rule(senders=st.sets(ROLES, min_size=1), seconds=st.sampled_from((50, 100, 200)))
    def silence(self, senders: set[Role], seconds: int) -> None:
        """Of these nothing arrives for so long; the others are heard."""
        for _ in range(seconds // 10):
            for sender in Role:
                held, self.links[sender].held = self.links[sender].held, []
                for data in held if sender not in senders else ():
                    self.network.deliver(sender.other, data)
            self.settle()
            self.wait(10.0)

    @rule()
    def wait_for_what_is_due(self) -> None:
        times = [session.next_timeout() for session in self.network.sessions.values()]
        known = [time for time in times if time is not None and time > -math.inf]
        self.network.now = max(self.network.now, min(known, default=self.network.now))
        self.handle_timeouts()

    def handle_timeouts(self) -> None:
        for session in self.network.sessions.values():
            session.handle_timeout(self.network.now)
        self.settle()

    @rule(role=ROLES)
    def renegotiate(self, role: Role) -> None:
        if role in self.network.sessions:
            self.network.sessions[role].renegotiate()
            self.handle_timeouts()

    @rule()
    def leave(self) -> None:
        # No precondition: signatures differ in length from run to run, and so may what is reached.
        if self.network.every(Role.CLIENT, PeerReady):
            self.network.client.leave(self.network.now)
            self.settle()

    # What must always be true

    @invariant()
    def keys_fit(self) -> None:
        ours, theirs = (numbered(self.network, role) for role in Role)
        for number in ours.keys() & theirs.keys():
            assert_fit(ours[number], theirs[number])

    @invariant()
    def something_is_to_come_until_the_end(self) -> None:
        for session in self.network.sessions.values():
            at_rest = session._primary.derived and session._primary.settled
            if session.is_finished:
                assert session.next_timeout() is None
            elif not at_rest:
                assert session.next_timeout() is not None

    @invariant()
    def a_key_seals_until_the_end(self) -> None:
        for role in Role:
            if self.network.every(role, KeyReady) and not self.network.ended(role):
                session = self.network.sessions[role]
                if session._lame_ducks or session._primary.key_id == 0:
                    assert KeySlot.PRIMARY in self.network.engines[role].slots

    @invariant()
    def nobody_runs_ahead(self) -> None:
        if not any(self.network.ended(role) for role in Role) and self.network.server:
            client, server = (one._primary.key_id for one in self.network.sessions.values())
            assert min((client - server) % 7, (server - client) % 7) <= 1

    def teardown(self) -> None:
        network = self.network
        network.links.update({role: LossyLink(network.drawn) for role in Role})
        end_s = network.now + HEALED_S
        while network.now < end_s and not self.is_healed() and network.step():
            pass
        assert self.is_healed(), f"{network.client} {network.server}"

    def is_healed(self) -> bool:
        network = self.network
        if any(network.ended(role) for role in Role):
            return True
        primaries = [engine.slots.get(KeySlot.PRIMARY) for engine in network.engines.values()]
        if any(one is None for one in primaries):
            return False
        sessions = network.sessions.values()
        settled = all(one._primary.derived and not one._renegotiation_wanted for one in sessions)
        same = len({one.key_id for one in primaries if one}) == 1
        return settled and same and len({one._primary.key_id for one in sessions}) == 1


def numbered(network: Network, role: Role) -> dict[int, DataKey | EpochKey]:
    """The keys that an end has had, by their number: key ids go 0, 1, ... 7, 1, ..."""
    keys: dict[int, DataKey | EpochKey] = {}
    for event in network.every(role, KeyReady):
        number = max(keys, default=-1) + 1
        while event.key_id != (number and (number - 1) % 7 + 1):
            number += 1
        keys[number] = event.key
    return keys


TwoSessions.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_any_order_of_events = TwoSessions.TestCase
