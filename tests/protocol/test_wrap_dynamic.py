"""Dynamic tls-crypt: which packets change their protection, when, and to what key."""

from __future__ import annotations

import pytest
from control_packets import CLIENT_KEY, CLIENT_SID, ENDS, KEY, NOW, control

from ovpn_dco.errors import AlreadyExists, InvalidArgument
from ovpn_dco.protocol.errors import ProtocolError
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.statickey import Direction, StaticKey
from ovpn_dco.protocol.wire import ControlPacket, Opcode
from ovpn_dco.protocol.wrap.dynamic import EXPORTER_LABEL, DynamicTlsCrypt, derive_dynamic_key
from ovpn_dco.protocol.wrap.tls_crypt import TlsCrypt, direction_of
from ovpn_dco.protocol.wrap.tls_crypt_v2 import TlsCryptV2Client

EXPORTED = bytes(reversed(range(256)))
SOFT_RESET = ControlPacket(Opcode.SOFT_RESET_V1, 1, CLIENT_SID, message_id=0)


def test_label() -> None:
    assert EXPORTER_LABEL == b"EXPORTER-OpenVPN-dynamic-tls-crypt"


def test_key_is_mixed_with_the_original() -> None:
    assert derive_dynamic_key(EXPORTED, None) == StaticKey(EXPORTED)
    # b xor (255 - b) is 255 for every byte.
    assert derive_dynamic_key(EXPORTED, KEY) == StaticKey(b"\xff" * 256)
    with pytest.raises(InvalidArgument):
        derive_dynamic_key(EXPORTED[:-1], KEY)


@pytest.mark.parametrize("kind", [kind for kind in ENDS if kind != "dynamic"])
def test_renegotiation_uses_the_dynamic_key(kind: str) -> None:
    inner_client, inner_server = ENDS[kind]()
    client = DynamicTlsCrypt(inner_client, Role.CLIENT)
    server = DynamicTlsCrypt(inner_server, Role.SERVER)
    assert not client.is_installed
    before = client.wrap(SOFT_RESET, NOW)
    assert server.unwrap(before, NOW) == SOFT_RESET
    size_before = client.overhead_of(key_id=1, message_id=0)
    assert size_before == inner_client.overhead_of(key_id=1, message_id=0)
    for end in (client, server):
        end.install(EXPORTED)
    assert client.is_installed

    expected = TlsCrypt(derive_dynamic_key(EXPORTED, inner_client.static_key), Role.CLIENT)
    wrapped = client.wrap(SOFT_RESET, NOW)
    assert wrapped == expected.wrap(SOFT_RESET, NOW)
    assert wrapped[9:17].hex() == "000000015f000000"
    assert server.unwrap(wrapped, NOW) == SOFT_RESET
    for packet in (control(), control(key_id=7), ControlPacket(Opcode.ACK_V1, 3, CLIENT_SID)):
        assert server.unwrap(client.wrap(packet, NOW), NOW) == packet
        assert client.unwrap(server.wrap(packet, NOW), NOW) == packet
    assert client.overhead_of(key_id=1, message_id=0) == 40
    assert client.overhead >= 40
    assert client.static_key == inner_client.static_key


def test_key_id_zero_keeps_its_protection() -> None:
    inner_client, inner_server = ENDS["tls-auth"]()
    client = DynamicTlsCrypt(inner_client, Role.CLIENT)
    client.install(EXPORTED)
    assert inner_server.unwrap(client.wrap(control(), NOW), NOW) == control()


def test_old_protection_is_refused_for_later_key_ids() -> None:
    inner_client, inner_server = ENDS["tls-crypt"]()
    server = DynamicTlsCrypt(inner_server, Role.SERVER)
    server.install(EXPORTED)
    with pytest.raises(ProtocolError):
        server.unwrap(inner_client.wrap(SOFT_RESET, NOW), NOW)


def test_key_is_made_once() -> None:
    client = DynamicTlsCrypt(ENDS["tls-auth"]()[0], Role.CLIENT)
    client.install(EXPORTED)
    with pytest.raises(AlreadyExists):
        client.install(bytes(256))


def test_client_key_is_not_sent_with_a_later_key_id() -> None:
    client = DynamicTlsCrypt(TlsCryptV2Client(CLIENT_KEY), Role.CLIENT)
    client.install(EXPORTED)
    assert client.static_key == KEY
    assert client.overhead_of(key_id=1, message_id=1) == 40
    assert not client.wrap(control(key_id=1), NOW).endswith(CLIENT_KEY.wrapped)


def test_no_bytes_at_all() -> None:
    client = DynamicTlsCrypt(ENDS["tls-auth"]()[0], Role.CLIENT)
    with pytest.raises(ProtocolError):
        client.unwrap(b"", NOW)


def test_direction_of_roles() -> None:
    assert direction_of(Role.SERVER) is Direction.NORMAL
    assert direction_of(Role.CLIENT) is Direction.INVERSE
