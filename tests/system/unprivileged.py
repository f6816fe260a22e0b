"""What `test_unprivileged.py` starts as root, to give up being root: one scenario by name.

A process of its own, since what it does to itself cannot be undone: a private mount namespace, in
which /dev/net/tun is whatever the scenario wants, and then the user `nobody`."""

from __future__ import annotations

import errno
import os
import pwd
import resource
import socket
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from security.forge import Forge, ip
from security.lab import Lab
from system.capabilities import (
    CAP_NET_ADMIN,
    allow_everything_by_seccomp,
    check,
    engine_tasks,
    libc,
    only,
    set_user,
    status,
)
from system.tunnel import SERVER_IPV4, SERVER_IPV6, open_tunnel, ping

import ovpn_dco as dco
import ovpn_dco.backend.userspace
from ovpn_dco.testing import Namespace, become_namespace_root

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC, MS_PRIVATE, MS_BIND = 16384, 1 << 18, 4096


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


def workers_in_a_user_namespace() -> None:
    """Queues of the interface and sockets of its port for each of three workers."""
    private_tun_node(0o666)
    drop_root()
    become_namespace_root()
    for tcp in (False, True):
        with open_tunnel(workers=3, tcp=tcp) as tunnel:
            assert tunnel.server.transport.info().sockets == 3
            for address in (SERVER_IPV4, SERVER_IPV6):
                ping(tunnel.client.namespace, address, count=20, size=3000)


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


def workers_without_any_privilege() -> None:
    """Siblings need none; a mark that only a privilege may set keeps a socket alone."""
    own_network()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marked:
        marked.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
        marked.bind(("127.0.0.1", 0))
        drop_root()
        with Lab(workers=3) as lab:
            assert lab.transport.info().sockets == 3
            alone = lab.device.attach_udp(marked)
            assert alone.info().sockets == 1
            for number, transport in ((7, lab.transport), (8, alone)):
                peer = lab.add_peer(number, transport=transport)
                for text in (b"one", b"two"):
                    inward = ip(peer.vpn, "10.9.0.1", text)
                    address = transport.info().local
                    outcome = lab.deliver(peer.forge.seal(inward), sock=peer.socket, to=address)
                    assert outcome.inner == [inward]
                    outward = ip("10.9.0.1", peer.vpn, text)
                    lab.transmit(outward)
                    assert peer.forge.open(peer.receive()).payload == outward


def own_network() -> None:
    check(libc.unshare(CLONE_NEWNET), "unshare")
    with IPRoute() as ipr:
        ipr.link("set", index=1, state="up")


def check_sealing(device: dco.Device, transport: dco.Transport) -> None:
    """What is sent into the interface, 10.9.0.1/24, comes out sealed."""
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


def attach(device: dco.Device) -> dco.Transport:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return device.attach_udp(sock)


OPEN = {"mode": dco.Mode.P2P, "addresses": ("10.9.0.1/24",), "up": True}


def privileges_dropped_between_open_and_start() -> None:
    """Everything that needs root is done before the threads start; they never had it."""
    own_network()
    with dco.Device.open("ovpn0", start=False, **OPEN) as device:
        assert not engine_tasks(), "no thread before start()"
        transport = attach(device)
        drop_root()
        device.start()
        assert sorted(engine_tasks()) == ["dco-receive", "dco-transmit"]
        for task in engine_tasks().values():
            assert status(task)["CapEff"] == "0000000000000000"
            assert set(status(task)["Uid"].split()) == {str(os.getuid())}
        check_sealing(device, transport)


def threads_are_like_their_starter() -> None:
    """Which is another thread than the one that opened the device, and confined in every way that
    a thread can be by itself."""
    own_network()
    home = os.readlink("/proc/thread-self/ns/net")
    processor = max(os.sched_getaffinity(0))
    before = status_of_this_thread()
    failures: list[BaseException] = []

    def confined() -> None:
        try:
            check(libc.unshare(CLONE_NEWNET), "unshare")
            os.sched_setaffinity(0, {processor})
            allow_everything_by_seccomp()
            set_user(12345)
            device.start()
        except BaseException as error:
            failures.append(error)

    with dco.Device.open("ovpn0", start=False, **OPEN) as device:
        transport = attach(device)
        starter = threading.Thread(target=confined)
        starter.start()
        starter.join()
        assert not failures, failures
        tasks = engine_tasks()
        assert sorted(tasks) == ["dco-receive", "dco-transmit"]
        for task in tasks.values():
            about = status(task)
            assert set(about["Uid"].split()) == {"12345"}
            assert about["CapEff"] == about["CapPrm"] == "0000000000000000"
            assert (about["NoNewPrivs"], about["Seccomp"]) == ("1", "2")
            assert about["Cpus_allowed_list"] == str(processor)
            assert os.readlink(task / "ns" / "net") != home
        assert status_of_this_thread() == before, "nobody else has changed"
        # Interface and sockets are where they were made, wherever the threads are.
        check_sealing(device, transport)


