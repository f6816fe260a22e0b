"""Keepalives go out, are heard, and their absence ends a peer."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from security.forge import KEEPALIVE, Forge
from security.lab import Lab
from support import needs_tool
from system.tunnel import SERVER_IPV4, SYSTEM, Tunnel, eventually, ping

import ovpn_dco as dco
from ovpn_dco import DeleteReason, PeerDeleted

pytestmark = SYSTEM


def test_magic_bytes() -> None:
    """What is sent is what the kernel driver takes for a keepalive."""
    with Lab() as lab:
        peer = lab.add_peer(7)
        peer.peer.set_keepalive(interval_s=1, timeout_s=0)
        opened = peer.forge.open(peer.receive())
        assert (opened.peer_id, opened.payload) == (7, KEEPALIVE)
        assert peer.peer.stats().keepalive_tx == 1
        assert peer.peer.stats().vpn_tx_packets == 0


def test_heard_at_the_other_end(tunnel: Tunnel) -> None:
    at_server, at_client = tunnel.pair.at_server, tunnel.pair.at_client
    at_client.set_keepalive(interval_s=1, timeout_s=0)
    eventually(lambda: at_server.stats().keepalive_rx >= 1, what="a keepalive")
    stats = at_server.stats()
    assert stats.vpn_rx_packets == 0
    assert stats.link_rx_packets == stats.keepalive_rx
    assert at_client.stats().keepalive_tx >= 1
    assert at_server.stats().keepalive_tx == 0, "no answer is due"
    assert sum(tunnel.server.device.stats().drops.values()) == 0


def test_both_ends_keep_each_other_alive(tunnel: Tunnel) -> None:
    for peer in (tunnel.pair.at_server, tunnel.pair.at_client):
        peer.set_keepalive(interval_s=1, timeout_s=2)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        for site in tunnel.sites:
            assert not site.device.poll_events(timeout_s=0.2)
    ping(tunnel.client.namespace, SERVER_IPV4)


def test_silence_expires_the_peer(tunnel: Tunnel) -> None:
    """At both ends, each by its own clock, with the last counters in the event."""
    ping(tunnel.client.namespace, SERVER_IPV4, count=7)
    for site, pair_end in (
        (tunnel.server, tunnel.pair.at_server),
        (tunnel.client, tunnel.pair.at_client),
    ):
        # What has arrived is counted as sent a moment later.
        eventually(lambda peer=pair_end: peer.stats().link_tx_packets == 7)
        started = time.monotonic()
        last = pair_end.stats()
        pair_end.set_keepalive(interval_s=0, timeout_s=1)
        (event,) = site.events(PeerDeleted)
        assert time.monotonic() - started >= 0.95
        assert event.reason is DeleteReason.EXPIRED
        assert event.stats == last
        assert event.stats.vpn_rx_packets == event.stats.vpn_tx_packets == 7
        assert len(site.device.peers) == 0
        with pytest.raises(dco.NotFound):
            pair_end.info()


def test_traffic_of_the_peer_postpones_expiry(tunnel: Tunnel) -> None:
    tunnel.pair.at_server.set_keepalive(interval_s=0, timeout_s=1)
    ping(tunnel.client.namespace, SERVER_IPV4, count=20, interval_s=0.1)
    assert not tunnel.server.device.poll_events()
    (event,) = tunnel.server.events(PeerDeleted)
    assert event.reason is DeleteReason.EXPIRED


def test_other_peers_stay(make_tunnel) -> None:
    tunnel: Tunnel = make_tunnel(spokes=3)
    tunnel.pairs[1].at_server.set_keepalive(interval_s=0, timeout_s=1)
    (event,) = tunnel.server.events(PeerDeleted)
    assert event.peer_id == tunnel.clients[1].number
    for number in (0, 2):
        ping(tunnel.clients[number].namespace, SERVER_IPV4)
    assert set(tunnel.server.device.peers) == {2, 4}


def test_expiry_can_be_switched_off_again(tunnel: Tunnel) -> None:
    tunnel.pair.at_server.set_keepalive(interval_s=0, timeout_s=1)
    tunnel.pair.at_server.set_keepalive(interval_s=0, timeout_s=0)
    assert not tunnel.server.device.poll_events(timeout_s=2.5)


def test_expiry_without_any_key() -> None:
    with Lab() as lab:
        peer = lab.add_peer(7, install=False)
        peer.peer.set_keepalive(interval_s=1, timeout_s=2)
        assert lab.wait_event(PeerDeleted).reason is DeleteReason.EXPIRED
        assert peer.receive_all() == []


def test_keepalive_with_the_primary_of_the_moment() -> None:
    with Lab() as lab:
        peer = lab.add_peer(7)
        second = Forge(7, key_id=6)
        peer.peer.install_key(dco.KeySlot.SECONDARY, second.key())
        peer.peer.swap_keys()
        peer.peer.set_keepalive(interval_s=1, timeout_s=0)
        assert second.open(peer.receive()).key_id == 6


@needs_tool("unshare")
@pytest.mark.parametrize("boottime_s", [10**9, -1])
def test_in_a_time_namespace(boottime_s: int) -> None:
    """Where the engine's clock is not that of the machine, as in a container that was moved: two of
    the tests above, in a process of their own. Jumps and suspend are in ext/tests/test_clock.c."""
    tests = [f"{__file__}::test_magic_bytes", f"{__file__}::test_expiry_without_any_key"]
    command = ["unshare", "--time", "--boottime", str(boottime_s), "--fork", sys.executable]
    done = subprocess.run(
        [*command, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
