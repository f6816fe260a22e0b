"""From peer to peer inside the device: who may, who may not, and what is believed of a packet."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from security.forge import ip
from security.lab import Lab, LabPeer, Outcome, TunLab, eventually
from support import needs_root

import ovpn_dco as dco
from ovpn_dco import DropReason, ForwardingMode

pytestmark = pytest.mark.security


@pytest.fixture(params=[1, 3], ids=lambda workers: f"{workers}-workers")
def mesh(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Three peers; with as many workers, so that each has another home."""
    with Lab(workers=request.param) as lab:
        for number in (7, 8, 9):
            lab.add_peer(number)
        yield lab


def carry(
    lab: Lab, source: LabPeer, *packets: bytes, out: int
) -> tuple[Outcome, dict[int, list[bytes]]]:
    """Sends packets from a peer; what that did, and what came out for whom, `out` packets in all
    (or drops on their way)."""

    def gone() -> int:
        stats = lab.device.stats()
        drops = (n for reason, n in stats.drops.items() if reason.name.startswith("TX_"))
        return stats.udp_send_packets + sum(drops)

    target = gone() + out
    outcome = lab.deliver(*(source.forge.seal(packet) for packet in packets), sock=source.socket)
    eventually(lambda: gone() >= target, what=f"{out} packets out")
    assert gone() == target, "more than that"
    got = {
        peer.peer.peer_id: [peer.forge.open(d).payload for d in peer.receive_all()]
        for peer in lab.peers
    }
    return outcome, {peer_id: inner for peer_id, inner in got.items() if inner}


def test_off_is_the_default(mesh: Lab) -> None:
    """Everything goes to the interface, whoever it is for."""
    alice = mesh.peers[0]
    packet = ip(alice.vpn, "10.9.0.8")
    assert mesh.device.forwarding.mode is ForwardingMode.OFF
    outcome, got = carry(mesh, alice, packet, out=0)
    assert outcome.inner == [packet]
    assert got == {}


@pytest.mark.parametrize("family", [4, 6])
def test_all(mesh: Lab, family: int) -> None:
    """As it is, to whom it is for; the interface sees nothing of it."""
    alice, bob, _ = mesh.peers
    mesh.device.forwarding.set_mode("all")
    packet = ip(alice.vpn, "10.9.0.8") if family == 4 else ip("fd09::7", "fd09::8")
    outcome, got = carry(mesh, alice, packet, out=1)
    assert got == {8: [packet]}
    assert outcome.inner == []
    assert outcome.drops == {}
    size = len(packet)
    assert outcome.peers[7]["vpn_rx_packets"] == 1
    assert outcome.peers[7]["vpn_rx_bytes"] == size
    eventually(lambda: bob.peer.stats().vpn_tx_bytes == size)
    stats = mesh.device.stats()
    assert (stats.forwarded_packets, stats.forwarded_bytes) == (1, size)
    assert (stats.tun_read_packets, stats.tun_write_packets) == (0, 0)


def test_routes_count_and_others_go_to_the_host(mesh: Lab) -> None:
    alice, bob, _ = mesh.peers
    mesh.device.forwarding.set_mode("all")
    mesh.device.routes.add("192.168.9.0/24", bob.peer)
    inside, outside = ip(alice.vpn, "192.168.9.1"), ip(alice.vpn, "192.168.8.1")
    outcome, got = carry(mesh, alice, inside, outside, inside, out=2)
    assert got == {8: [inside, inside]}
    assert outcome.inner == [outside]


def test_spoofed_source_reaches_nobody(mesh: Lab) -> None:
    """Between peers the source check is all that tells who speaks."""
    alice = mesh.peers[0]
    mesh.device.forwarding.set_mode("all")
    mesh.device.set_multicast(on=True)
    for target in ("10.9.0.8", "10.9.0.9", "224.0.0.5"):
        outcome, got = carry(mesh, alice, ip("10.9.0.9", target), out=0)
        outcome.assert_dropped(DropReason.RX_SOURCE)
        assert got == {}


