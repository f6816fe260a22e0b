"""TLS endpoints back to back in memory: records, exporter, versions, and what kills them."""

from __future__ import annotations

import gc
import weakref

import certificate_lab as lab
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovpn_dco.errors import InvalidArgument, UnsupportedError
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.tls import (
    ClientCert,
    TlsContext,
    TlsEndpoint,
    TlsError,
    TlsFailure,
    TlsVersion,
    openssl_cipher_names,
)

LABEL = b"EXPORTER-OpenVPN-datakeys"


def usual(**more: object) -> tuple[TlsEndpoint, TlsEndpoint]:
    return lab.pair(lab.settings(Role.CLIENT, **more), lab.settings(Role.SERVER, **more))


def done(**more: object) -> tuple[TlsEndpoint, TlsEndpoint]:
    client, server = usual(**more)
    lab.shake(client, server)
    assert client.handshake_done
    assert server.handshake_done
    return client, server


@pytest.mark.parametrize("version", TlsVersion)
def test_handshake_exporter_and_peers(version: TlsVersion) -> None:
    client, server = done(minimum=version, maximum=version)
    assert client.version == server.version == f"TLSv{version.value}"
    exported = client.export_keying_material(LABEL, 256)
    assert exported == server.export_keying_material(LABEL, 256)
    assert exported != client.export_keying_material(b"EXPORTER-other", 256)
    assert client.peer is not None
    assert server.peer is not None
    assert client.peer.subject == "C=KG, L=Bishkek, CN=Server-1"
    assert client.peer.common_name == "Server-1"
    assert server.peer.common_name == "client-1"
    assert server.peer.fingerprint == lab.client_leaf().fingerprint
    assert server.peer.serial == lab.client_leaf().certificate.serial_number
    chain = (lab.client_leaf().fingerprint, lab.authority().fingerprint)
    assert server.peer.chain == chain


@pytest.mark.parametrize("version", TlsVersion)
def test_exporter_has_no_context(version: TlsVersion) -> None:
    """An empty context would give other bytes under TLS 1.2 than peers have."""
    client, _ = done(minimum=version, maximum=version)
    without = client._connection.export_keying_material(LABEL, 64, None)
    assert client.export_keying_material(LABEL, 64) == without
    empty = client._connection.export_keying_material(LABEL, 64, b"")
    assert (empty == without) is (version is TlsVersion.V1_3)


def test_handshake_in_single_bytes() -> None:
    client, server = usual()
    lab.shake(client, server, step=1)
    assert client.handshake_done
    assert server.handshake_done


def test_each_write_is_a_record_of_its_own() -> None:
    client, server = done()
    for plain in (b"one", b"two", b"x" * 16384):
        client.write(plain)
    server.receive(client.data_to_send())
    assert [server.read() for _ in range(4)] == [b"one", b"two", b"x" * 16384, None]


def test_nothing_is_written_or_exported_before_the_handshake() -> None:
    client, _ = usual()
    with pytest.raises(InvalidArgument, match="not finished"):
        client.write(b"x")
    with pytest.raises(InvalidArgument, match="not finished"):
        client.export_keying_material(LABEL, 32)
    assert client.peer is None
    assert client.read() is None


@pytest.mark.parametrize("size", [0, 16385])
def test_records_have_a_size(size: int) -> None:
    client, _ = done()
    with pytest.raises(InvalidArgument, match="record"):
        client.write(bytes(size))


def test_output_is_given_in_pieces() -> None:
    client, _ = usual()
    client.start()
    size = client.output_size
    assert len(client.data_to_send(100)) == 100
    assert client.output_size == size - 100
    assert client.data_to_send(0) == client.data_to_send(-1) == b""
    assert len(client.data_to_send()) == size - 100


def test_server_does_not_speak_first() -> None:
    _, server = usual()
    server.start()
    assert server.output_size == 0


