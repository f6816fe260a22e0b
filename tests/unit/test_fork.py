"""Forks, at any moment: the child has closed devices, the parent has not noticed."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import re
import resource
import signal
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest
from loopback import Tunnel, add, ipv4, key_pair, tunnel

import ovpn_dco as dco
from ovpn_dco import KeySlot

CHILD_S = 20  # after which a child that hangs is killed


@pytest.fixture(autouse=True)
def _no_warning_about_threads() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: the point
        yield


def fork(look: Callable[[], object]) -> int:
    """The pid of a child whose exit status is 0 when `look` says nothing, or only so."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            signal.alarm(CHILD_S)
            status = 1 if look() else 0
        finally:
            os._exit(status)
    return child


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def inherited(known: set[str]) -> list[str]:
    """Descriptors of an engine that are open in this process, beyond those that are `known`."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if re.search(r"eventfd|timerfd|eventpoll|socket:", target) and name not in known:
                found.append(f"{name} -> {target}")
    return found


def calls(t: Tunnel) -> list[Callable[[], object]]:
    """Some of each kind; test_device.py has them all."""
    server, client = t.server, t.client
    return [
        server.device.stats,
        server.device.fileno,
        lambda: server.device.poll_events(timeout_s=1),
        server.device.control.receive,
        lambda: list(server.device.peers),
        lambda: server.device.routes.add("192.168.0.0/24", t.server_peer),
        lambda: add(server, 5),
        t.server_peer.info,
        t.server_peer.swap_keys,
        server.transport.info,
        lambda: server.transport.send_control(b"x", client.address),
        lambda: client.device.attach_udp(client.sock),
        client.device.start,
    ]


def answers(t: Tunnel) -> list[int]:
    """Which of the calls do not raise DeviceClosed."""
    wrong = []
    for number, call in enumerate(calls(t)):
        try:
            call()
        except dco.DeviceClosed:
            continue
        wrong.append(number)
    t.server.device.close()
    return wrong


def test_at_any_moment_of_other_threads() -> None:
    """Two threads fork while others add, delete, install, route, read and send."""
    known = set(os.listdir("/proc/self/fd"))
    with tunnel() as t:
        t.install()
        known |= {str(end.fileno()) for h in (t.client, t.server) for end in (h.app, h.sock)}
        for end in (t.client.app, t.server.app):
            end.setblocking(False)
        stop = threading.Event()
        numbers, rolls = itertools.count(10), itertools.count(3)
        failures: list[object] = []

        def churn() -> None:
            number = next(numbers)
            peer = add(t.server, number, vpn_ipv4=f"10.99.{number >> 8 & 255}.{number & 255}")
            for key_id in range(3):
                peer.install_key(KeySlot.PRIMARY, key_pair(key_id)[0])
            t.server.device.routes.add(f"172.{number % 250}.0.0/16", peer)
            peer.delete()
            t.server.device.poll_events()

        def traffic() -> None:
            with contextlib.suppress(BlockingIOError):
                t.client.send(ipv4("10.8.0.2", "10.8.0.1", bytes(500)))
                t.server.receive()

        def roll() -> None:
            number = next(rolls)
            t.install(key_pair(number % 2, seed=number % 100), KeySlot.SECONDARY)
            t.server_peer.swap_keys()
            t.client_peer.swap_keys()

        def wait() -> None:
            t.client.device.poll_events(timeout_s=0.01)

        def until_stopped(call: Callable[[], object]) -> None:
            try:
                while not stop.is_set():
                    call()
            except BaseException as error:
                failures.append(error)

        def fork_often() -> None:
            for _ in range(25):
                status = status_of(fork(lambda: answers(t) or inherited(known)))
                if status:
                    failures.append(f"a child ended with {status}")

        busy = (churn, churn, traffic, roll, wait, t.server.device.stats)
        others = [threading.Thread(target=until_stopped, args=(call,)) for call in busy]
        forks = [threading.Thread(target=fork_often) for _ in range(2)]
        for thread in (*others, *forks):
            thread.start()
        for thread in forks:
            thread.join(100)
        stop.set()
        for thread in others:
            thread.join(20)
        assert not failures
        settle(t)
        t.up()
        t.down()


def test_nothing_changes_in_the_moment_of_a_fork() -> None:
    """Calls of other threads wait for its end, so that nothing is copied half done; packets do not
    wait."""
    with tunnel() as t:
        t.install()
        backend = t.server.device._backend
        backend.freeze()
        done: list[dco.Peer] = []
        caller = threading.Thread(target=lambda: done.append(add(t.server, 5)))
        caller.start()
        try:
            for _ in range(20):
                t.up()
                t.down()
            assert not done
        finally:
            backend.thaw()
        caller.join(20)
        assert done


def settle(t: Tunnel) -> None:
    """Whatever is still under way, out of the way."""
    for end in (t.server.app, t.client.app):
        end.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:
                end.recv(65536)
        end.settimeout(5)


def test_child_of_multiprocessing(capfd: pytest.CaptureFixture[str]) -> None:
    """Which ends as Python does, with finalizers and all, while the parent's traffic goes on."""
    context = multiprocessing.get_context("fork")
    with tunnel() as t:
        t.install()
        reader, writer = context.Pipe(duplex=False)

        def body() -> None:
            writer.send(answers(t))

        processes = [context.Process(target=body) for _ in range(3)]
        for process in processes:
            process.start()
            t.up()
        for process in processes:
            process.join(CHILD_S)
            assert process.exitcode == 0
            assert reader.recv() == []
        t.up()
        t.down()
    assert "unclosed" not in capfd.readouterr().err


def test_child_that_lives_on_keeps_nothing_alive() -> None:
    """The parent closes; then its packet socket is at its end, which the child does not hold."""
    go_on, told = os.pipe()
    with tunnel() as t:
        t.install()
        child = fork(lambda: os.read(go_on, 1) != b"x")
        t.up()
        t.server.device.close()
        assert t.server.app.recv(100) == b""
        os.write(told, b"x")
        assert status_of(child) == 0
    os.close(go_on)
    os.close(told)


def test_child_of_a_child_and_a_device_of_its_own() -> None:
    """The child may open devices, and fork itself."""

    def look() -> list[object]:
        with tunnel() as own:
            own.install()
            own.up()
            status = status_of(fork(lambda: answers(own)))
            own.down()
            return [status] if status else []

    with tunnel() as t:
        t.install()
        assert status_of(fork(look)) == 0
        t.up()


def test_fork_while_another_thread_closes() -> None:
    for _ in range(10):
        with tunnel() as t:
            t.install()
            t.up()
            closer = threading.Thread(target=t.server.device.close)
            closer.start()
            child = fork(lambda: answers(t))
            closer.join(20)
            assert status_of(child) == 0


def test_fork_that_fails_changes_nothing() -> None:
    """At a limit of processes: what was held for the fork is let go."""
    with tunnel() as t:
        t.install()
        child = os.fork()
        if child == 0:
            # In a child, since there is no way back: an engine of its own, and no room to fork.
            status = 2
            try:
                signal.alarm(CHILD_S)
                with tunnel() as own:
                    own.install()
                    if os.geteuid() == 0:
                        os.setresuid(54321, 54321, 54321)
                    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
                    try:
                        os.fork()
                    except BlockingIOError:
                        own.up()
                        own.down()
                        own.server_peer.delete()
                        status = 0
            finally:
                os._exit(status)
        assert status_of(child) == 0
