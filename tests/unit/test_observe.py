"""Metrics: what a collector says of a device and a server, beside what they say themselves."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
import server_lab
from loopback import Host, Tunnel, add, eventually, host, refused, tunnel
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families

import ovpn_dco as dco
from ovpn_dco.model import DeviceStats, PeerStats
from ovpn_dco.observe import metrics
from ovpn_dco.observe.prometheus import DeviceCollector, ServerCollector
from ovpn_dco.server import Server, ServerStats

STATS = ServerStats(
    connected=3,
    negotiating=2,
    accepted=9,
    refusals={"tag_mismatch": 4, "too_short": 1},
    send_failures={"TryAgain": 5},
)


class Scrape:
    """The samples of a collector, by way of the text that Prometheus reads."""

    def __init__(self, collector: Any) -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        text = generate_latest(registry).decode()
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [s for family in self.families.values() for s in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        found = [
            s.value for s in self.samples if (s.name, s.labels) == (f"ovpn_dco_{name}", labels)
        ]
        assert len(found) == 1, name
        return float(found[0])

    def series(self, name: str) -> list[dict[str, str]]:
        return [s.labels for s in self.samples if s.name == f"ovpn_dco_{name}"]


@pytest.fixture
def used() -> Iterator[Tunnel]:
    """Packets in both directions, and one that nobody is to get."""
    with tunnel() as made:
        made.install()
        for _ in range(5):
            made.up()
        made.down(b"x" * 500)
        made.server.send(b"no packet")
        eventually(lambda: made.server.drops())
        eventually(lambda: made.server_peer.stats().vpn_tx_packets == 1)
        yield made


def test_counters_are_those_of_the_device(used: Tunnel) -> None:
    device = used.server.device
    scrape, stats = Scrape(DeviceCollector(device)), device.stats()
    for name in metrics._COUNTERS.keys() - {"wakeups"}:
        assert scrape(f"{name}_total") == getattr(stats, name), name
    for name in metrics._GAUGES.keys() - {"retired"}:
        assert scrape(name) == getattr(stats, name), name
    assert scrape("udp_receive_packets_total") >= 5
    for reason, count in stats.drops.items():
        assert scrape("drops_total", reason=reason.name.lower()) == count
    assert scrape("drops_total", reason="tx_malformed") == 1


def test_the_device_says_what_it_is(used: Tunnel) -> None:
    device = used.server.device
    scrape, offloads = Scrape(DeviceCollector(device)), device.offloads
    assert scrape("device_info", device="test", backend="userspace", mode="multipeer") == 1
    for name in dco.Offload.ALL.names:
        assert scrape("offload_allowed", offload=name) == (name in offloads.allowed.names)
        assert scrape("offload_active", offload=name) == (name in offloads.active.names)


def test_batches_are_a_histogram() -> None:
    stats = SimpleNamespace(tx_batches=(5, 3, 0, 1))
    reading: Any = SimpleNamespace(stats=stats)
    ((labels, buckets, total),) = metrics._batches("tx_batches", reading)
    assert (labels, total) == ((), None)
    assert buckets == [("1.0", 5), ("3.0", 8), ("7.0", 8), ("+Inf", 9)]


def test_a_batch_is_in_the_bucket_of_its_size(used: Tunnel) -> None:
    scrape, stats = Scrape(DeviceCollector(used.server.device)), used.server.device.stats()
    for way, counts in (("tx", stats.tx_batches), ("rx", stats.rx_batches)):
        assert scrape(f"{way}_batch_packets_bucket", le="1.0") == counts[0]
        assert scrape(f"{way}_batch_packets_bucket", le="+Inf") == sum(counts) > 0


def test_every_counter_of_a_device_has_a_metric() -> None:
    apart = {"drops", "tx_batches", "rx_batches", "offloads"}
    assert metrics._COUNTERS.keys() | metrics._GAUGES.keys() | apart == {
        field.name for field in fields(DeviceStats)
    }
    assert metrics._OF_PEERS.keys() == {
        field.name
        for field in fields(PeerStats)
        if field.name.startswith(("link_", "vpn_")) and field.name != "link_errors"
    }


def test_sums_and_series_of_peers(used: Tunnel) -> None:
    scrape = Scrape(DeviceCollector(used.server.device, peer_series_max=1))
    stats = used.server_peer.stats()
    for column in metrics._OF_PEERS:
        assert scrape(f"peers_{column}") == getattr(stats, column) > 0
        assert scrape(f"peer_{column}_total", peer="7") == getattr(stats, column)
    assert scrape("peers_left_out") == 0


def test_peers_have_no_series_unless_asked_for(used: Tunnel) -> None:
    scrape = Scrape(DeviceCollector(used.server.device))
    assert not [s for s in scrape.samples if s.name.startswith("ovpn_dco_peer_link")]
    assert "peer" not in {label for s in scrape.samples for label in s.labels}


def test_series_of_peers_are_bounded() -> None:
    with host() as h:
        for peer_id in (9, 4, 300, 5):
            add(h, peer_id)
        scrape = Scrape(DeviceCollector(h.device, peer_series_max=3))
    assert scrape.series("peer_vpn_rx_bytes_total") == [{"peer": "4"}, {"peer": "5"}, {"peer": "9"}]
    assert scrape("peers_left_out") == 1


@pytest.mark.parametrize("maximum", [-1, 1 << 17])
@pytest.mark.parametrize("collector", [DeviceCollector, ServerCollector])
def test_the_bound_of_series_is_bounded(collector: Any, maximum: int) -> None:
    refused(dco.OutOfRange, "peer_series_max", lambda: collector(None, peer_series_max=maximum))


def test_no_counter_falls_when_a_peer_goes(used: Tunnel) -> None:
    collector = DeviceCollector(used.server.device)
    before = Scrape(collector)
    used.server_peer.delete()
    after = Scrape(collector)
    counters = [
        (s.name, s.labels)
        for family in before.families.values()
        if family.type in ("counter", "histogram")
        for s in family.samples
    ]
    assert len(counters) > 80
    for name, labels in counters:
        name = name.removeprefix("ovpn_dco_")
        assert after(name, **labels) >= before(name, **labels), name
    assert before("peers_vpn_rx_bytes") > 0
    assert (after("peers_vpn_rx_bytes"), after("peers")) == (0, 0)


def test_sums_of_peers_are_no_counters() -> None:
    kinds = {metric.kind for metric in metrics.DEVICE if metric.name.startswith("ovpn_dco_peers_")}
    assert kinds == {"gauge"}


@pytest.mark.parametrize("kind", [DeviceCollector, ServerCollector])
def test_a_closed_device_has_no_samples(kind: Any) -> None:
    with host() as h:
        of = h.device if kind is DeviceCollector else served_by(h)
        collector = kind(of)
        assert Scrape(collector).samples
    assert not [s for s in Scrape(collector).samples if not s.name.startswith("ovpn_dco_server")]


def test_to_register_reads_nothing() -> None:
    class Untouched:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    of: Any = Untouched()
    for collector in (DeviceCollector(of), ServerCollector(of, peer_series_max=5)):
        CollectorRegistry(auto_describe=True).register(collector)


def scrape_until(ended: threading.Event, collector: Any) -> None:
    while not ended.is_set():
        Scrape(collector)


def test_scrapes_of_other_threads_beside_traffic_and_the_end() -> None:
    with tunnel() as made, ThreadPoolExecutor() as threads:
        made.install()
        collector = DeviceCollector(made.server.device, peer_series_max=10)
        ended = threading.Event()
        scrapes = [threads.submit(scrape_until, ended, collector) for _ in range(2)]
        try:
            for _ in range(50):
                made.up()
            made.server.device.close()
        finally:
            ended.set()
        for one in scrapes:
            one.result()


# Servers


def served_by(h: Host) -> Any:
    return SimpleNamespace(device=h.device, stats=lambda: STATS)


def test_a_server_adds_its_own() -> None:
    with host() as h:
        add(h, 5)
        scrape = Scrape(ServerCollector(served_by(h), peer_series_max=1))
    assert scrape("server_connected") == 3
    assert scrape("server_negotiating") == 2
    assert scrape("server_accepted_total") == 9
    assert scrape("server_refusals_total", reason="tag_mismatch") == 4
    assert scrape("server_refusals_total", reason="too_short") == 1
    assert scrape("server_send_failures_total", error="TryAgain") == 5
    assert scrape("peers") == 1
    assert scrape("peer_vpn_rx_bytes_total", peer="5") == 0


def test_every_counter_of_a_server_has_a_metric() -> None:
    names = {metric.name.removeprefix("ovpn_dco_server_") for metric in metrics.SERVER}
    assert names == {field.name for field in fields(ServerStats)}


def test_a_server_has_samples_while_it_runs() -> None:
    async def body() -> None:
        server = Server(server_lab.configuration())
        assert not Scrape(ServerCollector(server)).samples
        async with server_lab.serving() as server:
            collector = ServerCollector(server)
            async with server_lab.Caller(server):
                scrape = await asyncio.to_thread(Scrape, collector)
                assert scrape("server_connected") == scrape("peers") == 1
            ended = threading.Event()
            beside = asyncio.create_task(asyncio.to_thread(scrape_until, ended, collector))
        ended.set()
        await beside
        assert not Scrape(collector).samples

    server_lab.run(body)


# Names and formats


def test_the_stricter_format_is_met_as_well(used: Tunnel) -> None:
    registry = CollectorRegistry()
    registry.register(ServerCollector(served_by(used.server), peer_series_max=2))
    text = exposition.generate_latest(registry).decode()
    families = {family.name for family in parser.text_string_to_metric_families(text)}
    assert families == {m.name for m in (*metrics.DEVICE, *metrics.PEER, *metrics.SERVER)}


def test_where_the_library_is_missing_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "ovpn_dco.observe.prometheus")
    for name in [name for name in sys.modules if name.split(".")[0] == "prometheus_client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ovpn-dco\[prometheus\]'"):
        importlib.import_module("ovpn_dco.observe.prometheus")
