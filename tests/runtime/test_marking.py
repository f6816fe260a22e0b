"""What the two ends tell each other of ECN, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from ovpn_dco.model import Ecn, Feature
from ovpn_dco.protocol.peerinfo import Announcement
from ovpn_dco.protocol.push import parse_options
from ovpn_dco.runtime.marking import (
    ecn_of_client,
    ecn_of_server,
    peer_info_lines,
    pushed_to,
    set_marking,
)

BOTH = frozenset({Feature.ECN, Feature.DSCP})
NEITHER: frozenset[Feature] = frozenset()


class FakePeer:
    marking: dict[str, Any] | None = None

    def set_marking(self, **marking: Any) -> None:
        self.marking = marking


@pytest.mark.parametrize("at_client", [BOTH, NEITHER])
@pytest.mark.parametrize("at_server", [BOTH, NEITHER])
def test_copied_out_only_to_who_brings_in(
    at_client: frozenset[Feature], at_server: frozenset[Feature]
) -> None:
    said = Announcement(peer_info_lines(at_client))
    pushed = parse_options(pushed_to(said, at_server))
    assert ecn_of_client(said) is (Ecn.NORMAL if at_client else Ecn.COMPATIBILITY)
    assert ecn_of_server(pushed) is (Ecn.NORMAL if at_client and at_server else Ecn.COMPATIBILITY)


@pytest.mark.parametrize("value", ["", "0", "2", "11", "yes"])
def test_another_word_is_none(value: str) -> None:
    said = Announcement({"UV_DCO_ECN": value})
    assert ecn_of_client(said) is Ecn.COMPATIBILITY
    assert not pushed_to(said, BOTH)
    assert ecn_of_server(parse_options([f"setenv-safe DCO_ECN {value}"])) is Ecn.COMPATIBILITY


@pytest.mark.parametrize("dscp", [False, True])
def test_an_engine_without_it_is_not_asked_unless_it_must(dscp: bool) -> None:
    """For DSCP it is, so that it refuses."""
    peer = FakePeer()
    set_marking(peer, NEITHER, ecn=Ecn.NORMAL, dscp=dscp)  # type: ignore[arg-type]
    assert peer.marking == ({"ecn": Ecn.NORMAL, "dscp": True} if dscp else None)
    set_marking(peer, BOTH, ecn=Ecn.COMPATIBILITY, dscp=dscp)  # type: ignore[arg-type]
    assert peer.marking == {"ecn": Ecn.COMPATIBILITY, "dscp": dscp}