def test_only_whom_it_may(mesh: Lab) -> None:
    alice, bob, carol = mesh.peers
    forwarding = mesh.device.forwarding
    forwarding.set_mode("permitted")
    to_bob, to_carol = ip(alice.vpn, bob.vpn), ip(alice.vpn, carol.vpn)
    outcome, got = carry(mesh, alice, to_bob, out=0)
    outcome.assert_dropped(DropReason.RX_FORWARD_DENIED)
    assert outcome.peers[7]["rx_forward_denied"] == 1
    assert got == {}
    forwarding.permit(alice.peer, [bob.peer])
    assert forwarding.permitted(alice.peer) == [bob.peer]
    outcome, got = carry(mesh, alice, to_carol, to_bob, to_carol, to_bob, out=2)
    assert got == {8: [to_bob, to_bob]}
    assert outcome.drops == {DropReason.RX_FORWARD_DENIED: 2}
    outcome, _ = carry(mesh, bob, ip(bob.vpn, alice.vpn), out=0)
    outcome.assert_dropped(DropReason.RX_FORWARD_DENIED)  # the other way is another question
    forwarding.permit(alice.peer, [carol.peer])
    outcome, got = carry(mesh, alice, to_carol, to_bob, out=1)
    assert got == {9: [to_carol]}
    forwarding.permit(alice.peer, [])
    assert carry(mesh, alice, to_carol, to_bob, out=0)[1] == {}


def test_a_permit_is_for_no_later_peer(mesh: Lab) -> None:
    alice, bob, _ = mesh.peers
    mesh.device.forwarding.set_mode("permitted")
    mesh.device.forwarding.permit(alice.peer, [bob.peer])
    bob.peer.delete()
    mesh.wait_event(dco.PeerDeleted)
    mesh.peers.remove(bob)
    mesh.add_peer(8)
    outcome, _ = carry(mesh, alice, ip(alice.vpn, "10.9.0.8"), out=0)
    outcome.assert_dropped(DropReason.RX_FORWARD_DENIED)
    assert mesh.device.forwarding.permitted(alice.peer) == []
    with pytest.raises(dco.NotFound):
        mesh.device.forwarding.permit(bob.peer, [])


def test_never_back(mesh: Lab) -> None:
    """Not to its own address, nor to a network of its own: two routers would play ball."""
    alice = mesh.peers[0]
    mesh.device.routes.add("192.168.9.0/24", alice.peer)
    mesh.device.forwarding.set_mode("all")
    for target in (alice.vpn, "192.168.9.1"):
        outcome, got = carry(mesh, alice, ip(alice.vpn, target), out=0)
        outcome.assert_dropped(DropReason.RX_FORWARD_DENIED)
        assert got == {}


def lengths(packet: bytes, at: int, value: int) -> bytes:
    return packet[:at] + value.to_bytes(2, "big") + packet[at + 2 :]


@pytest.mark.parametrize("family", [4, 6])
def test_lengths_are_not_believed(mesh: Lab, family: int) -> None:
    """What the header says must be there; what is behind it does not go on."""
    alice = mesh.peers[0]
    mesh.device.forwarding.set_mode("all")
    ends = (alice.vpn, "10.9.0.8") if family == 4 else ("fd09::7", "fd09::8")
    packet = ip(*ends, b"payload")
    at, says = (2, len(packet)) if family == 4 else (4, len(packet) - 40)
    bad = [lengths(packet, at, says + 1), lengths(packet, at, 0xFFFF)]
    if family == 4:
        bad += [lengths(packet, at, 19), lengths(packet, at, 0)]
        bad += [b"\x44" + packet[1:], b"\x4f" + packet[1:]]
    for one in bad:
        outcome, got = carry(mesh, alice, one, out=0)
        outcome.assert_dropped(DropReason.RX_FORWARD_MALFORMED)
        assert got == {}
    _, got = carry(mesh, alice, packet + b"and more", out=1)
    assert got == {8: [packet]}


