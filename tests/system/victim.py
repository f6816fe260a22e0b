"""What `test_killed.py` starts and kills: opens a device, carries what comes, closes it, again and
again, in the namespace in which it runs.

    victim.py SECONDS-BETWEEN-OPEN-AND-CLOSE PERSIST"""

from __future__ import annotations

import socket
import sys
import time

from system.tunnel import PORT

import ovpn_dco as dco
from ovpn_dco import KeySlot, Mode

NAME, PEER = "ovpn1", 2
# Both ends know them; that they are the same each time only costs the answers their novelty.
KEYS = [dco.KeyDirection(key=bytes([n]) * 32, nonce_tail=bytes([n]) * 8) for n in (1, 2)]


def key(*, at_victim: bool) -> dco.DataKey:
    ours, theirs = KEYS if at_victim else reversed(KEYS)
    return dco.DataKey(key_id=0, cipher=dco.Cipher.AES_256_GCM, encrypt=ours, decrypt=theirs)


def once(duration_s: float, persist: bool) -> None:
    with (
        dco.Device.open(
            NAME,
            mode=Mode.MULTIPEER,
            netns="/proc/self/ns/net",
            addresses=("10.9.0.1/24", "fd09::1/64"),
            up=True,
            persist=persist,
        ) as device,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.bind(("0.0.0.0", PORT))
        transport = device.attach_udp(sock)
        peer = device.add_peer(PEER, transport, remote=("10.98.0.2", PORT), vpn_ipv4="10.9.0.2")
        peer.install_key(KeySlot.PRIMARY, key(at_victim=True))
        time.sleep(duration_s)


def main() -> None:
    duration_s, persist = float(sys.argv[1]), sys.argv[2] == "1"
    once(0, persist)
    print("ready", flush=True)
    while True:
        once(duration_s, persist)


if __name__ == "__main__":
    main()
