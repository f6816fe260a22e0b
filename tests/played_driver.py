"""The kernel's `ovpn` driver, played: its answers, refusals and notifications.

tests/kernel/test_driver.py shows what the real one does."""

from __future__ import annotations

import errno
import select
import socket
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

import pytest

from ovpn_dco import net, netlink
from ovpn_dco.backend import choice
from ovpn_dco.backend.kernel import remains
from ovpn_dco.backend.kernel.bell import Bell
from ovpn_dco.errors import error_for
from ovpn_dco.model import Address, DataKey, DeleteReason, KeySlot, Mode, PeerStats
from ovpn_dco.netlink import (
    Algorithm,
    Availability,
    DeletedNotice,
    Family,
    FloatedNotice,
    KeyState,
    KeySwapNotice,
    Link,
    Notice,
    Overrun,
    PeerAttributes,
    PeerState,
    interface,
)

NAME, IFINDEX = "lo", 1  # there everywhere, and not touched


@dataclass
class Played:
    """A peer that the driver has."""

    state: PeerState
    socket: socket.socket
    keys: dict[KeySlot, int] = field(default_factory=dict)


class Driver:
    """One interface, and what happens to its peers."""

    def __init__(self) -> None:
        self.mode = Mode.MULTIPEER
        self.peers: dict[int, Played] = {}
        self.present = True
        self.deleted = False
        self.alias = ""
        self._events: list[Notice | Overrun] = []
        self._bell = Bell()

    # What happens

    def ends(self, peer_id: int, reason: DeleteReason) -> None:
        """A peer goes, and that is told."""
        self.peers.pop(peer_id).socket.close()
        self._tell(DeletedNotice(ifindex=IFINDEX, peer_id=peer_id, reason=reason))

    def ends_untold(self, peer_id: int) -> None:
        """The notification is lost."""
        self.peers.pop(peer_id).socket.close()
        self._tell(Overrun())

    def floats(self, peer_id: int, remote: Address) -> None:
        peer = self._find(peer_id)
        peer.state = replace(peer.state, remote=remote, local="127.0.0.1", local_port=7)
        self._tell(FloatedNotice(ifindex=IFINDEX, peer_id=peer_id, remote=remote))

    def uses_up(self, peer_id: int) -> None:
        """The packet ids of the primary key."""
        key_id = self._find(peer_id).keys.pop(KeySlot.PRIMARY)
        self._tell(KeySwapNotice(ifindex=IFINDEX, peer_id=peer_id, key_id=key_id))

    def counts(self, peer_id: int, **counters: int) -> None:
        peer = self._find(peer_id)
        peer.state = replace(peer.state, stats=PeerStats(**counters))

    def loses_interface(self) -> None:
        """Somebody takes it away."""
        for peer_id in list(self.peers):
            self.ends(peer_id, DeleteReason.TEARDOWN)
        self.present = False
        self._bell.ring()

    def _tell(self, event: Notice | Overrun) -> None:
        self._events.append(event)
        self._bell.ring()

    # Commands of netlink

    def add_peer(self, _: int, asked: PeerAttributes) -> None:
        self._require_interface()
        if self.mode is Mode.MULTIPEER:
            if asked.peer_id in self.peers:
                raise error_for(errno.EEXIST, "peer_id: is in use")
            if not asked.vpn_ipv4 and not asked.vpn_ipv6:
                raise error_for(errno.EINVAL, "vpn_ipv4: is missing")
        self._judge(asked)
        assert asked.socket is not None
        sock = socket.fromfd(asked.socket, socket.AF_INET, socket.SOCK_DGRAM)
        if sock.type == socket.SOCK_STREAM and asked.remote:
            raise error_for(errno.EINVAL, "remote: of a connection")
        for peer_id in list(self.peers) if self.mode is Mode.P2P else ():
            self.ends(peer_id, DeleteReason.TEARDOWN)
        state = PeerState(peer_id=asked.peer_id, tx_id=asked.peer_id)
        self.peers[asked.peer_id] = Played(state, sock)
        self._change(self.peers[asked.peer_id], asked)

    def set_peer(self, _: int, asked: PeerAttributes) -> None:
        self._judge(asked)
        self._change(self._find(asked.peer_id), asked)

    def delete_peer(self, _: int, peer_id: int) -> None:
        self._find(peer_id)
        self.ends(peer_id, DeleteReason.USERSPACE)

    def get_peer(self, _: int, peer_id: int) -> PeerState:
        return self._find(peer_id).state

    def get_peers(self, _: int) -> list[PeerState]:
        self._require_interface()
        return [peer.state for peer in self.peers.values()]

    def install_key(self, _: int, peer_id: int, slot: KeySlot, key: DataKey) -> None:
        self._find(peer_id).keys[slot] = key.key_id

    def swap_keys(self, _: int, peer_id: int) -> None:
        peer = self._find(peer_id)
        peer.keys = {KeySlot(1 - slot): key_id for slot, key_id in peer.keys.items()}

    def delete_key(self, _: int, peer_id: int, slot: KeySlot) -> None:
        self._find(peer_id).keys.pop(slot, None)

    def get_key(self, _: int, peer_id: int, slot: KeySlot) -> KeyState:
        keys = self._find(peer_id).keys
        if slot not in keys:
            raise error_for(errno.ENOENT, "slot: is empty")
        kind = Algorithm.AES_GCM
        return KeyState(peer_id=peer_id, slot=slot, key_id=keys[slot], algorithm=kind)

    def _judge(self, asked: PeerAttributes) -> None:
        if not 0 <= asked.peer_id <= 0xFFFFFF:
            raise error_for(errno.ERANGE, "peer_id: out of range", attribute="peer_id")
        if (asked.keepalive_interval_s is None) != (asked.keepalive_timeout_s is None):
            raise error_for(errno.EINVAL, "keepalive: comes as a pair")
        for host in (asked.vpn_ipv4, asked.vpn_ipv6):
            if host and (self.mode is Mode.P2P or ip_address(host).is_multicast):
                raise error_for(errno.EINVAL, "vpn address: cannot be")

    def _change(self, peer: Played, asked: PeerAttributes) -> None:
        names = ("remote", "vpn_ipv4", "vpn_ipv6", "tx_id")
        names += ("keepalive_interval_s", "keepalive_timeout_s")
        given = {name: getattr(asked, name) for name in names}
        peer.state = replace(peer.state, **{k: v for k, v in given.items() if v is not None})

    def _find(self, peer_id: int) -> Played:
        self._require_interface()
        if peer_id not in self.peers:
            raise error_for(errno.ENOENT, "peer_id: no such peer", attribute="peer_id")
        return self.peers[peer_id]

    def _require_interface(self) -> None:
        if not self.present:
            raise error_for(errno.ENODEV, "ifindex: no such interface", attribute="ifindex")

    # Sockets of netlink: of commands, of events and of links

    def fileno(self) -> int:
        return self._bell.fileno()

    def read(self) -> list[Notice | Overrun]:
        events, self._events = self._events, []
        self._bell.silence()
        return events

    def may_be_gone(self) -> bool:
        return not self.present

    def close(self) -> None: ...


