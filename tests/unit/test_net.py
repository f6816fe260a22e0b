"""Interfaces in namespaces, and what is said when there can be none."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import refused
from support import needs_root

import ovpn_dco as dco
from ovpn_dco import Mode
from ovpn_dco.backend.tun_node import describe_tun_node
from ovpn_dco.net import open_namespace, run_in_namespace
from ovpn_dco.testing import Namespace


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace(f"unit-net-{os.getpid()}") as ns:
        yield ns


def ip(namespace: Namespace, *words: str) -> str:
    return namespace.run(["ip", *words]).stdout


@needs_root
def test_an_interface_with_addresses_in_a_namespace(namespace: Namespace) -> None:
    here = set(os.listdir("/sys/class/net"))
    with dco.Device.open(
        "unit%d",
        mode=Mode.MULTIPEER,
        netns=namespace.fd,
        mtu=1380,
        addresses=["10.77.0.1/24", "fd77::1/64"],
        up=True,
    ) as device:
        assert device.name == "unit0"
        assert device.ifindex > 0
        assert device.netns == namespace.fd
        assert device.mtu == 1380
        shown = ip(namespace, "addr", "show", "unit0")
        assert "mtu 1380" in shown
        assert "10.77.0.1/24" in shown
        assert "fd77::1/64" in shown
        assert ",UP" in shown
        device.mtu = 1300
        assert device.mtu == 1300
        assert "mtu 1300" in ip(namespace, "link", "show", "unit0")
        assert set(os.listdir("/sys/class/net")) == here
        refused(
            dco.Busy,
            "name",
            lambda: dco.Device.open("unit0", mode=Mode.P2P, netns=namespace.fd),
        )
    assert not namespace.has_interface("unit0")


@needs_root
def test_an_interface_opened_from_a_coroutine(namespace: Namespace) -> None:
    """pyroute2 runs an event loop of its own, which must not meet the caller's."""

    async def main() -> str:
        with dco.Device.open(
            "unit0", mode=Mode.P2P, netns=namespace.fd, addresses=["10.77.0.1/24"]
        ) as device:
            device.mtu = 1300
            return ip(namespace, "addr", "show", "unit0")

    assert "10.77.0.1/24" in asyncio.run(main())


@needs_root
def test_what_the_kernel_refuses_leaves_no_interface(namespace: Namespace) -> None:
    twice = ["10.77.0.1/24", "10.77.0.1/24"]
    with pytest.raises(dco.AlreadyExists) as caught:
        dco.Device.open("unit0", mode=Mode.P2P, netns=namespace.fd, addresses=twice)
    assert "10.77.0.1/24" in str(caught.value)
    assert not namespace.has_interface("unit0")
    refused(
        dco.Busy,
        "name",
        lambda: dco.Device.open("lo", mode=Mode.P2P, netns=namespace.fd),
    )


@needs_root
def test_an_interface_that_vanishes_is_an_event(namespace: Namespace) -> None:
    with dco.Device.open("unit0", mode=Mode.P2P, netns=namespace.fd, up=True) as device:
        ip(namespace, "link", "del", "unit0")
        events = device.poll_events(timeout_s=5)
        assert [type(event) for event in events] == [dco.InterfaceGone]
        with pytest.raises(dco.InterfaceMissing):
            device.mtu  # noqa: B018
        device.stats()


@needs_root
def test_namespaces_by_name_path_and_descriptor() -> None:
    name = f"unit-net-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        path = Path("/run/netns", name)
        inode = path.stat().st_ino
        with open(path, "rb") as file:
            for netns in (name, str(path), path, file.fileno()):
                descriptor = open_namespace(netns)
                assert os.fstat(descriptor).st_ino == inode
                inside = run_in_namespace(
                    descriptor, lambda: os.stat("/proc/thread-self/ns/net").st_ino
                )
                assert inside == inode
                os.close(descriptor)
        assert os.stat("/proc/thread-self/ns/net").st_ino != inode
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_no_namespace_is_the_callers() -> None:
    assert open_namespace(None) == -1
    here = os.stat("/proc/self/ns/net").st_ino
    assert run_in_namespace(-1, lambda: os.stat("/proc/thread-self/ns/net").st_ino) == here
    with pytest.raises(ZeroDivisionError):
        run_in_namespace(-1, lambda: 1 // 0)


@pytest.mark.parametrize("netns", ["no-such-name", "/no/such/path"])
def test_a_missing_namespace(netns: str) -> None:
    assert repr(netns) in str(refused(dco.NotFound, "netns", lambda: open_namespace(netns)))


@pytest.mark.parametrize("netns", [1 << 30, True, 1.5, "a\0b", "/proc/self/ns/mnt", os.devnull])
def test_what_is_no_namespace(netns: object) -> None:
    refused(dco.InvalidArgument, "netns", lambda: open_namespace(netns))  # type: ignore[arg-type]


# What is said about /dev/net/tun


def refusal(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_a_missing_node_is_named(tmp_path: Path) -> None:
    error = describe_tun_node(refusal(errno.ENOENT), str(tmp_path / "tun"))
    assert isinstance(error, dco.NotFound)
    assert str(tmp_path / "tun") in str(error)


def test_a_node_without_interface_right_names_the_capability(tmp_path: Path) -> None:
    node = tmp_path / "tun"
    node.touch(0o666)
    error = describe_tun_node(refusal(errno.EPERM), str(node))
    assert isinstance(error, dco.PermissionDenied)
    assert "CAP_NET_ADMIN" in str(error)


@needs_root
def test_a_node_that_may_not_be_opened_is_named_with_mode_and_owner(tmp_path: Path) -> None:
    node = tmp_path / "tun"
    node.touch()
    node.chmod(0o600)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            error = describe_tun_node(refusal(errno.EACCES), str(node))
            text = str(error)
            right = isinstance(error, dco.PermissionDenied) and error.errno == errno.EACCES
            words = ("mode -rw-------", "owner 0:0", "user 65534", str(node))
            status = 0 if right and all(word in text for word in words) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
