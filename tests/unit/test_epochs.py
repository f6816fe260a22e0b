"""Keys in the epoch format end to end on loopback: traffic, turns, both formats side by side."""

from __future__ import annotations

import socket

import pytest
from epoch_wire import COUNTER_MAX, EPOCH_MAX, OVERHEAD, EpochPeer, EpochWire
from loopback import KEEPALIVE, epoch_pair, eventually, host, ipv4, ipv6, key_pair, tunnel
from loopback import udp_socket as far_socket

import ovpn_dco as dco
from ovpn_dco import Cipher, KeySlot

CIPHERS = [cipher for cipher in Cipher if cipher is not Cipher.NONE]
each = pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.name)


def epochs_of(peer: dco.Peer, slot: KeySlot = KeySlot.PRIMARY) -> tuple[int | None, int | None]:
    info = peer.key(slot)
    return info.send_epoch, info.receive_epoch


@each
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_both_ways(cipher: Cipher, family: int) -> None:
    with tunnel(family=family) as t:
        t.install(epoch_pair(cipher=cipher))
        for size in (0, 1, 64, 1400, 8900):
            t.up(bytes(size))
            t.down(bytes(size))
        assert not t.client.drops()
        assert not t.server.drops()
        assert t.client_peer.key(KeySlot.PRIMARY).cipher is cipher


def test_inner_ipv6() -> None:
    with tunnel() as t:
        t.install(epoch_pair())
        packet = ipv6("fd00:8::2", "fd00:8::1")
        t.client.send(packet)
        assert t.server.receive() == packet


@each
def test_the_wire_as_another_implementation_sees_it(cipher: Cipher) -> None:
    far = EpochPeer(key_id=5, peer_id=0x0A0B0C, cipher=cipher)
    with host(dco.Mode.P2P) as h, far_socket() as sock:
        peer = h.device.add_peer(0x0A0B0C, h.transport, remote=sock.getsockname())
        peer.install_key(KeySlot.PRIMARY, far.key())
        for counter in (1, 2, 3):
            packet = ipv4("10.0.0.1", "10.0.0.2", b"x" * counter)
            h.send(packet)
            assert far.open(sock.recv(2000)) == (5, 0x0A0B0C, 1, counter, packet)
        packet = ipv4("10.0.0.2", "10.0.0.1")
        sock.sendto(far.seal(packet), h.address)
        assert h.receive() == packet


def test_vector_on_the_wire_of_a_device() -> None:
    """The packet that an independent implementation made; see tests/vectors."""
    secret = b"\x42" * 32
    packet = bytes.fromhex(
        "4a00000700010000000000010bfb182b613878561afe0b2a61e45b55cfed74cc8e8cfbe0266479217317f87d"
    )
    with host(dco.Mode.P2P) as h, far_socket() as sock:
        peer = h.device.add_peer(7, h.transport, remote=sock.getsockname())
        key = dco.EpochKey(2, Cipher.AES_256_GCM, secret, secret)
        peer.install_key(KeySlot.PRIMARY, key)
        peer.set_keepalive(interval_s=1, timeout_s=0)
        assert sock.recv(2048) == packet
        sock.sendto(packet, h.address)
        eventually(lambda: peer.stats().keepalive_rx == 1, "keepalive taken")
        assert not h.drops()


def test_statistics_account_for_every_byte() -> None:
    with tunnel() as t:
        t.install(epoch_pair())
        sizes = [len(t.up(bytes(size))) for size in (10, 200, 1000)]
        eventually(lambda: t.client_peer.stats().link_tx_packets == 3)
        eventually(lambda: t.server_peer.stats().vpn_rx_packets == 3)
        client, server = t.client_peer.stats(), t.server_peer.stats()
        assert client.link_tx_bytes == server.link_rx_bytes == sum(sizes) + 3 * OVERHEAD
        assert client.vpn_tx_bytes == server.vpn_rx_bytes == sum(sizes)


# Turns


def test_the_sender_turns_and_the_peer_follows() -> None:
    with tunnel() as t:
        t.install(epoch_pair(first_packet_id=COUNTER_MAX - 2))
        for _ in range(3):
            t.up()
        assert epochs_of(t.client_peer) == (1, 1)
        t.up()
        assert epochs_of(t.client_peer) == (2, 1)
        eventually(lambda: epochs_of(t.server_peer) == (1, 2))
        t.down()
        assert epochs_of(t.server_peer) == (2, 2), "followed, with two packets of epoch 1 unused"
        eventually(lambda: epochs_of(t.client_peer) == (2, 2))
        for _ in range(100):
            t.up()
            t.down()
        assert not t.client.drops()
        assert not t.server.drops()
        key = t.client_peer.key(KeySlot.PRIMARY)
        assert key.packets_sealed == 104
        assert key.usage <= 101 * 4, "of the present epoch only"


