"""Addresses and peer ids: whose they are, whose they become, and when there are none left."""

from __future__ import annotations

import errno
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ovpn_dco.config import PoolConfig
from ovpn_dco.errors import AddressInUse, InvalidArgument, LimitReached, NotFound
from ovpn_dco.server.pool import RESTING, AddressPool, Lease, PeerIds, Remembered


def networks(ipv4: str | None = None, ipv6: str | None = None, **more: object) -> PoolConfig:
    pool = PoolConfig.for_networks(
        IPv4Network(ipv4) if ipv4 else None, IPv6Network(ipv6) if ipv6 else None
    )
    return PoolConfig(**{**vars(pool), **more})  # type: ignore[arg-type]


@pytest.fixture
def pool() -> AddressPool:
    """Five slots: 10.8.0.2 to .6."""
    return AddressPool(networks("10.8.0.0/29", "fd00::/64"))


def shown(lease: Lease) -> tuple[str, str]:
    return str(lease.ipv4), str(lease.ipv6)


def test_both_addresses_have_the_same_offset(pool: AddressPool) -> None:
    assert shown(pool.acquire("a")) == ("10.8.0.2/29", "fd00::1000/64")
    assert shown(pool.acquire("b")) == ("10.8.0.3/29", "fd00::1001/64")


def test_pool_of_ipv6_only() -> None:
    pool = AddressPool(networks(ipv6="fd00::/120"))
    assert shown(pool.acquire("a")) == ("None", "fd00::2/120")
    leases = [pool.acquire(str(number)) for number in range(253)]
    assert shown(leases[-1]) == ("None", "fd00::ff/120")
    with pytest.raises(LimitReached, match="fd00::2-fd00::ff"):
        pool.acquire("late")


def test_smaller_of_two_pools_counts() -> None:
    pool = AddressPool(networks("10.8.0.0/24", "fd00::/124"))
    leases = [pool.acquire(str(number)) for number in range(14)]
    assert shown(leases[-1]) == ("10.8.0.15/24", "fd00::f/124")
    with pytest.raises(LimitReached):
        pool.acquire("late")


def test_server_without_a_pool_gives_what_is_required_only() -> None:
    pool = AddressPool(PoolConfig(local_ipv4=IPv4Interface("10.8.0.1/24")))
    assert shown(pool.acquire("a")) == ("None", "None")
    assert shown(pool.acquire("b", ipv4=IPv4Interface("10.8.0.9/24"))) == ("10.8.0.9/24", "None")


def test_pool_without_its_end_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        AddressPool(PoolConfig(first_ipv4=IPv4Address("10.8.0.2")))
    assert caught.value.attribute == "ifconfig-pool"


def test_exhaustion_names_the_pool(pool: AddressPool) -> None:
    leases = [pool.acquire(str(number)) for number in range(5)]
    with pytest.raises(LimitReached, match=r"10\.8\.0\.2-10\.8\.0\.6 and fd00::1000-") as caught:
        pool.acquire("late")
    assert (caught.value.errno, caught.value.attribute) == (errno.ENOSPC, "ifconfig-pool")
    pool.release(leases[2])
    assert pool.acquire("late").ipv4 == leases[2].ipv4


def test_slots_of_the_server_itself_are_not_given_away() -> None:
    config = networks("10.8.0.0/29", first_ipv6=IPv6Interface("fd00::/64"),
                      local_ipv6=IPv6Interface("fd00::1/64"))  # fmt: skip
    pool = AddressPool(config)
    given = [pool.acquire(str(number)) for number in range(4)]
    assert [str(lease.ipv6) for lease in given] == [f"fd00::{n}/64" for n in ("", "2", "3", "4")]


# Names


def test_a_name_gets_its_address_again(pool: AddressPool) -> None:
    first = pool.acquire("a")
    pool.release(first)
    pool.release(pool.acquire("b"))
    assert pool.acquire("a").ipv4 == first.ipv4


def test_address_that_was_free_for_longest_comes_first(pool: AddressPool) -> None:
    leases = [pool.acquire(str(number)) for number in range(5)]
    for index in (3, 1, 4):
        pool.release(leases[index])
    assert [pool.acquire(name).ipv4 for name in "xyz"] == [leases[i].ipv4 for i in (3, 1, 4)]


