"""What holds for every protection: what one end wraps the other unwraps, once, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from control_packets import (
    ENDS,
    KEY,
    NOW,
    PROTECTED,
    attempt,
    client_reset,
    control,
    control_packets,
    server_reset,
    single_bit_flips,
)
from hypothesis import given
from hypothesis import strategies as st

from ovpn_dco.errors import InvalidArgument, UnsupportedError
from ovpn_dco.protocol.errors import (
    AuthenticationFailed,
    MalformedPacket,
    ProtocolError,
    Refusal,
    ReplayedPacket,
)
from ovpn_dco.protocol.replay import ReplayWindow, Stamp
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.siv import SivKey
from ovpn_dco.protocol.statickey import Direction, StaticKey
from ovpn_dco.protocol.wire import ControlPacket, Opcode, encode_body
from ovpn_dco.protocol.wrap.base import Wrapping
from ovpn_dco.protocol.wrap.plain import Plain
from ovpn_dco.protocol.wrap.tls_auth import DIGESTS, TlsAuth, find_digest
from ovpn_dco.protocol.wrap.tls_crypt import TlsCrypt


@pytest.mark.parametrize("kind", ENDS)
@given(packet=control_packets())
def test_unwrapping_inverts_wrapping(kind: str, packet: ControlPacket) -> None:
    if packet.opcode.has_client_key and kind != "tls-crypt-v2":
        packet = replace(packet, opcode=Opcode.CONTROL_V1)
    client, server = ENDS[kind]()
    assert server.unwrap(client.wrap(packet, NOW), NOW) == packet


@pytest.mark.parametrize("kind", ENDS)
@given(packet=control_packets(client_keys=False))
def test_server_to_client(kind: str, packet: ControlPacket) -> None:
    client, server = ENDS[kind]()
    assert client.unwrap(server.wrap(packet, NOW), NOW) == packet


@pytest.mark.parametrize("kind", ENDS)
@given(packet=control_packets(client_keys=False))
def test_overhead_is_what_is_added(kind: str, packet: ControlPacket) -> None:
    client, _ = ENDS[kind]()
    message_id = 5 if packet.message_id is None else packet.message_id
    if kind == "tls-crypt-v2" and message_id == 0:
        message_id = 5
    expected = client.overhead_of(key_id=packet.key_id, message_id=message_id)
    assert len(client.wrap(packet, NOW)) == 9 + len(encode_body(packet)) + expected
    assert expected <= client.overhead


@pytest.mark.parametrize("kind", PROTECTED)
def test_every_bit_counts(kind: str) -> None:
    client, server = PROTECTED[kind]()
    wrapped = client.wrap(control(), NOW)
    for forged in single_bit_flips(wrapped):
        with pytest.raises(ProtocolError):
            server.unwrap(forged, NOW)
    server.unwrap(wrapped, NOW)


@pytest.mark.parametrize("kind", PROTECTED)
def test_every_length_counts(kind: str) -> None:
    client, server = PROTECTED[kind]()
    wrapped = client.wrap(control(), NOW)
    for size in range(len(wrapped)):
        with pytest.raises(ProtocolError):
            server.unwrap(wrapped[:size], NOW)
    with pytest.raises(AuthenticationFailed):
        server.unwrap(wrapped + b"\0", NOW)
    server.unwrap(wrapped, NOW)


@pytest.mark.parametrize("kind", ENDS)
@given(first=st.integers(0, 255), rest=st.binary(max_size=120))
def test_any_bytes_are_a_packet_or_refused(kind: str, first: int, rest: bytes) -> None:
    data = bytes((first,)) + rest
    for end in ENDS[kind]():
        outcome = attempt(end.unwrap, data, NOW)
        if not isinstance(outcome, Refusal):
            assert kind == "plain"
            assert end.wrap(outcome, NOW) == data


@pytest.mark.parametrize("kind", PROTECTED)
def test_same_bytes_twice_are_a_replay(kind: str) -> None:
    client, server = PROTECTED[kind]()
    wrapped = client.wrap(control(), NOW)
    server.unwrap(wrapped, NOW)
    with pytest.raises(ReplayedPacket) as caught:
        server.unwrap(wrapped, NOW)
    assert caught.value.reason is Refusal.REPLAY_SEEN
    # The same message in a transmission of its own is none.
    assert server.unwrap(client.wrap(control(), NOW), NOW) == control()


@pytest.mark.parametrize("kind", PROTECTED)
def test_forged_packet_moves_no_window(kind: str) -> None:
    client, server = PROTECTED[kind]()
    first = client.wrap(control(), NOW)
    far = bytearray(first)
    stamp = first.index(NOW.to_bytes(4, "big")) - 4
    far[stamp : stamp + 8] = b"\xff" * 8
    with pytest.raises(ProtocolError):
        server.unwrap(bytes(far), NOW)
    server.unwrap(first, NOW)


@pytest.mark.parametrize("kind", PROTECTED)
def test_packet_reflected_to_its_sender(kind: str) -> None:
    client, _ = PROTECTED[kind]()
    wrapped = client.wrap(control(), NOW)
    if kind in ("tls-auth-bidirectional", "dynamic"):
        # One key for both directions tells nothing: the session id must.
        assert client.unwrap(wrapped, NOW) == control()
    else:
        with pytest.raises(AuthenticationFailed):
            client.unwrap(wrapped, NOW)


@pytest.mark.parametrize(
    ("sender", "receiver"),
    [
        (TlsAuth(KEY), TlsAuth(StaticKey(bytes(256)))),
        (TlsAuth(KEY, digest="SHA256"), TlsAuth(KEY, digest="SHA3-256")),
        (TlsAuth(KEY, direction=Direction.NORMAL), TlsAuth(KEY, direction=Direction.NORMAL)),
        (TlsCrypt(KEY, Role.CLIENT), TlsCrypt(StaticKey(bytes(256)), Role.SERVER)),
        (TlsCrypt(KEY, Role.SERVER), TlsCrypt(KEY, Role.SERVER)),
        (Plain(), TlsCrypt(KEY, Role.SERVER)),
        (Plain(), TlsAuth(KEY)),
        (TlsAuth(KEY), TlsCrypt(KEY, Role.SERVER)),
        (TlsCrypt(KEY, Role.CLIENT), TlsAuth(KEY)),
    ],
)
def test_ends_that_do_not_fit(sender: Wrapping, receiver: Wrapping) -> None:
    packet = control(payload=bytes(100))
    with pytest.raises(AuthenticationFailed):
        receiver.unwrap(sender.wrap(packet, NOW), NOW)


@pytest.mark.parametrize("kind", [kind for kind in ENDS if kind != "tls-crypt-v2"])
def test_client_keys_belong_to_tls_crypt_v2(kind: str) -> None:
    client, server = ENDS[kind]()
    wrapped = client.wrap(client_reset(Opcode.HARD_RESET_CLIENT_V3), NOW)
    with pytest.raises(ProtocolError) as caught:
        server.unwrap(wrapped, NOW)
    assert caught.value.reason is Refusal.UNEXPECTED_OPCODE


@pytest.mark.parametrize("name", DIGESTS)
def test_digests(name: str) -> None:
    try:
        client, server = (TlsAuth(KEY, digest=name.lower()) for _ in range(2))
    except UnsupportedError:
        pytest.skip(f"no {name} in this OpenSSL")
    assert server.unwrap(client.wrap(server_reset(), NOW), NOW) == server_reset()
    assert client.overhead == DIGESTS[name].digest_size + 8


def test_digest_names() -> None:
    for alias in ("sha256", "sha-256", "RSA-SHA256"):
        assert find_digest(alias) is DIGESTS["SHA256"]
    for name in ("none", "SHA257", ""):
        with pytest.raises(InvalidArgument, match="is no digest"):
            find_digest(name)


def test_window_options_reach_the_window() -> None:
    client = TlsCrypt(KEY, Role.CLIENT)
    server = TlsCrypt(KEY, Role.SERVER, window=ReplayWindow(size=1))
    first, second = (client.wrap(control(), NOW) for _ in range(2))
    server.unwrap(second, NOW)
    with pytest.raises(ReplayedPacket) as caught:
        server.unwrap(first, NOW)
    assert caught.value.reason is Refusal.REPLAY_BEHIND


def test_body_is_secret_under_tls_crypt() -> None:
    assert b"hello" in TlsAuth(KEY).wrap(control(), NOW)
    assert b"hello" not in TlsCrypt(KEY, Role.CLIENT).wrap(control(), NOW)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff", Refusal.TOO_MANY_ACKS),
        (b"\x01" + bytes(11), Refusal.ACKS_TRUNCATED),
        (b"\x00" + bytes(3), Refusal.MESSAGE_ID_TRUNCATED),
    ],
)
def test_authentic_packet_with_a_broken_body(body: bytes, reason: Refusal) -> None:
    """Whoever has the key may still send nonsense."""
    siv = SivKey(*KEY.slice(1))
    associated = b"\x20sendersd" + Stamp(1, NOW).encode()
    tag, ciphertext = siv.seal(associated, body)
    with pytest.raises(MalformedPacket) as caught:
        TlsCrypt(KEY, Role.SERVER).unwrap(associated + tag + ciphertext, NOW)
    assert caught.value.reason is reason
