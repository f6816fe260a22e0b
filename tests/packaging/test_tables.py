"""The X-macro tables and enumerations of the C headers against their Python counterparts."""

from __future__ import annotations

import enum
import re
from dataclasses import fields
from pathlib import Path

import pytest

from ovpn_dco import model

EXT = Path(__file__).parents[2] / "ext"
DROPS = (EXT / "drops.h").read_text()
API = (EXT / "dco.h").read_text()


def macro(text: str, name: str) -> str:
    """The body of a macro with one parameter, nested tables included."""
    found = re.search(rf"#define {name}\(X\)((?:.*\\\n)*.*)", text)
    assert found, f"{name} is gone"
    body = found[1]
    for nested in re.findall(r"(DCO_\w+)\(X\)", body):
        body += macro(text, nested)
    return body


def members(text: str, name: str) -> dict[str, int]:
    """Enumerators of a C enum with their values."""
    found = re.search(rf"enum {name} {{(.*?)}}", text, re.DOTALL)
    assert found, f"enum {name} is gone"
    body = re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL)
    values: dict[str, int] = {}
    for index, entry in enumerate(filter(None, (part.strip() for part in body.split(",")))):
        key, _, expression = entry.partition("=")
        if expression:
            parts = [int(number, 0) for number in re.findall(r"\d+", expression)]
            values[key.strip()] = parts[0] << parts[1] if "<<" in expression else parts[0]
        else:
            values[key.strip()] = index
    return values


def test_drop_reasons_in_order_with_their_meaning() -> None:
    table = re.findall(r'X\((\w+), (\w+), "([^"]*)"\)', macro(DROPS, "DCO_DROPS"))
    assert [name.lower() for name, _, _ in table] == [lower for _, lower, _ in table]
    assert [(name, number, text) for number, (name, _, text) in enumerate(table, 1)] == [
        (reason.name, reason.value, reason.text) for reason in model.DropReason
    ]


@pytest.mark.parametrize(
    ("macro_name", "dataclass"),
    [("DCO_PEER_COUNTERS", model.PeerStats), ("DCO_ENGINE_COUNTERS", model.DeviceStats)],
)
def test_counters(macro_name: str, dataclass: type) -> None:
    counters = set(re.findall(r"\bX\((\w+)\)", macro(API, macro_name)))
    assert counters
    names = {field.name for field in fields(dataclass)}
    assert counters - names == set()
    if dataclass is model.PeerStats:
        assert names - counters == set()


@pytest.mark.parametrize(
    ("name", "prefix", "python"),
    [
        ("dco_mode", "DCO_MODE_", model.Mode),
        ("dco_ecn", "DCO_ECN_", model.Ecn),
        ("dco_slot", "DCO_SLOT_", model.KeySlot),
        ("dco_delete_reason", "DCO_DELETED_", model.DeleteReason),
    ],
)
def test_enumerations(name: str, prefix: str, python: type[enum.IntEnum]) -> None:
    ours = {prefix + member.name: member.value for member in python}
    assert members(API, name) == ours


def test_limits() -> None:
    c = [name.removeprefix("DCO_LIMIT_") for name in members(API, "dco_limit")]
    assert c == [*model.Limit.__members__, "DCO_LIMITS"]
    assert [member.value for member in model.Limit] == [1 << n for n in range(len(c) - 1)]
    order = [field.name.removesuffix("_s") for field in fields(model.PeerLimits)]
    assert order == [name.lower() for name in c[:-1]] + ["inactive_bytes"]


def test_offloads() -> None:
    c = {
        name.removeprefix("DCO_OFFLOAD_"): value
        for name, value in members(API, "dco_offload").items()
        if name != "DCO_OFFLOAD_ALL"
    }
    assert c == {
        name.upper(): model.Offload[name.upper()].value for name in model.Offload.ALL.names
    }
    assert model.Offload.ALL.value == sum(c.values())
