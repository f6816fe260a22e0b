"""A policy that governs who may reach whom: when it is asked, and when its answers take effect."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from security.forge import ip
from security.lab import PATIENCE_S, Lab, LabPeer

import ovpn_dco as dco
from ovpn_dco import DropReason, ForwardingMode, governor
from ovpn_dco.errors import error_for
from ovpn_dco.governor import Governor

pytestmark = pytest.mark.security


@pytest.fixture
def mesh() -> Iterator[Lab]:
    with Lab() as lab:
        for number in (7, 8, 9):
            lab.add_peer(number)
        yield lab


class Policy:
    """Says yes but to `denied`; of a pair in `slow` (None: of all) once the gate opens that was the
    last one when it was asked. `errors` are what it raises for a source."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.denied: set[tuple[int, int]] = set()
        self.errors: dict[int, BaseException] = {}
        self.gates: list[asyncio.Event] = []
        self.slow: set[tuple[int, int]] | None = None

    def shut(self, *slow: tuple[int, int]) -> asyncio.Event:
        self.gates.append(asyncio.Event())
        self.slow = set(slow) or None
        return self.gates[-1]

    async def __call__(self, source: dco.Peer, destination: dco.Peer) -> bool:
        pair = (source.peer_id, destination.peer_id)
        self.asked.append(pair)
        if self.gates and (self.slow is None or pair in self.slow):
            await self.gates[-1].wait()
        if source.peer_id in self.errors:
            raise self.errors[source.peer_id]
        return pair not in self.denied


def govern(mesh: Lab, policy: Policy, scenario: Callable[[Governor], Awaitable[None]]) -> None:
    async def body() -> None:
        async with mesh.device.forwarding.govern(policy) as working:
            await asyncio.wait_for(scenario(working), PATIENCE_S)

    asyncio.run(body())


async def until(look: Callable[[], object]) -> None:
    while not look():
        await asyncio.sleep(0.002)


def may(source: LabPeer, target: LabPeer, mesh: Lab) -> bool:
    return target.peer in mesh.device.forwarding.permitted(source.peer)


def reaches(source: LabPeer, target: LabPeer, mesh: Lab) -> bool:
    """Whether the engine thinks so, too."""
    outcome = mesh.deliver(source.forge.seal(ip(source.vpn, target.vpn)), sock=source.socket)
    assert not outcome.inner
    reached = outcome.drops.get(DropReason.RX_FORWARD_DENIED, 0) == 0
    assert may(source, target, mesh) == reached
    return reached


def test_policy(mesh: Lab) -> None:
    """Asked about pairs, not packets, when somebody comes; nothing passes before the answer."""
    alice, bob, carol = mesh.peers
    policy, forwarding = Policy(), mesh.device.forwarding
    policy.denied = {(7, 9), (8, 9)}
    policy.errors = {9: RuntimeError("no opinion")}

    async def scenario(working: Governor) -> None:
        assert forwarding.mode is ForwardingMode.PERMITTED
        assert len(policy.asked) == len(set(policy.asked)) == 6
        assert reaches(alice, bob, mesh)
        assert not reaches(alice, carol, mesh)
        assert not reaches(carol, alice, mesh), "an exception is no"
        with pytest.raises(dco.Busy):
            forwarding.set_mode("all")
        with pytest.raises(dco.Busy):
            forwarding.permit(alice.peer, [])
        gate = policy.shut()
        dave = await asyncio.to_thread(mesh.add_peer, 10)
        await until(lambda: len(policy.asked) == 12)
        assert not reaches(alice, dave, mesh)
        assert not reaches(dave, bob, mesh)
        gate.set()
        await until(lambda: may(alice, dave, mesh))
        assert reaches(alice, dave, mesh)
        policy.asked.clear()
        await working.judge_all()
        assert len(policy.asked) == len(set(policy.asked)) == 12

    govern(mesh, policy, scenario)
    assert forwarding.mode is ForwardingMode.OFF
    packet = ip(alice.vpn, bob.vpn)
    assert mesh.deliver(alice.forge.seal(packet), sock=alice.socket).inner == [packet]


def test_no_waits_for_no_other_answer(mesh: Lab) -> None:
    alice, bob, _ = mesh.peers
    policy = Policy()

    async def scenario(working: Governor) -> None:
        assert reaches(alice, bob, mesh)
        policy.denied = {(7, 8)}
        gate = policy.shut((8, 7))
        judged = asyncio.create_task(working.judge_all())
        await until(lambda: not may(alice, bob, mesh))
        assert not reaches(alice, bob, mesh)
        assert reaches(bob, alice, mesh), "as before, until it is answered"
        assert not judged.done()
        gate.set()
        await judged
        assert reaches(bob, alice, mesh)

    govern(mesh, policy, scenario)


