"""``--metrics``: where an endpoint's metrics are served, for as long as it runs."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

import click

from ovpn_dco.cli.runner import Endpoint

if TYPE_CHECKING:
    from ovpn_dco.server.server import Server

__all__ = ["Place", "place_of", "serving"]

PORT_MAX = 0xFFFF
_LOOPBACK = "127.0.0.1"
logger = logging.getLogger("ovpn_dco.cli")


class Place(NamedTuple):
    """Port 0: any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def place_of(ctx: click.Context, param: click.Parameter, value: str | None) -> Place | None:
    """``HOST:PORT``, ``[HOST]:PORT`` where the host has colons, or a port of this machine only.

    BadParameter names the option, also where prometheus-client is missing: nothing has started."""
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if (":" in host and not bracketed) or not (port.isascii() and port.isdecimal()):
        raise click.BadParameter(f"{value!r} is not HOST:PORT")
    if int(port) > PORT_MAX:
        raise click.BadParameter(f"{value!r}: a port is at most {PORT_MAX}")
    if importlib.util.find_spec("prometheus_client") is None:
        extra = "pip install 'ovpn-dco[prometheus]'"
        raise click.BadParameter(f"prometheus-client is not installed: {extra}")
    return Place(host.strip("[]") or _LOOPBACK, int(port))


@contextlib.contextmanager
def serving(place: Place, endpoint: Endpoint, *, server: bool) -> Iterator[None]:
    """Serves metrics of a client, or a server, in threads of their own: who asks does not wait for
    the loop, nor the loop for them. OSError names the option."""
    from prometheus_client import CollectorRegistry, start_http_server

    from ovpn_dco.observe.prometheus import DeviceCollector, ServerCollector

    registry = CollectorRegistry()
    registry.register(
        ServerCollector(cast("Server", endpoint)) if server else DeviceCollector(endpoint.device)
    )
    try:
        http, thread = start_http_server(place.port, place.host, registry)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"--metrics {place}") from error
    logger.info("metrics at http://%s/metrics", place._replace(port=http.server_port))
    try:
        yield
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
