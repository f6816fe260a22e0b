"""A device's state handed to another one: keys, ids, windows, connections, timers; and what is no
state. Between processes, with real interfaces, in tests/system/test_handover.py."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loopback import (
    ANYWHERE,
    PATIENCE_S,
    Host,
    epoch_pair,
    eventually,
    forge,
    host,
    ipv4,
    key_pair,
    refused,
    tunnel,
    udp_socket,
    unseal,
)
from unit.test_tcp import PAIR, RESET, connection, fill, frame, line, read_frame

import ovpn_dco as dco
from ovpn_dco import Cipher, DropReason, KeySlot, Mode, TransportKind


@contextlib.contextmanager
def successor(
    old: dco.Device,
    *,
    reserve: int = 0,
    mode: Mode = Mode.MULTIPEER,
    change: Callable[[dict[str, Any]], None] = lambda state: None,
    **options: Any,
) -> Iterator[dco.Device]:
    """Another device that has taken everything over; the old one is closed."""
    exported, fds = old.export_state(reserve=reserve)
    values = json.loads(exported)
    change(values)
    state = json.dumps(values).encode()
    copies = [os.dup(fd) for fd in fds]
    old.close()
    try:
        new = dco.Device.open("next", mode=mode, restore=state, descriptors=copies, **options)
    finally:
        for fd in copies:
            os.close(fd)
    with new:
        yield new


@pytest.mark.parametrize(
    "cipher", [c for c in Cipher if c is not Cipher.NONE], ids=lambda c: c.name
)
def test_ids_and_windows_go_on(cipher: Cipher) -> None:
    with tunnel() as ends:
        pair = ends.install(key_pair(cipher=cipher))
        first = forge(pair[0], 1, ipv4("10.8.0.2", "10.8.0.1", b"1"))
        for n in range(10):
            ends.down(b"%d" % n)
        ends.client.sock.sendto(first, ends.server.address)
        assert ends.server.receive()[20:] == b"1"
        eventually(lambda: ends.server_peer.stats().vpn_rx_packets == 1)
        before = ends.server_peer.stats()
        with successor(ends.server.device) as new:
            peer = new.peers[7]
            assert peer.stats() == before
            assert peer.key(KeySlot.PRIMARY).packets_sealed == 10
            ends.client.sock.sendto(first, ends.server.address)
            ends.client.sock.sendto(
                forge(pair[0], 2, ipv4("10.8.0.2", "10.8.0.1", b"2")), ends.server.address
            )
            assert ends.server.receive()[20:] == b"2"
            assert peer.stats().rx_replay_errors == 1
            # The client's window takes what follows: no id came twice.
            for n in range(10):
                ends.down(b"after %d" % n)
            assert ends.client_peer.stats().rx_replay_errors == 0
            assert ends.client.drops() == {}


def test_no_nonce_is_used_twice_even_if_both_go_on() -> None:
    with host() as server, udp_socket() as far:
        peer = server.device.add_peer(
            7, server.transport, remote=far.getsockname(), vpn_ipv4="10.8.0.2"
        )
        mine, theirs = key_pair()
        peer.install_key(KeySlot.PRIMARY, mine)
        packet = ipv4("10.8.0.1", "10.8.0.2")
        server.send(packet)
        ids = [unseal(theirs, far.recv(2048))[2]]
        state, fds = server.device.export_state(reserve=5)
        copies = [os.dup(fd) for fd in fds]
        with dco.Device.open("next", mode=Mode.MULTIPEER, restore=state, descriptors=copies):
            for fd in copies:
                os.close(fd)
            for _ in range(20):
                server.send(packet)
            ids += [unseal(theirs, far.recv(2048))[2] for _ in range(20)]
        server.device.start()
        for _ in range(20):
            server.send(packet)
        eventually(lambda: server.drops().get(DropReason.TX_KEY_EXHAUSTED) == 15)
        ids += [unseal(theirs, far.recv(2048))[2] for _ in range(5)]
        reasons = [server.event(dco.KeySwapNeeded).reason for _ in range(2)]
        assert reasons == [dco.KeySwapReason.SOON, dco.KeySwapReason.EXHAUSTED]
        assert len(ids) == len(set(ids))
        assert ids == [1, *range(7, 27), *range(2, 7)]


FORGED = b"\x48\0\0\x07" + b"\0\1" + bytes(60)  # of epoch 1, where keys have epochs


@pytest.mark.parametrize("keys", [key_pair, epoch_pair], ids=["classic", "epochs"])
@pytest.mark.parametrize(
    ("cipher", "limit"), [(Cipher.AES_256_GCM, 1 << 52), (Cipher.CHACHA20_POLY1305, 1 << 36)]
)
def test_a_key_opens_nothing_after_its_last_forgery(
    keys: Callable[..., Any], cipher: Cipher, limit: int
) -> None:
    """Nobody can send so many, but their number goes along with the key."""

    def nearly(state: dict[str, Any]) -> None:
        key = state["peers"][0]["keys"]["PRIMARY"]
        assert key["forgeries"] == 3
        key["forgeries"] = limit - 2

    with tunnel() as ends:
        ends.install(keys(cipher=cipher))

        def drops(device: dco.Device) -> tuple[int, int]:
            counts = device.stats().drops
            return counts[DropReason.RX_DECRYPT], counts[DropReason.RX_KEY_SPENT]

        def forge_three(device: dco.Device, expected: tuple[int, int]) -> None:
            for _ in range(3):
                ends.client.sock.sendto(FORGED, ends.server.address)
            eventually(lambda: drops(device) == expected)

        forge_three(ends.server.device, (3, 0))
        with successor(ends.server.device, change=nearly) as new:
            ends.up()
            forge_three(new, (2, 1))
            ends.client.send(ipv4("10.8.0.2", "10.8.0.1", b"a good one"))
            eventually(lambda: drops(new) == (2, 2))
            assert ends.server.quiet()
            ends.down()
            pair = keys(1, cipher=cipher, seed=9)
            ends.client_peer.install_key(KeySlot.PRIMARY, pair[0])
            new.peers[7].install_key(KeySlot.PRIMARY, pair[1])
            ends.up(b"with another key")


def test_epochs_go_on_and_turn() -> None:
    with tunnel() as ends:
        last = (1 << 48) - 1
        pair = epoch_pair(first_packet_id=last - 3, first_epoch=5)
        ends.server_peer.install_key(KeySlot.PRIMARY, pair[0])
        ends.client_peer.install_key(KeySlot.PRIMARY, epoch_pair(first_epoch=5)[1])
        for n in range(3):
            ends.up(b"%d" % n)
            ends.down(b"%d" % n)
        before = ends.server_peer.key(KeySlot.PRIMARY)
        with successor(ends.server.device) as new:
            peer = new.peers[7]
            assert peer.key(KeySlot.PRIMARY) == before
            for n in range(20):
                ends.down(b"after %d" % n)
                ends.up(b"after %d" % n)
            info = peer.key(KeySlot.PRIMARY)
            assert (info.send_epoch, info.receive_epoch) == (6, 6)
            assert ends.client_peer.stats().rx_replay_errors == 0
            # And the client, too, from an epoch that is not the first.
            with successor(ends.client.device, mode=Mode.P2P) as client:
                for n in range(5):
                    ends.down(b"again %d" % n)
                    ends.up(b"again %d" % n)
                assert client.peers[7].key(KeySlot.PRIMARY).send_epoch == 6


def test_an_exported_key_turns_no_epoch() -> None:
    """The epochs to come are the other device's, whatever the peer shows."""
    with tunnel() as ends:
        ends.server_peer.install_key(KeySlot.PRIMARY, epoch_pair()[0])
        ends.client_peer.install_key(KeySlot.PRIMARY, epoch_pair()[1])
        ends.up()
        ends.server.device.export_state(reserve=3)
        ends.server.device.start()
        for n in range(3):
            ends.down(b"%d" % n)
        ends.server.send(ipv4("10.8.0.1", "10.8.0.2", b"one too many"))
        eventually(lambda: ends.server.drops() == {DropReason.TX_KEY_EXHAUSTED: 1})
        assert ends.server_peer.key(KeySlot.PRIMARY).send_epoch == 1


