"""Control packets that other implementations fell over, by the numbers of those bugs.

What each test protects is in `mutation_list`: with that taken out it fails."""

from __future__ import annotations

import gc
import itertools
import random

import pytest
from control_packets import (
    ADDRESS,
    CLIENT_KEY,
    CLIENT_SID,
    ENDS,
    FRONTS,
    KEY,
    NOW,
    SERVER_KEY,
    FirstContact,
    admitted,
    attempt,
    client_reset,
    control,
    seeded,
    server_reset,
    single_bit_flips,
    stateless,
    v2_ends,
)

from ovpn_dco.model import Address
from ovpn_dco.protocol.cookie import Answer, StatelessServer
from ovpn_dco.protocol.errors import ProtocolError, Refusal
from ovpn_dco.protocol.replay import SendCounter
from ovpn_dco.protocol.statickey import ClientKey, Metadata, ServerKey
from ovpn_dco.protocol.wire import ControlPacket, Opcode
from ovpn_dco.protocol.wrap.base import Wrapping
from ovpn_dco.protocol.wrap.tls_auth import TlsAuth
from ovpn_dco.protocol.wrap.tls_crypt_v2 import TlsCryptV2Client

pytestmark = pytest.mark.security

START = 60 * (NOW // 60)


def refusal(
    server: StatelessServer, data: bytes, address: Address = ADDRESS, now: float = NOW
) -> Refusal:
    with pytest.raises(ProtocolError) as caught:
        server.receive(data, address, now)
    return caught.value.reason


def unwrap_refusal(end: Wrapping, data: bytes) -> Refusal:
    with pytest.raises(ProtocolError) as caught:
        end.unwrap(data, NOW)
    return caught.value.reason


# Cookies (CVE-2025-13086: the comparison was upside down, and a slot of the future was good)


@pytest.mark.parametrize("kind", FRONTS)
def test_forged_cookie(kind: str) -> None:
    server = stateless(kind)
    client = FirstContact(kind, server)
    session_id = client.server_reset.session_id
    drawn = [random.Random(seed).randbytes(8) for seed in range(100)]
    for forged in (*single_bit_flips(session_id), *drawn, bytes(8), b"\xff" * 8):
        data = client.first_message(remote_session_id=forged)
        assert refusal(server, data) is Refusal.COOKIE_MISMATCH
    admitted(server.receive(client.first_message(), ADDRESS, NOW))


@pytest.mark.parametrize(
    "address",
    [
        ("198.51.100.8", ADDRESS[1]),
        ("198.51.100.7", ADDRESS[1] + 1),
        ("198.51.100.7", 0),
        ("::ffff:198.51.100.7", ADDRESS[1], 0, 0),
        ("2001:db8::7", ADDRESS[1], 0, 0),
    ],
)
@pytest.mark.parametrize("kind", FRONTS)
def test_cookie_from_another_address_or_port(kind: str, address: Address) -> None:
    """The port as well: behind one address there are many clients."""
    server = stateless(kind)
    client = FirstContact(kind, server)
    assert refusal(server, client.first_message(), address) is Refusal.COOKIE_MISMATCH


def test_cookie_of_another_client() -> None:
    server = stateless("tls-crypt")
    client = FirstContact("tls-crypt", server)
    data = client.first_message(session_id=b"somebody")
    assert refusal(server, data) is Refusal.COOKIE_MISMATCH


def test_cookie_of_another_server() -> None:
    client = FirstContact("plain", stateless("plain"))
    other = stateless("plain")
    other._cookie.rotate(0)
    other._cookie.rotate(0)
    assert refusal(other, client.first_message()) is Refusal.COOKIE_MISMATCH


@pytest.mark.parametrize("now", [START + 120, START + 180, START + 1e7])
def test_expired_cookie(now: float) -> None:
    server = stateless("plain")
    client = FirstContact("plain", server, now=START + 59)
    assert refusal(server, client.first_message(), now=now) is Refusal.COOKIE_MISMATCH


@pytest.mark.parametrize("slots", [1, 2, 3, 1000])
def test_cookie_of_the_future(slots: int) -> None:
    """As made before the clock was put back, or by who guessed that the next slot counts."""
    server = stateless("plain")
    client = FirstContact("plain", server, now=START + 60 * slots)
    data = client.first_message()
    assert refusal(server, data, now=START + 59) is Refusal.COOKIE_MISMATCH


# A client that moved must not open a session by a packet from the middle of one (openvpn 518e122b)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"message_id": 2}, Refusal.COOKIE_MESSAGE_ID),
        ({"message_id": 0xFFFFFFFF}, Refusal.COOKIE_MESSAGE_ID),
        ({"acks": (2,)}, Refusal.COOKIE_ACK_ID),
        ({"acks": (0, 2)}, Refusal.COOKIE_ACK_ID),
        ({"acks": (5, 4, 3)}, Refusal.COOKIE_ACK_ID),
        ({"key_id": 1}, Refusal.COOKIE_KEY_ID),
        ({"acks": (), "remote_session_id": None}, Refusal.COOKIE_WITHOUT_ACK),
        ({"opcode": Opcode.SOFT_RESET_V1, "key_id": 1}, Refusal.UNEXPECTED_OPCODE),
        ({"opcode": Opcode.HARD_RESET_SERVER_V2, "message_id": 0}, Refusal.UNEXPECTED_OPCODE),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "tls-auth", "tls-crypt"])
