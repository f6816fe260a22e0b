"""Files of `quickstart` give tunnels: between stock ends, against a stock one, and between ours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen

import pytest
from click.testing import CliRunner
from support import needs_root, needs_tool

from ovpn_dco.cli.main import main
from ovpn_dco.testing import Namespace, Topology

DONE = "Initialization Sequence Completed"


@pytest.fixture
def topology() -> Iterator[Topology]:
    with Topology() as made:
        yield made


def read_until(process: Popen[str], text: str) -> str:
    """What a program prints up to a line with `text`, or all of it when it ends before."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if text in line:
            break
    return said


def quickstart(folder: Path, host: str, proto: str) -> Path:
    arguments = ["--host", host, "--proto", proto, "--network6", "fd00:8::/64"]
    result = CliRunner().invoke(main, ["quickstart", str(folder), *arguments])
    assert result.exit_code == 0, result.output
    return folder


def start(namespace: Namespace, *command: object) -> Popen[str]:
    return namespace.popen(list(map(str, command)), stdout=PIPE, stderr=STDOUT, text=True)


def ping(namespace: Namespace) -> None:
    namespace.run(["ping", "-c1", "-W5", "10.8.0.1"])
    namespace.run(["ping", "-c1", "-W5", "fd00:8::1"])


@needs_root
@needs_tool("openvpn", "ping")
@pytest.mark.interop
@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_stock_ends_make_a_tunnel_of_the_files(
    tmp_path: Path, topology: Topology, proto: str
) -> None:
    folder = quickstart(tmp_path / "vpn", topology.link.left_ipv4, proto)
    server = start(topology.left, "openvpn", "--config", folder / "server.conf")
    said = read_until(server, DONE)
    assert DONE in said, said
    client = start(topology.right, "openvpn", "--config", folder / "client.ovpn")
    said = read_until(client, DONE)
    assert DONE in said, said
    assert "TLSv1.3" in said
    ping(topology.right)


@needs_root
@needs_tool("openvpn", "ping")
@pytest.mark.interop
@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_a_stock_client_connects_to_our_server(
    tmp_path: Path, topology: Topology, proto: str
) -> None:
    folder = quickstart(tmp_path / "vpn", topology.link.left_ipv4, proto)
    with (folder / "server.conf").open("a") as file:
        file.write("user nobody\ndev vpn0\n")
    ours = (sys.executable, "-m", "ovpn_dco", "server", folder / "server.conf")
    server = start(topology.left, *ours)
    assert "listening" in read_until(server, "listening")
    client = start(topology.right, "openvpn", "--config", folder / "client.ovpn")
    said = read_until(client, DONE)
    assert DONE in said, said
    ping(topology.right)
    server.terminate()
    said = read_until(server, "Traceback")
    assert server.wait() == 0, said
    assert not topology.left.has_interface("vpn0")


@needs_root
@needs_tool("ping")
@pytest.mark.system
@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_the_two_commands_of_quickstart_give_a_tunnel(
    tmp_path: Path, topology: Topology, proto: str
) -> None:
    folder = quickstart(tmp_path / "vpn", topology.link.left_ipv4, proto)
    ours = (sys.executable, "-m", "ovpn_dco")
    server = start(topology.left, *ours, "server", folder / "server.conf")
    assert "listening" in read_until(server, "listening")
    client = start(topology.right, *ours, "client", folder / "client.ovpn")
    said = read_until(client, "connected as")
    assert "connected as 10.8.0.2" in said, said
    ping(topology.right)
    for process in (client, server):
        process.terminate()
        said = read_until(process, "Traceback")
        assert process.wait() == 0, said
    assert not topology.right.has_interface("tun0")
    assert not topology.left.has_interface("tun0")
