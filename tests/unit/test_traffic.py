"""End to end on loopback: what is sealed, opened, dropped, counted and handed to Python."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import (
    Target,
    eventually,
    forge,
    host,
    ipv4,
    ipv6,
    key_pair,
    tunnel,
    udp_socket,
    unseal,
)
from support import processor_has_vaes

import ovpn_dco as dco
from ovpn_dco import Cipher, DropReason, KeySlot

CIPHERS = [cipher for cipher in Cipher if cipher is not Cipher.NONE]


@pytest.mark.parametrize("offloads", [dco.Offload.ALL, dco.Offload.ALL & ~dco.Offload.VAES_GCM])
@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_both_ways(cipher: Cipher, family: int, offloads: dco.Offload) -> None:
    with tunnel(family=family, offloads=offloads) as t:
        t.install(key_pair(cipher=cipher))
        for size in (0, 1, 64, 1400, 8900):
            t.up(bytes(size))
            t.down(bytes(size))
        assert not t.client.drops()
        assert not t.server.drops()


def test_inner_ipv6() -> None:
    with tunnel() as t:
        t.install()
        packet = ipv6("fd00:8::2", "fd00:8::1")
        t.client.send(packet)
        assert t.server.receive() == packet
        answer = ipv6("fd00:8::1", "fd00:8::2")
        t.server.send(answer)
        assert t.client.receive() == answer


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)
def test_the_wire_as_another_implementation_sees_it(cipher: Cipher) -> None:
    with host(dco.Mode.P2P) as h, udp_socket() as far:
        mine, theirs = key_pair(key_id=5, cipher=cipher)
        peer = h.device.add_peer(7, h.transport, remote=far.getsockname(), tx_id=0x0A0B0C)
        peer.install_key(KeySlot.PRIMARY, mine)
        for packet_id in (1, 2, 3):
            packet = ipv4("10.0.0.1", "10.0.0.2", b"x" * packet_id)
            h.send(packet)
            assert unseal(theirs, far.recv(2000)) == (5, 0x0A0B0C, packet_id, packet)
        packet = ipv4("10.0.0.2", "10.0.0.1")
        far.sendto(forge(theirs, 9, packet), h.address)
        assert h.receive() == packet


def test_statistics_account_for_every_byte() -> None:
    with tunnel() as t:
        t.install()
        up = [len(t.up(bytes(size))) for size in (10, 200, 1000)]
        down = [len(t.down(bytes(size))) for size in (5, 50)]
        # What has arrived is counted a moment later, at both ends.
        for peer, sent, received in ((t.client_peer, 3, 2), (t.server_peer, 2, 3)):
            eventually(lambda p=peer, n=sent: p.stats().link_tx_packets == n)
            eventually(lambda p=peer, n=received: p.stats().vpn_rx_packets == n)
        client, server = t.client_peer.stats(), t.server_peer.stats()
        assert (client.vpn_tx_packets, client.vpn_tx_bytes) == (3, sum(up))
        assert (client.vpn_rx_packets, client.vpn_rx_bytes) == (2, sum(down))
        assert (client.link_tx_packets, client.link_tx_bytes) == (3, sum(up) + 3 * 24)
        assert (client.link_rx_packets, client.link_rx_bytes) == (2, sum(down) + 2 * 24)
        for name in ("packets", "bytes"):
            for side in ("link", "vpn"):
                sent, received = f"{side}_tx_{name}", f"{side}_rx_{name}"
                assert getattr(server, received) == getattr(client, sent)
                assert getattr(client, received) == getattr(server, sent)
        device = t.client.device.stats()
        assert (device.tun_read_packets, device.udp_send_packets) == (3, 3)
        assert (device.udp_receive_packets, device.tun_write_packets) == (2, 2)
        assert sum(device.tx_batches) == device.udp_sends
        assert (device.peers, device.transports) == (1, 1)
        table = t.server.device.stats_table()
        assert table["id"].tolist() == [7]
        assert table["generation"].tolist() == [t.server_peer.generation]
        assert table["vpn_rx_bytes"].tolist() == [sum(up)]
        assert table["last_received_ns"][0] > 0
        info = t.server_peer.info()
        assert info.last_received_s is not None
        assert 0 <= info.last_received_s < 5
        key = t.client_peer.key(KeySlot.PRIMARY)
        assert key.packets_sealed == 3
        assert key.usage >= 3


# Keys


def test_renegotiation_loses_nothing() -> None:
    with tunnel() as t:
        t.install(key_pair(key_id=0))
        t.up()
        t.install(key_pair(key_id=1, seed=9), KeySlot.SECONDARY)
        t.up()
        t.client_peer.swap_keys()
        t.up()  # key 1 at the client, still secondary at the server
        t.down()  # key 0 at the server, now secondary at the client
        assert t.client_peer.key(KeySlot.PRIMARY).key_id == 1
        assert t.client_peer.key(KeySlot.SECONDARY).key_id == 0
        t.server_peer.swap_keys()
        t.client_peer.delete_key(KeySlot.SECONDARY)
        t.server_peer.delete_key(KeySlot.SECONDARY)
        t.up()
        t.down()
        with pytest.raises(dco.NotFound) as caught:
            t.client_peer.key(KeySlot.SECONDARY)
        assert caught.value.attribute == "slot"
        assert not t.client.drops()
        assert not t.server.drops()


def test_code_for_aes_gcm_is_chosen_when_a_key_is_installed() -> None:
    here = processor_has_vaes()
    with tunnel() as t:
        assert (dco.Offload.VAES_GCM in t.client.device.offloads.active) == here
        t.install(key_pair(key_id=0))
        t.client.device.set_offloads(dco.Offload.ALL & ~dco.Offload.VAES_GCM)
        assert dco.Offload.VAES_GCM not in t.client.device.offloads.active
        assert t.client_peer.key(KeySlot.PRIMARY).vaes_gcm == here
        t.install(key_pair(key_id=1, seed=9), KeySlot.SECONDARY)
        assert not t.client_peer.key(KeySlot.SECONDARY).vaes_gcm
        assert t.server_peer.key(KeySlot.SECONDARY).vaes_gcm == here
        for _ in range(2):  # ours to ours, then OpenSSL's to ours and back
            t.up()
            t.down()
            t.client_peer.swap_keys()
            t.server_peer.swap_keys()
        t.client.device.set_offloads(None)
        t.install(key_pair(key_id=2), KeySlot.SECONDARY)
        assert t.client_peer.key(KeySlot.SECONDARY).vaes_gcm == here
        t.install(key_pair(key_id=2, cipher=Cipher.CHACHA20_POLY1305), KeySlot.SECONDARY)
        assert not t.client_peer.key(KeySlot.SECONDARY).vaes_gcm


def test_a_configured_openssl_does_all_ciphers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a configuration may ask for a certified module: no code may stand in for it."""
    configuration = tmp_path / "openssl.cnf"
    configuration.write_text("openssl_conf = main\n[main]\n")
    monkeypatch.setenv("OVPN_DCO_OPENSSL_CONF", str(configuration))
    with tunnel() as t:
        assert dco.Offload.VAES_GCM in t.client.device.offloads.allowed
        assert dco.Offload.VAES_GCM not in t.client.device.offloads.active
        t.install()
        assert not t.client_peer.key(KeySlot.PRIMARY).vaes_gcm
        t.up()
        t.down()


