"""What every test shares: the `root` marker, hypothesis profiles, and the policing of skips.

Under CI a test that is skipped is a test that nobody ran, so there each skip must be announced:
its reason has to match a pattern of `expected_skips.txt`, or the run fails."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support import missing_privilege

EXPECTED_SKIPS = Path(__file__).with_name("expected_skips.txt")

# Shared machines pause a process for longer than any deadline that would say something.
settings.register_profile("default", deadline=None)
settings.register_profile(
    "ci", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--alone",
        action="store_true",
        help="only tests that want the machine for themselves; several processes leave those out",
    )


def leave_to_the_other_run(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked `alone` goes in a run of its own where tests run side by side."""
    alone = config.getoption("--alone")
    if not alone and "PYTEST_XDIST_WORKER" not in os.environ:
        return
    parts: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        parts[bool(item.get_closest_marker("alone"))].append(item)
    config.hook.pytest_deselected(items=parts[not alone])
    items[:] = parts[alone]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_to_the_other_run(config, items)
    reason = missing_privilege()
    if reason:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason=reason))


def expected_skips(path: Path = EXPECTED_SKIPS) -> Iterator[re.Pattern[str]]:
    """One regular expression for each line of the list; `#` starts a comment."""
    for line in path.read_text().splitlines():
        pattern = line.partition("#")[0].strip()
        if pattern:
            yield re.compile(pattern)


class SkipPolice:
    """Collects skips whose reason is on no list; any of them fails the run."""

    def __init__(self) -> None:
        self.expected = tuple(expected_skips())
        self.unexpected: list[str] = []

    def judge(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        place = report.longrepr
        # A list where the report came from another process.
        reason = str(place[2]) if isinstance(place, (tuple, list)) else str(place)
        reason = reason.removeprefix("Skipped: ")
        if not any(pattern.search(reason) for pattern in self.expected):
            self.unexpected.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.judge(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.judge(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.unexpected:
            return
        terminalreporter.section("skips that nobody announced", red=True)
        for line in self.unexpected:
            terminalreporter.line(line)
        terminalreporter.line(f"If one is right, say why in {EXPECTED_SKIPS.name}.")


def pytest_configure(config: pytest.Config) -> None:
    # Whoever is told to end ends what it has started: floods, servers, namespaces.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if os.environ.get("CI"):
        config.pluginmanager.register(SkipPolice(), "skip-police")
