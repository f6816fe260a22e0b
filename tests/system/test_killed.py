"""A process that is killed, at whatever moment, leaves nothing behind but what was asked for."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.tunnel import PORT, SYSTEM, Site, eventually
from system.victim import NAME, PEER, key

import ovpn_dco as dco
from ovpn_dco import KeySlot, Mode
from ovpn_dco.testing import Namespace, Topology

pytestmark = SYSTEM

TESTS = Path(__file__).parents[1]
SEED = 20


def start_victim(
    namespace: Namespace, duration_s: float, *, persist: bool
) -> subprocess.Popen[str]:
    """One that has opened a device at least once."""
    path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    process = namespace.popen(
        [sys.executable, str(TESTS / "system" / "victim.py"), str(duration_s), str(int(persist))],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def interfaces(namespace: Namespace) -> set[str]:
    with namespace.iproute() as ipr:
        return {str(link.get_attr("IFLA_IFNAME")) for link in ipr.get_links()}


def flooded_client(topology: Topology) -> Site:
    """The victim's peer, which lives on and keeps sending."""
    client = Site(topology.right, PEER, mode=Mode.P2P)
    peer = client.device.add_peer(PEER, client.transport, remote=(topology.link.left_ipv4, PORT))
    peer.install_key(KeySlot.PRIMARY, key(at_victim=False))
    return client


@contextlib.contextmanager
def load(client: Site) -> Iterator[None]:
    """Datagrams into the tunnel, some thousands a second, whoever is at its end."""
    stop = threading.Event()

    def send() -> None:
        with client.namespace.socket() as sock:
            while not stop.wait(0.0002):
                sock.sendto(bytes(1000), ("10.9.0.1", 9))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        stop.set()
        sender.join()


def assert_port_is_free(namespace: Namespace) -> None:
    with namespace.socket() as sock:
        sock.bind(("0.0.0.0", PORT))


@pytest.mark.slow
@pytest.mark.parametrize("persist", [False, True], ids=["plain", "persistent"])
def test_killed_at_any_moment(persist: bool) -> None:
    """In openings and closings (rounds of 0 and 5 ms) and under load (longer ones)."""
    chance = random.Random(SEED)
    stayed = 0
    with Topology() as topology:
        home = interfaces(topology.left)
        client = flooded_client(topology)
        with load(client):
            for attempt in range(20):
                duration_s = (0, 0.005, 0.1)[attempt % 3]
                victim = start_victim(topology.left, duration_s, persist=persist)
                time.sleep(chance.uniform(0, 0.08))
                victim.kill()
                assert victim.wait(20) == -9
                left = interfaces(topology.left) - home
                if persist and left:
                    stayed += 1
                    assert left == {NAME}
                    remove_persistent(topology.left)
                assert interfaces(topology.left) == home
                assert_port_is_free(topology.left)
        assert client.device.stats().udp_send_packets > 1000
        client.close()
        # With the last reference to a namespace go its ends of wires.
        wire = topology.link.right_name
        topology.left.close()
        eventually(lambda: not topology.right.has_interface(wire), what="the end of the namespace")
    assert bool(stayed) == persist


def remove_persistent(namespace: Namespace) -> None:
    """By taking it over, which the dead must not hinder."""
    with dco.Device.open(NAME, mode=Mode.P2P, netns=namespace.fd, persist=True) as device:
        device.persist = False


def test_killed_while_it_starts() -> None:
    """Before the first device is there, too: somewhere between the interpreter and the threads."""
    chance = random.Random(SEED)
    with Topology() as topology:
        home = interfaces(topology.left)
        path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
        for _ in range(12):
            victim = topology.left.popen(
                [sys.executable, str(TESTS / "system" / "victim.py"), "0.1", "0"],
                env={**os.environ, "PYTHONPATH": path},
                stdout=subprocess.DEVNULL,
            )
            time.sleep(chance.uniform(0.1, 0.5))
            victim.kill()
            assert victim.wait(20) == -9
            assert interfaces(topology.left) == home
            assert_port_is_free(topology.left)


def test_child_that_lives_on_holds_no_interface() -> None:
    """A forked child, and one that was executed, outlive the death of the device's process."""
    program = (
        "import os, socket, subprocess, sys, warnings, ovpn_dco as dco\n"
        "warnings.simplefilter('ignore')\n"
        "device = dco.Device.open('ovpn1', mode=dco.Mode.P2P, up=True)\n"
        "sock = socket.socket(type=socket.SOCK_DGRAM)\n"
        f"sock.bind(('0.0.0.0', {PORT}))\n"
        "device.attach_udp(sock)\n"
        "sock.close()\n"
        "spawned = subprocess.Popen(['sleep', '1000'], close_fds=False)\n"
        "forked = os.fork()\n"
        "if not forked:\n"
        "    os.read(0, 1)\n"
        "    os._exit(0)\n"
        "print(spawned.pid, forked, flush=True)\n"
        "os.read(0, 1)\n"
    )
    with Namespace("victim") as namespace:
        path = os.pathsep.join(filter(None, [str(TESTS.parent), *sys.path]))
        parent = namespace.popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert parent.stdout
        spawned, forked = map(int, parent.stdout.readline().split())
        try:
            assert namespace.has_interface("ovpn1")
            with pytest.raises(OSError, match="in use"), namespace.socket() as sock:
                sock.bind(("0.0.0.0", PORT))
            parent.kill()
            parent.wait(20)
            for pid in (spawned, forked):
                assert os.path.exists(f"/proc/{pid}"), "still alive"
            assert not namespace.has_interface("ovpn1")
            assert_port_is_free(namespace)
        finally:
            for pid in (spawned, forked):
                os.kill(pid, 9)
