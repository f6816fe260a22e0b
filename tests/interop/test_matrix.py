"""Each case from the first connection to the last word: traffic while keys are renewed twice, a
restart of the server, and a clean end. The gate runs a pairwise choice, `make interop` all."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from interop.cases import Case, Derivation, all_cases, pairwise
from interop.ends import End
from interop.files import SERVER_IPV4
from interop.stage import OURS, Stage
from interop.traffic import Stream
from support import needs_tool
from system.tunnel import RunningPing, ping

from ovpn_dco.protocol.role import Role

pytestmark = [
    pytest.mark.root,
    pytest.mark.interop,
    pytest.mark.slow,
    needs_tool("openvpn", "iperf3", "ping"),
]

ALL = os.environ.get("OVPN_DCO_INTEROP") == "all"
CASES = all_cases() if ALL else pairwise(all_cases())
RENEWALS = 3  # by the last one the keys of two have been in use
# Each end sends with a new key after half of its own time. That has to be over before the other end
# asks for the next key, since it forgets the one before the last then.
RENEW_S, PATIENT_S = 3, 5


def renewal(case: Case, role: Role) -> str:
    """Only one end gets to ask for new keys. A client has no use for the second number."""
    seconds = RENEW_S if case.renews is role else PATIENT_S
    return f"reneg-sec {seconds} {seconds}\n"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_matrix(case: Case, make_stage: Callable[..., Stage]) -> None:
    if OURS == "stock" and case.derivation is Derivation.PRF:
        pytest.skip("stock openvpn always offers the exporter")
    stage = make_stage(case)
    server = stage.server(lines=renewal(case, Role.SERVER))
    client = stage.client(lines=renewal(case, Role.CLIENT))
    stock = stage.stock(server, client)

    stage.start(server, client)
    assert_agreed(stock, case)
    assert_renewals_disturb_nothing(stage, stock)

    assert server.stop() == 0
    server.start()
    client.wait_for(client.words.connected, count=2)
    ping(stage.there, SERVER_IPV4)

    assert client.stop() == 0
    server.wait_for(server.words.goodbye)
    assert server.stop() == 0


def assert_agreed(stock: End, case: Case) -> None:
    """On what the case is about, by the word of stock openvpn."""
    stock.wait_for(f"Data Channel: cipher '{case.cipher.value}'")
    pushed = next(line for line in stock.log.splitlines() if "PUSH_REPLY" in line)
    assert ("tls-ekm" in pushed) == (case.derivation is Derivation.EKM), pushed


def assert_renewals_disturb_nothing(stage: Stage, stock: End) -> None:
    before = stock.count(stock.words.renewed)
    pings = RunningPing(stage.there, SERVER_IPV4, interval_s=0.05)
    stream = Stream(stage.here, stage.there, SERVER_IPV4)
    stock.wait_for(stock.words.renewed, count=before + RENEWALS)
    pings.stop_without_loss()
    for direction, seconds in stream.stop().items():
        assert len(seconds) >= (RENEWALS - 1) * RENEW_S, (direction, seconds)
        assert all(seconds), f"a second without a byte {direction}: {seconds}"
