"""Protection of the control channel as a configuration says."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from control_packets import (
    ADDRESS,
    KEY,
    NOW,
    SERVER_KEY,
    attempt,
    client_reset,
    control,
    seeded,
    server_reset,
)
from profile_lab import WRAPS, client, server

from ovpn_dco.config import ConfigError
from ovpn_dco.protocol.cookie import Admitted, Answer, StatelessServer
from ovpn_dco.protocol.errors import Refusal, ReplayedPacket
from ovpn_dco.protocol.replay import Stamp
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.statickey import Direction, Metadata
from ovpn_dco.protocol.wire import Opcode
from ovpn_dco.protocol.wrap.base import Wrapping
from ovpn_dco.protocol.wrap.front import ServerFront
from ovpn_dco.protocol.wrap.tls_auth import TlsAuth
from ovpn_dco.protocol.wrap.tls_crypt import TlsCrypt
from ovpn_dco.protocol.wrap.tls_crypt_v2 import TlsCryptV2Client
from ovpn_dco.runtime.wrap_profile import (
    client_wrapping,
    replay_window,
    server_front,
    stateless_server,
)

DAY = 86400


def reset_of(wrapping: Wrapping, now: float = NOW) -> bytes:
    is_v2 = isinstance(wrapping, TlsCryptV2Client)
    opcode = Opcode.HARD_RESET_CLIENT_V3 if is_v2 else Opcode.HARD_RESET_CLIENT_V2
    return wrapping.wrap(client_reset(opcode), now)


@pytest.mark.parametrize("kind", WRAPS)
def test_front_opens_what_the_client_seals(kind: str) -> None:
    ours, theirs = WRAPS[kind]
    wrapping = client_wrapping(client(ours))
    greeting = server_front(server(theirs)).open(reset_of(wrapping))
    answer = greeting.answer(server_reset(), NOW)
    assert wrapping.unwrap(answer, NOW) == server_reset()


@pytest.mark.parametrize("kind", [kind for kind in WRAPS if "beside" not in kind])
@pytest.mark.parametrize("other", [kind for kind in WRAPS if "beside" not in kind])
def test_front_opens_nothing_else(kind: str, other: str) -> None:
    front = server_front(server(WRAPS[kind][1]))
    opened = attempt(front.open, reset_of(client_wrapping(client(WRAPS[other][0]))))
    assert isinstance(opened, Refusal) == (kind != other)


@pytest.mark.parametrize(
    ("lines", "kind"),
    [("tls-auth ta.key 1", TlsAuth), ("tls-crypt ta.key", TlsCrypt)],
)
def test_each_attempt_has_a_wrapping_of_its_own(lines: str, kind: type) -> None:
    config = client(lines)
    first, second = client_wrapping(config), client_wrapping(config)
    assert isinstance(first, kind)
    front = server_front(server(lines.replace(" 1", " 0")))
    stamps = [front.open(reset_of(one)).stamp for one in (first, second)]
    assert stamps[0] == stamps[1]  # each begins with replay id 1


@pytest.mark.parametrize(
    ("argument", "direction"),
    [("", Direction.BIDIRECTIONAL), (" 0", Direction.NORMAL), (" 1", Direction.INVERSE)],
)
def test_direction_of_tls_auth(argument: str, direction: Direction) -> None:
    wrapping = client_wrapping(client(f"tls-auth ta.key{argument}", "auth SHA512"))
    expected = TlsAuth(KEY, direction=direction, digest="SHA512")
    assert reset_of(wrapping) == reset_of(expected)


@pytest.mark.parametrize("parse", [client, server])
@pytest.mark.parametrize(
    ("line", "name", "reason"),
    [
        ("tls-auth bad 1", "tls-auth", "there is no line '-----BEGIN OpenVPN Static key V1-----'"),
        ("tls-crypt bad", "tls-crypt", "there is no line"),
        ("tls-crypt-v2 bad", "tls-crypt-v2", "there is no line"),
        ("tls-crypt-v2 ta.key", "tls-crypt-v2", "there is no line"),
    ],
)
def test_key_that_cannot_be_read_names_its_directive(
    parse: Callable[..., Any], line: str, name: str, reason: str
) -> None:
    config = parse(line, bad=b"SECRET")
    make = client_wrapping if parse is client else server_front
    with pytest.raises(ConfigError) as caught:
        make(config)
    assert caught.value.directive == name
    assert reason in caught.value.reason
    assert "SECRET" not in str(caught.value)


def accepts_after(config_line: str, behind: int, seconds: float) -> bool:
    """Whether a window takes an id so far behind the highest, so many seconds later."""
    window = replay_window(client(config_line).data)
    window.accept(Stamp(1000, NOW), NOW)
    try:
        window.accept(Stamp(1000 - behind, NOW), NOW + seconds)
    except ReplayedPacket:
        return False
    return True


def test_replay_window() -> None:
    assert accepts_after("", 63, 15)
    assert not accepts_after("", 64, 0)
    assert accepts_after("replay-window 200 100", 199, 100)
    assert not accepts_after("replay-window 200 100", 200, 0)
    assert not accepts_after("replay-window 200 10", 1, 11)


def test_client_has_the_replay_window_of_its_configuration() -> None:
    config = client("tls-crypt ta.key", "replay-window 2")
    greeting = server_front(server("tls-crypt ta.key")).open(reset_of(client_wrapping(config)))
    session = greeting.begin_session(NOW)
    packets = [session.wrap(control(), NOW) for _ in range(3)]
    wrapping = client_wrapping(config)
    wrapping.unwrap(packets[2], NOW)
    wrapping.unwrap(packets[1], NOW)
    assert attempt(wrapping.unwrap, packets[0], NOW) is Refusal.REPLAY_BEHIND


# The server's front


def begin(front: ServerFront, now: float) -> Any:
    reset = reset_of(client_wrapping(client("tls-crypt-v2 v2.key")))
    return attempt(front.open(reset).begin_session, now)


def test_age_of_client_keys() -> None:
    # The key of the client was issued at NOW.
    line = "tls-crypt-v2 v2.key"
    front = server_front(server(line, "tls-crypt-v2-max-age 2"))
    assert begin(front, NOW + 3 * DAY) is Refusal.CLIENT_KEY_TOO_OLD
    assert not isinstance(begin(front, NOW + 1 * DAY), Refusal)
    assert not isinstance(begin(server_front(server(line)), NOW + 3000 * DAY), Refusal)


def test_metadata_is_judged_by_the_hook() -> None:
    asked: list[Metadata] = []

    def refuse(metadata: Metadata) -> bool:
        asked.append(metadata)
        return False

    front = server_front(server("tls-crypt-v2 v2.key"), verify_metadata=refuse)
    assert begin(front, NOW) is Refusal.CLIENT_KEY_REFUSED
    assert asked == [Metadata.timestamp(NOW)]


def stateless(*lines: str) -> StatelessServer:
    config = server("tls-crypt-v2 v2.key", *lines)
    return stateless_server(config, server_front(config), seeded())


def test_newcomers_are_limited() -> None:
    front = stateless("connect-freq-initial 3 6")
    reset = reset_of(client_wrapping(client("tls-crypt-v2 v2.key")))

    def answered(now: float) -> int:
        outcomes = [attempt(front.receive, reset, ADDRESS, now) for _ in range(5)]
        return sum(isinstance(outcome, Answer) for outcome in outcomes)

    assert [answered(NOW), answered(NOW), answered(NOW + 4)] == [3, 0, 2]


def test_cookies_hold_for_the_hand_window() -> None:
    front = stateless("hand-window 8")

    def echoed_after(seconds: float) -> Any:
        wrapping = client_wrapping(client("tls-crypt-v2 v2.key"))
        answer = front.receive(reset_of(wrapping), ADDRESS, NOW)
        assert isinstance(answer, Answer)
        reset = wrapping.unwrap(answer.data, NOW)
        assert isinstance(wrapping, TlsCryptV2Client)
        wrapping.learn_from_reset(reset)
        echo = wrapping.wrap(control(remote_session_id=reset.session_id), NOW)
        return attempt(front.receive, echo, ADDRESS, NOW + seconds)

    assert isinstance(echoed_after(8), Admitted)
    assert echoed_after(16) is Refusal.COOKIE_MISMATCH


@pytest.mark.parametrize("option", ["", " force-cookie", " allow-noncookie"])
def test_client_that_cannot_answer_a_cookie_is_refused(option: str) -> None:
    wrapped = SERVER_KEY.wrap(KEY, Metadata.timestamp(NOW))
    # Its replay ids begin with 1, as before OpenVPN 2.6.
    old = TlsCrypt(KEY, Role.CLIENT)
    reset = old.wrap(client_reset(Opcode.HARD_RESET_CLIENT_V3), NOW) + wrapped
    config = server(f"tls-crypt-v2 v2.key{option}")
    front = stateless_server(config, server_front(config), random.Random(1).randbytes)
    assert attempt(front.receive, reset, ADDRESS, NOW) is Refusal.COOKIE_UNSUPPORTED
