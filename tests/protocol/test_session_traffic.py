"""Data packets all the while, sealed with what the events of one end have made of its key slots:
none may come to an end that has no such key at that moment."""

from __future__ import annotations

import pytest
from session_link import WRAPPINGS, Network

from ovpn_dco.model import KeySlot
from ovpn_dco.protocol.keyevents import KeyPromotionDue, KeyStage, KeyTimers
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.wire import Opcode

STARTERS = [(Role.CLIENT,), (Role.SERVER,), tuple(Role)]


class Busy(Network):
    """Each end seals a packet whenever it sends, and every 10 ms. The links keep the order: a data
    packet comes when the receiver has the control packets before it, and may not have acted upon
    them."""

    carried = 0

    def flush(self) -> None:
        super().flush()
        self.alarms = [(self.now + 0.01, lambda: None)]
        if all(KeySlot.PRIMARY in engine.slots for engine in self.engines.values()):
            for role, engine in self.engines.items():
                key_id = engine.slots[KeySlot.PRIMARY].key_id
                self.links[role].send(bytes([Opcode.DATA_V2 << 3 | key_id]), self.now)

    def deliver(self, role: Role, data: bytes) -> None:
        if data[0] >> 3 != Opcode.DATA_V2:
            super().deliver(role, data)
            return
        assert self.engines[role].key(data[0] & 7) is not None, f"lost at the {role.value}"
        self.carried += 1

    def renegotiate(self, *starters: Role) -> None:
        """Until all of them have begun, and no longer."""
        sessions = [self.sessions[role] for role in starters]
        for session in sessions:
            session.renegotiate()
        self.run(lambda: not any(session._renegotiation_wanted for session in sessions))


@pytest.mark.parametrize("starters", STARTERS, ids=["client", "server", "both"])
@pytest.mark.parametrize("kind", WRAPPINGS)
@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_renegotiations_lose_nothing(
    starters: tuple[Role, ...], kind: str, loss: float, seed: int
) -> None:
    """However soon the next one follows: then the key before the last may still be in use, and the
    last not be there at the other end."""
    network = Busy(kind, seed=seed, loss=loss).connected().drain(1)
    for _ in range(3):
        network.renegotiate(*starters)
    network.run(lambda: network.has_key(3))
    assert network.carried > 100


def with_next_key() -> Network:
    """At both ends, where it does not seal yet."""
    network = Network().connected().drain(1)
    network.client.renegotiate()
    network.run(lambda: network.has_key(1))
    return network.run(lambda: all(one.has_arrived for one in network.sessions.values()))


def promoted(network: Network) -> list[int]:
    return [event.key_id for event in network.every(Role.CLIENT, KeyPromotionDue)]


def test_next_key_seals_in_time_though_the_one_after_it_never_comes() -> None:
    """The peer is silent from then on, and so cannot say that it has the key."""
    network = with_next_key()
    network.links[Role.SERVER].loss = 1.0
    network.client.renegotiate()
    network.run(lambda: promoted(network) == [1])
    slots = network.engines[Role.CLIENT].slots
    assert (slots[KeySlot.PRIMARY].key_id, slots[KeySlot.SECONDARY].key_id) == (1, 0)
    assert network.client._primary.stage is KeyStage.PRE_START


def test_what_has_carried_enough_is_the_key_that_seals() -> None:
    """Its successor has carried nothing yet."""
    network = Network().connected().drain(1)
    for key_id in (1, 2):
        network.client.renew()
        network.run(lambda: not network.client._renegotiation_wanted)
        network.client.renew()
        network.run(lambda key_id=key_id: network.has_key(key_id))
        network.client.renew()
        assert not network.client._renegotiation_wanted
        network.run(lambda key_id=key_id: promoted(network)[-1:] == [key_id])
    assert network.client._primary.key_id == 2


def test_each_key_seals_at_its_own_time() -> None:
    """That of the key before it comes earlier, and says nothing about the next one."""
    network = with_next_key()
    network.now += KeyTimers().hand_window_s / 2
    since = network.now
    network.client.renegotiate()
    network.run(lambda: network.has_key(2))
    assert promoted(network) == [1]
    network.run(lambda: promoted(network) == [1, 2])
    assert network.now - since >= KeyTimers().hand_window_s
