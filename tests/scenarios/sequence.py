"""What every variant of the kernel's test.sh does, in its order, with the criterion of each step.

The steps build on one another: `run` goes through all of them. The server is party 0, client N is
party N."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from typing import Any

import pytest
from scenarios.effort import EFFORT
from scenarios.traffic import LARGE, SIZE, flood, transfer
from scenarios.vpn import CLIENTS, PORT, SERVER_VPN, Notice, Party, Vpn, vpn_address
from scenarios.wire import Capture, data_header
from system.tunnel import RunningPing, eventually

import ovpn_dco as dco
from ovpn_dco import KeySlot

LAN = "11.11.11.11"
SPARE_ID, SPARE_VPN6 = 77, "fd00:5::2"
ABSENT_ID = 20

NO_ADDRESS: list[dict[str, str]] = [
    {"vpn_ipv4": "0.0.0.0"},
    {"vpn_ipv6": "::"},
]
BAD_ADDRESSES: list[dict[str, str]] = [
    {"vpn_ipv4": "127.0.0.1"},
    {"vpn_ipv4": "224.0.0.1"},
    {"vpn_ipv4": "255.255.255.255"},
    {"vpn_ipv6": "::1"},
    {"vpn_ipv6": "::5.5.5.99"},
    {"vpn_ipv6": "::ffff:5.5.5.99"},
    {"vpn_ipv6": "ff02::1"},
]


def run(vpn: Vpn, *, moving: bool = False) -> None:
    """All of it; `moving` is the variant in which the clients change their addresses."""
    refuse_vpn_addresses(vpn)
    ping_and_look_at_the_wire(vpn)
    ping_the_network_behind_a_client(vpn)
    if moving:
        clients_move(vpn)
    transfer(vpn.server.namespace, vpn.clients[1].namespace, SERVER_VPN)
    renegotiate(vpn)
    query(vpn)
    delete_the_first(vpn)
    read_keys(vpn)
    delete_under_a_flood(vpn)
    delete_keys(vpn)
    expire(vpn)
    compare_notifications(vpn, moving=moving)


def clients(vpn: Vpn, first: int) -> list[int]:
    return [number for number in vpn.numbers if number >= first]


# 1b


def refuse_vpn_addresses(vpn: Vpn) -> None:
    """A peer may have neither no VPN address, nor one that is no host's, nor another peer's."""
    device, one, two = vpn.server.device, vpn.at_server[1], vpn.at_server[2]
    like_one = one.info()

    def new(**addresses: str) -> dco.Peer:
        remote = None if vpn.shape.tcp else ("10.10.1.2", 99)
        return device.add_peer(SPARE_ID, spare, remote=remote, **addresses)

    def refused(number: int, call: Any, **addresses: str) -> None:
        with pytest.raises(dco.DcoError) as refusal:
            call(**addresses)
        assert refusal.value.errno == number, (addresses, str(refusal.value))

    with ExitStack() as stack:
        spare = _spare_transport(vpn, stack)
        for addresses in ({}, *NO_ADDRESS, *BAD_ADDRESSES):
            refused(errno.EINVAL, new, **addresses)
        refused(errno.EADDRINUSE, new, vpn_ipv4=vpn_address(1))
        for addresses in BAD_ADDRESSES:
            refused(errno.EINVAL, one.set, **addresses)
        refused(errno.EINVAL, one.set, vpn_ipv4="0.0.0.0")
        refused(errno.EADDRINUSE, two.set, vpn_ipv4=vpn_address(1))
        assert one.info().vpn_ipv4 == like_one.vpn_ipv4

        one.set(vpn_ipv6=SPARE_VPN6)
        refused(errno.EADDRINUSE, new, vpn_ipv6=SPARE_VPN6)
        refused(errno.EADDRINUSE, two.set, vpn_ipv6=SPARE_VPN6)
        one.set(vpn_ipv4="0.0.0.0")
        refused(errno.EINVAL, one.set, vpn_ipv6="::")
        one.set(vpn_ipv4=vpn_address(1))
        one.set(vpn_ipv6="::")
    after = one.info()
    assert (after.vpn_ipv4, after.vpn_ipv6) == (vpn_address(1), None)
    assert sorted(device.peers) == list(vpn.numbers)


def _spare_transport(vpn: Vpn, stack: ExitStack) -> dco.Transport:
    """The shared UDP socket; of TCP a connection that is nobody's."""
    if not vpn.shape.tcp:
        return vpn.server.sockets[0][1]
    near, far = vpn.connect(1)
    stack.enter_context(far)
    transport = vpn.server.device.attach_tcp(near)
    stack.callback(vpn.back_end.take_socket_away, near, transport)
    return transport


# 2, 3


def ping_and_look_at_the_wire(vpn: Vpn) -> None:
    """The server floods every client, with small and with large packets; each data packet carries
    key id 0 and the id by which its receiver knows the sender."""
    with ExitStack() as stack:
        captures = {number: stack.enter_context(capture(vpn, number)) for number in vpn.numbers}
        for size in (SIZE, LARGE):
            flood([(vpn.server.namespace, vpn_address(n)) for n in vpn.numbers], size=size)
        for number, seen in captures.items():
            to_client = vpn.shape.client_id(number)
            assert seen.headers(to_server=True) == {data_header(0, number)}
            assert seen.headers(to_server=False) == {data_header(0, to_client)}


def capture(vpn: Vpn, number: int) -> Capture:
    return Capture(vpn.clients[number].namespace, vpn.link(number).right_name)


