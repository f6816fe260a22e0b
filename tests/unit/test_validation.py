"""One row for each rule of the driver, and the order in which it looks."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest
from loopback import epoch_pair, key_pair, material

import ovpn_dco as dco
from ovpn_dco import _core
from ovpn_dco.validation import rules
from ovpn_dco.validation.answers import ANSWERS, SAME, answer
from ovpn_dco.validation.rules import (
    DEVICE_OPEN,
    EPOCH_KEY_NEW,
    KEY_NEW,
    PEER_NEW,
    PEER_SET,
    DeviceAttributes,
    EpochKeyAttributes,
    KeyAttributes,
    PeerAttributes,
    check,
)

V4 = bytes([192, 0, 2, 1])
V4_MAPPED = bytes(10) + b"\xff\xff" + V4
V6 = bytes.fromhex("20010db8000000000000000000000001")
VPN4 = bytes([10, 8, 0, 2])
VPN6 = bytes.fromhex("fd000008000000000000000000000002")

GOOD_NEW = PeerAttributes(
    mode=dco.Mode.MULTIPEER,
    new=True,
    peer_id=7,
    transport="udp",
    remote_ipv4=V4,
    remote_port=1194,
    vpn_ipv4=VPN4,
)
GOOD_SET = PeerAttributes(mode=dco.Mode.MULTIPEER, new=False, peer_id=7)
P2P = {"mode": dco.Mode.P2P, "vpn_ipv4": None}
REMOTE_V6 = {"remote_ipv4": None, "remote_ipv6": V6}


def refused(table: Any, subject: Any) -> dco.DcoError:
    with pytest.raises(dco.DcoError) as caught:
        check(table, subject)
    return caught.value


def expect(error: dco.DcoError, number: int, attribute: str) -> None:
    assert (error.errno, error.attribute) == (number, attribute)
    assert error.strerror
    assert error.strerror.startswith(attribute)


PRECHECK: list[tuple[str, dict[str, Any], int, str]] = [
    # Policy: numbers out of their range
    ("id negative", {"peer_id": -1}, errno.ERANGE, "peer_id"),
    ("id of 25 bits", {"peer_id": 0x1000000}, errno.ERANGE, "peer_id"),
    ("tx id of 25 bits", {"tx_id": 0x1000000}, errno.ERANGE, "tx_id"),
    ("port 0", {"remote_ipv4": V4, "remote_port": 0}, errno.ERANGE, "remote"),
    ("port 65536", {"remote_ipv4": V4, "remote_port": 65536}, errno.ERANGE, "remote"),
    (
        "scope of 33 bits",
        {**REMOTE_V6, "remote_port": 1, "remote_scope_id": 1 << 32},
        errno.ERANGE,
        "remote",
    ),
    (
        "interval negative",
        {"keepalive_interval_s": -1, "keepalive_timeout_s": 1},
        errno.ERANGE,
        "keepalive_interval_s",
    ),
    (
        "timeout of 33 bits",
        {"keepalive_interval_s": 1, "keepalive_timeout_s": 1 << 32},
        errno.ERANGE,
        "keepalive_timeout_s",
    ),
    # Precheck 1 to 10
    ("1: no id", {"peer_id": None}, errno.EINVAL, "peer_id"),
    (
        "2: both remotes",
        {"remote_ipv4": V4, "remote_ipv6": V6, "remote_port": 1},
        errno.EINVAL,
        "remote",
    ),
    (
        "3: port alone",
        {"remote_ipv4": None, "remote_ipv6": None, "remote_port": 1},
        errno.EINVAL,
        "remote",
    ),
    ("4: remote alone", {"remote_ipv4": V4, "remote_port": None}, errno.EINVAL, "remote"),
    (
        "5: local v4 without remote v4",
        {**REMOTE_V6, "remote_port": 1, "local_ipv4": V4},
        errno.EINVAL,
        "local",
    ),
    (
        "6: local v6 without remote v6",
        {"remote_ipv4": V4, "remote_port": 1, "local_ipv6": V6},
        errno.EINVAL,
        "local",
    ),
    (
        "7: families differ after folding",
        {"remote_ipv4": None, "remote_ipv6": V4_MAPPED, "remote_port": 1, "local_ipv6": V6},
        errno.EINVAL,
        "local",
    ),
    (
        "8: scope without remote v6",
        {"remote_ipv4": V4, "remote_port": 1, "remote_scope_id": 2},
        errno.EINVAL,
        "remote",
    ),
    ("9: vpn v4 in P2P", {"mode": dco.Mode.P2P, "vpn_ipv4": VPN4}, errno.EINVAL, "vpn_ipv4"),
    (
        "9: vpn v6 in P2P",
        {"mode": dco.Mode.P2P, "vpn_ipv4": None, "vpn_ipv6": VPN6},
        errno.EINVAL,
        "vpn_ipv6",
    ),
    (
        "10: interval alone",
        {"keepalive_interval_s": 10, "keepalive_timeout_s": None},
        errno.EINVAL,
        "keepalive_timeout_s",
    ),
    (
        "10: timeout alone",
        {"keepalive_interval_s": None, "keepalive_timeout_s": 60},
        errno.EINVAL,
        "keepalive_interval_s",
    ),
    ("reserved id in MULTIPEER", {"peer_id": 0xFFFFFF}, errno.EINVAL, "peer_id"),
    # VPN addresses
    ("vpn loopback", {"vpn_ipv4": bytes([127, 0, 0, 1])}, errno.EINVAL, "vpn_ipv4"),
    ("vpn multicast", {"vpn_ipv4": bytes([224, 0, 0, 1])}, errno.EINVAL, "vpn_ipv4"),
    ("vpn broadcast", {"vpn_ipv4": b"\xff" * 4}, errno.EINVAL, "vpn_ipv4"),
    ("vpn ::1", {"vpn_ipv6": bytes(15) + b"\1"}, errno.EINVAL, "vpn_ipv6"),
    ("vpn v4-compatible", {"vpn_ipv6": bytes(12) + V4}, errno.EINVAL, "vpn_ipv6"),
    ("vpn v4-mapped", {"vpn_ipv6": V4_MAPPED}, errno.EINVAL, "vpn_ipv6"),
    ("vpn ff02::1", {"vpn_ipv6": b"\xff\2" + bytes(13) + b"\1"}, errno.EINVAL, "vpn_ipv6"),
]


@pytest.mark.parametrize(("change", "number", "attribute"), [row[1:] for row in PRECHECK],
                         ids=[row[0] for row in PRECHECK])  # fmt: skip
@pytest.mark.parametrize(
    ("table", "good"), [(PEER_NEW, GOOD_NEW), (PEER_SET, GOOD_SET)], ids=["new", "set"]
)
def test_peer_precheck(
    table: Any, good: PeerAttributes, change: dict[str, Any], number: int, attribute: str
) -> None:
    expect(refused(table, replace(good, **change)), number, attribute)


NEW_ONLY: list[tuple[str, dict[str, Any], int, str]] = [
    ("no socket", {"transport": None}, errno.EINVAL, "transport"),
    ("no vpn address", {"vpn_ipv4": None}, errno.EINVAL, "vpn_ipv4"),
    ("vpn 0.0.0.0", {"vpn_ipv4": bytes(4)}, errno.EINVAL, "vpn_ipv4"),
    ("vpn ::", {"vpn_ipv4": None, "vpn_ipv6": bytes(16)}, errno.EINVAL, "vpn_ipv4"),
    ("no socket any more", {"transport": "closed"}, errno.ENOTSOCK, "transport"),
    ("UDP without remote", {"remote_ipv4": None, "remote_port": None}, errno.EINVAL, "remote"),
    ("TCP with remote", {"transport": "tcp"}, errno.EINVAL, "remote"),
    ("a listener", {"transport": "listener"}, errno.EINVAL, "transport"),
]


@pytest.mark.parametrize(("change", "number", "attribute"), [row[1:] for row in NEW_ONLY],
                         ids=[row[0] for row in NEW_ONLY])  # fmt: skip
def test_peer_new(change: dict[str, Any], number: int, attribute: str) -> None:
    expect(refused(PEER_NEW, replace(GOOD_NEW, **change)), number, attribute)


def test_peer_set_takes_no_socket() -> None:
    expect(refused(PEER_SET, replace(GOOD_SET, transport="udp")), errno.EINVAL, "transport")


def test_good_peers_pass() -> None:
    check(PEER_NEW, GOOD_NEW)
    check(PEER_NEW, replace(GOOD_NEW, **P2P))
    check(PEER_NEW, replace(GOOD_NEW, **P2P, peer_id=0xFFFFFF))
    check(PEER_NEW, replace(GOOD_NEW, vpn_ipv4=None, vpn_ipv6=VPN6))
    check(PEER_NEW, replace(GOOD_NEW, tx_id=0xFFFFFF))
    check(PEER_NEW, replace(GOOD_NEW, **REMOTE_V6, local_ipv6=V6, remote_scope_id=3))
    for interval, timeout in ((0, 0), (10, 0), (0, 60), (10, 60)):
        keepalive = {"keepalive_interval_s": interval, "keepalive_timeout_s": timeout}
        check(PEER_SET, replace(GOOD_SET, **keepalive))
    # Clearing one family is legal in SET; whether the other remains, only the engine knows.
    check(PEER_SET, replace(GOOD_SET, vpn_ipv4=bytes(4)))
    check(PEER_SET, replace(GOOD_SET, vpn_ipv6=bytes(16)))
    check(PEER_SET, GOOD_SET)


def test_mapped_addresses_are_folded() -> None:
    peer = replace(GOOD_NEW, remote_ipv4=None, remote_ipv6=V4_MAPPED, local_ipv6=V4_MAPPED)
    check(PEER_NEW, peer)
    assert peer.remote == (V4, 1194, 0)
    assert peer.local == (V4, 0, 0)


def test_the_first_rule_in_the_drivers_order_speaks() -> None:
    # Everything is wrong; what is repaired uncovers the next.
    peer = replace(
        GOOD_NEW,
        peer_id=None,
        remote_ipv4=V4,
        remote_ipv6=V6,
        remote_port=None,
        local_ipv6=V6,
        keepalive_interval_s=1,
        transport=None,
        vpn_ipv4=bytes([127, 0, 0, 1]),
    )
    repairs: list[tuple[str, dict[str, Any]]] = [
        ("peer_id", {"peer_id": 7}),
        ("remote", {"remote_ipv6": None}),
        ("remote", {"remote_port": 1194}),
        ("local", {"local_ipv6": None}),
        ("keepalive_timeout_s", {"keepalive_timeout_s": 0}),
        ("transport", {"transport": "udp"}),
        ("vpn_ipv4", {"vpn_ipv4": VPN4}),
    ]
    for attribute, repair in repairs:
        assert refused(PEER_NEW, peer).attribute == attribute
        peer = replace(peer, **repair)
    check(PEER_NEW, peer)


GOOD_KEY = KeyAttributes(slot=dco.KeySlot.PRIMARY, key=key_pair()[0])
SHORT_TAIL = dco.KeyDirection(key=bytes(32), nonce_tail=bytes(7))
NO_KEY = dco.KeyDirection(key=b"", nonce_tail=bytes(8))
SHORT_KEY = dco.KeyDirection(key=bytes(31), nonce_tail=bytes(8))
NOT_BYTES = dco.KeyDirection(key="0" * 32, nonce_tail=bytes(8))  # type: ignore[arg-type]
GAPS = dco.KeyDirection(key=memoryview(bytes(64))[::2], nonce_tail=bytes(8))

KEY_ROWS: list[tuple[str, dict[str, Any], int, str]] = [
    ("key id 8", {"key_id": 8}, errno.ERANGE, "key_id"),
    ("key id -1", {"key_id": -1}, errno.ERANGE, "key_id"),
    ("key id none", {"key_id": None}, errno.ERANGE, "key_id"),
    ("cipher by name", {"cipher": "AES-256-GCM"}, errno.EINVAL, "cipher"),
    ("no encrypt", {"encrypt": None}, errno.EINVAL, "encrypt"),
    ("no decrypt", {"decrypt": None}, errno.EINVAL, "decrypt"),
    ("no encrypt key", {"encrypt": NO_KEY}, errno.EINVAL, "encrypt.key"),
    ("text as key", {"encrypt": NOT_BYTES}, errno.EINVAL, "encrypt.key"),
    ("key with gaps", {"encrypt": GAPS}, errno.EINVAL, "encrypt.key"),
    ("no decrypt key", {"decrypt": NO_KEY}, errno.EINVAL, "decrypt.key"),
    ("short encrypt tail", {"encrypt": SHORT_TAIL}, errno.EINVAL, "encrypt.nonce_tail"),
    ("short decrypt tail", {"decrypt": SHORT_TAIL}, errno.EINVAL, "decrypt.nonce_tail"),
    ("packet id 0", {"first_packet_id": 0}, errno.ERANGE, "first_packet_id"),
    ("packet id 2^32", {"first_packet_id": 1 << 32}, errno.ERANGE, "first_packet_id"),
    ("cipher none", {"cipher": dco.Cipher.NONE}, errno.EINVAL, "cipher"),
    ("short encrypt key", {"encrypt": SHORT_KEY}, errno.EINVAL, "encrypt.key"),
    ("short decrypt key", {"decrypt": SHORT_KEY}, errno.EINVAL, "decrypt.key"),
    ("key of another cipher", {"cipher": dco.Cipher.AES_128_GCM}, errno.EINVAL, "encrypt.key"),
]


@pytest.mark.parametrize(("change", "number", "attribute"), [row[1:] for row in KEY_ROWS],
                         ids=[row[0] for row in KEY_ROWS])  # fmt: skip
def test_key_new(change: dict[str, Any], number: int, attribute: str) -> None:
    key = replace(GOOD_KEY.key, **change)
    expect(refused(KEY_NEW, replace(GOOD_KEY, key=key)), number, attribute)


@pytest.mark.parametrize(
    ("slot", "number"), [(None, errno.EINVAL), (2, errno.ERANGE), (-1, errno.ERANGE)]
)
def test_key_slot(slot: Any, number: int) -> None:
    expect(refused(KEY_NEW, replace(GOOD_KEY, slot=slot)), number, "slot")


def test_something_else_as_key() -> None:
    expect(refused(KEY_NEW, KeyAttributes(slot=0, key=b"secret")), errno.EINVAL, "key")  # type: ignore[arg-type]


def test_good_keys_pass() -> None:
    for cipher in dco.Cipher:
        if cipher is not dco.Cipher.NONE:
            key = key_pair(key_id=7, cipher=cipher)[0]
            check(KEY_NEW, KeyAttributes(slot=dco.KeySlot.SECONDARY, key=key))
    view = dco.KeyDirection(key=memoryview(bytearray(32)), nonce_tail=bytearray(8))
    check(KEY_NEW, replace(GOOD_KEY, key=replace(GOOD_KEY.key, encrypt=view, decrypt=material())))


GOOD_EPOCH_KEY = EpochKeyAttributes(slot=dco.KeySlot.PRIMARY, key=epoch_pair()[0])
EPOCH_KEY_ROWS: list[tuple[str, dict[str, Any], int, str]] = [
    ("key id 8", {"key_id": 8}, errno.ERANGE, "key_id"),
    ("cipher by name", {"cipher": "AES-256-GCM"}, errno.EINVAL, "cipher"),
    ("no encrypt secret", {"encrypt_secret": b""}, errno.EINVAL, "encrypt_secret"),
    ("short encrypt secret", {"encrypt_secret": bytes(31)}, errno.EINVAL, "encrypt_secret"),
    ("long encrypt secret", {"encrypt_secret": bytes(33)}, errno.EINVAL, "encrypt_secret"),
    ("text as secret", {"encrypt_secret": "0" * 32}, errno.EINVAL, "encrypt_secret"),
    ("gaps", {"encrypt_secret": memoryview(bytes(64))[::2]}, errno.EINVAL, "encrypt_secret"),
    ("no decrypt secret", {"decrypt_secret": None}, errno.EINVAL, "decrypt_secret"),
    ("short secret, short key", {"decrypt_secret": bytes(16), "cipher": dco.Cipher.AES_128_GCM},
     errno.EINVAL, "decrypt_secret"),
    ("no future", {"future_epochs": 0}, errno.ERANGE, "future_epochs"),
    ("17 future epochs", {"future_epochs": 17}, errno.ERANGE, "future_epochs"),
    ("no number of epochs", {"future_epochs": None}, errno.ERANGE, "future_epochs"),
    ("epoch 0", {"first_epoch": 0}, errno.ERANGE, "first_epoch"),
    ("epoch 2^16", {"first_epoch": 1 << 16}, errno.ERANGE, "first_epoch"),
    ("packet id 0", {"first_packet_id": 0}, errno.ERANGE, "first_packet_id"),
    ("packet id 2^48", {"first_packet_id": 1 << 48}, errno.ERANGE, "first_packet_id"),
    ("cipher none", {"cipher": dco.Cipher.NONE}, errno.EINVAL, "cipher"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "number", "attribute"), [row[1:] for row in EPOCH_KEY_ROWS],
                         ids=[row[0] for row in EPOCH_KEY_ROWS])  # fmt: skip
def test_epoch_key_new(change: dict[str, Any], number: int, attribute: str) -> None:
    key = replace(GOOD_EPOCH_KEY.key, **change)
    expect(refused(EPOCH_KEY_NEW, replace(GOOD_EPOCH_KEY, key=key)), number, attribute)


def test_good_epoch_keys_pass() -> None:
    for cipher in dco.Cipher:
        if cipher is not dco.Cipher.NONE:
            check(EPOCH_KEY_NEW, replace(GOOD_EPOCH_KEY, key=epoch_pair(7, cipher)[0]))
    for change in (
        {"future_epochs": 1, "first_epoch": 1, "first_packet_id": 1},
        {"future_epochs": 16, "first_epoch": 65535, "first_packet_id": (1 << 48) - 1},
        {"encrypt_secret": memoryview(bytearray(32)), "decrypt_secret": bytearray(32)},
    ):
        check(EPOCH_KEY_NEW, replace(GOOD_EPOCH_KEY, key=replace(GOOD_EPOCH_KEY.key, **change)))  # type: ignore[arg-type]


GOOD_DEVICE = DeviceAttributes(name="ovpn0", mode=dco.Mode.P2P, mtu=1420, max_peers=1)
DEVICE_ROWS: list[tuple[str, dict[str, Any], int, str]] = [
    ("name empty", {"name": ""}, errno.EINVAL, "name"),
    ("name of 16 bytes", {"name": "a" * 16}, errno.EINVAL, "name"),
    ("name of 8 characters, 16 bytes", {"name": "ä" * 8}, errno.EINVAL, "name"),
    ("name with slash", {"name": "a/b"}, errno.EINVAL, "name"),
    ("name with space", {"name": "a b"}, errno.EINVAL, "name"),
    ("name with colon", {"name": "a:1"}, errno.EINVAL, "name"),
    ("name with zero byte", {"name": "a\0b"}, errno.EINVAL, "name"),
    ("name with %s", {"name": "tun%s"}, errno.EINVAL, "name"),
    ("name with two %d", {"name": "%d%d"}, errno.EINVAL, "name"),
    ("name ..", {"name": ".."}, errno.EINVAL, "name"),
    ("name of bytes", {"name": b"ovpn0"}, errno.EINVAL, "name"),
    ("mode by number", {"mode": 7}, errno.ERANGE, "mode"),
    ("mtu 67", {"mtu": 67}, errno.EINVAL, "mtu"),
    ("mtu 65452", {"mtu": 65452}, errno.EINVAL, "mtu"),
    ("no peers", {"max_peers": 0}, errno.ERANGE, "max_peers"),
    ("2^24 peers", {"max_peers": 1 << 24}, errno.ERANGE, "max_peers"),
    ("17 workers", {"workers": 17}, errno.ERANGE, "workers"),
    ("no workers", {"workers": 0}, errno.ERANGE, "workers"),
    (
        "one thread for two workers",
        {"workers": 2, "single_thread": True},
        errno.EINVAL,
        "single_thread",
    ),
    ("two descriptors for a worker", {"tun_fd": (3, 4)}, errno.EINVAL, "tun_fd"),
    ("no descriptor", {"tun_fd": ()}, errno.EINVAL, "tun_fd"),
    ("persist by number", {"persist": 1}, errno.EINVAL, "persist"),
    ("persist None", {"persist": None}, errno.EINVAL, "persist"),
    ("persist of tun_fd", {"persist": True, "tun_fd": (3,)}, errno.EINVAL, "persist"),
    ("owner without persist", {"owner": 1000}, errno.EINVAL, "owner"),
    ("owner -1", {"persist": True, "owner": -1}, errno.ERANGE, "owner"),
    ("owner nobody at all", {"persist": True, "owner": (1 << 32) - 1}, errno.ERANGE, "owner"),
]


@pytest.mark.parametrize(("change", "number", "attribute"), [row[1:] for row in DEVICE_ROWS],
                         ids=[row[0] for row in DEVICE_ROWS])  # fmt: skip
def test_device_open(change: dict[str, Any], number: int, attribute: str) -> None:
    expect(refused(DEVICE_OPEN, replace(GOOD_DEVICE, **change)), number, attribute)


@pytest.mark.parametrize("change", [{"name": "ovpn%d"}, {"name": "a" * 15}, {"mtu": 68},
                                    {"mtu": 65451}, {"workers": 16},
                                    {"workers": 1, "single_thread": True},
                                    {"workers": 2, "single_thread": False},
                                    {"workers": 2, "tun_fd": (3, 4)}, {"persist": True},
                                    {"persist": True, "owner": 0}])  # fmt: skip
def test_good_devices_pass(change: dict[str, Any]) -> None:
    check(DEVICE_OPEN, replace(GOOD_DEVICE, **change))


def test_every_rule_is_shown_to_refuse() -> None:
    """Each rule of each table is the first that holds in some row above."""
    subjects: list[tuple[Any, Any]] = []
    for change in (row[1] for row in PRECHECK):
        subjects.append((PEER_NEW, replace(GOOD_NEW, **change)))
        subjects.append((PEER_SET, replace(GOOD_SET, **change)))
    subjects += [(PEER_NEW, replace(GOOD_NEW, **row[1])) for row in NEW_ONLY]
    subjects.append((PEER_SET, replace(GOOD_SET, transport="udp")))
    for row in KEY_ROWS:
        subjects.append((KEY_NEW, replace(GOOD_KEY, key=replace(GOOD_KEY.key, **row[1]))))
    subjects += [(KEY_NEW, replace(GOOD_KEY, slot=slot)) for slot in (None, 2)]
    subjects.append((KEY_NEW, replace(GOOD_KEY, key=b"")))  # type: ignore[arg-type]
    for row in EPOCH_KEY_ROWS:
        subjects.append(
            (EPOCH_KEY_NEW, replace(GOOD_EPOCH_KEY, key=replace(GOOD_EPOCH_KEY.key, **row[1])))
        )
    subjects += [(EPOCH_KEY_NEW, replace(GOOD_EPOCH_KEY, slot=slot)) for slot in (None, 2)]
    subjects += [(DEVICE_OPEN, replace(GOOD_DEVICE, **row[1])) for row in DEVICE_ROWS]

    for table in (PEER_NEW, PEER_SET, KEY_NEW, EPOCH_KEY_NEW, DEVICE_OPEN):
        first = {
            next(i for i, rule in enumerate(table) if rule.condition(subject))
            for owner, subject in subjects
            if owner is table
        }
        silent = [rule.message for i, rule in enumerate(table) if i not in first]
        assert not silent


def test_answers_name_an_attribute() -> None:
    for (command, number), (attribute, message) in ANSWERS.items():
        error = answer(command, number, "")
        assert (error.errno, error.attribute) == (SAME.get(number, number), attribute)
        assert error.strerror == f"{attribute} {message}"
    assert answer("add_peer", errno.ENOMEM, "no memory").strerror == "add_peer: no memory"


def test_limits_are_the_wires() -> None:
    assert rules.PEER_ID_MAX == 2**24 - 1
    assert rules.KEY_ID_MAX == 2**3 - 1
    assert rules.EPOCH_MAX == 2**16 - 1
    assert rules.EPOCH_PACKET_ID_MAX == 2**48 - 1
    assert rules.FUTURE_EPOCHS_MAX == _core.EPOCH_FUTURES_MAX
