"""What a receiver accepts of a peer, and what it does not: each check by packets made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from scenarios.sequence import LAN
from scenarios.stranger import Stranger
from scenarios.vpn import PORT, Vpn, vpn_address
from security.forge import DATA_V1, KEEPALIVE, OVERHEAD, UNDEFINED
from system.tunnel import SYSTEM

pytestmark = SYSTEM

OTHER_PORT = 5555
NEWEST = 10_000
REPLAYS = [  # packet id, whether it is accepted
    (1, True),
    (1, False),
    (0, False),
    (3, True),
    (2, True),
    (2, False),
    (NEWEST, True),
    (NEWEST - 2047, True),
    (NEWEST - 2047, False),
    (NEWEST - 2048, False),
    (4, False),
    (NEWEST - 1, True),
    (NEWEST, False),
]


@pytest.fixture
def stranger(make_network: Callable[..., Vpn]) -> Iterator[Stranger]:
    with Stranger(make_network(clients=(1, 2))) as one:
        yield one


def test_replay_window(stranger: Stranger) -> None:
    """Of 2048 ids; each of them once, and id 0 never."""
    for number, (packet_id, _) in enumerate(REPLAYS):
        stranger.send(stranger.word(str(number), packet_id=packet_id))
    stranger.forge.next_id = NEWEST + 1
    assert stranger.heard() == [str(number) for number, (_, ok) in enumerate(REPLAYS) if ok]


def test_nothing_but_what_the_peer_has_sealed(stranger: Stranger) -> None:
    """A bit changed anywhere, a part cut off, another key or id: nobody hears of it, and the peer
    stays where it is, though all of it comes from elsewhere. What has its id counts as received."""
    before = stranger.peer.stats().link_rx_packets
    good = stranger.word("bad")
    wrong = [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in range(len(good))]
    wrong += [good[:length] for length in range(len(good))]
    wrong += [stranger.word("bad", key_id=1), stranger.word("bad", peer_id=9), good + b"\0"]
    wrong += [bytes([DATA_V1 << 3]) + good[1:], stranger.forge.seal(KEEPALIVE[:-1])]
    with stranger.place(OTHER_PORT) as elsewhere:
        for packet in wrong[:-1]:
            elsewhere.sendall(packet)
    stranger.send(wrong[-1])
    assert stranger.heard() == []
    assert stranger.peer.remote[1] == PORT
    stats = stranger.peer.stats()
    assert stats.link_rx_packets - before > 2 * (len(good) - OVERHEAD)
    assert stats.vpn_rx_packets == 2, "the markers"
    assert stranger.vpn.server.listen() == []


def test_source_is_the_peers(stranger: Stranger) -> None:
    """Its VPN address, or what is routed to it; not that of another peer."""
    server = stranger.vpn.server
    server.device.add_peer(2, stranger.transport, remote=("10.10.2.2", PORT), vpn_ipv4="5.5.5.3")
    strange = ["5.5.5.3", "5.5.5.77", LAN]
    stranger.send(*(stranger.word(source, source=source) for source in strange))
    assert stranger.heard() == []
    stranger.vpn.back_end.route_behind(
        server.device, server.namespace, f"{LAN}/32", stranger.peer, vpn_address(1)
    )
    stranger.send(*(stranger.word(source, source=source) for source in strange))
    assert stranger.heard() == [LAN]


def test_what_moves_a_peer(stranger: Stranger) -> None:
    """A packet that is authentic and new, a keepalive as well as any; not one that is repeated."""
    old = stranger.word("old")
    stranger.send(old)
    assert stranger.heard() == ["old"]
    home = stranger.peer.remote
    with stranger.place(OTHER_PORT) as elsewhere:
        elsewhere.sendall(old)
        assert stranger.heard() == []
        assert stranger.peer.remote == home
        elsewhere.sendall(stranger.forge.seal(KEEPALIVE))
        assert stranger.told() == [(1, "floated", f"{home[0]} {OTHER_PORT}")]
        assert stranger.peer.remote == (home[0], OTHER_PORT)


def test_undefined_id(stranger: Stranger) -> None:
    """It stands for whoever is at the address that the packet comes from."""
    with stranger.place(OTHER_PORT) as elsewhere:
        elsewhere.sendall(stranger.word("from elsewhere", peer_id=UNDEFINED))
    stranger.send(stranger.word("from home", peer_id=UNDEFINED))
    assert stranger.heard() == ["from home"]
    assert stranger.peer.remote[1] == PORT