def test_a_peer_without_a_key_gets_nothing(mesh: Lab) -> None:
    alice, bob, _ = mesh.peers
    mesh.device.forwarding.set_mode("all")
    bob.peer.delete_key(dco.KeySlot.PRIMARY)
    outcome, got = carry(mesh, alice, ip(alice.vpn, bob.vpn), out=1)
    assert got == {}
    assert outcome.drops == {DropReason.TX_NO_KEY: 1}


def test_more_than_one_receive_call_brings(mesh: Lab) -> None:
    """In order, and all of it."""
    alice = mesh.peers[0]
    mesh.device.forwarding.set_mode("all")
    packets = [ip(alice.vpn, "10.9.0.8", n.to_bytes(2, "big") * 600) for n in range(400)]
    _, got = carry(mesh, alice, *packets, out=400)
    assert got == {8: packets}


def test_switched_while_it_runs(mesh: Lab) -> None:
    alice = mesh.peers[0]
    packet = ip(alice.vpn, "10.9.0.8")
    for mode, inner, out in (("all", 0, 1), ("off", 1, 0), ("permitted", 0, 0), ("all", 0, 1)):
        mesh.device.forwarding.set_mode(mode)
        outcome, got = carry(mesh, alice, packet, out=out)
        assert len(outcome.inner) == inner
        assert bool(got) == bool(out)
    newcomer = mesh.add_peer(10)
    assert carry(mesh, newcomer, ip(newcomer.vpn, "10.9.0.8"), out=1)[1].keys() == {8}


def test_rate_limits_hold_between_peers(mesh: Lab) -> None:
    alice, bob, _ = mesh.peers
    mesh.device.forwarding.set_mode("all")
    bob.peer.set_rate_limit(transmit_bits_per_s=8, burst_bytes=1280)
    packet = ip(alice.vpn, bob.vpn, bytes(1000))
    outcome, got = carry(mesh, alice, packet, packet, out=2)
    assert got == {8: [packet]}
    assert outcome.drops == {DropReason.TX_RATE_LIMIT: 1}


def test_who_sends_too_much_is_told(mesh: Lab) -> None:
    """By ICMP, into its own tunnel: the host has no part in it."""
    alice, bob, _ = mesh.peers
    mesh.device.forwarding.set_mode("all")
    bob.peer.set_path_limit(600)
    outcome, got = carry(mesh, alice, ip(alice.vpn, bob.vpn, bytes(1000)), out=2)
    assert outcome.drops == {DropReason.TX_TOO_BIG: 1}
    assert outcome.inner == []
    assert got.keys() == {7}
    (answer,) = got[7]
    assert (answer[9], answer[20], answer[21]) == (1, 3, 4), "fragmentation needed"
    eventually(lambda: mesh.device.stats().icmp_errors_written == 1)


@needs_root
def test_the_hosts_own_address_is_the_hosts() -> None:
    """Also where a route of a peer covers it; and nobody may speak for the host."""
    with TunLab() as lab:
        alice, bob = lab.add_peer(7), lab.add_peer(8)
        lab.device.routes.add("0.0.0.0/0", bob.peer)
        lab.device.forwarding.set_mode("all")
        # Of a kind that the host does not answer.
        packet = ip(alice.vpn, "10.9.0.1", bytes(8), protocol=1)
        beyond = ip(alice.vpn, "203.0.113.1")
        outcome, got = carry(lab, alice, packet, beyond, out=1)
        assert packet in outcome.inner
        assert got == {8: [beyond]}
        outcome, got = carry(lab, bob, ip("10.9.0.1", alice.vpn), out=0)
        assert outcome.drops == {DropReason.RX_SOURCE: 1}
        with pytest.raises(dco.AddressInUse):
            lab.device.add_peer(9, lab.transport, remote=alice.address, vpn_ipv4="10.9.0.1")


