"""One endpoint of ours as a process: ``python -m ovpn_dco.bench.endpoint``.

The first line on standard input is the settings, as JSON. One line of JSON on standard output says
that the device is up, and that others may connect; each further line on standard input is answered
by the statistics. The end of standard input closes the device. In between Python sleeps in a read:
whatever wakes the process is the engine.
"""

from __future__ import annotations

import json
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import ovpn_dco as dco

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How long the server waits for the next client, and a client for the server, seconds.
_CONNECT_S = 20.0


def _open(settings: dict[str, Any]) -> dco.Device:
    return dco.Device.open(
        "ovpnbench",
        backend="userspace",
        mode=dco.Mode[settings["mode"]],
        mtu=settings["mtu"],
        addresses=tuple(settings["addresses"]),
        up=True,
        workers=settings["workers"],
        single_thread=settings["single_thread"],
        offloads=settings["offloads"],
    )


def _ready() -> None:
    print(json.dumps({"ready": True}), flush=True)


def _transports(
    device: dco.Device, settings: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], dco.Transport]]:
    """Each peer of the settings with what it is reached through, as soon as that is there.

    Over UDP that is one socket for all. Over TCP the server accepts, and hands connections on by
    the address that they come from: how they are accepted makes no difference to what follows.
    """
    local, peers = tuple(settings["local"]), settings["peers"]
    if settings["transport"] == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(local)
            transport = device.attach_udp(sock)
        for peer in peers:
            yield peer, transport
        _ready()
    elif settings["mode"] == "P2P":
        (peer,) = peers
        with socket.create_connection(tuple(peer["remote"]), timeout=_CONNECT_S) as connection:
            yield peer, device.attach_tcp(connection)
        _ready()
    else:
        awaited = {peer["remote"][0]: peer for peer in peers}
        with socket.create_server(local, backlog=len(peers)) as listener:
            listener.settimeout(_CONNECT_S)
            _ready()
            while awaited:
                connection, address = listener.accept()
                with connection:
                    yield awaited.pop(address[0]), device.attach_tcp(connection)


def _add_peer(
    device: dco.Device, transport: dco.Transport, given: dict[str, Any], settings: dict[str, Any]
) -> dco.Peer:
    vpn_ipv4, vpn_ipv6 = given["vpn"]
    peer = device.add_peer(
        given["peer_id"],
        transport,
        remote=tuple(given["remote"]) if settings["transport"] == "udp" else None,
        vpn_ipv4=vpn_ipv4,
        vpn_ipv6=vpn_ipv6,
    )
    cipher = dco.Cipher[settings["cipher"]]
    peer.install_key(
        dco.KeySlot.PRIMARY,
        dco.DataKey(
            key_id=0,
            cipher=cipher,
            encrypt=_direction(given["encrypt"], cipher),
            decrypt=_direction(given["decrypt"], cipher),
        ),
    )
    if settings["keepalive_s"]:
        peer.set_keepalive(interval_s=settings["keepalive_s"], timeout_s=60)
    return peer


def _direction(material: list[str], cipher: dco.Cipher) -> dco.KeyDirection:
    key, nonce_tail = (bytes.fromhex(text) for text in material)
    return dco.KeyDirection(key=key[: cipher.key_size], nonce_tail=nonce_tail)


def _statistics(device: dco.Device, peers: list[dco.Peer]) -> dict[str, Any]:
    stats = device.stats()
    counted = [peer.stats() for peer in peers]
    return {
        "offloads": stats.offloads.active.names,
        "packets_per_send": stats.packets_per_send,
        "packets_per_receive": stats.packets_per_receive,
        "tcp_packets_per_send": _per_call(stats.tcp_send_packets, stats.tcp_sends),
        "tcp_packets_per_receive": _per_call(stats.tcp_receive_packets, stats.tcp_receives),
        "handed_to_seal": stats.handed_to_seal,
        "handed_to_open": stats.handed_to_open,
        "wakeups": stats.wakeups,
        "drops": {reason.name: count for reason, count in stats.drops.items() if count},
        "vpn_tx_packets": sum(stats.vpn_tx_packets for stats in counted),
        "vpn_rx_packets": sum(stats.vpn_rx_packets for stats in counted),
    }


def _per_call(packets: int, calls: int) -> float:
    return packets / calls if calls else 0.0


def main() -> None:
    """Serve until standard input ends."""
    settings = json.loads(sys.stdin.readline())
    with ExitStack() as stack:
        device = stack.enter_context(_open(settings))
        peers = [
            _add_peer(device, transport, given, settings)
            for given, transport in _transports(device, settings)
        ]
        for _ in sys.stdin:
            print(json.dumps(_statistics(device, peers)), flush=True)


if __name__ == "__main__":
    main()
