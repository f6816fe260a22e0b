"""Which back end a device gets, and what one of few features refuses."""

from __future__ import annotations

import dataclasses
import errno
import logging
import socket
from typing import Any

import pytest
from played_driver import NAME, play

import ovpn_dco as dco
from ovpn_dco import Feature, Mode, SourceCheck
from ovpn_dco.backend import choice
from ovpn_dco.backend.choice import Choice, choose, standings
from ovpn_dco.backend.kernel import features_of
from ovpn_dco.backend.kernel.values import IN_EFFECT
from ovpn_dco.backend.without import WithoutFeatures
from ovpn_dco.errors import error_for
from ovpn_dco.model import (
    Ecn,
    ForwardingMode,
    Marking,
    Measure,
    MssClamp,
    Multicast,
    Offload,
    PathLimit,
    PeerLimits,
    RateLimit,
)
from ovpn_dco.netlink import Availability, Family
from ovpn_dco.opening import Opening, Request

OLDER, NEWER = Family(30, 5, tx_id=False), Family(30, 5, tx_id=True)


def there(
    monkeypatch: pytest.MonkeyPatch,
    family: Family | None = NEWER,
    *,
    loadable: bool = False,
    permitted: bool = True,
) -> None:
    found = Availability(family, loadable=loadable, permitted=permitted)
    monkeypatch.setattr(choice, "_probe", lambda: found)


def never() -> Any:
    raise AssertionError("asked")


# The choice


def test_the_driver_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch)
    assert choose("auto", {}) == Choice("kernel", "it does all that is asked for")
    assert choose("kernel", {Feature.TCP: "require"}) == Choice("kernel", "as asked for")


def test_nobody_looks_for_the_driver_when_the_engine_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "_probe", never)
    assert choose("userspace", dict.fromkeys(Feature, "require")).name == "userspace"


@pytest.mark.parametrize(
    ("found", "number", "said"),
    [
        ({"family": None}, errno.EOPNOTSUPP, "no ovpn driver"),
        ({"permitted": False}, errno.EPERM, "CAP_NET_ADMIN"),
        ({"family": None, "loadable": True, "permitted": False}, errno.EPERM, "CAP_NET_ADMIN"),
        ({"family": None, "permitted": False}, errno.EPERM, "no ovpn driver"),
    ],
)
def test_a_driver_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], number: int, said: str
) -> None:
    there(monkeypatch, **found)
    chosen = choose("auto", {})
    assert chosen.name == "userspace"
    assert said in chosen.reason
    with pytest.raises(dco.DcoError, match=said) as caught:
        choose("kernel", {})
    assert (caught.value.errno, caught.value.attribute) == (number, "backend")
    assert isinstance(caught.value, dco.PermissionDenied) == (number == errno.EPERM)


def test_what_the_driver_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch)
    needs = {Feature.TRACE: "require", Feature.UNPRIVILEGED: "owner", Feature.UDP: "require"}
    chosen = choose("auto", needs)
    assert chosen.name == "userspace"
    assert chosen.reason.startswith(f"require takes {Feature.TRACE.value}")
    with pytest.raises(dco.UnsupportedError) as caught:
        choose("kernel", {Feature.UNPRIVILEGED: "owner"})
    assert caught.value.attribute == "owner"


def test_an_older_driver_has_no_ids_of_two_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {Feature.ASYMMETRIC_IDS: "require"}
    there(monkeypatch, OLDER)
    assert choose("auto", needs).name == "userspace"
    with pytest.raises(dco.UnsupportedError):
        choose("kernel", needs)
    there(monkeypatch, NEWER)
    assert choose("auto", needs).name == "kernel"


def test_a_driver_that_can_be_loaded_is(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, None, loadable=True)
    monkeypatch.setattr(choice, "_load", lambda: NEWER)
    assert choose("auto", {Feature.ASYMMETRIC_IDS: "require"}).name == "kernel"

    def refused() -> Family:
        raise error_for(errno.EOPNOTSUPP, "module signature")

    monkeypatch.setattr(choice, "_load", refused)
    assert choose("auto", {}) == Choice("userspace", "module signature")
    with pytest.raises(dco.UnsupportedError, match="signature"):
        choose("kernel", {})


@pytest.mark.parametrize("asked", ["", "Kernel", "dco", None])
def test_what_is_no_back_end(monkeypatch: pytest.MonkeyPatch, asked: Any) -> None:
    monkeypatch.setattr(choice, "_probe", never)
    with pytest.raises(dco.InvalidArgument) as caught:
        choose(asked, {})
    assert caught.value.attribute == "backend"


