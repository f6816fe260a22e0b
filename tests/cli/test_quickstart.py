"""`quickstart`: what it makes is private, whole, and good for a tunnel; nothing is overwritten."""

from __future__ import annotations

import stat
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from profile_lab import ProfileNetwork

from ovpn_dco import Cipher, config
from ovpn_dco.cli.main import main
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session_events import AuthRequired
from ovpn_dco.protocol.statickey import ClientKey, ServerKey


def quickstart(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["quickstart", str(folder), *arguments])


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "vpn"
    result = quickstart(folder, "--host", "vpn.example", "--client", "alice", "--client", "bob")
    assert result.exit_code == 0, result.output
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def check_pair(folder: Path, client: str) -> None:
    """A client's profile takes it through a whole handshake with the server of the folder."""
    server = config.parse_server(folder / "server.conf")
    chosen = config.parse_client(folder / f"{client}.ovpn")
    network = ProfileNetwork(chosen, server).connected()
    network.assert_keys_fit(0)
    (asked,) = network.every(Role.SERVER, AuthRequired)
    assert asked.peer is not None
    assert asked.peer.common_name == client
    wrapped = ClientKey.parse(chosen.wrap.tls_crypt_v2.data).wrapped
    _, metadata = ServerKey.parse(server.wrap.tls_crypt_v2.data).unwrap(wrapped)
    assert metadata.issued_at is not None


def test_files_are_only_for_their_owner(made: Path) -> None:
    assert names(made) == {"ca.key", "server.conf", "alice.ovpn", "bob.ovpn"}
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()} == {0o600}


def test_every_client_fits_the_server(made: Path) -> None:
    check_pair(made, "alice")
    check_pair(made, "bob")
    first, second = (config.parse_client(made / f"{name}.ovpn") for name in ("alice", "bob"))
    assert first.wrap.tls_crypt_v2 != second.wrap.tls_crypt_v2
    assert first.tls.key != second.tls.key


def test_files_have_no_warning_and_need_no_other_file(made: Path) -> None:
    for parse, file in (
        (config.parse_server, "server.conf"),
        (config.parse_client, "alice.ovpn"),
    ):
        chosen = parse((made / file).read_text())
        assert chosen.warnings == ()
        config.check(chosen)


def test_defaults_are_safe(made: Path) -> None:
    server = config.parse_server(made / "server.conf")
    client = config.parse_client(made / "alice.ovpn")
    ciphers = (Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305, Cipher.AES_128_GCM)
    for chosen in (server, client):
        assert chosen.tls.version_min is config.TlsVersion.V1_3
        assert chosen.data.ciphers == ciphers
    assert server.verify.remote_cert_tls is config.CertRole.CLIENT
    assert client.verify.remote_cert_tls is config.CertRole.SERVER
    assert server.keepalive.pushed == (10, 60)
    assert server.device.topology is config.Topology.SUBNET
    assert server.pool.local_ipv4 == IPv4Interface("10.8.0.1/24")
    assert client.remotes == (
        config.RemoteConfig(host="vpn.example", port=1194, protocol=config.Protocol.UDP),
    )


def test_options_reach_both_files(tmp_path: Path) -> None:
    arguments = "--host 2001:db8::1 --port 443 --proto tcp --network 10.9.0.0/16"
    result = quickstart(tmp_path / "vpn", *arguments.split(), "--network6", "fd00:9::/64")
    assert result.exit_code == 0, result.output
    server = config.parse_server(tmp_path / "vpn/server.conf")
    client = config.parse_client(tmp_path / "vpn/client.ovpn")
    assert server.listeners() == ((None, 443, config.Protocol.TCP),)
    assert server.pool.local_ipv4 == IPv4Interface("10.9.0.1/16")
    assert server.pool.local_ipv6 == IPv6Interface("fd00:9::1/64")
    assert client.remotes == (
        config.RemoteConfig(host="2001:db8::1", port=443, protocol=config.Protocol.TCP),
    )


def test_the_two_commands_are_shown(made: Path) -> None:
    shown = quickstart(made, "--client", "carol").output
    assert f"ovpn-dco server {made}/server.conf" in shown
    assert "ovpn-dco client carol.ovpn" in shown


def test_a_client_is_added_and_nothing_else_changes(made: Path) -> None:
    before = {path: path.read_bytes() for path in made.iterdir()}
    result = quickstart(made, "--client", "carol")
    assert result.exit_code == 0, result.output
    check_pair(made, "carol")
    assert config.parse_client(made / "carol.ovpn").remotes[0].host == "vpn.example"
    assert {path: path.read_bytes() for path in before} == before
    assert names(made) == {path.name for path in before} | {"carol.ovpn"}


def test_an_added_client_may_have_another_host(made: Path) -> None:
    assert quickstart(made, "--client", "carol", "--host", "192.0.2.1").exit_code == 0
    assert config.parse_client(made / "carol.ovpn").remotes[0].host == "192.0.2.1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "--client NAME adds a client"),
        ("--client alice", "alice.ovpn is there already"),
        ("--client carol --port 443", "--port is for a new folder"),
        ("--client ../carol", "'../carol' is no name for a client"),
        ("--client .carol", "'.carol' is no name for a client"),
    ],
)
def test_what_cannot_be_added_is_refused(made: Path, arguments: str, said: str) -> None:
    before = {path: path.read_bytes() for path in made.iterdir()}
    result = quickstart(made, *arguments.split())
    assert result.exit_code == 2
    assert said in result.output
    assert {path: path.read_bytes() for path in made.iterdir()} == before


def test_a_key_that_was_moved_away_is_asked_for(made: Path) -> None:
    (made / "ca.key").unlink()
    result = quickstart(made, "--client", "carol")
    assert result.exit_code == 2
    assert "ca.key is not there: bring it back" in result.output


def test_without_a_profile_left_the_host_is_asked_for(made: Path) -> None:
    for path in made.glob("*.ovpn"):
        path.unlink()
    result = quickstart(made, "--client", "carol")
    assert result.exit_code == 2
    assert "give --host" in result.output


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    result = quickstart(tmp_path, "--host", "vpn.example")
    assert result.exit_code == 2
    assert "not empty" in result.output
    assert names(tmp_path) == {"thesis.txt"}


def test_nothing_is_guessed_without_a_host(tmp_path: Path) -> None:
    result = quickstart(tmp_path / "vpn")
    assert result.exit_code == 2
    assert "give --host" in result.output
    assert not (tmp_path / "vpn").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--host a;b", "'a;b' is no host name"),
        ("--host a --network 10.8.0.1/24", "has host bits set"),
        ("--host a --network 10.0.0.0/8", "16 to 30 bits"),
        ("--host a --network6 fd00::/48", "64 to 124 bits"),
        ("--host a --port 0", "1<=x<=65535"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, arguments: str, said: str) -> None:
    result = quickstart(tmp_path / "vpn", *arguments.split())
    assert result.exit_code == 2
    assert said in result.output
    assert not (tmp_path / "vpn").exists()


def test_a_failure_leaves_no_file_behind(made: Path) -> None:
    before = names(made)
    (made / "dave.ovpn").symlink_to("nowhere")  # its name is taken, though nothing is there
    result = quickstart(made, "--client", "carol", "--client", "dave")
    assert result.exit_code == 1
    assert "dave.ovpn" in result.output
    assert names(made) == before | {"dave.ovpn"}
