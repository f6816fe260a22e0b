"""Addresses and peer ids for clients: who holds which, and which one comes next.

The pool is a row of slots. The slot with index n is the n-th IPv4 address of the pool and the n-th
IPv6 address together, so a client's two addresses belong to each other."""

from __future__ import annotations

import errno
import functools
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TypeAlias

from ovpn_dco.config import PoolConfig
from ovpn_dco.errors import AddressInUse, DcoError, InvalidArgument, LimitReached, NotFound

__all__ = ["AddressPool", "Lease", "PeerIds", "Remembered"]

IPAddress: TypeAlias = IPv4Address | IPv6Address

RESTING = 1024
"""Peer ids that are not given out again yet."""
MAX_SLOTS = 1 << 16
"""Slots of the largest pool: an IPv4 /16, and as much of an IPv6 network."""


@dataclass(frozen=True, eq=False)
class Lease:
    """Addresses that are one client's until it is released. Two leases are never equal."""

    ipv4: IPv4Interface | None
    ipv6: IPv6Interface | None

    @functools.cached_property
    def addresses(self) -> tuple[IPAddress, ...]:
        """Those that there are, without their networks."""
        return _addresses(self.ipv4, self.ipv6)

    def pushed_options(self, gateway: IPv6Address | None) -> tuple[str, ...]:
        """What tells the client of them; `gateway` is the server's end in IPv6."""
        options = []
        if self.ipv4 is not None:
            options.append(f"ifconfig {self.ipv4.ip} {self.ipv4.netmask}")
        if self.ipv6 is not None:
            options.append(f"ifconfig-ipv6 {self.ipv6} {gateway or '::'}")
        return tuple(options)


@dataclass(frozen=True)
class Remembered:
    """Whose the addresses of a slot are, or were last."""

    common_name: str
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None