def ping_the_network_behind_a_client(vpn: Vpn) -> None:
    vpn.clients[1].namespace.add_address("lo", f"{LAN}/32")
    server = vpn.server
    vpn.back_end.route_behind(
        server.device, server.namespace, f"{LAN}/32", vpn.at_server[1], vpn_address(1)
    )
    flood([(server.namespace, LAN)])


# 3b


def moved(vpn: Vpn, number: int) -> str:
    """Where a client goes: what ends in 2 ends in 3 then."""
    return vpn.outer(number, server=False)[:-1] + "3"


def clients_move(vpn: Vpn) -> None:
    """Every client changes its address, and its next pings are answered there."""
    for number, client in vpn.clients.items():
        old = vpn.outer(number, server=False)
        client.namespace.replace_address(vpn.link(number).right_name, old, moved(vpn, number))
    flood([(client.namespace, SERVER_VPN) for client in vpn.clients.values()])


# 5, 6


def renegotiate(vpn: Vpn) -> None:
    """A second key at both ends, which only the clients turn to: both slots open, and the wire
    shows which one seals."""
    for number in vpn.numbers:
        vpn.install(number, KeySlot.SECONDARY, 1)
        vpn.at_client[number].swap_keys()
    with ExitStack() as stack:
        captures = {number: stack.enter_context(capture(vpn, number)) for number in vpn.numbers}
        flood([(vpn.server.namespace, vpn_address(n)) for n in vpn.numbers])
        for number, seen in captures.items():
            assert seen.headers(to_server=True) == {data_header(1, number)}
            to_client = vpn.shape.client_id(number)
            assert seen.headers(to_server=False) == {data_header(0, to_client)}


def query(vpn: Vpn) -> None:
    device = vpn.server.device
    assert sorted(device.peers) == list(vpn.numbers)
    for number in vpn.numbers:
        info = device.peers[number].info()
        assert info.peer_id == number
        assert info.tx_id == vpn.shape.client_id(number)
        assert (info.keepalive_interval_s, info.keepalive_timeout_s) == (60, 120)
        assert info.vpn_ipv4 == vpn_address(number)
        assert info.stats.vpn_rx_packets >= 2 * EFFORT.pings
    assert ABSENT_ID not in device.peers


# 7 to 10


def delete_the_first(vpn: Vpn) -> None:
    vpn.at_server[1].delete()
    vpn.at_client[1].delete()
    with pytest.raises(dco.NotFound):
        vpn.at_server[1].info()


def read_keys(vpn: Vpn) -> None:
    for number in clients(vpn, 2):
        keys = [vpn.at_client[number].key(slot) for slot in KeySlot]
        assert [key.key_id for key in keys] == [1, 0]
        assert {key.cipher for key in keys} == {vpn.shape.cipher}


def delete_under_a_flood(vpn: Vpn) -> None:
    """Client 2 floods the server, and loses its peer there, and then its own."""
    before = vpn.at_server[2].stats().vpn_rx_packets
    running = RunningPing(vpn.clients[2].namespace, SERVER_VPN, interval_s=0)
    eventually(
        lambda: vpn.at_server[2].stats().vpn_rx_packets > before + EFFORT.pings, what="a flood"
    )
    vpn.at_server[2].delete()
    vpn.at_client[2].delete()
    running.stop()


def delete_keys(vpn: Vpn) -> None:
    for number in clients(vpn, 3):
        for slot in KeySlot:
            vpn.at_client[number].delete_key(slot)
            with pytest.raises(dco.NotFound):
                vpn.at_client[number].key(slot)


# 11, 12


def expire(vpn: Vpn) -> None:
    """The clients have no key to say anything with, nor to hear the server: each end gives the
    other up, by its own clock. A client without a timeout does not."""
    silent = clients(vpn, 3)
    limits = {"interval_s": EFFORT.expiry_s, "timeout_s": EFFORT.expiry_s}
    for number in silent:
        vpn.at_client[number].set_keepalive(interval_s=0, timeout_s=0)
        vpn.at_server[number].set_keepalive(**limits)
    at_server = [(number, "deleted", "EXPIRED") for number in silent]
    if EFFORT.ends_apart:
        await_notices(vpn.server, at_server)
    for number in silent:
        vpn.at_client[number].info()
        vpn.at_client[number].set_keepalive(**limits)
    await_notices(vpn.server, at_server)
    for number in silent:
        expected = (vpn.shape.client_id(number), "deleted", "EXPIRED")
        await_notices(vpn.clients[number], [expected])
    assert not any(party.device.peers for party in vpn.parties)


def await_notices(party: Party, expected: list[Notice]) -> None:
    """Until these have come, whatever else has."""
    eventually(lambda: set(expected) <= set(party.listen(timeout_s=0.2)), what=f"{expected}")


# All the time


def compare_notifications(vpn: Vpn, *, moving: bool) -> None:
    """Each end was told what happened to its peers, once, and nothing else."""
    told = {party.number: party.listen() for party in vpn.parties}
    assert told == expected_notices(vpn, moving=moving)


def expected_notices(vpn: Vpn, *, moving: bool) -> dict[int, list[Notice]]:
    """Of each party, by peer id."""
    ends = {number: "USERSPACE" if number < 3 else "EXPIRED" for number in CLIENTS}
    server: list[Notice] = [(number, "deleted", reason) for number, reason in ends.items()]
    if moving:
        server += [(number, "floated", f"{moved(vpn, number)} {PORT}") for number in CLIENTS]
    own = {n: [(vpn.shape.client_id(n), "deleted", reason)] for n, reason in ends.items()}
    return {0: sorted(server), **own}
