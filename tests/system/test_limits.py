"""Rates and quotas amid real traffic, with super-packets: all counted, and the flow goes on."""

from __future__ import annotations

import pytest
from system.test_accounting import assert_all_accounted
from system.tunnel import SERVER_IPV4, SYSTEM, Site, Tunnel, iperf3

from ovpn_dco import DropReason, Limit, PeerDeleted, PeerLimitReached

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


def test_a_quota_under_super_packets(tunnel: Tunnel) -> None:
    """Told once, when that much has crossed, and the flow goes on."""
    server = tunnel.pair.at_server
    server.set_limits(quota_bytes=4_000_000, quota_packets=1_000, renegotiate_bytes=8_000_000)
    iperf3(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4)
    iperf3(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4, reverse=True)
    told = [e for e in tunnel.server.device.poll_events() if isinstance(e, PeerLimitReached)]
    assert (
        sum(event.limits.value for event in told)
        == (Limit.QUOTA_BYTES | Limit.QUOTA_PACKETS | Limit.RENEGOTIATE_BYTES).value
    )
    stats = server.stats()
    assert stats.vpn_rx_bytes + stats.vpn_tx_bytes > 32_000_000
    assert sum(tunnel.server.device.stats().drops.values()) == 0
