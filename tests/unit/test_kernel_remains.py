"""Interfaces that a killed process has left, where the driver is played."""

from __future__ import annotations

import os

import pytest
from played_driver import NAME, Driver, play

import ovpn_dco as dco
from ovpn_dco import netlink
from ovpn_dco.backend.kernel import remains
from ovpn_dco.netlink import Link

IFINDEX = 1_000_000 + os.getpid()  # nobody else's in this namespace


class System:
    """One interface."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alias: str | None = remains.MARK
        self.deleted: list[int] = []
        monkeypatch.setattr(netlink, "find_link", self.find)
        monkeypatch.setattr(netlink, "delete_link", self.deleted.append)

    def find(self, name: str) -> Link:
        return Link(name, IFINDEX, dco.Mode.P2P, 1416, self.alias)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    return System(monkeypatch)


def test_what_nobody_has_any_more_is_removed(system: System) -> None:
    with remains.sign_of_life(IFINDEX):
        assert not remains.remove("ovpn0")
        assert system.deleted == []
    assert remains.remove("ovpn0")
    assert system.deleted == [IFINDEX]


@pytest.mark.parametrize("alias", [None, "", "of somebody"])
def test_what_is_not_marked_is_somebodys(system: System, alias: str | None) -> None:
    system.alias = alias
    assert not remains.remove("ovpn0")
    assert system.deleted == []


def test_what_goes_with_its_device_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    driver: Driver = play(monkeypatch)
    with dco.Device.open(NAME, mode=dco.Mode.P2P, backend="kernel") as device:
        assert driver.alias == remains.MARK
        device.persist = True
        assert driver.alias == ""
        device.persist = False
        assert driver.alias == remains.MARK
