"""Protected packets as an independent implementation made them (control.md, appendix A)."""

from __future__ import annotations

import pytest
from control_packets import KEY, NOW, client_reset, server_reset

from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.statickey import Direction
from ovpn_dco.protocol.wire import ControlPacket
from ovpn_dco.protocol.wrap.base import Wrapping
from ovpn_dco.protocol.wrap.tls_auth import TlsAuth
from ovpn_dco.protocol.wrap.tls_crypt import TlsCrypt

VECTORS = [
    (
        "client, tls-auth SHA256 direction 1",
        client_reset(),
        TlsAuth(KEY, direction=Direction.INVERSE, digest="SHA256"),
        TlsAuth(KEY, direction=Direction.NORMAL, digest="SHA256"),
        "380102030405060708609558615e9064afde16ed53ccc8701e6237d646818dda7e36ad31e764600aa9"
        "000000015f0000000000000000",
    ),
    (
        "client, tls-auth SHA1 bidirectional",
        client_reset(),
        TlsAuth(KEY),
        TlsAuth(KEY),
        "3801020304050607085979848d6907f7f9a00def45b277d16ff77b5e76000000015f0000000000000000",
    ),
    (
        "client, tls-crypt",
        client_reset(),
        TlsCrypt(KEY, Role.CLIENT),
        TlsCrypt(KEY, Role.SERVER),
        "380102030405060708000000015f00000071b005b7d18af15de9953fecfd59401dc95fa401e71fcbe36fc6de6c"
        "5e29b60ad2b5aa44d2",
    ),
    (
        "server, tls-auth SHA256 direction 0",
        server_reset(),
        TlsAuth(KEY, direction=Direction.NORMAL, digest="SHA256"),
        TlsAuth(KEY, direction=Direction.INVERSE, digest="SHA256"),
        "4011121314151617183921a48617806c2c619be91c125c69504735a69c49979b1c7f89e265318fa197"
        "000000015f0000000100000000010203040506070800000000",
    ),
    (
        "server, tls-auth SHA1 bidirectional",
        server_reset(),
        TlsAuth(KEY),
        TlsAuth(KEY),
        "401112131415161718e73faea3936d32c8fc165201d7699381dee41570000000015f000000"
        "0100000000010203040506070800000000",
    ),
    (
        "server, tls-crypt",
        server_reset(),
        TlsCrypt(KEY, Role.SERVER),
        TlsCrypt(KEY, Role.CLIENT),
        "401112131415161718000000015f000000f5fe2f421a6c0cda4881269dcdf57a4765d5302416c254ce7a48faaf"
        "7472d6211b102a8dd4e54b9c4cef7155055d63934c",
    ),
]


@pytest.mark.parametrize(
    ("packet", "sender", "receiver", "data"),
    [vector[1:] for vector in VECTORS],
    ids=[vector[0] for vector in VECTORS],
)
def test_vector(packet: ControlPacket, sender: Wrapping, receiver: Wrapping, data: str) -> None:
    assert sender.wrap(packet, NOW).hex() == data
    assert receiver.unwrap(bytes.fromhex(data), NOW) == packet


@pytest.mark.parametrize(
    ("digest", "size"), [("SHA1", 42), ("SHA256", 54), ("SHA384", 70), ("SHA512", 86)]
)
def test_size_of_a_reset_under_tls_auth(digest: str, size: int) -> None:
    assert len(TlsAuth(KEY, digest=digest).wrap(client_reset(), NOW)) == size
