"""The guides about servers, clients and embedding: what they show is run, what they list exists."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen

import pytest
from click.testing import CliRunner
from config_files import server as server_with
from support import needs_root, needs_tool
from system.nobody import nobody_prefix

import ovpn_dco
from ovpn_dco import DropReason, config
from ovpn_dco.cli.main import main
from ovpn_dco.protocol.errors import Refusal
from ovpn_dco.testing import Namespace, Topology

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / f"docs/{name}.md").read_text() for name in ("server", "client", "embedding")}
HOST = "vpn.example"  # where the guides say the server is


def blocks(text: str, language: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return found


PROGRAMS = {
    block.splitlines()[0].removeprefix("# "): block
    for page in PAGES.values()
    for block in blocks(page, "python")
}


def table(page: str, heading: str) -> Iterator[list[str]]:
    """The first column of the table with this heading, split at commas."""
    _, _, rest = PAGES[page].partition(f"\n| {heading} |")
    for line in rest.partition("\n\n")[0].splitlines()[2:]:
        yield re.findall(r"`([^`]+)`", line.split("|")[1])


class Machine:
    """Two hosts with files of `quickstart`, in which the programs of the guides run."""

    def __init__(self, folder: Path, topology: Topology) -> None:
        self.folder = folder
        self.topology = topology
        self.environment = os.environ | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONUNBUFFERED": "1",
        }

    def quickstart(self, *lines: str) -> None:
        """The files of the guides; `lines` are added to the server's."""
        host = self.topology.link.left_ipv4
        made = CliRunner().invoke(main, ["quickstart", str(self.folder / "vpn"), "--host", host])
        assert made.exit_code == 0, made.output
        with (self.folder / "vpn/server.conf").open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def login(self, username: str, password: str) -> None:
        """Gives the client a user name and a password."""
        with (self.folder / "vpn/client.ovpn").open("a") as file:
            file.write(f"<auth-user-pass>\n{username}\n{password}\n</auth-user-pass>\n")

    def start(self, namespace: Namespace, *command: object) -> Popen[str]:
        return namespace.popen(
            list(map(str, command)),
            stdout=PIPE,
            stderr=STDOUT,
            text=True,
            cwd=self.folder,
            env=self.environment,
        )

    def program(self, namespace: Namespace, name: str, *arguments: str) -> Popen[str]:
        (self.folder / name).write_text(PROGRAMS[name])
        return self.start(namespace, "python", name, *arguments)

    def server(self, *command: str) -> Popen[str]:
        """The command line's, or a program in its place; it listens when this returns."""
        process = self.start(self.topology.left, *(command or SERVER))
        wait_for("listening", process)
        return process

    def client(self) -> Popen[str]:
        return self.start(self.topology.right, *CLIENT)


SERVER = ("python", "-m", "ovpn_dco", "server", "vpn/server.conf")
CLIENT = ("python", "-m", "ovpn_dco", "client", "vpn/client.ovpn")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Topology() as topology:
        yield Machine(tmp_path, topology)


def read_until(process: Popen[str], text: str) -> str:
    """What a program prints up to a line with `text`, or all of it when it ends before."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if text in line:
            break
    return said


def wait_for(text: str, process: Popen[str]) -> str:
    said = read_until(process, text)
    assert text in said, said
    return said


def end(*processes: Popen[str]) -> None:
    for process in processes:
        process.send_signal(signal.SIGINT)
        process.wait()


def udp_listener(namespace: Namespace) -> None:
    """Waits until somebody has the server's port, for a program that does not say so."""
    while ":1194 " not in namespace.run(["ss", "-Hlun"]).stdout:
        pass


# Programs


def test_every_program_of_the_guides_is_run_here() -> None:
    run = set(re.findall(r'"(\w+\.py)"', Path(__file__).read_text()))
    assert run == set(PROGRAMS)


def test_programs_have_names_of_their_own() -> None:
    shown = sum(len(blocks(page, "python")) for page in PAGES.values())
    assert shown == len(PROGRAMS)