class _Watch:
    """What tells of links, with a descriptor of its own."""

    def __init__(self, driver: Driver) -> None:
        self._epoll = select.epoll()
        self._epoll.register(driver.fileno(), select.EPOLLIN)
        self.fileno, self.close = self._epoll.fileno, self._epoll.close
        self.may_be_gone = driver.may_be_gone


def play(monkeypatch: pytest.MonkeyPatch, *, tx_id: bool = True) -> Driver:
    """From here on this machine has the driver; its interfaces are all the same one."""
    driver, family = Driver(), Family(1, 2, tx_id=tx_id)

    def create(name: str, mode: Mode) -> Link:
        driver.mode = mode
        return Link(name, IFINDEX, mode, 1416)

    def delete(_: int) -> None:
        driver.deleted = True
        for peer_id in list(driver.peers):
            driver.ends(peer_id, DeleteReason.TEARDOWN)

    def find(name: str) -> Link:
        return Link(name, IFINDEX, driver.mode, 1416)

    for module in (netlink, interface):
        monkeypatch.setattr(module, "find_family", lambda: family)
        monkeypatch.setattr(module, "delete_link", delete)
    monkeypatch.setattr(interface, "create_link", create)
    monkeypatch.setattr(interface, "find_link", find)
    monkeypatch.setattr(interface, "Commands", lambda _: driver)
    monkeypatch.setattr(interface, "EventSocket", lambda *_, **__: driver)
    monkeypatch.setattr(netlink, "LinkWatch", lambda _: _Watch(driver))
    monkeypatch.setattr(net, "configure", lambda *_, **__: None)
    monkeypatch.setattr(netlink, "set_alias", lambda _, alias: setattr(driver, "alias", alias))
    monkeypatch.setattr(remains, "sign_of_life", lambda _: socket.socket(socket.AF_UNIX))
    found = Availability(family, loadable=False, permitted=True)
    monkeypatch.setattr(choice, "_probe", lambda: found)
    monkeypatch.setattr(
        "ovpn_dco.backend.kernel.link.KernelLink.is_present", lambda _: driver.present
    )
    return driver
