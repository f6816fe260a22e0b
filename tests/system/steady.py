"""What `test_steady_state.py` starts with a counting allocator; prints one JSON object.

The arguments are options of `open_tunnel` as a JSON object."""

from __future__ import annotations

import ctypes
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from system.tunnel import SERVER_IPV4, SERVER_IPV6, RunningPing, Tunnel, iperf3, open_tunnel, ping

import ovpn_dco as dco
from ovpn_dco import KeySlot

counter = ctypes.CDLL(None)


def value(name: str) -> int:
    return ctypes.c_long.in_dll(counter, name).value


@contextmanager
def counted() -> Iterator[None]:
    switch = ctypes.c_int.in_dll(counter, "counting")
    switch.value = 1
    try:
        yield
    finally:
        switch.value = 0


def packets(tunnel: Tunnel) -> int:
    stats = [site.device.stats() for site in tunnel.sites]
    return sum(s.tun_read_packets + s.udp_receive_packets + s.tcp_receive_packets for s in stats)


def traffic(tunnel: Tunnel) -> None:
    """Small and large, TCP and UDP, both families and directions; errors and keepalives, too."""
    server, client = tunnel.server.namespace, tunnel.client.namespace
    for address in (SERVER_IPV4, SERVER_IPV6):
        for reverse in (False, True):
            iperf3(server, client, address, megabytes=8, reverse=reverse)
            iperf3(server, client, address, megabytes=2, udp=True, reverse=reverse)
        ping(client, address, count=20, size=3000)
    server.run(["ping", "-c3", "-i0.01", "-W0.2", "10.9.0.99"], check=False)
    with client.socket() as sock:
        for kind in (b"\x48\0\0\2" + bytes(60), b"\x38control", b"x", b"\x48\0\0\x63" + bytes(60)):
            sock.sendto(kind, (tunnel.topology.link.left_ipv4, tunnel.server.port))


def without_gil(tunnel: Tunnel) -> int:
    """Packets that flow while this thread sleeps with the interpreter locked."""
    flood = RunningPing(tunnel.client.namespace, SERVER_IPV4, interval_s=0)
    while tunnel.pair.at_server.stats().vpn_rx_packets < 100:
        pass
    before = packets(tunnel)
    ctypes.PyDLL(None).usleep(700_000)  # PyDLL keeps the lock, unlike CDLL
    after = packets(tunnel)
    flood.stop()
    return after - before


def frees_of_engine_threads(tunnel: Tunnel) -> int:
    """Keys replaced under traffic are released by whoever passes last: proof that we would see."""
    flood = RunningPing(tunnel.client.namespace, SERVER_IPV4, interval_s=0)
    for number in range(5000):
        tunnel.pair.install(KeySlot.SECONDARY, 1 + number % 7)
        if value("engine_frees") and number > 100:
            break
    flood.stop()
    return value("engine_frees")


def main() -> None:
    with open_tunnel(**json.loads(sys.argv[1])) as tunnel:
        traffic(tunnel)
        before = packets(tunnel)
        with counted():
            traffic(tunnel)
        result = {
            "packets": packets(tunnel) - before,
            "engine_allocations": value("engine_allocations"),
            "engine_frees": value("engine_frees"),
            "other_allocations": value("other_allocations"),
            "packets_without_gil": without_gil(tunnel),
            "python_threads": len(sys._current_frames()),
            "threads_of_python": threading.active_count(),
            "drop_reasons": sum(1 for n in tunnel.server.device.stats().drops.values() if n),
        }
        with counted():
            result["frees_when_keys_go"] = frees_of_engine_threads(tunnel)
        assert isinstance(tunnel.server.device, dco.Device)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
