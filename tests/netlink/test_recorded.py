"""The codec against what a real driver was sent, answered and told."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from netlink_replay import EXCHANGES, FAMILY, NOTICES, replay

from ovpn_dco import errors
from ovpn_dco.model import Cipher, DataKey, DeleteReason, KeyDirection, KeySlot, Mode, PeerStats
from ovpn_dco.netlink import (
    Algorithm,
    Commands,
    DeletedNotice,
    FloatedNotice,
    KeyState,
    KeySwapNotice,
    Link,
    PeerAttributes,
    PeerState,
    answers,
    create_link,
    delete_link,
    find_family,
    find_link,
    probe,
)
from ovpn_dco.netlink.codec import decode_message, decode_notice, encode_request
from ovpn_dco.netlink.family import ovpnmsg

SERVER, CLIENT = 2, 3  # numbers of the interfaces


def recorded(name: str) -> ovpnmsg:
    (exchange,) = (one for one in EXCHANGES if one.name == name)
    message = ovpnmsg(exchange.request)
    message.decode()
    return message


def descriptor(name: str) -> int:
    return int(recorded(name).get_nested("OVPN_A_PEER", "OVPN_A_PEER_SOCKET"))


def port(name: str) -> int:
    return int(recorded(name).get_nested("OVPN_A_PEER", "OVPN_A_PEER_REMOTE_PORT"))


def key(key_id: int, cipher: Cipher = Cipher.AES_256_GCM) -> DataKey:
    ways = [KeyDirection(bytes([n]) * cipher.key_size, bytes([0xA0 + n] * 8)) for n in (2, 1)]
    return DataKey(key_id, cipher, *ways)


CALLS: dict[str, Callable[[Commands], Any]] = {
    "new peer udp4": lambda c: c.add_peer(
        SERVER,
        PeerAttributes(
            peer_id=7,
            socket=descriptor("new peer udp4"),
            remote=("127.0.0.1", 9),
            local="127.0.0.1",
            vpn_ipv4="10.8.0.2",
            vpn_ipv6="fd00:8::2",
            tx_id=107,
        ),
    ),
    "new peer udp6": lambda c: c.add_peer(
        SERVER,
        PeerAttributes(
            peer_id=0xABCDE,
            socket=descriptor("new peer udp6"),
            remote=("fe80::7", 1194, 0, 1),
            vpn_ipv6="fd00:8::3",
        ),
    ),
    "new peer tcp": lambda c: c.add_peer(
        SERVER,
        PeerAttributes(peer_id=5, socket=descriptor("new peer tcp"), vpn_ipv4="10.8.0.5"),
    ),
    "p2p replaces its peer": lambda c: c.add_peer(
        CLIENT,
        PeerAttributes(
            peer_id=108,
            socket=descriptor("p2p replaces its peer"),
            remote=("127.0.0.1", port("p2p replaces its peer")),
            tx_id=7,
        ),
    ),
    "set peer keepalive": lambda c: c.set_peer(
        SERVER, PeerAttributes(peer_id=7, keepalive_interval_s=1, keepalive_timeout_s=60)
    ),
    "delete peer": lambda c: c.delete_peer(SERVER, 7),
    "new key AES-128-GCM": lambda c: c.install_key(
        SERVER, 7, KeySlot.PRIMARY, key(0, Cipher.AES_128_GCM)
    ),
    "new key CHACHA20-POLY1305": lambda c: c.install_key(
        SERVER, 7, KeySlot.PRIMARY, key(0, Cipher.CHACHA20_POLY1305)
    ),
    "new key AES-256-GCM": lambda c: c.install_key(SERVER, 7, KeySlot.PRIMARY, key(0)),
    "new key secondary": lambda c: c.install_key(SERVER, 7, KeySlot.SECONDARY, key(1)),
    "swap keys": lambda c: c.swap_keys(SERVER, 7),
    "delete key": lambda c: c.delete_key(SERVER, 7, KeySlot.PRIMARY),
    "delete key missing": lambda c: c.delete_key(SERVER, 7, KeySlot.PRIMARY),
    "dump peers none": lambda c: c.get_peers(CLIENT),
}


@pytest.mark.parametrize("name", CALLS)
def test_driver_took_what_is_encoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte; the driver said yes."""
    played = replay(monkeypatch, name)
    assert CALLS[name](Commands(FAMILY)) in (None, [])
    assert not played.expected