def test_who_is_set_anew_reaches_nobody_until_it_is_judged(mesh: Lab) -> None:
    """By an answer to a question that came after that."""
    alice, bob, carol = mesh.peers
    policy = Policy()

    async def scenario(working: Governor) -> None:
        before = policy.shut((7, 8), (8, 7))
        judged = asyncio.create_task(working.judge_all())
        await until(lambda: {(7, 8), (8, 7)} <= set(policy.asked[6:]))
        after = policy.shut()
        await asyncio.to_thread(bob.peer.set, vpn_ipv4="10.9.0.99")
        bob.vpn = "10.9.0.99"
        await until(lambda: not may(alice, bob, mesh))
        before.set()
        await until(lambda: policy.asked.count((7, 8)) == 3)
        for one, other in ((alice, bob), (bob, carol)):
            assert not reaches(one, other, mesh)
            assert not reaches(other, one, mesh)
        assert reaches(alice, carol, mesh)
        after.set()
        await judged
        await until(lambda: may(alice, bob, mesh))
        assert reaches(alice, bob, mesh)

    govern(mesh, policy, scenario)


def test_a_policy_that_cancels_itself_says_no(mesh: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """And is asked about the next one as ever."""
    alice, _, carol = mesh.peers
    policy = Policy()
    policy.errors = {9: asyncio.CancelledError()}

    async def scenario(_: Governor) -> None:
        for number in (10, 11):
            guest = await asyncio.to_thread(mesh.add_peer, number)
            await until(lambda guest=guest: may(alice, guest, mesh))
            assert not reaches(carol, guest, mesh)

    govern(mesh, policy, scenario)
    assert (
        "from peer 9 to peer 11 nothing goes: the policy failed with CancelledError" in caplog.text
    )


def test_a_judgement_that_is_given_up_is_made_up_for(
    mesh: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """Meanwhile all is as it was."""
    alice, bob, _ = mesh.peers
    policy = Policy()

    async def scenario(working: Governor) -> None:
        gate = policy.shut()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(working.judge_all(), 0.05)
        assert reaches(alice, bob, mesh)
        policy.asked.clear()
        policy.denied = {(7, 8)}
        gate.set()
        await until(lambda: not may(alice, bob, mesh))

    with caplog.at_level(logging.WARNING):
        govern(mesh, policy, scenario)
    assert caplog.text == ""


def test_what_cannot_be_set_is_set_later(
    mesh: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, _ = mesh.peers
    policy, forwarding = Policy(), mesh.device.forwarding
    permit, failures = forwarding.permit_quietly, [error_for(errno.ENOMEM, "permit")] * 2
    monkeypatch.setattr(governor, "RETRY_S", 0.01)

    def short_of_memory(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        permit(*arguments)

    async def scenario(working: Governor) -> None:
        monkeypatch.setattr(forwarding, "permit_quietly", short_of_memory)
        policy.denied = {(7, 8)}
        await working.judge_all()
        await until(lambda: not may(alice, bob, mesh))
        assert not failures
        assert not reaches(alice, bob, mesh)

    govern(mesh, policy, scenario)
    assert "what peer 7 may reach is not set yet" in caplog.text


def test_many_peers_hold_up_nobody(mesh: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have their turn between permits; and not each permit is a look at all peers."""
    for number in range(10, 40):
        mesh.add_peer(number)
    forwarding, backend = mesh.device.forwarding, mesh.device.peers.backend
    permit, peers = forwarding.permit_quietly, backend.peers
    looks, permits, most = 0, 0, 0

    def counted_peers() -> list[tuple[int, int]]:
        nonlocal looks
        looks += 1
        return peers()

    def counted_permit(*arguments: Any) -> None:
        nonlocal permits
        permits += 1
        permit(*arguments)

    async def others() -> None:
        nonlocal most, permits
        while True:
            most, permits = max(most, permits), 0
            await asyncio.sleep(0)

    async def scenario(working: Governor) -> None:
        nonlocal looks
        monkeypatch.setattr(forwarding, "permit_quietly", counted_permit)
        beside = asyncio.create_task(others())
        guest = await asyncio.to_thread(mesh.add_peer, 40)
        await until(lambda: may(mesh.peers[0], guest, mesh))
        beside.cancel()
        looks = 0
        await working.judge_all()

    monkeypatch.setattr(backend, "peers", counted_peers)
    govern(mesh, Policy(), scenario)
    assert most == 1
    assert looks < 10
