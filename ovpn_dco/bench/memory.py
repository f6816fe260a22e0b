"""Memory per peer: what a device's process grows by, for each peer, key and connection.

``python -m ovpn_dco.bench.memory`` is a process that measures one case: the case as a line of JSON
on standard input, its cost as one on standard output. Each case has a process of its own, so that
nothing that was freed before is used again. The device is on a socketpair and its sockets on
loopback: this takes no privilege.
"""

from __future__ import annotations

import ctypes
import gc
import json
import re
import resource
import secrets
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import ovpn_dco as dco
from ovpn_dco.backend.userspace import probe_gcm
from ovpn_dco.bench.errors import BenchError, MeasurementError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovpn_dco.bench.scenarios import Watch

#: Descriptors that a process of ours has beside those of the connections.
_OTHER_DESCRIPTORS = 64
_FIRST_VPN_ADDRESS = int(IPv4Address("10.0.0.2"))
_PATIENCE_S = 10.0
_LONGEST_S = 300.0

#: The far ends of connections, in a process whose memory does not count: it connects to a port as
#: often as it is told, and holds everything until its standard input ends.
_FAR_ENDS = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
ends = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(int(sys.argv[2]))]
sys.stdin.read()
"""


@dataclass(frozen=True)
class MemoryCase:
    """So many peers, over "udp" or "tcp", with a key each; `epoch`: in the epoch format;
    `openssl`: in OpenSSL's contexts also where we have AES-GCM of our own.
    """

    transport: str
    cipher: str
    epoch: bool
    peers: int
    openssl: bool = False

    @property
    def title(self) -> str:
        """For a table."""
        code = " (OpenSSL)" if self.openssl else ""
        return f"{self.transport.upper()}, {self.cipher}{code}{', epochs' if self.epoch else ''}"


@dataclass(frozen=True)
class MemoryCost:
    """Bytes of resident memory, Python's objects included: of the device when it is opened, and
    what was added for each peer, its key, and its connection.
    """

    case: MemoryCase
    device: int
    peer: float
    key: float
    connection: float

    @property
    def whole_peer(self) -> float:
        """With key and connection."""
        return self.peer + self.key + self.connection

    @property
    def total(self) -> float:
        """Of all peers and the device."""
        return self.device + self.case.peers * self.whole_peer


def memory_cases(*, peers: int, tcp_peers: int) -> list[MemoryCase]:
    """Every kind of key over UDP, and the one of most installations over TCP."""
    aes, chacha = dco.Cipher.AES_256_GCM.value, dco.Cipher.CHACHA20_POLY1305.value
    second = [MemoryCase("udp", aes, False, peers, openssl=True)] if probe_gcm() else []
    return [
        MemoryCase("udp", aes, False, peers),
        *second,
        MemoryCase("udp", chacha, False, peers),
        MemoryCase("udp", aes, True, peers),
        MemoryCase("udp", chacha, True, peers),
        MemoryCase("tcp", aes, False, min(tcp_peers, connections_max())),
    ]


def connections_max() -> int:
    """How many connections the hard limit of descriptors allows a device."""
    return max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - _OTHER_DESCRIPTORS)


def memory(cases: list[MemoryCase], watch: Watch) -> list[MemoryCost]:
    """Measure all cases, one after the other. Raises MeasurementError."""
    watch.expect(len(cases))
    costs = []
    for case in cases:
        watch.step(f"memory: {case.peers} peers, {case.title}")
        try:
            done = subprocess.run(
                [sys.executable, "-m", "ovpn_dco.bench.memory"],
                input=json.dumps(asdict(case)),
                capture_output=True,
                text=True,
                timeout=_LONGEST_S,
            )
        except subprocess.TimeoutExpired as error:
            raise MeasurementError(f"{case.title}: not done in {_LONGEST_S:g} s") from error
        if done.returncode:
            raise MeasurementError(f"{case.title}: {done.stderr.strip()}")
        costs.append(MemoryCost(case, **json.loads(done.stdout)))
    return costs


def resident_bytes() -> int:
    """Of this process, exactly, after giving back what is free: smaps_rollup of proc(5).

    VmRSS would be wrong by some dozens of pages for each thread, which count on their own.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return read_resident(Path("/proc/self/smaps_rollup").read_text())


