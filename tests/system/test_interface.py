"""What others do to the interface of a running device, and interfaces that stay."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from security.forge import Forge
from system.tunnel import (
    SERVER_IPV4,
    SERVER_IPV6,
    SYSTEM,
    RunningPing,
    Site,
    Tunnel,
    iperf3,
    join,
    open_tunnel,
    ping,
)

import ovpn_dco as dco
from ovpn_dco import InterfaceGone, Mode
from ovpn_dco.testing import Namespace

pytestmark = SYSTEM

TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN, IFF_TAP, IFF_NO_PI = 0x1, 0x2, 0x1000


def index_of(namespace: Namespace, name: str) -> int:
    with namespace.iproute() as ipr:
        return int(ipr.link_lookup(ifname=name)[0])


def mtu_of(namespace: Namespace, name: str) -> int:
    with namespace.iproute() as ipr:
        (link,) = ipr.get_links(index_of(namespace, name))
        return int(link.get_attr("IFLA_MTU"))


def make_other(namespace: Namespace, name: str, mtu: int, index: int = 0) -> None:
    """Somebody else's interface."""
    with namespace.iproute() as ipr:
        peer = {"ifname": f"{name}-peer"}
        ipr.link("add", ifname=name, kind="veth", mtu=mtu, peer=peer, index=index)


def nothing_is_gone(site: Site) -> bool:
    return not [e for e in site.device.poll_events() if isinstance(e, InterfaceGone)]


@pytest.fixture
def other() -> Iterator[Namespace]:
    with Namespace("other") as namespace:
        yield namespace


# Renamed


def test_renamed_under_traffic(tunnel: Tunnel) -> None:
    """Traffic goes on, and the device follows, although another interface takes the old name."""
    server, device = tunnel.server, tunnel.server.device
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4)
    index = device.ifindex
    server.namespace.run(["ip", "link", "set", "ovpn1", "name", "tunnel0"])
    make_other(server.namespace, "ovpn1", 1000)
    running.stop_without_loss()
    assert device.name == "tunnel0"
    assert "tunnel0" in repr(device)
    assert device.ifindex == index
    assert device.mtu == 1420
    device.mtu = 1300
    assert mtu_of(server.namespace, "tunnel0") == 1300
    assert mtu_of(server.namespace, "ovpn1") == 1000
    ping(tunnel.client.namespace, SERVER_IPV4, size=3000)
    assert nothing_is_gone(server)
    device.close()
    assert device.name == "tunnel0"
    assert not server.namespace.has_interface("tunnel0")
    assert server.namespace.has_interface("ovpn1")


# Moved


def move(site: Site, target: Namespace, *, name: str | None = None) -> None:
    """Into another namespace, with its addresses: the kernel takes those away."""
    with site.namespace.iproute() as ipr:
        words: dict[str, Any] = {"ifname": name} if name else {}
        index = index_of(site.namespace, site.name)
        ipr.link("set", index=index, net_ns_fd=target.fd, **words)
    target.add_address(name or site.name, f"{site.ipv4}/24")
    target.add_address(name or site.name, f"{site.ipv6}/64")
    target.set_up(name or site.name)


def test_moved_to_another_namespace(tunnel: Tunnel, other: Namespace) -> None:
    """The tunnel then carries what is in the new one; a namesake in the old one is left alone."""
    server, device = tunnel.server, tunnel.server.device
    ping(tunnel.client.namespace, SERVER_IPV4)
    move(server, other)
    make_other(server.namespace, "ovpn1", 1000)
    for address in (SERVER_IPV4, SERVER_IPV6):
        ping(tunnel.client.namespace, address, count=20, size=3000)
    ping(other, tunnel.client.ipv4, count=20)
    iperf3(other, tunnel.client.namespace, SERVER_IPV4, megabytes=4)
    assert device.name == "ovpn1"
    assert device.ifindex == index_of(other, "ovpn1")
    assert device.mtu == 1420
    device.mtu = 1300
    assert mtu_of(other, "ovpn1") == device.mtu == 1300
    assert mtu_of(server.namespace, "ovpn1") == 1000
    assert device.netns == server.namespace.fd
    assert nothing_is_gone(server)
    device.close()
    assert not other.has_interface("ovpn1")
    assert server.namespace.has_interface("ovpn1")


