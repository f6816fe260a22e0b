"""Messages inside the data channel: out by `Peer.send_message`, in as control packets of a peer."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Any

import pytest
from loopback import (
    KEEPALIVE,
    Tunnel,
    add,
    epoch_pair,
    eventually,
    host,
    key_pair,
    refused,
    tunnel,
    unseal,
)
from unit.test_tcp import PAIR, connection, fill, line, read_frame

import ovpn_dco as dco
from ovpn_dco import DropReason, KeySlot, Mode

MOST = 16384


@contextlib.contextmanager
def tcp_tunnel() -> Iterator[Tunnel]:
    far, near = connection()
    with host(Mode.P2P) as client, host() as server, far, near:
        client_peer = client.device.add_peer(7, client.device.attach_tcp(far))
        server_peer = server.device.add_peer(7, server.device.attach_tcp(near), vpn_ipv4="10.8.0.2")
        yield Tunnel(client, server, client_peer, server_peer)


@pytest.mark.parametrize("pair", [key_pair(), epoch_pair()], ids=["classic", "epoch"])
@pytest.mark.parametrize("way", [tunnel, tcp_tunnel], ids=["UDP", "TCP"])
def test_both_ways_in_order(way: Any, pair: Any) -> None:
    with way() as ends:
        ends.install(pair)
        for sender, receiver in ((ends.client_peer, ends.server), (ends.server_peer, ends.client)):
            sent = [b"", b"\0", b"\x50" * 1300, *(b"\0message %d" % n for n in range(20))][1:]
            for message in sent:
                sender.send_message(message)
            got = receiver.control(len(sent))
            assert [packet.data for packet in got] == sent
            assert {packet.peer_id for packet in got} == {7}
            stats = sender.stats()
            assert (stats.messages_tx, stats.vpn_tx_packets) == (len(sent), 0)
        assert ends.server_peer.stats().vpn_rx_packets == 0
        assert ends.server.device.stats().peer_messages == len(sent)
        ends.up()
        assert ends.client.drops() == ends.server.drops() == {}


def test_any_buffer_and_the_largest() -> None:
    with tunnel() as ends:
        ends.install()
        for data in (bytearray(b"\1array"), memoryview(b"\2view"), b"\xff" * MOST):
            ends.server_peer.send_message(data)
            assert ends.client.control()[0].data == data


def test_what_is_refused() -> None:
    with tunnel() as ends:
        ends.install()
        peer = ends.server_peer
        invalid: list[Any] = [b"", b"\x45" + bytes(30), b"\x4f", b"\x60" + bytes(39), KEEPALIVE]
        for data in (*invalid, "text", 7, None):
            refused(dco.InvalidArgument, "data", lambda data=data: peer.send_message(data))
        refused(dco.MessageTooBig, "data", lambda: peer.send_message(b"\1" * (MOST + 1)))
        backend = ends.server.device.peers.backend
        for data, kind in ((b"", dco.InvalidArgument), (bytes(MOST + 1), dco.MessageTooBig)):
            with pytest.raises(kind):
                backend.send_message(peer.ref, data)
        peer.send_message(KEEPALIVE + b"\0")
        assert ends.client.control()[0].data == KEEPALIVE + b"\0"
        assert ends.client_peer.stats().keepalive_rx == 0
        peer.delete()
        with pytest.raises(dco.NotFound):
            peer.send_message(b"\0late")
    with pytest.raises(dco.DeviceClosed):
        ends.client_peer.send_message(b"\0later")


def test_before_there_is_a_key() -> None:
    with host() as server:
        peer = add(server)
        error = refused(dco.DcoError, "data", lambda: peer.send_message(b"\0early"))
        assert error.errno == errno.ENOKEY
        peer.install_key(KeySlot.SECONDARY, key_pair()[0])
        with pytest.raises(dco.DcoError, match="no primary key"):
            peer.send_message(b"\0early")
        peer.swap_keys()
        peer.send_message(b"\0now")
        eventually(lambda: peer.stats().link_tx_packets == 1)
        assert peer.stats().messages_tx == 1


def flood(peer: dco.Peer, size: int = 1000) -> int:
    """Sends until there is no room, and a few times more; how many were taken."""
    taken = refusals = 0
    while refusals < 20:
        try:
            peer.send_message(taken.to_bytes(4, "big") + bytes(size - 4))
            taken += 1
        except dco.TryAgain:
            refusals += 1
        assert taken < 1_000_000, "there is always room"
    return taken


def test_a_flood_finds_no_room_and_nothing_is_lost() -> None:
    with host(start=False) as server:
        peer = add(server)
        peer.install_key(KeySlot.PRIMARY, key_pair()[0])
        taken = flood(peer)
        assert taken > 500
        server.device.start()
        eventually(lambda: peer.stats().link_tx_packets == taken)
        assert peer.stats().messages_tx == taken
        assert server.drops() == {}
        peer.send_message(b"there is room again")


def test_a_flood_into_a_connection_that_nobody_reads() -> None:
    with line() as ends:
        taken = flood(ends.peer)
        assert taken > 300
        for number in range(taken):
            plain = unseal(PAIR[1], read_frame(ends.far))[3]
            assert int.from_bytes(plain[:4], "big") == number
        assert ends.host.drops() == {}
        ends.peer.send_message(b"there is room again")


def test_no_more_is_taken_for_a_connection_than_may_wait() -> None:
    with line(start=False) as ends:
        taken = flood(ends.peer)
        assert 500 < taken <= (512 * 1024) // 1000
        ends.host.device.start()
        for number in range(taken):
            plain = unseal(PAIR[1], read_frame(ends.far))[3]
            assert int.from_bytes(plain[:4], "big") == number
        assert ends.host.drops() == {}


def test_a_connection_full_of_packets_takes_no_message() -> None:
    with line() as ends:
        fill(ends)
        dropped = ends.host.drops()
        assert flood(ends.peer, MOST) < 10
        assert ends.host.drops() == dropped


def test_a_peer_that_goes_before_its_messages() -> None:
    with host(start=False) as server:
        peer = add(server)
        peer.install_key(KeySlot.PRIMARY, key_pair()[0])
        for _ in range(3):
            peer.send_message(b"\0never")
        peer.delete()
        again = add(server)  # of the same id
        again.install_key(KeySlot.PRIMARY, key_pair(seed=2)[0])
        again.send_message(b"\0mine")
        server.device.start()
        eventually(lambda: again.stats().messages_tx == 1)
        assert server.device.stats().peer_messages == 4
        assert server.drops() == {DropReason.TX_NO_PEER: 3}
