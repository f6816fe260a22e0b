"""The ladder of fallbacks: every rung carries the same bytes, and says that it is in use."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable

import pytest
from support import processor_has_vaes
from system.tunnel import (
    PATIENCE_S,
    SERVER_IPV4,
    SERVER_IPV6,
    SYSTEM,
    RunningPing,
    Tunnel,
    eventually,
    iperf3,
    join,
    open_tunnel,
    ping,
)

import ovpn_dco as dco
from ovpn_dco import DropReason, Offload
from ovpn_dco.testing import Namespace

pytestmark = SYSTEM

UDP_SEGMENT = 103
SO_NO_CHECK = 11
TUN_OFFLOADS = (
    Offload.TUN_VNET | Offload.TUN_TSO | Offload.TUN_USO | Offload.TUN_TCP_GRO | Offload.TUN_UDP_GRO
)
EACH = [Offload[name.upper()] for name in Offload.ALL.names]
LADDER = [Offload.ALL, *(Offload.ALL & ~one for one in EACH), Offload.NONE]


def label(allowed: Offload) -> str:
    if allowed in (Offload.ALL, Offload.NONE):
        return allowed.name.lower() if allowed.name else str(allowed)
    return "without_" + "_".join((Offload.ALL & ~allowed).names)


def stream(receiver: Namespace, sender: Namespace, address: str, size: int = 8 << 20) -> None:
    """Sends a TCP stream whose every position is different, and compares the digests."""
    block = b"".join(struct.pack("!Q", n * 0x9E3779B97F4A7C15 & (1 << 64) - 1) for n in range(8192))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    digest, sent = hashlib.sha256(), hashlib.sha256()

    def receive(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            while data := connection.recv(1 << 18):
                digest.update(data)

    with (
        receiver.socket(family, socket.SOCK_STREAM) as listener,
        sender.socket(family, socket.SOCK_STREAM) as connection,
    ):
        listener.bind((address, 0))
        listener.listen()
        listener.settimeout(PATIENCE_S)
        thread = threading.Thread(target=receive, args=(listener,))
        thread.start()
        connection.settimeout(PATIENCE_S)
        connection.connect(listener.getsockname()[:2])
        for number in range(size // len(block)):
            data = number.to_bytes(8, "big") + block
            connection.sendall(data)
            sent.update(data)
        connection.shutdown(socket.SHUT_WR)
        thread.join(PATIENCE_S)
    assert digest.digest() == sent.digest()


def datagrams(receiver: Namespace, sender: Namespace, address: str, *, segment: int = 1100) -> None:
    """Sends super-packets, the last datagram of each shorter, and compares each datagram."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        receiver.socket(family, socket.SOCK_DGRAM) as inbox,
        sender.socket(family, socket.SOCK_DGRAM) as outbox,
    ):
        inbox.bind((address, 0))
        inbox.settimeout(PATIENCE_S)
        inbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        outbox.connect(inbox.getsockname()[:2])
        outbox.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
        for number in range(20):
            expected = [struct.pack("!HH", number, i) * (segment // 4) for i in range(39)] + [
                struct.pack("!HH", number, 39) * 25
            ]
            outbox.send(b"".join(expected))
            assert [inbox.recv(65536) for _ in expected] == expected


def exchange(tunnel: Tunnel) -> None:
    """Everything both ways, over both inner families."""
    server, client = tunnel.server.namespace, tunnel.client.namespace
    for address in (SERVER_IPV4, SERVER_IPV6):
        stream(server, client, address)
        datagrams(server, client, address)
    for address in (tunnel.client.ipv4, tunnel.client.ipv6):
        stream(client, server, address)
        datagrams(client, server, address)
    ping(client, SERVER_IPV4, size=3000)


def assert_nothing_dropped(tunnel: Tunnel) -> None:
    for site in tunnel.sites:
        drops = {reason: n for reason, n in site.device.stats().drops.items() if n}
        # The stack throws nothing away, so neither may we; but a full queue is not our doing.
        drops.pop(DropReason.TX_NO_PEER, None)
        assert not drops


def active_of(allowed: Offload) -> Offload:
    """Without the header on the TUN none of its offloads can be; one worker has no siblings; the
    rest is up to the machine."""
    possible = Offload.ALL if processor_has_vaes() else Offload.ALL & ~Offload.VAES_GCM
    possible &= ~(Offload.UDP_SIBLINGS | Offload.UDP_STEERING)
    return allowed & (possible if Offload.TUN_VNET in allowed else possible & ~TUN_OFFLOADS)


@pytest.mark.parametrize("bare", [False, True], ids=["veth", "bare"])
@pytest.mark.parametrize("allowed", LADDER, ids=label)
def test_every_rung_carries_the_same_bytes(allowed: Offload, bare: bool) -> None:
    with open_tunnel(bare=bare, offloads=allowed) as tunnel:
        for site in tunnel.sites:
            offloads = site.device.offloads
            assert offloads.allowed == allowed
            assert offloads.active == active_of(allowed)
        exchange(tunnel)
        assert_nothing_dropped(tunnel)
        for site in tunnel.sites:
            stats = site.device.stats()
            assert stats.offloads.active == active_of(allowed), "nothing degraded on the way"
            assert stats.gso_fallbacks == stats.gro_fallbacks == 0
            assert_used(stats, allowed, bare=bare)


def assert_used(stats: dco.DeviceStats, allowed: Offload, *, bare: bool) -> None:
    """What the statistics show of each switch."""
    on = active_of(allowed)
    supers_in = stats.tun_read_packets - stats.tun_reads
    assert (supers_in > 0) == bool(on & (Offload.TUN_TSO | Offload.TUN_USO))
    supers_out = stats.tun_write_packets - stats.tun_writes
    coalesced = bool(on & (Offload.TUN_TCP_GRO | Offload.TUN_UDP_GRO))
    if bare and Offload.UDP_BATCH not in on:
        coalesced = False  # there are never two datagrams to be joined
    assert (supers_out > 0) == coalesced
    segmented = stats.udp_send_packets - stats.udp_send_messages
    assert (segmented > 0) == bool(on & Offload.UDP_GSO)
    trains = stats.udp_receive_packets - stats.udp_receive_messages
    if not on & Offload.UDP_GRO:
        assert trains == 0
    if not on & Offload.UDP_BATCH:
        assert stats.udp_sends == stats.udp_send_messages
        assert stats.udp_receives == stats.udp_receive_messages


@pytest.mark.parametrize("rungs", [(Offload.ALL, Offload.NONE), (Offload.NONE, Offload.ALL)])
def test_ends_on_different_rungs(rungs: tuple[Offload, Offload]) -> None:
    with open_tunnel(server={"offloads": rungs[0]}, client={"offloads": rungs[1]}) as tunnel:
        exchange(tunnel)
        assert_nothing_dropped(tunnel)


def test_by_name_and_unknown_names(tunnel: Tunnel) -> None:
    tunnel.client.device.set_offloads(["tun_vnet", "udp_gso"])
    assert tunnel.client.device.offloads.allowed == Offload.TUN_VNET | Offload.UDP_GSO
    with pytest.raises(dco.DcoError) as caught:
        tunnel.client.device.set_offloads(["warp"])
    assert "warp" in str(caught.value)
    assert tunnel.client.device.offloads.allowed == Offload.TUN_VNET | Offload.UDP_GSO
    tunnel.client.device.set_offloads(None)
    assert tunnel.client.device.offloads.allowed == Offload.ALL


def switch_each(tunnel: Tunnel, switches: list[Offload], traffic: Callable[[], object]) -> None:
    """Each off and on again, at both ends, with the traffic going on."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def keep_going() -> None:
        try:
            while not stop.is_set():
                traffic()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=keep_going)
    thread.start()
    try:
        for one in switches * 2:
            for site in tunnel.sites:
                before = site.device.stats().udp_receives
                site.device.set_offloads(Offload.ALL & ~one)
                assert site.device.offloads.active == active_of(Offload.ALL & ~one)
                eventually(
                    lambda: site.device.stats().udp_receives > before + 20,  # noqa: B023
                    what="traffic without it",
                )
                site.device.set_offloads(None)
                assert site.device.offloads.active == active_of(Offload.ALL)
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


def test_switching_under_traffic(tunnel: Tunnel) -> None:
    """No packet is lost by it, and no byte goes wrong."""
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4)
    switches = [one for one in EACH if one not in (Offload.TUN_VNET, Offload.UDP_GRO)]
    switch_each(tunnel, switches, lambda: exchange(tunnel))
    running.stop()
    assert_nothing_dropped(tunnel)


def test_switching_receive_trains_under_traffic(tunnel: Tunnel) -> None:
    """Of trains that already wait in the socket the kernel no longer tells the segment size when
    the option goes: those few are lost, and the streams inside make up for it."""
    server, client = tunnel.server.namespace, tunnel.client.namespace
    switch_each(tunnel, [Offload.UDP_GRO] * 3, lambda: stream(server, client, SERVER_IPV4))
    for site in tunnel.sites:
        drops = {reason for reason, n in site.device.stats().drops.items() if n}
        assert drops <= {DropReason.RX_DECRYPT}


def test_offload_header_is_part_of_how_the_interface_was_opened(tunnel: Tunnel) -> None:
    with pytest.raises(dco.Busy):
        tunnel.client.device.set_offloads(Offload.ALL & ~Offload.TUN_VNET)
    assert tunnel.client.device.offloads.allowed == Offload.ALL


# Degrading by itself


def test_segment_larger_than_the_wire(tunnel: Tunnel) -> None:
    """EMSGSIZE: this peer's large datagrams go one by one, everything else stays as it is."""
    link = tunnel.topology.link
    tunnel.client.namespace.set_mtu(link.right_name, 1000)
    stream(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4)
    stats = tunnel.client.device.stats()
    assert stats.oversize_sends > 0
    assert stats.drops[DropReason.TX_TOO_BIG] == 0
    assert Offload.UDP_GSO in stats.offloads.active
    assert tunnel.server.device.stats().oversize_sends == 0
    # When the wire takes more, and the peer is set anew, trains are back.
    tunnel.client.namespace.set_mtu(link.right_name, 1500)
    tunnel.pair.at_client.set(remote=(link.left_ipv4, tunnel.server.port))
    before = tunnel.client.device.stats()
    stream(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4)
    after = tunnel.client.device.stats()
    # One train may have been under way, with the old limit.
    assert after.oversize_sends - before.oversize_sends <= 64
    assert after.udp_send_packets - before.udp_send_packets > (
        after.udp_send_messages - before.udp_send_messages
    )


def test_socket_without_checksums_cannot_segment(tunnel: Tunnel) -> None:
    """EINVAL: the switch goes off by itself, is counted once, and nothing is lost."""
    tunnel.client.socket.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    stream(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4)
    stats = tunnel.client.device.stats()
    assert stats.gso_fallbacks == 1
    assert Offload.UDP_GSO in stats.offloads.allowed
    assert Offload.UDP_GSO not in stats.offloads.active
    assert Offload.UDP_GSO not in tunnel.client.transport.info().offloads
    assert stats.drops[DropReason.TX_SEND] == 0
    assert_nothing_dropped(tunnel)
    # Allowing it anew tries it anew.
    tunnel.client.socket.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 0)
    tunnel.client.device.set_offloads(None)
    assert Offload.UDP_GSO in tunnel.client.device.offloads.active
    stream(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4)
    assert tunnel.client.device.stats().gso_fallbacks == 1


