"""Peer info: the bits of IV_PROTO, the grammar of lines, and what is built is what is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.model import DEFAULT_CIPHERS, Cipher
from ovpn_dco.protocol.peerinfo import (
    MAX_LINES,
    MAX_PEER_INFO,
    OUR_PROTO,
    Announcement,
    IvProto,
    announce,
    parse_peer_info,
    proto_for,
)
from ovpn_dco.protocol.text import TextRefused


def test_bits_of_real_peers() -> None:
    assert int(OUR_PROTO) == 2974
    everything = proto_for(pull=True, epoch=True, push_update=True)
    assert int(everything) == 8094  # what a stock client of the newest branch says
    of_2_6 = IvProto(990)
    assert IvProto.DNS_OPTION in of_2_6
    assert IvProto.DATA_EPOCH not in of_2_6


def test_equals_do_not_announce_what_only_pulling_clients_can_do() -> None:
    proto = proto_for(pull=False, epoch=True)
    assert IvProto.NCP_P2P in proto
    assert IvProto.REQUEST_PUSH not in proto
    assert IvProto.AUTH_FAIL_TEMP not in proto
    assert IvProto.NCP_P2P not in proto_for(pull=True, epoch=True)


def test_features_can_be_switched_off_but_not_data_v2() -> None:
    proto = proto_for(pull=True, epoch=True, without=IvProto.DATA_EPOCH | IvProto.DATA_V2)
    assert proto == OUR_PROTO


def test_our_lines() -> None:
    built = announce(
        version="2.6.14",
        platform="linux",
        proto=OUR_PROTO,
        ciphers=DEFAULT_CIPHERS,
        sso_methods=["webauth", "crtext"],
        extra={"UV_ROLE": "a b"},
    )
    assert str(built) == (
        "IV_VER=2.6.14\nIV_PLAT=linux\nIV_TCPNL=1\nIV_MTU=1600\nIV_NCP=2\n"
        "IV_CIPHERS=AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305\nIV_PROTO=2974\n"
        "IV_SSO=crtext,webauth\nUV_ROLE=a b\n"
    )
    read = parse_peer_info(str(built).encode())
    assert read == built
    assert (read.version, read.platform, read.mtu_max) == ("2.6.14", "linux", 1600)
    assert read.sso_methods == {"webauth", "crtext"}


def test_legacy_ncp_only_with_both_ciphers() -> None:
    built = announce(
        version="1",
        platform="linux",
        proto=OUR_PROTO,
        ciphers=[Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305],
        mtu_max=None,
    )
    assert built.ncp_version == 0
    assert built.mtu_max is None
    assert "IV_LZO" not in str(built)


def test_nothing_announced() -> None:
    nobody = parse_peer_info(b"")
    assert nobody == Announcement()
    assert (nobody.proto, nobody.cipher_names, nobody.peer_id) == (IvProto(0), None, None)


@pytest.mark.parametrize(("value", "proto"), [("2", 2), ("990", 990), ("8", 0), ("-2", 0)])
def test_without_data_v2_no_bit_counts(value: str, proto: int) -> None:
    assert parse_peer_info(f"IV_PROTO={value}\n".encode()).proto == IvProto(proto)


@pytest.mark.parametrize("value", ["", "x", "2x", "0x2", "\u0662", "9" * 30, "2.0", " 2"])
def test_number_that_is_none(value: str) -> None:
    assert parse_peer_info(f"IV_PROTO={value}\n".encode()).proto == IvProto(0)


@pytest.mark.parametrize(
    ("value", "peer_id"),
    [("a", 10), ("00FfFF", 65535), ("", None), ("-1", None), ("1000000", None)],
)
def test_peer_id(value: str, peer_id: int | None) -> None:
    assert parse_peer_info(f"ID={value}\n".encode()).peer_id == peer_id


@pytest.mark.parametrize(
    "line",
    [b"no equals", b"=x", b"1X=x", b"A B=x", b"IV_VER=a\tb", b"IV_VER=\xff",
    b"IV_VER=" + b"x" * 512,
     b"IV_VER=a\r", b"IV_VER=a\xe2\x80\xa8b", b"LD-PRELOAD=x"],
)  # fmt: skip
def test_bad_line_is_left_out_and_named(line: bytes) -> None:
    read = parse_peer_info(b"IV_PLAT=linux\n" + line + b"\nIV_NCP=2\n")
    assert dict(read.values) == {"IV_PLAT": "linux", "IV_NCP": "2"}
    assert len(read.refused) == 1
    assert read.refused[0].isprintable()


def test_first_of_two_counts() -> None:
    read = parse_peer_info(b"IV_CIPHERS=AES-256-GCM\nIV_CIPHERS=none\n")
    assert read.cipher_names == ("AES-256-GCM",)
    assert read.refused


def test_limits() -> None:
    with pytest.raises(TextRefused, match="longer"):
        parse_peer_info(b"A" * (MAX_PEER_INFO + 1))
    read = parse_peer_info(b"".join(b"A%d=\n" % n for n in range(MAX_LINES + 1)))
    assert len(read.values) == MAX_LINES
    assert read.refused == (f"1 lines after the first {MAX_LINES}",)


def test_hooks_see_shared_names_only() -> None:
    read = parse_peer_info(b"IV_VER=1\nUV_X=2\nPATH=/tmp\nID=3\n")
    assert read.environment == {"IV_VER": "1", "UV_X": "2"}


@pytest.mark.parametrize(
    "extra",
    [{"PATH": "x"}, {"IV_VER": "x"}, {"UV_A=": "x"}, {"UV_A": "x\ny"}, {"UV_A": "x" * 600},
     {f"UV_{n}": "x" * 400 for n in range(4)}],
)  # fmt: skip
def test_extra_lines_are_checked(extra: dict[str, str]) -> None:
    with pytest.raises(TextRefused):
        announce(version="1", platform="linux", proto=OUR_PROTO, ciphers=[], extra=extra)


def test_unknown_way_to_sign_on() -> None:
    with pytest.raises(TextRefused, match="IV_SSO"):
        announce(version="1", platform="x", proto=OUR_PROTO, ciphers=[], sso_methods=["fax"])


@given(st.binary(max_size=MAX_PEER_INFO + 10))
def test_any_bytes(data: bytes) -> None:
    try:
        read = parse_peer_info(data)
    except TextRefused:
        assert len(data) > MAX_PEER_INFO
        return
    _ = (read.proto, read.ncp_version, read.cipher_names, read.mtu_max, read.peer_id)
    again = parse_peer_info(str(read).encode())
    assert again.values == read.values
    assert not again.refused


NAMES = st.from_regex(r"UV_[A-Z0-9_]{1,8}", fullmatch=True)
VALUES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cs"]), max_size=20
)


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_built_is_read(extra: dict[str, str]) -> None:
    built = announce(
        version="1", platform="linux", proto=OUR_PROTO, ciphers=DEFAULT_CIPHERS, extra=extra
    )
    assert parse_peer_info(str(built).encode()) == built
