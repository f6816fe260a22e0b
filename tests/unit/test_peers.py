"""Peers and routes: arguments, handles, bulk, limits."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from loopback import (
    ANYWHERE,
    Host,
    add,
    eventually,
    forge,
    host,
    ipv4,
    key_pair,
    refused,
    udp_socket,
)

import ovpn_dco as dco
from ovpn_dco import KeySlot, Mode


def test_bad_arguments_of_peers(server: Host) -> None:
    rows: list[tuple[type[dco.DcoError], str, dict[str, Any]]] = [
        (dco.InvalidArgument, "peer_id", {"peer_id": "1"}),
        (dco.InvalidArgument, "peer_id", {"peer_id": None}),
        (dco.OutOfRange, "peer_id", {"peer_id": 1 << 24}),
        (dco.InvalidArgument, "peer_id", {"peer_id": 0xFFFFFF}),
        (dco.InvalidArgument, "remote", {"remote": None}),
        (dco.InvalidArgument, "remote", {"remote": "127.0.0.1"}),
        (dco.InvalidArgument, "remote", {"remote": ("vpn.example.org", 1194)}),
        (dco.OutOfRange, "remote", {"remote": ("127.0.0.1", 0)}),
        (dco.InvalidArgument, "remote", {"remote": ("127.0.0.1", "1194")}),
        (dco.InvalidArgument, "remote", {"remote": ("127.0.0.1", 1, 2)}),
        (dco.UnsupportedError, "remote", {"remote": ("::1", 1194)}),
        (dco.InvalidArgument, "local", {"local": "::1"}),
        (dco.InvalidArgument, "local", {"local": "here"}),
        (dco.InvalidArgument, "vpn_ipv4", {"vpn_ipv4": None}),
        (dco.InvalidArgument, "vpn_ipv4", {"vpn_ipv4": "fd00::1"}),
        (dco.InvalidArgument, "vpn_ipv4", {"vpn_ipv4": "10.8.0.0/24"}),
        (dco.InvalidArgument, "vpn_ipv6", {"vpn_ipv6": "10.8.0.7"}),
        (dco.OutOfRange, "tx_id", {"tx_id": -1}),
        (dco.InvalidArgument, "keepalive_timeout_s", {"keepalive_interval_s": 1}),
        (dco.InvalidArgument, "transport", {"transport": None}),
        (dco.InvalidArgument, "transport", {"transport": 0}),
    ]
    good: dict[str, Any] = {
        "peer_id": 1,
        "transport": server.transport,
        "remote": ANYWHERE,
        "vpn_ipv4": "10.8.0.7",
    }
    for kind, attribute, change in rows:
        arguments = good | change
        refused(kind, attribute, lambda arguments=arguments: server.device.add_peer(**arguments))
    assert len(server.device.peers) == 0
    server.device.add_peer(**good)


def test_a_transport_of_another_device_is_refused(server: Host) -> None:
    with host() as other:
        refused(
            dco.InvalidArgument,
            "transport",
            lambda: server.device.add_peer(1, other.transport, remote=ANYWHERE),
        )


def test_what_only_the_engine_can_refuse(server: Host) -> None:
    one = add(server, 1, vpn_ipv4="10.8.0.1", vpn_ipv6="fd00::1")
    two = add(server, 2, vpn_ipv4="10.8.0.2")
    refused(dco.AlreadyExists, "peer_id", lambda: add(server, 1, vpn_ipv4="10.8.0.9"))
    refused(dco.AddressInUse, "vpn_ipv4", lambda: add(server, 3, vpn_ipv4="10.8.0.1"))
    refused(dco.AddressInUse, "vpn_ipv4", lambda: add(server, 3, vpn_ipv6="fd00::1"))
    refused(dco.AddressInUse, "vpn_ipv4", lambda: two.set(vpn_ipv4="10.8.0.1"))
    refused(dco.InvalidArgument, "vpn_ipv4", lambda: two.set(vpn_ipv4="0.0.0.0"))
    one.set(vpn_ipv4="0.0.0.0")
    assert (one.info().vpn_ipv4, one.info().vpn_ipv6) == (None, "fd00::1")
    refused(dco.InvalidArgument, "vpn_ipv4", lambda: one.set(vpn_ipv6="::"))
    two.set(vpn_ipv4="10.8.0.1")
    one.set(vpn_ipv4="10.8.0.2", vpn_ipv6="::")
    assert server.device.routes.lookup("10.8.0.1") == two
    assert server.device.routes.lookup("10.8.0.2") == one
    assert server.device.routes.lookup("fd00::1") is None


def test_a_refused_change_changes_nothing(server: Host) -> None:
    one = add(server, 1)
    add(server, 2, vpn_ipv4="10.8.0.2")
    before = one.info()
    with pytest.raises(dco.AddressInUse):
        one.set(
            tx_id=9,
            vpn_ipv6="fd00::7",
            vpn_ipv4="10.8.0.2",
            remote=("127.0.0.1", 99),
            keepalive_interval_s=1,
            keepalive_timeout_s=2,
        )
    after = one.info()
    assert (after.tx_id, after.remote, after.vpn_ipv4, after.vpn_ipv6) == (
        before.tx_id,
        before.remote,
        before.vpn_ipv4,
        None,
    )
    assert (after.keepalive_interval_s, after.keepalive_timeout_s) == (0, 0)


def test_settings_are_read_back(server: Host) -> None:
    peer = add(server, 5, tx_id=6, local="127.0.0.1", vpn_ipv6="fd00::5",
               keepalive_interval_s=10, keepalive_timeout_s=60)  # fmt: skip
    info = peer.info()
    assert (info.peer_id, info.tx_id, info.generation) == (5, 6, peer.generation)
    assert info.remote == ANYWHERE == peer.remote
    assert info.local == ("127.0.0.1", 0) == peer.local
    assert (info.vpn_ipv4, info.vpn_ipv6) == ("10.8.0.5", "fd00::5")
    assert (info.keepalive_interval_s, info.keepalive_timeout_s) == (10, 60)
    assert (info.last_received_s, info.last_sent_s) == (None, None)
    assert peer.transport is server.transport
    peer.set(remote=("::ffff:127.0.0.2", 1, 0, 0))
    assert (peer.remote, peer.local) == (("127.0.0.2", 1), None)
    peer.set_keepalive(interval_s=0, timeout_s=7)
    info = peer.info()
    assert (info.keepalive_interval_s, info.keepalive_timeout_s) == (0, 7)


def test_a_keepalive_without_a_key_is_counted_as_a_packet_without_one(server: Host) -> None:
    peer = add(server, 1, keepalive_interval_s=1, keepalive_timeout_s=0)
    eventually(lambda: peer.stats().tx_no_key)
    stats = peer.stats()
    assert (stats.tx_no_key, stats.keepalive_tx) == (1, 0)
    assert server.drops() == {dco.DropReason.TX_NO_KEY: 1}


def test_handles_do_not_outlive_their_peer(server: Host) -> None:
    old = add(server)
    old.delete()
    new = add(server)
    assert old != new
    assert old.generation != new.generation
    assert len({old, new, server.device.peers[1]}) == 2
    for call in (
        old.info,
        old.delete,
        old.swap_keys,
        lambda: old.set(tx_id=5),
        lambda: old.install_key(KeySlot.PRIMARY, key_pair()[0]),
        lambda: old.delete_key(KeySlot.PRIMARY),
        lambda: old.key(KeySlot.PRIMARY),
        lambda: server.device.routes.add("192.168.0.0/24", old),
        lambda: server.device.delete_peers([old]),
    ):
        with pytest.raises(dco.NotFound):
            call()
    assert new.info().tx_id == 1
    event = server.event(dco.PeerDeleted)
    assert event.generation == old.generation
    assert event.reason is dco.DeleteReason.USERSPACE


def test_the_mapping_of_peers(server: Host) -> None:
    peers = server.device.peers
    added = [add(server, number) for number in (3, 1, 2)]
    assert list(peers) == [3, 1, 2]
    assert [peers[number] for number in (3, 1, 2)] == added
    assert len(peers) == 3
    assert 3 in peers
    for missing in (4, -1, 1 << 24, "3"):
        assert missing not in peers
    assert peers.get(4) is None
    assert repr(peers) == "<Peers [3, 1, 2]>"


def test_many_at_once_all_or_none(server: Host) -> None:
    def spec(number: int, vpn: int) -> dco.PeerSpec:
        return dco.PeerSpec(
            peer_id=number,
            transport=server.transport,
            remote=ANYWHERE,
            vpn_ipv4=f"10.9.{vpn >> 8}.{vpn & 255}",
        )

    peers = server.device.add_peers(spec(n, n) for n in range(1, 501))
    assert [peer.peer_id for peer in peers] == list(range(1, 501))
    with pytest.raises(dco.AddressInUse):
        server.device.add_peers([spec(600, 600), spec(601, 1)])
    with pytest.raises(dco.OutOfRange):
        server.device.add_peers([spec(600, 600), spec(1 << 24, 601)])
    assert len(server.device.peers) == 500
    with pytest.raises(dco.NotFound):
        server.device.delete_peers([peers[0], 700])
    assert len(server.device.peers) == 500
    assert server.device.stats_table()["id"].tolist() == list(range(1, 501))
    server.device.delete_peers([peers[0], 2, *peers[2:]])
    assert len(server.device.peers) == 0
    deleted = [server.event(dco.PeerDeleted).peer_id for _ in range(501)]
    assert sorted(deleted) == sorted([*range(1, 501), 600])


def test_the_second_p2p_peer_takes_the_place_of_the_first() -> None:
    with host(Mode.P2P) as h:
        first = h.device.add_peer(1, h.transport, remote=ANYWHERE)
        second = h.device.add_peer(2, h.transport, remote=ANYWHERE)
        event = h.event(dco.PeerDeleted)
        assert (event.peer_id, event.reason) == (1, dco.DeleteReason.TEARDOWN)
        assert list(h.device.peers) == [2]
        with pytest.raises(dco.NotFound):
            first.info()
        assert second.info().peer_id == 2
        refused(dco.InvalidArgument, "vpn_ipv4", lambda: second.set(vpn_ipv4="10.0.0.1"))
        refused(dco.InvalidArgument, "prefix", lambda: h.device.routes.add("10.0.0.0/8", second))


def test_unread_deletions_are_bounded() -> None:
    with host(max_peers=3) as h:
        for number in range(3):
            add(h, number + 1)
        refused(dco.LimitReached, "max_peers", lambda: add(h, 9))
        h.device.delete_peers([1, 2, 3])
        eventually(lambda: h.device.stats().retired == 0)
        refused(dco.LimitReached, "max_peers", lambda: add(h, 9))
        assert len(h.device.poll_events(timeout_s=1)) == 3
        add(h, 9)


def test_a_late_packet_of_a_deleted_peer_is_unknown(server: Host) -> None:
    mine, theirs = key_pair()
    with udp_socket() as far:
        peer = add(server, 7, remote=far.getsockname())
        peer.install_key(KeySlot.PRIMARY, mine)
        peer.delete()
        far.sendto(forge(theirs, 1, ipv4("10.8.0.7", "10.8.0.1")), server.address)
        eventually(lambda: server.drops() == {dco.DropReason.RX_UNKNOWN_PEER: 1})


def test_ten_thousand_peers_come_and_go() -> None:
    with host(max_peers=10_000) as h:
        specs = [
            dco.PeerSpec(
                peer_id=n,
                transport=h.transport,
                remote=("127.0.0.1", 1 + n % 60000),
                vpn_ipv4=socket.inet_ntoa(struct.pack("!I", 0x0A080000 + n)),
            )
            for n in range(1, 10_001)
        ]
        peers = h.device.add_peers(specs)
        table = h.device.stats_table()
        assert len(table["id"]) == table.peers == 10_000
        assert sum(table["id"]) == sum(range(1, 10_001))
        h.device.delete_peers(peers)
        read = 0
        while read < 10_000:
            events = h.device.poll_events(timeout_s=5)
            assert events
            read += len(events)
        assert h.device.stats().peers == 0
        h.device.add_peers(specs[:10])


# Routes


def test_bad_routes(server: Host) -> None:
    peer = add(server)
    routes = server.device.routes
    refused(dco.InvalidArgument, "prefix", lambda: routes.add("192.168.1.1/24", peer))
    refused(dco.InvalidArgument, "prefix", lambda: routes.add("192.168.1.0/33", peer))
    refused(dco.InvalidArgument, "prefix", lambda: routes.add(None, peer))
    refused(dco.InvalidArgument, "peer", lambda: routes.add("192.168.1.0/24", 1))  # type: ignore[arg-type]
    refused(dco.NotFound, "prefix", lambda: routes.remove("192.168.1.0/24"))
    refused(dco.InvalidArgument, "address", lambda: routes.lookup("nowhere"))
    with host() as other:
        stranger = add(other)
        refused(dco.InvalidArgument, "peer", lambda: routes.add("192.168.1.0/24", stranger))
    routes.add("192.168.1.0/24", peer)
    refused(dco.AlreadyExists, "prefix", lambda: routes.add("192.168.1.0/24", peer))
    refused(dco.AlreadyExists, "prefix", lambda: routes.add("10.8.0.1/32", peer))
    refused(dco.NotFound, "prefix", lambda: routes.remove("10.8.0.1/32"))


def test_routes_are_listed_and_go_with_their_peer(server: Host) -> None:
    one, two = add(server, 1), add(server, 2)
    routes = server.device.routes
    routes.add("192.168.0.0/16", one)
    routes.add("fd00:9::/48", two)
    routes.add("0.0.0.0/0", two)
    assert list(routes) == [
        dco.Route("192.168.0.0/16", one),
        dco.Route("fd00:9::/48", two),
        dco.Route("0.0.0.0/0", two),
    ]
    assert "fd00:9::/48" in routes
    assert routes.lookup("192.168.3.4") == one
    assert routes.lookup("8.8.8.8") == two
    two.delete()
    assert [route.prefix for route in routes] == ["192.168.0.0/16"]
    assert routes.lookup("8.8.8.8") is None
    routes.remove("192.168.0.0/16")
    assert len(routes) == 0
    assert routes.lookup("192.168.3.4") is None
    routes.add("fd00:9::/48", one)
    assert routes.lookup("fd00:9::1") == one
