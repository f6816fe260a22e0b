"""Certificates of the small authority: what they are good for, and for how long."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import certificate_lab as lab
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ovpn_dco import InvalidArgument
from ovpn_dco.cli.authority import Authority, Identity
from ovpn_dco.model import CertRole, TlsVersion
from ovpn_dco.protocol.certificates import TlsError
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.tlscontext import TlsSettings

OTHER = {Role.SERVER: CertRole.CLIENT, Role.CLIENT: CertRole.SERVER}


def settings(role: Role, authority: Authority, identity: Identity) -> TlsSettings:
    return TlsSettings(
        role=role,
        ca=authority.certificate,
        certificate=identity.certificate,
        private_key=identity.key,
        peer_usage=OTHER[role],
        minimum=TlsVersion.V1_3,
    )


def certificate(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.certificate)


@pytest.fixture
def authority() -> Authority:
    return Authority.create("Test CA")


def shake(authority: Authority, client: Identity, server: Identity) -> None:
    lab.shake(
        *lab.pair(
            settings(Role.CLIENT, authority, client), settings(Role.SERVER, authority, server)
        )
    )


def test_client_and_server_accept_each_other(authority: Authority) -> None:
    shake(authority, authority.issue_client("alice"), authority.issue_server("server"))


def test_a_client_cannot_pose_as_the_server(authority: Authority) -> None:
    with pytest.raises(TlsError):
        shake(authority, authority.issue_client("alice"), authority.issue_client("mallory"))


def test_the_server_cannot_pose_as_a_client(authority: Authority) -> None:
    server = authority.issue_server("server")
    with pytest.raises(TlsError):
        shake(authority, server, server)


def test_another_authority_of_the_same_name_is_not_believed(authority: Authority) -> None:
    mallory = Authority.create("Test CA").issue_client("alice")
    with pytest.raises(TlsError):
        shake(authority, mallory, authority.issue_server("server"))


def test_loaded_authority_issues_as_before(authority: Authority) -> None:
    loaded = Authority.load(authority.certificate, authority.key)
    assert (loaded.certificate, loaded.key) == (authority.certificate, authority.key)
    shake(authority, loaded.issue_client("bob"), authority.issue_server("server"))


def test_keys_are_elliptic_and_of_each_its_own(authority: Authority) -> None:
    keys = [load_pem_private_key(authority.issue_client("a").key, None) for _ in range(2)]
    for key in keys:
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp256r1"
    assert keys[0].private_numbers() != keys[1].private_numbers()


def test_name_and_use_are_in_the_certificate(authority: Authority) -> None:
    issued = certificate(authority.issue_client("alice"))
    assert issued.subject.rfc4514_string() == "CN=alice"
    assert issued.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    constraints = issued.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.value.ca, constraints.critical) == (False, True)


def test_the_key_is_not_shown(authority: Authority) -> None:
    identity = authority.issue_client("alice")
    assert "PRIVATE" not in repr(identity)


def test_no_certificate_outlives_its_authority() -> None:
    begin = datetime(2030, 1, 1, tzinfo=timezone.utc)
    authority = Authority.create("old", now=begin)
    late = begin + timedelta(days=3600)
    issued = certificate(authority.issue_client("alice", now=late))
    assert issued.not_valid_after_utc == begin + timedelta(days=3650)
    usual = certificate(authority.issue_client("alice", now=begin))
    assert usual.not_valid_after_utc == begin + timedelta(days=825)


def test_an_expired_authority_issues_nothing() -> None:
    begin = datetime(2010, 1, 1, tzinfo=timezone.utc)
    authority = Authority.create("old", now=begin)
    with pytest.raises(InvalidArgument, match="expired on 2019-12-30"):
        authority.issue_client("alice")


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_names_that_no_certificate_can_have_are_refused(authority: Authority, name: str) -> None:
    with pytest.raises(InvalidArgument, match="1 to 64 characters"):
        authority.issue_client(name)


def test_a_key_of_another_authority_is_refused(authority: Authority) -> None:
    with pytest.raises(InvalidArgument, match="is not that of"):
        Authority.load(authority.certificate, Authority.create("Test CA").key)


@pytest.mark.parametrize("junk", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_key_that_is_none_is_refused_and_not_shown(authority: Authority, junk: bytes) -> None:
    with pytest.raises(InvalidArgument, match="cannot be read") as caught:
        Authority.load(authority.certificate, junk)
    assert "AAAA" not in str(caught.value)
