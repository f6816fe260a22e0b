"""`user` and `group`: whom they mean, and that nothing of root is left."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import sys

import pytest
from support import needs_root

from ovpn_dco.cli.privileges import Identity
from ovpn_dco.config import ConfigError, LifecycleConfig

USER = pwd.getpwnam("nobody")
GROUP = grp.getgrgid(pwd.getpwnam("daemon").pw_gid)

# Another thread that was there before, as those of an engine are.
PROGRAM = """
import glob, threading
from ovpn_dco.cli.privileges import Identity
from ovpn_dco.config import LifecycleConfig

end = threading.Event()
threading.Thread(target=end.wait).start()
Identity.find(LifecycleConfig({arguments}), "server.conf").take()
for path in glob.glob("/proc/self/task/*/status"):
    with open(path) as status:
        for line in status:
            if line.startswith(("Uid:", "Gid:", "Groups:", "CapEff:")):
                print(*line.split())
end.set()
"""


def taken(arguments: str) -> list[str]:
    """What the kernel says of each thread afterwards."""
    command = [sys.executable, "-c", PROGRAM.replace("{arguments}", arguments)]
    return subprocess.check_output(command, text=True).splitlines()


@needs_root
@pytest.mark.parametrize(
    ("arguments", "gid"),
    [
        (f"user={USER.pw_name!r}", USER.pw_gid),
        (f"user={USER.pw_name!r}, group={GROUP.gr_name!r}", GROUP.gr_gid),
    ],
)
def test_every_thread_becomes_somebody_else(arguments: str, gid: int) -> None:
    uid = USER.pw_uid
    thread = [
        f"Uid: {uid} {uid} {uid} {uid}",
        f"Gid: {gid} {gid} {gid} {gid}",
        f"Groups: {gid}",
        "CapEff: 0000000000000000",
    ]
    assert taken(arguments) == 2 * thread


@needs_root
def test_nothing_changes_without_either() -> None:
    assert "Uid: 0 0 0 0" in taken("")


def test_names_are_looked_up() -> None:
    nobody = Identity.find(LifecycleConfig(user=USER.pw_name), "x")
    assert nobody == Identity(USER.pw_uid, USER.pw_gid)
    both = LifecycleConfig(user=USER.pw_name, group=GROUP.gr_name)
    assert Identity.find(both, "x") == Identity(USER.pw_uid, GROUP.gr_gid)
    assert Identity.find(LifecycleConfig(), "x") == Identity()


def test_names_that_nobody_has_are_all_told() -> None:
    with pytest.raises(ConfigError) as caught:
        Identity.find(LifecycleConfig(user="no-such-user", group="no-such-group"), "x.conf")
    assert str(caught.value) == "x.conf: user: is not there\nx.conf: group: is not there"


def test_whoever_is_it_already_needs_no_right() -> None:
    Identity(os.geteuid(), os.getegid()).take()
