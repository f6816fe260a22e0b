"""The longest-prefix table against a scan of all prefixes."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ovpn_dco import _core

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Few different bits, so that prefixes contain each other and addresses hit them.
bits4 = st.integers(0, 0xFFFFFFFF).map(lambda n: n & 0x0F03FF87)
bits6 = st.integers(0, (1 << 128) - 1).map(lambda n: n & 0x00030000000000070000000000000103)
addresses: st.SearchStrategy[Address] = st.one_of(
    bits4.map(ipaddress.IPv4Address), bits6.map(ipaddress.IPv6Address)
)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    address = draw(addresses)
    length = draw(st.integers(0, address.max_prefixlen))
    return ipaddress.ip_network((address, length), strict=False)


class PrefixTableMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.table = _core.PrefixTable(8)
        self.model: dict[Network, int] = {}

    @rule(network=networks(), owner=st.integers(0, 0xFFFFFFFF))
    def insert(self, network: Network, owner: int) -> None:
        where = network.network_address.packed, network.prefixlen
        if network in self.model:
            with pytest.raises(ValueError):
                self.table.insert(*where, owner)
        else:
            self.table.insert(*where, owner)
            self.model[network] = owner

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.model:
            network = data.draw(st.sampled_from(sorted(self.model, key=str)))
            del self.model[network]
            self.table.remove(network.network_address.packed, network.prefixlen)

    @rule(address=addresses)
    def lookup(self, address: Address) -> None:
        self.compare(address)

    @invariant()
    def borders_of_every_prefix(self) -> None:
        for network in list(self.model)[-3:]:
            self.compare(network.network_address)
            self.compare(network.broadcast_address)
            if network.broadcast_address.packed.strip(b"\xff"):
                self.compare(network.broadcast_address + 1)

    def compare(self, address: Address) -> None:
        holding = [
            network
            for network in self.model
            if network.version == address.version and address in network
        ]
        longest = max(holding, key=lambda network: network.prefixlen, default=None)
        expected = self.model[longest] if longest is not None else None
        assert self.table.lookup(address.packed) == expected


TestPrefixTable = PrefixTableMachine.TestCase


@given(st.lists(networks(), unique=True, max_size=60), st.lists(addresses, max_size=60))
def test_against_a_scan(table_of: list[Network], sought: list[Address]) -> None:
    machine = PrefixTableMachine()
    for owner, network in enumerate(table_of):
        machine.insert(network, owner)
    for address in sought:
        machine.compare(address)
