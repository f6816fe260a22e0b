"""PUSH_UPDATE against what was pushed before: replace, add, remove, pass over, refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.protocol.messages import PushUpdate
from ovpn_dco.protocol.push import (
    READ_BY,
    FilterAction,
    PullFilter,
    PushAssembler,
    Pushed,
    PushRejected,
    build_push,
    parse_options,
)
from ovpn_dco.protocol.push_update import UPDATABLE, Change, apply_update, parse_change
from ovpn_dco.protocol.text import TextRefused

BEFORE = parse_options(
    ["topology subnet", "ifconfig 10.9.0.2 255.255.255.0", "route 10.1.0.0 255.255.0.0",
     "route 10.2.0.0 255.255.0.0", "dns server 1 address 1.1.1.1", "dns search-domains a", "ping 5",
     "ping-restart 50", "peer-id 3", "cipher AES-256-GCM", "block-ipv6"]
)  # fmt: skip


def texts(pushed: Pushed, name: str) -> list[str]:
    return [str(option) for option in pushed.options if option.name == name]


def test_all_that_can_change_is_known() -> None:
    assert UPDATABLE - {"keepalive"} <= READ_BY.keys()
    assert not UPDATABLE & {"cipher", "peer-id", "protocol-flags", "key-derivation", "auth-token"}


def test_first_occurrence_replaces_and_later_ones_add() -> None:
    after = apply_update(BEFORE, ["route 10.3.0.1", "block-ipv6", "route 10.4.0.1"])
    assert texts(after, "route") == [
        "route 10.3.0.1 255.255.255.255",
        "route 10.4.0.1 255.255.255.255",
    ]
    assert texts(after, "dns") == texts(BEFORE, "dns")
    assert texts(after, "block-ipv6") == ["block-ipv6"]


def test_statements_of_dns_are_one_type() -> None:
    after = apply_update(BEFORE, ["dns search-domains b", "dns server 2 address 2.2.2.2"])
    assert texts(after, "dns") == ["dns search-domains b", "dns server 2 address 2.2.2.2"]


def test_removal() -> None:
    after = apply_update(BEFORE, ["-route", "-block-ipv6", "-?dns", "-redirect-gateway"])
    assert [option.name for option in after.options] == [
        "topology", "ifconfig", "ping", "ping-restart", "peer-id", "cipher",
    ]  # fmt: skip


def test_removal_and_new_values_together() -> None:
    after = apply_update(BEFORE, ["-route", "route 10.3.0.1", "route 10.4.0.1"])
    assert len(after.routes) == 2
    assert apply_update(BEFORE, ["route 10.3.0.1", "-route"]).routes == ()


def test_keepalive_stands_for_two() -> None:
    after = apply_update(BEFORE, ["keepalive 1 9"])
    assert (after.number("ping"), after.number("ping-restart")) == (1, 9)
    assert apply_update(BEFORE, ["-keepalive"]).number("ping") is None
    for bad in ("keepalive", "keepalive 1", "keepalive 1 x", "keepalive 1 2 3"):
        with pytest.raises(TextRefused, match="keepalive"):
            apply_update(BEFORE, [bad])


@pytest.mark.parametrize(
    "item",
    ["cipher AES-128-GCM", "peer-id 4", "-cipher", "auth-token x", "ping 3", "up /bin/sh",
    "compress",
     "protocol-flags aead-epoch", "route evil", "dns search-domains $(id)", "-route 10.1.0.0",
     "?-route",
     "--route", "-", "?", "", "ifconfig 10.9.0.2 10.9.0.1", "tun-mtu 1", "route 'x"],
)  # fmt: skip
def test_what_cannot_be_done_ends_it_all(item: str) -> None:
    with pytest.raises(TextRefused):
        apply_update(BEFORE, ["route 10.3.0.1", item])


@pytest.mark.parametrize(
    "item", ["?cipher AES-128-GCM", "-?peer-id", "?new-thing 1", "?route evil"]
)
def test_optional_items_are_passed_over(item: str) -> None:
    after = apply_update(BEFORE, [item])
    assert after.options == BEFORE.options
    assert len(after.ignored) == 1


def test_optional_items_that_can_be_used_are() -> None:
    assert len(apply_update(BEFORE, ["?route 10.3.0.1"]).routes) == 1


def test_filters_look_behind_the_marks() -> None:
    ignore = [PullFilter(FilterAction.IGNORE, "route")]
    after = apply_update(BEFORE, ["-route", "?route 10.3.0.1"], filters=ignore)
    assert after.options == BEFORE.options
    assert [item.name for item in after.ignored] == ["route", "route"]
    with pytest.raises(PushRejected):
        apply_update(BEFORE, ["-route"], filters=[PullFilter(FilterAction.REJECT, "route")])


def test_update_over_several_messages() -> None:
    items = [f"route 10.3.{n}.0 255.255.255.0" for n in range(80)]
    assembler = PushAssembler()
    *parts, last = build_push(PushUpdate, items)
    assert [assembler.add(part) for part in parts] == [None] * len(parts)
    collected = assembler.add(last)
    assert collected is not None
    assert len(apply_update(BEFORE, collected).routes) == 80


@pytest.mark.parametrize(
    ("item", "change"),
    [
        ("route 1.1.1.1", Change("route", "route 1.1.1.1", remove=False, optional=False)),
        ("-route", Change("route", "route", remove=True, optional=False)),
        ("?dns x", Change("dns", "dns x", remove=False, optional=True)),
        ("-?dns", Change("dns", "dns", remove=True, optional=True)),
    ],
)
def test_marks(item: str, change: Change) -> None:
    assert parse_change(item) == change


ITEMS = st.sampled_from(
    ["-route", "route 10.3.0.1", "?route x", "dns search-domains c", "-dns", "keepalive 1 2",
     "-?unknown", "-?peer-id", "?cipher AES-128-GCM", "ifconfig 10.9.0.9 255.255.255.0",
     "-keepalive", "tun-mtu 1400"]
)  # fmt: skip


@given(st.lists(ITEMS | st.text(max_size=20), max_size=8))
def test_any_update_keeps_keys_and_peer_id(items: list[str]) -> None:
    try:
        after = apply_update(BEFORE, items)
    except TextRefused:
        return
    for name in ("cipher", "peer-id"):
        assert texts(after, name) == texts(BEFORE, name)


@given(st.lists(ITEMS, max_size=8))
def test_update_agrees_with_a_model(items: list[str]) -> None:
    """Routes only, as a list that is replaced, extended or emptied."""
    routes, seen = [str(route) for route in BEFORE.routes], False
    for item in items:
        if item == "-route":
            routes, seen = [], True
        elif item == "route 10.3.0.1":
            routes = [*(routes if seen else []), "route 10.3.0.1 255.255.255.255"]
            seen = True
    assert texts(apply_update(BEFORE, items), "route") == routes
