"""What `test_unprivileged.py` starts as root, to give up being root: one scenario by name.

A process of its own, since what it does to itself cannot be undone: a private mount namespace, in
which /dev/net/tun is whatever the scenario wants, and then the user `nobody`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import socket
import stat
import sys
from pathlib import Path

from pyroute2 import IPRoute
from security.forge import Forge, ip
from security.lab import Lab
from system.tunnel import SERVER_IPV4, SERVER_IPV6, open_tunnel, ping

import ovpn_dco as dco
import ovpn_dco.backend.userspace
from ovpn_dco.testing import Namespace, become_namespace_root

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC, MS_PRIVATE, MS_BIND = 16384, 1 << 18, 4096

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def private_tun_node(mode: int | None) -> None:
    """In a mount namespace of our own: /dev/net/tun with this mode, or absent for None."""
    check(libc.unshare(CLONE_NEWNS), "unshare")
    check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "private")
    check(libc.mount(b"tmpfs", b"/dev/net", b"tmpfs", 0, b"mode=0755"), "tmpfs on /dev/net")
    if mode is not None:
        os.mknod("/dev/net/tun", stat.S_IFCHR | 0o600, os.makedev(10, 200))
        os.chmod("/dev/net/tun", mode)


def drop_root() -> None:
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
    os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    # Without this the kernel keeps /proc/self root's, and uid_map cannot be written.
    check(libc.prctl(4, 1, 0, 0, 0), "prctl")
    os.chdir("/")


def tunnel_in_a_user_namespace() -> None:
    """Two devices, their interfaces, and pings through, with no privilege outside."""
    private_tun_node(0o666)
    drop_root()
    become_namespace_root()
    with open_tunnel() as tunnel:
        for address in (SERVER_IPV4, SERVER_IPV6):
            ping(tunnel.client.namespace, address, count=5, size=3000)
        ping(tunnel.server.namespace, tunnel.client.ipv4)
        info = tunnel.server.transport.info()
        # SO_RCVBUFFORCE is not for us here: what rmem_max gives has to do, and is reported.
        with open("/proc/sys/net/core/rmem_max", encoding="ascii") as file:
            assert 0 < info.receive_buffer <= max(2 * int(file.read()), 8 << 20)
        assert dco.Offload.TUN_TSO in tunnel.server.device.offloads.active


def node_not_accessible() -> None:
    private_tun_node(0o600)
    drop_root()
    become_namespace_root()
    print(refusal())


def node_missing() -> None:
    private_tun_node(None)
    drop_root()
    become_namespace_root()
    print(refusal())


def no_capability() -> None:
    """The node is open to all, but no interface may be made in a namespace that is not ours."""
    private_tun_node(0o666)
    check(libc.unshare(CLONE_NEWNET), "unshare")
    drop_root()
    print(refusal())


def refusal() -> str:
    try:
        dco.Device.open("ovpn0", mode=dco.Mode.P2P).close()
    except dco.DcoError as error:
        return f"{type(error).__name__} {error.errno} {error}"
    return "opened"


def packet_socket_without_any_privilege() -> None:
    """No TUN at all, and no user namespace either: only loopback and a socket pair."""
    check(libc.unshare(CLONE_NEWNET), "unshare")
    with IPRoute() as ipr:
        ipr.link("set", index=1, state="up")
    private_tun_node(None)
    drop_root()
    with Lab() as lab:
        assert lab.namespace is None
        peer = lab.add_peer(7)
        for number in range(100):
            inward = ip(peer.vpn, "10.9.0.1", bytes([number]) * 900)
            assert lab.deliver(peer.forge.seal(inward), sock=peer.socket).inner == [inward]
            outward = ip("10.9.0.1", peer.vpn, bytes([number]) * 900)
            lab.transmit(outward)
            assert peer.forge.open(peer.receive()).payload == outward


def engine_threads() -> dict[str, dict[str, str]]:
    """What /proc says of each thread of the engine, by its name."""
    found = {}
    for path in Path("/proc/self/task").glob("*/status"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = dict(line.split(":\t", 1) for line in path.read_text().splitlines())
            if status["Name"].startswith("dco-"):
                found[status["Name"]] = status
    return found


def privileges_dropped_between_open_and_start() -> None:
    """Everything that needs root is done before the threads start; they never had it."""
    check(libc.unshare(CLONE_NEWNET), "unshare")
    with IPRoute() as ipr:
        ipr.link("set", index=1, state="up")
    with dco.Device.open(
        "ovpn0", mode=dco.Mode.P2P, addresses=("10.9.0.1/24",), up=True, start=False
    ) as device:
        assert not engine_threads(), "no thread before start()"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            transport = device.attach_udp(sock)
            drop_root()
            device.start()
            assert sorted(engine_threads()) == ["dco-receive", "dco-transmit"]
            for status in engine_threads().values():
                assert status["CapEff"] == "0000000000000000"
                assert set(status["Uid"].split()) == {str(os.getuid())}
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
                far.bind(("127.0.0.1", 0))
                peer = device.add_peer(7, transport, remote=far.getsockname())
                forge = Forge(7)
                peer.install_key(dco.KeySlot.PRIMARY, forge.key())
                far.settimeout(10)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inner:
                    inner.sendto(b"through the tunnel", ("10.9.0.2", 9))
                # The interface has things of its own to say first: IPv6 solicitations.
                while not forge.open(far.recv(2048)).payload.endswith(b"through the tunnel"):
                    pass


if __name__ == "__main__":
    with Namespace("warm-up"):
        pass  # whatever pyroute2 still has to import, it imports now
    globals()[sys.argv[1]]()
