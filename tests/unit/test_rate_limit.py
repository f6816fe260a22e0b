"""The rate limit of a peer. That the rate is held is proved without a clock, in ext/tests."""

from __future__ import annotations

from typing import Any

import pytest
from loopback import Host, Target, add, eventually, forge, ipv4, refused, tunnel
from unit.test_state import successor

import ovpn_dco as dco
from ovpn_dco import DropReason, RateLimit

# The burst passes, and then one byte in 8 seconds.
NEXT_TO_NOTHING = 1


def test_bad_arguments(server: Host) -> None:
    peer = add(server)
    rows: list[tuple[type[dco.DcoError], str, dict[str, Any]]] = [
        (dco.OutOfRange, "transmit_bits_per_s", {"transmit_bits_per_s": -1}),
        (dco.OutOfRange, "receive_bits_per_s", {"receive_bits_per_s": 1 << 63}),
        (dco.InvalidArgument, "receive_bits_per_s", {"receive_bits_per_s": None}),
        (dco.InvalidArgument, "transmit_bits_per_s", {"transmit_bits_per_s": 1.5}),
        (dco.OutOfRange, "burst_bytes", {"burst_bytes": 1279}),
        (dco.OutOfRange, "burst_bytes", {"burst_bytes": (1 << 30) + 1}),
    ]
    for kind, attribute, arguments in rows:
        refused(kind, attribute, lambda arguments=arguments: peer.set_rate_limit(**arguments))
    assert peer.info().rate_limit == RateLimit()
    peer.delete()
    with pytest.raises(dco.NotFound):
        peer.set_rate_limit(transmit_bits_per_s=1000)


def test_the_engine_bounds_the_burst_itself(server: Host) -> None:
    """Beyond it the arithmetic would overflow."""
    peer = add(server)
    backend = server.device.peers.backend
    backend.set_feature(peer.ref, RateLimit(1, 1 << 30, 1, 1 << 30))
    for limit in (RateLimit(1, (1 << 30) + 1), RateLimit(0, 0, 1, (1 << 30) + 1)):
        with pytest.raises(dco.OutOfRange):
            backend.set_feature(peer.ref, limit)


def test_settings_are_read_back(server: Host) -> None:
    peer = add(server)
    peer.set_rate_limit(transmit_bits_per_s=80_000_000)
    assert peer.info().rate_limit == RateLimit(80_000_000, 1_000_000)
    peer.set_rate_limit(receive_bits_per_s=8_000, burst_bytes=1280)
    assert peer.info().rate_limit == RateLimit(0, 0, 8_000, 1280)
    peer.set_rate_limit(transmit_bits_per_s=8, receive_bits_per_s=1 << 50)
    assert peer.info().rate_limit == RateLimit(8, 65535, 1 << 50, 1 << 30)
    peer.set_rate_limit()
    assert peer.info().rate_limit == RateLimit()


def test_the_burst_passes_and_the_rest_is_counted() -> None:
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_rate_limit(transmit_bits_per_s=NEXT_TO_NOTHING, burst_bytes=2000)
        for _ in range(4):  # of 500 bytes each
            ends.down(bytes(480))
        for _ in range(3):
            ends.server.send(ipv4("10.8.0.1", "10.8.0.2", bytes(480)))
        eventually(lambda: ends.server.drops().get(DropReason.TX_RATE_LIMIT) == 3)
        stats = ends.server_peer.stats()
        assert (stats.tx_rate_limited, stats.vpn_tx_packets, stats.vpn_tx_bytes) == (3, 4, 2000)
        # The other direction is free, and so is this one once the limit is off.
        for _ in range(5):
            ends.up(bytes(1000))
        ends.server_peer.set_rate_limit()
        for _ in range(5):
            ends.down(bytes(1000))
        assert ends.server_peer.stats().tx_rate_limited == 3


def test_received_packets_likewise() -> None:
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_rate_limit(receive_bits_per_s=NEXT_TO_NOTHING, burst_bytes=2000)
        for _ in range(4):
            ends.up(bytes(480))
        for _ in range(3):
            ends.client.send(ipv4("10.8.0.2", "10.8.0.1", bytes(480)))
        eventually(lambda: ends.server.drops().get(DropReason.RX_RATE_LIMIT) == 3)
        assert ends.server.quiet()
        stats = ends.server_peer.stats()
        assert (stats.rx_rate_limited, stats.vpn_rx_packets, stats.link_rx_packets) == (3, 4, 7)
        ends.down(bytes(1000))


def test_other_peers_are_not_held_up(target: Target) -> None:
    """And what is refused for another reason costs the peer nothing of its rate."""
    target.peer.set_rate_limit(receive_bits_per_s=NEXT_TO_NOTHING, burst_bytes=1280)
    foreign = ipv4("192.0.2.1", "10.8.0.1", bytes(1200))
    own = ipv4("10.8.0.2", "10.8.0.1", bytes(1200))
    for packet_id, plain in enumerate([foreign, foreign, own, own], 1):
        target.far.sendto(forge(target.key, packet_id, plain), target.host.address)
    assert target.host.receive() == own
    eventually(lambda: target.host.drops().get(DropReason.RX_RATE_LIMIT) == 1)
    assert target.host.drops()[DropReason.RX_SOURCE] == 2


def test_a_successor_keeps_it() -> None:
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_rate_limit(receive_bits_per_s=NEXT_TO_NOTHING, burst_bytes=2000)
        with successor(ends.server.device) as new:
            assert new.peers[7].info().rate_limit == RateLimit(0, 0, NEXT_TO_NOTHING, 2000)
            ends.up(bytes(1900))
            ends.client.send(ipv4("10.8.0.2", "10.8.0.1", bytes(1900)))
            eventually(lambda: new.stats().drops[DropReason.RX_RATE_LIMIT] == 1)
