"""`server` and `client`: arguments, signals, exit statuses, and errors that people can read."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import pwd
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cli.fakes import (
    Answers,
    FakeEndpoint,
    client_file,
    fail_when,
    raises_signal,
    run,
    server_file,
)

from ovpn_dco import ConnectionFailed, LoginRefused, PermissionDenied
from ovpn_dco.cli.privileges import Identity
from ovpn_dco.cli.tunnel import Surroundings
from ovpn_dco.config import Credentials

ALL_STEPS = ["made", "starting", "started", "waiting", "closing", "closed"]


def ending(at: str = "waiting") -> FakeEndpoint:
    """Asked to end when it runs."""
    return FakeEndpoint(raises_signal(signal.SIGTERM, at))


# How it ends


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(tmp_path: Path, signum: int) -> None:
    endpoint = FakeEndpoint(raises_signal(signum, "waiting"))
    result = run(Surroundings(server=endpoint), "server", server_file(tmp_path))
    assert result.exit_code == 0, result.output
    assert endpoint.steps == ALL_STEPS


def test_a_signal_ends_it_while_it_starts(tmp_path: Path) -> None:
    endpoint = FakeEndpoint(raises_signal(signal.SIGTERM, "starting"))
    endpoint.starts_at_once = False
    result = run(Surroundings(client=endpoint), "client", client_file(tmp_path))
    assert result.exit_code == 0, result.output
    assert endpoint.steps == ["made", "starting"]


def test_it_goes_behind_the_threads_of_the_engine(tmp_path: Path) -> None:
    nice: dict[str, int] = {}
    end = raises_signal(signal.SIGTERM, "waiting")

    def look(step: str) -> None:
        nice[step] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        end(step)

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    run(Surroundings(server=FakeEndpoint(look)), "server", server_file(tmp_path))
    assert nice["started"] == before
    assert nice["waiting"] == max(before, 10)
    if not os.geteuid():
        assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_the_collector_has_little_to_search_while_it_runs(tmp_path: Path) -> None:
    seen: dict[str, tuple[int, bool]] = {}
    end = raises_signal(signal.SIGTERM, "waiting")

    def look(step: str) -> None:
        seen[step] = gc.get_threshold()[0], gc.get_freeze_count() > 0
        end(step)

    before = gc.get_threshold()
    run(Surroundings(server=FakeEndpoint(look)), "server", server_file(tmp_path))
    assert seen["started"] == (before[0], False)
    assert seen["waiting"] == (10_000, True)
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_handlers_of_signals_do_not_stay(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run(Surroundings(server=ending()), "server", server_file(tmp_path))
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import signal, sys
        from cli.fakes import FakeEndpoint, raises_signal
        from ovpn_dco.cli.main import main
        from ovpn_dco.cli.tunnel import Surroundings

        class Stuck(FakeEndpoint):
            async def __aexit__(self, *error):
                print("closing", flush=True)
                import asyncio, os
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(3600)

        stuck = Stuck(raises_signal(signal.SIGTERM, "waiting"))
        main(sys.argv[1:], obj=Surroundings(server=stuck))
        """
    )
    command = [sys.executable, "-c", program, "server", str(server_file(tmp_path))]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.stdout == "closing\n", done.stderr
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionFailed(errno.ETIMEDOUT, "no server answers"), 1),
        (LoginRefused("wrong password"), 3),
        (PermissionDenied(errno.EPERM, "the interface needs CAP_NET_ADMIN"), 1),
        (OSError(errno.EADDRINUSE, "Address already in use"), 1),
    ],
)
@pytest.mark.parametrize("step", ["made", "starting", "waiting"])
def test_an_error_is_one_line_and_an_exit_status(
    tmp_path: Path, error: OSError, status: int, step: str
) -> None:
    endpoint = FakeEndpoint(fail_when(step, error))
    result = run(Surroundings(client=endpoint), "client", client_file(tmp_path))
    assert result.exit_code == status
    assert error.strerror in result.stderr
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if "ERROR" in line]) == 1
    assert ("closed" in endpoint.steps) == (step == "waiting")


def test_what_takes_a_privilege_says_so(tmp_path: Path) -> None:
    error = PermissionDenied(errno.EPERM, "no interface")
    endpoint = FakeEndpoint(fail_when("starting", error))
    result = run(Surroundings(server=endpoint), "server", server_file(tmp_path))
    assert "no interface [EPERM]: run it as root" in result.stderr


def test_a_refused_login_does_not_ask_for_root(tmp_path: Path) -> None:
    endpoint = FakeEndpoint(fail_when("starting", LoginRefused("locked")))
    result = run(Surroundings(client=endpoint), "client", client_file(tmp_path))
    assert "login refused: locked" in result.stderr
    assert "root" not in result.stderr


