"""test-symmetric-id.sh, test-symmetric-id-tcp.sh: one id for both directions, and no other given
for what is sent."""

from __future__ import annotations

import pytest
from scenarios import sequence
from system.tunnel import SYSTEM

pytestmark = SYSTEM


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_the_whole_sequence(make_vpn, tcp: bool) -> None:
    sequence.run(make_vpn(symmetric=True, tcp=tcp))