def test_valid_cookie_on_a_packet_that_is_no_first_one(
    kind: str, changes: dict[str, object], reason: Refusal
) -> None:
    server = stateless(kind)
    client = FirstContact(kind, server)
    assert refusal(server, client.first_message(**changes)) is reason


@pytest.mark.parametrize("ids", [{0}, {1}, {0, 1}])
def test_first_ids_are_allowed(ids: set[int]) -> None:
    server = stateless("plain")
    client = FirstContact("plain", server)
    for message_id in (0, 1):
        data = client.first_message(acks=tuple(ids), message_id=message_id)
        admitted(server.receive(data, ADDRESS, NOW))


# Any length for each opcode (CVE-2017-7478, c5590a68)


@pytest.mark.parametrize("kind", FRONTS)
@pytest.mark.parametrize("fill", [b"\x00", b"\x01", b"\x02", b"\x08", b"\xff"])
def test_every_length_of_every_opcode(kind: str, fill: bytes) -> None:
    """To a server without a session: refused with a reason, or a reset that gets its answer."""
    server = stateless(kind)
    sizes = [*range(80), *range(280, 420, 7), 1250, 1500, 3199, 3200, 3201, 9000, 65535]
    for opcode, size in itertools.product(range(32), sizes):
        data = (bytes((opcode << 3,)) + CLIENT_SID + fill * size)[:size]
        outcome = attempt(server.receive, data, ADDRESS, NOW)
        if not isinstance(outcome, Refusal):
            assert isinstance(outcome, Answer)
            assert (kind, opcode) == ("plain", Opcode.HARD_RESET_CLIENT_V2)


@pytest.mark.parametrize("kind", ENDS)
def test_every_length_of_every_opcode_on_a_session(kind: str) -> None:
    client, server = ENDS[kind]()
    sizes = [*range(80), *range(280, 420, 7), 1500, 3201, 65535]
    firsts = [opcode << 3 | key_id for opcode in range(32) for key_id in (0, 1)]
    for end, first, size in itertools.product((client, server), firsts, sizes):
        data = (bytes((first,)) + CLIENT_SID + b"\x02" * size)[:size]
        outcome = attempt(end.unwrap, data, NOW)
        if not isinstance(outcome, Refusal):
            assert kind == "plain"
            assert outcome.acks == (0x02020202,) * 2


# Ids near their end (CVE-2017-7479)


