"""Which lines are written, where, and how they look there."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from pathlib import Path

import pytest

from ovpn_dco.cli.logs import write_logs
from ovpn_dco.config import LoggingConfig

SERVER = logging.getLogger("ovpn_dco.server")
DEVICE = logging.getLogger("ovpn_dco.device")


def written(config: LoggingConfig, tmp_path: Path) -> list[str]:
    """Lines of a log file, without their times."""
    with write_logs(config, tmp_path):
        for logger in (SERVER, DEVICE):
            logger.error("an error")
            logger.warning("a warning")
            logger.info("news")
            logger.debug("a detail")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ ", line) for line in lines)
    return [line[20:] for line in lines]


ERROR, WARNING, INFO, DEBUG = "ERROR an error", "WARNING a warning", "INFO news", "DEBUG a detail"


@pytest.mark.parametrize(
    ("verb", "server", "device"),
    [
        (0, [ERROR], [ERROR]),
        (1, [ERROR, WARNING, INFO], [ERROR, WARNING]),
        (3, [ERROR, WARNING, INFO], [ERROR, WARNING, INFO]),
        (4, [ERROR, WARNING, INFO, DEBUG], [ERROR, WARNING, INFO, DEBUG]),
    ],
)
def test_verb_decides_how_much_is_written(
    tmp_path: Path, verb: int, server: list[str], device: list[str]
) -> None:
    assert written(LoggingConfig(verb=verb, path="log.txt"), tmp_path) == server + device


@pytest.mark.parametrize(("append", "kept"), [(False, []), (True, ["of before"])])
def test_log_begins_anew_and_log_append_does_not(
    tmp_path: Path, append: bool, kept: list[str]
) -> None:
    (tmp_path / "log.txt").write_text("of before\n")
    with write_logs(LoggingConfig(path="log.txt", append=append), tmp_path):
        SERVER.info("news")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines[:-1] == kept
    assert lines[-1].endswith("INFO news")


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    root = logging.getLogger("ovpn_dco")
    before = root.level, list(root.handlers), SERVER.level
    with write_logs(LoggingConfig(verb=4, path="log.txt"), tmp_path):
        assert (root.level, list(root.handlers), SERVER.level) != before
        handler = root.handlers[-1]
        SERVER.info("news")
    assert (root.level, list(root.handlers), SERVER.level) == before
    assert isinstance(handler, logging.FileHandler)
    assert handler.stream is None


def test_mute_keeps_back_what_repeats(tmp_path: Path) -> None:
    with write_logs(LoggingConfig(mute=2, path="log.txt"), tmp_path):
        for number in range(5):
            SERVER.info("packet %d refused", number)
        SERVER.info("news")
        SERVER.info("packet %d refused", 5)
    lines = [line[20:] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert lines == [
        "INFO packet 0 refused",
        "INFO packet 1 refused",
        "INFO 3 more of the line before",
        "INFO news",
        "INFO packet 5 refused",
    ]


def test_without_mute_all_is_written(tmp_path: Path) -> None:
    with write_logs(LoggingConfig(path="log.txt"), tmp_path):
        for number in range(5):
            SERVER.info("packet %d refused", number)
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 5


# The standard error


def line_of(monkeypatch: pytest.MonkeyPatch, stream: io.TextIOBase) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with write_logs(LoggingConfig(), Path()):
        SERVER.info("news [bold]of %s", "192.0.2.1")


def test_lines_elsewhere_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    line_of(monkeypatch, stream)
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO news \[bold\]of 192\.0\.2\.1\n"
    assert re.fullmatch(pattern, stream.getvalue())


def test_a_terminal_gets_them_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    line_of(monkeypatch, stream)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert shown != stream.getvalue()  # in colours
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO +news \[bold\]of 192\.0\.2\.1", shown)


@pytest.mark.parametrize(("inode", "timed"), [(0, False), (1, True)])
def test_the_journal_gets_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inode: int, timed: bool
) -> None:
    with open(tmp_path / "stderr", "w+") as stream:
        where = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{where.st_dev}:{where.st_ino + inode}")
        line_of(monkeypatch, stream)
        stream.flush()
        stream.seek(0)
        assert (stream.read() == "INFO news [bold]of 192.0.2.1\n") == (not timed)
