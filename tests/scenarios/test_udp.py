"""test.sh: AES-256-GCM over UDP, with another id in either direction."""

from __future__ import annotations

from scenarios import sequence
from system.tunnel import SYSTEM

pytestmark = SYSTEM


def test_the_whole_sequence(make_vpn) -> None:
    sequence.run(make_vpn())
