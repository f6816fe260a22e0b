"""Handshakes and renegotiations over bad links, a scenario for each seed; run as a program, many.

    python tests/control_soak.py --negotiations 10000

A pair that sticks, or whose ends disagree about a key, fails its scenario. The seed of each that
failed is printed, and `--seed` runs it again."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import click
from rich.console import Console
from rich.progress import Progress
from session_link import FULL, OPTIONS, PRF_ONLY, WRAPPINGS, Network, assert_fit

from ovpn_dco.model import DataKey, EpochKey, KeySlot
from ovpn_dco.protocol.peerinfo import IvProto
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session_events import (
    AuthRequired,
    Ended,
    EndReason,
    KeyReady,
    RenegotiationFailed,
)
from ovpn_dco.protocol.session_server import ServerSession

FEATURES = {"epoch": FULL, "exporter": FULL & ~IvProto.DATA_EPOCH, "messages": PRF_ONLY}
STARTERS = ((Role.CLIENT,), (Role.SERVER,), (Role.CLIENT, Role.SERVER))
WORST_LOSS = 0.25
SILENCES = 0.1
AGAIN = 0.3
# Several failed attempts in a row, each a hand-window and the wait after it.
PATIENCE_S = 1200.0
CALM_S = 300.0
ATTEMPTS = 5
# So many failed scenarios tell enough.
FAILURES = 10


@dataclass(frozen=True)
class Silence:
    """For a time, nothing arrives of what these ends send."""

    after_s: float
    lasting_s: float
    senders: tuple[Role, ...]


@dataclass(frozen=True)
class Renegotiation:
    """`starters` begin one after a pause; with `again` the first of them wants another one while it
    is still going on."""

    pause_s: float
    starters: tuple[Role, ...]
    again: bool
    silence: Silence | None

    @classmethod
    def of(cls, drawn: random.Random) -> Renegotiation:
        silence = None
        if drawn.random() < SILENCES:
            silence = Silence(drawn.uniform(0, 3), drawn.uniform(20, 200), drawn.choice(STARTERS))
        return cls(
            pause_s=drawn.choice((0.0, 0.0, 1.0, 100.0)),
            starters=drawn.choice(STARTERS),
            again=drawn.random() < AGAIN,
            silence=silence,
        )


@dataclass(frozen=True)
class Scenario:
    """All that happens, except what the link does; `seed` decides that, too."""

    seed: int
    wrapping: str
    features: str
    loss: float
    doubling: float
    delay_s: float
    jitter_s: float
    decision_s: float
    renegotiations: tuple[Renegotiation, ...]

    @classmethod
    def of(cls, seed: int) -> Scenario:
        drawn = random.Random(f"scenario {seed}")
        return cls(
            seed=seed,
            wrapping=WRAPPINGS[seed % len(WRAPPINGS)],
            features=list(FEATURES)[seed // len(WRAPPINGS) % len(FEATURES)],
            loss=drawn.uniform(0, WORST_LOSS),
            doubling=drawn.uniform(0, 0.2),
            delay_s=drawn.uniform(0.005, 0.3),
            jitter_s=drawn.choice((0.0, 0.05, 0.5)),
            decision_s=drawn.choice((0.0, 0.0, 0.5, 10.0)),
            renegotiations=tuple(Renegotiation.of(drawn) for _ in range(drawn.randint(2, 9))),
        )


@dataclass
class Outcome:
    """What was done, and how often a link was so bad that an attempt was given up."""

    negotiations: int = 0
    counts: Counter[str] = field(default_factory=Counter)


class Pair(Network):
    """Numbers the keys of both ends as they come, and compares those with the same number."""

    def __init__(self, scenario: Scenario, attempt: int) -> None:
        self.keys: dict[Role, dict[int, DataKey | EpochKey]] = {role: {} for role in Role}
        self._read = dict.fromkeys(Role, 0)
        super().__init__(
            scenario.wrapping,
            seed=scenario.seed + (attempt << 32),
            loss=scenario.loss,
            doubling=scenario.doubling,
            jitter_s=scenario.jitter_s,
            proto=FEATURES[scenario.features],
        )
        self._loss, self._decision_s = scenario.loss, scenario.decision_s
        self.decide = self._decide_later
        for link in self.links.values():
            link.delay_s = scenario.delay_s

    def _decide_later(self, session: ServerSession, asked: AuthRequired, now: float) -> None:
        def accept() -> None:
            # The negotiation may have failed in the meantime: then nobody waits for this.
            if session.waits_for(asked):
                session.accept(self.now, username=asked.username, peer_id=7, options=OPTIONS)

        if self._decision_s:
            self.alarms.append((now + self._decision_s, accept))
        else:
            accept()

    def collect(self) -> None:
        super().collect()
        for role in Role:
            for event in self.events[role][self._read[role] :]:
                if isinstance(event, KeyReady):
                    self._add(role, event.key)
            self._read[role] = len(self.events[role])

    def _add(self, role: Role, key: DataKey | EpochKey) -> None:
        # Key ids go 0, 1, ... 7, 1, ...; those of failed negotiations are left out.
        number = max(self.keys[role], default=-1) + 1
        while key.key_id != (number and (number - 1) % 7 + 1):
            number += 1
        self.keys[role][number] = key
        other = self.keys[role.other].get(number)
        if other is not None:
            assert_fit(key, other)

    @property
    def agreed(self) -> set[int]:
        """Numbers of the keys that both ends have had."""
        return self.keys[Role.CLIENT].keys() & self.keys[Role.SERVER].keys()

    @property
    def newest(self) -> int:
        """The last of them; -1 for none."""
        return max(self.agreed, default=-1)

    @property
    def over(self) -> bool:
        return any(self.ended(role) for role in Role)

    def pass_time(self, seconds: float) -> None:
        end_s = self.now + seconds
        self.alarms.append((end_s, lambda: None))
        while self.now < end_s and self.step():
            pass

    def renegotiate(self, plan: Renegotiation) -> None:
        if plan.silence is not None:
            self.alarms.append((self.now + plan.silence.after_s, lambda: self._silence(plan)))
        sessions = [self.sessions[role] for role in plan.starters]
        before = self.newest
        for session in sessions:
            session.renegotiate()
        if plan.again:
            while sessions[0]._renegotiation_wanted and not self.over:
                assert self.step(), f"nothing left to do: {self.client} {self.server}"
            sessions[0].renegotiate()
        self.until_newer_than(before)

    def _silence(self, plan: Renegotiation) -> None:
        assert plan.silence is not None
        for role in plan.silence.senders:
            self.links[role].loss = 1.0
        self.alarms.append((self.now + plan.silence.lasting_s, self._talk_again))

    def _talk_again(self) -> None:
        for link in self.links.values():
            link.loss = self._loss

    @property
    def at_rest(self) -> bool:
        """Both ends have done all that they wanted, and agree on what that is."""
        sessions = self.sessions.values()
        if any(one._renegotiation_wanted or not one._primary.derived for one in sessions):
            return False
        return len({one._primary.key_id for one in sessions}) == 1

    def until_newer_than(self, number: int) -> None:
        limit_s = self.now + PATIENCE_S
        while not self.over and not (self.newest > number and self.at_rest):
            assert self.now < limit_s, f"stuck: {self.client} {self.server}"
            assert self.step(), f"nothing left to do: {self.client} {self.server}"

    def assert_alive(self) -> None:
        """With a good link again, each end seals with a key that the other has, and the same."""
        for link in self.links.values():
            link.loss = 0.0
        self.pass_time(CALM_S)
        assert not self.over, self.events
        ours, theirs = (self.engines[role].slots[KeySlot.PRIMARY] for role in Role)
        assert_fit(ours, theirs)


def run(scenario: Scenario) -> Outcome:
    """Raises AssertionError where something is wrong."""
    outcome = Outcome()
    pair = connect(scenario, outcome)
    for plan in scenario.renegotiations:
        pair.pass_time(plan.pause_s)
        pair.renegotiate(plan)
        assert not pair.over, pair.events
    pair.assert_alive()
    outcome.negotiations += len(pair.agreed)
    for role in Role:
        outcome.counts["renegotiation given up"] += len(pair.every(role, RenegotiationFailed))
    return outcome


def connect(scenario: Scenario, outcome: Outcome) -> Pair:
    """A client tries again when the hand-window was over."""
    for attempt in range(ATTEMPTS):
        pair = Pair(scenario, attempt)
        pair.until_newer_than(-1)
        if not pair.over:
            return pair
        reasons = {event.reason for role in Role for event in pair.every(role, Ended)}
        assert reasons <= {EndReason.NEGOTIATION_TIMEOUT, EndReason.LOGIN_TIMEOUT}, reasons
        outcome.counts["handshake given up"] += 1
    raise AssertionError("never connected")


class Tally:
    """Of many scenarios."""

    def __init__(self) -> None:
        self.scenarios = self.negotiations = 0
        self.counts: Counter[str] = Counter()
        self.failed_seeds: list[int] = []

    def add(self, seed: int, console: Console) -> int:
        """Runs one, tells if it fails, and gives the number of its negotiations."""
        self.scenarios += 1
        try:
            outcome = run(Scenario.of(seed))
        except Exception as error:
            self.failed_seeds.append(seed)
            console.print(f"seed {seed}: {type(error).__name__}: {error}", markup=False)
            return 0
        self.negotiations += outcome.negotiations
        self.counts += outcome.counts
        return outcome.negotiations

    def __str__(self) -> str:
        given_up = ", ".join(f"{count} times {what}" for what, count in self.counts.items())
        failed = f"{len(self.failed_seeds)} failed"
        return (
            f"{self.negotiations} negotiations in {self.scenarios} scenarios, {failed}; "
            f"{given_up or 'none given up'} (each end counts)"
        )


@click.command()
@click.option("--negotiations", default=10_000, show_default=True, help="How many to make.")
@click.option("--first-seed", default=0, show_default=True, help="Of the first scenario.")
@click.option("--seed", type=int, help="Run this scenario alone, and show what it is.")
def main(negotiations: int, first_seed: int, seed: int | None) -> None:
    """Handshakes and renegotiations over bad links, in memory."""
    console = Console()
    if seed is not None:
        console.print(Scenario.of(seed), run(Scenario.of(seed)))
        return
    tally = Tally()
    with Progress(*Progress.get_default_columns(), console=console) as progress:
        task = progress.add_task("negotiations", total=negotiations)
        while tally.negotiations < negotiations and len(tally.failed_seeds) < FAILURES:
            progress.advance(task, tally.add(first_seed + tally.scenarios, console))
    console.print(tally)
    raise SystemExit(bool(tally.failed_seeds))


if __name__ == "__main__":
    main()
