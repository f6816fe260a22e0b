"""Micro-benchmarks by pytest-benchmark: ``pytest benchmarks``. Nothing here is asserted about time;
``python -m ovpn_dco.bench`` compares whole tunnels."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

import ovpn_dco as dco


def data_key(key_id: int, *, first: int = 0, second: int = 1) -> dco.DataKey:
    """A key whose two directions are told apart by their fill bytes."""
    return dco.DataKey(
        key_id=key_id,
        cipher=dco.Cipher.AES_256_GCM,
        encrypt=dco.KeyDirection(key=bytes([first]) * 32, nonce_tail=bytes([first]) * 8),
        decrypt=dco.KeyDirection(key=bytes([second]) * 32, nonce_tail=bytes([second]) * 8),
    )


def packet_port() -> tuple[socket.socket, int]:
    """The caller's end and the device's of a port that keeps packets apart."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return ours, theirs.detach()


@pytest.fixture
def device() -> Iterator[dco.Device]:
    """A server that needs no privilege."""
    ours, fd = packet_port()
    with ours, dco.Device.open("bench", mode=dco.Mode.MULTIPEER, tun_fd=fd) as opened:
        os.close(fd)
        yield opened


@pytest.fixture
def transport(device: dco.Device) -> dco.Transport:
    """A UDP transport on the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return device.attach_udp(sock)
