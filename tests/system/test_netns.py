"""The namespace helper that the other system tests stand on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support import needs_root, needs_tool
from system.nobody import nobody_prefix

from ovpn_dco.testing import Namespace, Topology, ethtool
from ovpn_dco.testing.netns import CommandFailed

pytestmark = [needs_root, pytest.mark.system]


def netns_inode() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


@needs_tool("ping")
def test_both_families_pass_at_once() -> None:
    with Topology() as t:
        for address in (t.link.right_ipv4, t.link.right_ipv6):
            t.left.run(["ping", "-c1", "-W1", address])


@pytest.mark.parametrize("bare", [False, True])
def test_a_bare_wire_aggregates_nothing(bare: bool) -> None:
    with Topology(bare=bare) as t:
        for namespace, name in ((t.left, t.link.left_name), (t.right, t.link.right_name)):
            with namespace.enter():
                features = ethtool.features(name)
            assert features["tx-udp-segmentation"] is not bare
            assert features["tx-tcp-segmentation"] is not bare
            if bare:
                assert not any(features.get(feature) for feature in ethtool.AGGREGATION)


def test_enter_comes_back_even_after_an_error() -> None:
    home = netns_inode()
    with Namespace("test") as namespace:
        with namespace.enter():
            assert netns_inode() == os.fstat(namespace.fd).st_ino != home
        with pytest.raises(RuntimeError), namespace.enter():
            raise RuntimeError
        assert netns_inode() == home


def test_a_socket_stays_where_it_was_made() -> None:
    with Topology() as t, t.right.socket() as receiver, t.left.socket() as sender:
        receiver.bind((t.link.right_ipv4, 0))
        receiver.settimeout(2)
        sender.sendto(b"hello", receiver.getsockname())
        assert receiver.recvfrom(16)[1][0] == t.link.left_ipv4


def test_closing_kills_what_runs_inside_and_forgets_the_namespace() -> None:
    topology = Topology()
    process = topology.right.popen(["sleep", "1000"], stdout=subprocess.PIPE)
    topology.close()
    topology.close()
    assert process.returncode == -9
    with pytest.raises(ValueError, match="closed"):
        _ = topology.right.fd


def test_a_failed_command_shows_what_it_printed() -> None:
    with (
        Namespace("test") as namespace,
        pytest.raises(CommandFailed, match="no such thing"),
    ):
        namespace.run(["sh", "-c", "echo no such thing >&2; exit 3"])


def test_spokes_reach_the_hub_and_not_each_other() -> None:
    with Topology(spokes=3) as t, t.left.socket() as hub, t.spokes[2].socket() as spoke:
        hub.bind(("0.0.0.0", 0))
        hub.settimeout(2)
        port = hub.getsockname()[1]
        spoke.sendto(b"x", (t.links[2].left_ipv4, port))
        assert hub.recvfrom(16)[1][0] == t.links[2].right_ipv4
        with pytest.raises(OSError, match="unreachable"):
            spoke.sendto(b"x", (t.links[0].right_ipv4, port))


def test_addresses_mtu_and_routes() -> None:
    with Topology(mtu=9000) as t:
        t.right.add_address("lo", "192.0.2.1/32")
        t.left.add_route("192.0.2.0/24", via=t.link.right_ipv4)
        with t.left.socket() as sock:
            sock.connect(("192.0.2.1", 9))
            assert sock.getsockname()[0] == t.link.left_ipv4
            ip_mtu = 14  # IP_MTU of linux/in.h
            assert sock.getsockopt(socket.IPPROTO_IP, ip_mtu) == 9000
            t.left.set_mtu(t.link.left_name, 1400)
            assert sock.getsockopt(socket.IPPROTO_IP, ip_mtu) == 1400
        assert t.left.has_interface(t.link.left_name)
        assert not t.left.has_interface("nothing0")


@needs_tool("setpriv", "unshare", "ping")
def test_without_privilege_in_a_user_namespace(tmp_path: Path) -> None:
    program = (
        "from ovpn_dco.testing import Topology, become_namespace_root, namespaces_available\n"
        "assert namespaces_available() is not None\n"
        "become_namespace_root()\n"
        "assert namespaces_available() is None\n"
        "with Topology(bare=True) as t:\n"
        "    t.left.run(['ping', '-c1', '-W1', t.link.right_ipv6])\n"
    )
    command = [*nobody_prefix(tmp_path), sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