def test_refusals(mesh: Lab) -> None:
    alice = mesh.peers[0]
    forwarding = mesh.device.forwarding
    for value in ("some", None, 1):
        with pytest.raises(dco.InvalidArgument, match="mode must be off, all or permitted"):
            forwarding.set_mode(value)  # type: ignore[arg-type]
    with Lab(dco.Mode.P2P) as other:
        stranger = other.add_peer(7)
        for mode in ("all", "permitted"):
            with pytest.raises(dco.InvalidArgument, match="P2P"):
                other.device.forwarding.set_mode(mode)
        other.device.forwarding.set_mode("off")
        with pytest.raises(dco.InvalidArgument):
            other.device.set_multicast(on=True)
        for source, target in ((stranger, alice), (alice, stranger)):
            with pytest.raises(dco.InvalidArgument, match="peer must be a peer of this device"):
                forwarding.permit(source.peer, [target.peer])
    with pytest.raises(dco.OutOfRange, match="copies_per_s"):
        mesh.device.set_multicast(on=True, copies_per_s=0)


# Multicast and broadcast


@pytest.mark.parametrize("target", ["224.0.0.251", "255.255.255.255", "ff02::fb"])
def test_from_the_host_to_all(mesh: Lab, target: str) -> None:
    packet = ip("fd09::1" if ":" in target else "10.9.0.1", target)
    mesh.transmit(packet)
    assert mesh.device.stats().drops[DropReason.TX_NO_PEER] == 1
    mesh.device.set_multicast(on=True)
    mesh.inner.send(packet)
    for peer in mesh.peers:
        assert peer.forge.open(peer.receive()).payload == packet
    stats = mesh.device.stats()
    assert (stats.group_packets, stats.replicated_packets) == (1, 3)
    mesh.peers[1].peer.set_multicast(received=False)
    mesh.peers[2].peer.delete_key(dco.KeySlot.PRIMARY)
    mesh.inner.send(packet)
    assert mesh.peers[0].forge.open(mesh.peers[0].receive()).payload == packet
    eventually(lambda: mesh.device.stats().group_packets == 2)
    assert mesh.device.stats().replicated_packets == 4
    assert not any(peer.receive_all() for peer in mesh.peers)
    mesh.device.set_multicast(on=False)
    mesh.transmit(packet)
    assert mesh.device.stats().drops[DropReason.TX_NO_PEER] == 2


def test_what_is_no_group_goes_to_nobody(mesh: Lab) -> None:
    mesh.device.set_multicast(on=True)
    mesh.transmit(
        ip("10.9.0.1", "10.9.0.77"), ip("fd09::1", "fe80::1"), ip("10.9.0.1", "240.0.0.1")
    )
    assert mesh.device.stats().drops[DropReason.TX_NO_PEER] == 3


def test_from_a_peer_to_the_others_it_may_reach(mesh: Lab) -> None:
    """And to the host, always; never back."""
    alice, bob, carol = mesh.peers
    packet = ip(alice.vpn, "224.0.0.5")
    device = mesh.device
    device.set_multicast(on=True)
    outcome, got = carry(mesh, alice, packet, out=0)
    assert (outcome.inner, got) == ([packet], {}), "without forwarding it is the host's alone"
    device.forwarding.set_mode("all")
    outcome, got = carry(mesh, alice, packet, out=2)
    assert outcome.inner == [packet]
    assert got == {8: [packet], 9: [packet]}
    device.forwarding.set_mode("permitted")
    device.forwarding.permit(alice.peer, [carol.peer])
    assert carry(mesh, alice, packet, out=1)[1] == {9: [packet]}
    assert carry(mesh, bob, ip(bob.vpn, "224.0.0.5"), out=0)[1] == {}
    device.set_multicast(on=False)
    outcome, got = carry(mesh, alice, packet, out=0)
    assert (outcome.inner, got) == ([packet], {})