def test_peer_over_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, "get peer udp4")
    peer = Commands(FAMILY).get_peer(SERVER, 7)
    assert peer == PeerState(
        peer_id=7,
        tx_id=107,
        remote=("127.0.0.1", 9),
        local="127.0.0.1",
        local_port=peer.local_port,
        vpn_ipv4="10.8.0.2",
        vpn_ipv6="fd00:8::2",
        keepalive_interval_s=1,
        keepalive_timeout_s=60,
    )
    assert peer.local_port is not None
    assert peer.local_port > 1024


def test_peer_over_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, "get peer udp6")
    peer = Commands(FAMILY).get_peer(SERVER, 0xABCDE)
    assert peer.remote == ("fe80::7", 1194, 0, 1)
    assert peer.tx_id == 0xABCDE  # unless it was given
    assert (peer.local, peer.vpn_ipv4, peer.vpn_ipv6) == ("::", None, "fd00:8::3")


def test_peer_over_tcp_has_no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, "get peer tcp")
    peer = Commands(FAMILY).get_peer(SERVER, 5)
    assert (peer.remote, peer.local) == (None, None)
    assert peer.local_port


def test_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """One keepalive packet of 40 bytes has come, which no inner packet counts."""
    replay(monkeypatch, "get peer with counters")
    stats = Commands(FAMILY).get_peer(SERVER, 7).stats
    assert (stats.link_rx_bytes, stats.link_rx_packets) == (40 * stats.link_rx_packets, 1)
    assert stats.link_tx_bytes == 40 * stats.link_tx_packets
    assert stats.vpn_rx_bytes == stats.vpn_rx_packets == 0


def test_socket_of_another_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, "get peer with socket elsewhere")
    assert Commands(FAMILY).get_peer(CLIENT, 11).socket_netnsid is not None


def test_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, "dump peers")
    peers = Commands(FAMILY).get_peers(SERVER)
    assert {peer.peer_id for peer in peers} == {7, 0xABCDE}
    assert all(peer.stats == PeerStats() for peer in peers)


@pytest.mark.parametrize(("name", "key_id"), [("get key primary", 0), ("get key swapped", 1)])
def test_key(name: str, key_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, name)
    assert Commands(FAMILY).get_key(SERVER, 7, KeySlot.PRIMARY) == KeyState(
        peer_id=7, slot=KeySlot.PRIMARY, key_id=key_id, algorithm=Algorithm.AES_GCM
    )


def test_links(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, "new link multipeer")
    assert create_link("server", Mode.MULTIPEER) == Link("server", SERVER, Mode.MULTIPEER, 1416)
    replay(monkeypatch, "new link p2p")
    assert create_link("client", Mode.P2P) == Link("client", CLIENT, Mode.P2P, 1416)
    replay(monkeypatch, "delete link")
    delete_link(SERVER)


def test_link_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, "new link exists")
    with pytest.raises(errors.AlreadyExists, match="client cannot be made"):
        create_link("client", Mode.P2P)
    replay(monkeypatch, "new link mode 2")
    with pytest.raises(errors.OutOfRange) as caught:
        create_link("third", 2)  # type: ignore[arg-type]
    assert caught.value.attribute == "mode"
    replay(monkeypatch, "find link of another driver")
    with pytest.raises(errors.InvalidArgument, match="none of the ovpn driver"):
        find_link("lo")
    replay(monkeypatch, "find link missing")
    with pytest.raises(errors.InterfaceMissing):
        find_link("missing")


def test_family(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, "family")
    found = find_family()
    assert found.number == FAMILY
    assert found.peers_group > 0
    assert found.tx_id


# Refusals

