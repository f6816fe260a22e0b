"""The options compatibility string: as stock peers send it, and what a difference means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.model import Cipher
from ovpn_dco.protocol.occ import (
    MAX_OPTIONS,
    Compatibility,
    compare,
    describe,
    parse_options_string,
)
from ovpn_dco.protocol.text import TextRefused

# Strings of stock peers.
CLIENT = (
    "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,auth SHA1,keysize 128,"
    "key-method 2,tls-client"
)
SERVER = (
    "V4,dev-type tun,link-mtu 1553,tun-mtu 1500,proto UDPv4,keydir 0,auth SHA256,keysize 128,"
    "tls-auth,key-method 2,tls-server"
)


def test_ours_are_those_of_stock_peers() -> None:
    assert str(describe(server=False)) == CLIENT
    assert str(describe(server=True, auth="SHA256", tls_auth=True, key_direction=0)) == SERVER


@pytest.mark.parametrize("text", [CLIENT, SERVER, ""])
def test_read_and_built_again(text: str) -> None:
    assert str(parse_options_string(text.encode())) == text


def test_no_digest_at_all() -> None:
    items = describe(server=False, auth="none").items
    assert (items["auth"], items["link-mtu"]) == ("[null-digest]", "1521")
    with pytest.raises(TextRefused, match="auth is no digest"):
        describe(server=False, auth="ROT13")


def test_two_ends_of_one_tunnel_agree() -> None:
    client = describe(server=False, transport="TCPv4", tls_auth=True, key_direction=1)
    server = describe(server=True, transport="TCPv6", tls_auth=True, key_direction=0)
    assert compare(client, server) == ()
    assert compare(server, client) == ()


def test_a_difference_is_named_and_not_fatal() -> None:
    ours = describe(server=True, tls_auth=True, key_direction=0)
    theirs = parse_options_string(CLIENT.replace("dev-type tun", "dev-type tap").encode())
    found = {item.item: item for item in compare(ours, theirs)}
    assert found.keys() == {"dev-type", "keydir", "tls-auth"}
    assert (found["dev-type"].expected, found["dev-type"].received) == ("tun", "tap")
    assert found["tls-auth"].received is None
    assert not any(item.fatal for item in found.values())


def test_compression_framing_is_fatal() -> None:
    theirs = parse_options_string(CLIENT.replace(",auth", ",comp-lzo,auth").encode())
    assert theirs.has_compression_framing
    (found,) = compare(describe(server=True), theirs)
    assert found.fatal
    assert found.item == "comp-lzo"


def test_what_is_negotiated_otherwise_is_not_compared() -> None:
    ours = describe(server=True, cipher=Cipher.AES_256_GCM)
    theirs = parse_options_string(b"V4,dev-type tun,tun-mtu 9000,proto UDPv4,cipher BF-CBC,"
                                  b"key-method 2,tls-client")  # fmt: skip
    assert compare(ours, theirs) == ()
    assert theirs.cipher_name == "BF-CBC"


def test_empty_and_foreign_strings_differ_in_nothing() -> None:
    for data in (b"", b"V9,what,ever", b"hello"):
        assert compare(describe(server=True), parse_options_string(data)) == ()


def test_limits() -> None:
    assert parse_options_string(b"V4," + b"x" * (MAX_OPTIONS - 4)).items
    with pytest.raises(TextRefused, match="longer"):
        parse_options_string(b"V4," + b"x" * (MAX_OPTIONS - 3))
    with pytest.raises(TextRefused, match=r"U\+000A"):
        parse_options_string(b"V4,a\nb")


@pytest.mark.parametrize("wrong", [{"auth": "ROT13"}, {"transport": "SCTP"}])
def test_settings_that_make_no_sense(wrong: dict[str, str]) -> None:
    with pytest.raises(TextRefused):
        describe(server=True, **wrong)  # type: ignore[arg-type]


@given(st.binary(max_size=600))
def test_any_bytes(data: bytes) -> None:
    try:
        theirs = parse_options_string(data)
    except TextRefused:
        return
    assert isinstance(theirs, Compatibility)
    for item in compare(describe(server=True), theirs):
        assert item.expected != item.received


@given(
    st.dictionaries(st.from_regex(r"[a-z-]{1,12}", fullmatch=True), st.just("") | st.just("1 2"))
)
def test_any_items(items: dict[str, str]) -> None:
    built = Compatibility(items)
    if len(str(built)) < MAX_OPTIONS and len(items) < 64:
        assert parse_options_string(str(built).encode()).items == items
