"""From a report to tables, Markdown, JSON and pictures; from the output of programs to figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from ovpn_dco.bench import plot
from ovpn_dco.bench.errors import MeasurementError, UnavailableError
from ovpn_dco.bench.figures import Sample, Samples
from ovpn_dco.bench.measure import (
    Pings,
    cpu_seconds,
    percentile,
    read_iperf,
    read_ping,
    voluntary_switches,
)
from ovpn_dco.bench.memory import MemoryCase, MemoryCost
from ovpn_dco.bench.report import Report, as_dict, markdown, number, show, write_json
from ovpn_dco.bench.scenarios import CryptoCost
from ovpn_dco.bench.subjects.wireguard import release_date


@pytest.fixture
def report() -> Report:
    figures = [("ours", 5.0), ("ours", 4.0), ("openvpn", 0.5), ("openvpn", 0.4)]
    return Report(
        machine={"processor": "Some CPU", "kernel": "6.12"},
        versions={"ours": "ovpn_dco 0.1.0", "openvpn": "OpenVPN 2.6.14"},
        absent={"wireguard-go": "wireguard-go is not installed"},
        crypto=[CryptoCost("AES-256-GCM", "seal", 64, raw_ns=200.0, core_ns=212.0)],
        samples=Samples(
            Sample("veth", subject, "tcp", index % 2, value)
            for index, (subject, value) in enumerate(figures)
        ),
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.456, "0.46"), (9.99, "9.99"), (10.04, "10.0"), (99.94, "99.9"), (1234.5, "1234")],
)
def test_numbers_have_about_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_the_terminal_shows_figures_ratios_and_who_is_missing(report: Report) -> None:
    console = Console(width=100, record=True, file=None, quiet=False)
    with console.capture() as capture:
        show(report, console)
    text = capture.get()
    for expected in (
        "one TCP stream, Gb/s",
        "4.50",
        "10.0x",
        "+12",
        "did not take part",
        "reached",
    ):
        assert expected in text


def test_markdown_has_whole_rows(report: Report) -> None:
    text = markdown(report)
    assert "| ours | 4.50 | 4.00 | 5.00 |  |  |" in text
    assert "| openvpn | 0.45 | 0.40 | 0.50 | 10.0x | 10.0x |" in text
    for table in text.split("\n\n"):
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_a_course_over_tcp_and_a_variant_of_ours_are_named(report: Report) -> None:
    report.samples = Samples(
        Sample("tcp veth", subject, "peers-up", 0, value)
        for subject, value in (("ours, 2 workers", 3.0), ("raw", 6.0))
    )
    text = markdown(report)
    assert "### tcp veth: tunnel over TCP, veth as it is" in text
    assert "**TCP, a stream for each peer, upload, Gb/s**" in text
    assert "| ours, 2 workers | 3.00 | 3.00 | 3.00 |  |  |" in text
    assert "| raw | 6.00 | 6.00 | 6.00 | 0.50x | 0.50x |" in text


def test_memory_is_a_table_and_part_of_the_json(report: Report) -> None:
    case = MemoryCase("udp", "AES-256-GCM", epoch=True, peers=1024)
    report.memory = [MemoryCost(case, device=2**20, peer=1000.4, key=2000.0, connection=0.0)]
    row = "| UDP, AES-256-GCM, epochs | 1024 | 0 | 1000 | 2000 | 3000 | 1.0 | 3.9 |"
    assert row in markdown(report)
    (cost,) = as_dict(report)["memory"]
    assert cost["case"]["peers"] == 1024
    assert cost["peer"] == 1000.4


def test_json_holds_every_sample(report: Report, tmp_path: Path) -> None:
    write_json(report, tmp_path / "report.json")
    loaded = json.loads((tmp_path / "report.json").read_text())
    assert loaded == json.loads(json.dumps(as_dict(report)))
    assert len(loaded["samples"]) == 4
    assert [verdict["reached"] for verdict in loaded["verdicts"]] == [True, True]


def test_the_picture_shows_all_there_is(report: Report, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    case = MemoryCase("udp", "AES-256-GCM", epoch=False, peers=10)
    report.memory = [MemoryCost(case, device=1, peer=1.0, key=1.0, connection=0.0)]
    plot.write_plot(report, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_missed_target_is_noticed(report: Report) -> None:
    assert report.reached()
    report.crypto = [CryptoCost("AES-256-GCM", "seal", 64, raw_ns=200.0, core_ns=300.0)]
    assert not report.reached()


def test_the_picture_needs_matplotlib_and_says_so(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="pip install"):
        plot.require_matplotlib()


def test_iperf_output_is_read() -> None:
    received = {"bits_per_second": 2.5e9, "bytes": 1000}
    run = read_iperf(json.dumps({"end": {"sum_received": received}}).encode())
    assert (run.gbps, run.bytes) == (2.5, 1000)


@pytest.mark.parametrize("output", [b"", b'{"error": "unable to connect"}'])
def test_a_failed_iperf_is_no_figure(output: bytes) -> None:
    with pytest.raises(MeasurementError, match="iperf3"):
        read_iperf(output)


def test_ping_output_is_read() -> None:
    output = (
        "64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.125 ms\n"
        "64 bytes from 10.0.0.1: icmp_seq=2 ttl=64 time=12 ms\n"
        "rtt min/avg/max/mdev = 0.1/0.2/0.3/0.1 ms\n"
    )
    assert read_ping(output) == [125.0, 12000.0]


def test_pings_that_have_no_answer_are_the_slowest() -> None:
    answers = "".join(
        f"64 bytes from 10.0.0.1: icmp_seq={number} ttl=64 time={number / 1000} ms\n"
        for number in (*range(1, 50), *range(52, 101))
    )
    pings = Pings.read(answers)
    assert pings.lost == 2
    assert pings.percentile(50) == pytest.approx(52.0)
    assert pings.percentile(98) == pytest.approx(100.0)
    assert pings.percentile(99) == 1e6
    assert Pings.read("").lost == 0


@pytest.mark.parametrize(("percent", "value"), [(1, 1.0), (50, 2.0), (75, 3.0), (99, 4.0)])
def test_percentiles_are_values_that_were_seen(percent: float, value: float) -> None:
    assert percentile([3.0, 1.0, 4.0, 2.0], percent) == value


def test_process_figures_are_those_of_all_threads() -> None:
    import os
    import threading
    import time

    before = cpu_seconds([os.getpid()]), voluntary_switches([os.getpid()])
    stop = threading.Event()

    def work() -> None:
        deadline = time.thread_time() + 0.1
        while time.thread_time() < deadline:
            pass
        for _ in range(20):
            time.sleep(0.001)
        stop.wait()

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.01)
    while cpu_seconds([os.getpid()]) - before[0] < 0.08:
        time.sleep(0.01)
    time.sleep(0.1)
    assert voluntary_switches([os.getpid()]) - before[1] >= 20
    stop.set()
    thread.join()


@pytest.mark.parametrize(
    ("version", "date"),
    [
        ("wireguard-go 0.0.20231211-1~bpo12+1", 20231211),
        ("wireguard-go 0.0.20220316-1+b4", 20220316),
        ("wireguard-go", None),
    ],
)
def test_wireguard_release_date(version: str, date: int | None) -> None:
    assert release_date(version) == date
