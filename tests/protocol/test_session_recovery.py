"""How a pair finds together again after lost acknowledgements and failed renegotiations."""

from __future__ import annotations

import pytest
from session_link import Network

from ovpn_dco.errors import InvalidArgument
from ovpn_dco.protocol.keyevents import KeyStage, KeyTimers
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session_events import AuthRequired, KeyReady, RenegotiationFailed


def silent(network: Network, *senders: Role) -> None:
    """Nothing of what these send arrives any more."""
    for role in Role:
        network.links[role].loss = 1.0 if role in senders else 0.0


def stages(network: Network) -> dict[Role, KeyStage]:
    return {role: session._primary.stage for role, session in network.sessions.items()}


def failed(network: Network, *roles: Role) -> bool:
    return all(network.every(role, RenegotiationFailed) for role in roles)


def one_sided(deaf: Role, *, decides: bool = True) -> Network:
    """Key id 1 is complete at one end. The other has got all, but hears no acknowledgement."""
    network = Network().connected().drain()
    if not decides:
        network.decide = lambda session, asked, now: None
    network.client.renegotiate()
    session, other = network.sessions[deaf], network.sessions[deaf.other]
    network.run(lambda: session._primary.key_id == 1 and session._primary._sent_key)
    session._primary._reliable._sender.acknowledge = lambda acks: None  # type: ignore[method-assign]
    network.run(lambda: other._primary.derived and other._primary.settled).drain(1)
    assert session._primary.exchanged
    assert stages(network)[deaf] in (KeyStage.SENT_KEY, KeyStage.GOT_KEY)
    return network


@pytest.mark.parametrize("deaf", list(Role))
def test_last_acknowledgement_is_lost(deaf: Role) -> None:
    """Nobody acknowledges a key id that was replaced, but the next soft reset says the same."""
    network = one_sided(deaf)
    network.sessions[deaf.other].renegotiate()
    network.run(lambda: network.has_key(2))
    for key_id in (1, 2):
        network.assert_keys_fit(key_id)
    assert not any(failed(network, role) for role in Role)


def test_login_without_a_decision_is_not_passed_over() -> None:
    """Not even by a client that has the keys and goes on."""
    network = one_sided(Role.SERVER, decides=False)
    network.client.renegotiate()
    network.drain(30)
    assert network.client._primary.key_id == 2
    assert network.server is not None
    assert network.server._primary.key_id == 1
    assert network.engines[Role.SERVER].key(1) is None
    network.server.accept(network.now, username="alice")
    network.decide = network.let_in
    network.run(lambda: network.has_key(2))
    network.assert_keys_fit(1)


@pytest.mark.parametrize("starter", list(Role))
@pytest.mark.parametrize("loser", list(Role))
def test_one_end_fails_and_the_other_does_not(starter: Role, loser: Role) -> None:
    """Either of them may begin the next one, and until it succeeds the loser keeps the old key."""
    network = one_sided(loser)
    network.run(lambda: failed(network, loser))
    assert stages(network) == {loser: KeyStage.FAILED, loser.other: KeyStage.ACTIVE}
    if starter is not loser:
        network.sessions[starter].renegotiate()
    network.run(lambda: network.has_key(2))
    network.assert_keys_fit(2)
    assert network.engines[loser].key(0) is not None
    assert not any(network.ended(role) for role in Role)
    assert [event.key_id for event in network.every(loser, KeyReady)] == [0, 2]


def test_both_fail_and_begin_again() -> None:
    network = Network().connected().drain()
    network.server.renegotiate()
    network.run(lambda: network.client._primary.key_id == 1)
    silent(network, *Role)
    network.run(lambda: failed(network, Role.SERVER))
    since = network.now
    network.run(lambda: failed(network, Role.CLIENT))
    silent(network)
    network.run(lambda: network.server._primary.key_id == 2)
    # The client, which began later, must not take the reset for the end of its own negotiation.
    assert network.now - since >= 60
    network.run(lambda: network.has_key(2))
    network.assert_keys_fit(2)


@pytest.mark.parametrize("who", list(Role))
def test_key_id_of_which_the_peer_never_heard_is_used_again(who: Role) -> None:
    network = Network().connected().drain()
    silent(network, who)
    network.sessions[who].renegotiate()
    network.run(lambda: failed(network, who))
    silent(network)
    network.run(lambda: network.has_key(1))
    network.assert_keys_fit(1)
    assert len(network.every(who, RenegotiationFailed)) == 1


def test_two_that_never_try_at_the_same_time() -> None:
    """Each begins when the other has just given up the same key id."""
    network = Network().connected().drain()
    silent(network, *Role)
    network.server.renegotiate()
    network.run(lambda: failed(network, Role.SERVER))
    network.client.renegotiate()
    network.client.handle_timeout(network.now)
    assert network.client._primary.key_id == 1
    silent(network)
    network.run(lambda: network.has_key(1))
    network.assert_keys_fit(1)
    assert not failed(network, Role.CLIENT)


@pytest.mark.parametrize("who", list(Role))
def test_peer_gives_up_what_still_goes_on_here(who: Role) -> None:
    """Its next soft reset says so; the login that waits here needs no decision."""
    network = Network(**{who.value: {"timers": KeyTimers(reneg_s=0, hand_window_s=1000)}})
    network.connected().drain()
    network.sessions[who].renegotiate()
    network.run(lambda: network.sessions[who.other]._primary.key_id == 1)
    silent(network, *Role)
    network.run(lambda: failed(network, who.other))
    assert stages(network)[who] in (KeyStage.PRE_START, KeyStage.START)
    silent(network)
    network.run(lambda: network.has_key(2))
    network.assert_keys_fit(2)
    assert [str(event.error) for event in network.every(who, RenegotiationFailed)] == [
        "the peer gave it up [ECONNRESET]"
    ]


def test_decision_that_comes_too_late_is_told_from_the_next_one() -> None:
    network = one_sided(Role.SERVER, decides=False)
    network.run(lambda: failed(network, Role.SERVER))
    server = network.server
    assert server is not None
    late = network.every(Role.SERVER, AuthRequired)[-1]
    assert not server.waits_for(late)
    with pytest.raises(InvalidArgument, match="no login waits"):
        server.accept(network.now, username="alice")
    network.run(lambda: len(network.every(Role.SERVER, AuthRequired)) == 3)
    asked = network.every(Role.SERVER, AuthRequired)[-1]
    assert server.waits_for(asked)
    assert not server.waits_for(late)
    server.accept(network.now, username="alice")
    assert not server.waits_for(asked)
    network.run(lambda: network.has_key(2))
