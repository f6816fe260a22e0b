"""Traces, read back by a library that had no part in writing them."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import capture
import pytest
from loopback import (
    Host,
    Target,
    Tunnel,
    add,
    epoch_pair,
    eventually,
    forge,
    host,
    ipv4,
    key_pair,
    refused,
    tunnel,
    udp_socket,
)

import ovpn_dco as dco
from ovpn_dco import DropReason, TracePoint

UP = ipv4("10.8.0.2", "10.8.0.1", b"up")
DOWN = ipv4("10.8.0.1", "10.8.0.2", b"down")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.pcapng"


@pytest.fixture
def pair() -> Iterator[Tunnel]:
    with tunnel() as t:
        t.install()
        yield t


def spoilt(datagram: bytes) -> bytes:
    return datagram[:-1] + bytes([datagram[-1] ^ 1])


def send_and_wait(target: Target, *datagrams: bytes) -> None:
    """Until the engine has worked on all of them."""
    host = target.host
    before = host.device.stats().udp_receive_packets
    for datagram in datagrams:
        target.far.sendto(datagram, host.address)
    eventually(lambda: host.device.stats().udp_receive_packets == before + len(datagrams))


# What is in it


def test_a_packet_is_there_at_each_of_its_points(target: Target, path: Path) -> None:
    before = time.time()
    with target.host.device.trace(path) as trace:
        target.host.send(DOWN)
        sealed = target.far.recv(2048)
        datagram = forge(key_pair(key_id=1)[1], 42, UP)
        target.far.sendto(datagram, target.host.address)
        assert target.host.receive() == UP
    assert (trace.written, trace.lost) == (4, 0)
    found = capture.read(path)
    assert (found.received, found.dropped) == ([2, 2], [0, 0])
    who = f"peer=7 generation={target.peer.generation} key=1"
    near, far = target.host.address, target.far.getsockname()
    for packet, point, inner, size in zip(
        found.packets,
        (f"tx_inner {who} packet=1", f"tx_outer {who} packet=1",
         f"rx_outer {who} packet=42", f"rx_inner {who} packet=42"),
        (DOWN, sealed, datagram, UP),
        (len(DOWN), len(sealed) + 28, len(datagram) + 28, len(UP)),
        strict=True,
    ):  # fmt: skip
        assert packet.comment == point
        assert packet.direction == ("outbound" if point[0] == "t" else "inbound")
        assert packet.size == size
        assert before <= packet.time_s <= time.time()
        if "inner" in point:
            assert (packet.interface, packet.data) == ("test", inner)
        else:
            assert packet.interface == "test-outer"
            assert packet.payload == inner
            assert packet.ends == ((near, far) if point[0] == "t" else (far, near))


def test_a_forged_packet_says_why_it_was_dropped(target: Target, path: Path) -> None:
    mine = key_pair(key_id=1)[1]
    fresh = forge(mine, 2, UP)
    send_and_wait(target, forge(mine, 1, UP))
    with target.host.device.trace(path, points=("rx_outer", "rx_inner")):
        send_and_wait(
            target,
            spoilt(fresh),
            forge(mine, 1, UP),
            forge(mine, 3, UP, key_id=5),
            forge(mine, 4, UP, peer_id=99),
            forge(mine, 5, ipv4("10.8.0.9", "10.8.0.1")),
            forge(mine, 6, b""),
            fresh[:3],
        )
        eventually(lambda: sum(target.host.drops().values()) == 7)
    packets = {(p.words.get("packet"), p.point): p for p in capture.read(path).packets}
    assert {key: packet.drop for key, packet in packets.items()} == {
        ("1", "rx_outer"): "rx_replay",
        ("2", "rx_outer"): "rx_decrypt",
        ("3", "rx_outer"): "rx_unknown_key",
        ("4", "rx_outer"): "rx_unknown_peer",
        ("5", "rx_outer"): None,
        ("5", "rx_inner"): "rx_source",
        ("6", "rx_outer"): None,
        ("6", "rx_inner"): "rx_empty",
        (None, "rx_outer"): "rx_runt",
    }
    forged = packets["2", "rx_outer"]
    assert DropReason.RX_DECRYPT.text in forged.comment
    # As it was on the wire, although opening it has changed the bytes.
    assert forged.payload == spoilt(fresh)


def test_an_inner_packet_says_why_it_was_dropped(target: Target, path: Path) -> None:
    h = target.host
    add(h, 8)
    with h.device.trace(path, drops_only=True):
        h.send(DOWN)
        h.send(ipv4("10.8.0.1", "10.8.9.9"))
        h.send(ipv4("10.8.0.1", "10.8.0.8"))
        h.send(b"\x00no packet")
        target.far.recv(2048)
        eventually(lambda: sum(h.drops().values()) == 3)
    packets = {(p.point, p.drop, p.words.get("peer")) for p in capture.read(path).packets}
    assert packets == {
        ("tx_inner", "tx_no_peer", None),
        ("tx_inner", "tx_no_key", "8"),
        ("tx_inner", "tx_malformed", None),
    }


def test_a_datagram_says_why_it_was_not_sent(target: Target, path: Path) -> None:
    target.peer.set(remote=("255.255.255.255", 9))  # takes SO_BROADCAST
    with target.host.device.trace(path, points=["tx_outer"]):
        target.host.send(DOWN)
        eventually(target.host.drops)
    (packet,) = capture.read(path).packets
    assert target.peer.stats().tx_dropped == 1
    assert (packet.drop, packet.words["packet"]) == ("tx_send", "1")
    assert packet.ends[1] == ("255.255.255.255", 9)


def test_what_the_reader_of_the_inner_side_does_not_take(target: Target, path: Path) -> None:
    mine = key_pair(key_id=1)[1]
    target.host.app.close()
    with target.host.device.trace(path, drops_only=True):
        send_and_wait(target, forge(mine, 1, UP))
        eventually(target.host.drops)
    (packet,) = capture.read(path).packets
    assert (packet.point, packet.drop, packet.data) == ("rx_inner", "rx_tun_down", UP)


def test_control_packets_are_told_by_their_opcode(target: Target, path: Path) -> None:
    with target.host.device.trace(path):
        send_and_wait(target, b"\x38" + bytes(20))
        target.host.control(1)
    (packet,) = capture.read(path).packets
    assert packet.comment == "rx_outer opcode=7"


def test_epochs_and_connections(path: Path, tmp_path: Path) -> None:
    mine, theirs = epoch_pair()
    with (
        host(dco.Mode.P2P) as a,
        host() as b,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as near,
    ):
        far, _ = listener.accept()
        with far:
            up = a.device.add_peer(7, a.device.attach_tcp(near))
            down = b.device.add_peer(7, b.device.attach_tcp(far), vpn_ipv4="10.8.0.2")
        up.install_key(dco.KeySlot.PRIMARY, mine)
        down.install_key(dco.KeySlot.PRIMARY, theirs)
        with a.device.trace(tmp_path / "a"), b.device.trace(path):
            a.send(UP)
            assert b.receive() == UP
        sent = {p.point: p for p in capture.read(tmp_path / "a").packets}
        got = {p.point: p for p in capture.read(path).packets}
        assert sent["tx_inner"].data == got["rx_inner"].data == UP
        assert sent["tx_outer"].payload == got["rx_outer"].payload
        for packet in (sent["tx_inner"], sent["tx_outer"], got["rx_outer"], got["rx_inner"]):
            assert (packet.words["epoch"], packet.words["packet"]) == ("1", "1")
        for packet in (sent["tx_outer"], got["rx_outer"]):
            assert packet.comment.endswith(" tcp")
        assert sent["tx_outer"].ends == (near.getsockname(), listener.getsockname())
        assert got["rx_outer"].ends == sent["tx_outer"].ends


def test_outer_addresses_of_ipv6(path: Path) -> None:
    with tunnel(family=socket.AF_INET6) as t:
        t.install()
        with t.server.device.trace(path, points=TracePoint.RX_OUTER | TracePoint.TX_OUTER):
            t.up()
            t.down()
        up, down = capture.read(path).packets
        assert up.ends == (t.client.address[:2], t.server.address[:2])
        assert down.ends == up.ends[::-1]


def test_every_worker_records_what_is_its_own(path: Path) -> None:
    with host(workers=3) as h, udp_socket() as far:
        for n in (6, 7, 8):
            add(h, n, remote=far.getsockname() if n == 6 else ("127.0.0.1", n))
        h.device.peers[6].install_key(dco.KeySlot.PRIMARY, key_pair(key_id=1)[0])
        h.device.peers[7].install_key(dco.KeySlot.PRIMARY, key_pair(key_id=1)[0])
        with h.device.trace(path):
            for n in (6, 7, 8):
                h.send(ipv4("10.8.0.1", f"10.8.0.{n}"))
            send_and_wait(
                Target(h, far, key_pair(key_id=1)[0], h.device.peers[7]),
                forge(key_pair(key_id=1)[1], 1, ipv4("10.8.0.7", "10.8.0.1"), peer_id=7),
            )
            h.receive()
            far.recv(2048)
            eventually(lambda: h.drops().get(DropReason.TX_NO_KEY) == 1)
            eventually(lambda: h.device.peers[7].stats().link_tx_packets == 1)
        packets = [(p.point, p.words["peer"], p.drop) for p in capture.read(path).packets]
        assert sorted(packets, key=str) == [
            ("rx_inner", "7", None),
            ("rx_outer", "7", None),
            ("tx_inner", "6", None),
            ("tx_inner", "7", None),
            ("tx_inner", "8", "tx_no_key"),
            ("tx_outer", "6", None),
            ("tx_outer", "7", None),
        ]


# Which packets


def test_only_the_beginning_is_kept(pair: Tunnel, path: Path) -> None:
    with pair.server.device.trace(path, snap=21):
        packet = pair.up(b"secret")
    outer, inner = capture.read(path).packets
    assert (inner.size, inner.data) == (len(packet), packet[:21])
    assert (outer.size, len(outer.payload)) == (len(packet) + 24 + 28, 21)
    assert b"secret" not in path.read_bytes()


def test_only_some_peers(path: Path) -> None:
    with host() as h, udp_socket() as far:
        for n in (1, 2, 3):
            peer = add(h, n, remote=(far.getsockname()[0], far.getsockname()[1] if n == 1 else n))
            peer.install_key(dco.KeySlot.PRIMARY, key_pair()[0])
        with h.device.trace(path, peers=[h.device.peers[1], 3], points=TracePoint.TX_INNER):
            for n in (3, 2, 9, 1):
                h.send(ipv4("10.8.0.99", f"10.8.0.{n}"))
            far.recv(2048)
        assert [p.words["peer"] for p in capture.read(path).packets] == ["3", "1"]


def test_a_handle_is_one_peer_and_an_id_whoever_has_it(target: Target, path: Path) -> None:
    h, gone = target.host, target.peer
    gone.delete()
    add(h, 7)
    with h.device.trace(path, peers=[gone]):
        h.send(ipv4("10.8.0.1", "10.8.0.7"))
        eventually(lambda: h.drops().get(DropReason.TX_NO_KEY) == 1)
    assert not capture.read(path).packets
    with h.device.trace(path, peers=[7]):
        h.send(ipv4("10.8.0.1", "10.8.0.7"))
        eventually(lambda: h.drops().get(DropReason.TX_NO_KEY) == 2)
    assert len(capture.read(path).packets) == 1


def test_both_ends_sample_the_same_packets(pair: Tunnel, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "client"
    with (
        pair.server.device.trace(path, sample=1 / 10),
        pair.client.device.trace(other, sample=1 / 10),
    ):
        for _ in range(300):
            pair.up()
    chosen = {
        point: [p.words["packet"] for p in found.at(point)]
        for found in (capture.read(path), capture.read(other))
        for point in ("tx_inner", "tx_outer", "rx_outer", "rx_inner")
        if found.at(point)
    }
    assert len(chosen) == 4
    assert len({tuple(ids) for ids in chosen.values()}) == 1
    assert 25 <= len(chosen["tx_inner"]) <= 35


def test_what_has_no_packet_id_is_sampled_by_count(server: Host, path: Path) -> None:
    with server.device.trace(path, sample=0.25) as trace:
        for _ in range(40):
            server.send(ipv4("10.8.0.1", "10.8.9.9"))
        eventually(lambda: server.drops().get(DropReason.TX_NO_PEER) == 40)
    assert (trace.written, len(capture.read(path).packets)) == (10, 10)


@pytest.mark.parametrize(
    ("options", "attribute", "kind"),
    [
        ({"sample": 0}, "sample", dco.InvalidArgument),
        ({"sample": 1.5}, "sample", dco.InvalidArgument),
        ({"sample": True}, "sample", dco.InvalidArgument),
        ({"snap": -1}, "snap", dco.OutOfRange),
        ({"snap": 65536}, "snap", dco.OutOfRange),
        ({"peers": []}, "peers", dco.OutOfRange),
        ({"peers": range(65)}, "peers", dco.OutOfRange),
        ({"peers": [1 << 24]}, "peers", dco.OutOfRange),
        ({"peers": ["7"]}, "peers", dco.InvalidArgument),
        ({"points": ()}, "points", dco.InvalidArgument),
        ({"points": "tx_inner"}, "points", dco.InvalidArgument),
        ({"points": ["up"]}, "points", dco.InvalidArgument),
        ({"buffer_bytes": 1000}, "buffer_bytes", dco.OutOfRange),
        ({"buffer_bytes": 1 << 31}, "buffer_bytes", dco.OutOfRange),
    ],
)
def test_refusals(
    server: Host, path: Path, options: dict[str, Any], attribute: str, kind: type[dco.DcoError]
) -> None:
    refused(kind, attribute, lambda: server.device.trace(path, **options))
    assert not path.exists()
    server.device.trace(path).close()


def test_a_peer_of_another_device_is_refused(pair: Tunnel, path: Path) -> None:
    refused(
        dco.InvalidArgument,
        "peers",
        lambda: pair.server.device.trace(path, peers=[pair.client_peer]),
    )


# Its life


def test_one_at_a_time(server: Host, path: Path, tmp_path: Path) -> None:
    with server.device.trace(path):
        with pytest.raises(dco.Busy, match="trace is going on"):
            server.device.trace(path)
        with pytest.raises(dco.Busy):
            server.device.trace(tmp_path / "other")
        assert not (tmp_path / "other").exists()
    with server.device.trace(path):
        pass
    assert capture.read(path).received == [0, 0]


def test_nobody_else_may_read_the_file(server: Host, path: Path) -> None:
    server.device.trace(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nor_may_they_a_file_that_was_there_before(server: Host, path: Path) -> None:
    path.write_bytes(bytes(4096))
    path.chmod(0o644)
    server.device.trace(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert capture.read(path).received == [0, 0]


def test_what_is_no_file_keeps_its_mode(server: Host, path: Path) -> None:
    os.mkfifo(path, 0o644)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        server.device.trace(path).close()
    finally:
        os.close(reader)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_that_cannot_be_opened_leaves_no_trace_behind(server: Host, path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        server.device.trace(path / "no such folder")
    server.device.trace(path).close()


def test_a_file_of_the_caller_stays_open(pair: Tunnel, path: Path) -> None:
    with path.open("wb") as file:
        with pair.server.device.trace(file):
            pair.up()
        assert not file.closed
    assert len(capture.read(path).packets) == 2


class Stuck:
    """A file that takes the beginning, and then nothing until it is told to."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.go = threading.Event()
        self.waits = threading.Event()
        self.writes = 0

    def write(self, data: memoryview) -> int:
        self.writes += 1
        if self.writes > 1:
            self.waits.set()
            assert self.go.wait(20)
        self.file.write(data)
        self.file.flush()
        return len(data)


