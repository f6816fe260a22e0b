"""Key files: what is read, what is written, and what a wrong file is told."""

from __future__ import annotations

import base64
import hashlib

import pytest
from control_packets import CLIENT_KEY, KEY, NOW, SERVER_KEY, seeded, single_bit_flips
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.errors import InvalidArgument
from ovpn_dco.protocol.errors import KeyFileError, ProtocolError, Refusal
from ovpn_dco.protocol.statickey import (
    MAX_CLIENT_KEY,
    ClientKey,
    Direction,
    Metadata,
    ServerKey,
    StaticKey,
    client_key_length,
    split_client_key,
)

BEGIN, END = "-----BEGIN OpenVPN Static key V1-----", "-----END OpenVPN Static key V1-----"


def fault(text: str | bytes, kind: type[StaticKey | ServerKey | ClientKey] = StaticKey) -> str:
    with pytest.raises(KeyFileError) as caught:
        kind.parse(text)
    return str(caught.value)


def test_file_of_a_static_key() -> None:
    lines = KEY.format().splitlines()
    assert (lines[0], lines[-1], len(lines)) == (BEGIN, END, 18)
    assert lines[1] == "000102030405060708090a0b0c0d0e0f"
    assert StaticKey.parse(KEY.format()) == KEY


def test_comments_spaces_and_line_ends() -> None:
    text = KEY.format().replace("\n", "  \r\n").replace("0a0b", "0A 0b\t")
    assert StaticKey.parse("#\n# 2048 bit key, ümlaut\n#\n" + text + "trailing words\n") == KEY
    assert StaticKey.parse(b"# \xff\xfe\n" + text.encode()) == KEY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no line '-----BEGIN OpenVPN Static key V1-----'"),
        (f"{BEGIN}\n00\n0g\n{END}\n", "line 3: character 2 is not a hex digit"),
        (f"# comment\n{BEGIN}\n00 0\n{END}\n", "odd number of hex digits (3)"),
        (f"{BEGIN}\n{'00' * 255}\n{END}\n", "a static key has 256 bytes, this file 255"),
        (f"{BEGIN}\n{'00' * 257}\n{END}\n", "a static key has 256 bytes, this file 257"),
        (f"{BEGIN}\n00\n", "line 2: the file ends before '-----END OpenVPN Static key V1-----'"),
        (BEGIN, "the file ends before"),
        (f"{BEGIN}\n00\n-----END other-----\n", "line 3: expected '-----END OpenVPN Static"),
    ],
)
def test_faults_of_a_static_key_file(text: str, message: str) -> None:
    assert message in fault(text)
    assert message in fault(text.encode())


def test_slices_and_directions() -> None:
    first, second = KEY.slice(0), KEY.slice(1)
    assert (first.cipher[0], first.hmac[0]) == (0, 64)
    assert (second.cipher[0], second.hmac[0]) == (128, 192)
    assert {len(part) for part in (*first, *second)} == {64}
    assert KEY.directed(Direction.NORMAL) == (first, second)
    assert KEY.directed(Direction.INVERSE) == (second, first)
    assert KEY.directed(Direction.BIDIRECTIONAL) == (first, first)


def test_direction_of_the_option() -> None:
    assert Direction.from_option(None) is Direction.BIDIRECTIONAL
    assert Direction.from_option("0") is Direction.NORMAL
    assert Direction.from_option("1") is Direction.INVERSE
    with pytest.raises(InvalidArgument, match="neither 0 nor 1"):
        Direction.from_option("2")


def test_keys_are_not_shown_and_compare_by_content() -> None:
    for key in (KEY, SERVER_KEY, CLIENT_KEY, KEY.slice(0)):
        assert "\\x" not in repr(key)
        assert "data" not in repr(key)
    assert StaticKey(bytes(256)) != KEY
    assert StaticKey(bytes(range(256))) == KEY
    assert KEY != SERVER_KEY
    with pytest.raises(TypeError):
        hash(KEY)


@pytest.mark.parametrize("size", [0, 255, 257])
def test_keys_have_their_size(size: int) -> None:
    with pytest.raises(InvalidArgument):
        StaticKey(bytes(size))
    with pytest.raises(InvalidArgument):
        ServerKey(bytes(size))


def test_generated_keys_differ_and_survive_their_file() -> None:
    draw = seeded()
    first, second = StaticKey.generate(draw), StaticKey.generate(draw)
    assert first != second
    assert StaticKey.parse(first.format()) == first
    server = ServerKey.generate(draw)
    assert ServerKey.parse(server.format()) == server
    client = server.issue(draw, Metadata.user(b"alice"))
    read = ClientKey.parse(client.format())
    assert (read.key, read.wrapped) == (client.key, client.wrapped)
    assert server.unwrap(read.wrapped) == (read.key, Metadata.user(b"alice"))


# Vector of control.md appendix A: server key 00..7f, Kc 00..ff, metadata 01 000000005f000000.


def test_wrapped_client_key_vector() -> None:
    wrapped = CLIENT_KEY.wrapped
    assert len(wrapped) == 299
    tag = "3f502e006529964895a21428df7ec07bc82689187fb197f4a50375d8d815c9e7"
    assert wrapped[:32].hex() == tag
    digest = "08724e21b952685a06daf74413f03b4b782aac6dda5f40f137714c78f97511d5"
    assert hashlib.sha256(wrapped).hexdigest() == digest
    assert SERVER_KEY.unwrap(wrapped) == (KEY, Metadata.timestamp(NOW))
    assert Metadata.timestamp(NOW).encode().hex() == "01000000005f000000"