def test_second_client_of_a_name_gets_another_address(pool: AddressPool) -> None:
    assert pool.acquire("a").ipv4 != pool.acquire("a").ipv4


def test_name_loses_an_address_that_was_needed(pool: AddressPool) -> None:
    for name in "abcde":
        pool.release(pool.acquire(name))
    assert pool.acquire("f").ipv4 == IPv4Interface("10.8.0.2/29")
    assert {entry.common_name for entry in pool.remembered()} == set("bcdef")
    assert pool.acquire("a").ipv4 != IPv4Interface("10.8.0.2/29")


def test_duplicate_names_stick_to_nothing() -> None:
    pool = AddressPool(networks("10.8.0.0/29", duplicate_cn=True))
    first = pool.acquire("a")
    pool.release(first)
    assert pool.acquire("a").ipv4 != first.ipv4
    assert list(pool.remembered()) == []
    pool.remember(Remembered("a", IPv4Address("10.8.0.6"), None))
    assert list(pool.remembered()) == []


# Required addresses


def test_required_address_outside_of_the_pool(pool: AddressPool) -> None:
    lease = pool.acquire("a", ipv4=IPv4Interface("10.9.0.1/24"))
    assert shown(lease) == ("10.9.0.1/24", "fd00::1000/64")
    with pytest.raises(AddressInUse, match=r"10\.9\.0\.1 is in use"):
        pool.acquire("b", ipv4=IPv4Interface("10.9.0.1/30"))
    assert pool.acquire("c").ipv4 == IPv4Interface("10.8.0.3/29")


def test_required_address_inside_of_the_pool_is_nobody_elses(pool: AddressPool) -> None:
    lease = pool.acquire("a", ipv4=IPv4Interface("10.8.0.2/29"))
    assert shown(lease) == ("10.8.0.2/29", "fd00::1000/64")
    others = [pool.acquire(str(number)) for number in range(4)]
    assert lease.ipv4 not in [other.ipv4 for other in others]
    with pytest.raises(LimitReached):
        pool.acquire("late")


def test_required_address_never_throws_a_holder_out(pool: AddressPool) -> None:
    holder = pool.acquire("a")
    assert holder.ipv4 is not None
    with pytest.raises(AddressInUse) as caught:
        pool.acquire("b", ipv4=holder.ipv4)
    assert caught.value.attribute == "ifconfig-push"
    pool.release(holder)
    assert pool.acquire("b", ipv4=holder.ipv4).ipv4 == holder.ipv4


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_address_of_the_server_is_in_use(pool: AddressPool, family: str) -> None:
    own = {"ipv4": IPv4Interface("10.8.0.1/29"), "ipv6": IPv6Interface("fd00::1/64")}
    with pytest.raises(AddressInUse):
        pool.acquire("a", **{family: own[family]})  # type: ignore[arg-type]


def test_refused_lease_changes_nothing(pool: AddressPool) -> None:
    with pytest.raises(AddressInUse):
        pool.acquire("a", ipv4=IPv4Interface("10.8.0.5/29"), ipv6=IPv6Interface("fd00::1/64"))
    assert len([pool.acquire(str(number)) for number in range(5)]) == 5


def test_one_slot_may_have_two_clients_and_is_free_after_both(pool: AddressPool) -> None:
    outside = IPv6Interface("fd01::1/64")
    first = pool.acquire("a", ipv4=IPv4Interface("10.8.0.2/29"), ipv6=outside)
    second = pool.acquire("b", ipv4=IPv4Interface("10.9.0.1/24"), ipv6=IPv6Interface("fd00::1000"))
    others = [pool.acquire(str(number)) for number in range(4)]
    assert "10.8.0.2/29" not in {str(other.ipv4) for other in others}
    pool.release(first)
    with pytest.raises(LimitReached):
        pool.acquire("late")
    pool.release(second)
    assert shown(pool.acquire("late")) == ("10.8.0.2/29", "fd00::1000/64")


def test_only_held_leases_are_released(pool: AddressPool) -> None:
    lease = pool.acquire("a")
    pool.release(lease)
    again = pool.acquire("a")
    with pytest.raises(NotFound):
        pool.release(lease)
    with pytest.raises(AddressInUse):
        pool.acquire("b", ipv4=again.ipv4)


