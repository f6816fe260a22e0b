"""What stands outside the matrix: addresses, sizes, logins, and what must be refused."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from interop.cases import Case, Transport, Wrap
from interop.ends import End
from interop.files import SERVER_IPV4, SERVER_IPV6, expired, issued, revocations
from interop.stage import OURS, Stage
from support import needs_tool
from system.tunnel import PATIENCE_S, RunningPing, Sniffer, eventually, ping

from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.statickey import StaticKey

pytestmark = [pytest.mark.root, pytest.mark.interop, needs_tool("openvpn", "ping")]

both_roles = pytest.mark.parametrize("ours", Role, ids=lambda role: role.name.lower())
MakeStage = Callable[..., Stage]

CLIENTS = 20
FIRST_CLIENT_IPV4 = "10.9.0.2"
DATA_V1, DATA_V2 = 6 << 3, 9 << 3  # with key id 0
LOGIN = b"alice\nhunter2\n"


@both_roles
@pytest.mark.parametrize("transport", Transport, ids=lambda transport: transport.value)
def test_ipv6_outside_and_inside(ours: Role, transport: Transport, make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=ours, transport=transport))
    server = stage.server(ipv6=True, lines="server-ipv6 fd09::/64\n")
    stage.start(server, stage.client(ipv6=True))
    ping(stage.there, SERVER_IPV6)
    ping(stage.there, SERVER_IPV4)


@both_roles
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_versions(ours: Role, version: str, make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=ours))
    only = {ours: f"tls-version-min {version}\ntls-version-max {version}\n"}
    server = stage.server(lines=only.get(Role.SERVER, ""))
    client = stage.client(lines=only.get(Role.CLIENT, ""))
    stage.start(server, client)
    stage.stock(server, client).wait_for(f"Control Channel: TLSv{version}")
    ping(stage.there, SERVER_IPV4)


@both_roles
@pytest.mark.parametrize("digest", ["", "auth SHA512\n"], ids=["sha1", "sha512"])
def test_tls_auth_without_a_direction(ours: Role, digest: str, make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=ours, wrap=Wrap.TLS_AUTH))
    wrap = f"{digest}tls-auth static.key\n"
    stage.start(stage.server(wrap=wrap), stage.client(wrap=wrap))
    ping(stage.there, SERVER_IPV4)


@both_roles
def test_both_ends_renew_at_once(ours: Role, make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=ours))
    server, client = stage.server(lines="reneg-sec 2 2\n"), stage.client(lines="reneg-sec 2\n")
    stage.start(server, client)
    pings = RunningPing(stage.there, SERVER_IPV4, interval_s=0.05)
    stock = stage.stock(server, client)
    stock.wait_for(stock.words.renewed, count=4)
    pings.stop_without_loss()


@both_roles
def test_a_client_that_moves(ours: Role, make_stage: MakeStage) -> None:
    """To another address: data goes on from there, and so do renegotiations by either end."""
    stage = make_stage(Case(ours=ours))
    server, client = stage.server(lines="reneg-sec 2 2\n"), stage.client(lines="reneg-sec 2\n")
    stage.start(server, client)
    ping(stage.there, SERVER_IPV4)
    link, stock = stage.topology.link, stage.stock(server, client)
    place = link.right_ipv4
    stage.there.replace_address(link.right_name, place, place[:-1] + "3")
    ping(stage.there, SERVER_IPV4, count=20)
    ping(stage.here, FIRST_CLIENT_IPV4, count=20)
    stock.wait_for(stock.words.renewed, count=stock.count(stock.words.renewed) + 1)
    ping(stage.there, SERVER_IPV4)


@pytest.mark.skipif(OURS == "stock", reason="stock openvpn 2.6 has no epoch keys")
@pytest.mark.parametrize("transport", Transport, ids=lambda transport: transport.value)
def test_epoch_keys_between_two_of_ours(transport: Transport, make_stage: MakeStage) -> None:
    stage = make_stage(Case(transport=transport), alone=True)
    server, client = stage.server(lines="reneg-sec 3 3\n"), stage.client(lines="reneg-sec 5\n")
    stage.start(server, client)
    with Sniffer(stage.here, stage.topology.link.left_name) as sniffer:
        ping(stage.there, SERVER_IPV4, count=3)
        wire = b"".join(packet for _, packet in sniffer.packets())
    first_epoch = bytes([DATA_V2]) + bytes(3) + (1).to_bytes(2, "big") + bytes(5)
    assert first_epoch in wire, "a packet of peer 0 whose packet id begins with the epoch"
    pings = RunningPing(stage.there, SERVER_IPV4, interval_s=0.05)
    server.wait_for(server.words.renewed, count=3)
    pings.stop_without_loss()


@both_roles
def test_new_keys_after_so_many_packets(ours: Role, make_stage: MakeStage) -> None:
    """Counted once the last key seals, after the hand-window: stock openvpn gives up the key before
    that as soon as it hears of another."""
    stage = make_stage(Case(ours=ours))
    line = {ours: "reneg-pkts 50\n"}
    server = stage.server(lines="hand-window 2\n" + line.get(Role.SERVER, ""))
    client = stage.client(lines="hand-window 2\n" + line.get(Role.CLIENT, ""))
    stage.start(server, client)
    pings = RunningPing(stage.there, SERVER_IPV4, interval_s=0.005)
    stock = stage.stock(server, client)
    stock.wait_for(stock.words.renewed, count=3)
    pings.stop_without_loss()


def test_a_client_whose_time_is_up_comes_again(make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=Role.SERVER))
    client = stage.client()
    stage.start(stage.server(lines="session-timeout 2\n"), client)
    client.wait_for(client.words.connected, count=2)


def test_a_client_that_is_idle_stops(make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=Role.SERVER))
    server, client = stage.server(lines="inactive 2\n"), stage.client()
    stage.start(server, client)
    assert client.wait_exit() == 0
    assert server.is_running


@both_roles
@pytest.mark.skipif(OURS == "stock", reason="stock openvpn 2.6 always has cc-exit")
def test_a_goodbye_in_the_data_channel(ours: Role, make_stage: MakeStage) -> None:
    """Where one end has no word for it in the control channel."""
    stage = make_stage(Case(ours=ours), without="CC_EXIT_NOTIFY")
    server, client = stage.server(), stage.client()
    stage.start(server, client)
    ping(stage.there, SERVER_IPV4)
    assert client.stop() == 0
    server.wait_for(server.words.goodbye)
    assert "CC-EEN" not in server.log


@both_roles
def test_the_byte_that_makes_a_train_uneven(ours: Role, make_stage: MakeStage) -> None:
    """What some kernels need behind a train (ext/io/udp_send.c) means nothing to the other end."""
    stage = make_stage(Case(ours=ours))
    server, client = stage.server(), stage.client()
    stage.start(server, client)
    link, stock = stage.topology.link, stage.stock(server, client)
    sender = stage.there if ours is Role.CLIENT else stage.here
    device = link.right_name if ours is Role.CLIENT else link.left_name
    with Sniffer(sender, device) as sniffer:
        ping(stage.there, SERVER_IPV4)
        sent = [packet for outgoing, packet in sniffer.packets() if outgoing]
    packet = next(one for one in sent if one[9] == socket.IPPROTO_UDP and one[28] == DATA_V2)
    length, no_checksum = (9).to_bytes(2, "big"), bytes(2)
    byte = packet[:24] + length + no_checksum + bytes([DATA_V1])
    with sender.enter(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for _ in range(20):
            raw.sendto(byte, (socket.inet_ntoa(packet[16:20]), 0))
    ping(stage.there, SERVER_IPV4)
    assert "rror" not in stock.log


# Sizes


@both_roles
@pytest.mark.parametrize("wire", [1500, 1400])
@pytest.mark.parametrize("mtu", [1500, 1400])
def test_packets_of_full_size(ours: Role, wire: int, mtu: int, make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=ours), mtu=wire)
    stage.start(stage.server(lines=f"tun-mtu {mtu}\n"), stage.client())
    headers = 28  # of IPv4 and ICMP
    ping(stage.there, SERVER_IPV4, size=mtu - headers, options=("-M", "do"))
    too_large = ["ping", "-c1", "-W1", "-M", "do", "-s", str(mtu - headers + 1), SERVER_IPV4]
    refused = stage.there.run(too_large, check=False)
    assert f"mtu={mtu}" in refused.stdout + refused.stderr


def segment_sizes(stage: Stage) -> tuple[int, int]:
    """What both ends of a TCP connection through the tunnel may send at once, options apart."""
    with (
        stage.here.socket(kind=socket.SOCK_STREAM) as listener,
        stage.there.socket(kind=socket.SOCK_STREAM) as far,
    ):
        listener.bind((SERVER_IPV4, 0))
        listener.listen()
        far.settimeout(PATIENCE_S)
        far.connect(listener.getsockname())
        near, _ = listener.accept()
        with near:
            one, two = (s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) for s in (near, far))
            return one, two


@pytest.mark.parametrize(
    ("lines", "transport"),
    [("", Transport.UDP), ("mssfix 1300\n", Transport.UDP), ("", Transport.TCP)],
    ids=["default", "datagram", "tcp"],
)
def test_the_mss_is_the_same(lines: str, transport: Transport, make_stage: MakeStage) -> None:
    """Whichever end lowers it, alone, it comes to the same, both ways."""
    found = []
    for clamps in (OURS, "the other"):
        stage = make_stage(Case(ours=Role.SERVER, transport=transport))
        own = clamps == OURS
        server = stage.server(lines=lines if own else "mssfix 0\n")
        client = stage.client(lines="mssfix 0\n" if own else lines)
        stage.start(server, client)
        found.append(segment_sizes(stage))
    assert found[0] == found[1]
    assert found[0][0] == found[0][1] < 1448


# Many


@pytest.mark.slow
def test_twenty_clients_at_once(make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=Role.SERVER), spokes=CLIENTS)
    server = stage.server()
    server.start()
    server.wait_for(server.words.listening)
    clients = [
        stage.client(number, identity=issued(Role.CLIENT, f"client-{number}"))
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.wait_for(client.words.connected)
    pings = [RunningPing(spoke, SERVER_IPV4, interval_s=0.2) for spoke in stage.topology.spokes]
    for one in pings:
        one.stop_without_loss()
    for client in clients:
        assert client.stop() == 0
    server.wait_for(server.words.goodbye, count=CLIENTS)


@both_roles
def test_clients_reach_each_other(ours: Role, make_stage: MakeStage) -> None:
    """With `client-to-client`, and a host that forwards nothing."""
    stage = make_stage(Case(ours=ours), spokes=2)
    stage.here.run(["sysctl", "-qw", "net.ipv4.ip_forward=0"])
    server = stage.server(lines="client-to-client\n")
    first, second = (
        stage.client(number, identity=issued(Role.CLIENT, f"client-{number}"))
        for number in range(2)
    )
    stage.start(server, first)
    second.start()
    second.wait_for(second.words.connected)
    one, another = stage.topology.spokes
    addresses = {
        word.split("/")[0]
        for spoke in (one, another)
        for word in spoke.run(["ip", "-4", "-br", "address"]).stdout.split()
        if word.startswith("10.9.0.")
    }
    assert len(addresses) == 2
    for spoke in (one, another):
        for address in addresses:
            ping(spoke, address, size=2000)


# Logins


@both_roles
def test_a_good_login(ours: Role, make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=ours))
    server = stage.server(login="users", files={"users": LOGIN})
    client = stage.client(lines="auth-user-pass login\n", files={"login": LOGIN})
    stage.start(server, client)
    ping(stage.there, SERVER_IPV4)


@both_roles
def test_a_wrong_password(ours: Role, make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=ours))
    server = stage.server(login="users", files={"users": LOGIN})
    client = stage.client(lines="auth-user-pass login\n", files={"login": b"alice\nletmein\n"})
    server.start()
    server.wait_for(server.words.listening)
    client.start()
    assert client.wait_exit() == client.words.login_exit
    assert client.count(client.words.login_refused), client.tail
    assert server.count(server.words.bad_login), server.tail
    assert server.is_running


# Refusals


@both_roles
def test_a_wrong_key_is_met_with_silence(ours: Role, make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=ours))
    server = stage.server()
    wrong = StaticKey(bytes(range(256))).format().encode()
    client = stage.client(lines="tls-timeout 1\n", files={"static.key": wrong})
    server.start()
    server.wait_for(server.words.listening)
    seen: list[bool] = []
    with Sniffer(stage.here, stage.topology.link.left_name) as sniffer:
        client.start()

        def enough() -> bool:
            seen.extend(outgoing for outgoing, _ in sniffer.datagrams())
            return seen.count(False) >= 3

        eventually(enough, what="three attempts of the client")
        assert server.stop() == 0
        enough()
    assert server.count(server.words.unopened), server.tail
    assert True not in seen, "the server answered"
    assert client.count(client.words.connected) == 0


@both_roles
@pytest.mark.parametrize("judge", Role, ids=lambda role: f"{role.name.lower()}-judges")
def test_an_expired_certificate(ours: Role, judge: Role, make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=ours))
    bad = {opposite(judge): expired(opposite(judge))}
    server = stage.server(identity=bad.get(Role.SERVER))
    client = stage.client(identity=bad.get(Role.CLIENT))
    assert_refused(server, client, judge=judge, because="expired")


@both_roles
@pytest.mark.parametrize("judge", Role, ids=lambda role: f"{role.name.lower()}-judges")
def test_a_revoked_certificate(ours: Role, judge: Role, make_stage: MakeStage) -> None:
    stage = make_stage(Case(ours=ours))
    other = opposite(judge)
    files = {"crl.pem": revocations(issued(other, f"{other.value}-1"))}
    lines = {judge: "crl-verify crl.pem\n"}
    server = stage.server(lines=lines.get(Role.SERVER, ""), files=files)
    client = stage.client(lines=lines.get(Role.CLIENT, ""), files=files)
    assert_refused(server, client, judge=judge, because="revoked")


def opposite(role: Role) -> Role:
    return Role.CLIENT if role is Role.SERVER else Role.SERVER


def assert_refused(server: End, client: End, *, judge: Role, because: str) -> None:
    server.start()
    server.wait_for(server.words.listening)
    client.start()
    end = server if judge is Role.SERVER else client
    end.wait_for(getattr(end.words, because))
    assert client.count(client.words.connected) == 0
    assert server.is_running