@pytest.mark.parametrize(("verb", "traced"), [(4, False), (5, True)])
def test_tracebacks_are_for_those_who_ask(tmp_path: Path, verb: int, traced: bool) -> None:
    endpoint = FakeEndpoint(fail_when("starting", OSError(errno.EIO, "broken")))
    result = run(Surroundings(server=endpoint), "server", server_file(tmp_path), "--verb", verb)
    assert ("Traceback" in result.stderr) == traced


# What it is given


def test_arguments_reach_the_endpoint(tmp_path: Path) -> None:
    endpoint = ending()
    arguments = "--workers 3 --netns inner --backend userspace --verb 0".split()
    result = run(
        Surroundings(server=endpoint), "server", server_file(tmp_path, "verb 4"), *arguments
    )
    assert result.exit_code == 0, result.output
    assert endpoint.options == {"workers": 3, "netns": "inner", "backend": "userspace"}
    assert endpoint.config.logging.verb == 0


def test_a_trace_begins_before_privileges_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = FakeEndpoint(raises_signal(signal.SIGTERM, "waiting"))
    monkeypatch.setattr(Identity, "take", lambda self: endpoint.step("dropped"))
    options = ["--trace", tmp_path / "x.pcapng", "--trace-sample", "0.5"]
    result = run(Surroundings(server=endpoint), "server", *options, server_file(tmp_path))
    assert result.exit_code == 0, result.output
    traced = f"traces 0.5 to {tmp_path}/x.pcapng"
    assert endpoint.steps == [
        *ALL_STEPS[: ALL_STEPS.index("waiting")],
        traced,
        "dropped",
        *ALL_STEPS[ALL_STEPS.index("waiting") :],
    ]


def test_a_trace_that_cannot_be_written_ends_it_in_order(tmp_path: Path) -> None:
    def fail(step: str) -> None:
        if step.startswith("traces"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/nowhere/x")

    endpoint = FakeEndpoint(fail)
    result = run(
        Surroundings(client=endpoint), "client", "--trace", "/nowhere/x", client_file(tmp_path)
    )
    assert result.exit_code == 1
    assert "/nowhere/x: No such file or directory" in result.stderr
    assert endpoint.steps[-1] == "closed"


def test_the_verb_of_the_file_counts_without_an_option(tmp_path: Path) -> None:
    endpoint = ending()
    run(Surroundings(server=endpoint), "server", server_file(tmp_path, "verb 4"))
    assert endpoint.config.logging.verb == 4


def test_defaults_are_those_of_the_endpoint(tmp_path: Path) -> None:
    endpoint = ending()
    run(Surroundings(server=endpoint), "server", server_file(tmp_path))
    usual = {"workers": None, "netns": None, "backend": "auto"}
    assert endpoint.options == usual
    # Without a terminal nobody answers what a server asks.
    endpoint = ending()
    run(Surroundings(client=endpoint), "client", client_file(tmp_path))
    assert endpoint.options == usual | {"answer": None}


@pytest.mark.parametrize("role", ["server", "client"])
def test_the_real_endpoint_is_found_by_its_public_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    endpoint = ending()
    monkeypatch.setattr(f"ovpn_dco.{role.title()}", endpoint, raising=False)
    file = server_file(tmp_path) if role == "server" else client_file(tmp_path)
    assert run(None, role, file).exit_code == 0
    assert endpoint.steps == ALL_STEPS


# Configurations


def test_check_makes_nothing(tmp_path: Path) -> None:
    endpoint = ending()
    surroundings = Surroundings(server=endpoint, client=endpoint)
    file = server_file(tmp_path, "dh dh.pem")
    result = run(surroundings, "server", file, "--check")
    assert result.exit_code == 0
    assert result.stdout == f"{file}: accepted, warnings: 1\n"
    assert result.stderr.startswith(f"{file}:4: dh: no effect")
    assert run(surroundings, "client", client_file(tmp_path), "--check").exit_code == 0
    assert endpoint.steps == []


@pytest.mark.parametrize("more", [[], ["--check"]])
def test_every_problem_is_a_line_as_it_is(tmp_path: Path, more: list[str]) -> None:
    endpoint = ending()
    file = server_file(tmp_path, "verbb 3", "fragment 1300")
    result = run(Surroundings(server=endpoint), "server", file, *more)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0] == f"{file}:4: verbb: unknown directive, did you mean verb?"
    assert lines[1].startswith(f"{file}:5: fragment: ")
    assert len(lines) == 2
    assert endpoint.steps == []


def test_what_only_code_could_provide_is_refused(tmp_path: Path) -> None:
    file = server_file(tmp_path, "verify-client-cert none")
    result = run(Surroundings(server=ending()), "server", file)
    assert result.exit_code == 2
    assert "lets everybody in" in result.stderr.splitlines()[-1]


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    result = run(None, "server", tmp_path / "none.conf")
    assert result.exit_code == 2
    assert "none.conf" in result.stderr


def test_a_client_says_that_it_stays_privileged(tmp_path: Path) -> None:
    file = client_file(tmp_path, "user nobody")
    result = run(Surroundings(client=ending()), "client", file)
    assert "stays privileged" in result.stderr
    assert result.exit_code == 0