def test_an_occupied_slot_is_replaced() -> None:
    with tunnel() as t:
        t.install(key_pair(key_id=0))
        t.up()
        t.install(key_pair(key_id=0, seed=5))
        t.up()
        assert t.client_peer.key(KeySlot.PRIMARY).packets_sealed == 1


def test_one_key_id_in_both_slots_is_refused() -> None:
    with tunnel() as t:
        pair = t.install(key_pair(key_id=3))
        with pytest.raises(dco.InvalidArgument) as caught:
            t.client_peer.install_key(KeySlot.SECONDARY, key_pair(key_id=3, seed=4)[0])
        assert caught.value.attribute == "key_id"
        t.up()
        t.client_peer.install_key(KeySlot.PRIMARY, pair[0])


def test_without_a_primary_key_nothing_is_sent() -> None:
    with tunnel() as t:
        t.client.send(ipv4("10.8.0.2", "10.8.0.1"))
        eventually(lambda: t.client.drops() == {DropReason.TX_NO_KEY: 1})
        t.install(slot=KeySlot.SECONDARY)
        t.client.send(ipv4("10.8.0.2", "10.8.0.1"))
        eventually(lambda: t.client.drops() == {DropReason.TX_NO_KEY: 2})
        assert t.client_peer.stats().tx_no_key == 2
        t.client_peer.swap_keys()
        t.up()


