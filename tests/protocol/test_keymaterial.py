"""Key method 2: the message, the pseudo-random function, and the slices of the key block."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.errors import InvalidArgument, OutOfRange
from ovpn_dco.model import Cipher
from ovpn_dco.protocol.keymaterial import (
    KeyMessage,
    KeyMessageError,
    KeySource,
    data_key,
    decode_key_message,
    encode_key_message,
    epoch_key,
    key_block_from_sources,
    key_block_from_tls,
    next_key_id,
    tls1_prf,
)
from ovpn_dco.protocol.role import Role

CLIENT_SOURCE = KeySource.split(bytes(range(0x70)), Role.CLIENT)
SERVER_SOURCE = KeySource.split(bytes(range(0x80, 0xC0)), Role.SERVER)
CLIENT_SESSION, SERVER_SESSION = bytes.fromhex("0102030405060708"), bytes(range(0x11, 0x19))
BLOCK = bytes(range(256))


def expected_block() -> bytes:
    return key_block_from_sources(
        CLIENT_SOURCE,
        SERVER_SOURCE,
        client_session_id=CLIENT_SESSION,
        server_session_id=SERVER_SESSION,
    )


def test_key_block_is_that_of_stock_peers() -> None:
    block = expected_block()
    assert block[:64].hex() == (
        "eeb0340489c32901dc0224d2433f10a336a54cfb24955b0e5f899549db65db6f"
        "4b35b9385f52f5b65b32db164d82c198361cf684aede32e4e51d8b8a258dca54"
    )
    digest = "03d6d62ea2521ac2a2933847fdb6be4811b375243e41c60968df9ef61546ddef"
    assert hashlib.sha256(block).hexdigest() == digest
    assert len(block) == 256


def test_prf_is_a_prefix_of_a_longer_one_and_takes_odd_secrets() -> None:
    assert tls1_prf(b"abc", b"seed", 100).startswith(tls1_prf(b"abc", b"seed", 37))
    # An odd secret has its middle byte in both halves.
    assert tls1_prf(b"abc", b"seed", 16) != tls1_prf(b"ab", b"seed", 16)
    assert tls1_prf(b"x", b"", 0) == b""


def test_session_ids_have_eight_bytes() -> None:
    with pytest.raises(InvalidArgument, match="8 bytes"):
        key_block_from_sources(
            CLIENT_SOURCE, SERVER_SOURCE, client_session_id=b"short", server_session_id=bytes(8)
        )


def test_exporter_is_asked_without_context() -> None:
    calls = []

    def export(label: bytes, size: int) -> bytes:
        calls.append((label, size))
        return BLOCK

    assert key_block_from_tls(export) == BLOCK
    assert calls == [(b"EXPORTER-OpenVPN-datakeys", 256)]


def test_client_seals_with_the_first_half() -> None:
    key = data_key(BLOCK, Role.CLIENT, key_id=3, cipher=Cipher.AES_256_GCM)
    assert (key.key_id, key.cipher) == (3, Cipher.AES_256_GCM)
    assert (key.encrypt.key, key.encrypt.nonce_tail) == (BLOCK[:32], BLOCK[64:72])
    assert (key.decrypt.key, key.decrypt.nonce_tail) == (BLOCK[128:160], BLOCK[192:200])
    # install_key(consume=True) clears what it can.
    assert isinstance(key.encrypt.key, bytearray)


@pytest.mark.parametrize("cipher", [one for one in Cipher if one is not Cipher.NONE])
def test_server_is_the_mirror_of_the_client(cipher: Cipher) -> None:
    client = data_key(BLOCK, Role.CLIENT, key_id=0, cipher=cipher)
    server = data_key(BLOCK, Role.SERVER, key_id=0, cipher=cipher)
    assert (client.encrypt, client.decrypt) == (server.decrypt, server.encrypt)
    assert len(client.encrypt.key) == cipher.key_size


def test_epoch_secrets_are_mirrored_too() -> None:
    client = epoch_key(BLOCK, Role.CLIENT, key_id=1, cipher=Cipher.AES_128_GCM)
    server = epoch_key(BLOCK, Role.SERVER, key_id=1, cipher=Cipher.AES_128_GCM, future_epochs=9)
    assert client.encrypt_secret == server.decrypt_secret == BLOCK[:32]
    assert client.decrypt_secret == server.encrypt_secret == BLOCK[128:160]
    assert (client.future_epochs, server.future_epochs) == (4, 9)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("half", [0, 128])
def test_key_of_zeros_is_refused(role: Role, half: int) -> None:
    block = bytearray(b"\1" * 256)
    block[half : half + 32] = bytes(32)
    with pytest.raises(KeyMessageError, match="zeros"):
        data_key(bytes(block), role, key_id=0, cipher=Cipher.AES_256_GCM)
    with pytest.raises(KeyMessageError, match="zeros"):
        epoch_key(bytes(block), role, key_id=0, cipher=Cipher.AES_256_GCM)


def test_no_cipher_and_no_block_give_no_key() -> None:
    with pytest.raises(InvalidArgument):
        data_key(BLOCK, Role.CLIENT, key_id=0, cipher=Cipher.NONE)
    with pytest.raises(InvalidArgument, match="255"):
        data_key(BLOCK[1:], Role.CLIENT, key_id=0, cipher=Cipher.AES_256_GCM)


def test_key_ids_go_round_without_zero() -> None:
    ids = [0]
    for _ in range(9):
        ids.append(next_key_id(ids[-1]))
    assert ids == [0, 1, 2, 3, 4, 5, 6, 7, 1, 2]


# The message


def test_message_of_the_client_byte_by_byte() -> None:
    message = KeyMessage(source=CLIENT_SOURCE, options="V4", username="u", password="p")
    encoded = encode_key_message(message, Role.CLIENT)
    texts = b"\0\3V4\0" + b"\0\2u\0" + b"\0\2p\0" + b"\0\0"
    assert encoded == bytes(4) + b"\2" + bytes(range(0x70)) + texts
    assert decode_key_message(encoded, Role.CLIENT) == message


def test_message_of_the_server_has_no_pre_master() -> None:
    encoded = encode_key_message(KeyMessage(source=SERVER_SOURCE), Role.SERVER)
    assert len(encoded) == 5 + 64 + 4 * 2
    assert decode_key_message(encoded, Role.SERVER).source == SERVER_SOURCE


def test_secrets_are_not_shown() -> None:
    message = KeyMessage(source=CLIENT_SOURCE, password="hunter2")
    assert "hunter2" not in repr(message)
    assert repr(CLIENT_SOURCE) == "KeySource()"


def test_random_bytes_come_from_where_they_were_asked() -> None:
    drawn = []

    def random_bytes(size: int) -> bytes:
        drawn.append(size)
        return bytes([len(drawn)]) * size

    assert len(bytes(KeySource.generate(Role.CLIENT, random_bytes))) == 112
    assert len(bytes(KeySource.generate(Role.SERVER, random_bytes))) == 64
    assert drawn == [48, 32, 32, 32, 32]


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_old_peers_leave_texts_out(missing: int) -> None:
    whole = encode_key_message(KeyMessage(source=CLIENT_SOURCE, options="V4"), Role.CLIENT)
    message = decode_key_message(whole[: -2 * missing], Role.CLIENT)
    assert (message.options, message.username, message.peer_info) == ("V4", "", "")


def head(role: Role = Role.CLIENT) -> bytes:
    return bytes(4) + b"\2" + bytes(CLIENT_SOURCE if role is Role.CLIENT else SERVER_SOURCE)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no key message"),
        (bytes(4), "no key message"),
        (b"\0\0\0\1\2" + bytes(112), "no key message"),
        (bytes(4) + b"\1" + bytes(112), "key method 1"),
        (head()[:-1], "random bytes"),
        (head() + b"\0", "cut off"),
        (head() + b"\0\5V4\0", "cut off"),
        (head() + b"\0\2V4", "NUL"),
        (head() + b"\0\4V\0004\0"[:6], "NUL"),
        (head() + b"\2\1" + b"x" * 512 + b"\0", "options of 512"),
        (head() + bytes(2048), "2165 bytes"),
    ],
)
def test_malformed_message_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(KeyMessageError, match=why):
        decode_key_message(data, Role.CLIENT)


def test_upper_bits_of_the_method_are_ignored() -> None:
    data = bytearray(head())
    data[4] = 0x52
    assert decode_key_message(bytes(data), Role.CLIENT).source == CLIENT_SOURCE


def test_options_may_have_511_bytes() -> None:
    encoded = encode_key_message(KeyMessage(source=CLIENT_SOURCE, options="o" * 511), Role.CLIENT)
    assert decode_key_message(encoded, Role.CLIENT).options == "o" * 511


@pytest.mark.parametrize("field", ["username", "password"])
def test_long_credentials_are_a_failed_login_not_an_error(field: str) -> None:
    text = b"c" * 128
    wire = len(text + b"\0").to_bytes(2, "big") + text + b"\0"
    texts = b"\0\0" + (wire + b"\0\0" if field == "username" else b"\0\0" + wire)
    message = decode_key_message(head() + texts, Role.CLIENT)
    assert message.credentials_too_long
    assert (message.username, message.password) == ("", "")


def test_credentials_become_harmless() -> None:
    message = KeyMessage(
        source=CLIENT_SOURCE, username="a\r\nb\x7fä", password="\x1b[1m", peer_info="IV_VER=1\tx\n"
    )
    decoded = decode_key_message(encode_key_message(message, Role.CLIENT), Role.CLIENT)
    assert (decoded.username, decoded.password) == ("a__b_ä", "_[1m")
    assert decoded.peer_info == "IV_VER=1_x\n"


@pytest.mark.parametrize(
    ("field", "size"), [("options", 512), ("username", 128), ("password", 128), ("peer_info", 2048)]
)
def test_long_fields_are_not_sent(field: str, size: int) -> None:
    with pytest.raises(OutOfRange) as caught:
        encode_key_message(KeyMessage(source=CLIENT_SOURCE, **{field: "x" * size}), Role.CLIENT)
    assert caught.value.attribute == field
    assert "xxx" not in str(caught.value)


def test_what_makes_no_message_is_not_sent() -> None:
    with pytest.raises(OutOfRange, match="key message"):
        encode_key_message(KeyMessage(source=CLIENT_SOURCE, peer_info="x" * 2040), Role.CLIENT)
    with pytest.raises(InvalidArgument, match="NUL"):
        encode_key_message(KeyMessage(source=CLIENT_SOURCE, username="a\0b"), Role.CLIENT)
    with pytest.raises(InvalidArgument, match="role"):
        encode_key_message(KeyMessage(source=CLIENT_SOURCE), Role.SERVER)


plain = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffd"))


@given(
    role=st.sampled_from(Role),
    options=plain.map(lambda t: t[:60]),
    username=plain.map(lambda t: t[:31]),
    password=plain.map(lambda t: t[:31]),
    lines=st.lists(plain.map(lambda t: t[:20]), max_size=5),
)
def test_messages_survive_the_wire(
    role: Role, options: str, username: str, password: str, lines: list[str]
) -> None:
    message = KeyMessage(
        source=CLIENT_SOURCE if role is Role.CLIENT else SERVER_SOURCE,
        options=options,
        username=username,
        password=password,
        peer_info="\n".join(lines),
    )
    assert decode_key_message(encode_key_message(message, role), role) == message


@given(st.sampled_from(Role), st.one_of(st.binary(max_size=400), st.binary().map(head().__add__)))
def test_any_bytes_give_a_message_or_its_error(role: Role, data: bytes) -> None:
    try:
        message = decode_key_message(data, role)
    except KeyMessageError:
        return
    assert len(message.options) < 512
    assert not set("\r\n\0\x7f") & set(message.username + message.password)
