"""What endpoints are told, and what programs are called with, for each transport and variant."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import Any

import pytest

from ovpn_dco.bench.figures import OURS
from ovpn_dco.bench.scenarios import _enters
from ovpn_dco.bench.subjects import (
    ALL_COURSES,
    COURSES,
    TCP_COURSES,
    OpenVpn,
    Ours,
    RawLink,
    WireGuardGo,
)
from ovpn_dco.testing import Link

SERVER, CLIENT = ("--tls-server", "--dh", "none"), ("--tls-client",)
CIPHER_KEY_CHARACTERS = 64


def links(count: int) -> list[Link]:
    return [
        Link(f"veth{n}", "veth0", f"10.98.{n}.1", f"10.98.{n}.2", f"fd98:{n}::1", f"fd98:{n}::2")
        for n in range(count)
    ]


def after(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


# Courses


def test_a_course_over_tcp_is_the_same_wire_with_a_name_of_its_own() -> None:
    assert TCP_COURSES.keys() == COURSES.keys()
    for name, course in TCP_COURSES.items():
        assert course.name == f"tcp {name}"
        assert course.transport == "tcp"
        assert (course.bare, course.wire_mtu) == (COURSES[name].bare, COURSES[name].wire_mtu)
        assert course.inner_mtu == COURSES[name].inner_mtu
        assert ALL_COURSES[course.name] is course
    assert {course.transport for course in COURSES.values()} == {"udp"}
    assert len(ALL_COURSES) == 2 * len(COURSES)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_openvpn_as_tuned_runs_where_packets_are_large(transport: str) -> None:
    courses = TCP_COURSES if transport == "tcp" else COURSES
    assert [c.jumbo for c in courses.values() if _enters(OpenVpn.tuned(), c)] == [True]
    assert [c.jumbo for c in courses.values() if _enters(OpenVpn.plain(), c)] == [False, False]
    assert all(_enters(Ours(), course) for course in courses.values())


# Others


@pytest.mark.parametrize(
    ("transport", "role", "protocol"),
    [
        ("udp", SERVER, "udp"),
        ("udp", CLIENT, "udp"),
        ("tcp", SERVER, "tcp-server"),
        ("tcp", CLIENT, "tcp-client"),
    ],
)
def test_openvpn_has_one_server_and_one_client(
    transport: str, role: tuple[str, ...], protocol: str
) -> None:
    for subject in (OpenVpn.plain(), OpenVpn.tuned()):
        arguments = subject.arguments(transport, role)
        assert after(arguments, "--proto") == protocol
        assert "--disable-dco" in arguments
        assert after(arguments, "--data-ciphers") == "AES-256-GCM"


def test_openvpn_is_tuned_at_both_ends_and_only_by_what_the_transport_knows() -> None:
    for role in (SERVER, CLIENT):
        udp, tcp = (OpenVpn.tuned().arguments(transport, role) for transport in ("udp", "tcp"))
        for arguments in (udp, tcp):
            assert after(arguments, "--sndbuf") == after(arguments, "--rcvbuf") == "4194304"
            assert after(arguments, "--tun-mtu") == "9000"
            assert after(arguments, "--txqueuelen") == "10000"
        assert "--fast-io" in udp
        assert "--tcp-nodelay" not in udp
        assert "--tcp-nodelay" in tcp
        assert "--fast-io" not in tcp
        plain = OpenVpn.plain().arguments("tcp", role)
        assert not {"--sndbuf", "--tun-mtu", "--tcp-nodelay"} & set(plain)


def test_wireguard_takes_no_part_over_tcp_wherever_it_is_installed() -> None:
    reason = WireGuardGo().obstacle("tcp")
    assert reason is not None
    assert "no TCP" in reason
    assert "TCP" not in (WireGuardGo().obstacle("udp") or "")
    assert RawLink().obstacle("tcp") is None


# Ours


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, OURS),
        ({"workers": 4}, "ours, 4 workers"),
        ({"single_thread": True}, "ours, single thread"),
        ({"peers": 3}, OURS),
    ],
)
def test_a_variant_is_part_of_the_name(options: dict[str, Any], name: str) -> None:
    ours = Ours(**options)
    assert ours.name == name
    assert ours.title == name.replace(OURS, "ovpn_dco")


def test_both_ends_have_what_the_other_has() -> None:
    server, clients = Ours(peers=3).settings(TCP_COURSES["veth"], links(3))
    assert server["mode"] == "MULTIPEER"
    assert len(clients) == 3
    assert len({peer["peer_id"] for peer in server["peers"]}) == 3
    for near, client in zip(server["peers"], clients, strict=True):
        (far,) = client["peers"]
        assert client["mode"] == "P2P"
        assert near["peer_id"] == far["peer_id"]
        assert (near["encrypt"], near["decrypt"]) == (far["decrypt"], far["encrypt"])
        assert len(near["encrypt"][0]) == CIPHER_KEY_CHARACTERS
        assert near["remote"] == client["local"]
        assert near["vpn"] == [str(ip_interface(text).ip) for text in client["addresses"]]
    secrets = {peer[way][0] for peer in server["peers"] for way in ("encrypt", "decrypt")}
    assert len(secrets) == 6


def test_the_server_of_one_client_is_bound_to_its_address() -> None:
    server, (client,) = Ours().settings(COURSES["veth"], links(1))
    assert server["local"] == client["peers"][0]["remote"]
    server, _ = Ours(peers=2).settings(COURSES["veth"], links(2))
    assert server["local"][0] == "0.0.0.0"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_endpoints_are_told_what_carries_the_tunnel(transport: str) -> None:
    course = (TCP_COURSES if transport == "tcp" else COURSES)["bare"]
    server, (client,) = Ours().settings(course, links(1))
    assert server["transport"] == client["transport"] == transport


def test_workers_are_the_server_s_where_there_are_several_clients() -> None:
    course = COURSES["veth"]
    server, (client,) = Ours(workers=2).settings(course, links(1))
    assert (server["workers"], client["workers"]) == (2, 2)
    server, clients = Ours(workers=2, peers=2).settings(course, links(2))
    assert (server["workers"], [c["workers"] for c in clients]) == (2, [None, None])
    # Of one worker the device decides itself how many threads it has.
    server, (client,) = Ours().settings(course, links(1))
    assert (server["workers"], server["single_thread"]) == (None, None)
    server, (client,) = Ours(single_thread=True).settings(course, links(1))
    assert (server["single_thread"], client["single_thread"]) == (True, True)


def test_only_the_client_sends_keepalives() -> None:
    plain = Ours(workers=2)
    keeping = plain.with_keepalive(1)
    assert keeping.name == plain.name
    server, (client,) = keeping.settings(COURSES["veth"], links(1))
    assert (server["keepalive_s"], client["keepalive_s"]) == (0, 1)
    server, (client,) = plain.settings(COURSES["veth"], links(1))
    assert client["keepalive_s"] == 0