def test_both_slots_routes_endpoint_ids_and_keepalive() -> None:
    with tunnel() as ends:
        ends.install()
        pair = ends.install(key_pair(1, seed=9), KeySlot.SECONDARY)
        device = ends.server.device
        device.routes.add("192.168.9.0/24", ends.server_peer)
        device.routes.add("fd00:9::/48", ends.server_peer)
        ends.server_peer.set(tx_id=7, keepalive_interval_s=10, keepalive_timeout_s=60)
        device.set_source_check("off")
        ends.server_peer.set_source_check("loose")
        before = ends.server_peer.info()
        with successor(device) as new:
            peer = new.peers[7]
            info = peer.info()
            for name in ("remote", "local", "vpn_ipv4", "vpn_ipv6", "tx_id",
                         "keepalive_interval_s", "keepalive_timeout_s",
                         "source_check"):  # fmt: skip
                assert getattr(info, name) == getattr(before, name)
            assert [route.prefix for route in new.routes] == ["192.168.9.0/24", "fd00:9::/48"]
            assert new.routes.lookup("192.168.9.77") == peer
            peer.swap_keys()
            ends.down(b"by the second")
            assert peer.key(KeySlot.PRIMARY).key_id == pair[0].key_id
            new.routes.remove("192.168.9.0/24")
            with pytest.raises(dco.AddressInUse):
                new.add_peer(8, new.transports[0], remote=ANYWHERE, vpn_ipv4="10.8.0.2")
            peer.set_source_check("inherit")
            packet = forge(pair[0], 5, ipv4("10.99.0.1", "10.8.0.1", b"any source"))
            ends.client.sock.sendto(packet, ends.server.address)
            assert ends.server.receive()[20:] == b"any source"