def test_deleting_and_swapping_empty_slots_is_no_error() -> None:
    with tunnel() as t:
        t.client_peer.delete_key(KeySlot.PRIMARY)
        t.client_peer.delete_key(KeySlot.SECONDARY)
        t.client_peer.swap_keys()


def test_consumed_keys_are_zeroed_after_success_only() -> None:
    with tunnel() as t:
        mine, theirs = key_pair()

        def writable(key: dco.DataKey) -> dco.DataKey:
            halves = {
                name: dco.KeyDirection(
                    key=bytearray(getattr(key, name).key),
                    nonce_tail=memoryview(bytearray(getattr(key, name).nonce_tail)),
                )
                for name in ("encrypt", "decrypt")
            }
            return replace(key, **halves)

        t.server_peer.install_key(KeySlot.PRIMARY, theirs)
        key = writable(mine)
        with pytest.raises(dco.OutOfRange):
            t.client_peer.install_key(KeySlot(0), replace(key, key_id=9), consume=True)
        assert key == mine
        t.client_peer.install_key(KeySlot.PRIMARY, key, consume=True)
        for direction in (key.encrypt, key.decrypt):
            assert not any(direction.key)
            assert not any(direction.nonce_tail)
        t.up()
        with pytest.raises(dco.InvalidArgument) as caught:
            t.client_peer.install_key(KeySlot.PRIMARY, mine, consume=True)
        assert caught.value.attribute == "encrypt.key"
        assert "bytearray" in str(caught.value)


def test_packet_ids_end_without_a_repeated_nonce() -> None:
    soon = (2**32 - 1) // 8 * 7
    with tunnel() as t:
        t.install(key_pair(key_id=2, first_packet_id=soon - 1))
        for _ in range(3):
            t.up()
        event = t.client.event(dco.KeySwapNeeded)
        assert (event.peer_id, event.key_id) == (7, 2)
        assert event.generation == t.client_peer.generation
        assert event.reason is dco.KeySwapReason.SOON

        t.install(key_pair(key_id=4, first_packet_id=2**32 - 2, seed=3))
        t.up()
        t.up()
        for _ in range(3):
            t.client.send(ipv4("10.8.0.2", "10.8.0.1"))
        event = t.client.event(dco.KeySwapNeeded)
        while event.reason is not dco.KeySwapReason.EXHAUSTED:
            event = t.client.event(dco.KeySwapNeeded)
        assert event.key_id == 4
        eventually(lambda: t.client.drops() == {DropReason.TX_KEY_EXHAUSTED: 3})
        assert t.server.quiet()
        assert t.client_peer.stats().tx_iv_exhausted == 3


# Drops


GOOD = ipv4("10.8.0.2", "10.8.0.1")


