"""What is known here of the peers that the kernel's driver has."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...model import Cipher, DeleteReason, KeySlot, Mode, PeerStats
from ...validation.answers import answer
from ...validation.rules import PeerAttributes
from ..base import PeerRef


@dataclass(eq=False)
class KernelPeer:
    """One peer. `stats` are its counters when they were last read, since the driver tells no last
    ones; `reason` is why it goes, where that is known better here."""

    peer_id: int
    generation: int
    transport: int
    tx_id: int
    keepalive: tuple[int, int] = (0, 0)
    vpn_ipv4: bytes = b""
    vpn_ipv6: bytes = b""
    keys: dict[KeySlot, tuple[int, Cipher]] = field(default_factory=dict)
    stats: PeerStats = field(default_factory=PeerStats)
    reason: DeleteReason | None = None

    @property
    def ref(self) -> PeerRef:
        """(id, generation)."""
        return self.peer_id, self.generation

    @property
    def addresses(self) -> Iterator[bytes]:
        """Its VPN addresses, packed."""
        return (ip for ip in (self.vpn_ipv4, self.vpn_ipv6) if ip)


class KernelPeers:
    """The peers by id, by generation until their end was told, and by VPN address.

    The first versions of the driver take addresses that another peer has, or leave a peer with
    none, and answer any misuse of a socket alike: it is judged here, as by the engine."""

    def __init__(self, mode: Mode, max_peers: int) -> None:
        self._mode = mode
        self._max = max_peers
        self._living: dict[int, KernelPeer] = {}
        self._untold: dict[int, KernelPeer] = {}
        self._owners: dict[bytes, KernelPeer] = {}

    def __len__(self) -> int:
        return len(self._living)

    def __iter__(self) -> Iterator[KernelPeer]:
        return iter(list(self._living.values()))

    def find(self, ref: PeerRef, command: str) -> KernelPeer:
        """NotFound of `command`; generation 0 is whichever peer has the id."""
        peer_id, generation = ref
        peer = self._living.get(peer_id)
        if peer is None or generation not in (0, peer.generation):
            raise answer(command, errno.ENOENT, "")
        return peer

    def owner(self, ip: bytes) -> KernelPeer | None:
        """Whose VPN address it is; in P2P mode every address is the peer's."""
        if self._mode is Mode.P2P:
            return next(iter(self._living.values()), None)
        return self._owners.get(ip)

    def told(self, generation: int) -> KernelPeer | None:
        """The one that has come to its end."""
        peer = self._untold.pop(generation, None)
        if peer is not None:
            self.bury(peer)
        return peer

    def of_generation(self, generation: int) -> KernelPeer | None:
        """One whose end was not told yet."""
        return self._untold.get(generation)

    def judge_new(self, attributes: PeerAttributes, unread: int) -> None:
        """Refuses what the driver may not."""
        if self._mode is Mode.MULTIPEER:
            if attributes.peer_id in self._living:
                raise answer("add_peer", errno.EEXIST, "")
            if len(self._living) >= self._max:
                raise answer("add_peer", errno.ENOSPC, "")
        if unread >= self._max:
            raise answer("add_peer", errno.ENOBUFS, "")
        self._judge_addresses("add_peer", None, attributes)

    def judge_change(self, peer: KernelPeer, attributes: PeerAttributes) -> None:
        """The same of a change."""
        self._judge_addresses("set_peer", peer, attributes)
        ipv4, ipv6 = _changed(peer, attributes)
        if self._mode is Mode.MULTIPEER and not ipv4 and not ipv6:
            raise answer("set_peer", errno.EINVAL, "")

    def add(self, peer: KernelPeer) -> None:
        """It is there. In P2P mode the one before is not."""
        if self._mode is Mode.P2P:
            for other in list(self._living.values()):
                self.bury(other)
        self._living[peer.peer_id] = self._untold[peer.generation] = peer
        self._owners.update(dict.fromkeys(peer.addresses, peer))

    def change(self, peer: KernelPeer, attributes: PeerAttributes) -> None:
        """It is as it was asked for."""
        self._disown(peer)
        peer.vpn_ipv4, peer.vpn_ipv6 = _changed(peer, attributes)
        peer.keepalive = attributes.keepalive or peer.keepalive
        peer.tx_id = peer.tx_id if attributes.tx_id is None else attributes.tx_id
        self._owners.update(dict.fromkeys(peer.addresses, peer))

    def bury(self, peer: KernelPeer) -> None:
        """It is no more, told or not. Idempotent."""
        if self._living.get(peer.peer_id) is peer:
            del self._living[peer.peer_id]
        self._disown(peer)

    def _disown(self, peer: KernelPeer) -> None:
        for ip in peer.addresses:
            if self._owners.get(ip) is peer:
                del self._owners[ip]

    def _judge_addresses(
        self, command: str, peer: KernelPeer | None, attributes: PeerAttributes
    ) -> None:
        for ip in (attributes.vpn_ipv4, attributes.vpn_ipv6):
            if ip and self._owners.get(ip, peer) is not peer:
                raise answer(command, errno.EADDRINUSE, "")


def _changed(peer: KernelPeer, attributes: PeerAttributes) -> tuple[bytes, bytes]:
    """The VPN addresses after a change; all zeros take one away."""
    ipv4 = peer.vpn_ipv4 if attributes.vpn_ipv4 is None else attributes.vpn_ipv4
    ipv6 = peer.vpn_ipv6 if attributes.vpn_ipv6 is None else attributes.vpn_ipv6
    return (ipv4 if any(ipv4) else b""), (ipv6 if any(ipv6) else b"")
