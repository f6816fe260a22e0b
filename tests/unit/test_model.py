from __future__ import annotations

import dataclasses

import pytest
from loopback import epoch_pair, key_pair, material

import ovpn_dco as dco
from ovpn_dco import _core


def test_numbers_are_the_kernels() -> None:
    assert [int(mode) for mode in (dco.Mode.P2P, dco.Mode.MULTIPEER)] == [0, 1]
    assert [int(slot) for slot in (dco.KeySlot.PRIMARY, dco.KeySlot.SECONDARY)] == [0, 1]
    assert {reason.name: int(reason) for reason in dco.DeleteReason} == {
        "TEARDOWN": 0,
        "USERSPACE": 1,
        "EXPIRED": 2,
        "TRANSPORT_ERROR": 3,
        "TRANSPORT_DISCONNECT": 4,
    }
    assert {cipher.name: (cipher.number, cipher.key_size) for cipher in dco.Cipher} == {
        "NONE": (0, 0),
        "AES_128_GCM": (1, 16),
        "AES_192_GCM": (1, 24),
        "AES_256_GCM": (1, 32),
        "CHACHA20_POLY1305": (2, 32),
    }


def test_ciphers_are_found_by_name_and_by_number() -> None:
    assert dco.Cipher("aes-256-gcm") is dco.Cipher.AES_256_GCM
    assert dco.Cipher("ChaCha20-Poly1305") is dco.Cipher.CHACHA20_POLY1305
    with pytest.raises(ValueError):
        dco.Cipher("BF-CBC")
    for cipher in dco.Cipher:
        assert dco.Cipher.find(cipher.number, cipher.key_size) is cipher
    with pytest.raises(ValueError):
        dco.Cipher.find(1, 20)


def test_drop_reasons_are_the_cores_table() -> None:
    assert [(reason.name.lower(), reason.text) for reason in dco.DropReason] == list(_core.DROPS)
    assert [reason.value for reason in dco.DropReason] == list(range(1, len(_core.DROPS) + 1))


def test_counters_are_the_cores_tables() -> None:
    assert {f.name for f in dataclasses.fields(dco.PeerStats)} == set(_core.PEER_COUNTERS)
    others = {"drops", "tx_batches", "rx_batches", "peers", "transports", "retired", "offloads"}
    fields = {f.name for f in dataclasses.fields(dco.DeviceStats)}
    assert fields == set(_core.ENGINE_COUNTERS) | others


def test_offloads_are_the_cores_bits() -> None:
    assert dco.Offload.ALL.value == _core.OFFLOAD_ALL
    assert len(dco.Offload.ALL.names) == 11
    assert dco.Offload.NONE.names == ()
    chosen = dco.Offload.UDP_GSO | dco.Offload.TUN_TSO
    assert chosen.names == ("tun_tso", "udp_gso")


def test_offloads_say_what_is_on_and_what_was_disabled() -> None:
    report = dco.Offloads(
        allowed=dco.Offload.ALL & ~dco.Offload.UDP_GRO, active=dco.Offload.UDP_GSO
    )
    assert "udp_gso on" in str(report)
    assert "udp_gro off (disabled)" in str(report)
    assert "tun_tso off," in str(report)


def test_key_material_is_never_shown() -> None:
    key = key_pair()[0]
    text = repr(key) + str(key) + repr(key.encrypt)
    assert bytes(key.encrypt.key).hex() not in text
    assert repr(bytes(key.encrypt.key)) not in text
    assert repr(bytes(key.decrypt.nonce_tail)) not in text
    assert "AES_256_GCM" in text


def test_keys_compare_by_material_of_any_buffer_type() -> None:
    one = material()
    same = dco.KeyDirection(key=bytearray(one.key), nonce_tail=memoryview(one.nonce_tail))
    assert one == same
    assert one != dco.KeyDirection(key=one.key, nonce_tail=b"12345678")
    assert one != material(seed=2)
    assert one != "something else"
    assert key_pair()[0] == key_pair()[0]
    assert key_pair()[0] != key_pair()[1]
    assert key_pair(key_id=1)[0] != key_pair(key_id=2)[0]
    with pytest.raises(TypeError):
        hash(one)


def test_epoch_secrets_are_never_shown() -> None:
    key = epoch_pair()[0]
    for secret in (bytes(key.encrypt_secret), bytes(key.decrypt_secret)):
        for text in (repr(key), str(key)):
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
    assert "AES_256_GCM" in repr(key)


def test_epoch_keys_compare_by_secrets_of_any_buffer_type() -> None:
    one, other = epoch_pair()
    secret = bytearray(one.encrypt_secret)
    same = dataclasses.replace(one, encrypt_secret=memoryview(secret))
    assert one == same
    secret[31] ^= 1
    assert one != same
    assert one != other
    assert one != key_pair()[0]
    for change in (
        {"key_id": 3},
        {"cipher": dco.Cipher.AES_128_GCM},
        {"decrypt_secret": bytes(32)},
        {"future_epochs": 5},
        {"first_epoch": 2},
        {"first_packet_id": 2},
    ):
        assert one != dataclasses.replace(one, **change)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        hash(one)


def test_defaults_of_an_epoch_key() -> None:
    key = dco.EpochKey(1, dco.Cipher.AES_256_GCM, bytes(32), bytes(32))
    assert (key.future_epochs, key.first_epoch, key.first_packet_id) == (4, 1, 1)


def test_values_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        epoch_pair()[0].encrypt_secret = bytes(32)  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        key_pair()[0].key_id = 3  # type: ignore[misc]


def test_rates_before_the_first_packet() -> None:
    zero = dict.fromkeys(_core.ENGINE_COUNTERS, 0)
    nothing = dco.Offloads(dco.Offload.NONE, dco.Offload.NONE)
    totals = {"drops": {}, "tx_batches": (), "rx_batches": (), "peers": 0, "transports": 0}
    stats = dco.DeviceStats(**zero, **totals, retired=0, offloads=nothing)  # type: ignore[arg-type]
    assert stats.packets_per_send == stats.packets_per_receive == 0
    stats = dataclasses.replace(stats, udp_sends=2, udp_send_packets=10)
    assert stats.packets_per_send == 5


def test_stats_table_is_columnar() -> None:
    buffer = bytearray()
    for value in (1, 2, 30, 40):
        buffer += value.to_bytes(8, "little")
    table = dco.StatsTable(("id", "bytes"), 2, buffer)
    assert list(table) == ["id", "bytes"]
    assert len(table) == 2
    assert table["bytes"].tolist() == [30, 40]
    with pytest.raises(KeyError):
        table["nonesuch"]
