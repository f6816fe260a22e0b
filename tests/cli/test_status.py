"""`status`: what can carry packets on this machine."""

from __future__ import annotations

import json

import pytest
from cli.fakes import run

from ovpn_dco import Feature
from ovpn_dco.backend import choice
from ovpn_dco.backend.kernel import features_of
from ovpn_dco.netlink import Availability, Family


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is there, and is not for us."""
    found = Availability(Family(30, 5, tx_id=True), loadable=False, permitted=False)
    monkeypatch.setattr(choice, "_probe", lambda: found)


@pytest.mark.usefixtures("container")
def test_back_ends_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = run(None, "status", "--backends")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    head, used = (next(line for line in lines if word in line) for word in ("kernel", "can be"))
    assert head.index("kernel") < head.index("userspace")
    assert "CAP_NET_ADMIN" in used
    assert used.rstrip(" │").endswith("yes")
    for feature in Feature:
        (row,) = (line for line in lines if f" {feature.value} " in line)
        assert row.count("yes") == 1 + (feature in features_of(Family(30, 5, tx_id=True)))


@pytest.mark.usefixtures("container")
def test_back_ends_for_programs() -> None:
    result = run(None, "status", "--backends", "--json")
    assert result.exit_code == 0
    kernel, userspace = json.loads(result.output)
    assert kernel["name"] == "kernel"
    assert "CAP_NET_ADMIN" in kernel["obstacle"]
    assert kernel["features"] == ["ASYMMETRIC_IDS", "IROUTES", "TCP", "UDP"]
    assert (userspace["name"], userspace["obstacle"]) == ("userspace", None)
    assert userspace["features"] == sorted(feature.name for feature in Feature)


def test_there_is_nothing_else_to_show() -> None:
    assert run(None, "status", "--json").exit_code == 2


def test_this_machine_can_be_asked() -> None:
    result = run(None, "status", "--backends", "--json")
    assert [one["name"] for one in json.loads(result.output)] == ["kernel", "userspace"]