def test_many_turns_by_a_peer_that_is_ahead() -> None:
    """Whatever epoch the peer is in, at the next packet we are in it as well."""
    far = EpochPeer()
    with host(dco.Mode.P2P) as h, far_socket() as sock:
        peer = h.device.add_peer(7, h.transport, remote=sock.getsockname())
        peer.install_key(KeySlot.PRIMARY, far.key())
        packet = ipv4("10.0.0.2", "10.0.0.1")
        for epoch in range(1, 60):
            sock.sendto(far.seal(packet, epoch), h.address)
            assert h.receive() == packet

            def in_step(epoch: int = epoch) -> bool:
                h.send(packet)
                return far.open(sock.recv(2000)).epoch == epoch

            eventually(in_step, f"answer in epoch {epoch}")
        assert not h.drops()
        assert not h.device.poll_events()


def test_continued_session() -> None:
    """First epoch and packet id are where both ends had got to."""
    with tunnel() as t:
        pair = epoch_pair(first_epoch=EPOCH_MAX - 1, first_packet_id=12345)
        t.install(pair)
        t.up()
        assert epochs_of(t.server_peer) == (EPOCH_MAX - 1, EPOCH_MAX - 1)
    wire = EpochWire(bytes(pair[0].encrypt_secret))
    with host(dco.Mode.P2P) as h, far_socket() as sock:
        peer = h.device.add_peer(7, h.transport, remote=sock.getsockname())
        key = epoch_pair(first_epoch=3, first_packet_id=12345)[0]
        peer.install_key(KeySlot.PRIMARY, key)
        h.send(ipv4("10.0.0.1", "10.0.0.2"))
        opened = wire.open(sock.recv(2000))
        assert (opened.epoch, opened.counter) == (3, 12345)


# Side by side


def test_renegotiation_from_one_format_to_the_other() -> None:
    with tunnel() as t:
        t.install(key_pair(key_id=0))
        t.up()
        t.install(epoch_pair(key_id=1), KeySlot.SECONDARY)
        t.up()
        t.client_peer.swap_keys()
        t.up()  # epoch format at the client, still secondary at the server
        t.down()  # classic at the server, now secondary at the client
        assert epochs_of(t.client_peer) == (1, 1)
        assert epochs_of(t.client_peer, KeySlot.SECONDARY) == (None, None)
        t.server_peer.swap_keys()
        t.install(key_pair(key_id=2, seed=9), KeySlot.SECONDARY)
        t.down()
        t.client_peer.swap_keys()
        t.server_peer.swap_keys()
        t.up()
        t.down()
        assert not t.client.drops()
        assert not t.server.drops()


def test_both_formats_on_one_device() -> None:
    """Two peers of one server, each with its own format, interleaved."""
    with host() as server, far_socket() as one, far_socket() as two:
        classic, _ = key_pair()
        far = EpochPeer(peer_id=2)
        first = server.device.add_peer(
            1, server.transport, remote=one.getsockname(), vpn_ipv4="10.8.0.2"
        )
        second = server.device.add_peer(
            2, server.transport, remote=two.getsockname(), vpn_ipv4="10.8.0.3"
        )
        first.install_key(KeySlot.PRIMARY, classic)
        second.install_key(KeySlot.PRIMARY, far.key())
        for size in range(64):
            packets = [ipv4("10.8.0.1", f"10.8.0.{n}", bytes(size)) for n in (2, 3)]
            for packet in packets:
                server.send(packet)
            assert len(one.recv(2000)) == len(packets[0]) + 24
            assert far.open(two.recv(2000)).payload == packets[1]
        assert not server.drops()


def test_keepalive() -> None:
    far = EpochPeer()
    with host(dco.Mode.P2P) as h, far_socket() as sock:
        peer = h.device.add_peer(7, h.transport, remote=sock.getsockname())
        peer.install_key(KeySlot.PRIMARY, far.key(first_packet_id=COUNTER_MAX))
        peer.set_keepalive(interval_s=1, timeout_s=0)
        got = [far.open(sock.recv(2000)) for _ in range(2)]
        assert [(o.epoch, o.counter, o.payload) for o in got] == [
            (1, COUNTER_MAX, KEEPALIVE),
            (2, 1, KEEPALIVE),
        ]


def test_keys_are_replaced_while_epochs_turn() -> None:
    """What the timer derives and what a new key replaces never get into each other's way."""
    with tunnel() as t:
        for round_ in range(60):
            t.install(epoch_pair(key_id=round_ % 8, seed=round_, first_packet_id=COUNTER_MAX))
            for _ in range(3):
                t.up()
                t.down()
            assert epochs_of(t.client_peer) == (2, 2)
        t.client_peer.delete_key(KeySlot.PRIMARY)
        eventually(lambda: t.client.device.stats().retired == 0, "keys let go")