class AddressPool:
    """The slots, and the addresses that are in use inside or outside of them.

    A client gets the slot that it had last, if it is free, else the one that is free for longest.
    With `duplicate_cn` names say nothing, and only the second rule holds. An address that was
    given to a client by name is refused while somebody else holds it: nobody is thrown out, and
    it works again as soon as the other one has left. Addresses outside of the pool never come to
    that."""

    def __init__(self, config: PoolConfig) -> None:
        if config.first_ipv4 is not None and None in (config.local_ipv4, config.last_ipv4):
            message = "a pool of IPv4 needs its last address and that of the server"
            raise InvalidArgument(errno.EINVAL, message, attribute="ifconfig-pool")
        self._first_ipv4, self._first_ipv6 = config.first_ipv4, config.first_ipv6
        self._local_ipv4, self._local_ipv6 = config.local_ipv4, config.local_ipv6
        self._sticky = not config.duplicate_cn
        self._size = _size(config)
        self._held = set(_addresses(config.local_ipv4, config.local_ipv6))
        self._leases: set[Lease] = set()
        # Free slots, the one that was used longest ago first.
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(self._size))
        for own in self._held:
            self._free.pop(self._index_of(own), None)
        self._slot_of: dict[str, int] = {}
        self._name_of: dict[int, str] = {}
        self.revision = 0
        """Changes whenever `remembered` does."""

    def __repr__(self) -> str:
        return f"<AddressPool {self._describe()}, {len(self._free)} of {self._size} free>"

    def acquire(
        self,
        common_name: str,
        *,
        ipv4: IPv4Interface | None = None,
        ipv6: IPv6Interface | None = None,
        instead_of: Lease | None = None,
    ) -> Lease:
        """Addresses for a client. `ipv4` and `ipv6` are those that it must have. `instead_of` is
        released, unless this fails.

        A required address inside of the pool brings the other one of its slot along. A family
        without a pool and without a required address stays None. AddressInUse (EADDRINUSE) for a
        required address that somebody holds, LimitReached (ENOSPC) if no slot is free."""
        if instead_of is not None:
            self.release(instead_of)
        try:
            lease = self._choose(common_name, ipv4, ipv6)
        except DcoError:
            if instead_of is not None:
                self._hold(instead_of)
            raise
        self._hold(lease)
        return lease

    def __contains__(self, lease: Lease) -> bool:
        return lease in self._leases

    def _choose(
        self, common_name: str, ipv4: IPv4Interface | None, ipv6: IPv6Interface | None
    ) -> Lease:
        for required in _addresses(ipv4, ipv6):
            if required in self._held:
                message = f"{required} is in use"
                raise AddressInUse(errno.EADDRINUSE, message, attribute="ifconfig-push")
        index = self._slot_for(common_name, ipv4, ipv6)
        if index is not None:
            ipv4 = ipv4 or self._ipv4(index)
            ipv6 = ipv6 or self._ipv6(index)
        return Lease(ipv4, ipv6)

    def _hold(self, lease: Lease) -> None:
        self._leases.add(lease)
        self._held.update(lease.addresses)
        for index in self._slots(lease):
            self._free.pop(index, None)

    def release(self, lease: Lease) -> None:
        """Frees the addresses. NotFound (ENOENT) for a lease that is not held, or not any more."""
        if lease not in self._leases:
            raise NotFound(errno.ENOENT, "the addresses are not held", attribute="lease")
        self._leases.remove(lease)
        self._held.difference_update(lease.addresses)
        for index in self._slots(lease):
            if not self._is_held(index):
                self._free[index] = None

    def remember(self, entry: Remembered) -> None:
        """Keeps a slot for a name, as long as there are others. `InvalidArgument` (EINVAL) for
        addresses that are not of one slot of the pool, or are somebody else's already."""
        index = self._index_of_entry(entry)
        if entry.common_name in self._slot_of or index in self._name_of:
            raise InvalidArgument(errno.EINVAL, "name or address is remembered already")
        if self._sticky:
            self._remember(entry.common_name, index)
        if index in self._free:
            self._free.move_to_end(index)

    def remembered(self) -> Iterator[Remembered]:
        """Names and their slots, in the order of addresses."""
        for index, name in sorted(self._name_of.items()):
            yield Remembered(name, self._ipv4_address(index), self._ipv6_address(index))

    # Which slot

    def _slot_for(
        self, common_name: str, ipv4: IPv4Interface | None, ipv6: IPv6Interface | None
    ) -> int | None:
        """The slot that has what is not required; None if nothing is missing."""
        missing_ipv4 = ipv4 is None and self._first_ipv4 is not None
        missing_ipv6 = ipv6 is None and self._first_ipv6 is not None
        if not missing_ipv4 and not missing_ipv6:
            return None
        wanted = [self._index_of(required) for required in _addresses(ipv4, ipv6)]
        if self._sticky and common_name in self._slot_of:
            wanted.append(self._slot_of[common_name])
        for index in wanted:
            if index in self._free:
                return index
        if not self._free:
            message = f"no address is free in {self._describe()}"
            raise LimitReached(errno.ENOSPC, message, attribute="ifconfig-pool")
        index = next(iter(self._free))
        if self._sticky:
            self._remember(common_name, index)
        return index

    def _remember(self, common_name: str, index: int) -> None:
        before = self._slot_of.pop(common_name, None)
        if before is not None:
            del self._name_of[before]
        displaced = self._name_of.pop(index, None)
        if displaced is not None:
            del self._slot_of[displaced]
        self._slot_of[common_name] = index
        self._name_of[index] = common_name
        self.revision += 1

    def _slots(self, lease: Lease) -> set[int]:
        """The slots of which the lease has an address."""
        return {index for one in lease.addresses if (index := self._index_of(one)) >= 0}

    def _is_held(self, index: int) -> bool:
        return self._ipv4_address(index) in self._held or self._ipv6_address(index) in self._held

    # Index and address

    def _index_of(self, address: IPAddress) -> int:
        """Negative for an address outside of the pool."""
        first = self._first_ipv4 if isinstance(address, IPv4Address) else self._first_ipv6_address
        index = -1 if first is None else int(address) - int(first)
        return index if index < self._size else -1

    def _index_of_entry(self, entry: Remembered) -> int:
        indices = set()
        if entry.ipv4 is not None and self._first_ipv4 is not None:
            indices.add(self._index_of(entry.ipv4))
        if entry.ipv6 is not None and self._first_ipv6 is not None:
            indices.add(self._index_of(entry.ipv6))
        index = indices.pop() if len(indices) == 1 else -1
        if indices:
            raise InvalidArgument(errno.EINVAL, "the two addresses do not belong to each other")
        if index < 0:
            raise InvalidArgument(errno.EINVAL, f"no address of {self._describe()}")
        return index

    @property
    def _first_ipv6_address(self) -> IPv6Address | None:
        return None if self._first_ipv6 is None else self._first_ipv6.ip

    def _ipv4_address(self, index: int) -> IPv4Address | None:
        return None if self._first_ipv4 is None else self._first_ipv4 + index

    def _ipv6_address(self, index: int) -> IPv6Address | None:
        return None if self._first_ipv6 is None else self._first_ipv6.ip + index

    def _ipv4(self, index: int) -> IPv4Interface | None:
        address = self._ipv4_address(index)
        if address is None or self._local_ipv4 is None:
            return None
        return IPv4Interface((int(address), self._local_ipv4.network.prefixlen))

    def _ipv6(self, index: int) -> IPv6Interface | None:
        address = self._ipv6_address(index)
        if address is None or self._first_ipv6 is None:
            return None
        network = (self._local_ipv6 or self._first_ipv6).network
        return IPv6Interface((int(address), network.prefixlen))

    def _describe(self) -> str:
        if not self._size:
            return "an empty pool"
        ends = [
            f"{first}-{first + (self._size - 1)}"
            for first in (self._first_ipv4, self._first_ipv6_address)
            if first is not None
        ]
        return f"the pool {' and '.join(ends)}"


