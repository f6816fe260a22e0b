"""Keys change while traffic flows, and no packet is lost by it."""

from __future__ import annotations

import pytest
from security.forge import opposite_keys
from system.tunnel import SERVER_IPV4, SYSTEM, RunningPing, Tunnel, eventually, ping

import ovpn_dco as dco
from ovpn_dco import DropReason, KeySlot

pytestmark = SYSTEM


def test_roll_under_traffic(tunnel: Tunnel) -> None:
    """Install as secondary at both ends, swap one after the other, delete: for every key id."""
    pair = tunnel.pair
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4)
    ciphers = [cipher for cipher in dco.Cipher if cipher is not dco.Cipher.NONE]
    for key_id in (1, 2, 3, 4, 5, 6, 7, 1, 2):
        pair.install(KeySlot.SECONDARY, key_id, ciphers[key_id % len(ciphers)])
        for end in (pair.at_client, pair.at_server):
            before = end.stats().vpn_rx_packets
            end.swap_keys()
            assert end.key(KeySlot.PRIMARY).key_id == key_id
            eventually(
                lambda: end.stats().vpn_rx_packets >= before + 3,  # noqa: B023
                what="traffic between the steps",
            )
        for end in (pair.at_client, pair.at_server):
            end.delete_key(KeySlot.SECONDARY)
    result = running.stop_without_loss()
    assert result.sent > 50
    for site in tunnel.sites:
        assert sum(site.device.stats().drops.values()) == 0
        assert site.device.stats().retired == 0


def test_swap_of_one_side_only(tunnel: Tunnel) -> None:
    """Each side seals with its own primary; both open with either."""
    tunnel.pair.install(KeySlot.SECONDARY, 1)
    tunnel.pair.at_client.swap_keys()
    ping(tunnel.client.namespace, SERVER_IPV4, count=50)
    assert tunnel.pair.at_client.key(KeySlot.PRIMARY).packets_sealed >= 50
    assert tunnel.pair.at_client.key(KeySlot.PRIMARY).key_id == 1
    assert tunnel.pair.at_server.key(KeySlot.PRIMARY).key_id == 0


def test_replacing_the_primary_in_place(tunnel: Tunnel) -> None:
    """Packets under way with the old key are lost, later ones are not."""
    for _ in range(20):
        tunnel.pair.install(KeySlot.PRIMARY, 0)
        ping(tunnel.client.namespace, SERVER_IPV4, count=2)
    assert tunnel.pair.at_client.key(KeySlot.PRIMARY).packets_sealed >= 2


def test_without_primary_nothing_is_sent(tunnel: Tunnel) -> None:
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4)
    client = tunnel.client.device
    tunnel.pair.at_client.delete_key(KeySlot.PRIMARY)
    eventually(lambda: client.stats().drops[DropReason.TX_NO_KEY] > 5, what="drops without key")
    tunnel.pair.install(KeySlot.PRIMARY, 4)
    ping(tunnel.client.namespace, SERVER_IPV4)
    running.stop()
    with pytest.raises(dco.NotFound):
        tunnel.pair.at_client.key(KeySlot.SECONDARY)


def test_exhausted_key_under_traffic(tunnel: Tunnel) -> None:
    """The control plane is told, traffic stops, and a new key starts it again."""
    ours, theirs = opposite_keys(5)
    tunnel.pair.at_server.install_key(KeySlot.PRIMARY, ours)
    limited = dco.DataKey(
        key_id=5,
        cipher=theirs.cipher,
        encrypt=theirs.encrypt,
        decrypt=theirs.decrypt,
        first_packet_id=0xFFFFFFFF - 30,
    )
    tunnel.pair.at_client.install_key(KeySlot.PRIMARY, limited)
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4)
    soon, exhausted = tunnel.client.events(dco.KeySwapNeeded, 2)
    assert (soon.key_id, soon.reason) == (5, dco.KeySwapReason.SOON)
    assert (exhausted.key_id, exhausted.reason) == (5, dco.KeySwapReason.EXHAUSTED)
    assert tunnel.pair.at_server.stats().link_rx_packets <= 31
    tunnel.pair.install(KeySlot.SECONDARY, 6)
    for end in (tunnel.pair.at_client, tunnel.pair.at_server):
        end.swap_keys()
    ping(tunnel.client.namespace, SERVER_IPV4)
    running.stop()