@pytest.mark.parametrize("asked", choice.NAMES)
def test_what_is_no_feature(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setattr(choice, "_probe", never)
    with pytest.raises(dco.InvalidArgument) as caught:
        choose(asked, {"TCP": "require"})  # type: ignore[dict-item]
    assert caught.value.attribute == "require"


def test_standings_load_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_load", never)
    there(monkeypatch, None, loadable=True)
    kernel, userspace = standings()
    assert (kernel.name, kernel.obstacle, kernel.features) == ("kernel", None, features_of(None))
    assert (userspace.name, userspace.obstacle) == ("userspace", None)
    assert userspace.features == frozenset(Feature)
    there(monkeypatch, NEWER, permitted=False)
    assert "CAP_NET_ADMIN" in (standings()[0].obstacle or "")
    assert Feature.ASYMMETRIC_IDS in standings()[0].features


def test_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    play(monkeypatch)
    caplog.set_level(logging.INFO, "ovpn_dco")
    with dco.Device.open(NAME, mode=Mode.P2P) as device:
        assert device.backend == "kernel"
    assert caplog.messages == ["lo: kernel back end, P2P mode: it does all that is asked for"]
    caplog.clear()
    inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with inside, outside, dco.Device.open("x", mode=Mode.P2P, tun_fd=inside.fileno()) as device:
        assert device.backend == "userspace"
    assert caplog.messages == [
        "x: userspace back end, P2P mode: tun_fd takes packets by a descriptor instead of an "
        "interface of its own, which the kernel's driver does not have"
    ]


# What an opening needs


def needs(require: tuple[Feature, ...] = (), **more: Any) -> dict[Feature, str]:
    names = [field.name for field in dataclasses.fields(Request)]
    asked: dict[str, Any] = dict.fromkeys(names)
    asked |= {"name": "vpn", "mode": Mode.MULTIPEER, "mtu": 1500, "addresses": ()}
    asked |= {"max_peers": 9, "persist": False, "start": True, "descriptors": ()}
    request = Request(**(asked | more))
    return Opening.of(request).needs(request, require)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {}),
        ({"mode": Mode.P2P}, {}),
        ({"mode": Mode.P2P, "source_check": "off"}, {}),
        ({"source_check": "strict"}, {}),
        ({"icmp_unreachable": False}, {}),
        ({"persist": True}, {}),
        ({"tun_fd": 1}, {Feature.PACKET_DESCRIPTOR: "tun_fd"}),
        ({"source_check": "off"}, {Feature.SOURCE_CHECK_OFF: "source_check"}),
        ({"source_check": SourceCheck.LOOSE}, {Feature.SOURCE_CHECK_LOOSE: "source_check"}),
        ({"icmp_unreachable": True}, {Feature.ICMP_UNREACHABLE: "icmp_unreachable"}),
        ({"persist": True, "owner": 1000}, {Feature.UNPRIVILEGED: "owner"}),
        ({"start": False}, {Feature.UNPRIVILEGED: "start"}),
        ({"require": (Feature.TRACE,)}, {Feature.TRACE: "require"}),
    ],
)
def test_needs_of_arguments(arguments: dict[str, Any], expected: dict[Feature, str]) -> None:
    assert needs(**arguments) == expected


# A back end without features


class Bare(WithoutFeatures):
    name = "bare"


bare = Bare(frozenset())
PEER = (7, 1)


@pytest.mark.parametrize(
    ("call", "arguments", "attribute", "feature"),
    [
        ("adopt_tun", ([1],), "tun_fd", Feature.PACKET_DESCRIPTOR),
        ("set_owner", (1000,), "owner", Feature.UNPRIVILEGED),
        ("set_source_check", (SourceCheck.OFF,), "source_check", Feature.SOURCE_CHECK_OFF),
        ("set_source_check", (SourceCheck.LOOSE,), "source_check", Feature.SOURCE_CHECK_LOOSE),
        ("set_feature", (PEER, Marking(Ecn.OFF, dscp=True)), "dscp", Feature.DSCP),
        ("set_feature", (PEER, Marking(Ecn.NORMAL)), "ecn", Feature.ECN),
        ("set_feature", (PEER, RateLimit(1)), "rate_limit", Feature.RATE_LIMIT),
        ("set_feature", (PEER, PeerLimits(session_s=1)), "limits", Feature.LIMITS),
        ("set_feature", (PEER, MssClamp(1400)), "mss_clamp", Feature.MSS_CLAMP),
        ("set_feature", (PEER, PathLimit(1400)), "path_limit", Feature.PATH_MTU),
        ("set_feature", (PEER, Multicast()), "multicast", Feature.MULTICAST),
        ("set_feature", (PEER, SourceCheck.STRICT), "source_check", Feature.SOURCE_CHECK_LOOSE),
        ("send_message", (PEER, b"x"), "data", Feature.PEER_MESSAGES),
        ("set_forwarding", (ForwardingMode.ALL,), "mode", Feature.FORWARDING),
        ("set_multicast", (1,), "multicast", Feature.MULTICAST),
        ("permit", (PEER, [PEER]), "destinations", Feature.FORWARDING),
        ("trace_start", (None,), "trace", Feature.TRACE),
        ("trace_stop", (), "trace", Feature.TRACE),
        ("trace_read", (1,), "trace", Feature.TRACE),
        ("trace_lost", (), "trace", Feature.TRACE),
    ],
)
def test_refusals_say_what_to_require(
    call: str, arguments: tuple[Any, ...], attribute: str, feature: Feature
) -> None:
    with pytest.raises(dco.UnsupportedError) as caught:
        getattr(bare, call)(*arguments)
    assert caught.value.attribute == attribute
    for said in (attribute, feature.value, f"require=[Feature.{feature.name}]", "bare back end"):
        assert said in str(caught.value)


def test_offloads_are_of_the_engine() -> None:
    with pytest.raises(dco.UnsupportedError) as caught:
        bare.set_offloads(Offload.NONE)
    assert caught.value.attribute == "offloads"
    bare.set_offloads(Offload.ALL)
    assert bare.offloads().active is Offload.NONE


@pytest.mark.parametrize(
    "setting",
    [
        *IN_EFFECT.values(),
        MssClamp(0, Measure.INNER),
        PeerLimits(session_s=0, inactive_bytes=0),
        RateLimit(),
    ],
)
def test_what_means_nothing_is_taken(setting: Any) -> None:
    bare.set_feature(PEER, setting)


def test_what_is_so_anyway_is_taken() -> None:
    bare.set_source_check(SourceCheck.STRICT)
    bare.set_forwarding(ForwardingMode.OFF)
    bare.set_multicast(0)
    bare.reserve([])
    assert bare.train_length(1500) is None
