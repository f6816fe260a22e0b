"""Limits of a peer: told once, from where they were set. Their arithmetic, with a clock of its own,
is in ext/tests/test_limits.c."""

from __future__ import annotations

import time
from typing import Any

import pytest
from loopback import Host, Tunnel, add, eventually, key_pair, refused, tunnel
from unit.test_state import successor

import ovpn_dco as dco
from ovpn_dco import KeySlot, Limit, PeerLimitReached, PeerLimits

NONE = PeerLimits(0, 0, 0, 0, 0, 0, 0)
PAYLOAD = bytes(80)  # 100 bytes with the IPv4 header


def reached(h: Host) -> Limit:
    """The next that is told; nothing else is waiting."""
    return h.event(PeerLimitReached).limits


def silent(h: Host) -> bool:
    """Whether no limit is told; what has been counted was counted before."""
    h.events += h.device.poll_events(timeout_s=0.05)
    return not any(isinstance(event, PeerLimitReached) for event in h.events)


def cross(ends: Tunnel, count: int) -> None:
    """So many packets of 100 bytes, both ways in turn, and counted when this returns."""
    before = ends.server_peer.stats()
    for number in range(count):
        (ends.down if number % 2 else ends.up)(PAYLOAD)

    def counted() -> bool:
        stats = ends.server_peer.stats()
        new = stats.vpn_rx_packets + stats.vpn_tx_packets
        return new == before.vpn_rx_packets + before.vpn_tx_packets + count

    eventually(counted)


def test_bad_arguments(server: Host) -> None:
    peer = add(server)
    rows: list[tuple[type[dco.DcoError], str, dict[str, Any]]] = [
        (dco.OutOfRange, "inactive_s", {"inactive_s": 1 << 32}),
        (dco.OutOfRange, "session_s", {"session_s": -1}),
        (dco.OutOfRange, "quota_bytes", {"quota_bytes": 1 << 63}),
        (dco.InvalidArgument, "quota_packets", {"quota_packets": 1.5}),
        (dco.OutOfRange, "renegotiate_bytes", {"renegotiate_bytes": -1}),
        (dco.InvalidArgument, "renegotiate_packets", {"renegotiate_packets": "1"}),
        (dco.InvalidArgument, "inactive_bytes", {"inactive_bytes": 5}),
        (dco.InvalidArgument, "inactive_bytes", {"inactive_bytes": 5, "inactive_s": 0}),
    ]
    for kind, attribute, arguments in rows:
        arguments = {"session_s": 60} | arguments
        refused(kind, attribute, lambda arguments=arguments: peer.set_limits(**arguments))
    assert peer.info().limits == NONE
    peer.delete()
    with pytest.raises(dco.NotFound):
        peer.set_limits(session_s=1)


def test_what_is_not_given_stays(server: Host) -> None:
    peer = add(server)
    peer.set_limits(inactive_s=100, inactive_bytes=5, quota_bytes=1 << 62)
    peer.set_limits(session_s=200, quota_packets=7)
    expected = PeerLimits(100, 200, 1 << 62, 7, 0, 0, 5)
    assert peer.info().limits == expected
    peer.set_limits()
    assert peer.info().limits == expected
    peer.set_limits(inactive_s=0, session_s=0, quota_bytes=0, quota_packets=0)
    assert peer.info().limits == NONE


def test_quotas_of_both_ways_together() -> None:
    with tunnel() as ends:
        ends.install()
        cross(ends, 5)  # before they are set
        ends.server_peer.set_limits(quota_bytes=1000, quota_packets=12)
        cross(ends, 9)
        assert silent(ends.server)
        cross(ends, 1)
        event = ends.server.event(PeerLimitReached)
        assert event.limits == Limit.QUOTA_BYTES
        assert (event.peer_id, event.generation) == ends.server_peer.ref
        cross(ends, 2)
        assert reached(ends.server) == Limit.QUOTA_PACKETS
        cross(ends, 30)
        assert silent(ends.server), "each is told once"
        ends.server_peer.set_limits(quota_bytes=100)
        cross(ends, 1)
        assert reached(ends.server) == Limit.QUOTA_BYTES
        ends.server_peer.set_limits(quota_packets=1)
        ends.server_peer.set_limits(quota_packets=0)
        cross(ends, 2)
        assert silent(ends.server)
        assert ends.server.drops() == ends.client.drops() == {}, "nothing was held up"


