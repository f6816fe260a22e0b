"""Collectors for prometheus-client: `DeviceCollector` and `ServerCollector`.

    registry = CollectorRegistry()
    registry.register(DeviceCollector(device))
    start_http_server(9176, "127.0.0.1", registry)

docs/observe.md lists the metrics. A collector may be asked by any thread: it reads counters, which
stops no traffic. Of a device or server that was closed, or does not run yet, there are no samples.
A registry takes one collector: several devices need several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

try:
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "prometheus-client is not installed: pip install 'ovpn-dco[prometheus]'", name=error.name
    ) from error

from ..errors import DeviceClosed, InvalidArgument
from ..validation.arguments import bounded
from .metrics import DEVICE, PEER, SERVER, DeviceReading, Metric

if TYPE_CHECKING:
    from ..device import Device
    from ..server.server import Server

__all__ = ["PEER_SERIES_MAX", "DeviceCollector", "ServerCollector"]

PEER_SERIES_MAX = 65536

_Source = TypeVar("_Source")

_FAMILIES: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
    "info": InfoMetricFamily,
}


def _bound(maximum: int) -> int:
    return bounded("peer_series_max", maximum, 0, PEER_SERIES_MAX)


def _of_device(peer_series_max: int) -> tuple[Metric[DeviceReading], ...]:
    return (*DEVICE, *PEER) if peer_series_max else DEVICE


def _family(metric: Metric[Any]) -> Family:
    family: Family = _FAMILIES[metric.kind](metric.name, metric.text, labels=metric.labels)
    return family


def _filled(metrics: Iterable[Metric[_Source]], source: _Source) -> Iterator[Family]:
    for metric in metrics:
        family: Any = _family(metric)
        for sample in metric.read(source):
            family.add_metric(*sample)
        yield family


class DeviceCollector(Collector):
    """Metrics of a device.

    `peer_series_max` peers, those of the lowest ids, get series of their own, labelled by peer id:
    eight for each peer, so there are none unless asked for. An id that is given to
    another peer goes on in the same series, from zero, which Prometheus takes as a reset."""

    def __init__(self, device: Device, *, peer_series_max: int = 0) -> None:
        self._device = device
        self._peer_series_max = _bound(peer_series_max)

    def describe(self) -> Iterator[Family]:
        """The metrics without samples, so that to register reads nothing."""
        return map(_family, _of_device(self._peer_series_max))

    def collect(self) -> Iterator[Family]:
        """The samples of this moment."""
        try:
            reading = DeviceReading.of(self._device, self._peer_series_max)
        except DeviceClosed:
            return
        yield from _filled(_of_device(self._peer_series_max), reading)


class ServerCollector(Collector):
    """Metrics of a server, and of its device as `DeviceCollector` has them."""

    def __init__(self, server: Server, *, peer_series_max: int = 0) -> None:
        self._server = server
        self._peer_series_max = _bound(peer_series_max)

    def describe(self) -> Iterator[Family]:
        """The metrics without samples, so that to register reads nothing."""
        yield from map(_family, _of_device(self._peer_series_max))
        yield from map(_family, SERVER)

    def collect(self) -> Iterator[Family]:
        """The samples of this moment."""
        try:
            device, stats = self._server.device, self._server.stats()
        except InvalidArgument:  # it does not run
            return
        yield from DeviceCollector(device, peer_series_max=self._peer_series_max).collect()
        yield from _filled(SERVER, stats)
