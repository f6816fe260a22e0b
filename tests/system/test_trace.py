"""A trace amid real traffic: super-packets, and the datagrams that they became."""

from __future__ import annotations

from pathlib import Path

import capture
from system.tunnel import SERVER_IPV4, SYSTEM, Tunnel, iperf3

pytestmark = SYSTEM


def test_super_packets_and_their_datagrams(tunnel: Tunnel, tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    points = ("tx_inner", "tx_outer")
    with tunnel.server.device.trace(
        path, points=points, snap=64, buffer_bytes=1 << 24, peers=[tunnel.pair.at_server]
    ) as trace:
        iperf3(
            tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4, reverse=True, megabytes=2
        )
    assert trace.lost == 0
    found = capture.read(path)
    ids = [int(packet.words["packet"]) for packet in found.at("tx_outer")]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    expected = []
    for packet in found.at("tx_inner"):
        first, packets = int(packet.words["packet"]), int(packet.words.get("packets", 1))
        expected += range(first, first + packets)
        assert (packets > 1) == (packet.size > tunnel.server.device.mtu)
    assert expected == ids
    assert len(found.at("tx_inner")) < len(ids)
