"""A rate limit amid real traffic: super-packets in part, all counted, and the flow goes on."""

from __future__ import annotations

import pytest
from system.test_accounting import assert_all_accounted
from system.tunnel import SERVER_IPV4, SYSTEM, Site, Tunnel, iperf3

from ovpn_dco import DropReason, PeerDeleted

pytestmark = SYSTEM


@pytest.mark.parametrize("transmit", [True, False])
def test_a_limited_flow_goes_on(tunnel: Tunnel, transmit: bool) -> None:
    """16 MB at 400 Mbit/s, far below what the tunnel carries."""
    limit = {f"{'transmit' if transmit else 'receive'}_bits_per_s": 400_000_000}
    tunnel.pair.at_server.set_rate_limit(**limit, burst_bytes=100_000)
    gone: dict[Site, list[PeerDeleted]] = {site: [] for site in tunnel.sites}
    iperf3(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4, reverse=transmit)
    assert_all_accounted(tunnel, gone)
    stats, drops = tunnel.pair.at_server.stats(), tunnel.server.device.stats().drops
    reason = DropReason.TX_RATE_LIMIT if transmit else DropReason.RX_RATE_LIMIT
    dropped = stats.tx_rate_limited if transmit else stats.rx_rate_limited
    assert drops[reason] == dropped > 0
    assert sum(drops.values()) == dropped
    if transmit:  # what went has come as whole packets
        assert tunnel.pair.at_client.stats().vpn_rx_packets == stats.vpn_tx_packets
        assert tunnel.pair.at_client.stats().vpn_rx_bytes == stats.vpn_tx_bytes
