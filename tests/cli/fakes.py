"""Endpoints that are none, for commands that think they run one."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from click.testing import CliRunner, Result

from ovpn_dco.cli.authority import Authority
from ovpn_dco.cli.main import main
from ovpn_dco.cli.tunnel import Surroundings


class FakeEndpoint:
    """Writes down what is done with it. `during` runs at each step, with the step's name."""

    def __init__(self, during: Callable[[str], None] = lambda step: None) -> None:
        self.during = during
        self.steps: list[str] = []
        self.config: Any = None
        self.options: dict[str, Any] = {}
        self.closed = asyncio.Event()
        self.starts_at_once = True
        self.device = self

    def __call__(self, config: Any, **options: Any) -> FakeEndpoint:
        self.config, self.options = config, options
        self.closed = asyncio.Event()
        self.step("made")
        return self

    def step(self, name: str) -> None:
        self.steps.append(name)
        self.during(name)

    def trace(self, path: Path, *, sample: float) -> None:
        """Of its device."""
        self.step(f"traces {sample} to {path}")

    async def __aenter__(self) -> FakeEndpoint:
        self.step("starting")
        if not self.starts_at_once:
            await asyncio.sleep(3600)
        logging.getLogger("ovpn_dco.server").info("listens on %s", "192.0.2.1")
        logging.getLogger("ovpn_dco.server").debug("a detail")
        self.step("started")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.step("closing")
        await asyncio.sleep(0)
        self.closed.set()
        self.step("closed")

    async def wait_closed(self) -> None:
        self.step("waiting")
        await self.closed.wait()


class Answers:
    """The `Ask` of a test: answers by question, and what was asked."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.asked: list[tuple[str, bool]] = []

    def __call__(self, question: str, *, hidden: bool, instead: str) -> str:
        self.asked.append((question, hidden))
        return self.answers[question.split()[-1].lower()]


def run(surroundings: Surroundings | None, *arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)), obj=surroundings)


def fail_when(name: str, error: BaseException) -> Callable[[str], None]:
    """A `during` that raises at one step."""

    def during(step: str) -> None:
        if step == name:
            raise error

    return during


def server_file(folder: Path, *lines: str) -> Path:
    """A configuration that is complete, with more lines."""
    return _file(folder / "server.conf", "server 10.8.0.0 255.255.255.0", *lines)


def client_file(folder: Path, *lines: str) -> Path:
    """The same of a client."""
    return _file(folder / "client.conf", "client", "remote 192.0.2.1", "nobind", *lines)


def _file(path: Path, *lines: str) -> Path:
    authority = Authority.create("Test CA")
    role = authority.issue_server if path.stem == "server" else authority.issue_client
    identity = role("one")
    blocks = {"ca": authority.certificate, "cert": identity.certificate, "key": identity.key}
    usage = f"remote-cert-tls {'client' if path.stem == 'server' else 'server'}"
    text = "\n".join(["dev tun", usage, *lines, ""])
    for name, content in blocks.items():
        text += f"<{name}>\n{content.decode()}</{name}>\n"
    path.write_text(text)
    return path


def raises_signal(signum: int, at: str) -> Callable[[str], None]:
    """A `during` that sends this process a signal at one step."""

    def during(step: str) -> None:
        if step == at:
            os.kill(os.getpid(), signum)

    return during