def _hostile(key: dco.DataKey) -> list[tuple[str, bytes, DropReason]]:
    good = forge(key, 100, GOOD)
    flipped = [
        (f"bit {bit} flipped", bytes((*good[:bit], good[bit] ^ 1, *good[bit + 1 :])))
        for bit in (4, 7, 8, 23, 24, len(good) - 1)
    ]
    return [
        *((name, packet, DropReason.RX_DECRYPT) for name, packet in flipped),
        ("empty datagram", b"", DropReason.RX_RUNT),
        ("three bytes", good[:3], DropReason.RX_RUNT),
        ("header only", good[:4], DropReason.RX_RUNT),
        ("one byte less than its overhead", good[:23], DropReason.RX_RUNT),
        ("truncated ciphertext", good[:-1], DropReason.RX_DECRYPT),
        ("trailing byte", good + b"\0", DropReason.RX_DECRYPT),
        ("DATA_V1", bytes([6 << 3 | 1]) + good[1:], DropReason.RX_DATA_V1),
        ("unknown peer", forge(key, 101, GOOD, peer_id=8), DropReason.RX_UNKNOWN_PEER),
        ("unknown key", forge(key, 102, GOOD, key_id=2), DropReason.RX_UNKNOWN_KEY),
        ("packet id 0", forge(key, 0, GOOD), DropReason.RX_REPLAY),
        ("nothing inside", forge(key, 103, b""), DropReason.RX_EMPTY),
        (
            "foreign source",
            forge(key, 104, ipv4("10.8.0.3", "10.8.0.1")),
            DropReason.RX_SOURCE,
        ),
        (
            "foreign IPv6 source",
            forge(key, 105, ipv6("fd00:8::3", "fd00:8::1")),
            DropReason.RX_SOURCE,
        ),
    ]


NAMES = [name for name, _, _ in _hostile(key_pair(key_id=1)[1])]


@pytest.mark.security
@pytest.mark.parametrize("name", NAMES)
def test_hostile_packets_are_dropped_with_their_reason(target: Target, name: str) -> None:
    h, far, key, peer = target
    packet, reason = next((p, r) for n, p, r in _hostile(key) if n == name)
    far.sendto(packet, h.address)
    eventually(lambda: h.drops() == {reason: 1}, f"{reason}, not {h.drops()}")
    assert h.quiet(0.02)
    assert not h.device.control.receive()
    assert peer.remote == far.getsockname()
    # Nothing else has changed: the next good packet is taken.
    far.sendto(forge(key, 200, GOOD), h.address)
    assert h.receive() == GOOD


def test_replays_are_dropped(target: Target) -> None:
    h, far, key, peer = target
    packet = forge(key, 5000, GOOD)
    far.sendto(packet, h.address)
    assert h.receive() == GOOD
    far.sendto(packet, h.address)
    far.sendto(forge(key, 5000 - 2048, GOOD), h.address)  # behind the window
    eventually(lambda: h.drops() == {DropReason.RX_REPLAY: 2})
    far.sendto(forge(key, 5000 - 2047, GOOD), h.address)  # the last one inside
    assert h.receive() == GOOD
    assert peer.stats().rx_replay_errors == 2


def test_a_forged_packet_does_not_move_the_window(target: Target) -> None:
    h, far, key, _ = target
    forged = bytearray(forge(key, 2**32 - 1, GOOD))
    forged[30] ^= 1
    far.sendto(forged, h.address)
    eventually(lambda: h.drops() == {DropReason.RX_DECRYPT: 1})
    far.sendto(forge(key, 1, GOOD), h.address)
    assert h.receive() == GOOD


def test_inner_packets_that_cannot_be_sent() -> None:
    with tunnel() as t:
        t.install()
        t.server.send(ipv4("10.8.0.1", "10.8.0.99"))
        eventually(lambda: t.server.drops() == {DropReason.TX_NO_PEER: 1})
        for packet in (b"\x00" * 40, b"\x45" * 19, b"\x60" * 39):
            t.server.send(packet)
        eventually(lambda: t.server.drops().get(DropReason.TX_MALFORMED) == 3)
        t.down()


def test_source_check_can_be_switched() -> None:
    foreign = ipv4("192.168.1.1", "10.8.0.1")
    with tunnel() as t:
        t.install()
        t.client.send(foreign)
        eventually(lambda: t.server.drops() == {DropReason.RX_SOURCE: 1})
        assert t.server_peer.stats().rx_source_errors == 1
        t.server.device.set_source_check("off")
        t.client.send(foreign)
        assert t.server.receive() == foreign
        t.server.device.set_source_check(dco.SourceCheck.STRICT)
        t.server.device.routes.add("192.168.1.0/24", t.server_peer)
        t.client.send(foreign)
        assert t.server.receive() == foreign


