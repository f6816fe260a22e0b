"""test-epoch.sh, test-epoch-tcp.sh of the driver's development tree: epoch keys."""

from __future__ import annotations

import pytest
from scenarios import sequence
from system.tunnel import SYSTEM

import ovpn_dco as dco

pytestmark = SYSTEM


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_the_whole_sequence(make_vpn, back_end, tcp: bool) -> None:
    back_end.needs(dco.Feature.EPOCH_KEYS)
    sequence.run(make_vpn(epoch=True, tcp=tcp))
