"""test-large-mtu.sh: an interface of 1500 on a wire of 1500: full packets go as fragments."""

from __future__ import annotations

from scenarios import sequence
from scenarios.traffic import flood
from scenarios.vpn import vpn_address
from scenarios.wire import is_fragment
from system.tunnel import SYSTEM

pytestmark = SYSTEM

MTU = 1500
FULL = MTU - 28  # payload of a ping that fills it


def test_the_whole_sequence(make_vpn) -> None:
    vpn = make_vpn(mtu=MTU)
    for number in (1, 4):
        with sequence.capture(vpn, number) as seen:
            flood([(vpn.server.namespace, vpn_address(number))], size=FULL)
            fragments = [sent for sent, packet in seen.packets() if is_fragment(packet)]
        assert {True, False} == set(fragments), "both ways"
    sequence.run(vpn)