def test_moved_and_renamed_at_once(tunnel: Tunnel, other: Namespace) -> None:
    """The index may be taken there, too: then it changes as well."""
    device = tunnel.client.device
    make_other(other, "d0", 1500, index=device.ifindex)
    move(tunnel.client, other, name="inside0")
    ping(other, SERVER_IPV4)
    assert device.name == "inside0"
    assert device.ifindex == index_of(other, "inside0") != index_of(other, "d0")
    device.mtu = 1200
    assert mtu_of(other, "inside0") == 1200
    assert mtu_of(other, "d0") == 1500


def test_moved_there_and_back_under_traffic(tunnel: Tunnel, other: Namespace) -> None:
    server = tunnel.server
    running = RunningPing(tunnel.client.namespace, SERVER_IPV4)
    move(server, other)
    with other.iproute() as ipr:
        ipr.link("set", index=index_of(other, "ovpn1"), net_ns_fd=server.namespace.fd)
    server.namespace.add_address("ovpn1", f"{SERVER_IPV4}/24")
    server.namespace.set_up("ovpn1")
    ping(tunnel.client.namespace, SERVER_IPV4, count=20)
    running.stop()
    assert nothing_is_gone(server)
    assert server.device.mtu == 1420


def test_its_namespace_goes(tunnel: Tunnel) -> None:
    """With the last reference to a namespace its interfaces go; the device says so."""
    server, device = tunnel.server, tunnel.server.device
    grave = Namespace("grave")
    move(server, grave, name="late0")
    ping(tunnel.client.namespace, SERVER_IPV4)
    assert device.name == "late0"
    grave.close()
    (event,) = server.events(InterfaceGone)
    assert event.errno == errno.EBADFD
    with pytest.raises(dco.InterfaceMissing):
        _ = device.mtu
    assert device.ifindex == 0
    assert device.name == "late0"
    device.stats()


def test_deleted_and_its_name_taken(tunnel: Tunnel) -> None:
    """Nothing of the interface that has the name now is read or changed."""
    server, device = tunnel.server, tunnel.server.device
    server.namespace.run(["ip", "link", "del", "ovpn1"])
    server.events(InterfaceGone)
    make_other(server.namespace, "ovpn1", 1000)
    for call in (lambda: device.mtu, lambda: setattr(device, "mtu", 1300)):
        with pytest.raises(dco.InterfaceMissing, match="deleted"):
            call()
    assert mtu_of(server.namespace, "ovpn1") == 1000
    assert device.ifindex == 0
    assert not device.persist
    with pytest.raises(dco.InterfaceMissing, match="deleted"):
        device.persist = True
    device.close()
    assert server.namespace.has_interface("ovpn1")


def test_adopted_interface_is_followed_as_well(other: Namespace) -> None:
    """A TUN that somebody else made, in a namespace that is not ours."""
    with other.enter():
        tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"given0", IFF_TUN | IFF_NO_PI))
    try:
        with dco.Device.open("label", mode=Mode.P2P, tun_fd=tun, mtu=9000) as device:
            assert device.name == "given0"
            assert device.ifindex == index_of(other, "given0")
            assert device.mtu == 1500
            other.run(["ip", "link", "set", "given0", "name", "taken0"])
            device.mtu = 1300
            assert device.name == "taken0"
            assert mtu_of(other, "taken0") == 1300
            assert not device.persist
            with pytest.raises(dco.InvalidArgument, match="its owner decides"):
                device.persist = True
        assert other.has_interface("taken0")
    finally:
        os.close(tun)


# MTU changed from outside


@pytest.mark.parametrize("mtu", [1500, 8900])
def test_larger_mtu_from_outside(make_tunnel, mtu: int) -> None:
    """Packets that were too large before go through whole, alone and in super-packets."""
    tunnel: Tunnel = make_tunnel(wire_mtu=9000)
    for site in tunnel.sites:
        site.namespace.set_mtu(site.name, mtu)
        assert site.device.mtu == mtu
    client, server = tunnel.client.namespace, tunnel.server.namespace
    before = tunnel.pair.at_client.stats().vpn_tx_packets
    ping(client, SERVER_IPV4, count=10, size=mtu - 28, options=("-M", "do"))
    assert tunnel.pair.at_client.stats().vpn_tx_packets - before == 10
    for reverse in (False, True):
        iperf3(server, client, SERVER_IPV4, megabytes=8, reverse=reverse)
    for site in tunnel.sites:
        stats = site.device.stats()
        assert not stats.drops[dco.DropReason.TX_TOO_BIG]
        assert not stats.drops[dco.DropReason.TX_MALFORMED]


