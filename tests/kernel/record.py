"""Records what the driver is asked and what it answers, for tests/vectors/netlink.json.

    make kernel-vectors

runs this in the guest of tools/kernel-guest. The keys in it are made up. Two interfaces, a server
and a client, talk over the loopback interface; keepalive packets are all their traffic."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from recording import (
    Recording,
    direction,
    exchange,
    key,
    keyconf,
    peer,
    record_everything,
    tcp,
    udp,
    write,
)

from ovpn_dco.model import Cipher, DataKey, KeyDirection, KeySlot, Mode
from ovpn_dco.netlink import family
from ovpn_dco.netlink.link import create_link, delete_link, find_link
from ovpn_dco.netlink.probe import probe
from ovpn_dco.netlink.values import PeerAttributes


def record_links() -> tuple[int, int]:
    print(probe())
    with exchange("new link multipeer"):
        server = create_link("server", Mode.MULTIPEER)
    with exchange("new link p2p"):
        client = create_link("client", Mode.P2P)
    with exchange("new link exists"):
        create_link("client", Mode.P2P)
    with exchange("new link mode 2"):
        create_link("third", 2)  # type: ignore[arg-type]
    with exchange("find link of another driver"):
        find_link("lo")
    with exchange("find link missing"):
        find_link("missing")
    for name in ("server", "client"):
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
    print(server, client)
    return server.ifindex, client.ifindex


def add(
    rec: Recording, ifindex: int, name: str, one: socket.socket, peer_id: int, **more: Any
) -> None:
    """A peer on this socket, recorded under a name."""
    spec = PeerAttributes(peer_id=peer_id, socket=one.fileno(), **more)
    with exchange(name):
        rec.commands.add_peer(ifindex, spec)


def record_peers(rec: Recording, server: int, client: int) -> None:
    here, there, here6 = udp(), udp(), udp(socket.AF_INET6)
    record_new_peers(rec, server, client, here, here6)
    record_keys(rec, server)
    record_float(rec, server, client, here, there)
    record_ends(rec, server, here, here6)


def record_new_peers(
    rec: Recording, server: int, client: int, here: socket.socket, here6: socket.socket
) -> None:
    c = rec.commands
    at: dict[str, Any] = {"remote": ("127.0.0.1", 9)}
    both = {"vpn_ipv4": "10.8.0.2", "vpn_ipv6": "fd00:8::2"}
    add(rec, server, "new peer udp4", here, 7, **at, local="127.0.0.1", **both, tx_id=107)
    add(rec, server, "new peer in use", here, 7, **at, vpn_ipv4="10.8.0.3")
    add(rec, server, "new peer address in use", here, 8, **at, vpn_ipv4="10.8.0.2")
    with exchange("set peer keepalive"):
        c.set_peer(
            server, PeerAttributes(peer_id=7, keepalive_interval_s=1, keepalive_timeout_s=60)
        )
    with exchange("get peer udp4"):
        print(c.get_peer(server, 7))
    with exchange("get peer missing"):
        c.get_peer(server, 20)
    with exchange("set peer missing"):
        c.set_peer(server, PeerAttributes(peer_id=20, tx_id=1))
    with exchange("delete peer missing"):
        c.delete_peer(server, 20)
    scoped = ("fe80::7", 1194, 0, 1)
    add(rec, server, "new peer udp6", here6, 0xABCDE, remote=scoped, vpn_ipv6="fd00:8::3")
    with exchange("get peer udp6"):
        print(c.get_peer(server, 0xABCDE))
    with exchange("dump peers"):
        print(c.get_peers(server))
    with exchange("dump peers none"):
        print(c.get_peers(client))
    with exchange("dump peers of no interface"):
        c.get_peers(9999)


def record_keys(rec: Recording, server: int) -> None:
    c = rec.commands
    for cipher in (Cipher.AES_128_GCM, Cipher.CHACHA20_POLY1305, Cipher.AES_256_GCM):
        with exchange(f"new key {cipher.value}"):
            c.install_key(server, 7, KeySlot.PRIMARY, key(0, client=False, cipher=cipher))
    with exchange("new key secondary"):
        c.install_key(server, 7, KeySlot.SECONDARY, key(1, client=False))
    with exchange("get key primary"):
        print(c.get_key(server, 7, KeySlot.PRIMARY))
    with exchange("swap keys"):
        c.swap_keys(server, 7)
    with exchange("get key swapped"):
        print(c.get_key(server, 7, KeySlot.PRIMARY))
    with exchange("delete key"):
        c.delete_key(server, 7, KeySlot.PRIMARY)
    with exchange("get key missing"):
        c.get_key(server, 7, KeySlot.PRIMARY)
    with exchange("delete key missing"):
        c.delete_key(server, 7, KeySlot.PRIMARY)
    with exchange("swap keys back"):
        c.swap_keys(server, 7)


def record_ends(rec: Recording, server: int, here: socket.socket, here6: socket.socket) -> None:
    c = rec.commands
    with exchange("get peer with counters"):
        print(c.get_peer(server, 7))
    with exchange("delete peer"):
        c.delete_peer(server, 7)
    rec.notices("deleted by userspace")
    here6.close()
    rec.notices("deleted by transport disconnect", wait_s=5)
    add(
        rec,
        server,
        "new peer that expires",
        here,
        3,
        remote=("127.0.0.1", 9),
        vpn_ipv4="10.8.0.3",
        keepalive_interval_s=1,
        keepalive_timeout_s=2,
    )
    rec.notices("deleted by expiry", wait_s=15)


def record_float(
    rec: Recording, server: int, client: int, here: socket.socket, there: socket.socket
) -> None:
    """The client's keepalive comes from another port than the server was told."""
    c = rec.commands
    c.add_peer(
        client,
        PeerAttributes(
            peer_id=107,
            socket=there.fileno(),
            remote=here.getsockname(),
            tx_id=7,
            keepalive_interval_s=1,
            keepalive_timeout_s=60,
        ),
    )
    with exchange("get peer p2p"):
        print(c.get_peer(client, 107))
    c.install_key(client, 107, KeySlot.PRIMARY, key(0, client=True))
    rec.notices("float to udp4", wait_s=15)
    print("client's port", there.getsockname()[1])
    add(rec, client, "p2p replaces its peer", there, 108, remote=here.getsockname(), tx_id=7)
    rec.notices("deleted by teardown")