def test_silence_counts_across_devices() -> None:
    with tunnel() as ends:
        ends.install()
        ends.server_peer.set_keepalive(interval_s=0, timeout_s=2)
        ends.up()
        with successor(ends.server.device) as new:
            events: list[dco.Event] = []
            eventually(lambda: events.extend(new.poll_events(timeout_s=0.1)) or events)
            assert isinstance(events[0], dco.PeerDeleted)
            assert events[0].reason is dco.DeleteReason.EXPIRED
            assert events[0].stats.vpn_rx_packets == 1


@pytest.mark.parametrize("workers", [1, 3])
def test_several_workers_and_their_sockets(workers: int) -> None:
    with tunnel(workers=workers) as ends:
        ends.install()
        ends.up()
        with successor(ends.server.device) as new:
            assert new.transports[0].info().sockets == workers
            for n in range(20):
                ends.up(b"%d" % n)
                ends.down(b"%d" % n)


def test_options_are_put_back_by_who_has_the_socket_last() -> None:
    names = [
        (socket.SOL_SOCKET, socket.SO_SNDBUF),
        (socket.SOL_SOCKET, socket.SO_RCVBUF),
        (socket.SOL_SOCKET, 40),  # SO_RXQ_OVFL
        (socket.IPPROTO_IP, socket.IP_RECVERR if hasattr(socket, "IP_RECVERR") else 11),
        (17, 104),  # UDP_GRO
    ]
    with host() as server, udp_socket() as sock:
        before = [sock.getsockopt(*name) for name in names]
        server.device.attach_udp(sock, send_buffer=100_000)
        during = [sock.getsockopt(*name) for name in names]
        assert during != before
        with successor(server.device) as new:
            assert [sock.getsockopt(*name) for name in names] == during
            new.transports[1].detach()
            assert [sock.getsockopt(*name) for name in names] == before