def test_pem_of_a_client_key() -> None:
    lines = CLIENT_KEY.format().splitlines()
    assert lines[0] == "-----BEGIN OpenVPN tls-crypt-v2 client key-----"
    assert lines[-1] == "-----END OpenVPN tls-crypt-v2 client key-----"
    assert base64.b64decode("".join(lines[1:-1])) == KEY.data + CLIENT_KEY.wrapped


def pem(data: bytes, kind: str) -> str:
    body = base64.b64encode(data).decode()
    name = f"OpenVPN tls-crypt-v2 {kind} key"
    return f"-----BEGIN {name}-----\n{body}\n-----END {name}-----\n"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (pem(bytes(127), "server"), ServerKey, "has 128 bytes, this file 127"),
        (pem(bytes(128), "client"), ServerKey, "there is no line"),
        (pem(bytes(128), "server").replace("AA", "A!", 1), ServerKey, "line 2: character 2"),
        (pem(bytes(128), "server").replace("=", ""), ServerKey, "incomplete or wrongly padded"),
        (pem(bytes(545), "client"), ClientKey, "at least 546 bytes, this one 545"),
        (
            pem(KEY.data + CLIENT_KEY.wrapped + b"x", "client"),
            ClientKey,
            "wrapped key of 300 bytes says it has 11128",
        ),
        (
            pem(KEY.data + CLIENT_KEY.wrapped[1:], "client"),
            ClientKey,
            "wrapped key of 298 bytes says it has 299",
        ),
    ],
)
def test_faults_of_pem_files(text: str, kind: type[ServerKey | ClientKey], message: str) -> None:
    assert message in fault(text, kind)


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_file_is_a_key_or_a_fault(text: str | bytes) -> None:
    for kind in (StaticKey, ServerKey, ClientKey):
        fault(text, kind)


@given(st.text(alphabet="0123456789abcdefABCDEF \n-=+/x", max_size=200))
def test_any_content_is_a_key_or_a_fault(content: str) -> None:
    fault(f"{BEGIN}\n{content}\n{END}\n")
    fault(pem(b"", "client").replace("\n\n", f"\n{content}\n"), ClientKey)


# Metadata


def test_metadata_kinds() -> None:
    assert Metadata.decode(b"") == Metadata()
    assert Metadata().encode() == b""
    assert Metadata.decode(b"\0alice") == Metadata.user(b"alice")
    assert Metadata.user(b"alice").issued_at is None
    assert Metadata.timestamp(NOW + 0.9).issued_at == NOW
    assert Metadata.timestamp(-5).issued_at == -5
    assert Metadata.decode(b"\x07x") == Metadata(7, b"x")
    for size in (0, 7, 9):
        with pytest.raises(ProtocolError) as caught:
            Metadata.decode(b"\1" + bytes(size))
        assert caught.value.reason is Refusal.CLIENT_KEY_METADATA


def test_largest_metadata() -> None:
    wrapped = SERVER_KEY.wrap(KEY, Metadata.user(bytes(733)))
    assert len(wrapped) == MAX_CLIENT_KEY
    assert SERVER_KEY.unwrap(wrapped)[1] == Metadata.user(bytes(733))
    with pytest.raises(InvalidArgument, match="1 bytes of metadata too many"):
        SERVER_KEY.wrap(KEY, Metadata.user(bytes(734)))


def test_key_without_metadata_is_the_smallest() -> None:
    wrapped = SERVER_KEY.wrap(KEY, Metadata())
    assert len(wrapped) == 290
    assert SERVER_KEY.unwrap(wrapped) == (KEY, Metadata())


# Wrapped keys from strangers


def test_every_bit_of_a_wrapped_key_counts() -> None:
    for forged in single_bit_flips(CLIENT_KEY.wrapped):
        with pytest.raises(ProtocolError) as caught:
            SERVER_KEY.unwrap(forged)
        assert caught.value.reason in (Refusal.CLIENT_KEY_TAG, Refusal.CLIENT_KEY_LENGTH)


@pytest.mark.parametrize("stated", [0, 1, 2, 289, 301, 1025, 0x7FFF, 0xFFFF])
def test_stated_length_is_checked_before_use(stated: int) -> None:
    data = bytes(298) + stated.to_bytes(2, "big")
    assert client_key_length(data) is None
    with pytest.raises(ProtocolError) as caught:
        split_client_key(data)
    assert caught.value.reason is Refusal.CLIENT_KEY_LENGTH


def test_longest_client_key_is_bounded_even_where_the_packet_is_longer() -> None:
    assert client_key_length(bytes(2000) + (1024).to_bytes(2, "big")) == 1024
    assert client_key_length(bytes(2000) + (1025).to_bytes(2, "big")) is None


def test_packet_and_client_key_part() -> None:
    assert split_client_key(b"packet" + CLIENT_KEY.wrapped) == (b"packet", CLIENT_KEY.wrapped)


@given(st.binary(max_size=400))
def test_no_bytes_are_a_wrapped_key_by_chance(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        SERVER_KEY.unwrap(data)


def test_client_key_of_another_server() -> None:
    with pytest.raises(ProtocolError) as caught:
        ServerKey(bytes(128)).unwrap(CLIENT_KEY.wrapped)
    assert caught.value.reason is Refusal.CLIENT_KEY_TAG


def test_client_key_needs_a_whole_wrapped_part() -> None:
    with pytest.raises(InvalidArgument):
        ClientKey(KEY, CLIENT_KEY.wrapped[:-1])
