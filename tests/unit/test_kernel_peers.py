"""What is known of the peers of the kernel's driver, and the events that wait of them."""

from __future__ import annotations

import errno
import select
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.backend.kernel.events import EventQueue
from ovpn_dco.backend.kernel.peers import KernelPeer, KernelPeers
from ovpn_dco.errors import AddressInUse, DcoError, NotFound
from ovpn_dco.model import DeleteReason, InterfaceGone, Mode, PeerDeleted, PeerFloated, PeerStats
from ovpn_dco.validation.rules import PeerAttributes

IP4 = [bytes([10, 8, 0, n]) for n in range(1, 5)]
IP6 = [b"\xfd" + bytes(14) + bytes([n]) for n in range(1, 5)]


def attributes(peer_id: int | None = None, **more: object) -> PeerAttributes:
    return PeerAttributes(mode=Mode.MULTIPEER, new=peer_id is not None, peer_id=peer_id, **more)  # type: ignore[arg-type]


def add(peers: KernelPeers, generation: int, asked: PeerAttributes) -> KernelPeer:
    peers.judge_new(asked, 0)
    peer = KernelPeer(asked.peer_id or 0, generation, 1, tx_id=asked.peer_id or 0)
    peers.add(peer)
    peers.change(peer, asked)
    return peer


def test_an_address_has_one_owner_until_that_goes() -> None:
    peers = KernelPeers(Mode.MULTIPEER, 9)
    one = add(peers, 1, attributes(1, vpn_ipv4=IP4[0], vpn_ipv6=IP6[0]))
    for wanted in ({"vpn_ipv4": IP4[0]}, {"vpn_ipv4": IP4[1], "vpn_ipv6": IP6[0]}):
        with pytest.raises(AddressInUse):
            add(peers, 2, attributes(2, **wanted))
    two = add(peers, 3, attributes(2, vpn_ipv4=IP4[1]))
    with pytest.raises(AddressInUse):
        peers.judge_change(two, attributes(vpn_ipv4=IP4[0]))
    peers.judge_change(one, attributes(vpn_ipv4=IP4[0]))  # its own
    peers.change(one, attributes(vpn_ipv4=bytes(4)))
    peers.judge_change(two, attributes(vpn_ipv4=IP4[0]))
    peers.bury(one)
    assert peers.owner(IP6[0]) is None
    assert peers.owner(IP4[1]) is two


@pytest.mark.parametrize(("peer_id", "number"), [(1, errno.EEXIST), (3, errno.ENOSPC)])
def test_refusals_of_a_new_peer(peer_id: int, number: int) -> None:
    peers = KernelPeers(Mode.MULTIPEER, 2)
    add(peers, 1, attributes(1, vpn_ipv4=IP4[0]))
    add(peers, 2, attributes(2, vpn_ipv6=IP6[0]))
    with pytest.raises(DcoError) as caught:
        peers.judge_new(attributes(peer_id, vpn_ipv4=IP4[1]), 0)
    assert caught.value.errno == number


def test_deletions_that_nobody_reads_of_are_bounded() -> None:
    peers = KernelPeers(Mode.MULTIPEER, 2)
    with pytest.raises(DcoError) as caught:
        peers.judge_new(attributes(1, vpn_ipv4=IP4[0]), 2)
    assert caught.value.errno == errno.ENOBUFS


def test_a_peer_keeps_an_address() -> None:
    peers = KernelPeers(Mode.MULTIPEER, 2)
    peer = add(peers, 1, attributes(1, vpn_ipv4=IP4[0]))
    with pytest.raises(DcoError) as caught:
        peers.judge_change(peer, attributes(vpn_ipv4=bytes(4)))
    assert (caught.value.errno, caught.value.attribute) == (errno.EINVAL, "vpn_ipv4")
    peers.judge_change(peer, attributes(vpn_ipv4=bytes(4), vpn_ipv6=IP6[0]))


def test_p2p_has_one_peer_which_has_every_address() -> None:
    peers = KernelPeers(Mode.P2P, 1)
    one, two = KernelPeer(1, 1, 1, tx_id=1), KernelPeer(2, 2, 1, tx_id=2)
    assert peers.owner(IP4[0]) is None
    peers.add(one)
    peers.judge_new(attributes(1), 0)
    peers.add(two)
    assert list(peers) == [two]
    assert peers.owner(IP4[0]) is two
    assert peers.told(1) is one  # which does not bury the other
    assert peers.told(1) is None
    assert peers.find((2, 0), "set_peer") is two


