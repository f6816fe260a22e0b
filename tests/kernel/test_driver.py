"""`ovpn_dco.netlink` with the driver itself. `make test-kernel` runs these in a virtual machine."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kernel.guest import GUEST

from ovpn_dco import errors
from ovpn_dco.model import Cipher, DataKey, DeleteReason, KeyDirection, KeySlot, Mode
from ovpn_dco.netlink import (
    Commands,
    DeletedNotice,
    FloatedNotice,
    Interface,
    PeerAttributes,
    Told,
    create_link,
    delete_link,
    find_family,
    probe,
)
from ovpn_dco.netlink.family import OVPN_CMD_PEER_GET, Ovpn

pytestmark = GUEST
WAIT_S = 60


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with udp() as one:
        yield one


def udp() -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    return one


@pytest.fixture
def server() -> Iterator[Interface]:
    with Interface.create("server", Mode.MULTIPEER) as one:
        subprocess.run(["ip", "link", "set", "server", "up"], check=True)
        yield one


@pytest.fixture
def client() -> Iterator[Interface]:
    with Interface.create("client", Mode.P2P) as one:
        subprocess.run(["ip", "link", "set", "client", "up"], check=True)
        yield one


def spec(peer_id: int, one: socket.socket, **more: object) -> PeerAttributes:
    attributes = {
        "remote": ("127.0.0.1", 9),
        "vpn_ipv4": f"10.8.{peer_id >> 8 & 255}.{peer_id & 255}",
    }
    return PeerAttributes(peer_id=peer_id, socket=one.fileno(), **(attributes | more))  # type: ignore[arg-type]


def p2p(peer_id: int, one: socket.socket, **more: object) -> PeerAttributes:
    return spec(peer_id, one, vpn_ipv4=None, **more)


def key(key_id: int, *, swapped: bool = False) -> DataKey:
    ways = [KeyDirection(bytes([n]) * 32, bytes([n] * 8)) for n in (1, 2)]
    return DataKey(key_id, Cipher.AES_256_GCM, *(ways[::-1] if swapped else ways))


def events(interface: Interface, enough: Callable[[list[Told]], bool] = bool) -> list[Told]:
    found: list[Told] = []
    deadline = time.monotonic() + WAIT_S
    while not enough(found) and time.monotonic() < deadline:
        select.select([interface], [], [], 1)
        found += interface.read_events()
    return found


def reasons(told: list[Told]) -> dict[int, DeleteReason | None]:
    return {
        one.generation: one.notice.reason for one in told if isinstance(one.notice, DeletedNotice)
    }


def test_probe_loads_nothing_and_find_family_does() -> None:
    subprocess.run(["modprobe", "-r", "ovpn"], check=True)
    found = probe()
    assert found.family is None
    assert (found.loadable, found.permitted, found.reason) == (True, True, None)
    assert "ovpn" not in Path("/proc/modules").read_text()
    family = find_family()
    assert probe().family == family


def test_without_privilege() -> None:
    find_family()
    program = (
        "import os; os.setuid(65534)\n"
        "from ovpn_dco.netlink import Commands, find_family, probe\n"
        "from ovpn_dco.errors import PermissionDenied\n"
        "found = probe(); assert not found.usable and 'CAP_NET_ADMIN' in found.reason, found\n"
        "try: Commands(found.family.number).get_peers(1)\n"
        "except PermissionDenied: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr


def test_link_comes_and_goes() -> None:
    find_family()
    link = create_link("one", Mode.MULTIPEER)
    try:
        with pytest.raises(errors.AlreadyExists):
            create_link("one", Mode.P2P)
        with Interface.adopt("one") as adopted:
            assert adopted.link == link
        assert socket.if_nametoindex("one") == link.ifindex  # adopted only
    finally:
        delete_link(link.ifindex)
    with pytest.raises(errors.InterfaceMissing):
        delete_link(link.ifindex)


def test_peer(server: Interface, sock: socket.socket) -> None:
    generation = server.add_peer(spec(7, sock, tx_id=9, vpn_ipv6="fd00::7"))
    server.set_peer(
        generation,
        PeerAttributes(
            peer_id=7, remote=("127.0.0.1", 10), keepalive_interval_s=20, keepalive_timeout_s=60
        ),
    )
    peer = server.get_peer(7)
    assert (peer.remote, peer.tx_id, peer.vpn_ipv6) == (("127.0.0.1", 10), 9, "fd00::7")
    assert (peer.keepalive_interval_s, peer.keepalive_timeout_s) == (20, 60)
    assert [one.peer_id for one in server.get_peers()] == [7]
    server.delete_peer(7, generation)
    assert reasons(events(server)) == {generation: DeleteReason.USERSPACE}
    with pytest.raises(errors.NotFound):
        server.get_peer(7)
    with pytest.raises(errors.NotFound):
        server.delete_peer(7, generation)


def test_refusals(server: Interface, sock: socket.socket) -> None:
    server.add_peer(spec(7, sock))
    with pytest.raises(errors.AlreadyExists):
        server.add_peer(spec(7, sock))
    with pytest.raises(errors.OutOfRange) as caught:
        server.add_peer(spec(0x1000000, sock))
    assert caught.value.attribute == "peer_id"
    with pytest.raises(errors.InvalidArgument):
        server.add_peer(spec(8, sock, vpn_ipv4="224.0.0.1"))
    with pytest.raises(errors.InvalidArgument):
        server.add_peer(spec(8, sock, keepalive_interval_s=1))
    assert [peer.peer_id for peer in server.get_peers()] == [7]


def test_keys(server: Interface, sock: socket.socket) -> None:
    one = server.add_peer(spec(7, sock))
    server.install_key(7, one, KeySlot.PRIMARY, key(0))
    server.install_key(7, one, KeySlot.SECONDARY, key(1))
    server.swap_keys(7, one)
    assert server.get_key(7, KeySlot.PRIMARY).key_id == 1
    server.delete_key(7, one, KeySlot.SECONDARY)
    with pytest.raises(errors.NotFound):
        server.get_key(7, KeySlot.SECONDARY)


def test_expiry_and_closed_socket(server: Interface, sock: socket.socket) -> None:
    slow = server.add_peer(spec(7, sock, keepalive_interval_s=1, keepalive_timeout_s=2))
    assert reasons(events(server)) == {slow: DeleteReason.EXPIRED}
    gone = server.add_peer(spec(7, sock))
    sock.close()
    assert reasons(events(server)) == {gone: DeleteReason.TRANSPORT_DISCONNECT}


def test_second_peer_of_p2p_replaces_the_first(client: Interface, sock: socket.socket) -> None:
    first = client.add_peer(p2p(1, sock))
    second = client.add_peer(p2p(1, sock))
    assert reasons(events(client)) == {first: DeleteReason.TEARDOWN}
    client.set_peer(second, PeerAttributes(peer_id=1, tx_id=3))


def test_float(server: Interface, client: Interface, sock: socket.socket) -> None:
    """The client's keepalive comes from another port than the server was told."""
    with udp() as there:
        mine = server.add_peer(spec(7, sock, keepalive_interval_s=60, keepalive_timeout_s=120))
        server.install_key(7, mine, KeySlot.PRIMARY, key(0))
        theirs = client.add_peer(
            p2p(7, there, remote=sock.getsockname(), keepalive_interval_s=1, keepalive_timeout_s=99)
        )
        client.install_key(7, theirs, KeySlot.PRIMARY, key(0, swapped=True))
        (told,) = events(server)
        assert told.generation == mine
        assert isinstance(told.notice, FloatedNotice)
        assert told.notice.remote == there.getsockname() == server.get_peer(7).remote


