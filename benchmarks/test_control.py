"""Calls of the control plane, on a device with a thousand peers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from conftest import data_key

import ovpn_dco as dco

PEERS = 1000


def address_of(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


@pytest.fixture
def crowd(device: dco.Device, transport: dco.Transport) -> list[dco.Peer]:
    """Peers 1 to PEERS with a key each."""
    peers = []
    for number in range(1, PEERS + 1):
        remote = ("127.0.0.1", 10000 + number)
        peer = device.add_peer(number, transport, remote=remote, vpn_ipv4=address_of(number))
        peer.install_key(dco.KeySlot.PRIMARY, data_key(0))
        peers.append(peer)
    return peers


def test_add_and_delete_peer(
    benchmark: Any, device: dco.Device, transport: dco.Transport, crowd: list[dco.Peer]
) -> None:
    remote = ("127.0.0.1", 9)

    def call() -> None:
        device.add_peer(70000, transport, remote=remote, vpn_ipv4="10.255.0.1").delete()
        device.poll_events()

    benchmark(call)


def test_roll_a_key(benchmark: Any, crowd: list[dco.Peer]) -> None:
    peer, ids = crowd[PEERS // 2], itertools.cycle(range(1, 8))

    def call() -> None:
        peer.install_key(dco.KeySlot.SECONDARY, data_key(next(ids)))
        peer.swap_keys()

    benchmark(call)


def test_change_a_remote(benchmark: Any, crowd: list[dco.Peer]) -> None:
    peer, ports = crowd[PEERS // 2], itertools.cycle((40000, 40001))
    benchmark(lambda: peer.set(remote=("127.0.0.1", next(ports))))


def test_add_and_delete_route(benchmark: Any, device: dco.Device, crowd: list[dco.Peer]) -> None:
    def call() -> None:
        device.routes.add("192.168.9.0/24", crowd[0])
        device.routes.delete("192.168.9.0/24")

    benchmark(call)


def test_statistics_of_one_peer(benchmark: Any, crowd: list[dco.Peer]) -> None:
    benchmark(crowd[PEERS // 2].stats)


def test_statistics_of_all_peers(benchmark: Any, device: dco.Device, crowd: list[dco.Peer]) -> None:
    table = benchmark(device.stats_table)
    assert table.peers == PEERS


def test_statistics_of_the_device(benchmark: Any, device: dco.Device) -> None:
    benchmark(device.stats)
