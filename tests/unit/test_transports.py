"""Attaching sockets, giving them back, and what cannot be sent."""

from __future__ import annotations

import contextlib
import socket

import pytest
from loopback import (
    ANYWHERE,
    Host,
    host,
    refused,
    tunnel,
    udp_socket,
)

import ovpn_dco as dco


def test_bad_sockets_are_refused(server: Host) -> None:
    attach = server.device.attach_udp
    refused(dco.NotASocket, "sock", lambda: attach("socket"))  # type: ignore[arg-type]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        error = refused(dco.DcoError, "sock", lambda: attach(sock))
        assert "bound" in str(error)
    refused(dco.NotASocket, "sock", lambda: attach(sock))
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        refused(dco.UnsupportedError, "sock", lambda: attach(tcp))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
        refused(dco.UnsupportedError, "sock", lambda: attach(unix))
    with udp_socket() as sock:
        refused(dco.OutOfRange, "send_buffer", lambda: attach(sock, send_buffer=0))
        refused(dco.OutOfRange, "receive_buffer", lambda: attach(sock, receive_buffer=1 << 30))
    with open("/dev/null", "rb") as file:
        refused(dco.NotASocket, "sock", lambda: attach(file))  # type: ignore[arg-type]


def test_detach_gives_the_socket_back_as_it_was(server: Host) -> None:
    options = [
        (socket.SOL_SOCKET, socket.SO_SNDBUF),
        (socket.SOL_SOCKET, socket.SO_RCVBUF),
        (socket.IPPROTO_IP, socket.IP_MTU_DISCOVER if hasattr(socket, "IP_MTU_DISCOVER") else 10),
        (socket.IPPROTO_IP, 8),  # IP_PKTINFO
        (socket.IPPROTO_IP, 11),  # IP_RECVERR
        (socket.SOL_SOCKET, 40),  # SO_RXQ_OVFL
        (socket.IPPROTO_UDP, 104),  # UDP_GRO
    ]

    def values(sock: socket.socket) -> list[int]:
        return [sock.getsockopt(level, name) for level, name in options]

    with udp_socket() as sock, udp_socket() as far:
        before = values(sock)
        transport = server.device.attach_udp(sock, df=True)
        assert values(sock) != before
        peer = server.device.add_peer(3, transport, remote=ANYWHERE, vpn_ipv4="10.8.0.3")
        assert transport.info().peers == 1
        transport.detach()
        assert values(sock) == before
        assert transport.closed
        event = server.event(dco.PeerDeleted)
        assert (event.peer_id, event.reason) == (3, dco.DeleteReason.TRANSPORT_DISCONNECT)
        with pytest.raises(dco.NotFound):
            peer.info()
        for call in (
            transport.info,
            lambda: transport.send_control(b"x", ANYWHERE),
            lambda: server.device.add_peer(9, transport, remote=ANYWHERE, vpn_ipv4="10.8.0.9"),
        ):
            with pytest.raises(dco.NotASocket):
                call()
        far.sendto(b"still works", sock.getsockname())
        assert sock.recv(100) == b"still works"
        # And it can be attached again.
        server.device.attach_udp(sock).close()


def test_closing_the_callers_socket_changes_nothing() -> None:
    with tunnel() as t:
        t.install()
        t.client.sock.close()
        t.up()
        t.down()


def test_buffer_sizes_in_effect(server: Host) -> None:
    with udp_socket() as sock:
        transport = server.device.attach_udp(sock, send_buffer=65536, receive_buffer=131072)
        info = transport.info()
        assert (info.send_buffer, info.receive_buffer) == (2 * 65536, 2 * 131072)
        assert info.local == sock.getsockname()
        assert not info.failed


def test_control_packets_that_cannot_be_sent(server: Host) -> None:
    send = server.transport.send_control
    refused(dco.InvalidArgument, "remote", lambda: send(b"x", None))
    refused(dco.InvalidArgument, "remote", lambda: send(b"x", "127.0.0.1"))
    refused(dco.InvalidArgument, "remote", lambda: send(b"x", ("localhost", 9)))
    refused(dco.InvalidArgument, "remote", lambda: send(b"x", ("127.0.0.1", 0)))
    refused(dco.OutOfRange, "remote", lambda: send(b"x", ("127.0.0.1", 65536)))
    refused(dco.UnsupportedError, "remote", lambda: send(b"x", ("::1", 9)))
    refused(dco.InvalidArgument, "data", lambda: send("text", ANYWHERE))  # type: ignore[arg-type]
    refused(dco.MessageTooBig, "data", lambda: send(bytes(65508), ANYWHERE))
    refused(dco.InvalidArgument, "local", lambda: send(b"x", ANYWHERE, "here"))


def test_one_socket_is_one_transport(server: Host) -> None:
    with host() as other, udp_socket() as sock:
        transport = server.device.attach_udp(sock)
        refused(dco.Busy, "sock", lambda: server.device.attach_udp(sock))
        refused(dco.Busy, "sock", lambda: other.device.attach_udp(sock))
        with sock.dup() as same:
            refused(dco.Busy, "sock", lambda: other.device.attach_udp(same))
        transport.close()
        again = other.device.attach_udp(sock)
        transport.close()
        refused(dco.Busy, "sock", lambda: server.device.attach_udp(sock))
        again.close()
        last = server.device.attach_udp(sock)
        refused(dco.Busy, "sock", lambda: server.device.attach_udp(sock))
        assert last.info().kind is dco.TransportKind.UDP


def test_many_transports(server: Host) -> None:
    with contextlib.ExitStack() as stack:
        attached = [server.transport]
        while len(attached) < 256:
            sock = stack.enter_context(udp_socket())
            attached.append(server.device.attach_udp(sock, receive_buffer=4096))
        sock = stack.enter_context(udp_socket())
        refused(dco.LimitReached, "sock", lambda: server.device.attach_udp(sock))
        assert server.device.stats().transports == 256
        for transport in attached:
            transport.close()
        assert server.device.stats().transports == 0
