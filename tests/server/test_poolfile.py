"""The file of addresses: what is read, which lines are bad, and when it is written."""

from __future__ import annotations

import asyncio
import logging
import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.config import PoolConfig
from ovpn_dco.errors import DcoError
from ovpn_dco.server.pool import AddressPool, Remembered
from ovpn_dco.server.poolfile import PoolFile, _line, _parse

NETWORK = PoolConfig.for_networks(IPv4Network("10.8.0.0/24"), IPv6Network("fd00::/64"))


def opened(path: Path, interval_s: int = 600) -> tuple[AddressPool, PoolFile]:
    config = PoolConfig(
        **{**vars(NETWORK), "persist_path": str(path), "persist_interval_s": interval_s}
    )
    pool = AddressPool(config)
    return pool, PoolFile(pool, config, now=1000)


def test_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    pool, file = opened(tmp_path / "ipp.txt")
    assert file.load() == ()
    assert list(pool.remembered()) == []


def test_unreadable_file_is_told(tmp_path: Path) -> None:
    _, file = opened(tmp_path)
    with pytest.raises(DcoError, match=str(tmp_path)):
        file.load()


def test_all_kinds_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "ipp.txt"
    path.write_text(
        "# comment\n; another\n\na,10.8.0.9,fd00::1007\r\nb,10.8.0.10,\nc,,fd00::1009\n"
        "d,10.8.0.12\nJosé Ñ,10.8.0.13,"
    )
    pool, file = opened(path)
    assert file.load() == ()
    given = {entry.common_name: str(entry.ipv4) for entry in pool.remembered()}
    assert given == {"a": "10.8.0.9", "b": "10.8.0.10", "c": "10.8.0.11", "d": "10.8.0.12",
                     "José Ñ": "10.8.0.13"}  # fmt: skip
    assert str(pool.acquire("c").ipv4) == "10.8.0.11/24"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a", "must be a name"),
        (b"a,1,2,3", "must be a name"),
        (b",10.8.0.2,", "must be a name"),
        (b"a,10.8.0.256,", "address that is none"),
        (b"a,fd00::1000,", "address that is none"),
        (b"a,010.8.0.2,", "address that is none"),
        (b"a,10.8.0.1,", "no address of the pool"),
        (b"a,192.0.2.1,", "no address of the pool"),
        (b"a,10.8.0.2,fd00::1001", "do not belong"),
        (b"a,,", "no address of the pool"),
        (b"a\x1b[2J,10.8.0.2,", "U+001B"),
        (b"\xff,10.8.0.2,", "no UTF-8"),
        (b"a" * 400 + b",10.8.0.2,", "longer"),
        (b"good,10.8.0.3,", "already"),
        (b"a,10.8.0.9,", "already"),
    ],
)
def test_bad_lines_are_named_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: bytes, reason: str
) -> None:
    path = tmp_path / "ipp.txt"
    path.write_bytes(b"good,10.8.0.9,\n" + line + b"\nmore,10.8.0.8,\n")
    pool, file = opened(path)
    with caplog.at_level(logging.WARNING, "ovpn_dco.server"):
        (problem,) = file.load()
    assert (problem.source, problem.line) == (str(path), 2)
    assert reason in problem.reason
    assert f"{path}:2: " in caplog.text
    assert {entry.common_name for entry in pool.remembered()} == {"good", "more"}


def test_written_when_due_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ipp.txt"
    path.write_text("kept,10.8.0.9,fd00::1007\n")
    pool, file = opened(path)
    file.load()
    assert file.due_s is None
    pool.acquire("new")
    assert file.due_s == 1600
    asyncio.run(file.save(1600))
    assert path.read_text() == "new,10.8.0.2,fd00::1000\nkept,10.8.0.9,fd00::1007\n"
    assert os.listdir(tmp_path) == ["ipp.txt"]
    assert file.due_s is None
    pool.acquire("newer")
    assert file.due_s == 2200
    other, again = opened(path)
    again.load()
    assert str(other.acquire("new").ipv4) == "10.8.0.2/24"


def test_interval_of_zero_reads_only(tmp_path: Path) -> None:
    path = tmp_path / "ipp.txt"
    pool, file = opened(path, interval_s=0)
    pool.acquire("a")
    assert file.due_s is None
    asyncio.run(file.save(10**6))
    assert not path.exists()


def test_no_path_no_file() -> None:
    pool = AddressPool(NETWORK)
    file = PoolFile(pool, NETWORK, now=0)
    pool.acquire("a")
    assert (file.load(), file.due_s) == ((), None)
    asyncio.run(file.save(10**6))


def test_failure_to_write_leaves_the_old_file_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ipp.txt"
    path.write_text("kept,10.8.0.9,\n")
    pool, file = opened(path)
    file.load()
    pool.acquire("new")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "ovpn_dco.server"):
        patch.setattr(os, "replace", fail)
        asyncio.run(file.save(1600))
    assert path.read_text() == "kept,10.8.0.9,\n"
    assert os.listdir(tmp_path) == ["ipp.txt"]
    assert "No space left" in caplog.text
    assert file.due_s == 2200
    asyncio.run(file.save(2200))
    assert "new,10.8.0.2" in path.read_text()


def test_mode_and_link_are_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.touch(mode=0o644)
    real.chmod(0o640)
    link.symlink_to(real)
    pool, file = opened(link)
    pool.acquire("a")
    asyncio.run(file.save(1600))
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert real.read_text().startswith("a,")


@given(st.text(max_size=300))
def test_a_name_is_written_as_it_is_read_or_not_at_all(name: str) -> None:
    entry = Remembered(name, next(NETWORK.local_ipv4.network.hosts()), None)  # type: ignore[union-attr]
    line = _line(entry)
    assert line.count("\n") == len(line.splitlines()) <= 1
    if line:
        assert _parse(line.rstrip("\n").encode()) == entry
    else:
        assert not name.isalnum() or len(name.encode()) > 255