def status_of_this_thread() -> dict[str, str]:
    about = status(Path("/proc/thread-self"))
    return {key: about[key] for key in ("Uid", "CapEff", "NoNewPrivs", "Seccomp", "Cpus_allowed")}


def interface_seen_with_few_capabilities() -> None:
    """What is said of an interface by a process that may not look everywhere."""
    own_network()
    with dco.Device.open("ovpn0", **OPEN) as device, Namespace("other") as other:
        index = device.ifindex
        with only():
            assert (device.name, device.mtu, device.ifindex) == ("ovpn0", 1420, index)
            refused(errno.EPERM, lambda: setattr(device, "mtu", 1300))
        with only(CAP_NET_ADMIN):
            # Without CAP_SYS_ADMIN, which entering a namespace takes.
            device.mtu = 1300
            assert (device.name, device.mtu, device.ifindex) == ("ovpn0", 1300, index)
        with IPRoute() as ipr:
            ipr.link("set", index=index, net_ns_fd=other.fd)
            ipr.link("add", ifname="ovpn0", kind="veth", mtu=1000, peer={"ifname": "ovpn1"})
        with only():
            # Not the MTU of its namesake.
            refused(errno.ENODEV, lambda: device.mtu)
            assert (device.name, device.ifindex) == ("ovpn0", 0)
            assert device.stats().wakeups >= 0
        assert device.mtu == 1300


def refused(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(dco.DcoError) as caught:
        call()
    assert caught.value.errno == number


def persistent_interface_of_a_user() -> None:
    """Root makes it for `nobody`, who opens it without any privilege, and may let it go."""
    private_tun_node(0o666)
    own_network()
    nobody = pwd.getpwnam("nobody").pw_uid
    for name, owner in (("ours0", nobody), ("theirs0", nobody + 1)):
        dco.Device.open(name, persist=True, owner=owner, **OPEN).close()
    drop_root()
    refused(errno.EPERM, lambda: dco.Device.open("theirs0", persist=True, **OPEN))
    refused(
        errno.EPERM, lambda: dco.Device.open("ours0", persist=True, mtu=1300, mode=OPEN["mode"])
    )
    refused(errno.EPERM, lambda: dco.Device.open("new0", persist=True, **OPEN))
    for stay in (True, False):
        with dco.Device.open("ours0", persist=True, **OPEN) as device:
            assert device.persist
            check_sealing(device, attach(device))
            device.persist = stay
        assert ("ours0" in [name for _, name in socket.if_nameindex()]) == stay
    refused(errno.EPERM, lambda: dco.Device.open("ours0", persist=True, **OPEN))


def start_that_finds_no_room_for_a_thread() -> None:
    """The limit lets the first thread start and not the second: nothing runs, and a later start
    does everything."""
    own_network()
    with dco.Device.open("ovpn0", start=False, **OPEN) as device:
        transport = attach(device)
        os.setresuid(54321, 54321, 54321)
        _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        for limit in (1, 2):
            resource.setrlimit(resource.RLIMIT_NPROC, (limit, hard))
            refused(errno.EAGAIN, device.start)
            assert not engine_tasks()
            assert not device.closed
        resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
        device.start()
        assert sorted(engine_tasks()) == ["dco-receive", "dco-transmit"]
        check_sealing(device, transport)


def start_that_finds_no_room_for_all_workers() -> None:
    """Some of them have started when there is no room for the next: all stop again."""
    own_network()
    with dco.Device.open("ovpn0", start=False, workers=3, **OPEN) as device:
        transport = attach(device)
        os.setresuid(54321, 54321, 54321)
        _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        for limit in range(1, 7):
            resource.setrlimit(resource.RLIMIT_NPROC, (limit, hard))
            refused(errno.EAGAIN, device.start)
            assert not engine_tasks()
        resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
        device.start()
        names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
        assert sum(name.startswith("dco-") for name in names) == 6
        check_sealing(device, transport)


if __name__ == "__main__":
    with Namespace("warm-up"):
        pass  # whatever pyroute2 still has to import, it imports now
    globals()[sys.argv[1]]()
