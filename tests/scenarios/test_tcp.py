"""test-tcp.sh: the same over TCP, a connection for each client."""

from __future__ import annotations

from scenarios import sequence
from system.tunnel import SYSTEM

pytestmark = SYSTEM


def test_the_whole_sequence(make_vpn) -> None:
    sequence.run(make_vpn(tcp=True))