def test_what_nobody_has_read_is_told_together() -> None:
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_limits(quota_bytes=100, renegotiate_packets=2, quota_packets=3)
        cross(ends, 3)
        both = reached(ends.server)
        assert both == Limit.QUOTA_BYTES | Limit.QUOTA_PACKETS | Limit.RENEGOTIATE_PACKETS
        assert Limit.QUOTA_BYTES in both
        assert silent(ends.server)


def test_the_next_key_once_for_each_key() -> None:
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_limits(renegotiate_packets=4, renegotiate_bytes=600)
        cross(ends, 4)
        assert reached(ends.server) == Limit.RENEGOTIATE_PACKETS
        cross(ends, 2)
        assert reached(ends.server) == Limit.RENEGOTIATE_BYTES
        cross(ends, 10)
        assert silent(ends.server)
        ends.install(key_pair(key_id=1, seed=2), KeySlot.SECONDARY)
        cross(ends, 3)
        assert silent(ends.server)
        cross(ends, 1)
        assert reached(ends.server) == Limit.RENEGOTIATE_PACKETS
        ends.server_peer.swap_keys()
        cross(ends, 3)
        assert silent(ends.server)
        cross(ends, 1)
        assert reached(ends.server) == Limit.RENEGOTIATE_PACKETS


def test_a_session_comes_to_its_end(server: Host) -> None:
    peer, other = add(server), add(server, 2)
    began = time.monotonic()
    peer.set_limits(session_s=1)
    other.set_limits(session_s=3600)
    event = server.event(PeerLimitReached)
    assert (event.limits, event.peer_id) == (Limit.SESSION, peer.peer_id)
    assert time.monotonic() - began >= 1
    assert peer.info().limits.session_s == 1
    assert silent(server)


def test_keepalives_are_no_activity() -> None:
    with tunnel() as ends:
        ends.install()
        for peer in (ends.client_peer, ends.server_peer):
            peer.set_keepalive(interval_s=1, timeout_s=60)
        ends.server_peer.set_limits(inactive_s=2)
        assert reached(ends.server) == Limit.INACTIVE
        stats = ends.server_peer.stats()
        assert stats.keepalive_rx > 0
        assert stats.vpn_rx_packets == stats.vpn_tx_packets == 0
        assert silent(ends.server)


def test_an_idle_device_with_limits_does_not_wake() -> None:
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_limits(
            inactive_s=600, session_s=600, quota_bytes=1 << 40, renegotiate_packets=1 << 40
        )
        cross(ends, 2)

        def wakeups(seconds: float) -> int:
            before = ends.server.device.stats().wakeups
            time.sleep(seconds)
            return ends.server.device.stats().wakeups - before

        eventually(lambda: not wakeups(0.1), "silence")
        assert wakeups(2.2) <= 1


def test_a_successor_goes_on_counting() -> None:
    with tunnel() as ends:
        ends.install()
        peer = ends.server_peer
        peer.set_limits(quota_bytes=1000, quota_packets=2, renegotiate_packets=8, session_s=600)
        cross(ends, 6)
        assert reached(ends.server) == Limit.QUOTA_PACKETS
        before = peer.info().limits
        with successor(ends.server.device) as new:
            ends.server.device, ends.server_peer = new, new.peers[7]
            assert new.peers[7].info().limits == before
            cross(ends, 1)
            assert silent(ends.server)
            cross(ends, 1)
            assert reached(ends.server) == Limit.RENEGOTIATE_PACKETS
            cross(ends, 2)
            assert reached(ends.server) == Limit.QUOTA_BYTES
            assert silent(ends.server)


def test_a_successor_tells_what_nobody_has_read() -> None:
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_limits(quota_packets=2, session_s=1)
        cross(ends, 2)
        time.sleep(1.5)
        with successor(ends.server.device) as new:
            ends.server.device, ends.server_peer = new, new.peers[7]
            assert reached(ends.server) == Limit.SESSION
            cross(ends, 1)
            assert reached(ends.server) == Limit.QUOTA_PACKETS
            cross(ends, 1)
            assert silent(ends.server)