def test_smaller_mtu_from_outside(tunnel: Tunnel) -> None:
    for site in tunnel.sites:
        site.namespace.set_mtu(site.name, 1280)
    client, server = tunnel.client.namespace, tunnel.server.namespace
    ping(client, SERVER_IPV6, size=3000)
    iperf3(server, client, SERVER_IPV4, megabytes=4)
    tunnel.server.device.mtu = 1420
    assert mtu_of(server, "ovpn1") == 1420


# Persistent interfaces


def test_persistent_interface_stays_and_is_taken_over() -> None:
    """With the device it is carried by; the same call opens it once more."""
    with open_tunnel(server={"persist": True}) as tunnel:
        server = tunnel.server
        namespace, index = server.namespace, server.device.ifindex
        ping(tunnel.client.namespace, SERVER_IPV4)
        assert server.device.persist
        assert not tunnel.client.device.persist
        with pytest.raises(dco.Busy) as caught:
            dco.Device.open("ovpn1", mode=Mode.P2P, netns=namespace.fd, persist=True)
        assert caught.value.attribute == "name"
        assert "another program" in str(caught.value)
        server.close()
        assert index_of(namespace, "ovpn1") == index
        with pytest.raises(dco.Busy):
            dco.Device.open("ovpn1", mode=Mode.P2P, netns=namespace.fd)
        assert index_of(namespace, "ovpn1") == index

        again = Site(namespace, 1, mode=Mode.MULTIPEER, persist=True)
        tunnel.server = again
        assert again.device.ifindex == index
        assert again.device.persist
        tunnel.client.device.peers[tunnel.client.number].delete()
        join(again, tunnel.client, tunnel.topology.link)
        ping(tunnel.client.namespace, SERVER_IPV4, count=20, size=3000)
        iperf3(namespace, tunnel.client.namespace, SERVER_IPV6, megabytes=4)
        again.device.persist = False
        assert not again.device.persist
        again.close()
        assert not namespace.has_interface("ovpn1")


def test_persistence_is_asked_for_later(tunnel: Tunnel) -> None:
    server = tunnel.server
    server.device.persist = True
    with pytest.raises(dco.InvalidArgument):
        server.device.persist = 1  # type: ignore[assignment]
    server.close()
    assert server.namespace.has_interface("ovpn1")


def test_what_is_set_of_a_persistent_interface(other: Namespace) -> None:
    """What is there already is no error, what differs is set, and the rest stays."""

    def open_device(**options: Any) -> dco.Device:
        return dco.Device.open("keep0", mode=Mode.P2P, netns=other.fd, persist=True, **options)

    def addresses() -> str:
        return other.run(["ip", "-o", "addr", "show", "keep0"]).stdout

    open_device(addresses=["10.77.0.1/24", "fd77::1/64"], up=True).close()
    other.add_address("keep0", "10.78.0.1/24")
    open_device(addresses=["10.77.0.1/24", "fd77::1/64"], up=True).close()
    assert "10.78.0.1/24" in addresses()
    with open_device(addresses=["10.77.0.1/24", "10.79.0.1/24"], mtu=1300) as device:
        assert device.mtu == 1300
        for address in ("10.77.0.1/24", "fd77::1/64", "10.78.0.1/24", "10.79.0.1/24"):
            assert address in addresses()
        device.persist = False
    assert not other.has_interface("keep0")


