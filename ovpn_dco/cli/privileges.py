"""From root to the `user` and `group` of a configuration."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from ovpn_dco.config import ConfigError, LifecycleConfig, Problem

__all__ = ["Identity"]


@dataclass(frozen=True)
class Identity:
    """Whom to become; None: stay."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def find(cls, lifecycle: LifecycleConfig, source: str) -> Identity:
        """By names; `ConfigError` for those that are not there. `source` is the file's name.

        Without a group it is the user's own, so that nothing of root's is kept."""
        problems = []
        uid = gid = None
        if lifecycle.user is not None:
            try:
                entry = pwd.getpwnam(lifecycle.user)
                uid, gid = entry.pw_uid, entry.pw_gid
            except KeyError:
                problems.append(Problem(source, 0, "user", "is not there"))
        if lifecycle.group is not None:
            try:
                gid = grp.getgrnam(lifecycle.group).gr_gid
            except KeyError:
                problems.append(Problem(source, 0, "group", "is not there"))
        if problems:
            raise ConfigError(problems)
        return cls(uid, gid)

    def take(self) -> None:
        """Becomes it, with all threads and for good. PermissionError without the right to."""
        if (self.uid, self.gid) in ((None, None), (os.geteuid(), os.getegid())):
            return
        if self.gid is not None:
            os.setgroups([self.gid])
            os.setgid(self.gid)
        if self.uid is not None:
            os.setuid(self.uid)
