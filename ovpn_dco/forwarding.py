"""Packets from peer to peer inside a device, and who may reach whom."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .backend.base import PeerRef
from .errors import DeviceClosed, NotFound
from .interface import InnerSide
from .model import ForwardingMode, Mode
from .peer import Peer, Peers
from .validation import settings
from .validation.rules import refuse

if TYPE_CHECKING:
    from .governor import Governor, Policy


class Forwarding:
    """What becomes of packets from peer to peer of a MULTIPEER device; off unless switched on.

    Switched off they go to the interface, and the host's routing and firewall see them. Else the
    device takes them by itself, after the source check: what is for a peer that the sender may not
    reach is dropped, what is for nobody or for the host goes to the interface as ever. The TTL
    stays, as between hosts on one link; nothing goes back to its sender.

    The device's own addresses are the host's, whatever route of a peer covers them; as they are
    when a mode is set."""

    def __init__(self, peers: Peers, inner: InnerSide) -> None:
        self._peers = peers
        self._inner = inner
        self._lock = threading.RLock()
        self._mode = ForwardingMode.OFF
        self._permits: dict[PeerRef, frozenset[PeerRef]] = {}
        self._room = 0  # for permits; then those of peers that are gone are dropped
        self._governor: Governor | None = None

    def forget(self) -> None:
        """In a forked child, where the lock may be held by a thread that is not there."""
        self._lock = threading.RLock()

    @property
    def mode(self) -> ForwardingMode:
        """As set."""
        return self._mode

    def set_mode(self, mode: ForwardingMode | str) -> None:
        """Switches while traffic flows; permits stay. InvalidArgument, also in P2P mode, and Busy
        while a policy governs."""
        chosen = settings.forwarding_mode(mode)
        with self._lock:
            self._check_free()
            self._set(chosen)

    def permit(self, source: Peer, destinations: Iterable[Peer]) -> None:
        """Those that `source` may reach in mode PERMITTED, in place of the ones before; nobody,
        until this was called. Answers need a permit of their own. A permit is for these very
        peers: who comes later with the same id has none. InvalidArgument, NotFound, Busy."""
        targets = frozenset(self._ref(peer) for peer in destinations)
        ref = self._ref(source)
        with self._lock:
            self._check_free()
            self._permit(ref, targets)

    def permitted(self, source: Peer) -> list[Peer]:
        """Those that it may reach in mode PERMITTED."""
        with self._lock:
            refs = sorted(self._permits.get(self._ref(source), ()))
        present = set(self._peers.backend.peers())
        return [Peer(self._peers, ref) for ref in refs if ref in present]

    def govern(self, policy: Policy) -> Governor:
        """Mode PERMITTED by a policy, while the context lasts; off afterwards:

            async def policy(source: dco.Peer, destination: dco.Peer) -> bool: ...

            async with device.forwarding.govern(policy):
                ...

        Every pair of peers is asked about once when one of them comes, or is set anew; no packet
        waits for the policy, and none passes before its answer. What it said before is in effect
        until it says otherwise, but not of a peer that is set anew. An exception is logged, and
        means no. With N peers these are 2N questions for each that comes."""
        from .governor import Governor

        return Governor(self, self._peers, policy)

    # For the device

    def permitted_ids(self) -> dict[PeerRef, list[int]]:
        """Of each peer the ids of those that are there and that it may reach."""
        present = set(self._peers.backend.peers())
        with self._lock:
            return {
                ref: sorted(peer_id for peer_id, _ in targets & present)
                for ref, targets in self._permits.items()
            }

    def restore(self, mode: ForwardingMode, permits: dict[PeerRef, frozenset[PeerRef]]) -> None:
        """What another device had."""
        with self._lock:
            for source, targets in permits.items():
                self._permit(source, targets)
            self._set(mode)

    # For a governor

    def claim(self, governor: Governor) -> None:
        """Nobody may reach anybody until it says so. Busy when there is another one."""
        with self._lock:
            self._check_free()
            for ref in self._peers.backend.peers():
                self.permit_quietly(ref, frozenset())
            self._set(ForwardingMode.PERMITTED)
            self._governor = governor

    def release(self) -> None:
        """It is gone."""
        with self._lock:
            self._governor = None
            with contextlib.suppress(DeviceClosed):
                self._set(ForwardingMode.OFF)

    def permit_quietly(self, source: PeerRef, targets: frozenset[PeerRef]) -> None:
        """What it has found; the peer may be gone by now."""
        with self._lock, contextlib.suppress(NotFound):
            self._permit(source, targets)

    # Steps

    def _permit(self, source: PeerRef, targets: frozenset[PeerRef]) -> None:
        self._peers.backend.permit(source, targets)
        self._permits[source] = targets
        if len(self._permits) > self._room:
            present = set(self._peers.backend.peers())
            self._permits = {ref: kept for ref, kept in self._permits.items() if ref in present}
            self._room = 2 * len(self._permits) + 8

    def _set(self, mode: ForwardingMode) -> None:
        if mode is not ForwardingMode.OFF:
            if self._peers.mode is not Mode.MULTIPEER:
                raise refuse(errno.EINVAL, "mode", "P2P has one peer: there is nothing to forward")
            self._peers.backend.reserve(self._inner.reserved())
        self._peers.backend.set_forwarding(mode)
        self._mode = mode

    def _check_free(self) -> None:
        if self._governor is not None:
            raise refuse(errno.EBUSY, "forwarding", "is governed by a policy")

    def _ref(self, peer: Peer) -> PeerRef:
        if not isinstance(peer, Peer) or not peer.belongs_to(self._peers):
            raise refuse(errno.EINVAL, "peer", "must be a peer of this device")
        return peer.ref
