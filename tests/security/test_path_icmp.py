"""ICMP errors that anybody may have sent: what they can do to the path of a peer, and what not."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from codec_packets import ones_sum
from loopback import Host, add, eventually, host, udp_socket

pytestmark = [pytest.mark.security, pytest.mark.root]


class Forger:
    """Says that a datagram of the device's socket was too big."""

    def __init__(self, target: Host) -> None:
        self._target = target
        self._ipv6 = target.sock.family == socket.AF_INET6
        kind = socket.IPPROTO_ICMPV6 if self._ipv6 else socket.IPPROTO_ICMP
        self._socket = socket.socket(target.sock.family, socket.SOCK_RAW, kind)
        self._told = 0

    def close(self) -> None:
        self._socket.close()

    def claim(self, mtu: int, *, port: int) -> None:
        """About a datagram to `port` on loopback; done when the device has seen it."""
        udp = struct.pack("!HHHH", self._target.address[1], port, 1400, 0)
        if self._ipv6:
            loopback = socket.inet_pton(socket.AF_INET6, "::1")
            quoted = struct.pack("!IHBB", 6 << 28, 1400, 17, 64) + loopback * 2 + udp
            self._socket.sendto(struct.pack("!BBHI", 2, 0, 0, mtu) + quoted, ("::1", 0))
        else:
            loopback = socket.inet_aton("127.0.0.1")
            quoted = struct.pack("!BBHHHBBH", 0x45, 0, 1420, 0, 0x4000, 64, 17, 0)
            quoted += loopback * 2 + udp
            head = struct.pack("!BBHHH", 3, 4, 0, 0, mtu)
            head = struct.pack("!BBHHH", 3, 4, 0xFFFF - ones_sum(head + quoted), 0, mtu)
            self._socket.sendto(head + quoted, ("127.0.0.1", 0))
        self._told += 1
        eventually(lambda: self._target.device.transports[-1].info().icmp_errors == self._told)


@pytest.fixture(params=["ipv4", "ipv6"])
def target(request: pytest.FixtureRequest) -> Iterator[Host]:
    family = socket.AF_INET6 if request.param == "ipv6" else socket.AF_INET
    with host(family=family) as server:
        server.transport.close()
        yield Host(
            server.device, server.app, server.sock, server.device.attach_udp(server.sock, df=True)
        )


def test_what_icmp_may_say(target: Host) -> None:
    ipv6 = target.sock.family == socket.AF_INET6
    least = 1280 if ipv6 else 576
    loopback = "::1" if ipv6 else "127.0.0.1"
    forger = Forger(target)
    with udp_socket(target.sock.family) as one, udp_socket(target.sock.family) as two:
        ports = [sock.getsockname()[1] for sock in (one, two)]
        peer, other = (
            add(target, number, remote=(loopback, port)) for number, port in enumerate(ports, 1)
        )
        said = [(least - 1, None), (1450, 1450), (1500, 1450), (least + 10, least + 10)]
        for mtu, believed in [*said, (1400, least + 10), (least, least), (0, least)]:
            forger.claim(mtu, port=ports[0])
            assert peer.info().path_mtu == believed
        assert other.info().path_mtu is None
        forger.claim(1400, port=9)  # nobody's
        assert other.info().path_mtu is None
        # A peer that is elsewhere is on another path.
        peer.set(remote=(loopback, 9))
        assert peer.info().path_mtu is None
    forger.close()


def test_without_df_icmp_says_nothing() -> None:
    """Over IPv6 the kernel listens, to fragment, and tells of it; over IPv4 it does not even."""
    with host(family=socket.AF_INET6) as server, udp_socket(socket.AF_INET6) as far:
        port = far.getsockname()[1]
        peer = add(server, remote=("::1", port))
        forger = Forger(server)
        forger.claim(1300, port=port)
        assert peer.info().path_mtu is None
        forger.close()
