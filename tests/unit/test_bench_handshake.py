"""Clients that arrive at a server, the file that servers read, and what is judged."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import eventually

from ovpn_dco.bench.arrivals import Crowd, Identity
from ovpn_dco.bench.credentials import CredentialFiles
from ovpn_dco.bench.figures import Sample, Samples
from ovpn_dco.bench.subjects.server import configuration, on_cpus, profile
from ovpn_dco.bench.targets import judge
from ovpn_dco.config import parse_client, parse_server
from ovpn_dco.protocol.cookie import Answer, ResetCookie, StatelessServer
from ovpn_dco.protocol.ratelimit import PrefixLimiter
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session import SessionSettings
from ovpn_dco.protocol.session_events import AuthRequired, Ended, EndReason
from ovpn_dco.protocol.session_server import ServerSession
from ovpn_dco.protocol.statickey import StaticKey
from ovpn_dco.protocol.tls import TlsContext, TlsSettings
from ovpn_dco.protocol.wrap.front import ServerFront

OPTIONS = ("topology subnet", "ifconfig 10.97.0.2 255.255.0.0")


class SmallServer(threading.Thread):
    """Lets everybody in, on loopback; `ends` says why each session was over."""

    def __init__(self, files: CredentialFiles) -> None:
        super().__init__()
        self.ends: list[EndReason] = []
        self.ports: list[int] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.05)
        self.stopped = threading.Event()
        self._sessions: dict[tuple[str, int], ServerSession] = {}
        tls = TlsSettings(
            role=Role.SERVER,
            ca=files.authority.read_bytes(),
            certificate=files.certificate("server").read_bytes(),
            private_key=files.private_key("server").read_bytes(),
        )
        self._settings = SessionSettings(tls=TlsContext(tls), random_bytes=os.urandom)
        key = StaticKey.parse(files.tls_crypt.read_text())
        self._gate = StatelessServer(
            ServerFront.tls_crypt(key),
            ResetCookie(os.urandom),
            PrefixLimiter(rate_per_s=1000, burst=1000),
        )

    def run(self) -> None:
        while True:
            try:
                data, address = self.socket.recvfrom(4096)
            except TimeoutError:
                if self.stopped.is_set():
                    return  # and what had come before is done
                continue
            self._receive(data, address, time.time())

    def _receive(self, data: bytes, address: tuple[str, int], now: float) -> None:
        session = self._sessions.get(address)
        if session is None:
            outcome = self._gate.receive(data, address, now)
            if isinstance(outcome, Answer):
                self.ports.append(address[1])
                self.socket.sendto(outcome.data, address)
                return
            session = ServerSession(self._settings, outcome, address=address, now=now)
            self._sessions[address] = session
        else:
            session.receive(data, address, now)
        while (event := session.next_event()) is not None:
            if isinstance(event, AuthRequired):
                session.accept(now, username="", peer_id=1, options=OPTIONS)
            elif isinstance(event, Ended):
                self.ends.append(event.reason)
        for packet in session.packets_to_send(now):
            self.socket.sendto(packet, address)


@pytest.fixture
def files(tmp_path: Path) -> CredentialFiles:
    made = CredentialFiles(tmp_path)
    made.make()
    return made


@pytest.fixture
def server(files: CredentialFiles) -> Iterator[SmallServer]:
    one = SmallServer(files)
    one.start()
    yield one
    one.stopped.set()
    one.join()
    one.socket.close()


def crowd(folder: Path, server: SmallServer, in_flight: int) -> Crowd:
    ports = itertools.cycle(range(20000, 30000))
    return Crowd(
        Identity.load(folder), server.socket.getsockname(), in_flight=in_flight, ports=ports
    )


# Clients


def test_clients_connect_in_full_say_goodbye_and_come_from_ports_of_their_own(
    tmp_path: Path, server: SmallServer
) -> None:
    outcome = crowd(tmp_path, server, 4).run(seconds=30, limit=10)
    assert (outcome.completed, outcome.failed) == (10, 0)
    assert outcome.seconds > 0
    assert outcome.cpu_s > 0
    # The last goodbye may still be on its way.
    eventually(lambda: len(server.ends) == 10, "all have left")
    server.stopped.set()
    server.join()
    assert server.ends == [EndReason.PEER_EXIT] * 10
    assert len(set(server.ports)) == 10


def test_a_client_that_does_not_get_in_has_failed(
    tmp_path: Path, files: CredentialFiles, server: SmallServer
) -> None:
    other = CredentialFiles(tmp_path / "other")
    other.folder.mkdir()
    other.make()
    other.tls_crypt.write_bytes(files.tls_crypt.read_bytes())
    outcome = crowd(other.folder, server, 1).run(seconds=30, limit=2)
    assert (outcome.completed, outcome.failed) == (0, 2)


def test_when_the_time_is_over_nobody_begins(tmp_path: Path, server: SmallServer) -> None:
    outcome = crowd(tmp_path, server, 4).run(seconds=0, limit=10)
    assert (outcome.completed, outcome.failed) == (0, 0)
    assert server.ports == []


def test_clients_of_a_rate_come_one_after_the_other(tmp_path: Path, server: SmallServer) -> None:
    outcome = crowd(tmp_path, server, 4).run(seconds=30, limit=4, rate=20)
    assert (outcome.completed, outcome.failed) == (4, 0)
    # Of four, the last one comes three gaps after the first.
    assert outcome.seconds >= 3 / 20


# Servers


def test_our_server_takes_the_file_that_openvpn_gets(files: CredentialFiles) -> None:
    config = parse_server(configuration(files))
    assert config.pool.duplicate_cn
    assert config.pool.max_clients == 60000


def test_our_client_takes_the_file_that_openvpn_gets(files: CredentialFiles) -> None:
    config = parse_client(profile(files, ("10.98.1.1", 1194)))
    (remote,) = config.remotes
    assert (remote.host, remote.port) == ("10.98.1.1", 1194)


def test_secrets_are_for_the_owner_alone(files: CredentialFiles) -> None:
    for path in (files.tls_crypt, files.private_key("server"), files.private_key("client")):
        assert path.stat().st_mode & 0o077 == 0


def test_processors_are_given_back_whatever_happens() -> None:
    before = os.sched_getaffinity(0)
    one = frozenset({min(before)})
    seen = []

    def fail() -> None:
        with on_cpus(one):
            seen.append(os.sched_getaffinity(0))
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert seen == [one]
    assert os.sched_getaffinity(0) == before


# Figures


@pytest.mark.parametrize(("ours", "reached"), [(70.0, True), (69.0, False)])
def test_seven_tenths_of_the_rate_are_wanted(ours: float, reached: bool) -> None:
    samples = Samples(
        Sample("veth", subject, "handshakes-capacity", 0, value)
        for subject, value in (("ours", ours), ("openvpn", 100.0))
    )
    assert [verdict.reached for verdict in judge(samples, [], {})] == [reached]


def test_the_rate_of_the_generator_is_not_judged() -> None:
    samples = Samples(
        Sample("veth", subject, metric, 0, value)
        for subject, metric, value in (
            ("ours", "handshakes", 1.0),
            ("openvpn", "handshakes-generator", 100.0),
        )
    )
    assert judge(samples, [], {}) == []
