"""Which server comes next, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ovpn_dco.client.remotes import ROUNDS_AT_FIRST, RemoteSequence
from ovpn_dco.config import ClientConfig, ConnectionConfig, RemoteConfig, TransportConfig
from ovpn_dco.protocol.messages import Advance

ONE, TWO = ("192.0.2.1", 1194), ("192.0.2.2", 1194)


def config(*hosts: str, random: bool = False, **transport: int) -> ClientConfig:
    return ClientConfig(
        remotes=tuple(RemoteConfig(host=host) for host in hosts),
        transport=TransportConfig(**transport),  # type: ignore[arg-type]
        connection=ConnectionConfig(random=random),
    )


def fail(remotes: RemoteSequence, times: int = 1) -> None:
    for _ in range(times):
        remotes.advance()


def test_remotes_come_in_their_order_and_again() -> None:
    remotes = RemoteSequence(config("a", "b", "c"))
    seen = []
    for _ in range(7):
        seen.append(remotes.remote.host)
        fail(remotes)
    assert "".join(seen) == "abcabca"


def test_remote_random_is_an_order_for_good() -> None:
    remotes = RemoteSequence(config("a", "b", "c", random=True), shuffle=list.reverse)
    seen = []
    for _ in range(6):
        seen.append(remotes.remote.host)
        fail(remotes)
    assert "".join(seen) == "cbacba"


def test_all_addresses_of_a_remote_come_first() -> None:
    remotes = RemoteSequence(config("a", "b"))
    assert remotes.address is None
    remotes.resolved([ONE, TWO, ONE])
    assert remotes.address == ONE
    fail(remotes)
    assert (remotes.remote.host, remotes.address) == ("a", TWO)
    fail(remotes)
    assert (remotes.remote.host, remotes.address) == ("b", None)


@pytest.mark.parametrize(
    ("how", "host", "address"),
    [(Advance.NO, "a", ONE), (Advance.ADDRESS, "a", TWO), (Advance.REMOTE, "b", None)],
)
def test_what_a_server_may_ask_for(
    how: Advance, host: str, address: tuple[str, int] | None
) -> None:
    remotes = RemoteSequence(config("a", "b"))
    remotes.resolved([ONE, TWO])
    remotes.advance(how)
    assert (remotes.remote.host, remotes.address) == (host, address)


def test_a_name_without_addresses_is_resolved_again() -> None:
    remotes = RemoteSequence(config("a"))
    remotes.resolved([])
    assert remotes.address is None
    fail(remotes)
    assert remotes.remote.host == "a"


def test_it_is_exhausted_after_so_many_rounds() -> None:
    remotes = RemoteSequence(config("a", "b", connect_retry_rounds=2))
    fail(remotes, 3)
    assert not remotes.is_exhausted
    fail(remotes)
    assert remotes.is_exhausted


def test_without_a_limit_it_never_is() -> None:
    remotes = RemoteSequence(config("a"))
    fail(remotes, 1000)
    assert not remotes.is_exhausted


def test_a_round_begins_where_the_last_connection_was() -> None:
    """Every remote gets its turn before the client gives up, not only those behind it."""
    remotes = RemoteSequence(config("a", "b", "c", connect_retry_rounds=1))
    fail(remotes, 2)
    remotes.connected()
    seen = []
    while not remotes.is_exhausted:
        seen.append(remotes.remote.host)
        fail(remotes)
    assert "".join(seen) == "cab"


def test_a_connection_begins_the_count_anew() -> None:
    remotes = RemoteSequence(config("a", connect_retry_rounds=2, connect_retry_s=3))
    fail(remotes)
    remotes.connected()
    fail(remotes)
    assert not remotes.is_exhausted
    fail(remotes)
    assert remotes.is_exhausted


def test_pauses_become_longer_after_some_rounds() -> None:
    remotes = RemoteSequence(config("a", "b", connect_retry_s=2, connect_retry_max_s=60))
    pauses = []
    for _ in range(ROUNDS_AT_FIRST + 7):
        pauses.append(remotes.pause_s)
        fail(remotes, 2)
    assert pauses == [2.0] * (ROUNDS_AT_FIRST + 1) + [4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    remotes.connected()
    assert remotes.pause_s == 2.0


def test_a_pause_is_never_shorter_than_the_first() -> None:
    remotes = RemoteSequence(config("a", connect_retry_s=10, connect_retry_max_s=5))
    fail(remotes, 100)
    assert remotes.pause_s == 10.0


def test_a_remote_may_have_limits_of_its_own() -> None:
    base = config("a")
    hasty = TransportConfig(connect_retry_s=7, connect_retry_rounds=1)
    remotes = RemoteSequence(replace(base, remotes=(replace(base.remotes[0], transport=hasty),)))
    assert remotes.pause_s == 7.0
    fail(remotes)
    assert remotes.is_exhausted
