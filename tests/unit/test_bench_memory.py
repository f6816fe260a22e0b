"""Memory per peer: what is measured, and that it is what was added."""

from __future__ import annotations

import mmap
import resource

import pytest
from support import processor_has_vaes

from ovpn_dco.bench import memory
from ovpn_dco.bench.errors import MeasurementError
from ovpn_dco.bench.memory import MemoryCase, MemoryCost, memory_cases, resident_bytes


class Silent:
    def __init__(self) -> None:
        self.expected = self.steps = 0

    def expect(self, steps: int) -> None:
        self.expected += steps

    def step(self, text: str) -> None:
        self.steps += 1


def test_cases_are_all_kinds_of_keys_and_both_transports() -> None:
    cases = memory_cases(peers=100, tcp_peers=10)
    plain = [case for case in cases if not case.openssl]
    udp = {(c.cipher, c.epoch) for c in plain if c.transport == "udp" and c.peers == 100}
    assert udp == {(c, e) for c in ("AES-256-GCM", "CHACHA20-POLY1305") for e in (False, True)}
    assert len(plain) == 5
    assert [c.peers for c in cases if c.transport == "tcp"] == [10]
    # Where there is no code of our own all of AES-GCM is OpenSSL's.
    assert len(cases) - len(plain) == processor_has_vaes()
    assert len({case.title for case in cases}) == len(cases)


def test_connections_are_no_more_than_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 1024))
    assert memory.connections_max() == 1024 - 64
    (tcp,) = (c for c in memory_cases(peers=1, tcp_peers=25000) if c.transport == "tcp")
    assert tcp.peers == memory.connections_max()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (8, 8))
    assert memory.connections_max() == 1


def test_costs_add_up() -> None:
    case = MemoryCase("tcp", "AES-256-GCM", epoch=False, peers=100)
    cost = MemoryCost(case, device=1000, peer=10.0, key=5.0, connection=1.0)
    assert cost.whole_peer == 16.0
    assert cost.total == 1000 + 100 * 16


def test_resident_memory_is_what_was_touched() -> None:
    size = 8 * 1024 * 1024
    before = resident_bytes()
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        reserved = resident_bytes() - before
        block.write(b"x" * size)
        touched = resident_bytes() - before
    assert reserved < size / 8
    assert size <= touched < size * 1.25


def test_resident_memory_is_read() -> None:
    rollup = "5600-7fff ---p 00000000 00:00 0 [rollup]\nRss:   1024 kB\nPss:    512 kB\n"
    assert memory.read_resident(rollup) == 1024 * 1024
    with pytest.raises(MeasurementError, match="Rss"):
        memory.read_resident("Pss:    512 kB\n")


@pytest.mark.parametrize("epoch", [False, True])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_case_is_measured_in_a_process(transport: str, epoch: bool) -> None:
    watch = Silent()
    case = MemoryCase(transport, "AES-256-GCM", epoch=epoch, peers=300)
    (cost,) = memory.memory([case], watch)
    assert cost.case == case
    assert watch.expected == watch.steps == 1
    assert cost.device > 0
    # Less than the two keys and the window of the packets received is not possible, and a page or
    # two for each would be a waste.
    assert 64 < cost.key < 16384
    assert 64 < cost.peer < 16384
    assert (cost.connection > 64) == (transport == "tcp")


def test_a_case_that_fails_says_why() -> None:
    case = MemoryCase("udp", "ROT13", epoch=False, peers=1)
    with pytest.raises(MeasurementError, match="ROT13"):
        memory.memory([case], Silent())