def test_an_unknown_user_is_found_out_before_anything_starts(tmp_path: Path) -> None:
    endpoint = ending()
    file = server_file(tmp_path, "user no-such-user", "group no-such-group")
    for more in ([], ["--check"]):
        result = run(Surroundings(server=endpoint), "server", file, *more)
        assert result.exit_code == 2
        assert result.stderr.splitlines() == [
            f"{file}: user: is not there",
            f"{file}: group: is not there",
        ]
    assert endpoint.steps == []


def test_a_server_drops_its_privileges_when_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = ending()
    monkeypatch.setattr(Identity, "take", lambda identity: endpoint.steps.append(str(identity)))
    nobody = pwd.getpwnam("nobody")
    run(Surroundings(server=endpoint), "server", server_file(tmp_path, "user nobody"))
    taken = str(Identity(nobody.pw_uid, nobody.pw_gid))
    assert endpoint.steps == [*ALL_STEPS[:3], taken, *ALL_STEPS[3:]]


def test_privileges_that_cannot_be_dropped_end_it_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_identity: Identity) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    endpoint = ending()
    monkeypatch.setattr(Identity, "take", refuse)
    result = run(Surroundings(server=endpoint), "server", server_file(tmp_path, "user nobody"))
    assert result.exit_code == 1
    assert "Operation not permitted: run it as root" in result.stderr
    assert endpoint.steps == [*ALL_STEPS[:3], "closing", "closed"]


def test_a_log_that_cannot_be_written_is_a_problem_of_the_file(tmp_path: Path) -> None:
    endpoint = ending()
    file = server_file(tmp_path, "log no/such/folder.log")
    result = run(Surroundings(server=endpoint), "server", file)
    assert result.exit_code == 2
    assert f"{file}: log: {tmp_path}/no/such/folder.log: No such file" in result.stderr
    assert endpoint.steps == []


# Logins


def test_credentials_are_asked_for_and_given_on(tmp_path: Path) -> None:
    endpoint = ending()
    answers = Answers(name="alice", password="secret")
    surroundings = Surroundings(client=endpoint, ask=answers)
    result = run(surroundings, "client", client_file(tmp_path, "auth-user-pass"))
    assert result.exit_code == 0, result.output
    assert endpoint.config.auth.credentials == Credentials("alice", "secret")
    assert "secret" not in result.output


@pytest.mark.parametrize(("retry", "times"), [("none", 1), ("nointeract", 1), ("interact", 2)])
def test_only_interact_asks_again(tmp_path: Path, retry: str, times: int) -> None:
    refusals = iter([LoginRefused("wrong"), KeyError("not asked a third time")])

    def during(step: str) -> None:
        if step == "starting" and len(answers.asked) == 2:
            raise next(refusals)
        raises_signal(signal.SIGTERM, "waiting")(step)

    answers = Answers(name="alice", password="secret")
    surroundings = Surroundings(client=FakeEndpoint(during), ask=answers)
    file = client_file(tmp_path, "auth-user-pass", f"auth-retry {retry}")
    assert run(surroundings, "client", file).exit_code == (0 if times == 2 else 3)
    assert len(answers.asked) == 2 * times


def test_without_a_terminal_there_is_a_way_out(tmp_path: Path) -> None:
    endpoint = ending()
    file = client_file(tmp_path, "auth-user-pass")
    result = run(Surroundings(client=endpoint), "client", file)
    assert result.exit_code == 2
    assert "no terminal" in result.stderr
    assert "auth-user-pass FILE" in result.stderr
    assert endpoint.steps == []


# Event loops


@pytest.fixture
def fake_uvloop(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """uvloop in name only; what it was asked for."""
    asked: list[str] = []
    module: Any = ModuleType("uvloop")
    module.__spec__ = type(sys.__spec__)("uvloop", None)

    def new_event_loop() -> asyncio.AbstractEventLoop:
        asked.append("uvloop")
        return asyncio.new_event_loop()

    module.new_event_loop = new_event_loop
    monkeypatch.setitem(sys.modules, "uvloop", module)
    return asked


@pytest.mark.parametrize(("loop", "times"), [("auto", 1), ("uvloop", 1), ("asyncio", 0)])
def test_uvloop_is_taken_where_it_is(
    tmp_path: Path, fake_uvloop: list[str], loop: str, times: int
) -> None:
    arguments = ["server", server_file(tmp_path), "--loop", loop]
    assert run(Surroundings(server=ending()), *arguments).exit_code == 0
    assert len(fake_uvloop) == times


@pytest.mark.parametrize(("loop", "status"), [("auto", 0), ("uvloop", 2), ("asyncio", 0)])
def test_uvloop_that_is_missing_is_missed_only_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str, status: int
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arguments = ["server", server_file(tmp_path), "--loop", loop]
    result = run(Surroundings(server=ending()), *arguments)
    assert result.exit_code == status
    assert ("ovpn-dco[uvloop]" in result.stderr) == (status == 2)
