"""The bench itself: each command runs on real traffic, in seconds, and leaves figures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from support import needs_root, needs_tool, processor_has_vaes
from system.nobody import nobody_prefix

from ovpn_dco.bench.datagrams import DatagramPath
from ovpn_dco.testing import Topology

QUICK = ["--short", "--rounds", "1", "--seconds", "1", "--udp-seconds", "0.05"]


def bench(*arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "ovpn_dco.bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def report_of(path: Path, *arguments: str, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    done = bench(*arguments, "--json", str(path), prefix=prefix)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def test_crypto(tmp_path: Path) -> None:
    report = report_of(tmp_path / "report.json", "crypto", "--batches", "3")
    # 3 ciphers, 2 ways, 4 sizes; the two of AES also with our own code.
    assert len(report["crypto"]) == 24 + 16 * processor_has_vaes()
    assert all(cost["raw_ns"] > 0 and cost["core_ns"] > 0 for cost in report["crypto"])


def test_markdown_and_help(tmp_path: Path) -> None:
    done = bench("crypto", "--batches", "1", "--markdown", str(tmp_path / "tables.md"))
    assert done.returncode == 0, done.stderr
    assert "AES-256-GCM seal 1400 B" in (tmp_path / "tables.md").read_text()
    assert "compare" in bench("--help").stdout


@needs_root
@needs_tool("iperf3", "ping")
@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("course", ["veth", "bare"])
def test_tunnel(tmp_path: Path, course: str) -> None:
    report = report_of(tmp_path / "report.json", "tunnel", "--course", course, *QUICK)
    figures = {(s["subject"], s["metric"]): s["value"] for s in report["samples"]}
    metrics = {metric for _, metric in figures}
    assert {"tcp1-up-ipv4", "tcp4-down-ipv6", "udp64", "udp1300", "rtt", "rtt-load"} <= metrics
    for metric in metrics:
        assert figures["ours", metric] > 0
        assert figures["raw", metric] > 0
    assert all(endpoint["vpn_rx_packets"] > 0 for endpoint in report["endpoints"])


@needs_root
@needs_tool("iperf3", "ping")
@pytest.mark.system
@pytest.mark.slow
def test_tunnel_over_tcp(tmp_path: Path) -> None:
    report = report_of(tmp_path / "report.json", "tunnel", "--transport", "tcp", *QUICK)
    figures = {(s["subject"], s["metric"]): s["value"] for s in report["samples"]}
    assert {s["course"] for s in report["samples"]} == {"tcp veth"}
    assert all(figures["ours", metric] > 0 for _, metric in figures)
    assert {metric for _, metric in figures} >= {"tcp1-up-ipv4", "udp64", "rtt", "rtt-load-p95"}
    for endpoint in report["endpoints"]:
        assert endpoint["tcp_packets_per_send"] > 1
        assert endpoint["tcp_packets_per_receive"] > 1
        assert endpoint["packets_per_send"] == 0


@needs_root
@needs_tool("iperf3", "ping")
@pytest.mark.system
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_tunnel_with_workers_and_peers(tmp_path: Path, transport: str) -> None:
    variant = ["--workers", "2", "--peers", "3", "--transport", transport]
    report = report_of(tmp_path / "report.json", "tunnel", *variant, *QUICK)
    assert (report["settings"]["workers"], report["settings"]["peers"]) == (2, 3)
    figures = {(s["subject"], s["metric"]): s["value"] for s in report["samples"]}
    for way in ("up", "down"):
        whole, server = (figures["ours, 2 workers", f"peers-{way}-{w}"] for w in ("cpu", "server"))
        assert 0 < server < whole
        assert figures["ours, 2 workers", f"peers-{way}"] > 0
        assert figures["raw", f"peers-{way}"] > 0
    server, *clients = report["endpoints"]
    assert len(clients) == 3
    assert all(client["vpn_rx_packets"] > 0 for client in clients)
    assert server["vpn_rx_packets"] > max(client["vpn_tx_packets"] for client in clients) / 2


@needs_root
@needs_tool("iperf3", "ping")
@pytest.mark.system
def test_a_single_thread_says_so(tmp_path: Path) -> None:
    arguments = ["compare", "--single-thread", "--course", "jumbo", "--subject", "ours", *QUICK]
    report = report_of(tmp_path / "report.json", *arguments)
    assert {s["subject"] for s in report["samples"]} == {"ours, single thread"}


def test_memory(tmp_path: Path) -> None:
    tables = tmp_path / "tables.md"
    few = ["--peers", "200", "--tcp-peers", "50", "--markdown", str(tables)]
    report = report_of(tmp_path / "report.json", "memory", *few)
    cases = [(cost["case"]["transport"], cost["case"]["peers"]) for cost in report["memory"]]
    assert cases == [("udp", 200)] * (4 + processor_has_vaes()) + [("tcp", 50)]
    assert all(cost["peer"] > 0 and cost["key"] > 0 for cost in report["memory"])
    # What is resident changes by a page or two of its own accord, so that 0 may be 20 a peer.
    assert re.search(r"^\| UDP, AES-256-GCM \| 200 \| -?\d{1,2} \|", tables.read_text(), re.M)


@needs_root
@needs_tool("iperf3", "ping", "openvpn", "openssl")
@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_compare(tmp_path: Path, transport: str) -> None:
    subjects = ["--subject", "ours", "--subject", "openvpn", "--subject", "raw"]
    arguments = ["compare", "--transport", transport, "--course", "veth", *subjects, *QUICK]
    report = report_of(tmp_path / "report.json", *arguments)
    figures = {(s["subject"], s["metric"]): s["value"] for s in report["samples"]}
    loaded = ("rtt-load", "rtt-load-p95") if transport == "tcp" else ()
    for metric in ("tcp", "cpu", "udp64", "udp64-overload", "rtt", *loaded):
        assert figures["ours", metric] > 0
        assert figures["openvpn", metric] > 0
    assert figures["raw", "tcp"] > figures["ours", "tcp"]
    assert {verdict["reached"] for verdict in report["verdicts"]} <= {True, False}


@needs_root
@needs_tool("iperf3", "ping", "openvpn", "openssl")
@pytest.mark.alone
@pytest.mark.system
@pytest.mark.slow
@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="servers have a processor of their own"
)
def test_handshake(tmp_path: Path) -> None:
    few = ["--rounds", "1", "--seconds", "0.5", "--in-flight", "8"]
    report = report_of(tmp_path / "report.json", "handshake", *few)
    figures = {(s["subject"], s["metric"]): s["value"] for s in report["samples"]}
    for subject in ("ours", "openvpn"):
        assert figures[subject, "handshake-cpu"] > 0
        capacity = figures[subject, "handshakes-capacity"]
        assert capacity * figures[subject, "handshake-cpu"] == pytest.approx(1000)
        assert ((subject, "handshakes") in figures) != (
            (subject, "handshakes-generator") in figures
        )
    assert {outcome["failed"] for outcome in report["endpoints"]} == {0}


@needs_root
@pytest.mark.system
def test_a_sender_goes_on_until_it_is_told() -> None:
    with Topology() as t:
        path = DatagramPath(t.right, t.left, t.link.left_ipv4)
        for _ in range(2):
            path.start(1000, size=64)
            until_told = path.stop()
            assert until_told.loss == 0
            assert until_told.received_pps == until_told.offered_pps > 0
        assert path.trial(1000, size=64, seconds=0.05).loss == 0


@needs_root
@needs_tool("iperf3", "ping", "openvpn", "openssl")
@pytest.mark.alone
@pytest.mark.system
@pytest.mark.slow
def test_storm(tmp_path: Path) -> None:
    few = ["--storm", "--rounds", "1", "--clients", "10", "--seconds", "0.5", "--rate", "20"]
    report = report_of(tmp_path / "report.json", "handshake", *few)
    figures = {(s["subject"], s["metric"]): s["value"] for s in report["samples"]}
    for subject in ("ours", "openvpn"):
        for when in ("quiet", "storm"):
            assert figures[subject, f"{when}-offered"] > 0
            assert 0 <= figures[subject, f"{when}-loss"] < 100
            assert 0 < figures[subject, f"{when}-rtt"] <= figures[subject, f"{when}-p99"]
        ratio = figures[subject, "storm-p99"] / figures[subject, "quiet-p99"]
        assert figures[subject, "storm-p99-ratio"] == pytest.approx(ratio)
    storms = [outcome["storm"] for outcome in report["endpoints"]]
    assert [(storm["completed"], storm["failed"]) for storm in storms] == [(10, 0)] * 2
    assert all(storm["server_cpu_s"] > 0 for storm in storms)


@needs_root
@needs_tool("iperf3", "ping", "openssl", "wireguard-go", "unshare")
@pytest.mark.system
def test_compare_with_wireguard_go(tmp_path: Path) -> None:
    arguments = ["compare", "--course", "bare", "--subject", "wireguard-go", *QUICK]
    report = report_of(tmp_path / "report.json", *arguments)
    assert {s["metric"] for s in report["samples"]} >= {"tcp", "cpu", "udp64", "rtt"}
    assert report["versions"]["wireguard-go"].startswith("wireguard-go ")


@needs_root
@needs_tool("iperf3", "ping", "setpriv", "unshare")
@pytest.mark.system
def test_without_privilege_it_makes_a_user_namespace(tmp_path: Path) -> None:
    arguments = ["compare", "--course", "bare", "--subject", "ours", *QUICK]
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        report = report_of(Path(place) / "report.json", *arguments, prefix=nobody_prefix(tmp_path))
    assert {s["metric"] for s in report["samples"]} >= {"tcp", "cpu", "udp64", "rtt"}


@needs_root
@needs_tool("unshare")
@pytest.mark.system
def test_where_it_cannot_run_it_says_why() -> None:
    hide = 'mount -t tmpfs none /dev/net && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", hide, "sh")
    done = bench("compare", "--short", prefix=prefix)
    assert done.returncode == 1
    assert "cannot run here: /dev/net/tun: No such file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check", "crypto"], "after crypto"),
        (["tunnel", "--offloads", "udp_gso,warp"], "warp: not one of"),
        (["tunnel", "--cipher", "ROT13"], "ROT13: not one of"),
        (["compare", "--course", "moon"], "moon"),
        (["compare", "--transport", "sctp"], "sctp"),
        (["tunnel", "--workers", "2", "--single-thread"], "give no --workers"),
        (["compare", "--workers", "17"], "17"),
        (["tunnel", "--peers", "0"], "0"),
        (["memory", "--peers", "0"], "0"),
        (["handshake", "--subject", "raw"], "raw"),
        (["handshake", "--rate", "10"], "of a --storm"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], message: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