def test_no_session_is_resumed() -> None:
    """A resumed one shows no certificate, so that a list of revoked ones would not be asked."""
    contexts = [
        TlsContext(lab.settings(role, maximum=TlsVersion.V1_2))
        for role in (Role.CLIENT, Role.SERVER)
    ]
    client, server = map(TlsEndpoint, contexts)
    lab.shake(client, server)
    session = client._connection.get_session()
    assert session is not None
    secret = client._connection.master_key()
    # The first pair is kept: a connection that is freed without its end takes its session along.
    again = [TlsEndpoint(context) for context in contexts]
    again[0]._connection.set_session(session)
    lab.shake(*again)
    assert again[0]._connection.master_key() != secret


def test_versions_that_do_not_meet() -> None:
    client, server = lab.pair(
        lab.settings(Role.CLIENT, maximum=TlsVersion.V1_2),
        lab.settings(Role.SERVER, minimum=TlsVersion.V1_3),
    )
    with pytest.raises(TlsError) as caught:
        lab.shake(client, server)
    assert caught.value.reason is TlsFailure.PROTOCOL
    # The alert still goes out, and tells the other side.
    with pytest.raises(TlsError) as told:
        client.receive(server.data_to_send())
    assert told.value.reason is TlsFailure.ALERT


def test_chosen_ciphers_and_curve_are_used() -> None:
    client, _ = done(
        maximum=TlsVersion.V1_2,
        ciphers=openssl_cipher_names("TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256"),
        groups=("prime256v1",),
    )
    assert client.cipher == "ECDHE-ECDSA-AES128-GCM-SHA256"
    assert "256" in (client._connection.get_group_name() or "")
    client, _ = done(ciphersuites="TLS_CHACHA20_POLY1305_SHA256")
    assert client.cipher == "TLS_CHACHA20_POLY1305_SHA256"