def record_float6(rec: Recording, server: int, client: int, address: str, scope: int) -> None:
    c = rec.commands
    here, there = (socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(2))
    for one in (here, there):
        one.bind((address, 0, 0, scope))
    name = here.getsockname()
    c.add_peer(
        server,
        PeerAttributes(
            peer_id=6,
            socket=here.fileno(),
            remote=(address, 9, 0, scope),
            vpn_ipv6="fd00:8::6",
            keepalive_interval_s=20,
            keepalive_timeout_s=60,
        ),
    )
    c.install_key(server, 6, KeySlot.PRIMARY, key(0, client=False))
    c.add_peer(
        client,
        PeerAttributes(
            peer_id=6,
            socket=there.fileno(),
            remote=name,
            keepalive_interval_s=1,
            keepalive_timeout_s=60,
        ),
    )
    rec.events.read()
    c.install_key(client, 6, KeySlot.PRIMARY, key(0, client=True))
    rec.notices(f"float to udp6 {'link-local' if scope else ''}".strip(), wait_s=15)
    with exchange(f"get peer floated {address}"):
        print(c.get_peer(server, 6), there.getsockname())
    c.delete_peer(server, 6)
    c.delete_peer(client, 6)
    rec.events.read()


def record_exhaustion(rec: Recording, client: int) -> None:
    """The host has a hand in it: see exhaust.py."""
    c = rec.commands
    one = udp()
    peer = PeerAttributes(
        peer_id=9,
        socket=one.fileno(),
        remote=("127.0.0.1", 9),
        keepalive_interval_s=1,
        keepalive_timeout_s=120,
    )
    c.add_peer(client, peer)
    tails = bytes.fromhex("5ac31e9077b2d4f1"), bytes.fromhex("c0de8d2e6f13a94b")
    ways = [KeyDirection(bytes([n]) * 32, tail) for n, tail in enumerate(tails)]
    c.install_key(client, 9, KeySlot.PRIMARY, DataKey(5, Cipher.AES_256_GCM, *ways))
    while c.get_peer(client, 9).stats.link_tx_packets < 5:
        time.sleep(0.05)
    sent = c.get_peer(client, 9).stats.link_tx_packets
    rec.events.read()
    print("@@EXHAUST", (tails[0] + tails[1]).hex(), sent, flush=True)
    rec.notices("key exhausted", wait_s=20)
    with exchange("get key exhausted"):
        print(c.get_key(client, 9, KeySlot.PRIMARY))
    print(c.get_peer(client, 9).stats)
    c.delete_peer(client, 9)
    rec.events.read()


def record_namespace(rec: Recording, client: int) -> None:
    """A peer whose socket is of another namespace, which is where its notifications go."""
    made: list[socket.socket] = []

    def make() -> None:
        os.unshare(os.CLONE_NEWNET)  # type: ignore[attr-defined]
        made.append(udp(address="0.0.0.0"))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    peer = PeerAttributes(peer_id=11, socket=made[0].fileno(), remote=("127.0.0.1", 9))
    rec.commands.add_peer(client, peer)
    with exchange("get peer with socket elsewhere"):
        print(rec.commands.get_peer(client, 11))
    rec.commands.delete_peer(client, 11)
    print("told here:", rec.events.read())