def test_replay_ids_wrap_without_a_repetition() -> None:
    client = TlsAuth(KEY, counter=SendCounter(last=0xFFFFFFFF - 100))
    server = TlsAuth(KEY)
    packets = [client.wrap(control(), NOW) for _ in range(200)]
    assert len(set(packets)) == 200
    for data in packets:
        server.unwrap(data, NOW)
    assert unwrap_refusal(server, packets[0]) is Refusal.REPLAY_TIME


# The wrapped client key (CVE-2025-2704, CVE-2026-13698, -35058, -12932)


def test_client_key_is_not_set_up_twice() -> None:
    """A second wrapped key on a live session, valid in itself, neither counts nor replaces."""
    client, server = v2_ends()
    other = SERVER_KEY.wrap(KEY, Metadata.user(b"somebody else"))
    data = client.wrap(client_reset(Opcode.HARD_RESET_CLIENT_V3), NOW)
    packet = data[: -len(CLIENT_KEY.wrapped)]
    assert unwrap_refusal(server, packet + other) is Refusal.CLIENT_KEY_CHANGED
    assert server.unwrap(data, NOW).opcode is Opcode.HARD_RESET_CLIENT_V3


def test_live_session_never_opens_a_client_key(monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = v2_ends()
    data = client.wrap(client_reset(Opcode.HARD_RESET_CLIENT_V3), NOW)
    monkeypatch.setattr(ServerKey, "unwrap", lambda self, wrapped: pytest.fail("opened again"))
    server.unwrap(data, NOW)


@pytest.mark.parametrize("first", range(256))
def test_client_key_after_any_first_byte(first: int) -> None:
    """Only opcodes 10 and 11 have one; the tag covers the first byte, so another is no way in."""
    server = stateless("tls-crypt-v2")
    contact = FirstContact("tls-crypt-v2", server)
    for data in (contact.reset, contact.first_message()):
        if data[0] != first:
            forged = bytes((first,)) + data[1:]
            assert refusal(server, forged) is not Refusal.COOKIE_MISMATCH
            unwrap_refusal(v2_ends()[1], forged)


def test_stated_length_of_a_client_key() -> None:
    """The length is an attacker's: beyond the packet, into the header, or nothing at all."""
    server = stateless("tls-crypt-v2")
    reset = FirstContact("tls-crypt-v2", server).reset
    _, session = v2_ends()
    for length in [*range(1100), 0x7FFF, 0x8000, 0xFFFF]:
        if length == len(CLIENT_KEY.wrapped):
            continue
        forged = reset[:-2] + length.to_bytes(2, "big")
        assert refusal(server, forged) in (Refusal.CLIENT_KEY_LENGTH, Refusal.CLIENT_KEY_TAG)
        unwrap_refusal(session, forged)


def test_packet_that_is_a_client_key_only() -> None:
    server = stateless("tls-crypt-v2")
    reset = FirstContact("tls-crypt-v2", server).reset
    for kept in range(54):
        data = reset[:kept] + CLIENT_KEY.wrapped
        refusal(server, data)
    data = b"\x50" + CLIENT_KEY.wrapped[1:]  # its header is the front of the key
    assert refusal(server, data) is Refusal.CLIENT_KEY_TAG


def test_client_key_of_another_server() -> None:
    foreign = ServerKey(bytes(128)).issue(seeded(), Metadata())
    data = TlsCryptV2Client(foreign).wrap(client_reset(Opcode.HARD_RESET_CLIENT_V3), NOW)
    assert refusal(stateless("tls-crypt-v2"), data) is Refusal.CLIENT_KEY_TAG


def test_client_key_of_somebody_else() -> None:
    """Wrapped keys are seen on the wire: without the key inside nothing can be sealed."""
    thief = ClientKey(ServerKey(bytes(128)).issue(seeded(), Metadata()).key, CLIENT_KEY.wrapped)
    data = TlsCryptV2Client(thief).wrap(client_reset(Opcode.HARD_RESET_CLIENT_V3), NOW)
    assert refusal(stateless("tls-crypt-v2"), data) is Refusal.TAG_MISMATCH


# What a stranger can make the server keep, send, or mix up


@pytest.mark.parametrize("kind", FRONTS)
def test_nothing_is_kept_before_the_cookie(kind: str) -> None:
    server = stateless(kind, burst=10**6)
    data = FirstContact(kind, server).reset
    wrong = data[:-1] + bytes((data[-1] ^ 1,))

    def load() -> int:
        for port in range(300):
            server.receive(data, ("198.51.100.7", port), NOW)
            with pytest.raises(ProtocolError):
                server.receive(wrong if kind != "plain" else data[:9], ADDRESS, NOW)
        gc.collect()
        return len(gc.get_objects())

    load()
    before = load()
    assert load() - before < 50


def test_interleaved_resets_get_their_own_answers() -> None:
    """openvpn 9bad30f6: one reply buffer for all answered the wrong client."""
    server = stateless("tls-crypt")
    clients = [FirstContact("tls-crypt", server, ("198.51.100.7", port)) for port in range(1, 9)]
    assert len({client.answer for client in clients}) == len(clients)
    for port, client in reversed(list(enumerate(clients, 1))):
        admitted(server.receive(client.first_message(), ("198.51.100.7", port), NOW))


def test_one_source_cannot_use_up_the_answers_for_all() -> None:
    """gotatun 0.4.1: one limit for everybody is a switch for everybody."""
    server = stateless("plain", burst=5)
    data = FirstContact("plain", server, ("203.0.113.1", 9)).reset
    outcomes = [attempt(server.receive, data, (f"203.0.113.{last}", 9), NOW) for last in range(50)]
    assert all(isinstance(outcome, Answer) for outcome in outcomes[:4])
    assert set(outcomes[4:]) == {Refusal.RATE_LIMITED}
    assert isinstance(server.receive(data, ("203.0.114.1", 9), NOW), Answer)


@pytest.mark.parametrize("kind", FRONTS)
def test_answer_is_no_amplification(kind: str) -> None:
    """Twelve bytes more than the smallest reset, which the acknowledgement in it needs."""
    client = FirstContact(kind, stateless(kind))
    assert len(client.answer) <= len(client.reset) + 12


@pytest.mark.parametrize("kind", [kind for kind in FRONTS if kind != "plain"])
def test_unauthentic_reset_is_never_answered(kind: str) -> None:
    server = stateless(kind, burst=10**6)
    for forged in single_bit_flips(FirstContact(kind, server).reset):
        refusal(server, forged)


def test_reset_of_a_server_is_never_answered() -> None:
    """Two servers must not talk to each other for ever."""
    server = stateless("plain")
    answer = FirstContact("plain", server).answer
    assert refusal(server, answer) is Refusal.UNEXPECTED_OPCODE


# Keys stay where they are


def test_no_key_in_any_error_or_repr() -> None:
    server = stateless("tls-crypt-v2")
    contact = FirstContact("tls-crypt-v2", server)
    outcome = admitted(server.receive(contact.first_message(), ADDRESS, NOW))
    greeting = server._front.open(contact.reset)
    shown = "".join(map(repr, (outcome, greeting, server, KEY, SERVER_KEY, CLIENT_KEY)))
    for secret in (KEY.data, SERVER_KEY.data):
        assert repr(secret[40:48])[2:-1] not in shown
        assert secret[:8].hex() not in shown


def test_packet_cannot_be_both_ways() -> None:
    """The server's reset, sent back to it under tls-crypt, is not opened: each way has its key."""
    client, server = ENDS["tls-crypt"]()
    data = server.wrap(server_reset(), NOW)
    assert unwrap_refusal(server, data) is Refusal.TAG_MISMATCH
    assert isinstance(client.unwrap(data, NOW), ControlPacket)
