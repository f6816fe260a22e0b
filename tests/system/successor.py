"""A process that takes a device over: descriptors and state come through the socket in argument 1.

It answers with a line of JSON when the device runs, and with its statistics to each line on
standard input; the end of that closes the device."""

from __future__ import annotations

import json
import socket
import sys
import time

import ovpn_dco as dco


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """State and descriptors: first the size, with the descriptors, then the state."""
    head, fds, _, _ = socket.recv_fds(sock, 64, 250)
    size = int(head)
    state = b""
    while len(state) < size:
        part = sock.recv(min(1 << 20, size - len(state)))
        assert part, "the other end has closed"
        state += part
    return state, fds


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        print(json.dumps({"ready": True}), flush=True)
        state, fds = receive(sock)
        began = time.monotonic()
        mode = dco.Mode[sys.argv[2]]
        with dco.Device.open("successor", mode=mode, restore=state, descriptors=fds) as device:
            sock.sendall(b"running")
            print(json.dumps({"opened_s": time.monotonic() - began}), flush=True)
            for _ in sys.stdin:
                peers = {
                    number: {
                        "packets_sealed": peer.key(dco.KeySlot.PRIMARY).packets_sealed,
                        "replays": peer.stats().rx_replay_errors,
                        "vpn_rx_packets": peer.stats().vpn_rx_packets,
                    }
                    for number, peer in device.peers.items()
                }
                drops = {r.name: n for r, n in device.stats().drops.items() if n}
                print(
                    json.dumps({"name": device.name, "mtu": device.mtu, "peers": peers,
                                "drops": drops}),
                    flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