def record_tcp(rec: Recording, server: int) -> None:
    c = rec.commands
    here, there = tcp()
    rec.events.read()
    inner = {"vpn_ipv4": "10.8.0.5"}
    add(rec, server, "new peer tcp with remote", here, 5, remote=("127.0.0.1", 9), **inner)
    add(rec, server, "new peer tcp", here, 5, **inner)
    with exchange("get peer tcp"):
        print(c.get_peer(server, 5))
    with exchange("set peer tcp with remote"):
        c.set_peer(server, PeerAttributes(peer_id=5, remote=("127.0.0.1", 9)))
    there.send(b"\0\2xx")
    rec.notices("deleted by transport error", wait_s=15)


def record_refusals(rec: Recording, server: int, client: int) -> None:
    one = udp()
    new = {"ID": 1, "SOCKET": one.fileno(), "REMOTE_IPV4": "127.0.0.1", "REMOTE_PORT": 9}
    mp = {**new, "VPN_IPV4": "10.8.0.9"}
    new_peer, set_peer = family.OVPN_CMD_PEER_NEW, family.OVPN_CMD_PEER_SET

    def without(*names: str, **more: Any) -> Any:
        return peer(**{k: v for k, v in {**mp, **more}.items() if k not in names})

    rec.raw("no ifindex", new_peer, None, peer(**mp))
    rec.raw("no such interface", new_peer, 9999, peer(**mp))
    rec.raw("interface of another driver", new_peer, 1, peer(**mp))
    rec.raw("new: no peer", new_peer, server)
    rec.raw("new: no id", new_peer, server, without("ID"))
    rec.raw("new: id too large", new_peer, server, without(ID=0x1000000))
    rec.raw("new: tx id too large", new_peer, server, without(TX_ID=0x1000000))
    rec.raw("new: port 0", new_peer, server, without(REMOTE_PORT=0))
    rec.raw("new: two remotes", new_peer, server, without(REMOTE_IPV6="::1"))
    rec.raw("new: port without address", new_peer, server, without("REMOTE_IPV4"))
    rec.raw("new: address without port", new_peer, server, without("REMOTE_PORT"))
    rec.raw(
        "new: local4 without remote4",
        new_peer,
        server,
        without("REMOTE_IPV4", REMOTE_IPV6="::1", LOCAL_IPV4="127.0.0.1"),
    )
    rec.raw("new: local6 without remote6", new_peer, server, without(LOCAL_IPV6="::1"))
    rec.raw(
        "new: families differ",
        new_peer,
        server,
        without("REMOTE_IPV4", REMOTE_IPV6="::ffff:127.0.0.1", LOCAL_IPV6="::1"),
    )
    rec.raw("new: scope without remote6", new_peer, server, without(REMOTE_IPV6_SCOPE_ID=1))
    rec.raw("new: vpn address in p2p", new_peer, client, peer(**mp))
    rec.raw("new: interval alone", new_peer, server, without(KEEPALIVE_INTERVAL=1))
    rec.raw("new: timeout alone", new_peer, server, without(KEEPALIVE_TIMEOUT=5, ID=31))
    rec.raw("new: no socket", new_peer, server, without("SOCKET"))
    rec.raw("new: no vpn address", new_peer, server, without("VPN_IPV4"))
    rec.raw("new: no descriptor", new_peer, server, without(SOCKET=999))
    with open("/dev/null") as null:
        rec.raw("new: no socket but a file", new_peer, server, without(SOCKET=null.fileno()))
    rec.raw("new: udp without remote", new_peer, server, without("REMOTE_IPV4", "REMOTE_PORT"))
    with socket.socket() as idle:
        rec.raw(
            "new: tcp not connected",
            new_peer,
            server,
            without("REMOTE_IPV4", "REMOTE_PORT", SOCKET=idle.fileno()),
        )
    with udp() as other:
        rec.raw(
            "new: socket of another interface, first",
            new_peer,
            client,
            peer(**{**new, "ID": 2, "SOCKET": other.fileno()}),
        )
        rec.raw(
            "new: socket of another interface", new_peer, server, without(SOCKET=other.fileno())
        )
        rec.commands.delete_peer(client, 2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
        rec.raw("new: unix socket", new_peer, server, without(SOCKET=local.fileno()))
    for bad in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"):
        rec.raw(f"new: vpn address {bad}", new_peer, server, without(VPN_IPV4=bad, ID=40))
    for bad in ("::", "::1", "ff02::1", "::1.2.3.4", "::ffff:1.2.3.4"):
        rec.raw(
            f"new: vpn address {bad}", new_peer, server, without("VPN_IPV4", VPN_IPV6=bad, ID=41)
        )
    rec.raw("new: reason given", new_peer, server, without(DEL_REASON=1))
    rec.raw("new: accepted", new_peer, server, without(ID=50, VPN_IPV4="10.8.0.50"))
    rec.raw("set: socket", set_peer, server, peer(ID=50, SOCKET=one.fileno()))
    rec.raw("set: interval alone", set_peer, server, peer(ID=50, KEEPALIVE_INTERVAL=1))
    rec.raw("set: timeout alone", set_peer, server, peer(ID=50, KEEPALIVE_TIMEOUT=1))
    rec.raw("set: vpn address cleared", set_peer, server, peer(ID=50, VPN_IPV4="0.0.0.0"))
    rec.raw("get: more than an id", family.OVPN_CMD_PEER_GET, server, peer(ID=50, TX_ID=1))
    rec.raw("delete: more than an id", family.OVPN_CMD_PEER_DEL, server, peer(ID=50, TX_ID=1))
    record_key_refusals(rec, server)
    rec.raw("unknown command", 77, server)


def record_key_refusals(rec: Recording, server: int) -> None:
    way = {"CIPHER_KEY": bytes(32), "NONCE_TAIL": bytes(8)}
    good = {
        "PEER_ID": 50,
        "SLOT": 0,
        "KEY_ID": 0,
        "CIPHER_ALG": 1,
        "ENCRYPT_DIR": direction(**way),
        "DECRYPT_DIR": direction(**way),
    }
    new_key = family.OVPN_CMD_KEY_NEW

    def altered(*names: str, **more: Any) -> Any:
        return keyconf(**{k: v for k, v in {**good, **more}.items() if k not in names})

    rec.raw("key: none", new_key, server)
    for name in good:
        rec.raw(f"key: no {name}", new_key, server, altered(name))
    rec.raw("key: slot 2", new_key, server, altered(SLOT=2))
    rec.raw("key: id 8", new_key, server, altered(KEY_ID=8))
    rec.raw("key: cipher none", new_key, server, altered(CIPHER_ALG=0))
    rec.raw("key: cipher 3", new_key, server, altered(CIPHER_ALG=3))
    rec.raw("key: peer missing", new_key, server, altered(PEER_ID=20))
    rec.raw("key: peer id too large", new_key, server, altered(PEER_ID=0x1000000))
    rec.raw(
        "key: short",
        new_key,
        server,
        altered(DECRYPT_DIR=direction(**{**way, "CIPHER_KEY": bytes(15)})),
    )
    rec.raw(
        "key: too long",
        new_key,
        server,
        altered(ENCRYPT_DIR=direction(**{**way, "CIPHER_KEY": bytes(257)})),
    )
    rec.raw(
        "key: nonce of 7",
        new_key,
        server,
        altered(ENCRYPT_DIR=direction(**{**way, "NONCE_TAIL": bytes(7)})),
    )
    rec.raw("key: no nonce", new_key, server, altered(DECRYPT_DIR=direction(CIPHER_KEY=bytes(32))))
    rec.raw(
        "key: no material", new_key, server, altered(ENCRYPT_DIR=direction(NONCE_TAIL=bytes(8)))
    )
    rec.raw("key: swap of no peer", family.OVPN_CMD_KEY_SWAP, server, keyconf(PEER_ID=20))
    rec.raw("key: swap with slot", family.OVPN_CMD_KEY_SWAP, server, keyconf(PEER_ID=50, SLOT=0))
    rec.raw("key: swap of empty slots", family.OVPN_CMD_KEY_SWAP, server, keyconf(PEER_ID=50))
    rec.raw("key: delete without slot", family.OVPN_CMD_KEY_DEL, server, keyconf(PEER_ID=50))


def main(target: str) -> None:
    record_everything()
    rec = Recording()
    server, client = record_links()
    record_peers(rec, server, client)
    record_float6(rec, server, client, "::1", 0)
    subprocess.run(["ip", "link", "add", "v0", "type", "dummy"], check=True)
    subprocess.run(["ip", "link", "set", "v0", "up"], check=True)
    subprocess.run(["ip", "addr", "add", "fe80::5/64", "dev", "v0", "nodad"], check=True)
    record_float6(rec, server, client, "fe80::5", socket.if_nametoindex("v0"))
    record_tcp(rec, server)
    record_exhaustion(rec, client)
    record_namespace(rec, client)
    record_refusals(rec, server, client)
    rec.events.read()
    with exchange("delete link"):
        delete_link(server)
    rec.notices("deleted with the interface", wait_s=5)
    with exchange("delete link missing"):
        delete_link(server)
    write(target, rec)


if __name__ == "__main__":
    main(sys.argv[1])
