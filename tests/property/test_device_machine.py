"""A MULTIPEER device against a model: peers, their addresses, keys and routes, in any order.

What the model refuses the device must refuse with that exception, and what either has must be
what the other has, generation by generation."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field, replace

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from loopback import epoch_pair, host, key_pair

import ovpn_dco as dco
from ovpn_dco import KeySlot

REMOTE = ("127.0.0.1", 9)
IDS = st.integers(1, 6)
IPV4 = st.sampled_from(["10.8.0.1", "10.8.0.2", "10.8.1.1", "10.9.0.1"])
IPV6 = st.sampled_from(["fd00::1", "fd00::2", "fd00:1::1"])
PREFIXES = st.sampled_from(
    ["0.0.0.0/0", "10.0.0.0/8", "10.8.0.0/16", "10.8.0.0/24", "10.8.0.1/32", "10.8.1.1/32",
     "::/0", "fd00::/16", "fd00::/64", "fd00::1/128"]
)  # fmt: skip
PROBES = ["10.8.0.1", "10.8.0.3", "10.8.1.1", "10.9.0.1", "10.200.0.1", "192.0.2.1",
          "fd00::1", "fd00::9", "fd00:1::1", "2001:db8::1"]  # fmt: skip
SLOTS = st.sampled_from(KeySlot)
CLEAR = {4: "0.0.0.0", 6: "::"}


@dataclass
class Model:
    """A peer as it should be."""

    peer_id: int
    generation: int
    vpn_ipv4: str | None
    vpn_ipv6: str | None
    tx_id: int
    keepalive: tuple[int, int] = (0, 0)
    keys: dict[KeySlot, tuple[int, bool]] = field(default_factory=dict)  # id, epoch format


class DeviceMachine(RuleBasedStateMachine):
    peers = Bundle("peers")

    def __init__(self) -> None:
        super().__init__()
        self.context = host(source_check="off")
        self.host = self.context.__enter__()
        self.device = self.host.device
        self.alive: dict[int, Model] = {}
        self.routes: dict[str, int] = {}  # prefix to generation
        self.deleted: list[tuple[int, int]] = []

    def teardown(self) -> None:
        self.context.__exit__(None, None, None)

    # What the model says

    def model(self, peer: dco.Peer) -> Model | None:
        found = self.alive.get(peer.peer_id)
        return found if found and found.generation == peer.generation else None

    def taken(self, address: str | None, but: int | None = None) -> bool:
        """By another peer as its own, or by a route to the very address."""
        if address is None:
            return False
        bits = 128 if ":" in address else 32
        if f"{address}/{bits}" in self.routes:
            return True
        return any(
            address in (peer.vpn_ipv4, peer.vpn_ipv6) and peer.generation != but
            for peer in self.alive.values()
        )

    def owner(self, address: str) -> int | None:
        """Generation of who has the longest prefix."""
        ip = ipaddress.ip_address(address)
        best: tuple[int, int] | None = None
        entries = list(self.routes.items())
        for peer in self.alive.values():
            entries += [(f"{a}/{b}", peer.generation)
                        for a, b in ((peer.vpn_ipv4, 32), (peer.vpn_ipv6, 128)) if a]  # fmt: skip
        for prefix, generation in entries:
            network = ipaddress.ip_network(prefix)
            if network.version == ip.version and ip in network:
                best = max(best or (-1, 0), (network.prefixlen, generation))
        return best[1] if best else None

    # Peers

    @rule(target=peers, peer_id=IDS, vpn_ipv4=st.none() | IPV4, vpn_ipv6=st.none() | IPV6,
          tx_id=st.none() | IDS)  # fmt: skip
    def add(
        self, peer_id: int, vpn_ipv4: str | None, vpn_ipv6: str | None, tx_id: int | None
    ) -> object:
        def call() -> dco.Peer:
            return self.device.add_peer(
                peer_id,
                self.host.transport,
                remote=REMOTE,
                vpn_ipv4=vpn_ipv4,
                vpn_ipv6=vpn_ipv6,
                tx_id=tx_id,
            )

        refusal: type[dco.DcoError] | None = None
        if not vpn_ipv4 and not vpn_ipv6:
            refusal = dco.InvalidArgument
        elif peer_id in self.alive:
            refusal = dco.AlreadyExists
        elif self.taken(vpn_ipv4) or self.taken(vpn_ipv6):
            refusal = dco.AddressInUse
        if refusal:
            with pytest.raises(refusal):
                call()
            return dco.Peer(self.device.peers, (peer_id, 1 << 40))  # a handle on nobody
        peer = call()
        assert all(peer.generation > model.generation for model in self.alive.values())
        assert peer.ref not in self.deleted
        self.alive[peer_id] = Model(peer_id, peer.generation, vpn_ipv4, vpn_ipv6, tx_id or peer_id)
        return peer

    @rule(peer=peers, vpn_ipv4=st.none() | IPV4 | st.just(CLEAR[4]),
          vpn_ipv6=st.none() | IPV6 | st.just(CLEAR[6]), tx_id=st.none() | IDS,
          keepalive=st.none() | st.sampled_from([(0, 0), (0, 99), (99, 0), (9, 99)]))  # fmt: skip
    def change(
        self,
        peer: dco.Peer,
        vpn_ipv4: str | None,
        vpn_ipv6: str | None,
        tx_id: int | None,
        keepalive: tuple[int, int] | None,
    ) -> None:
        def call() -> None:
            interval_s, timeout_s = keepalive or (None, None)
            peer.set(
                vpn_ipv4=vpn_ipv4,
                vpn_ipv6=vpn_ipv6,
                tx_id=tx_id,
                keepalive_interval_s=interval_s,
                keepalive_timeout_s=timeout_s,
            )

        model = self.model(peer)
        if model is None:
            with pytest.raises(dco.NotFound):
                call()
            return
        after = replace(
            model,
            vpn_ipv4=None if vpn_ipv4 == CLEAR[4] else vpn_ipv4 or model.vpn_ipv4,
            vpn_ipv6=None if vpn_ipv6 == CLEAR[6] else vpn_ipv6 or model.vpn_ipv6,
            tx_id=tx_id or model.tx_id,
            keepalive=keepalive or model.keepalive,
        )
        wanted = [a for a in (vpn_ipv4, vpn_ipv6) if a and a not in CLEAR.values()]
        if not after.vpn_ipv4 and not after.vpn_ipv6:
            with pytest.raises(dco.InvalidArgument):
                call()
        elif any(self.taken(address, but=model.generation) for address in wanted):
            with pytest.raises(dco.AddressInUse):
                call()
        else:
            call()
            self.alive[peer.peer_id] = after

    @rule(peer=consumes(peers))
    def delete(self, peer: dco.Peer) -> None:
        model = self.model(peer)
        if model is None:
            with pytest.raises(dco.NotFound):
                peer.delete()
            return
        peer.delete()
        del self.alive[peer.peer_id]
        self.deleted.append(peer.ref)
        self.routes = {p: g for p, g in self.routes.items() if g != peer.generation}

    @rule()
    def read_events(self) -> None:
        """Each deletion is told once, in order, and nothing else happens here."""
        events: list[dco.Event] = []
        while len(events) < len(self.deleted):
            news = self.device.poll_events(timeout_s=5)
            assert news
            events += news
        refs = [(e.peer_id, e.generation) for e in events if isinstance(e, dco.PeerDeleted)]
        assert refs == self.deleted
        assert self.device.poll_events() == []
        self.deleted = []

    # Keys

    @rule(peer=peers, slot=SLOTS, key_id=st.integers(0, 3), epoch=st.booleans())
    def install(self, peer: dco.Peer, slot: KeySlot, key_id: int, epoch: bool) -> None:
        key = epoch_pair(key_id)[0] if epoch else key_pair(key_id)[0]
        model = self.model(peer)
        if model is None:
            with pytest.raises(dco.NotFound):
                peer.install_key(slot, key)
        elif model.keys.get(KeySlot(1 - slot), (-1, False))[0] == key_id:
            with pytest.raises(dco.InvalidArgument):
                peer.install_key(slot, key)
        else:
            peer.install_key(slot, key)
            model.keys[slot] = (key_id, epoch)

    @rule(peer=peers)
    def swap(self, peer: dco.Peer) -> None:
        model = self.model(peer)
        if model is None:
            with pytest.raises(dco.NotFound):
                peer.swap_keys()
            return
        peer.swap_keys()
        model.keys = {KeySlot(1 - slot): key for slot, key in model.keys.items()}

    @rule(peer=peers, slot=SLOTS)
    def delete_key(self, peer: dco.Peer, slot: KeySlot) -> None:
        model = self.model(peer)
        if model is None:
            with pytest.raises(dco.NotFound):
                peer.delete_key(slot)
            return
        peer.delete_key(slot)
        model.keys.pop(slot, None)

    # Routes

    @rule(peer=peers, prefix=PREFIXES)
    def add_route(self, peer: dco.Peer, prefix: str) -> None:
        model = self.model(peer)
        address, _, bits = prefix.partition("/")
        host_route = bits in ("32", "128")
        if model is None:
            with pytest.raises(dco.NotFound):
                self.device.routes.add(prefix, peer)
        elif prefix in self.routes or (host_route and self.taken(address)):
            with pytest.raises(dco.AlreadyExists):
                self.device.routes.add(prefix, peer)
        else:
            self.device.routes.add(prefix, peer)
            self.routes[prefix] = peer.generation

    @rule(prefix=PREFIXES)
    def remove_route(self, prefix: str) -> None:
        if prefix in self.routes:
            self.device.routes.remove(prefix)
            del self.routes[prefix]
        else:
            with pytest.raises(dco.NotFound):
                self.device.routes.remove(prefix)

    # What must always hold

    @invariant()
    def same_peers(self) -> None:
        found = {peer.peer_id: peer.info() for peer in self.device.peers.values()}
        assert found.keys() == self.alive.keys()
        assert self.device.stats().peers == len(self.alive)
        for peer_id, info in found.items():
            model = self.alive[peer_id]
            assert (info.generation, info.tx_id) == (model.generation, model.tx_id)
            assert (info.vpn_ipv4, info.vpn_ipv6) == (model.vpn_ipv4, model.vpn_ipv6)
            assert (info.keepalive_interval_s, info.keepalive_timeout_s) == model.keepalive

    @invariant()
    def same_keys(self) -> None:
        for peer_id, model in self.alive.items():
            peer = self.device.peers[peer_id]
            for slot in KeySlot:
                if slot in model.keys:
                    info = peer.key(slot)
                    assert (info.key_id, info.send_epoch is not None) == model.keys[slot]
                else:
                    with pytest.raises(dco.NotFound):
                        peer.key(slot)

    @invariant()
    def same_routes(self) -> None:
        listed = {route.prefix: route.peer.generation for route in self.device.routes}
        assert listed == self.routes
        for address in PROBES:
            owner = self.device.routes.lookup(address)
            assert (owner.generation if owner else None) == self.owner(address), address


TestDeviceMachine = DeviceMachine.TestCase
TestDeviceMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_packed_form_of_the_probes_is_right() -> None:
    """The model reads addresses by `ipaddress`, the device by `inet_pton`: they must agree."""
    for address in PROBES:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        assert ipaddress.ip_address(address).packed == socket.inet_pton(family, address)
