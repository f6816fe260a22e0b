"""Packets from one device to another, without a TUN: a packet port at both ends, UDP between."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from conftest import data_key, packet_port

import ovpn_dco as dco

Ends = tuple[socket.socket, socket.socket]


def ipv4_packet(size: int) -> bytes:
    """A UDP packet from 10.0.0.2 to 10.0.0.1; nobody on the way looks at its checksums."""
    source, target = socket.inet_aton("10.0.0.2"), socket.inet_aton("10.0.0.1")
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, size, 1, 0, 64, 17, 0, source, target)
    return header + struct.pack("!HHHH", 1, 2, size - 20, 0) + bytes(size - 28)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The application's ends of a server and a client that know each other."""
    with ExitStack() as stack:
        applications, devices, transports, names = [], [], [], []
        for mode in (dco.Mode.MULTIPEER, dco.Mode.P2P):
            ours, fd = packet_port()
            applications.append(stack.enter_context(ours))
            devices.append(stack.enter_context(dco.Device.open("bench", mode=mode, tun_fd=fd)))
            os.close(fd)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", 0))
                names.append(sock.getsockname())
                transports.append(devices[-1].attach_udp(sock))
        server = devices[0].add_peer(7, transports[0], remote=names[1], vpn_ipv4="10.0.0.2")
        client = devices[1].add_peer(7, transports[1], remote=names[0])
        server.install_key(dco.KeySlot.PRIMARY, data_key(0, first=0, second=1))
        client.install_key(dco.KeySlot.PRIMARY, data_key(0, first=1, second=0))
        for application in applications:
            application.settimeout(5)
        yield applications[0], applications[1]


@pytest.mark.parametrize("size", [64, 1400])
def test_one_packet_through_both_engines(benchmark: Any, ends: Ends, size: int) -> None:
    server, client = ends
    packet = ipv4_packet(size)

    def call() -> bytes:
        client.send(packet)
        return server.recv(2048)

    assert benchmark(call) == packet


@pytest.mark.parametrize("size", [64, 1400])
def test_a_burst_through_both_engines(benchmark: Any, ends: Ends, size: int) -> None:
    server, client = ends
    packet = ipv4_packet(size)

    def call() -> None:
        for _ in range(32):
            client.send(packet)
        for _ in range(32):
            server.recv(2048)

    benchmark(call)
