"""One endpoint of ours as a process: ``python -m ovpn_dco.bench.endpoint``.

The first line on standard input is the settings, as JSON. One line of JSON on standard output says
that the device is up; each further line on standard input is answered by the statistics. The end
of standard input closes the device. In between Python sleeps in a read: whatever wakes the
process is the engine.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

import ovpn_dco as dco


def _open(settings: dict[str, Any]) -> tuple[dco.Device, dco.Peer]:
    device = dco.Device.open(
        "ovpnbench",
        backend="userspace",
        mode=dco.Mode[settings["mode"]],
        mtu=settings["mtu"],
        addresses=tuple(settings["addresses"]),
        up=True,
        offloads=settings["offloads"],
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(tuple(settings["local"]))
        transport = device.attach_udp(sock)
    vpn_ipv4, vpn_ipv6 = settings["vpn"]
    peer = device.add_peer(
        settings["peer_id"],
        transport,
        remote=tuple(settings["remote"]),
        vpn_ipv4=vpn_ipv4,
        vpn_ipv6=vpn_ipv6,
    )
    cipher = dco.Cipher[settings["cipher"]]
    peer.install_key(
        dco.KeySlot.PRIMARY,
        dco.DataKey(
            key_id=0,
            cipher=cipher,
            encrypt=_direction(settings["encrypt"], cipher),
            decrypt=_direction(settings["decrypt"], cipher),
        ),
    )
    if settings["keepalive_s"]:
        peer.set_keepalive(interval_s=settings["keepalive_s"], timeout_s=60)
    return device, peer


def _direction(material: list[str], cipher: dco.Cipher) -> dco.KeyDirection:
    key, nonce_tail = (bytes.fromhex(text) for text in material)
    return dco.KeyDirection(key=key[: cipher.key_size], nonce_tail=nonce_tail)


def _statistics(device: dco.Device, peer: dco.Peer) -> dict[str, Any]:
    stats = device.stats()
    return {
        "offloads": stats.offloads.active.names,
        "packets_per_send": stats.packets_per_send,
        "packets_per_receive": stats.packets_per_receive,
        "wakeups": stats.wakeups,
        "drops": {reason.name: count for reason, count in stats.drops.items() if count},
        "vpn_tx_packets": peer.stats().vpn_tx_packets,
        "vpn_rx_packets": peer.stats().vpn_rx_packets,
    }


def main() -> None:
    """Serve until standard input ends."""
    device, peer = _open(json.loads(sys.stdin.readline()))
    with device:
        print(json.dumps({"ready": True}), flush=True)
        for _ in sys.stdin:
            print(json.dumps(_statistics(device, peer)), flush=True)


if __name__ == "__main__":
    main()
