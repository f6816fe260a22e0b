"""Pushed options: the forms that are read, the push over several messages, filters."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.protocol import options as o
from ovpn_dco.protocol.addresses import read_endpoint, write_endpoint
from ovpn_dco.protocol.dns import DhcpOption, DnsAddress, DnsSearch, DnsServer, DnsServerPart
from ovpn_dco.protocol.messages import MAX_MESSAGE, PushReply, PushUpdate, encode
from ovpn_dco.protocol.push import (
    CHUNK,
    MAX_PUSH,
    FilterAction,
    Ignored,
    PullFilter,
    PushAssembler,
    Pushed,
    PushRejected,
    TunnelIpv4,
    build_push,
    parse_option,
    parse_options,
)
from ovpn_dco.protocol.text import TextRefused, join_words, split_words

# What a stock server sent.
REAL = (
    "route 192.168.77.0 255.255.255.0,route-gateway 10.9.0.1,topology subnet,ping 2,"
    "ping-restart 20,ifconfig 10.9.0.2 255.255.255.0,peer-id 0,cipher AES-256-GCM,"
    "protocol-flags cc-exit tls-ekm dyn-tls-crypt,tun-mtu 1500"
).split(",")


def test_real_push() -> None:
    pushed = parse_options(REAL)
    assert pushed.ignored == ()
    assert pushed.tunnel_ipv4 == TunnelIpv4(IPv4Interface("10.9.0.2/24"))
    assert pushed.routes == (o.Route(IPv4Network("192.168.77.0/24")),)
    assert pushed.route_gateway == IPv4Address("10.9.0.1")
    assert (pushed.number("ping"), pushed.number("ping-restart")) == (2, 20)
    assert (pushed.number("peer-id"), pushed.text("cipher")) == (0, "AES-256-GCM")
    assert pushed.protocol_flags == {"cc-exit", "tls-ekm", "dyn-tls-crypt"}
    assert [str(option) for option in pushed.options] == REAL


CANONICAL = [
    ("topology p2p", o.TopologyOption(o.Topology.P2P)),
    ("ifconfig-ipv6 fd00::2/64 fd00::1", o.IfconfigIpv6(IPv6Interface("fd00::2/64"),
                                                        IPv6Interface("fd00::1").ip)),
    ("route 10.0.0.0 255.0.0.0 default 7", o.Route(IPv4Network("10.0.0.0/8"), None, 7)),
    ("route 10.0.0.1 255.255.255.255 net_gateway",
     o.Route(IPv4Network("10.0.0.1/32"), o.Gateway.NET)),
    ("route 10.0.0.0 255.0.0.0 10.9.0.1", o.Route(IPv4Network("10.0.0.0/8"),
    IPv4Address("10.9.0.1"))),
    ("route-ipv6 fd01::/16", o.RouteIpv6(IPv6Network("fd01::/16"))),
    ("route-ipv6 fd01::/16 default 3", o.RouteIpv6(IPv6Network("fd01::/16"), None, 3)),
    ("redirect-gateway def1 bypass-dhcp !ipv4", o.Redirect("redirect-gateway",
                                                           ("def1", "bypass-dhcp", "!ipv4"))),
    ("redirect-private", o.Redirect("redirect-private")),
    ("explicit-exit-notify 3", o.Number("explicit-exit-notify", 3)),
    ("inactive 60 1000", o.Inactive(60, 1000)),
    ("session-timeout 60", o.Number("session-timeout", 60)),
    ("key-derivation tls-ekm", o.Text("key-derivation", "tls-ekm")),
    ("auth-token SESS_ID_AT_x", o.AuthTokenOption("SESS_ID_AT_x")),
    ("auth-token-user YWxpY2U=", o.AuthTokenUser("alice")),
    ("block-ipv6", o.Flag("block-ipv6")),
    ("setenv-safe NAME value", o.SetenvSafe("NAME", "value")),
    ('echo "two words" x', o.Echo(("two words", "x"))),
    ("dhcp-option DNS 10.9.0.1", DhcpOption("DNS", "10.9.0.1")),
    ("dhcp-option DOMAIN-SEARCH a.example", DhcpOption("DOMAIN-SEARCH", "a.example")),
    ("dns search-domains a.example b", DnsSearch(("a.example", "b"))),
    ("dns server 0 address 1.2.3.4:53 [fd00::1]:53 fd00::2",
     DnsServerPart(0, "address", ("1.2.3.4:53", "[fd00::1]:53", "fd00::2"))),
    ("dns server 127 resolve-domains x.example", DnsServerPart(127, "resolve-domains",
    ("x.example",))),
    ("dns server 1 transport DoT", DnsServerPart(1, "transport", ("DoT",))),
    ("dns server 1 dnssec optional", DnsServerPart(1, "dnssec", ("optional",))),
    ("dns server 1 sni dns.example", DnsServerPart(1, "sni", ("dns.example",))),
]  # fmt: skip


@pytest.mark.parametrize(("text", "option"), CANONICAL, ids=lambda value: str(value)[:30])
def test_both_ways(text: str, option: o.Option) -> None:
    assert parse_option(text) == option
    assert str(option) == text


def test_defaults() -> None:
    assert parse_option("route 10.1.2.3") == o.Route(IPv4Network("10.1.2.3/32"))
    assert parse_option("route 10.1.2.3 255.0.0.0") == o.Route(IPv4Network("10.0.0.0/8"))
    assert parse_option("explicit-exit-notify") == o.Number("explicit-exit-notify", 1)
    assert parse_option("setenv opt ping 3") == o.Number("ping", 3)
    assert parse_options([]).topology is o.Topology.NET30
    assert parse_options([]).tunnel_ipv4 is None
    point = parse_options(["ifconfig 10.8.0.6 10.8.0.5"])
    assert point.tunnel_ipv4 == TunnelIpv4(IPv4Interface("10.8.0.6/32"), IPv4Address("10.8.0.5"))


@pytest.mark.parametrize(
    "text",
    ["ifconfig 10.0.0.1", "ifconfig 10.0.0.1 x", "ifconfig 010.0.0.1 1.1.1.1", "topology ring",
     "peer-id -1", "peer-id 16777215", "peer-id 1 2", "peer-id \u0661", "cipher", "cipher a;b",
     "tun-mtu 99",
     "tun-mtu 65536", "protocol-flags", "protocol-flags a$b", "key-derivation 'x y'",
     "compress", "compress stub-v2", "comp-lzo no", "comp-lzo"],
)  # fmt: skip
def test_what_refuses_the_push(text: str) -> None:
    with pytest.raises(TextRefused):
        parse_options([*REAL, text])


def test_subnet_needs_a_netmask() -> None:
    with pytest.raises(TextRefused, match="netmask"):
        parse_options(["ifconfig 10.0.0.1 10.0.0.2", "topology subnet"])


@pytest.mark.parametrize(
    "text",
    ["up /bin/sh", "setenv PATH /tmp", "remote evil 1194", "script-security 3", "plugin x",
    "config x",
     "route evil.example", "route 10.0.0.0 0.0.0.255", "route 10.0.0.0 255.0.255.0",
     "route-gateway dhcp",
     "route-ipv6 fd00::1", "route-ipv6 fd00::/129", "route-ipv6 fe80::%eth0/64",
     "redirect-gateway fast",
     "ifconfig-ipv6 fe80::1%x;id/64", "auth-token", "auth-token " + "x" * 128, "auth-token-user @",
     "setenv-safe A=B x", "dhcp-option DNS evil", "dhcp-option DOMAIN a;b", "dhcp-option PROXY x",
     "dns server 128 address 1.1.1.1", "dns server -1 address 1.1.1.1", "dns server 1 address",
     "dns server 1 color red", "dns server 1 address 1.1.1.1:0",
     "dns server 1 address fe80::1%eth0",
     "dns server 1 transport DoX", "dns server 1 sni a b", "dns search-domains $(id)",
     "dns server 1 address " + "1.1.1.1 " * 9, "inactive x", "echo 'open", "ping a", "tun-ipv6", "",
     "echo " + "x" * 300, "echo" + " x" * 16, "# nothing", "setenv opt"],
)  # fmt: skip
def test_what_is_ignored_and_named(text: str) -> None:
    pushed = parse_options([*REAL, text])
    assert len(pushed.options) == len(REAL)
    (ignored,) = pushed.ignored
    assert ignored.reason
    assert str(ignored).isprintable()


def test_last_one_counts() -> None:
    pushed = parse_options(["ping 1", "ping 2", "topology net30", "topology subnet"])
    assert pushed.number("ping") == 2
    assert pushed.topology is o.Topology.SUBNET


def test_redirects_add_up() -> None:
    pushed = parse_options(["redirect-gateway def1", "redirect-gateway ipv6"])
    assert pushed.redirect() == {"def1", "ipv6"}
    assert pushed.redirect("redirect-private") is None


def test_mtu_counts_up_to_what_was_announced() -> None:
    pushed = parse_options(["tun-mtu 1550"])
    assert pushed.tun_mtu(announced_max=1600) == 1550
    assert pushed.tun_mtu(announced_max=1520) == 1520
    assert pushed.tun_mtu(announced_max=None) == 1500
    assert Pushed().tun_mtu(announced_max=1600, default=1400) == 1400


def test_environment_cannot_touch_that_of_programs() -> None:
    assert parse_options(["setenv-safe PATH /tmp"]).environment == {"OPENVPN_PATH": "/tmp"}


def test_token_is_not_shown() -> None:
    pushed = parse_options(["auth-token SECRET", "auth-token-user YWxpY2U="])
    assert (pushed.auth_token, pushed.auth_token_user) == ("SECRET", "alice")
    assert "SECRET" not in repr(pushed)
    assert "SECRET" not in repr(parse_options(["auth-token SECRET x", "auth-token 'SECRET"]))


# DNS


def test_statements_of_a_server_come_together() -> None:
    dns = parse_options(
        ["dhcp-option DNS 9.9.9.9", "dns server 5 address 1.1.1.1", "dns server 2 transport DoT",
         "dns server 2 address 2.2.2.2", "dns server 2 address fd00::1 2.2.2.2",
         "dns server 2 resolve-domains a.example", "dns server 2 resolve-domains b.example",
         "dns server 2 sni x.example", "dns server 7 dnssec yes", "dns search-domains a b",
         "dns search-domains a"]
    ).dns  # fmt: skip
    first = DnsServer(
        2,
        (DnsAddress(IPv4Address("2.2.2.2")), DnsAddress(IPv6Interface("fd00::1").ip)),
        ("a.example", "b.example"),
        None,
        "DoT",
        "x.example",
    )
    assert dns.servers == (first, DnsServer(5, (DnsAddress(IPv4Address("1.1.1.1")),)))
    assert dns.search_domains == ("a", "b")


def test_dhcp_options_count_without_dns() -> None:
    dns = parse_options(
        ["dhcp-option DNS 9.9.9.9", "dhcp-option DNS6 fd00::1", "dhcp-option WINS 1.1.1.1",
         "dhcp-option DOMAIN a.example.", "dhcp-option DOMAIN-SEARCH b"]
    ).dns  # fmt: skip
    assert [str(address) for address in dns.servers[0].addresses] == ["9.9.9.9", "fd00::1"]
    assert dns.search_domains == ("a.example", "b")


@given(st.ip_addresses(), st.none() | st.integers(1, 65535))
def test_endpoints_are_read_as_built(address: object, port: int | None) -> None:
    assert read_endpoint(write_endpoint(address, port), "x") == (address, port)  # type: ignore[arg-type]


# Several messages


def test_what_fits_needs_no_marker() -> None:
    assert build_push(PushReply, REAL) == (PushReply(tuple(REAL)),)
    assert PushAssembler().add(PushReply()) == ()


def test_marker_in_the_middle_and_at_the_end() -> None:
    options = [f"route 10.{n}.0.0 255.255.0.0" for n in range(100)]
    messages = build_push(PushReply, options)
    assert len(messages) > 2
    assert [message.options[-1][-1] for message in messages] == ["2"] * (len(messages) - 1) + ["1"]
    assert all(len(encode(message)) <= CHUNK + len(",push-continuation 2") for message in messages)
    assembler = PushAssembler()
    assert [assembler.add(message) for message in messages[:-1]] == [None] * (len(messages) - 1)
    assert assembler.add(messages[-1]) == tuple(options)
    assert assembler.add(PushReply(("ping 1",))) == ("ping 1",)


@given(
    st.lists(st.from_regex(r"echo [a-z ]{1,240}", fullmatch=True), max_size=20),
    st.sampled_from([PushReply, PushUpdate]),
)
def test_any_push_comes_together(options: list[str], kind: type[PushReply]) -> None:
    messages = build_push(kind, options)
    assert all(len(encode(message)) <= MAX_MESSAGE for message in messages)
    assembler = PushAssembler()
    results = [assembler.add(message) for message in messages]
    assert results == [None] * (len(messages) - 1) + [tuple(options)]


@pytest.mark.parametrize(
    "option", ["", "a,b", "a\nb", "x" * 256, "push-continuation 2", "route x\0"]
)
def test_what_cannot_be_pushed(option: str) -> None:
    with pytest.raises(TextRefused):
        build_push(PushReply, [option])


@pytest.mark.parametrize(
    "marker", ["push-continuation", "push-continuation 3", "push-continuation x"]
)
def test_marker_with_a_bad_form(marker: str) -> None:
    assembler = PushAssembler()
    assembler.add(PushReply(("ping 1", "push-continuation 2")))
    with pytest.raises(TextRefused, match="push-continuation"):
        assembler.add(PushReply((marker,)))
    assert assembler.add(PushReply()) == ()  # a fresh start


def refused(assembler: PushAssembler, message: PushReply) -> bool:
    try:
        assembler.add(message)
    except TextRefused as error:
        return str(MAX_PUSH) in str(error)
    return False


def test_push_without_an_end() -> None:
    for more in (("push-continuation 2",), ("echo " + "x" * 200, "push-continuation 2")):
        assembler = PushAssembler()
        fed = 0
        while not refused(assembler, PushReply(more)):
            fed += sum(map(len, more))
            assert fed <= 3 * MAX_PUSH
        assert assembler.add(PushReply()) == ()


# Filters


def test_first_filter_that_fits_decides() -> None:
    filters = [
        PullFilter(FilterAction.ACCEPT, "route 10."),
        PullFilter(FilterAction.IGNORE, "route"),
        PullFilter(FilterAction.REJECT, "dns"),
    ]
    pushed = parse_options(["route 10.0.0.1", "route 11.0.0.1", "ping 1"], filters=filters)
    assert [option.name for option in pushed.options] == ["route", "ping"]
    assert pushed.ignored == (Ignored("route", "is filtered by route"),)
    with pytest.raises(PushRejected):
        parse_options(["dns search-domains a"], filters=filters)


def test_filter_comes_before_parsing() -> None:
    filters = [PullFilter(FilterAction.IGNORE, "compress")]
    assert parse_options(["compress lzo"], filters=filters).options == ()


def test_no_pull() -> None:
    texts = [*REAL, "redirect-gateway def1", "dhcp-option DNS 1.1.1.1", "dns search-domains a"]
    pushed = parse_options(texts, no_pull=True)
    assert pushed.routes == ()
    assert pushed.redirect() is None
    assert pushed.dns.servers == ()
    assert pushed.tunnel_ipv4
    assert [item.name for item in pushed.ignored] == [
        "route",
        "redirect-gateway",
        "dhcp-option",
        "dns",
    ]


def test_digest_is_of_the_tunnel() -> None:
    digest = parse_options(REAL).digest()
    same = [text.replace("peer-id 0", "peer-id 7").replace("ping 2", "ping 3") for text in REAL]
    assert parse_options([*same, "auth-token x"]).digest() == digest
    for text in ("route 1.1.1.1", "block-ipv6", "echo a"):
        assert parse_options([*REAL, text]).digest() != digest
    assert parse_options(["echo a b"]).digest() != parse_options(["echo 'a b'"]).digest()


# Words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a  b\tc", ("a", "b", "c")),
        ("'a \\ b'c", ("a \\ b", "c")),
        ('"a \\" \\\\"b ""', ('a " \\', "b", "")),
        ("a\\ b c#d #e", ("a b", "c#d")),
        ("a'b\"c ;x", ("a'b\"c",)),
    ],
)
def test_words(line: str, words: tuple[str, ...]) -> None:
    assert split_words(line) == words


@pytest.mark.parametrize("line", ["'a", '"a', '"a\\"', "a\\b", "a\\", "x " * 17])
def test_words_with_a_bad_form(line: str) -> None:
    with pytest.raises(TextRefused):
        split_words(line)


@given(
    st.lists(st.text(st.sampled_from("ab \\\"'#;\u00e4-?"), max_size=8), min_size=1, max_size=16)
)
def test_words_are_read_as_joined(words: list[str]) -> None:
    assert split_words(join_words(tuple(words))) == tuple(words)


@given(st.sampled_from(["", *{text.partition(" ")[0] + " " for text, _ in CANONICAL}]), st.text())
def test_any_option(name: str, rest: str) -> None:
    try:
        option = parse_option(name + rest)
    except TextRefused:
        return
    assert isinstance(option, (o.Option, Ignored))
    if isinstance(option, o.Option) and "," not in rest and len(rest.encode()) < 100:
        assert parse_option(str(option)) == option


V4, V6 = st.ip_addresses(v=4), st.ip_addresses(v=6)
METRICS = st.none() | st.integers(0, 65535)
PLAIN = st.text(
    st.characters(
        codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cs"], exclude_characters=","
    ),
    max_size=15,
)
TYPED = (
    st.builds(o.Ifconfig, V4, V4)
    | st.builds(
        o.IfconfigIpv6,
        st.builds(
            lambda address, bits: IPv6Interface((int(address), bits)), V6, st.integers(0, 128)
        ),
        st.none() | V6,
    )
    | st.builds(
        o.Route,
        st.builds(
            lambda address, bits: IPv4Network((int(address), bits), strict=False),
            V4,
            st.integers(0, 32),
        ),
        st.none() | V4 | st.sampled_from(o.Gateway),
        METRICS,
    )
    | st.builds(
        o.RouteIpv6,
        st.builds(
            lambda address, bits: IPv6Network((int(address), bits), strict=False),
            V6,
            st.integers(0, 128),
        ),
        st.none() | V6,
        METRICS,
    )
    | st.builds(o.RouteGateway, V4)
    | st.builds(o.Number, st.sampled_from(["ping", "session-timeout"]), st.integers(0, 86400))
    | st.builds(o.Inactive, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
    | st.builds(o.AuthTokenUser, PLAIN)
    | st.builds(o.SetenvSafe, st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True), PLAIN)
    | st.builds(o.Echo, st.lists(PLAIN, max_size=3).map(tuple))
    | st.builds(DhcpOption, st.just("DNS"), (V4 | V6).map(str))
)


@given(TYPED)
def test_typed_options_are_read_as_built(option: o.Option) -> None:
    assert parse_option(str(option)) == option