RAW = [one for one in EXCHANGES if one.refused and one.request[4:6] == FAMILY.to_bytes(2, "little")]

ATTRIBUTES = {
    "new: no id": "peer_id",
    "new: id too large": "peer_id",
    "new: tx id too large": "tx_id",
    "new: port 0": "remote",
    "new: no socket": "socket",
    "new: reason given": "del_reason",
    "new: no peer": "peer",
    "no ifindex": "ifindex",
    "interface of another driver": "ifindex",
    "set: socket": "socket",
    "delete: more than an id": "tx_id",
    "key: none": "keyconf",
    "key: no PEER_ID": "peer_id",
    "key: no SLOT": "slot",
    "key: no KEY_ID": "key_id",
    "key: no CIPHER_ALG": "cipher",
    "key: no ENCRYPT_DIR": "encrypt",
    "key: no DECRYPT_DIR": "decrypt",
    "key: slot 2": "slot",
    "key: id 8": "key_id",
    "key: cipher 3": "cipher",
    "key: peer id too large": "peer_id",
    "key: too long": "key",
    "key: nonce of 7": "nonce_tail",
    "key: no nonce": "nonce_tail",
    "key: no material": "key",
    "key: swap with slot": "slot",
    "key: delete without slot": "slot",
}
CLASSES = {
    errno.EINVAL: errors.InvalidArgument,
    errno.ERANGE: errors.OutOfRange,
    errno.ENOENT: errors.NotFound,
    errno.EEXIST: errors.AlreadyExists,
    errno.EADDRINUSE: errors.AddressInUse,
    errno.EADDRNOTAVAIL: errors.InvalidArgument,
    errno.ENOTSOCK: errors.NotASocket,
    errno.ENODEV: errors.InterfaceMissing,
    errno.EOPNOTSUPP: errors.UnsupportedError,
}


@pytest.mark.parametrize("exchange", RAW, ids=lambda exchange: exchange.name)
def test_refusal(exchange: Any) -> None:
    """The driver's errno and words come through, and the attribute where it names one."""
    request = ovpnmsg(exchange.request)
    request.decode()
    (message,) = answers.split(exchange.answers[-1])
    refusal = answers.read_result(message, request)
    assert refusal is not None
    error = answers.refused(refusal, "it")
    assert type(error) is CLASSES[exchange.refused["errno"]]
    assert error.errno == exchange.refused["errno"]
    assert error.attribute == ATTRIBUTES.get(exchange.name)
    if refusal.message is not None:
        assert refusal.message in str(error)


def test_every_attribute_that_was_named_is_expected() -> None:
    assert set(ATTRIBUTES) <= {one.name for one in RAW}


def test_refusal_quotes_no_key() -> None:
    """Where keys are in a request they are not in the answer."""
    for exchange in RAW:
        assert not any(bytes(16) in answer[36:] for answer in exchange.answers)


def test_unused_id_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, "get peer missing")
    with pytest.raises(errors.NotFound, match="cannot find peer with id 20"):
        Commands(FAMILY).get_peer(SERVER, 20)
    replay(monkeypatch, "dump peers of no interface")
    with pytest.raises(errors.InterfaceMissing, match="peers cannot be read"):
        Commands(FAMILY).get_peers(9999)


# Notifications

REASONS = {
    "deleted by teardown": (CLIENT, 107, DeleteReason.TEARDOWN),
    "deleted by userspace": (SERVER, 7, DeleteReason.USERSPACE),
    "deleted by expiry": (SERVER, 3, DeleteReason.EXPIRED),
    "deleted by transport error": (SERVER, 5, DeleteReason.TRANSPORT_ERROR),
    "deleted by transport disconnect": (SERVER, 0xABCDE, DeleteReason.TRANSPORT_DISCONNECT),
    "deleted with the interface": (SERVER, 50, DeleteReason.TEARDOWN),
}


def told(name: str) -> list[Any]:
    return [decode_notice(decode_message(data)) for one, data in NOTICES if one == name]