@pytest.mark.parametrize(
    ("frame", "reason"),
    [(b"\0\0", None), (b"\0\1x", None), (b"\0\2xx", DeleteReason.TRANSPORT_ERROR)],
)
def test_short_frames(server: Interface, frame: bytes, reason: DeleteReason | None) -> None:
    """The driver tells nobody of a frame that is no packet at all: that peer stays."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = socket.create_connection(listener.getsockname())
        with listener.accept()[0] as here, there:
            peer = PeerAttributes(peer_id=7, socket=here.fileno(), vpn_ipv4="10.8.0.7")
            generation = server.add_peer(peer)
            there.send(frame)
            if reason is None:
                time.sleep(3)
                assert server.read_events() == []
                assert server.get_peer(7).remote is None
            else:
                assert reasons(events(server)) == {generation: reason}


def test_overrun(sock: socket.socket) -> None:
    """More peers go at once than the event socket has room for: each is told of once."""
    with Interface.create("many", Mode.MULTIPEER, event_buffer=1) as many, udp() as kept:
        kept_peer = many.add_peer(spec(500, kept))
        peers = {many.add_peer(spec(peer_id, sock)) for peer_id in range(1, 201)}
        sock.close()
        told = events(many, lambda found: len(found) >= len(peers))
        assert len(told) == len(peers)
        assert set(reasons(told)) == peers
        assert None in reasons(told).values()  # there was an overrun
        again = many.add_peer(spec(1, kept))
        many.delete_peer(1, again)
        assert reasons(events(many)) == {again: DeleteReason.USERSPACE}
        assert many.read_events() == []
        many.set_peer(kept_peer, PeerAttributes(peer_id=500, tx_id=1))


def test_own_deletions_are_known_after_an_overrun(sock: socket.socket) -> None:
    with Interface.create("many", Mode.MULTIPEER, event_buffer=1) as many:
        peers = [many.add_peer(spec(peer_id, sock)) for peer_id in range(1, 101)]
        for peer_id, generation in enumerate(peers, 1):
            many.delete_peer(peer_id, generation)
        told = many.read_events()
        assert reasons(told) == dict.fromkeys(peers, DeleteReason.USERSPACE)
        assert len(told) == len(peers)


def test_pyroute2_form(server: Interface, sock: socket.socket) -> None:
    server.add_peer(spec(7, sock))
    with contextlib.closing(Ovpn()) as plain:
        (message,) = plain.request(OVPN_CMD_PEER_GET, server.link.ifindex, dump=True)
        assert message.get_nested("OVPN_A_PEER", "OVPN_A_PEER_ID") == 7


def test_commands_of_several_threads(server: Interface, sock: socket.socket) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Commands(find_family().number) as commands, ThreadPoolExecutor(8) as pool:
        ifindex = server.link.ifindex
        list(pool.map(lambda i: commands.add_peer(ifindex, spec(i, sock)), range(1, 60)))
        found = pool.map(lambda i: commands.get_peer(ifindex, i).peer_id, range(1, 60))
        assert list(found) == list(range(1, 60))