def test_what_finds_no_room_is_counted_and_traffic_goes_on(pair: Tunnel, path: Path) -> None:
    stuck = Stuck(path)
    with (
        stuck.file,
        pair.server.device.trace(stuck, points=["rx_inner"], buffer_bytes=4096) as trace,
    ):
        pair.up()
        assert stuck.waits.wait(20)
        for _ in range(100):
            pair.up()
        lost = trace.lost
        stuck.go.set()
    assert trace.lost == lost > 0
    assert trace.written + trace.lost == 101
    found = capture.read(path)
    assert (len(found.packets), sum(found.dropped)) == (trace.written, lost)


def test_no_next_trace_while_the_file_of_the_last_takes_nothing(
    pair: Tunnel, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ovpn_dco.trace._PATIENCE_S", 0.1)
    other = tmp_path / "other"
    stuck = Stuck(path)
    with stuck.file:
        trace = pair.server.device.trace(stuck)
        pair.up()
        assert stuck.waits.wait(20)
        pair.up()
        trace.close()
        with pytest.raises(dco.Busy, match="takes nothing"):
            pair.server.device.trace(other)
        assert not other.exists()
        stuck.go.set()
        eventually(lambda: not trace.stuck)
        with pair.server.device.trace(other):
            pair.up()
    assert len(capture.read(path).packets) == 4
    assert len(capture.read(other).packets) == 2


class Full:
    """A file on a full disk, behind its beginning."""

    begun = False

    def write(self, data: memoryview) -> int:
        if self.begun:
            raise OSError(28, "No space left on device")
        self.begun = True
        return len(data)


def test_an_error_of_the_file_ends_the_trace_and_nothing_else(pair: Tunnel, path: Path) -> None:
    trace = pair.server.device.trace(Full())
    pair.up()
    eventually(lambda: not trace._thread.is_alive())
    pair.up()
    with pytest.raises(OSError, match="No space left"):
        trace.close()
    trace.close()
    with pair.server.device.trace(path):
        pair.up()
    assert len(capture.read(path).packets) == 2


def test_closing_the_device_completes_the_file(path: Path) -> None:
    with tunnel() as t:
        t.install()
        trace = t.server.device.trace(path)
        t.up()
        t.server.device.close()
        assert capture.read(path).received == [1, 1]
        trace.close()
        assert (trace.written, trace.lost) == (2, 0)
        with pytest.raises(dco.DeviceClosed):
            t.server.device.trace(path)


def test_started_and_stopped_under_traffic(pair: Tunnel, tmp_path: Path) -> None:
    done = threading.Event()
    carried = 0

    def carry() -> None:
        nonlocal carried
        while not done.is_set():
            pair.up()
            pair.down()
            carried += 1

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        for n in range(20):
            with pair.server.device.trace(tmp_path / str(n)) as trace:
                so_far = carried
                eventually(lambda so_far=so_far: carried > so_far + 1)
            assert trace.lost == 0
    finally:
        done.set()
        thread.join()
    for n in range(20):
        packets = capture.read(tmp_path / str(n)).packets
        assert len(packets) >= 4
        assert not any(p.drop for p in packets)
        times = [p.time_s for p in packets if p.point.startswith("rx")]
        assert times == sorted(times)


def test_a_forked_child_leaves_it_to_its_parent(pair: Tunnel, path: Path) -> None:
    with pair.server.device.trace(path):
        child = os.fork()
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        pair.up()
    assert len(capture.read(path).packets) == 2


def test_goes_on_over_a_halt(pair: Tunnel, path: Path) -> None:
    with pair.server.device.trace(path):
        pair.up()
        pair.server.device.export_state()
        pair.server.device.start()
        pair.up()
    assert len(capture.read(path).packets) == 4