def test_pushed_options() -> None:
    lease = Lease(IPv4Interface("10.8.0.2/29"), IPv6Interface("fd00::2/64"))
    assert lease.pushed_options(IPv6Address("fd00::1")) == (
        "ifconfig 10.8.0.2 255.255.255.248",
        "ifconfig-ipv6 fd00::2/64 fd00::1",
    )
    assert Lease(None, None).pushed_options(None) == ()


# Remembered


def test_remembered_name_gets_its_address_and_others_do_not() -> None:
    pool = AddressPool(networks("10.8.0.0/29", "fd00::/64"))
    pool.remember(Remembered("a", IPv4Address("10.8.0.2"), IPv6Address("fd00::1000")))
    pool.remember(Remembered("b", None, IPv6Address("fd00::1001")))
    assert str(pool.acquire("other").ipv4) == "10.8.0.4/29"
    assert str(pool.acquire("a").ipv4) == "10.8.0.2/29"
    assert str(pool.acquire("b").ipv4) == "10.8.0.3/29"


def test_remembered_address_is_given_away_if_no_other_is_left(pool: AddressPool) -> None:
    pool.remember(Remembered("a", IPv4Address("10.8.0.2"), None))
    given = [str(pool.acquire(str(number)).ipv4) for number in range(5)]
    assert given[-1] == "10.8.0.2/29"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Remembered("x", None, None), "no address"),
        (Remembered("x", IPv4Address("10.8.0.1"), None), "no address"),
        (Remembered("x", IPv4Address("10.8.0.7"), None), "no address"),
        (Remembered("x", None, IPv6Address("fd00::fff")), "no address"),
        (Remembered("x", IPv4Address("10.8.0.3"), IPv6Address("fd00::1000")), "belong"),
        (Remembered("a", IPv4Address("10.8.0.3"), None), "already"),
        (Remembered("x", IPv4Address("10.8.0.2"), None), "already"),
    ],
)
def test_entries_that_cannot_be_remembered(
    pool: AddressPool, entry: Remembered, reason: str
) -> None:
    pool.remember(Remembered("a", IPv4Address("10.8.0.2"), None))
    with pytest.raises(InvalidArgument, match=reason):
        pool.remember(entry)


def test_revision_changes_with_what_is_remembered(pool: AddressPool) -> None:
    start = pool.revision
    lease = pool.acquire("a")
    after = pool.revision
    assert after != start
    pool.release(lease)
    pool.acquire("a")
    assert pool.revision == after


class PoolMachine(RuleBasedStateMachine):
    """Against a list of leases: whatever happens, nobody shares an address with anybody."""

    names = st.sampled_from("abcdefgh")
    ipv4 = st.none() | st.integers(0, 15).map(lambda n: IPv4Interface((0x0A080000 + n, 28)))
    ipv6 = st.none() | st.integers(0, 20).map(
        lambda n: IPv6Interface((int(IPv6Address("fd00::")) + n, 124))
    )

    @initialize(duplicate=st.booleans(), kind=st.sampled_from(["both", "ipv4", "ipv6"]))
    def begin(self, duplicate: bool, kind: str) -> None:
        self.config = networks(
            None if kind == "ipv6" else "10.8.0.0/29",
            None if kind == "ipv4" else "fd00::/124",
            duplicate_cn=duplicate,
        )
        self.pool = AddressPool(self.config)
        self.leases: list[Lease] = []

    def held(self) -> set[object]:
        own = [self.config.local_ipv4, self.config.local_ipv6]
        return {one.ip for one in own if one} | {ip for one in self.leases for ip in one.addresses}

    @rule(name=names)
    def dynamic(self, name: str) -> None:
        held, hints = self.held(), list(self.pool.remembered())
        try:
            lease = self.pool.acquire(name)
        except LimitReached:
            return
        assert not held & set(lease.addresses)
        assert (lease.ipv4 is None) == (self.config.first_ipv4 is None)
        assert (lease.ipv6 is None) == (self.config.first_ipv6 is None)
        remembered = {entry.common_name for entry in self.pool.remembered()}
        assert (name in remembered) == (not self.config.duplicate_cn)
        for hint in hints:
            hinted = {one for one in (hint.ipv4, hint.ipv6) if one is not None}
            if hint.common_name == name and not hinted & held:
                assert set(lease.addresses) == hinted
        self.leases.append(lease)

    @rule(name=names, ipv4=ipv4, ipv6=ipv6)
    def required(self, name: str, ipv4: IPv4Interface | None, ipv6: IPv6Interface | None) -> None:
        held = self.held()
        clash = any(one is not None and one.ip in held for one in (ipv4, ipv6))
        try:
            lease = self.pool.acquire(name, ipv4=ipv4, ipv6=ipv6)
        except AddressInUse:
            assert clash
            return
        except LimitReached:
            return
        assert not clash
        assert not held & set(lease.addresses)
        assert ipv4 is None or lease.ipv4 == ipv4
        assert ipv6 is None or lease.ipv6 == ipv6
        self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.leases) - 1))
        self.pool.release(self.leases.pop(index))

    @precondition(lambda self: hasattr(self, "pool"))
    @rule()
    def everything_comes_back(self) -> None:
        while self.leases:
            self.pool.release(self.leases.pop())
        size = 0
        while True:
            try:
                self.leases.append(self.pool.acquire(f"n{size}"))
            except LimitReached:
                break
            size += 1
        assert size == (14 if self.config.first_ipv4 is None else 5)
        while self.leases:
            self.pool.release(self.leases.pop())

    @invariant()
    def no_address_twice(self) -> None:
        if hasattr(self, "leases"):
            held = [ip for lease in self.leases for ip in lease.addresses]
            assert len(held) == len(set(held))