# TCP


def test_a_connection_goes_on_in_the_middle_of_frames() -> None:
    with line(near_options={"send_buffer": 65536}) as ends:
        sealed = fill(ends)
        dropped = ends.host.drops()[DropReason.TX_BACKLOG]
        for n in range(3):
            ends.transport.send_control(b"\x40control %d" % n)
        half = frame(ends.sends(1))
        ends.far.sendall(frame(RESET) + half[:40])
        ends.host.control()
        eventually(lambda: ends.host.device.stats().control_packets == 1)
        waiting = ends.transport.info().waiting
        assert waiting
        with successor(ends.host.device) as new:
            ends.far.sendall(half[40:])
            assert ends.host.receive()[20:] == b"up"
            (transport,) = (t for t in new.transports if t.kind is TransportKind.TCP)
            seen, control = [], []
            while len(seen) < sealed - dropped or len(control) < 3:
                packet = read_frame(ends.far)
                if packet[0] >> 3 == 8:
                    control.append(packet)
                else:
                    seen.append(unseal(PAIR[1], packet)[2])
            assert control == [b"\x40control %d" % n for n in range(3)]
            assert seen == sorted(set(seen))
            eventually(lambda: transport.info().waiting == 0)
            ends.down(b"after")
            assert unseal(PAIR[1], read_frame(ends.far))[2:] == (
                sealed + 1,
                ipv4("10.8.0.1", "10.8.0.2", b"after"),
            )


def test_data_that_is_held_for_a_key_stays_held() -> None:
    far, near = connection()
    with host() as server, far, near:
        transport = server.device.attach_tcp(near)
        plain = ipv4("10.8.0.2", "10.8.0.1", b"held")
        far.sendall(frame(RESET) + frame(forge(PAIR[1], 1, plain)) + frame(RESET + b"2"))
        server.control()
        server.device.add_peer(7, transport, vpn_ipv4="10.8.0.2")
        with successor(server.device) as new:
            assert server.quiet()
            new.peers[7].install_key(KeySlot.PRIMARY, PAIR[0])
            assert server.receive() == plain
            packets: list[dco.ControlPacket] = []
            eventually(lambda: packets.extend(new.control.receive()) or packets)
            assert packets[0].data == RESET + b"2"


def test_a_listener_goes_on_and_strangers_stay_behind() -> None:
    with host() as server, socket.create_server(("127.0.0.1", 0)) as sock:
        server.device.listen_tcp(sock, trials_max=3)
        stranger = socket.create_connection(sock.getsockname())
        friend = socket.create_connection(sock.getsockname())
        with stranger, friend:
            friend.settimeout(PATIENCE_S)
            friend.sendall(frame(RESET))
            transport: Any = server.control()[0].transport
            peer = server.device.add_peer(7, transport, vpn_ipv4="10.8.0.2")
            peer.install_key(KeySlot.PRIMARY, PAIR[0])
            with successor(server.device) as new:
                kinds = [t.kind for t in new.transports]
                assert kinds == [TransportKind.UDP, TransportKind.LISTENER, TransportKind.TCP]
                assert stranger.recv(1) == b""
                friend.sendall(frame(forge(PAIR[1], 1, ipv4("10.8.0.2", "10.8.0.1"))))
                assert server.receive() == ipv4("10.8.0.2", "10.8.0.1")
                with socket.create_connection(sock.getsockname()) as late:
                    late.sendall(frame(RESET))
                    packets: list[dco.ControlPacket] = []
                    eventually(lambda: packets.extend(new.control.receive()) or packets)
                    assert new.transports[1].info().accepted == 1


# What is refused


def exported(server: Host) -> tuple[dict[str, Any], list[int]]:
    state, fds = server.device.export_state()
    return json.loads(state), fds


