"""`--metrics`: served while an endpoint runs; where it cannot be, the error names the option."""

from __future__ import annotations

import importlib.util
import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.fakes import FakeEndpoint, client_file, raises_signal, run, server_file
from click.testing import Result
from loopback import Host, host
from prometheus_client.parser import text_string_to_metric_families

from ovpn_dco.cli.metrics import Place
from ovpn_dco.cli.tunnel import Surroundings
from ovpn_dco.server import ServerStats


class Endpoint(FakeEndpoint):
    """With a device that is one; `stats` are those of a server."""

    def __init__(self, h: Host, during: Callable[[str], None]) -> None:
        super().__init__(during)
        self.device: Any = h.device

    def stats(self) -> ServerStats:
        return ServerStats(
            connected=2, negotiating=0, accepted=3, refusals={}, send_failures={"Busy": 1}
        )


@pytest.fixture
def device() -> Iterator[Host]:
    with host() as h:
        yield h


@pytest.fixture
def port() -> int:
    """Free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def scrape(port: int, place: str = "127.0.0.1") -> dict[str, float]:
    """Samples without labels."""
    with urllib.request.urlopen(f"http://{place}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {s.name: s.value for family in families for s in family.samples if not s.labels}


def run_with(command: str, tmp_path: Path, metrics: object, endpoint: FakeEndpoint) -> Result:
    file = (server_file if command == "server" else client_file)(tmp_path)
    surroundings = Surroundings(server=endpoint, client=endpoint)
    return run(surroundings, command, file, "--metrics", metrics)


class Scraping:
    """A `during` that scrapes while the endpoint runs, and then ends it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: dict[str, float] = {}

    def __call__(self, step: str) -> None:
        if step == "waiting":
            self.seen = scrape(self.port)
        raises_signal(signal.SIGTERM, "waiting")(step)


@pytest.mark.parametrize("command", ["server", "client"])
@pytest.mark.parametrize("form", ["{}", ":{}", "127.0.0.1:{}", "localhost:{}"])
def test_they_are_served_while_it_runs(
    tmp_path: Path, device: Host, port: int, command: str, form: str
) -> None:
    threads = threading.active_count()
    scraping = Scraping(port)
    result = run_with(command, tmp_path, form.format(port), Endpoint(device, scraping))
    assert result.exit_code == 0, result.output
    assert scraping.seen["ovpn_dco_transports"] == 1
    assert scraping.seen.get("ovpn_dco_server_connected") == (2 if command == "server" else None)
    assert threading.active_count() == threads
    with pytest.raises(urllib.error.URLError):
        scrape(port)


def test_the_log_says_where(tmp_path: Path, device: Host) -> None:
    endpoint = Endpoint(device, raises_signal(signal.SIGTERM, "waiting"))
    result = run_with("server", tmp_path, 0, endpoint)
    assert re.search(r"metrics at http://127\.0\.0\.1:[1-9]\d*/metrics", result.output)


def test_nothing_is_served_unless_asked_for(tmp_path: Path, device: Host) -> None:
    threads: list[int] = []

    def during(step: str) -> None:
        threads.append(threading.active_count())
        raises_signal(signal.SIGTERM, "waiting")(step)

    endpoint = Endpoint(device, during)
    assert run(Surroundings(server=endpoint), "server", server_file(tmp_path)).exit_code == 0
    assert len(set(threads)) == 1


def test_a_port_in_use_ends_it_with_the_option_named(tmp_path: Path, device: Host) -> None:
    endpoint = Endpoint(device, lambda step: None)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        place = f"127.0.0.1:{sock.getsockname()[1]}"
        result = run_with("server", tmp_path, place, endpoint)
    assert result.exit_code == 1
    assert f"--metrics {place}: Address already in use" in result.output
    assert endpoint.steps[-1] == "closed"


@pytest.mark.parametrize(
    "value", ["", "here", "127.0.0.1", "::1:9176", "1.2.3.4:", "host:-1", "host:65536", "[::1]"]
)
def test_what_is_no_place_is_refused(tmp_path: Path, value: str) -> None:
    endpoint = FakeEndpoint()
    result = run_with("client", tmp_path, value, endpoint)
    assert result.exit_code == 2
    assert "--metrics" in result.output
    assert endpoint.steps == []


def test_a_host_with_colons_is_in_brackets() -> None:
    assert str(Place("::1", 9176)) == "[::1]:9176"
    assert str(Place("vpn.example", 9176)) == "vpn.example:9176"


def test_the_extra_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == "prometheus_client" else find(name, *more),
    )
    endpoint = FakeEndpoint()
    result = run_with("server", tmp_path, 9176, endpoint)
    assert result.exit_code == 2
    said = " ".join(result.output.replace("│", " ").split())
    assert "--metrics" in said
    assert "pip install 'ovpn-dco[prometheus]'" in said
    assert endpoint.steps == []
