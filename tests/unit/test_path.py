"""The MSS clamp, path limits and ICMP errors of a device, packet by packet."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from typing import Any

import pytest
from codec_packets import TCP, Flow, is_valid, ones_sum
from loopback import Host, Tunnel, add, eventually, host, ipv4, ipv6, refused, tunnel
from unit.test_state import successor

import ovpn_dco as dco
from ovpn_dco import DropReason, Measure, MssClamp, PathLimit

SYN = 0x02
CLIENT, SERVER = "10.8.0.2", "10.8.0.1"
CLIENT6, SERVER6 = "fd00:8::2", "fd00:8::1"
OVERHEAD = 24


def syn(version: int, mss: int, *, down: bool = False) -> bytes:
    """From the client to the server, or the other way."""
    options = struct.pack("!BBHBBBB", 2, 4, mss, 1, 3, 3, 7)
    packet = Flow(version, TCP, options=options).packet(b"", flags=SYN)
    ends = [socket.inet_pton(socket.AF_INET6, a) for a in (CLIENT6, SERVER6)]
    if version == 4:
        ends = [socket.inet_aton(address) for address in (CLIENT, SERVER)]
    at = 12 if version == 4 else 8
    bare = packet[:at] + b"".join(ends[::-1] if down else ends) + packet[at + 2 * len(ends[0]) :]
    return complete(bare)


def complete(packet: bytes) -> bytes:
    """With its checksums made good."""
    if packet[0] >> 4 == 4:
        head = packet[:10] + b"\0\0" + packet[12:20]
        packet = head[:10] + struct.pack("!H", 0xFFFF - ones_sum(head)) + packet[12:]
    transport = 20 if packet[0] >> 4 == 4 else 40
    addresses = packet[12:20] if transport == 20 else packet[8:40]
    at = transport + 16
    blank = packet[:at] + b"\0\0" + packet[at + 2 :]
    pseudo = addresses + struct.pack("!II", len(packet) - transport, TCP)
    total = 0xFFFF - ones_sum(pseudo + blank[transport:])
    return blank[:at] + struct.pack("!H", total) + blank[at + 2 :]


def mss_of(packet: bytes) -> int:
    assert is_valid(packet)
    at = (20 if packet[0] >> 4 == 4 else 40) + 22
    return int.from_bytes(packet[at : at + 2], "big")


def passed(ends: Tunnel, version: int, mss: int, *, down: bool = False) -> int:
    """The MSS that arrives at the other end."""
    sender, receiver = (ends.server, ends.client) if down else (ends.client, ends.server)
    sender.send(syn(version, mss, down=down))
    return mss_of(receiver.receive())


def test_bad_arguments(server: Host) -> None:
    peer = add(server)
    rows: list[tuple[type[dco.DcoError], str, Any]] = [
        (dco.OutOfRange, "size", lambda: peer.set_mss_clamp(127)),
        (dco.OutOfRange, "size", lambda: peer.set_mss_clamp(65536)),
        (dco.OutOfRange, "size", lambda: peer.set_mss_clamp(-1)),
        (dco.InvalidArgument, "size", lambda: peer.set_mss_clamp(1.5)),  # type: ignore[arg-type]
        (dco.InvalidArgument, "measure", lambda: peer.set_mss_clamp(1400, measure=3)),  # type: ignore[arg-type]
        (dco.OutOfRange, "mtu", lambda: peer.set_path_limit(575)),
        (dco.OutOfRange, "mtu", lambda: peer.set_path_limit(65536)),
    ]
    for kind, attribute, call in rows:
        refused(kind, attribute, call)
    info = peer.info()
    assert (info.mss_clamp, info.path_limit) == (MssClamp(), PathLimit())
    assert (info.mss, info.path_mtu) == (None, None)
    backend = server.device.peers.backend
    for setting in (MssClamp(65536), PathLimit(575), PathLimit(65536)):
        with pytest.raises(dco.OutOfRange):
            backend.set_feature(peer.ref, setting)


@pytest.mark.parametrize(
    ("size", "measure", "ipv4_mss"),
    [
        (1492, Measure.OUTER, 1492 - 28 - OVERHEAD - 40),
        (1450, Measure.DATAGRAM, 1450 - OVERHEAD - 40),
        (1400, Measure.INNER, 1360),
        (128, Measure.OUTER, 88),  # no less than that
    ],
)
def test_the_clamp_counts_as_mssfix_does(size: int, measure: Measure, ipv4_mss: int) -> None:
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_mss_clamp(size, measure=measure)
        info = ends.server_peer.info()
        assert (info.mss, info.mss_clamp) == (ipv4_mss, MssClamp(size, measure))
        for down in (False, True):
            assert passed(ends, 4, 1460, down=down) == ipv4_mss
            assert passed(ends, 6, 1440, down=down) == ipv4_mss - 20
            assert passed(ends, 4, ipv4_mss - 1, down=down) == ipv4_mss - 1
        assert ends.server.device.stats().mss_lowered == 4
        ends.up(bytes(1000))
        ends.server_peer.set_mss_clamp(0)
        assert passed(ends, 4, 1460) == 1460
        assert ends.server_peer.info().mss is None


def test_over_ipv6_the_outer_header_is_larger() -> None:
    with tunnel(family=socket.AF_INET6) as ends:
        ends.install()
        ends.server_peer.set_mss_clamp(1492)
        assert passed(ends, 4, 1460) == 1492 - 48 - OVERHEAD - 40
        ends.server_peer.set_path_limit(576)  # as an IPv6 link never has
        info = ends.server_peer.info()
        assert (info.path_mtu, info.mss) == (1280, 1280 - 48 - OVERHEAD - 40)


def with_df(packet: bytes) -> bytes:
    head = packet[:6] + b"\x40\0" + packet[8:10] + b"\0\0" + packet[12:20]
    return head[:10] + struct.pack("!H", 0xFFFF - ones_sum(head)) + packet[12:20] + packet[20:]


def test_what_does_not_fit_is_answered(server: Host) -> None:
    peer = add(server, 7, vpn_ipv4=CLIENT, vpn_ipv6=CLIENT6)
    peer.install_key(dco.KeySlot.PRIMARY, key())
    peer.set_path_limit(1400)
    limit = 1400 - 28 - OVERHEAD
    large = with_df(ipv4(SERVER, CLIENT, bytes(limit - 19)))
    server.send(large)
    answer = server.receive()
    assert answer[20:22] == b"\x03\x04"
    assert int.from_bytes(answer[26:28], "big") == limit
    assert answer[28:] == large[: 576 - 28]
    server.send(ipv6(SERVER6, CLIENT6, bytes(limit - 39)))
    answer = server.receive()
    assert (answer[40], int.from_bytes(answer[44:48], "big")) == (2, limit)
    eventually(lambda: server.device.stats().icmp_errors_written == 2)
    assert server.drops() == {DropReason.TX_TOO_BIG: 2}
    # What fits goes.
    server.send(with_df(ipv4(SERVER, CLIENT, bytes(limit - 20))))
    server.send(ipv6(SERVER6, CLIENT6, bytes(limit - 40)))
    eventually(lambda: peer.stats().vpn_tx_packets == 2)
    assert server.quiet()


def key() -> dco.DataKey:
    direction = dco.KeyDirection(key=bytes(32), nonce_tail=bytes(8))
    other = dco.KeyDirection(key=bytes([1]) * 32, nonce_tail=bytes(8))
    return dco.DataKey(key_id=0, cipher=dco.Cipher.AES_256_GCM, encrypt=direction, decrypt=other)


def test_without_df_it_leaves_in_fragments() -> None:
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_path_limit(700)
        limit = 700 - 28 - OVERHEAD
        packet = ipv4(SERVER, CLIENT, bytes(range(256)) * 8)
        ends.server.send(packet)
        payload = b""
        while len(payload) < 2048:
            piece = ends.client.receive()
            assert len(piece) <= limit
            assert int.from_bytes(piece[6:8], "big") & 0x1FFF == len(payload) // 8
            payload += piece[20:]
        assert payload == packet[20:]
        stats = ends.server_peer.stats()
        assert (stats.vpn_tx_packets, stats.vpn_tx_bytes) == (1, len(packet))
        eventually(lambda: ends.server_peer.stats().link_tx_packets == 4)
        assert ends.server.device.stats().packets_fragmented == 1
        ends.down(bytes(limit - 20))
        assert ends.server.device.stats().packets_fragmented == 1


def test_small_packets_of_ipv6_are_never_refused() -> None:
    """A host need not send less than 1280 bytes, so nobody may ask it to."""
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_path_limit(600)
        packet = ipv6(SERVER6, CLIENT6, bytes(1240))
        ends.server.send(packet)
        assert ends.client.receive() == packet
        ends.server.send(ipv6(SERVER6, CLIENT6, bytes(1241)))
        answer = ends.server.receive()
        assert (answer[40], int.from_bytes(answer[44:48], "big")) == (2, 1280)


def test_the_mss_follows_the_path() -> None:
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_path_limit(1000)
        expected = 1000 - 28 - OVERHEAD - 40
        assert passed(ends, 4, 1460) == passed(ends, 4, 1460, down=True) == expected
        ends.server_peer.set_mss_clamp(900)
        assert passed(ends, 4, 1460) == expected - 100
        ends.server_peer.set_mss_clamp(1492)
        assert passed(ends, 4, 1460) == expected
        assert ends.server_peer.info().path_mtu == 1000
        ends.server_peer.set_path_limit(0)
        assert passed(ends, 4, 1460) == 1400


def test_a_successor_keeps_them() -> None:
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_path_limit(1000)
        ends.server_peer.set_mss_clamp(900, measure=Measure.DATAGRAM)
        with successor(ends.server.device) as new:
            info = new.peers[7].info()
            assert info.path_limit == PathLimit(1000)
            assert info.mss_clamp == MssClamp(900, Measure.DATAGRAM)
            assert passed(ends, 4, 1460) == 900 - OVERHEAD - 40


@pytest.mark.parametrize("age_s", [-600, 1], ids=["young", "old"])
def test_what_was_learned_ages(age_s: int) -> None:
    """As it is handed over; the path of a peer is tried again when that is ten minutes old."""
    with tunnel() as ends:
        ends.install()
        state, fds = ends.server.device.export_state()
        values = json.loads(bytes(state))
        until_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - age_s * 10**9
        values["peers"][0]["learned"] = [1000 - 28, until_ns]
        copies = [os.dup(fd) for fd in fds]
        ends.server.device.close()
        restored = json.dumps(values).encode()
        with dco.Device.open(
            "next", mode=dco.Mode.MULTIPEER, restore=restored, descriptors=copies
        ) as new:
            for fd in copies:
                os.close(fd)
            large = with_df(ipv4(SERVER, CLIENT, bytes(1200)))
            ends.server.send(large)
            if age_s < 0:
                assert new.peers[7].info().path_mtu == 1000
                assert ends.server.receive()[20:22] == b"\x03\x04"
            else:
                assert new.peers[7].info().path_mtu is None
                assert ends.client.receive() == large


# Nobody there


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
def test_addresses_that_no_peer_has(asked: bool) -> None:
    with host(icmp_unreachable=asked) as server:
        packet = ipv4(SERVER, "10.8.0.99")
        server.send(packet)
        if asked:
            answer = server.receive()
            assert (answer[20:22], answer[28:]) == (b"\x03\x01", packet)
            assert answer[12:20] == socket.inet_aton("10.8.0.99") + socket.inet_aton(SERVER)
            server.send(ipv6(SERVER6, "fd00:8::99"))
            assert server.receive()[40:42] == b"\x01\x03"
        else:
            assert server.quiet()
        eventually(lambda: server.drops() == {DropReason.TX_NO_PEER: 2 if asked else 1})


def test_a_point_to_point_device_without_peer() -> None:
    with host(dco.Mode.P2P, icmp_unreachable=True) as client:
        client.send(ipv4(CLIENT, SERVER))
        assert client.receive()[20:22] == b"\x03\x00"
        client.send(ipv6(CLIENT6, SERVER6))
        assert client.receive()[40:42] == b"\x01\x00"


def test_errors_have_a_rate() -> None:
    with host(icmp_unreachable=True, workers=1) as server:
        started = time.monotonic()
        for _ in range(300):
            server.send(ipv4(SERVER, "10.8.0.99"))
        eventually(lambda: server.drops() == {DropReason.TX_NO_PEER: 300})
        took_ms = (time.monotonic() - started) * 1000
        # At once, and one for each millisecond.
        assert 50 <= server.device.stats().icmp_errors_written <= 51 + took_ms


def test_a_successor_answers_as_well() -> None:
    with (
        host(icmp_unreachable=True) as server,
        successor(server.device) as new,
    ):
        server.send(ipv4(SERVER, "10.8.0.99"))
        assert server.receive()[20:22] == b"\x03\x01"
        eventually(lambda: new.stats().icmp_errors_written == 1)