def flood_the_group(mesh: Lab, packets: int) -> tuple[int, int]:
    """From the first peer; how many copies came out, and how many packets were cut short."""
    alice = mesh.peers[0]
    mesh.device.forwarding.set_mode("all")
    mesh.device.set_multicast(on=True, copies_per_s=1)
    flood = [alice.forge.seal(ip(alice.vpn, "224.0.0.5")) for _ in range(packets)]
    outcome = mesh.deliver(*flood, sock=alice.socket)
    assert len(outcome.inner) == packets, "the host gets all of them"

    def short() -> int:
        return mesh.device.stats().drops[DropReason.TX_GROUP_LIMIT]

    # At each worker the last ones find an empty bucket, and what one second brings is little.
    eventually(lambda: short() >= packets // 2)
    return sum(len(peer.receive_all()) for peer in mesh.peers), short()


def test_copies_are_bounded(mesh: Lab) -> None:
    """A packet becomes as many as there are peers: no peer may make the device do that for ever."""
    copies, short = flood_the_group(mesh, 40)
    assert 0 < copies <= 6 * len(mesh.peers)
    assert short >= 20


def test_looking_for_receivers_is_bounded(mesh: Lab) -> None:
    """Where there are none, too: each packet makes the device look at all peers."""
    for peer in mesh.peers[1:]:
        peer.peer.set_multicast(received=False)
    copies, short = flood_the_group(mesh, 300)
    assert copies == 0
    assert short >= 150


@needs_root
def test_broadcast_of_the_devices_networks() -> None:
    """Though a route of a peer covers it, as it covers multicast."""
    with TunLab() as lab:
        alice, bob = lab.add_peer(7), lab.add_peer(8)
        lab.device.routes.add("0.0.0.0/0", bob.peer)
        lab.device.forwarding.set_mode("all")
        lab.device.set_multicast(on=True)
        for target in ("10.9.0.255", "239.1.2.3", "255.255.255.255"):
            packet = ip(alice.vpn, target)
            outcome, got = carry(lab, alice, packet, out=1)
            assert packet in outcome.inner
            assert got == {8: [packet]}
            outcome, got = carry(lab, bob, ip(bob.vpn, target), out=1)
            assert got.keys() == {7}


# Handing over


def hand_over(mesh: Lab) -> dco.Device:
    """The device that goes on, which the lab has from then on."""
    state, fds = mesh.device.export_state()
    copies = [os.dup(fd) for fd in fds]
    mode = mesh.device.mode
    mesh.device.close()
    try:
        mesh.device = dco.Device.open("next", mode=mode, restore=state, descriptors=copies)
    finally:
        for fd in copies:
            os.close(fd)
    for member in mesh.peers:
        member.peer = mesh.device.peers[member.peer.peer_id]
    return mesh.device


def test_handed_over(mesh: Lab) -> None:
    alice, bob, carol = mesh.peers
    mesh.device.forwarding.set_mode("permitted")
    mesh.device.forwarding.permit(alice.peer, [bob.peer, carol.peer])
    mesh.device.set_multicast(on=True, copies_per_s=77)
    carol.peer.set_multicast(received=False)
    carol.peer.delete()  # and is back, as another
    mesh.wait_event(dco.PeerDeleted)
    mesh.peers.remove(carol)
    mesh.add_peer(9).peer.set_multicast(received=False)
    with hand_over(mesh) as new:
        assert new.forwarding.mode is ForwardingMode.PERMITTED
        packet, to_carol = ip(alice.vpn, bob.vpn), ip(alice.vpn, carol.vpn)
        to_all = ip(alice.vpn, "224.0.0.5")
        _, got = carry(mesh, alice, packet, to_carol, to_all, out=2)
        assert got.keys() == {8}
        assert sorted(got[8]) == sorted([packet, to_all])


def test_permits_are_handed_over_while_off(mesh: Lab) -> None:
    """As they stay when the mode is set."""
    alice, bob, _ = mesh.peers
    mesh.device.forwarding.permit(alice.peer, [bob.peer])
    with hand_over(mesh) as new:
        assert new.forwarding.mode is ForwardingMode.OFF
        assert new.forwarding.permitted(alice.peer) == [bob.peer]
        new.forwarding.set_mode("permitted")
        packet = ip(alice.vpn, bob.vpn)
        assert carry(mesh, alice, packet, out=1)[1] == {8: [packet]}