def test_the_device_must_run() -> None:
    with host(start=False) as server:
        with pytest.raises(dco.InvalidArgument):
            server.device.export_state()
        refused(dco.OutOfRange, "reserve", lambda: server.device.export_state(reserve=-1))


def test_an_exported_device_answers_and_can_be_exported_again() -> None:
    with tunnel() as ends:
        ends.install()
        first, fds = ends.server.device.export_state(reserve=0)
        second, again = ends.server.device.export_state(reserve=0)
        assert (first, fds) == (second, again)
        assert ends.server_peer.stats().vpn_tx_packets == 0
        ends.server.device.start()
        ends.up()


CHANGES: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    ("another format", lambda s: s.update(format="tar"), "restore"),
    ("a later version", lambda s: s.update(version=2), "restore"),
    ("another boot", lambda s: s.update(boot_id="0"), "restore"),
    ("another mode", lambda s: s.update(mode=0), "mode"),
    ("no peers", lambda s: s.pop("peers"), "restore"),
    ("a peer without transport", lambda s: s["peers"][0].update(transport=99), "restore"),
    ("a peer twice", lambda s: s["peers"].append(s["peers"][0]), "restore"),
    ("a short key", lambda s: s["peers"][0]["keys"]["PRIMARY"].update(encrypt="00"), "restore"),
    ("no hexadecimal", lambda s: s["peers"][0].update(vpn_ipv4="10.8.0.2"), "restore"),
    ("an odd key size", lambda s: s["peers"][0]["keys"]["PRIMARY"].update(key_size=31), "restore"),
    ("an id of 0", lambda s: s["peers"][0]["keys"]["PRIMARY"].update(next_packet_id=0), "restore"),
    ("a kind of its own", lambda s: s["transports"][0].update(kind=9), "restore"),
    ("UDP said to be TCP", lambda s: s["transports"][0].update(kind=2), "descriptors"),
    ("bytes too few", lambda s: s["transports"][0].update(sizes=[1, 0, 0, 0]), "restore"),
]


@pytest.mark.parametrize(("change", "attribute"), [row[1:] for row in CHANGES],
                         ids=[row[0] for row in CHANGES])  # fmt: skip
def test_damaged_states(change: Callable[[dict[str, Any]], None], attribute: str) -> None:
    """Each is refused with the attribute at fault, and the first device can go on."""
    with tunnel() as ends:
        ends.install()
        state, fds = exported(ends.server)
        change(state)
        with pytest.raises(dco.DcoError) as caught:
            dco.Device.open(
                "next",
                mode=Mode.MULTIPEER,
                restore=json.dumps(state).encode(),
                descriptors=[*fds],
            )
        assert caught.value.attribute == attribute
        ends.server.device.start()
        ends.up()
        ends.down()


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"null", b'{"format": 1}'])
def test_what_is_no_state(data: bytes) -> None:
    refused(dco.InvalidArgument, "restore",
            lambda: dco.Device.open("next", mode=Mode.MULTIPEER, restore=data))  # fmt: skip


def test_descriptors_must_be_those_of_the_state() -> None:
    with tunnel() as ends:
        state, fds = ends.server.device.export_state()

        def restore(**more: Any) -> None:
            dco.Device.open("next", mode=Mode.MULTIPEER, restore=state, **more)

        refused(dco.InvalidArgument, "descriptors", lambda: restore(descriptors=fds[:1]))
        refused(dco.InvalidArgument, "descriptors", lambda: restore(descriptors=[*fds, 0]))
        refused(dco.InvalidArgument, "workers", lambda: restore(descriptors=fds, workers=2))
        refused(dco.InvalidArgument, "tun_fd", lambda: restore(descriptors=fds, tun_fd=fds[0]))
        refused(dco.InvalidArgument, "descriptors",
                lambda: dco.Device.open("x", mode=Mode.P2P, descriptors=[1]))  # fmt: skip
