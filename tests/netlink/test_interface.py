"""One interface, with a driver that is played."""

from __future__ import annotations

import errno

import pytest

from ovpn_dco.errors import error_for
from ovpn_dco.model import Mode
from ovpn_dco.netlink import (
    DeletedNotice,
    Family,
    Interface,
    Link,
    Notice,
    Overrun,
    PeerAttributes,
    PeerState,
    Told,
    interface,
)

IFINDEX = 4


class Deleted:
    """The driver, once somebody has taken the interface away."""

    def __init__(self, family: int) -> None: ...

    def close(self) -> None: ...

    def add_peer(self, ifindex: int, peer: PeerAttributes) -> None: ...

    def get_peers(self, ifindex: int) -> list[PeerState]:
        raise error_for(errno.ENODEV, "peers cannot be read: No such device")


class Lost:
    """There was no room for what it told of that."""

    def __init__(self, family: int, group: int, *, buffer: int) -> None:
        self.waiting: list[Notice | Overrun] = [Overrun()]

    def close(self) -> None: ...

    def read(self) -> list[Notice | Overrun]:
        waiting, self.waiting = self.waiting, []
        return waiting


def test_peers_are_gone_with_their_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "find_family", lambda: Family(1, 2, tx_id=True))
    monkeypatch.setattr(interface, "Commands", Deleted)
    monkeypatch.setattr(interface, "EventSocket", Lost)
    with Interface(Link("ovpn0", IFINDEX, Mode.MULTIPEER, 1416), owned=False) as one:
        generation = one.add_peer(PeerAttributes(peer_id=1))
        gone = DeletedNotice(ifindex=IFINDEX, peer_id=1, reason=None)
        assert one.read_events() == [Told(generation, gone)]
        assert one.read_events() == []