TestPoolMachine = PoolMachine.TestCase


@given(st.lists(st.sampled_from("abcde"), max_size=40))
def test_names_fewer_than_slots_never_change_their_address(steps: list[str]) -> None:
    """Each name comes if it is away, and goes if it is there."""
    pool = AddressPool(networks("10.8.0.0/29"))
    there: dict[str, Lease] = {}
    first: dict[str, IPv4Interface | None] = {}
    for name in steps:
        if name in there:
            pool.release(there.pop(name))
        else:
            there[name] = pool.acquire(name)
            assert first.setdefault(name, there[name].ipv4) == there[name].ipv4


# Peer ids


def test_limit_of_peer_ids() -> None:
    ids = PeerIds(4)
    assert [ids.acquire() for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(LimitReached, match="4 clients") as caught:
        ids.acquire()
    assert caught.value.attribute == "max-clients"
    with pytest.raises(NotFound):
        ids.release(4)
    ids.release(2)
    assert ids.acquire() == 4


def test_a_peer_id_in_place_of_another_one() -> None:
    """Both are in use until the other one is released."""
    ids = PeerIds(1)
    first = ids.acquire()
    second = ids.acquire(instead_of=first)
    ids.release(first)
    with pytest.raises(LimitReached):
        ids.acquire()
    ids.release(second)
    ids.acquire()


def test_peer_ids_rest_before_they_are_used_again() -> None:
    """A goodbye of the peer before may still be on its way."""
    ids = PeerIds(2)
    used = []
    for _ in range(RESTING):
        used.append(ids.acquire())
        ids.release(used[-1])
    assert len(set(used)) == RESTING
    assert ids.acquire() == used[0]


@given(st.lists(st.integers(0, 5), max_size=60))
def test_no_peer_id_is_used_twice(steps: list[int]) -> None:
    ids, held = PeerIds(4), list[int]()
    for step in steps:
        if step < len(held):
            ids.release(held.pop(step))
        elif len(held) == 4:
            with pytest.raises(LimitReached):
                ids.acquire()
        else:
            got = ids.acquire()
            assert got not in held
            held.append(got)


# In place of another lease


def test_a_lease_in_place_of_another_one(pool: AddressPool) -> None:
    first = pool.acquire("a")
    second = pool.acquire("a", instead_of=first)
    assert shown(second) == shown(first)
    assert first not in pool
    assert second in pool


def test_a_lease_that_cannot_take_the_place_leaves_it_alone(pool: AddressPool) -> None:
    first, other = pool.acquire("a"), pool.acquire("b")
    with pytest.raises(AddressInUse):
        pool.acquire("a", ipv4=other.ipv4, instead_of=first)
    assert first in pool
    with pytest.raises(AddressInUse):
        pool.acquire("c", ipv4=first.ipv4)
    assert len({shown(pool.acquire(name)) for name in "cde"} | {shown(first), shown(other)}) == 5