@pytest.mark.parametrize(
    ("iana", "openssl"),
    [
        ("TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
        ("TLS-DHE-RSA-WITH-AES-128-CBC-SHA256", "DHE-RSA-AES128-SHA256"),
        ("TLS-RSA-WITH-AES-256-GCM-SHA384", "AES256-GCM-SHA384"),
        (
            "TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        ("ECDHE+AESGCM:!aNULL", "ECDHE+AESGCM:!aNULL"),
    ],
)
def test_cipher_names(iana: str, openssl: str) -> None:
    assert openssl_cipher_names(iana) == openssl


def test_secrets_are_not_shown() -> None:
    settings = lab.settings(Role.CLIENT, passphrase=b"hunter2")
    assert "PRIVATE" not in repr(settings)
    assert "hunter2" not in repr(settings)
    client, _ = usual()
    assert repr(client) == "<TlsEndpoint client handshake>"


@pytest.mark.parametrize(
    ("role", "more", "attribute"),
    [
        (Role.CLIENT, {"ca": b""}, "ca"),
        (Role.SERVER, {"ca": b""}, "ca"),
        (Role.SERVER, {"certificate": b"", "private_key": None}, "certificate"),
        (Role.CLIENT, {"private_key": None}, "private_key"),
        (Role.CLIENT, {"certificate": b""}, "private_key"),
        (Role.CLIENT, {"private_key": b"no key"}, "private_key"),
        (Role.CLIENT, {"passphrase": b"needless"}, "passphrase"),
        (Role.CLIENT, {"ca": b"no certificate"}, "ca"),
        (Role.CLIENT, {"crl": b"no list"}, "crl"),
        (Role.CLIENT, {"fingerprints": frozenset([b"short"])}, "fingerprints"),
        (Role.CLIENT, {"security_level": 0}, "security_level"),
        (
            Role.CLIENT,
            {"minimum": TlsVersion.V1_3, "maximum": TlsVersion.V1_2},
            "minimum",
        ),
    ],
)
def test_settings_that_make_no_sense(role: Role, more: dict[str, object], attribute: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        TlsContext(lab.settings(role, **more))
    assert caught.value.attribute == attribute


def test_key_of_another_certificate_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="OpenSSL"):
        TlsContext(lab.settings(Role.CLIENT, private_key=lab.server_leaf().key_pem))


def test_groups_that_cannot_be_chosen_are_not_passed_over() -> None:
    with pytest.raises(UnsupportedError, match="NIST"):
        TlsContext(lab.settings(Role.CLIENT, groups=("X25519MLKEM768", "X25519")))


def test_objects_are_taken_as_well_as_pem() -> None:
    mine = lab.client_leaf()
    client, server = lab.pair(
        lab.settings(
            Role.CLIENT,
            ca=[lab.authority().certificate],
            certificate=[mine.certificate],
            private_key=mine.key,
        ),
        lab.settings(Role.SERVER),
    )
    lab.shake(client, server)
    assert server.handshake_done


# What comes from the wire


def test_close_is_seen_by_the_peer() -> None:
    client, server = done()
    client.close()
    server.receive(client.data_to_send())
    assert server.closed
    assert server.error is None


def test_changed_record_kills_the_session_for_good() -> None:
    client, server = done()
    client.write(b"secret")
    record = bytearray(client.data_to_send())
    record[-1] ^= 1
    with pytest.raises(TlsError) as caught:
        server.receive(bytes(record))
    assert caught.value.reason is TlsFailure.PROTOCOL
    assert server.read() is None
    with pytest.raises(TlsError):
        server.receive(b"")
    with pytest.raises(TlsError):
        server.write(b"x")
    with pytest.raises(InvalidArgument):
        server.export_keying_material(LABEL, 32)


def test_more_than_anybody_reads_is_an_error() -> None:
    client, server = done()
    for _ in range(4):
        client.write(bytes(16384))
        server.receive(client.data_to_send())
    client.write(b"x")
    with pytest.raises(TlsError) as caught:
        server.receive(client.data_to_send())
    assert caught.value.reason is TlsFailure.OVERFLOW


@settings(max_examples=100)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_taken_or_a_tls_error(data: bytes, as_record: bool) -> None:
    server = TlsEndpoint(lab.context(Role.SERVER))
    if as_record:
        data = b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data
    try:
        server.receive(data)
    except TlsError:
        assert server.error is not None
    assert not server.handshake_done


@settings(max_examples=60)
@given(at=st.integers(0, 2000), flip=st.integers(1, 255))
def test_a_changed_hello_gives_no_session(at: int, flip: int) -> None:
    """Whatever was changed on the way: both ends never come to the same keys."""
    client, server = TlsEndpoint(lab.context(Role.CLIENT)), TlsEndpoint(lab.context(Role.SERVER))
    client.start()
    hello = bytearray(client.data_to_send())
    # The record's header is not a part of what is authenticated.
    hello[5 + at % (len(hello) - 5)] ^= flip
    try:
        server.receive(bytes(hello))
        lab.shake(client, server)
    except TlsError:
        return
    assert not client.handshake_done
    assert not server.handshake_done


def test_client_without_certificate() -> None:
    bare = {"certificate": b"", "private_key": None}
    for wanted in (ClientCert.OPTIONAL, ClientCert.NONE):
        client, server = lab.pair(
            lab.settings(Role.CLIENT, **bare),
            lab.settings(Role.SERVER, client_certificate=wanted),
        )
        lab.shake(client, server)
        assert server.handshake_done
        assert server.peer is None
    client, server = lab.pair(lab.settings(Role.CLIENT, **bare), lab.settings(Role.SERVER))
    with pytest.raises(TlsError) as caught:
        lab.shake(client, server)
    assert caught.value.reason is TlsFailure.NO_CERTIFICATE
    assert not server.handshake_done


def test_a_server_that_asks_nobody_needs_no_authority() -> None:
    client, server = lab.pair(
        lab.settings(Role.CLIENT),
        lab.settings(Role.SERVER, ca=b"", client_certificate=ClientCert.NONE),
    )
    lab.shake(client, server)
    # Nor does it believe what it did not verify.
    assert server.peer is None


def test_nothing_waits_for_the_collector_of_cycles() -> None:
    gc.disable()
    try:
        client, server = done()
        gone = [weakref.ref(end) for end in (client, server)]
        gone += [weakref.ref(end._connection) for end in (client, server)]
        del client, server
        assert [ref() for ref in gone] == [None] * 4
    finally:
        gc.enable()


def test_a_session_that_was_released_still_tells_who_it_was() -> None:
    _, server = done()
    server.release()
    assert server.peer is not None
    assert server.peer.common_name == "client-1"
    with pytest.raises(InvalidArgument, match="is over"):
        server.export_keying_material(b"EXPORTER-x", 16)
