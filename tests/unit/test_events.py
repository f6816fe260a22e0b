"""Waiting: descriptors, threads, signals and asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from loopback import Host, Tunnel, eventually, tunnel, udp_socket

import ovpn_dco as dco

ANYWHERE = ("127.0.0.1", 9)


def readable(fd: int, timeout_s: float = 0.0) -> bool:
    return bool(select.select([fd], [], [], timeout_s)[0])


def lose_a_peer(h: Host, peer_id: int = 1) -> dco.Peer:
    peer = h.device.add_peer(peer_id, h.transport, remote=ANYWHERE, vpn_ipv4=f"10.8.0.{peer_id}")
    peer.delete()
    return peer


def test_descriptors_are_readable_while_something_waits() -> None:
    with tunnel() as t:
        device = t.server.device
        both, control = device.fileno(), device.control.fileno()
        assert not readable(both)
        assert not readable(control)
        for number in range(3):
            t.client.transport.send_control(bytes([0x38, 0, 0, number]), t.server.address)
        eventually(lambda: device.stats().control_packets == 3)
        assert readable(control, 1)
        assert readable(both)
        assert len(device.control.receive(max=2)) == 2
        assert readable(control), "one is still there"
        # Events are another matter.
        assert device.poll_events() == []
        assert readable(control)
        assert len(device.control.receive()) == 1
        assert device.control.receive() == []
        assert not readable(control)
        assert not readable(both)
        t.server_peer.delete()
        assert readable(both, 5)
        assert not readable(control)
        assert device.control.receive() == []
        assert readable(both)
        assert len(device.poll_events(timeout_s=5)) == 1
        assert device.poll_events() == []
        assert not readable(both)


def test_poll_waits_for_events_only() -> None:
    with tunnel() as t:
        t.client.transport.send_control(b"\x38 control", t.server.address)
        eventually(lambda: t.server.device.stats().control_packets == 1)
        started = time.monotonic()
        assert t.server.device.poll_events(timeout_s=0.1) == []
        assert time.monotonic() - started >= 0.1


def test_poll_returns_as_soon_as_an_event_comes(server: Host) -> None:
    timer = threading.Timer(0.1, lose_a_peer, [server])
    timer.start()
    started = time.monotonic()
    (event,) = server.device.poll_events(timeout_s=None)
    assert isinstance(event, dco.PeerDeleted)
    assert 0.05 < time.monotonic() - started < 5
    timer.join()


@pytest.mark.parametrize("timeout", [-1, "1", True, float("nan")])
def test_a_bad_timeout(server: Host, timeout: object) -> None:
    with pytest.raises(dco.InvalidArgument) as caught:
        server.device.poll_events(timeout_s=timeout)  # type: ignore[arg-type]
    assert caught.value.attribute == "timeout_s"


@pytest.mark.parametrize("maximum", [0, -1, "all", 1.5])
def test_a_bad_maximum(server: Host, maximum: object) -> None:
    with pytest.raises(dco.InvalidArgument) as caught:
        server.device.control.receive(max=maximum)  # type: ignore[arg-type]
    assert caught.value.attribute == "max"


@contextlib.contextmanager
def signal_after(seconds: float, number: int) -> Iterator[None]:
    timer = threading.Timer(seconds, os.kill, [os.getpid(), number])
    timer.start()
    yield
    timer.join()


def test_ctrl_c_ends_a_wait(server: Host) -> None:
    # A shell starts what runs in the background with SIGINT ignored, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = time.monotonic()
        with signal_after(0.1, signal.SIGINT), pytest.raises(KeyboardInterrupt):
            server.device.poll_events(timeout_s=30)
        assert time.monotonic() - started < 10
    finally:
        signal.signal(signal.SIGINT, before)


def test_any_handled_signal_ends_a_wait(server: Host) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        started = time.monotonic()
        with signal_after(0.1, signal.SIGUSR1):
            assert server.device.poll_events(timeout_s=30) == []
        assert seen == [signal.SIGUSR1]
        assert time.monotonic() - started < 10
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_close_ends_a_wait(server: Host) -> None:
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            server.device.poll_events(timeout_s=30)
        except dco.DeviceClosed as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    server.device.close()
    thread.join(10)
    assert len(raised) == 1


def test_events_and_control_packets_share_one_order() -> None:
    with tunnel() as t:
        t.client.transport.send_control(b"\x38 before", t.server.address)
        (before,) = t.server.control()
        t.server_peer.delete()
        between = t.server.event(dco.PeerDeleted)
        t.client.transport.send_control(b"\x38 after", t.server.address)
        (after,) = t.server.control()
        assert before.sequence < between.sequence < after.sequence


def test_events_tell_generations_apart(server: Host) -> None:
    gone = [lose_a_peer(server, 1) for _ in range(3)]
    events = [server.event(dco.PeerDeleted) for _ in range(3)]
    assert [event.generation for event in events] == [peer.generation for peer in gone]
    assert len({event.generation for event in events}) == 3
    sequence = [event.sequence for event in events]
    assert sequence == sorted(sequence)


def test_a_closed_transport_takes_its_peers_along(server: Host) -> None:
    with udp_socket() as sock:
        transport = server.device.attach_udp(sock)
        for number in (1, 2):
            server.device.add_peer(number, transport, remote=ANYWHERE, vpn_ipv4=f"10.8.0.{number}")
        stays = server.device.add_peer(3, server.transport, remote=ANYWHERE, vpn_ipv4="10.8.0.3")
        transport.close()
        reasons = {(e.peer_id, e.reason) for e in (server.event(dco.PeerDeleted),) * 1}
        reasons |= {(e.peer_id, e.reason) for e in (server.event(dco.PeerDeleted),)}
        assert reasons == {
            (1, dco.DeleteReason.TRANSPORT_DISCONNECT),
            (2, dco.DeleteReason.TRANSPORT_DISCONNECT),
        }
        assert list(server.device.peers) == [stays.peer_id]


# asyncio


def test_events_through_asyncio(server: Host) -> None:
    async def main() -> list[dco.Event]:
        asyncio.get_running_loop().call_later(0.05, lose_a_peer, server, 2)
        lose_a_peer(server, 1)
        seen: list[dco.Event] = []
        async for event in server.device.events():
            seen.append(event)
            if len(seen) == 2:
                return seen
        raise AssertionError("ended by itself")

    events = asyncio.run(asyncio.wait_for(main(), 10))
    assert [event.peer_id for event in events if isinstance(event, dco.PeerDeleted)] == [1, 2]


def _exchange(t: Tunnel, rounds: int) -> None:
    """Ping-pong over the control port, while events are being waited for."""

    async def serve() -> int:
        served = 0
        async for packet in t.server.device.control.packets():
            assert packet.transport is not None
            packet.transport.send_control(packet.data, packet.remote, packet.local)
            served += 1
        return served

    async def ask() -> int:
        answers = 0
        t.client.transport.send_control(b"\x38\0\0\0", t.server.address)
        async for packet in t.client.device.control.packets():
            answers += 1
            assert packet.data == b"\x38\0\0\0"
            if answers == rounds:
                break
            t.client.transport.send_control(packet.data, packet.remote)
        return answers

    async def watch() -> list[dco.Event]:
        return [event async for event in t.server.device.events()]

    async def main() -> None:
        serving, watching = asyncio.create_task(serve()), asyncio.create_task(watch())
        assert await asyncio.wait_for(ask(), 10) == rounds
        t.server_peer.delete()
        await asyncio.sleep(0.1)
        # Closing ends every stream, of whatever loop.
        await asyncio.to_thread(t.server.device.close)
        assert await asyncio.wait_for(serving, 10) == rounds
        events = await asyncio.wait_for(watching, 10)
        assert [type(event) for event in events] == [dco.PeerDeleted]

    asyncio.run(main())


def test_several_streams_at_once() -> None:
    with tunnel() as t:
        _exchange(t, 50)


def test_a_stream_nobody_reads_costs_nothing(server: Host) -> None:
    async def main() -> float:
        stream = server.device.events()
        lose_a_peer(server, 1)
        await anext(stream)
        lose_a_peer(server, 2)  # waits unread from here on
        eventually(lambda: readable(server.device.fileno()))
        started = time.process_time()
        await asyncio.sleep(0.3)
        spent = time.process_time() - started
        await stream.aclose()  # type: ignore[attr-defined]
        return spent

    assert asyncio.run(main()) < 0.1


def test_a_cancelled_stream_leaves_nothing_behind(server: Host) -> None:
    before = sorted(os.listdir("/proc/self/fd"))

    async def wait() -> None:
        async for _ in server.device.events():
            raise AssertionError("there is no event")

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait(), 0.05)

    asyncio.run(main())
    assert sorted(os.listdir("/proc/self/fd")) == before
