"""Without root: in a user namespace with a TUN node for all, and with no TUN at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from system.tunnel import SYSTEM

pytestmark = SYSTEM

TESTS = Path(__file__).parents[1]


def run(scenario: str) -> str:
    """What the scenario prints; fails with all that it said when it fails."""
    path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    result = subprocess.run(
        [sys.executable, str(TESTS / "system" / "unprivileged.py"), scenario],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def user_namespaces_forbidden() -> bool:
    probe = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "unshare", "--user", "true"],
        capture_output=True,
    )
    return probe.returncode != 0


needs_user_namespaces = pytest.mark.skipif(
    os.geteuid() == 0 and user_namespaces_forbidden(),
    reason="user namespaces are forbidden on this machine",
)


@needs_user_namespaces
def test_tunnel_in_a_user_namespace() -> None:
    run("tunnel_in_a_user_namespace")


@needs_user_namespaces
def test_workers_in_a_user_namespace() -> None:
    run("workers_in_a_user_namespace")


def test_workers_without_any_privilege() -> None:
    run("workers_without_any_privilege")


@needs_user_namespaces
def test_node_that_is_not_accessible() -> None:
    """The message names the node, its mode and its owner, which is what has to be mended."""
    text = run("node_not_accessible")
    assert text.startswith(f"PermissionDenied {errno.EACCES} ")
    assert "/dev/net/tun" in text
    assert "crw-------" in text
    assert "owner" in text


@needs_user_namespaces
def test_node_that_is_missing() -> None:
    text = run("node_missing")
    assert f" {errno.ENOENT} " in text
    assert "/dev/net/tun" in text


def test_no_capability() -> None:
    text = run("no_capability")
    assert text.startswith(f"PermissionDenied {errno.EPERM} ")
    assert "/dev/net/tun" in text
    assert "CAP_NET_ADMIN" in text


def test_packet_socket_without_any_privilege() -> None:
    run("packet_socket_without_any_privilege")


def test_privileges_dropped_between_open_and_start() -> None:
    run("privileges_dropped_between_open_and_start")


def test_threads_are_like_their_starter() -> None:
    run("threads_are_like_their_starter")


def test_interface_seen_with_few_capabilities() -> None:
    run("interface_seen_with_few_capabilities")


def test_persistent_interface_of_a_user() -> None:
    run("persistent_interface_of_a_user")


def test_start_that_finds_no_room_for_a_thread() -> None:
    run("start_that_finds_no_room_for_a_thread")


def test_start_that_finds_no_room_for_all_workers() -> None:
    run("start_that_finds_no_room_for_all_workers")