def test_generations_tell_peers_apart() -> None:
    peers = KernelPeers(Mode.MULTIPEER, 9)
    one = add(peers, 1, attributes(1, vpn_ipv4=IP4[0]))
    peers.bury(one)
    two = add(peers, 2, attributes(1, vpn_ipv4=IP4[0]))
    with pytest.raises(NotFound):
        peers.find(one.ref, "set_peer")
    assert peers.of_generation(1) is one
    assert peers.told(1) is one
    assert peers.of_generation(1) is None
    assert peers.find(two.ref, "set_peer") is two
    assert peers.owner(IP4[0]) is two


@dataclass
class Known:
    """A peer of the model."""

    peer_id: int
    ipv4: bytes | None
    ipv6: bytes | None


maybe4, maybe6 = st.sampled_from([None, *IP4]), st.sampled_from([None, *IP6])
steps = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 5), maybe4, maybe6),
    st.tuples(st.just("change"), st.integers(1, 5), maybe4, maybe6),
    st.tuples(st.just("bury"), st.integers(1, 5), st.none(), st.none()),
)


@given(st.lists(steps, max_size=40))
def test_peers_are_as_a_simple_model_has_them(script: list[tuple[str, int, bytes, bytes]]) -> None:
    peers, model = KernelPeers(Mode.MULTIPEER, 3), dict[int, Known]()
    handles: dict[int, KernelPeer] = {}
    for generation, (step, peer_id, ipv4, ipv6) in enumerate(script, 1):
        taken = {
            ip for one in model.values() if one.peer_id != peer_id for ip in (one.ipv4, one.ipv6)
        } - {None}
        asked = attributes(peer_id, vpn_ipv4=ipv4, vpn_ipv6=ipv6)
        clash = ipv4 in taken or ipv6 in taken
        if step == "add":
            bad = peer_id in model or len(model) == 3 or clash
            if bad:
                with pytest.raises(DcoError):
                    peers.judge_new(asked, 0)
            else:
                handles[peer_id] = add(peers, generation, asked)
                model[peer_id] = Known(peer_id, ipv4, ipv6)
        elif peer_id in model and step == "change":
            known = model[peer_id]
            after = Known(peer_id, ipv4 or known.ipv4, ipv6 or known.ipv6)
            if clash or not (after.ipv4 or after.ipv6):
                with pytest.raises(DcoError):
                    peers.judge_change(handles[peer_id], asked)
            else:
                peers.judge_change(handles[peer_id], asked)
                peers.change(handles[peer_id], asked)
                model[peer_id] = after
        elif peer_id in model:
            peers.bury(handles.pop(peer_id))
            del model[peer_id]
        owners = {ip: one.peer_id for one in model.values() for ip in (one.ipv4, one.ipv6) if ip}
        found = {ip: peer.peer_id for ip in IP4 + IP6 if (peer := peers.owner(ip))}
        assert found == owners
        assert sorted(peer.peer_id for peer in peers) == sorted(model)


# Events


def floated(sequence: int, peer_id: int = 1) -> PeerFloated:
    return PeerFloated(
        sequence=sequence, peer_id=peer_id, generation=1, remote=("127.0.0.1", 9), local=None
    )


def deleted(sequence: int) -> PeerDeleted:
    return PeerDeleted(
        sequence=sequence,
        peer_id=1,
        generation=1,
        reason=DeleteReason.TEARDOWN,
        stats=PeerStats(),
    )


def rings(queue: EventQueue) -> bool:
    return bool(select.select([queue.bell], [], [], 0)[0])


def test_a_later_event_of_the_same_takes_the_place() -> None:
    queue = EventQueue()
    queue.put(floated(1), 1)
    queue.put(floated(2, 2), 2)
    queue.put(floated(3), 1)
    queue.put(InterfaceGone(sequence=4, errno=errno.ENODEV))
    assert [event.sequence for _, event in queue.take(9)] == [2, 3, 4]


def test_it_rings_while_something_waits() -> None:
    queue = EventQueue()
    assert not rings(queue)
    for sequence in range(3):
        queue.put(floated(sequence), sequence, transport=sequence)
    assert [number for number, _ in queue.take(2)] == [0, 1]
    assert rings(queue)
    queue.take(2)
    assert not rings(queue)
    assert queue.take(2) == []
    queue.ring()
    queue.put(floated(9))
    queue.take(9)
    assert rings(queue)
    queue.close()
    queue.close()


def test_deletions_are_counted_until_they_are_read() -> None:
    queue = EventQueue()
    queue.put(deleted(1), 1)
    queue.put(deleted(2), 2)
    queue.put(deleted(3), 2)
    queue.put(floated(4), 1)
    assert queue.deletions == 2
    queue.take(1)
    assert queue.deletions == 1
    queue.take(9)
    assert queue.deletions == 0