def _addresses(*interfaces: IPv4Interface | IPv6Interface | None) -> tuple[IPAddress, ...]:
    return tuple(one.ip for one in interfaces if one is not None)


def _size(config: PoolConfig) -> int:
    """Slots: as many as the smaller of the two pools has addresses."""
    sizes = []
    if config.first_ipv4 is not None and config.last_ipv4 is not None:
        sizes.append(int(config.last_ipv4) - int(config.first_ipv4) + 1)
    if config.first_ipv6 is not None:
        network = config.first_ipv6.network
        sizes.append(int(network.broadcast_address) - int(config.first_ipv6.ip) + 1)
    return min([*sizes, MAX_SLOTS]) if sizes else 0


class PeerIds:
    """Numbers of peers, from 0 on. At most `limit` are in use at one time.

    One that was released rests while others are: a message that is still on its way from the peer
    that had it must not count for the next one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._unused = 0
        self._released: deque[int] = deque()
        self._held: set[int] = set()

    def acquire(self, *, instead_of: int | None = None) -> int:
        """LimitReached (ENOSPC) if all are in use, not counting `instead_of`."""
        if len(self._held) - (instead_of in self._held) >= self._limit:
            message = f"{self._limit} clients are connected"
            raise LimitReached(errno.ENOSPC, message, attribute="max-clients")
        if len(self._released) >= RESTING:
            peer_id = self._released.popleft()
        else:
            peer_id = self._unused
            self._unused += 1
        self._held.add(peer_id)
        return peer_id

    def release(self, peer_id: int) -> None:
        """NotFound (ENOENT) for one that is not in use."""
        if peer_id not in self._held:
            raise NotFound(errno.ENOENT, f"peer id {peer_id} is not in use", attribute="peer_id")
        self._held.remove(peer_id)
        self._released.append(peer_id)