@pytest.mark.parametrize("name", REASONS)
def test_deletion(name: str) -> None:
    ifindex, peer_id, reason = REASONS[name]
    assert told(name) == [DeletedNotice(ifindex=ifindex, peer_id=peer_id, reason=reason)]


def test_float() -> None:
    (udp4,) = told("float to udp4")
    assert udp4 == FloatedNotice(ifindex=SERVER, peer_id=7, remote=("127.0.0.1", udp4.remote[1]))
    (udp6,) = told("float to udp6")
    assert udp6.remote == ("::1", udp6.remote[1], 0, 0)
    (scoped,) = told("float to udp6 link-local")
    assert scoped.remote[0] == "fe80::5"
    assert len({one.remote[1] for one in (udp4, udp6, scoped)}) == 3


def test_key_swap() -> None:
    """Two bytes of key id, where the interface declares four; both are read."""
    (data,) = (data for name, data in NOTICES if name == "key exhausted")
    expected = KeySwapNotice(ifindex=CLIENT, peer_id=9, key_id=5)
    assert decode_notice(decode_message(data)) == expected
    short = bytes.fromhex("06000300") + (5).to_bytes(2, "little") + bytes(2)
    assert data.endswith(short)
    four = bytes.fromhex("08000300") + (5).to_bytes(4, "little")
    longer = data.replace(short, four)
    assert decode_notice(decode_message(longer)) == expected


# What a later driver may say


def test_what_a_later_driver_tells_is_passed_over() -> None:
    assert decode_notice(encode_request(99, SERVER)) is None
    message = encode_request(5, SERVER, ("OVPN_A_PEER", [
        ("OVPN_A_PEER_DEL_REASON", 77), ("OVPN_A_PEER_ID", 1),
    ]))  # fmt: skip
    message.encode()
    deleted = decode_notice(decode_message(bytes(message.data)))
    assert deleted == DeletedNotice(ifindex=SERVER, peer_id=1, reason=None)


@pytest.mark.parametrize("name", ["dump peers", "get peer udp6", "get key primary"])
def test_cut_off_messages_are_refused(name: str) -> None:
    (exchange,) = (one for one in EXCHANGES if one.name == name)
    data = b"".join(exchange.answers)
    for size in range(1, 40):
        with pytest.raises(errors.DcoError) as caught:
            list(answers.split(data[:size]))
        assert caught.value.errno == errno.EBADMSG


@pytest.mark.parametrize(
    ("attributes", "attribute"),
    [
        ({"remote": ("example.com", 9)}, "remote"),
        ({"local": "x"}, "local"),
        ({"vpn_ipv4": "fd00::1"}, "vpn_ipv4"),
        ({"vpn_ipv6": "10.0.0.1"}, "vpn_ipv6"),
        ({"vpn_ipv4": 167772161}, "vpn_ipv4"),
        ({"remote": ("fe80::1%lo", 9)}, "remote"),
        ({"remote": ("fe80::1%lo", 9, 0, 1)}, "remote"),
        ({"local": "fe80::1%lo"}, "local"),
        ({"vpn_ipv6": "fe80::1%1"}, "vpn_ipv6"),
    ],
)
def test_what_is_no_address_is_refused_here(
    attributes: dict[str, Any], attribute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay(monkeypatch, "delete peer")
    with pytest.raises(errors.InvalidArgument) as caught:
        Commands(FAMILY).add_peer(SERVER, PeerAttributes(peer_id=1, **attributes))
    assert caught.value.attribute == attribute


def test_key_that_does_not_begin_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    replay(monkeypatch, "swap keys")
    ways = [KeyDirection(bytes(16), bytes(8))] * 2
    late = DataKey(0, Cipher.AES_128_GCM, *ways, first_packet_id=2)
    with pytest.raises(errors.UnsupportedError):
        Commands(FAMILY).install_key(SERVER, 7, KeySlot.PRIMARY, late)


def test_probe_changes_nothing_and_says_why() -> None:
    found = probe()
    assert found.usable == (found.reason is None)
