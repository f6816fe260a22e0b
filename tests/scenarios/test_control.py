"""Packets that are not data: they come to the owner of the socket as they are, and it answers."""

from __future__ import annotations

import pytest
from scenarios.stranger import Stranger
from system.tunnel import SYSTEM, eventually, frame

pytestmark = SYSTEM

DATA_V1, DATA_V2 = 6, 9
OPCODES = [opcode for opcode in range(1, 32) if opcode not in (DATA_V1, DATA_V2)]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_both_ways(make_network, back_end, tcp: bool) -> None:
    """Between data packets, which the owner never sees."""
    with Stranger(make_network(clients=(1,), tcp=tcp)) as stranger:
        device, (sock, transport) = stranger.vpn.server.device, stranger.vpn.server.sockets[0]
        control = [bytes([opcode << 3]) + b"control" for opcode in OPCODES]
        for packet in control:
            stranger.send(packet, stranger.word("data"))
        assert stranger.heard() == ["data"] * len(control)
        seen: list[bytes] = []

        def all_of_it() -> bool:
            seen.extend(back_end.control_packets(device, sock))
            return len(seen) >= len(control)

        eventually(all_of_it, what="control packets")
        assert seen == control

        for packet in control:
            back_end.send_control(transport, sock, packet, None if tcp else stranger.peer.remote)
        expected = b"".join(map(frame, control)) if tcp else b"".join(control)
        got = b""
        while len(got) < len(expected):
            got += stranger.sock.recv(65536)
        assert got == expected


def test_what_the_owner_never_sees(make_network, back_end) -> None:
    """Data for nobody, DATA_V1, and what is too short to be anything."""
    with Stranger(make_network(clients=(1,))) as stranger:
        device, (sock, _) = stranger.vpn.server.device, stranger.vpn.server.sockets[0]
        old, runt = bytes([DATA_V1 << 3]) + bytes(40), b"\x38\0"
        stranger.send(stranger.word("data", peer_id=9), old, runt)
        assert stranger.heard() == []
        assert back_end.control_packets(device, sock) == []
