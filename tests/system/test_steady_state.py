"""While packets flow: no allocation, no Python. While none flow: no wake-up."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import needs_tool
from system.tunnel import SERVER_IPV4, SYSTEM, eventually, open_tunnel, ping

pytestmark = SYSTEM

TESTS = Path(__file__).parents[1]
IDLE_S = 10


WAYS: dict[str, dict[str, object]] = {
    "UDP": {},
    "TCP": {"tcp": True},
    "UDP, 3 workers": {"workers": 3},
    "TCP, 3 workers": {"tcp": True, "workers": 3},
    "TCP, single thread": {"tcp": True, "single_thread": True},
}


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS.keys())
def measured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, int]:
    """The figures of `steady.py`, with `allocations.c` preloaded."""
    library = tmp_path_factory.mktemp("preload") / "allocations.so"
    source = Path(__file__).with_name("allocations.c")
    compiler = ["gcc", "-std=gnu11", "-O2", "-fno-builtin", "-shared", "-fPIC"]
    subprocess.run([*compiler, str(source), "-o", str(library)], check=True)
    done = subprocess.run(
        [sys.executable, str(TESTS / "system" / "steady.py"), json.dumps(request.param)],
        env={
            **os.environ,
            "LD_PRELOAD": str(library),
            "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, int] = json.loads(done.stdout)
    return figures


@needs_tool("gcc")
def test_no_allocation_per_packet(measured: dict[str, int]) -> None:
    """Tens of thousands of packets, and nothing allocated or freed by what carries them."""
    assert measured["packets"] > 30_000
    assert measured["engine_allocations"] == 0
    assert measured["engine_frees"] == 0
    # The counter does count: Python's own threads, and engine threads once they have a reason.
    assert measured["other_allocations"] > 0
    assert measured["frees_when_keys_go"] > 0
    assert measured["drop_reasons"] >= 2, "drops were part of it"


@needs_tool("gcc")
def test_no_python_per_packet(measured: dict[str, int]) -> None:
    """The engine's threads have no Python thread state, and need no interpreter lock to work."""
    assert measured["python_threads"] == measured["threads_of_python"]
    assert measured["packets_without_gil"] > 1000


# Idle


def engine_threads() -> dict[int, str]:
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name = (task / "comm").read_text().strip()
            if name.startswith("dco-"):
                found[int(task.name)] = name
    return found


def wake_ups(threads: dict[int, str]) -> dict[int, int]:
    counts = {}
    for thread in threads:
        status = Path(f"/proc/self/task/{thread}/status").read_text()
        counts[thread] = int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return counts


def test_idle_device_does_not_wake_up() -> None:
    """Ten seconds: not once without keepalive, at most once a second and thread with it."""
    before = engine_threads()
    with open_tunnel() as silent:
        silent_threads = {t: n for t, n in engine_threads().items() if t not in before}
        with open_tunnel() as kept:
            known = before | silent_threads
            kept_threads = {t: n for t, n in engine_threads().items() if t not in known}
            assert len(silent_threads) == len(kept_threads) == 4
            for tunnel in (silent, kept):
                ping(tunnel.client.namespace, SERVER_IPV4)
            kept.pair.at_client.set_keepalive(interval_s=1, timeout_s=60)
            kept.pair.at_server.set_keepalive(interval_s=0, timeout_s=60)

            def quiet() -> bool:
                reading = wake_ups(silent_threads)
                time.sleep(0.5)
                return wake_ups(silent_threads) == reading

            eventually(quiet, what="the namespaces silent")
            at_rest, at_one = wake_ups(silent_threads), wake_ups(kept_threads)
            started = time.monotonic()
            time.sleep(IDLE_S)
            awake = {t: n - at_one[t] for t, n in wake_ups(kept_threads).items()}
            still = {t: n - at_rest[t] for t, n in wake_ups(silent_threads).items()}
            elapsed = time.monotonic() - started
            assert set(still.values()) == {0}, still
            assert max(awake.values()) <= elapsed + 1, awake
            assert sum(awake.values()) >= IDLE_S / 2, "keepalives did go out"
            assert kept.pair.at_server.stats().keepalive_rx >= IDLE_S / 2