# Routes


def test_the_longest_prefix_wins() -> None:
    with host() as server, host(dco.Mode.P2P) as one, host(dco.Mode.P2P) as two:
        peers = []
        for number, client in ((1, one), (2, two)):
            peer = server.device.add_peer(
                number, server.transport, remote=client.address, vpn_ipv4=f"10.8.0.{number + 1}"
            )
            far = client.device.add_peer(number, client.transport, remote=server.address)
            mine, theirs = key_pair(seed=number)
            peer.install_key(KeySlot.PRIMARY, mine)
            far.install_key(KeySlot.PRIMARY, theirs)
            peers.append(peer)
        routes = server.device.routes
        routes.add("192.168.0.0/16", peers[0])
        routes.add("192.168.9.0/24", peers[1])
        routes.add("::/0", peers[1])
        for destination, client in (
            ("192.168.8.1", one),
            ("192.168.9.1", two),
            ("10.8.0.2", one),
            ("10.8.0.3", two),
        ):
            packet = ipv4("10.8.0.1", destination)
            server.send(packet)
            assert client.receive() == packet
        packet = ipv6("fd00::1", "2001:db8::1")
        server.send(packet)
        assert two.receive() == packet
        routes.remove("192.168.9.0/24")
        packet = ipv4("10.8.0.1", "192.168.9.1")
        server.send(packet)
        assert one.receive() == packet
        peers[0].delete()
        assert [(route.prefix, route.peer) for route in routes] == [("::/0", peers[1])]
        server.send(packet)
        eventually(lambda: server.drops() == {DropReason.TX_NO_PEER: 1})


# Offloads, sizes, floods


def test_offloads_can_be_switched_under_traffic() -> None:
    with tunnel() as t:
        t.install()
        for offloads in (dco.Offload.NONE, dco.Offload.ALL, ["udp_gso"], dco.Offload.UDP_BATCH):
            t.client.device.set_offloads(offloads)
            t.server.device.set_offloads(offloads)
            allowed = t.client.device.offloads.allowed
            assert t.client.device.offloads.active & ~allowed == dco.Offload.NONE
            t.up()
            t.down()
        assert allowed == dco.Offload.UDP_BATCH


def test_offloads_given_at_open() -> None:
    with tunnel(offloads=()) as t:
        t.install()
        assert t.client.device.offloads == dco.Offloads(dco.Offload.NONE, dco.Offload.NONE)
        assert t.client.transport.info().offloads is dco.Offload.NONE
        t.up()


def test_a_jumbo_packet_and_a_too_large_one() -> None:
    with tunnel() as t:
        t.install()
        t.up(bytes(60000))
        t.client.send(ipv4("10.8.0.2", "10.8.0.1", bytes(65535 - 20)))
        eventually(lambda: t.client.drops() == {DropReason.TX_TOO_BIG: 1})
        t.up()


@pytest.mark.parametrize("reading", [True, False], ids=["reader", "no reader"])
def test_every_packet_is_accounted_for(reading: bool) -> None:
    count = 2000
    packet = ipv4("10.8.0.2", "10.8.0.1", bytes(100))
    with tunnel() as t:
        t.install()
        client, server = t.client.device, t.server.device
        for _ in range(count):
            t.client.send(packet)
            while reading and not t.server.quiet(0):
                assert t.server.receive() == packet

        def sent() -> int:
            return t.client_peer.stats().link_tx_packets

        eventually(lambda: client.stats().tun_read_packets == count)
        eventually(lambda: sent() + sum(t.client.drops().values()) == count)

        def arrived() -> bool:
            stats = server.stats()
            taken = stats.tun_write_packets + sum(stats.drops.values())
            return taken + t.server.transport.info().receive_overflows == sent()

        eventually(arrived, "the sum of delivered, dropped and overflown")
        if not reading:
            assert set(t.server.drops()) == {DropReason.RX_TUN_BACKLOG}