def test_a_pair_of_sessions_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = CliRunner().invoke(main, ["quickstart", str(tmp_path / "vpn"), "--host", HOST])
    assert made.exit_code == 0, made.output
    monkeypatch.chdir(tmp_path)
    exec(compile(PROGRAMS["pair.py"], "pair.py", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "the same keys: True"
    assert printed[-2] == "client: KeyReady"


@needs_root
@needs_tool("ss")
@pytest.mark.system
def test_a_server_that_checks_passwords(machine: Machine) -> None:
    machine.quickstart()
    server = machine.program(machine.topology.left, "login.py")
    wait_for("listening", server)
    original = (machine.folder / "vpn/client.ovpn").read_text()
    machine.login("alice", "correct horse")
    client = machine.client()
    wait_for("connected as 10.8.0.2", client)
    end(client)
    for username, said in (("mallory", "login refused: the account is locked"), ("bob", "refused")):
        (machine.folder / "vpn/client.ovpn").write_text(original)
        machine.login(username, "correct horse")
        client = machine.client()
        wait_for(said, client)
        assert client.wait() == 3
    end(server)


@needs_root
@pytest.mark.system
def test_counters_of_refused_packets(machine: Machine) -> None:
    machine.quickstart()
    server = machine.program(machine.topology.left, "watch.py", "0.1")
    wait_for("0 connected, 0 negotiating", server)
    with machine.topology.right.socket() as sock:
        sock.sendto(b"\x38" + b"x" * 20, (machine.topology.link.left_ipv4, 1194))
        sock.sendto(b"\x48" + bytes(40), (machine.topology.link.left_ipv4, 1194))
    wait_for("control channel: no_wrapping 1", server)
    wait_for("data channel: rx_unknown_peer 1", server)
    end(server)


@needs_root
@needs_tool("ping")
@pytest.mark.system
def test_a_server_with_hooks(machine: Machine) -> None:
    machine.quickstart()
    server = machine.program(machine.topology.left, "serve.py")
    wait_for("listening", server)
    client = machine.client()
    wait_for("connected as 10.8.0.50", client)
    wait_for("10.8.0.50/24", server)
    machine.topology.right.add_address("lo", "192.168.40.1/24")
    machine.topology.left.add_route("192.168.40.0/24", device="tun0")
    machine.topology.left.run(["ping", "-c1", "-W5", "192.168.40.1"])
    end(client)
    wait_for("client the peer has left", server)
    end(server)


@needs_root
@pytest.mark.system
def test_a_question_and_its_answer(machine: Machine) -> None:
    machine.quickstart()
    server = machine.program(machine.topology.left, "code.py")
    udp_listener(machine.topology.left)
    client = machine.program(machine.topology.right, "answer.py")
    wait_for("Code?", client)
    wait_for("connected as 10.8.0.2", client)
    assert client.wait() == 0
    end(server)


@needs_root
@pytest.mark.system
def test_name_servers_reach_the_resolver(machine: Machine) -> None:
    machine.quickstart(
        'push "dhcp-option DNS 10.8.0.1"', 'push "dhcp-option DOMAIN office.example"'
    )
    (machine.folder / "resolvectl").write_text('#!/bin/sh\necho resolvectl "$@"\n')
    (machine.folder / "resolvectl").chmod(0o755)
    machine.environment["PATH"] = f"{machine.folder}{os.pathsep}{machine.environment['PATH']}"
    server = machine.server()
    client = machine.program(machine.topology.right, "resolve.py", "vpn/client.ovpn")
    wait_for("resolvectl dns tun0 10.8.0.1", client)
    wait_for("resolvectl domain tun0 office.example ~.", client)
    client.send_signal(signal.SIGINT)
    wait_for("resolvectl revert tun0", client)
    end(server)


# Commands


def commands(page: str, index: int, host: str) -> list[list[str]]:
    lines = blocks(PAGES[page], "sh")[index].replace(HOST, host).splitlines()
    return [shlex.split(line, comments=True) for line in lines]


@needs_root
@needs_tool("ping")
@pytest.mark.system
def test_a_tunnel_in_one_minute(machine: Machine) -> None:
    left, right = machine.topology.left, machine.topology.right
    quickstart, serve, connect, ping = commands("server", 0, machine.topology.link.left_ipv4)
    assert machine.start(left, *quickstart).wait() == 0
    server = machine.start(left, *serve)
    wait_for("listening", server)
    client = machine.start(right, *connect)
    wait_for("connected as", client)
    right.run(ping)
    (more,) = commands("server", 1, HOST)
    assert machine.start(left, *more).wait() == 0
    assert (machine.folder / "vpn/bob.ovpn").is_file()
    end(client, server)
    assert client.returncode == server.returncode == 0


def with_named_namespaces(machine: Machine) -> tuple[str, ...]:
    """A prefix for commands of the right host that can name namespaces without a trace here."""
    script = "mount --make-rprivate / && mount -t tmpfs none /run && echo ready && exec sleep 600"
    holder = machine.start(machine.topology.right, "unshare", "--mount", "sh", "-c", script)
    wait_for("ready", holder)
    return ("nsenter", f"--target={holder.pid}", "--mount", f"--wd={machine.folder}")


@needs_root
@needs_tool("ip", "ping", "unshare", "nsenter")
@pytest.mark.system
def test_a_client_in_a_namespace(machine: Machine) -> None:
    machine.quickstart()
    (machine.folder / "office.ovpn").symlink_to("vpn/client.ovpn")
    right, prefix = machine.topology.right, with_named_namespaces(machine)
    server = machine.server()
    add, up, connect, ping = commands("client", 1, HOST)
    for command in (add, up):
        right.run([*prefix, *command])
    client = machine.start(right, *prefix, *connect)
    wait_for("connected as", client)
    right.run([*prefix, *ping])
    assert right.run(ping[4:], check=False).returncode != 0
    client.terminate()
    assert client.wait() == 0
    (machine.folder / "office.py").write_text(PROGRAMS["office.py"])
    client = machine.start(right, *prefix, "python", "office.py")
    wait_for("connected as 10.8.0.2/24 to 10.98.0.1", client)
    assert "0 packets sent" not in wait_for("packets sent", client)
    assert client.wait() == 0
    end(server)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@needs_root
@needs_tool("setpriv", "unshare")
@pytest.mark.system
def test_a_service_needs_no_more_than_its_unit_gives(machine: Machine, open_folder: Path) -> None:
    (unit,) = blocks(PAGES["server"], "ini")
    (words,) = re.findall(r"^AmbientCapabilities=(.*)$", unit, re.MULTILINE)
    capabilities = [word.removeprefix("CAP_").lower() for word in words.split()]
    machine.quickstart()
    file, mounts = open_folder / "server.conf", open_folder / "mounts"
    file.write_bytes((machine.folder / "vpn/server.conf").read_bytes())
    mounts.mkdir()
    path = f"PYTHONPATH={Path(ovpn_dco.__file__).parents[1]}"
    prefix = nobody_prefix(mounts, *capabilities)
    server = machine.server(*prefix, "env", path, sys.executable, *SERVER[1:-1], str(file))
    client = machine.client()
    wait_for("connected as", client)
    end(client)
    server.terminate()
    assert server.wait() == 0


# Files and tables


def test_the_lines_about_listening() -> None:
    made = server_with(*blocks(PAGES["server"], "text")[0].splitlines())
    assert made.listeners() == (
        ("0.0.0.0", 1194, config.Protocol.UDP4),
        ("::", 1194, config.Protocol.UDP6),
        ("0.0.0.0", 443, config.Protocol.TCP4),
    )


def test_the_file_of_one_client() -> None:
    made = config.parse_client_overrides(blocks(PAGES["server"], "text")[1])
    assert str(made.ipv4) == "10.8.0.50/24"
    assert [str(network) for network in made.iroutes] == ["192.168.40.0/24"]
    common = ("route 192.168.40.0 255.255.255.0", "topology subnet")
    assert made.pushed_options(common) == ("topology subnet", "dhcp-option DNS 192.168.40.1")


def test_what_is_refused_of_other_servers() -> None:
    lines = [line for row in table("server", "refused") for line in row]
    assert len(lines) > 10
    for line in lines:
        with pytest.raises(config.ConfigError) as caught:
            server_with(line)
        assert {problem.directive for problem in caught.value.problems} == {line.split()[0]}


def test_what_is_said_to_have_no_effect_is_accepted() -> None:
    made = server_with("status file")
    assert {warning.directive for warning in made.warnings} == {"status"}


def test_counters_that_are_explained_exist() -> None:
    refusals = {name for row in table("server", "`refusals`") for name in row}
    assert refusals
    assert refusals <= {reason.label for reason in Refusal}
    drops = {name for row in table("server", "`drops`") for name in row}
    assert drops
    assert drops <= {reason.name.lower() for reason in DropReason}


def test_hooks_that_are_explained_are_all() -> None:
    named = {name for row in table("embedding", "hook") for name in row}
    hooks = {f"ServerHooks.{name}" for name in vars(config.ServerHooks())}
    hooks |= {f"ClientHooks.{name}" for name in vars(config.ClientHooks())}
    assert {"VerifyConfig.hook", "AuthConfig.user_pass_hook", "Client(answer=...)"} <= named
    assert hooks - {"ClientHooks.route_up"} <= named


# Sizes


def fragments(namespace: Namespace) -> int:
    """That IPv4 and IPv6 have sent in parts, in this namespace."""
    files = ["cat", "/proc/net/snmp6", "/proc/net/snmp"]
    text = namespace.run(files).stdout
    ipv6 = int(re.findall(r"Ip6FragCreates\s+(\d+)", text)[0])
    names, values = re.findall(r"^Ip: (.*)$", text, re.MULTILINE)
    return ipv6 + int(values.split()[names.split().index("FragCreates")])


@needs_root
@needs_tool("ping")
@pytest.mark.system
@pytest.mark.parametrize("family", [4, 6])
def test_the_largest_mtu_without_fragments(machine: Machine, family: int) -> None:
    link, right = machine.topology.link, machine.topology.right
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \|$", PAGES["server"], re.MULTILINE)
    for wire, *sizes in rows:
        for size, outer in zip(sizes, (20, 40), strict=True):
            assert int(size) == int(wire) - outer - 8 - 28
    largest = next(int(row[family // 2 - 1]) for row in rows if row[0] == "1500")
    machine.quickstart(f"tun-mtu {largest}")
    if family == 6:
        profile = machine.folder / "vpn/client.ovpn"
        profile.write_text(profile.read_text().replace(link.left_ipv4, link.left_ipv6))
    server, client = machine.server(), machine.client()
    wait_for("connected as", client)
    ping = ["ping", "-c1", "-W5", "-M", "do", "-s"]
    right.run([*ping, str(largest - 28), "10.8.0.1"])
    assert fragments(right) == 0
    right.set_mtu("tun0", largest + 1)
    machine.topology.left.set_mtu("tun0", largest + 1)
    right.run([*ping, str(largest + 1 - 28), "10.8.0.1"])
    assert fragments(right) > 0
    end(client, server)


@needs_root
@needs_tool("ip")
@pytest.mark.system
def test_jumbo_frames_take_two_lines(tmp_path: Path) -> None:
    with Topology(mtu=9000) as topology:
        machine = Machine(tmp_path, topology)
        machine.quickstart("tun-mtu 8920")
        server = machine.server()
        for line, mtu in (("", 1600), ("tun-mtu-max 8920\n", 8920)):
            with (tmp_path / "vpn/client.ovpn").open("a") as file:
                file.write(line)
            client = machine.client()
            wait_for("connected as", client)
            assert f"mtu {mtu} " in topology.right.run(["ip", "link", "show", "tun0"]).stdout
            end(client)
        end(server)


# Other pages


def test_the_tests_of_the_threat_model_exist() -> None:
    text = (ROOT / "docs/security.md").read_text()
    named = set(re.findall(r"`((?:\w+/)?test_\w+\.py)`", text))
    assert named
    places = [ROOT / "tests", ROOT / "tests/security"]
    assert [name for name in named if not any((place / name).is_file() for place in places)] == []


def test_files_on_the_way_of_a_packet_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    section = text.partition("## The control channel\n")[2].partition("\nWho owns what:")[0]
    steps = re.findall(r"^\| \d+ \| (.*?) \|", section, re.MULTILINE)
    assert len(steps) > 10
    for step in steps:
        package = folder = ROOT / "ovpn_dco"
        for name in re.findall(r"`([^`]+)`", step):
            (path,) = {place / name for place in (ROOT, package, folder) if (place / name).exists()}
            folder = path.parent


def anchors(page: str) -> set[str]:
    """Of the headings, as they are made of their words."""
    text = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def test_links_between_pages_lead_somewhere() -> None:
    pages = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
    found = 0
    for name, text in pages.items():
        for target, anchor in re.findall(r"\]\((\w[\w-]*\.md)?#?([\w-]*)\)", text):
            assert (target or name) in pages, f"{name}: {target}"
            assert not anchor or anchor in anchors(pages[target or name]), f"{name}: #{anchor}"
            found += 1
    assert found
