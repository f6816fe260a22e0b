"""test-float.sh, test-symmetric-id-float.sh, and float-test.sh of the driver's first versions:
clients change their address."""

from __future__ import annotations

import pytest
from scenarios import sequence
from scenarios.traffic import flood
from scenarios.vpn import PORT, SERVER_VPN
from system.tunnel import SYSTEM, eventually, ping_command, ping_result

pytestmark = SYSTEM

PINGS = 2000


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
def test_the_whole_sequence(make_vpn, symmetric: bool) -> None:
    sequence.run(make_vpn(symmetric=symmetric), moving=True)


@pytest.mark.parametrize("number", [1, 4], ids=["ipv4", "ipv6"])
def test_two_thousand_pings_on_the_move(make_vpn, number: int) -> None:
    """The client moves at each quarter of them. What it cannot send while it has no address at all
    is made up for: ping goes on until it has all answers."""
    vpn = make_vpn(clients=(number,))
    client, peer = vpn.clients[number], vpn.at_server[number]
    command = ping_command(SERVER_VPN, count=PINGS, size=56, interval_s=0, options=("-w", "60"))
    pings = client.namespace.popen(command, stdout=-1, text=True)
    place = vpn.outer(number, server=False)
    for quarter, end in enumerate("343", 1):
        eventually(
            lambda: peer.stats().vpn_rx_packets >= quarter * PINGS // 4,  # noqa: B023
            what=f"{quarter} quarters of the pings",
        )
        old, place = place, place[:-1] + end
        client.namespace.replace_address(vpn.link(number).right_name, old, place)
    output, _ = pings.communicate(timeout=60)
    assert pings.returncode == 0, output
    assert ping_result(output).received >= PINGS
    # All of them may have been answered before the last move.
    flood([(client.namespace, SERVER_VPN)], count=10)
    assert peer.remote[:2] == (place, PORT)
    assert {notice[:2] for notice in vpn.server.listen()} == {(number, "floated")}
