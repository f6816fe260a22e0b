"""DATA_V2 packets that an independent implementation made, byte for byte.

Keys are ascending bytes, the nonce tail is a0 a1 .. a7, the plaintext is the keepalive message."""

from __future__ import annotations

import pytest
from loopback import KEEPALIVE, eventually, host, udp_socket

import ovpn_dco as dco
from ovpn_dco import _core

KEY = bytes(range(32))
NONCE_TAIL = bytes(range(0xA0, 0xA8))
KEY_ID, PEER_ID = 5, 0x0A0B0C

PACKETS = {
    dco.Cipher.AES_128_GCM: "4d0a0b0c0000000104a00a61f0ca658070a9d54ed7c2626d"
    "691621137235f102537dd621339b07c5",
    dco.Cipher.AES_192_GCM: "4d0a0b0c000000012708be6100b3b9739073b0c7d28dfae3"
    "eb62ce5be153a31166b97125e74b0664",
    dco.Cipher.AES_256_GCM: "4d0a0b0c000000016c88480da5f7ef9cfc75f38f8d17f86f"
    "e671c9ca01004182ec61d9527e066908",
    dco.Cipher.CHACHA20_POLY1305: "4d0a0b0c00000001d9a14b5399f941fe8e614cfd319321f1"
    "99b987822cb818b430ffa112b1c9b1ed",
}
EMPTY_NEAR_THE_END = "48000001fffffffe3b55d78fa7cb3115c29e7a39a23bcfca"

each = pytest.mark.parametrize("cipher", PACKETS, ids=lambda cipher: cipher.name)
#: Every code that this processor can run: OpenSSL's, and for AES our own.
each_code = pytest.mark.parametrize(
    ("cipher", "own"),
    [
        pytest.param(cipher, own, id=f"{cipher.name}-{own or 'openssl'}")
        for cipher in PACKETS
        for own in (_core.GCM_KINDS if cipher.number == 1 else (0,))
    ],
)


def packet_key(cipher: dco.Cipher, own: int) -> _core.PacketKey:
    return _core.PacketKey(cipher.number, KEY[: cipher.key_size], NONCE_TAIL, own=own)


@each_code
def test_codec(cipher: dco.Cipher, own: int) -> None:
    expected = bytes.fromhex(PACKETS[cipher])
    key = packet_key(cipher, own)
    assert key.seal(KEY_ID, PEER_ID, 1, KEEPALIVE) == expected
    assert key.open(expected) == KEEPALIVE


@each_code
def test_every_bit_counts(cipher: dco.Cipher, own: int) -> None:
    packet = bytes.fromhex(PACKETS[cipher])
    key = packet_key(cipher, own)
    for bit in range(8 * len(packet)):
        changed = bytearray(packet)
        changed[bit // 8] ^= 1 << bit % 8
        assert key.open(bytes(changed)) is None
    for size in range(len(packet)):
        assert key.open(packet[:size]) is None


@pytest.mark.parametrize("own", _core.GCM_KINDS)
def test_empty_plaintext(own: int) -> None:
    key = packet_key(dco.Cipher.AES_256_GCM, own)
    assert key.seal(0, 1, 0xFFFFFFFE, b"").hex() == EMPTY_NEAR_THE_END
    assert key.open(bytes.fromhex(EMPTY_NEAR_THE_END)) == b""


@pytest.mark.parametrize("offloads", [dco.Offload.ALL, dco.Offload.ALL & ~dco.Offload.VAES_GCM])
@each
def test_on_the_wire_of_a_device(cipher: dco.Cipher, offloads: dco.Offload) -> None:
    direction = dco.KeyDirection(key=KEY[: cipher.key_size], nonce_tail=NONCE_TAIL)
    key = dco.DataKey(key_id=KEY_ID, cipher=cipher, encrypt=direction, decrypt=direction)
    packet = bytes.fromhex(PACKETS[cipher])
    with host(dco.Mode.P2P, offloads=offloads) as h, udp_socket() as far:
        peer = h.device.add_peer(PEER_ID, h.transport, remote=far.getsockname())
        peer.install_key(dco.KeySlot.PRIMARY, key)
        peer.set_keepalive(interval_s=1, timeout_s=0)
        assert far.recv(2048) == packet
        far.sendto(packet, h.address)
        eventually(lambda: peer.stats().keepalive_rx == 1, "keepalive taken")
        assert not h.drops()