def read_resident(rollup: str) -> int:
    """Take the bytes from smaps_rollup. Raises MeasurementError."""
    found = re.search(r"^Rss:\s+(\d+) kB", rollup, re.M)
    if not found:
        raise MeasurementError("smaps_rollup holds no Rss")
    return int(found[1]) * 1024


def _key(case: MemoryCase) -> dco.DataKey | dco.EpochKey:
    cipher = dco.Cipher(case.cipher)
    if case.epoch:
        return dco.EpochKey(0, cipher, secrets.token_bytes(32), secrets.token_bytes(32))
    return dco.DataKey(
        key_id=0,
        cipher=cipher,
        encrypt=dco.KeyDirection(secrets.token_bytes(cipher.key_size), secrets.token_bytes(8)),
        decrypt=dco.KeyDirection(secrets.token_bytes(cipher.key_size), secrets.token_bytes(8)),
    )


def _connections(stack: ExitStack, count: int) -> Iterator[socket.socket]:
    """The near ends; each is the caller's to close."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        listener.settimeout(_PATIENCE_S)
        port = listener.getsockname()[1]
        command = [sys.executable, "-c", _FAR_ENDS, str(port), str(count)]
        stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
        for _ in range(count):
            yield listener.accept()[0]


def _transports(stack: ExitStack, device: dco.Device, case: MemoryCase) -> Iterator[dco.Transport]:
    """One for each peer: the same over UDP."""
    if case.transport == "tcp":
        for connection in _connections(stack, case.peers + 1):
            with connection:
                yield device.attach_tcp(connection)
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        transport = device.attach_udp(sock)
    for _ in range(case.peers + 1):
        yield transport


def _install_key(device: dco.Device, number: int, case: MemoryCase) -> None:
    device.peers[number].install_key(dco.KeySlot.PRIMARY, _key(case))


def _add_peer(device: dco.Device, transport: dco.Transport, number: int, case: MemoryCase) -> None:
    device.add_peer(
        number,
        transport,
        # Nothing is sent: somewhere else for each, as with clients all over the world.
        remote=(str(IPv4Address(0x0B000000 + number)), 1194) if case.transport == "udp" else None,
        vpn_ipv4=str(IPv4Address(_FIRST_VPN_ADDRESS + number)),
    )


def measure(case: MemoryCase) -> dict[str, float]:
    """Measure in this process; the fields of MemoryCost.

    The first peer is added before the count starts: it brings what all have in common.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        inner, app = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.enter_context(inner), stack.enter_context(app)
        empty = resident_bytes()
        device = stack.enter_context(
            dco.Device.open(
                "memory",
                mode=dco.Mode.MULTIPEER,
                tun_fd=inner.fileno(),
                offloads=dco.Offload.ALL & ~dco.Offload.VAES_GCM if case.openssl else None,
            )
        )
        coming = _transports(stack, device, case)
        first = next(coming)
        _add_peer(device, first, 0, case)
        _install_key(device, 0, case)
        transports = [first] * case.peers  # room for all of them, which is not the device's
        marks = [resident_bytes()]
        for index, transport in enumerate(coming):
            transports[index] = transport
        marks.append(resident_bytes())
        for number, transport in enumerate(transports, 1):
            _add_peer(device, transport, number, case)
        marks.append(resident_bytes())
        for number in range(1, case.peers + 1):
            _install_key(device, number, case)
        marks.append(resident_bytes())
        if len(device.peers) != case.peers + 1:
            raise MeasurementError(f"only {len(device.peers)} peers are left")
    connection, peer, key = ((b - a) / case.peers for a, b in pairwise(marks))
    return {"device": marks[0] - empty, "peer": peer, "key": key, "connection": connection}


def main() -> None:
    """Measure the case on standard input."""
    try:
        print(json.dumps(measure(MemoryCase(**json.load(sys.stdin)))))
    except (BenchError, dco.DcoError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