def test_interfaces_that_cannot_be_taken_over(other: Namespace) -> None:
    make_other(other, "veth7", 1000)
    other.run(["ip", "tuntap", "add", "tap7", "mode", "tap"])
    other.run(["ip", "tuntap", "add", "queues7", "mode", "tun", "multi_queue"])
    for name in ("veth7", "tap7", "queues7"):
        with pytest.raises(dco.InvalidArgument) as caught:
            dco.Device.open(name, mode=Mode.P2P, netns=other.fd, persist=True)
        assert caught.value.attribute == "name"
        assert other.has_interface(name)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (IFF_TAP | IFF_NO_PI, "is a TAP"),
        (IFF_TUN, "without IFF_NO_PI"),
        (0, "attached to no interface"),
    ],
    ids=["TAP", "packet information", "nothing"],
)
def test_descriptors_that_carry_no_ip_packets(other: Namespace, flags: int, why: str) -> None:
    with other.enter(), open("/dev/net/tun", "r+b", buffering=0) as tun:
        if flags:
            fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"given0", flags))
        with pytest.raises(dco.DcoError, match=f"tun_fd.*{why}"):
            dco.Device.open("label", mode=Mode.P2P, tun_fd=tun.fileno())


def test_interface_that_another_tool_made(other: Namespace) -> None:
    """`ip tuntap add` makes persistent ones; what header size was left there does not matter."""
    other.run(["ip", "tuntap", "add", "keep0", "mode", "tun", "vnet_hdr"])
    leave_header_size(other, "keep0", 12)
    with dco.Device.open(
        "keep0", mode=Mode.P2P, netns=other.fd, persist=True, addresses=["10.9.0.1/24"], up=True
    ) as device:
        check_traffic(other, device)
    assert other.has_interface("keep0")


def leave_header_size(namespace: Namespace, name: str, size: int) -> None:
    """What a virtual machine leaves: TUNSETVNETHDRSZ outlives its descriptor."""
    program = (
        "import fcntl, os, struct\n"
        "fd = os.open('/dev/net/tun', os.O_RDWR)\n"
        f"fcntl.ioctl(fd, 0x400454CA, struct.pack('16sH22x', b'{name}', 0x1 | 0x1000 | 0x4000))\n"
        f"fcntl.ioctl(fd, 0x400454D8, struct.pack('i', {size}))\n"
    )
    namespace.run([sys.executable, "-c", program])


def check_traffic(namespace: Namespace, device: dco.Device) -> None:
    """One packet from the interface arrives sealed, whole, at a socket of the namespace."""
    with namespace.socket() as ours, namespace.socket() as far:
        ours.bind(("127.0.0.1", 0))
        far.bind(("127.0.0.1", 0))
        far.settimeout(10)
        peer = device.add_peer(7, device.attach_udp(ours), remote=far.getsockname())
        forge = Forge(7)
        peer.install_key(dco.KeySlot.PRIMARY, forge.key())
        with namespace.socket() as inner:
            inner.sendto(b"whole and well", ("10.9.0.2", 9))
        while not forge.open(far.recv(2048)).payload.endswith(b"whole and well"):
            pass


def test_failed_opening_leaves_no_persistent_interface(other: Namespace) -> None:
    with pytest.raises(dco.AlreadyExists):
        dco.Device.open(
            "keep0",
            mode=Mode.P2P,
            netns=other.fd,
            persist=True,
            addresses=["10.77.0.1/24", "10.77.0.1/24"],
        )
    assert not other.has_interface("keep0")


def test_persistent_interface_outlives_its_process(other: Namespace) -> None:
    program = (
        "import os, sys, ovpn_dco as dco\n"
        "dco.Device.open('keep0', mode=dco.Mode.P2P, persist=True, addresses=['10.77.0.1/24'])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    killed = other.popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path})
    assert killed.wait(30) == -9
    assert other.has_interface("keep0")
    with dco.Device.open("keep0", mode=Mode.P2P, netns=other.fd, persist=True) as device:
        device.persist = False
    assert not other.has_interface("keep0")


def test_owner_of_a_persistent_interface(other: Namespace) -> None:
    """What the kernel wrote down; the user's side of it is in test_unprivileged.py."""
    dco.Device.open("keep0", mode=Mode.P2P, netns=other.fd, persist=True, owner=12345).close()
    assert "persist on user 12345" in other.run(["ip", "-d", "link", "show", "keep0"]).stdout
    device = dco.Device.open("keep0", mode=Mode.P2P, netns=other.fd, persist=True)
    device.persist = False
    device.close()
