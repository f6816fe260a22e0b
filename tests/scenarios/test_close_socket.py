"""test-close-socket.sh, test-close-socket-tcp.sh: the owner of the sockets dies in the middle of
traffic. Nothing hangs, the peers go, and their devices can still be removed."""

from __future__ import annotations

import pytest
from scenarios.sequence import await_notices
from scenarios.traffic import flood, transfer
from scenarios.vpn import SERVER_VPN, Vpn, vpn_address
from system.tunnel import SYSTEM, RunningPing, eventually

pytestmark = SYSTEM


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("first", ["server", "clients"])
def test_sockets_go(make_vpn, tcp: bool, first: str) -> None:
    vpn: Vpn = make_vpn(tcp=tcp)
    flood([(vpn.server.namespace, vpn_address(number)) for number in vpn.numbers])
    transfer(vpn.server.namespace, vpn.clients[1].namespace, SERVER_VPN)
    running = [RunningPing(client.namespace, SERVER_VPN) for client in vpn.clients.values()]
    before = {number: peer.stats().vpn_rx_packets for number, peer in vpn.at_server.items()}
    eventually(
        lambda: all(vpn.at_server[n].stats().vpn_rx_packets > before[n] for n in vpn.numbers),
        what="pings of all",
    )
    parties = list(vpn.parties)
    for party in parties if first == "server" else reversed(parties):
        party.lose_sockets()
    for ping in running:
        ping.stop()
    gone = [(number, "deleted", "TRANSPORT_DISCONNECT") for number in vpn.numbers]
    await_notices(vpn.server, gone)
    assert vpn.server.listen() == gone
    for number, client in vpn.clients.items():
        own = [(vpn.shape.client_id(number), "deleted", "TRANSPORT_DISCONNECT")]
        await_notices(client, own)
        assert client.listen() == own
    assert not any(party.device.peers for party in vpn.parties)
