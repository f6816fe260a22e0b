"""Keys in the epoch format under real traffic: epochs turn, and no packet is lost by it."""

from __future__ import annotations

import pytest
from epoch_wire import COUNTER_MAX, OVERHEAD
from loopback import epoch_pair
from system.tunnel import (
    SERVER_IPV4,
    SERVER_IPV6,
    SYSTEM,
    RunningPing,
    Sniffer,
    Tunnel,
    eventually,
    iperf3,
    open_tunnel,
    ping,
)

import ovpn_dco as dco
from ovpn_dco import KeySlot

pytestmark = SYSTEM

CIPHERS = [dco.Cipher.AES_128_GCM, dco.Cipher.AES_256_GCM, dco.Cipher.CHACHA20_POLY1305]


def install(tunnel: Tunnel, slot: KeySlot, key_id: int, **more: int) -> None:
    """A key in the epoch format at both ends."""
    ours, theirs = epoch_pair(key_id, seed=key_id + 1, **more)
    tunnel.pair.at_server.install_key(slot, ours)
    tunnel.pair.at_client.install_key(slot, theirs)


def assert_nothing_dropped(tunnel: Tunnel) -> None:
    for site in tunnel.sites:
        assert {reason: n for reason, n in site.device.stats().drops.items() if n} == {}


@pytest.mark.parametrize("outer", ["ipv4", "ipv6"])
@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.value)
def test_ping_and_iperf(cipher: dco.Cipher, outer: str) -> None:
    with open_tunnel(outer=outer) as tunnel:
        ours, theirs = epoch_pair(cipher=cipher)
        tunnel.pair.at_server.install_key(KeySlot.PRIMARY, ours)
        tunnel.pair.at_client.install_key(KeySlot.PRIMARY, theirs)
        for inner in (SERVER_IPV4, SERVER_IPV6):
            for size in (0, 56, 1372, 3000):
                ping(tunnel.client.namespace, inner, size=size)
            iperf3(tunnel.server.namespace, tunnel.client.namespace, inner)
        report = iperf3(
            tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4, udp=True, megabytes=4
        )
        assert report["end"]["sum"]["packets"] >= (4 << 20) // 1200
        assert tunnel.pair.at_server.key(KeySlot.PRIMARY).receive_epoch == 1
        assert tunnel.pair.at_server.stats().rx_decrypt_errors == 0


def test_turns_in_the_middle_of_a_transfer(tunnel: Tunnel) -> None:
    """Both ends come to their last counter while super-packets are split and sealed."""
    install(tunnel, KeySlot.PRIMARY, 0, first_packet_id=COUNTER_MAX - 2000)
    for reverse in (False, True):
        iperf3(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4, reverse=reverse)
    for end in (tunnel.pair.at_client, tunnel.pair.at_server):
        key = end.key(KeySlot.PRIMARY)
        assert (key.send_epoch, key.receive_epoch) == (2, 2)
        assert key.packets_sealed > 2001
        stats = end.stats()
        assert stats.tx_iv_exhausted == stats.rx_replay_errors == stats.rx_decrypt_errors == 0
    assert_nothing_dropped(tunnel)


def test_turns_under_traffic_lose_nothing(tunnel: Tunnel) -> None:
    """Key after key that turns after a few packets, each behind the other's back."""
    pair = tunnel.pair
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4)
    for key_id in (1, 2, 3, 4, 5, 6, 7, 1, 2):
        install(tunnel, KeySlot.SECONDARY, key_id, first_packet_id=COUNTER_MAX - 4)
        for end in (pair.at_client, pair.at_server):
            end.swap_keys()
        for end in (pair.at_client, pair.at_server):
            eventually(
                lambda: end.key(KeySlot.PRIMARY).receive_epoch == 2,  # noqa: B023
                what="the next epoch",
            )
        for end in (pair.at_client, pair.at_server):
            end.delete_key(KeySlot.SECONDARY)
    result = running.stop_without_loss()
    assert result.sent > 50
    assert_nothing_dropped(tunnel)
    for site in tunnel.sites:
        eventually(lambda: site.device.stats().retired == 0, what="keys let go")  # noqa: B023


@pytest.mark.parametrize("outer", ["ipv4", "ipv6"])
def test_length_on_the_wire(outer: str) -> None:
    """Packets of every size, and the segments of super-packets: 28 bytes more, never another."""
    with open_tunnel(outer=outer, bare=True) as tunnel:
        install(tunnel, KeySlot.PRIMARY, 0)
        link = tunnel.topology.link
        sizes = [*range(0, 100, 7), 1000, 1392]
        with Sniffer(tunnel.client.namespace, link.right_name) as sniffer:
            for size in sizes:
                ping(tunnel.client.namespace, SERVER_IPV4, count=1, size=size)
            seen = [len(data) for outgoing, data in sniffer.datagrams() if outgoing]
            assert seen == [28 + size + OVERHEAD for size in sizes]
            iperf3(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4, megabytes=1)
            lengths = {len(data) for outgoing, data in sniffer.datagrams() if outgoing}
        assert max(lengths) == tunnel.client.device.mtu + OVERHEAD
        stats = tunnel.pair.at_client.stats()
        assert stats.link_tx_bytes == stats.vpn_tx_bytes + stats.vpn_tx_packets * OVERHEAD
