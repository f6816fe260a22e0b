"""Hostile text inside TLS: what a server or client says never reaches logs, hooks or the resolver
of a host in a form that could mean something there."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ovpn_dco.model import Cipher
from ovpn_dco.protocol.addresses import check_domain, read_endpoint, read_ipv6_interface
from ovpn_dco.protocol.authtoken import TOKEN_PREFIX, TokenIssuer, TokenState
from ovpn_dco.protocol.challenge import OpenUrl, WebAuth, parse_pending_request
from ovpn_dco.protocol.dns import DhcpOption, DnsSearch, DnsServerPart
from ovpn_dco.protocol.messages import Exit, Info, Message, MessageReader, Refused, encode, parse
from ovpn_dco.protocol.ncp import NegotiationFailed, agree_as_client
from ovpn_dco.protocol.occ import Compatibility
from ovpn_dco.protocol.peerinfo import OUR_PROTO, parse_peer_info
from ovpn_dco.protocol.push import Ignored, parse_option, parse_options
from ovpn_dco.protocol.push_update import apply_update
from ovpn_dco.protocol.text import TextRefused, check_text, shown, without_controls

pytestmark = pytest.mark.security

MESSAGES = ["PUSH_REPLY,echo a%sb", "AUTH_FAILED,a%sb", "INFO,a%sb", "RESTART,a%sb", "NEWS,a%sb",
            "HALT,a%sb", "PUSH_UPDATE,echo a%sb", "INFO_PRE,CR_TEXT::a%sb"]  # fmt: skip
CONTROLS = [chr(code) for code in (*range(1, 32), *range(127, 160), 0x2028, 0x2029)]
# What a shell, a resolver file or a line-based protocol could act upon.
DANGEROUS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029`$;&|<>(){}\\'\"*?!~#%@=,^]")
SAFE_VALUE = re.compile(r"[A-Za-z0-9._:\[\]-]+")


def lines_of(text: str) -> list[str]:
    return text.splitlines()


# Control characters in messages (CVE-2024-5594)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda text: f"U+{ord(text):04X}")
def test_control_characters_are_refused_in_every_message(control: str) -> None:
    for form in MESSAGES:
        text = form % control
        with pytest.raises(TextRefused, match=f"U\\+{ord(control):04X}"):
            parse(text.encode())
        (refused,) = MessageReader().receive(text.encode() + b"\0")
        assert isinstance(refused, Refused)
        assert refused.preview.isprintable()


def test_surrogates_and_other_broken_utf8_are_refused() -> None:
    for data in (b"\xed\xa0\x80", b"\xff", b"\xc0\x80", b"\xf4\x90\x80\x80"):
        with pytest.raises(TextRefused, match="UTF-8"):
            parse(b"INFO," + data)


def test_nul_ends_a_message_and_hides_nothing() -> None:
    assert MessageReader().receive(b"INFO,a\0EXIT\0") == (Info("a"), Exit())


@given(
    st.binary(max_size=80) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))
)
def test_no_value_ever_has_two_lines(data: bytes) -> None:
    for item in MessageReader().receive(b"INFO," + data.replace(b"\0", b"") + b"\0"):
        assert len(lines_of(repr(item))) == 1
        if isinstance(item, Info):
            assert len(lines_of(item.text)) <= 1


@given(st.text() | st.binary())
def test_log_form_is_one_line_of_ascii(text: str | bytes) -> None:
    assert re.fullmatch(r"[ -~]{0,64}", shown(text))


@given(st.binary(max_size=200))
def test_refusals_repeat_no_control_character(data: bytes) -> None:
    said = []
    for read in (parse, parse_peer_info):
        try:
            said += getattr(read(data), "refused", ())
        except TextRefused as error:
            said.append(str(error))
    assert all(line.isprintable() for line in said)


@given(st.text(max_size=40))
@example("alice\r\n>CLIENT:ESTABLISHED,0")
def test_a_username_injects_no_line(name: str) -> None:
    masked = without_controls(name)
    assert len(masked) == len(name)
    assert len(lines_of(masked)) <= 1
    assert check_text(masked, "username", max_bytes=200) == masked


def test_what_we_send_is_held_to_the_same() -> None:
    for control in CONTROLS:
        message: Message = Info(f"a{control}b")
        with pytest.raises(TextRefused):
            encode(message)


# DNS and domain injection (CVE-2025-10680)

ATTACKS = ["$(id)", "`id`", "a;id", "a|id", "a&id", "a\nb", "a b", "a'b",
'a"b', "a\\b", "-x", "a/../b",
           "--help", "a,b", "a#b", "a>b", "{a,b}", "~", "*", "a%s", "\u0430.example", "a..b", ".",
           "",
           "a\u3002b", "x" * 64, ".a"]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_domain_that_is_none(attack: str) -> None:
    with pytest.raises(TextRefused):
        check_domain(attack)
    quoted = "'" + attack.replace("'", "") + "'" if "'" not in attack else f'"{attack}"'
    for start in ("dhcp-option DOMAIN ", "dhcp-option DOMAIN-SEARCH ", "dhcp-option DNS ",
                  "dns search-domains ", "dns server 1 address ", "dns server 1 resolve-domains ",
                  "dns server 1 sni ", "dns server 1 transport ",
                  "dns server 1 dnssec "):  # fmt: skip
        assert isinstance(parse_option(start + quoted), Ignored)


def values_of(option: object) -> tuple[str, ...]:
    match option:
        case DhcpOption(_, value):
            return (value,)
        case DnsSearch(domains):
            return domains
        case DnsServerPart(_, _, values):
            return values
    return ()


DNS_STARTS = st.sampled_from(
    ["dhcp-option DNS ", "dhcp-option DOMAIN ", "dhcp-option NTP ", "dns search-domains ",
     "dns server 1 address ", "dns server 1 sni ", "dns server 1 resolve-domains "]
)  # fmt: skip
DNS_WORDS = st.text(
    st.sampled_from("ab1.-_:[]%$`;&|<>(){}\\'\"*?!~#\u0430\u2028\n\t ,/"), max_size=12
)


@given(DNS_STARTS, DNS_WORDS | st.text(max_size=12) | st.from_regex(r"[a-z0-9.:-]{1,12}"))
@example("dns server 1 address ", "fe80::1%eth0;id")
@example("dns search-domains ", "a.example")
def test_no_dns_value_has_a_dangerous_character(start: str, rest: str) -> None:
    for value in values_of(parse_option(start + rest)):
        assert SAFE_VALUE.fullmatch(value)
        assert not DANGEROUS.search(value)
        assert value[0] not in "-."


@given(st.text(st.sampled_from("0123456789abcdef:.%/$; \n")) | st.text())
def test_no_address_has_a_scope(text: str) -> None:
    try:
        address, _ = read_endpoint(text, "x")
        read_ipv6_interface(text, "x")
    except TextRefused:
        return
    assert not DANGEROUS.search(str(address))


def test_scope_of_an_address_is_refused() -> None:
    for text in ("ifconfig-ipv6 fe80::1%$(id)/64", "route-ipv6 fe80::%x/64",
                 "dns server 1 address [fe80::1%x]:53", "dhcp-option DNS6 fe80::1%x"):  # fmt: skip
        assert isinstance(parse_option(text), Ignored)


URLS = st.text(st.sampled_from("htps:/a.?=&%$`;|<>\\'\"\n \u0430-"), max_size=20) | st.text(
    max_size=20
)


@given(URLS)
@example("https://a.example/$(id)")
def test_no_page_to_open_has_a_shell_character(rest: str) -> None:
    for text in (f"OPEN_URL:{rest}", f"OPEN_URL:https://{rest}", f"WEB_AUTH::https://{rest}"):
        try:
            request = parse_pending_request(text)
        except TextRefused:
            continue
        assert isinstance(request, (OpenUrl, WebAuth))
        assert request.url.startswith(("http://", "https://"))
        assert not re.search(r"[\s`$|<>{}\\'\"^]", request.url)
        assert request.url.isascii()


# What a server may not reach


@pytest.mark.parametrize(
    "text",
    ["up /bin/sh", "down x", "route-up x", "script-security 3", "plugin x", "setenv PATH /tmp",
     "setenv LD_PRELOAD x", "tls-verify x", "management 0.0.0.0 1", "config /etc/x", "ca x",
     "key x",
     "remote evil", "proto tcp", "log /etc/passwd", "cd /", "writepid /x", "status /x", "askpass"],
)  # fmt: skip
def test_options_outside_of_what_may_be_pushed(text: str) -> None:
    assert parse_option(text) == Ignored(text.split()[0], "may not be pushed")
    with pytest.raises(TextRefused, match="cannot change"):
        apply_update(parse_options([]), [text])


def test_variables_for_hooks_have_a_prefix_and_a_name() -> None:
    assert parse_options(["setenv-safe LD_PRELOAD x"]).environment == {"OPENVPN_LD_PRELOAD": "x"}
    for name in ("A=B", "'A B'", "-x", "A;B", "\u00c4"):
        assert isinstance(parse_option(f"setenv-safe {name} x"), Ignored)


@pytest.mark.parametrize("name", ["none", "NONE", "AES-192-GCM", "AES-256-CBC", "BF-CBC", "null"])
def test_server_cannot_push_the_cipher_down(name: str) -> None:
    with pytest.raises(NegotiationFailed):
        agree_as_client(
            pushed_cipher=name,
            protocol_flags=(),
            key_derivation=None,
            peer_id=1,
            occ=Compatibility(),
            ciphers=(Cipher.AES_256_GCM, Cipher.NONE),
            announced=OUR_PROTO,
            fallback=Cipher.AES_128_GCM,
        )


def test_compression_is_refused_in_every_form() -> None:
    for text in ("compress", "compress lzo", "compress stub-v2", "comp-lzo", "comp-lzo no"):
        with pytest.raises(TextRefused, match="framing"):
            parse_options([text])


# Auth tokens of every length (CVE-2026-13122)


def test_token_of_every_length_is_refused_cleanly() -> None:
    issuer = TokenIssuer(bytes(range(128)), random_bytes=bytes)
    good = issuer.issue("alice", now=1000).text
    for length in range(len(good) + 200):
        text = (good + "A" * 200)[:length]
        state = issuer.check(text, "alice", now=1000).state
        if length < len(TOKEN_PREFIX):
            assert state is TokenState.NO_TOKEN
        else:
            assert state is (TokenState.VALID if length == len(good) else TokenState.INVALID)


def test_token_with_padding_blanks_or_other_letters() -> None:
    issuer = TokenIssuer(bytes(range(128)), random_bytes=bytes)
    good = issuer.issue("alice", now=1000).text
    for at in range(len(TOKEN_PREFIX), len(good)):
        for letter in "= \n\u00e4-":
            text = good[:at] + letter + good[at + 1 :]
            assert issuer.check(text, "alice", now=1000).state is TokenState.INVALID


def test_characters_that_are_refused_are_those_that_break_lines() -> None:
    """The list in `text` against what Python itself takes for a line end."""
    for code in range(0x110000):
        character = chr(code)
        if len(f"a{character}b".splitlines()) > 1:
            assert unicodedata.category(character) in {"Cc", "Zl", "Zp"}