def test_fallback_sends_the_sealed_bytes_and_never_seals_again(tunnel: Tunnel) -> None:
    """A failed train costs no packet id: they arrive without a gap, and none twice."""
    tunnel.client.socket.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    stream(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4)
    at_client, at_server = tunnel.pair.at_client, tunnel.pair.at_server
    # The last acknowledgements of the stream may still be on their way.
    eventually(
        lambda: (
            at_client.key(dco.KeySlot.PRIMARY).packets_sealed
            == at_client.stats().link_tx_packets
            == at_server.stats().link_rx_packets
        )
    )
    assert at_server.stats().rx_replay_errors == 0


# Other descriptors


@pytest.fixture(params=["vnet", "plain"])
def adopted(request: pytest.FixtureRequest, tunnel: Tunnel) -> Tunnel:
    """The server's device on a TUN that the test opened, with or without offload header."""
    vnet = 0x4000 if request.param == "vnet" else 0
    tunnel.server.device.close()
    with tunnel.server.namespace.enter():
        fd = os.open("/dev/net/tun", os.O_RDWR)
        flags = 0x0001 | 0x1000 | vnet  # IFF_TUN | IFF_NO_PI
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"mine0", flags))  # TUNSETIFF
    namespace = tunnel.server.namespace
    namespace.set_mtu("mine0", 1420)
    namespace.add_address("mine0", "10.9.0.1/24")
    namespace.add_address("mine0", "fd09::1/64")
    namespace.set_up("mine0")
    tunnel.server.device = dco.Device.open(
        "mine0", mode=dco.Mode.MULTIPEER, tun_fd=fd, netns=namespace.fd
    )
    os.close(fd)
    tunnel.server.transport = tunnel.server.device.attach_udp(tunnel.server.socket)
    tunnel.pair.at_client.delete()
    tunnel.pairs[0] = join(tunnel.server, tunnel.client, tunnel.topology.link)
    return tunnel


def test_adopted_interface(adopted: Tunnel) -> None:
    """The framing is found out; what is on is what it can do; closing leaves no trace of us."""
    device = adopted.server.device
    assert device.name == "mine0"
    exchange(adopted)
    assert_nothing_dropped(adopted)
    iperf3(adopted.server.namespace, adopted.client.namespace, SERVER_IPV4, reverse=True)
    on = device.offloads.active & TUN_OFFLOADS
    assert on in (TUN_OFFLOADS, Offload.NONE)
    assert (device.stats().tun_write_packets > device.stats().tun_writes) == bool(on)
