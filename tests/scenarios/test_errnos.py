"""Every refusal of the driver's netlink interface, by errno and attribute, through a device.

What needs no device to be refused is in `tests/unit/test_validation.py`, row by row; VPN addresses
are refused in `sequence.py`."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest
from scenarios.vpn import PORT, Shape, Vpn
from system.tunnel import SYSTEM

import ovpn_dco as dco
from ovpn_dco import Cipher, KeySlot

pytestmark = SYSTEM

HERE = ("10.10.1.2", PORT)
HERE6 = ("fd00:0:0:1::2", PORT)


def refused(number: int, attribute: str | None, call: Callable[[], object]) -> None:
    with pytest.raises(dco.DcoError) as refusal:
        call()
    assert (refusal.value.errno, refusal.value.attribute) == (number, attribute), refusal.value


def key(key_id: int = 1, *, cipher: Cipher = Cipher.AES_256_GCM, **sizes: int) -> dco.DataKey:
    direction = dco.KeyDirection(
        key=bytes(sizes.get("key", cipher.key_size)), nonce_tail=bytes(sizes.get("nonce_tail", 8))
    )
    return dco.DataKey(key_id, cipher, direction, direction)


PEER_NEW: list[tuple[str, int, str, dict[str, Any]]] = [
    ("id of another peer", errno.EEXIST, "peer_id", {"peer_id": 1}),
    ("id of 25 bits", errno.ERANGE, "peer_id", {"peer_id": 1 << 24}),
    ("sent id of 25 bits", errno.ERANGE, "tx_id", {"tx_id": 1 << 24}),
    ("no socket", errno.EINVAL, "transport", {"transport": None}),
    ("no remote", errno.EINVAL, "remote", {"remote": None}),
    ("port 0", errno.ERANGE, "remote", {"remote": ("10.10.1.2", 0)}),
    ("local of the other family", errno.EINVAL, "local", {"local": "fd00::1"}),
    ("interval alone", errno.EINVAL, "keepalive_timeout_s", {"keepalive_interval_s": 1}),
    ("timeout alone", errno.EINVAL, "keepalive_interval_s", {"keepalive_timeout_s": 1}),
    ("no VPN address", errno.EINVAL, "vpn_ipv4", {"vpn_ipv4": None}),
    ("VPN address of another", errno.EADDRINUSE, "vpn_ipv4", {"vpn_ipv4": "5.5.5.2"}),
]


def test_peer_new(make_vpn) -> None:
    vpn: Vpn = make_vpn(clients=(1,))
    device, (_, transport) = vpn.server.device, vpn.server.sockets[0]
    good = {"peer_id": 9, "transport": transport, "remote": HERE, "vpn_ipv4": "5.5.5.9"}
    for _, number, attribute, change in PEER_NEW:
        refused(number, attribute, lambda change=change: device.add_peer(**good | change))
    assert list(device.peers) == [1]
    device.add_peer(**good)


def test_peer_new_over_tcp(make_vpn) -> None:
    """A connection knows its remote, and has one peer."""
    vpn: Vpn = make_vpn(clients=(1,), tcp=True)
    device, (_, transport) = vpn.server.device, vpn.server.sockets[0]
    good = {"peer_id": 9, "transport": transport, "vpn_ipv4": "5.5.5.9"}
    refused(errno.EINVAL, "remote", lambda: device.add_peer(**good, remote=HERE))
    refused(errno.EINVAL, "remote", lambda: vpn.at_server[1].set(remote=HERE))
    with pytest.raises(dco.Busy):
        device.add_peer(**good)


def test_p2p_has_one_peer_and_no_addresses(make_vpn) -> None:
    """A second peer takes the place of the first, which is told with reason TEARDOWN."""
    vpn: Vpn = make_vpn(clients=(1,))
    client, (_, transport) = vpn.clients[1], vpn.clients[1].sockets[0]
    for attribute, address in (("vpn_ipv4", "5.5.5.9"), ("vpn_ipv6", "fd00:5::9")):
        more = {"remote": HERE, attribute: address}
        refused(
            errno.EINVAL,
            attribute,
            lambda more=more: client.device.add_peer(11, transport, **more),
        )
    client.device.add_peer(11, transport, remote=HERE)
    assert client.listen() == [(Shape().client_id(1), "deleted", "TEARDOWN")]
    assert list(client.device.peers) == [11]


def test_peer_set_get_and_del(make_vpn) -> None:
    vpn: Vpn = make_vpn(clients=(1, 2))
    one = vpn.at_server[1]
    refused(errno.EINVAL, "local", lambda: one.set(local="10.10.1.1"))
    refused(errno.EINVAL, "local", lambda: one.set(remote=HERE6, local="10.10.1.1"))
    refused(errno.ERANGE, "remote", lambda: one.set(remote=("10.10.1.2", 65536)))
    refused(errno.EADDRINUSE, "vpn_ipv4", lambda: one.set(vpn_ipv4="5.5.5.3"))
    refused(errno.EINVAL, "vpn_ipv4", lambda: one.set(vpn_ipv4="0.0.0.0"))
    assert one.remote == HERE
    one.delete()
    for call in (one.info, one.delete, one.swap_keys, lambda: one.set(tx_id=1)):
        with pytest.raises(dco.NotFound):
            call()
    refused(errno.ENOENT, "peer_id", lambda: vpn.server.device.delete_peers([1]))
    assert vpn.server.listen() == [(1, "deleted", "USERSPACE")]


KEY_NEW: list[tuple[str, int, str, Any]] = [
    ("key id of four bits", errno.ERANGE, "key_id", lambda: key(8)),
    ("key id of the other slot", errno.EINVAL, "key_id", lambda: key(0)),
    ("no cipher", errno.EINVAL, "cipher", lambda: key(cipher=Cipher.NONE, key=32)),
    ("short key", errno.EINVAL, "encrypt.key", lambda: key(key=31)),
    ("short nonce tail", errno.EINVAL, "encrypt.nonce_tail", lambda: key(nonce_tail=7)),
]


def test_keys(make_vpn) -> None:
    """Of slots; an empty one may be deleted and swapped, but not read."""
    vpn: Vpn = make_vpn(clients=(1,))
    peer = vpn.at_server[1]
    for _, number, attribute, bad in KEY_NEW:
        refused(number, attribute, lambda bad=bad: peer.install_key(KeySlot.SECONDARY, bad()))
    refused(errno.ERANGE, "slot", lambda: peer.install_key(2, key()))
    with pytest.raises(dco.NotFound):
        peer.key(KeySlot.SECONDARY)
    peer.delete_key(KeySlot.SECONDARY)
    peer.swap_keys()
    assert peer.key(KeySlot.SECONDARY).key_id == 0
    with pytest.raises(dco.NotFound):
        peer.key(KeySlot.PRIMARY)
    peer.swap_keys()
    peer.delete()
    for call in (
        lambda: peer.install_key(KeySlot.PRIMARY, key()),
        lambda: peer.key(KeySlot.PRIMARY),
        lambda: peer.delete_key(KeySlot.PRIMARY),
    ):
        with pytest.raises(dco.NotFound):
            call()


def test_sockets(make_vpn) -> None:
    """One socket is one device's."""
    vpn: Vpn = make_vpn(clients=(1,))
    sock, _ = vpn.server.sockets[0]
    for party in vpn.parties:
        refused(errno.EBUSY, "sock", lambda party=party: party.device.attach_udp(sock))
    closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    closed.close()
    refused(errno.ENOTSOCK, "sock", lambda: vpn.server.device.attach_udp(closed))
