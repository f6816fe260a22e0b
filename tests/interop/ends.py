"""An end of a tunnel: a process in a namespace, known by what it writes into its log."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from interop.files import Folder
from system.tunnel import eventually

from ovpn_dco.testing import Namespace

EXIT_S = 10.0
_RUNNER = Path(__file__).with_name("runner.py")


@dataclass(frozen=True)
class Words:
    """Regular expressions for what an implementation says."""

    listening: str
    connected: str
    """A client is; once more after each reconnection."""
    renewed: str
    """A TLS handshake is done: the first, and one for each renegotiation."""
    goodbye: str
    """A server has heard that a client leaves."""
    login_refused: str
    """A client was told that its login is wrong."""
    login_exit: int
    """Exit code of a client that gives up because of it."""
    bad_login: str
    """A server refused one."""
    unopened: str
    """A server got a control packet that was not wrapped with its key."""
    expired: str
    """The certificate of the other end is."""
    revoked: str


STOCK_WORDS = Words(
    listening="Initialization Sequence Completed",
    connected="Initialization Sequence Completed",
    renewed="Control Channel: TLSv1",
    goodbye="exit message received|remote-exit|Connection reset, restarting",
    login_refused="AUTH: Received control message: AUTH_FAILED",
    login_exit=0,
    bad_login="TLS Auth Error: Auth Username/Password verification failed",
    unopened="packet authentication failed",
    expired="certificate has expired",
    revoked="certificate revoked",
)
OUR_WORDS = Words(
    listening="listening on",
    connected="connected as",
    renewed="KeyReady",
    goodbye="ended, the peer has left|ended, the connection was lost",
    login_refused="the login was refused",
    login_exit=3,
    bad_login="refused: user_pass_hook refused",
    unopened="refused packets: .*tag_mismatch",
    expired="certificate has expired",
    revoked="certificate is revoked",
)


@dataclass(frozen=True)
class Implementation(ABC):
    """How to run one, and its words."""

    words: Words

    @abstractmethod
    def command(self, folder: Folder, login: str | None) -> list[str]:
        """In the folder. `login` names the file of the only user that a server lets in."""


class Stock(Implementation):
    """openvpn of the distribution, in user space."""

    def command(self, folder: Folder, login: str | None) -> list[str]:
        command = ["openvpn", "--config", folder.config.name]
        command += ["--disable-dco", "--verb", "3", "--suppress-timestamps"]
        if login:
            check = f"{shutil.which('cmp')} {folder.path / login}"
            command += ["--script-security", "2", "--auth-user-pass-verify", check, "via-file"]
        return command


@dataclass(frozen=True)
class Ours(Implementation):
    """This package, by its command. `without` is a bit of IV_PROTO, what it does not know."""

    without: str = ""

    def command(self, folder: Folder, login: str | None) -> list[str]:
        command = [sys.executable, str(_RUNNER)]
        command += ["--without", self.without] if self.without else []
        command += ["--login", login] if login else []
        return [*command, folder.role.value, "--verb", "4", folder.config.name]


STOCK = Stock(STOCK_WORDS)


class End:
    """A process that runs, or ran. Its log outlives restarts."""

    def __init__(
        self,
        implementation: Implementation,
        namespace: Namespace,
        folder: Folder,
        login: str | None = None,
    ) -> None:
        self.words = implementation.words
        self.namespace = namespace
        self.folder = folder
        self.log_file = folder.path / "log"
        self._command = implementation.command(folder, login)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = self.namespace.popen(
                self._command, cwd=self.folder.path, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def tail(self) -> str:
        """What a failure shows of it."""
        return "\n".join(self.log.splitlines()[-80:])

    def count(self, pattern: str) -> int:
        return len(re.findall(pattern, self.log))

    def wait_for(self, pattern: str, *, count: int = 1) -> None:
        """Until the log has `pattern` so many times; shows the log if that never comes about."""

        def done() -> bool:
            if self.count(pattern) >= count:
                return True
            assert self.is_running, f"{self} ended before {pattern!r}:\n{self.tail}"
            return False

        try:
            eventually(done, what=pattern)
        except AssertionError as error:
            raise AssertionError(f"{self} never said {pattern!r} x{count}:\n{self.tail}") from error

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_exit(self) -> int:
        """Its exit code, once it ends on its own."""
        assert self._process is not None
        return self._process.wait(EXIT_S)

    def stop(self) -> int:
        """Asks it to leave; its exit code."""
        assert self._process is not None
        assert self.is_running, f"{self} was gone already:\n{self.tail}"
        self._process.send_signal(signal.SIGTERM)
        return self.wait_exit()

    def __repr__(self) -> str:
        return f"{self.folder.role.value} ({self._command[0]})"
