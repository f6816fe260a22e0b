"""Which server comes next, and when: the order of attempts, without sockets or a clock.

All addresses of a remote are tried before the next remote, and after the last the first. A round
is one pass over all remotes, wherever it began."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable

from ..config import ClientConfig, RemoteConfig
from ..model import Address
from ..protocol.messages import Advance

__all__ = ["RemoteSequence"]

ROUNDS_AT_FIRST = 5
"""Rounds with the same pause in between; after them each pause is twice as long."""


class RemoteSequence:
    """The remotes of `config`, from the first on; with `remote-random` in an order of its own."""

    def __init__(
        self, config: ClientConfig, shuffle: Callable[[list[RemoteConfig]], None] = random.shuffle
    ) -> None:
        self._remotes = list(config.remotes)
        if config.connection.random:
            shuffle(self._remotes)
        self._config = config
        self._number = 0
        self._round_began_at = 0
        self._addresses: deque[Address] | None = None
        self._rounds = 0

    @property
    def remote(self) -> RemoteConfig:
        """The one whose turn it is."""
        return self._remotes[self._number]

    @property
    def address(self) -> Address | None:
        """Where to try now; None: the name has to be resolved first."""
        return self._addresses[0] if self._addresses else None

    @property
    def is_exhausted(self) -> bool:
        """Whether `connect-retry-max` rounds are over."""
        transport = self.remote.transport or self._config.transport
        limit = transport.connect_retry_rounds
        return limit is not None and self._rounds >= limit

    @property
    def pause_s(self) -> float:
        """Seconds before the next attempt, of `connect-retry`."""
        transport = self.remote.transport or self._config.transport
        doublings = max(0, self._rounds - ROUNDS_AT_FIRST)
        longest_s = max(transport.connect_retry_s, transport.connect_retry_max_s)
        return float(min(transport.connect_retry_s * 2 ** min(doublings, 16), longest_s))

    def resolved(self, addresses: Iterable[Address]) -> None:
        """What the name of the remote stands for, in the order of trying."""
        self._addresses = deque(dict.fromkeys(addresses))

    def connected(self) -> None:
        """It works here: all rounds are open again, and the first begins at this remote."""
        self._rounds = 0
        self._round_began_at = self._number

    def advance(self, how: Advance = Advance.ADDRESS) -> None:
        """Goes on to the next address, or to the next remote, or stays."""
        if how is Advance.NO:
            return
        if how is Advance.ADDRESS and self._addresses and len(self._addresses) > 1:
            self._addresses.popleft()
            return
        self._addresses = None
        self._number = (self._number + 1) % len(self._remotes)
        if self._number == self._round_began_at:
            self._rounds += 1
