"""Programs on the pages about one subject each: what they show is run, on a device of a test."""

from __future__ import annotations

import ast
import asyncio
import re
import time
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import capture
import pytest
from loopback import tunnel
from security.lab import Lab
from system.tunnel import eventually, open_tunnel

from ovpn_dco import Limit
from ovpn_dco.protocol.messages import Halt

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="needs the source tree")
LAN_HOST = "192.168.9.1"


def programs(page: str) -> list[str]:
    text = (DOCS / f"{page}.md").read_text()
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def compiled(program: str) -> CodeType:
    """It may await, as at the prompt of `python -m asyncio`."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(program, "<page>", "exec", flags=flags)
    return code


def test_every_program_of_these_pages_is_run_here() -> None:
    assert [len(programs(page)) for page in ("trace", "limits", "routing")] == [1, 1, 2]


def test_a_trace_of_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "vpn.pcapng"
    (program,) = programs("trace")
    with tunnel() as ends:
        ends.install()
        monkeypatch.setattr(time, "sleep", lambda _: [ends.up() for _ in range(1000)])
        exec(
            program.replace("/root/vpn.pcapng", str(file)),
            {"device": ends.server.device, "time": time},
        )
    written, lost = map(int, capsys.readouterr().out.split())
    assert lost == 0
    assert 0 < written < 200, "one packet in a hundred, at two points"
    assert len(capture.read(file).packets) == written


def test_a_quota_that_ends_the_session() -> None:
    disconnected: list[tuple[int, Halt]] = []
    server = SimpleNamespace(
        disconnect=lambda peer_id, *, message: disconnected.append((peer_id, message))
    )
    names: dict[str, Any] = {"server": server}
    exec(programs("limits")[0], names)
    hooks = names["hooks"]
    overrides = hooks.client_connect(None)
    assert overrides.limits.quota_bytes == 10 << 30
    assert overrides.transmit_bits_per_s == 20_000_000
    client = SimpleNamespace(peer_id=7)
    for limits in (Limit.QUOTA_PACKETS, Limit.QUOTA_BYTES | Limit.INACTIVE):
        asyncio.run(hooks.limit_reached(SimpleNamespace(client=client, limits=limits)))
    assert disconnected == [(7, Halt("quota"))]


def test_modes_and_a_policy_of_forwarding() -> None:
    asked: list[tuple[int, int]] = []

    async def in_one_group(source: Any, destination: Any) -> bool:
        asked.append((source.peer_id, destination.peer_id))
        return True

    _, program = programs("routing")
    with Lab() as lab:
        alice, bob = lab.add_peer(7).peer, lab.add_peer(8).peer
        names = {"device": lab.device, "alice": alice, "bob": bob, "in_one_group": in_one_group}
        program = program.replace("    ...\n", "    await asyncio.sleep(0.1)\n")
        asyncio.run(eval(compiled(program), names | {"asyncio": asyncio}))
        assert sorted(asked) == [(7, 8), (8, 7)]


@pytest.mark.root
@pytest.mark.system
def test_routes_that_somebody_else_keeps() -> None:
    program, _ = programs("routing")
    (command,) = re.findall(r"\.\.\.  # (ip route add .*)", program)
    with open_tunnel() as ends:
        device, client = ends.server.device, ends.client
        words = {"10.8.0.2": client.ipv4, "ovpn0": ends.server.name}

        def somebody() -> None:
            ends.server.namespace.run([words.get(word, word) for word in command.split()])
            peer = ends.pairs[0].at_server
            eventually(lambda: device.routes.lookup(LAN_HOST) == peer, what="the route is heard of")

        exec(program.replace("...", "somebody()"), {"device": device, "somebody": somebody})
        assert device.routes.lookup(LAN_HOST) is None
