"""Real traffic through two devices: ping and iperf3, over and inside IPv4 and IPv6."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from system.tunnel import (
    SERVER_IPV4,
    SERVER_IPV6,
    SYSTEM,
    Sniffer,
    Tunnel,
    iperf3,
    join,
    open_tunnel,
    ping,
)

import ovpn_dco as dco

pytestmark = SYSTEM

CIPHERS = [cipher for cipher in dco.Cipher if cipher is not dco.Cipher.NONE]


@pytest.fixture(scope="module", params=["ipv4", "ipv6", "ipv4 on a dual-stack socket"])
def standing(request: pytest.FixtureRequest) -> Iterator[Tunnel]:
    """One tunnel for each outer family, shared by the tests that leave it as it was."""
    outer, _, dual = request.param.partition(" ")
    with open_tunnel(outer=outer, host="::" if dual else None) as tunnel:
        yield tunnel


@pytest.mark.parametrize("inner", [SERVER_IPV4, SERVER_IPV6], ids=["in4", "in6"])
class TestPing:
    @pytest.mark.parametrize("size", [56, 1372, 3000])
    def test_flood_both_ways(self, standing: Tunnel, inner: str, size: int) -> None:
        """A hundred in three seconds; 3000 bytes make fragments inside."""
        backward = standing.client.ipv4 if inner == SERVER_IPV4 else standing.client.ipv6
        quick = ("-w", "3")
        ping(standing.client.namespace, inner, count=100, size=size, interval_s=0, options=quick)
        ping(standing.server.namespace, backward, count=100, size=size, interval_s=0, options=quick)


@pytest.mark.parametrize("inner", [SERVER_IPV4, SERVER_IPV6], ids=["in4", "in6"])
@pytest.mark.parametrize("reverse", [False, True], ids=["up", "down"])
class TestIperf:
    def test_tcp(self, standing: Tunnel, inner: str, reverse: bool) -> None:
        server, client = standing.server.namespace, standing.client.namespace
        report = iperf3(server, client, inner, reverse=reverse)
        assert report["end"]["sum_sent"]["bytes"] >= 16 << 20
        assert report["end"]["sum_received"]["bytes"] > 0

    def test_udp(self, standing: Tunnel, inner: str, reverse: bool) -> None:
        server, client = standing.server.namespace, standing.client.namespace
        report = iperf3(server, client, inner, udp=True, reverse=reverse, megabytes=4)
        assert report["end"]["sum"]["packets"] >= (4 << 20) // 1200
        assert report["end"]["sum"]["lost_packets"] < report["end"]["sum"]["packets"]


def test_parallel_streams(standing: Tunnel) -> None:
    server, client = standing.server.namespace, standing.client.namespace
    iperf3(server, client, SERVER_IPV4, options=("-P", "4"))


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.value)
def test_every_cipher(cipher: dco.Cipher) -> None:
    with open_tunnel(cipher=cipher) as tunnel:
        ping(tunnel.client.namespace, SERVER_IPV4)
        ping(tunnel.client.namespace, SERVER_IPV4, size=3000)
        iperf3(tunnel.server.namespace, tunnel.client.namespace, SERVER_IPV4)
        assert tunnel.pair.at_server.key(dco.KeySlot.PRIMARY).cipher is cipher
        assert tunnel.pair.at_server.stats().rx_decrypt_errors == 0


def test_dual_stack_socket_serves_both_families() -> None:
    """One server socket, one client over IPv4 and one over IPv6."""
    with open_tunnel(spokes=2, host="::") as tunnel:
        first, second = tunnel.clients
        tunnel.pairs[1].at_server.delete()
        tunnel.pairs[1].at_client.delete()
        tunnel.pairs[1] = join(tunnel.server, second, tunnel.topology.links[1], outer="ipv6")
        for client in (first, second):
            for inner in (SERVER_IPV4, SERVER_IPV6):
                ping(client.namespace, inner, count=20, size=1300)
        assert [len(pair.at_server.remote or ()) for pair in tunnel.pairs] == [2, 4]
        assert tunnel.pairs[0].at_server.remote == (tunnel.topology.links[0].right_ipv4, 1194)


@pytest.mark.parametrize("outer", ["ipv4", "ipv6"])
@pytest.mark.parametrize("ids", [(7, 7), (7, 9), (0, 0xFFFFFE)])
def test_header_carries_the_receivers_id(outer: str, ids: tuple[int, int]) -> None:
    """On the wire: opcode and key id, then the id that the other side wants to see."""
    to_server, to_client = ids
    with open_tunnel(outer=outer, ids=ids) as tunnel:
        link = tunnel.topology.link
        with Sniffer(tunnel.client.namespace, link.right_name) as sniffer:
            ping(tunnel.client.namespace, SERVER_IPV4)
            seen = sniffer.datagrams()
    up = {data[:4] for outgoing, data in seen if outgoing}
    down = {data[:4] for outgoing, data in seen if not outgoing}
    assert up == {bytes([0x48]) + to_server.to_bytes(3, "big")}
    assert down == {bytes([0x48]) + to_client.to_bytes(3, "big")}
    numbers = [int.from_bytes(data[4:8], "big") for outgoing, data in seen if outgoing]
    assert numbers == list(range(1, 6))


@pytest.mark.parametrize("mtu", [1280, 1500, 9000])
def test_other_mtus(mtu: int) -> None:
    """Larger ones make outer fragments; the wire stays at 1500."""
    with open_tunnel(mtu=mtu) as tunnel:
        client, server = tunnel.client.namespace, tunnel.server.namespace
        ping(client, SERVER_IPV4, size=mtu - 28, options=("-M", "do"))
        ping(client, SERVER_IPV4, size=4000)
        ping(client, SERVER_IPV6, size=4000)
        iperf3(server, client, SERVER_IPV4, megabytes=4)
        assert tunnel.server.device.mtu == mtu


def test_mtu_change_while_traffic_flows(tunnel: Tunnel) -> None:
    client = tunnel.client.namespace
    for mtu in (576, 9000, 1420):
        for site in tunnel.sites:
            site.device.mtu = mtu
        ping(client, SERVER_IPV4, size=mtu - 28, options=("-M", "do"))
        iperf3(tunnel.server.namespace, client, SERVER_IPV4, megabytes=4)
        assert tunnel.client.device.mtu == mtu
