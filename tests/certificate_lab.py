"""Authorities, certificates and revocation lists for the tests of TLS, made on the spot."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.tls import TlsContext, TlsEndpoint, TlsSettings

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def name_of(common_name: str, **more: str) -> x509.Name:
    attributes = [x509.NameAttribute(getattr(NameOID, oid), value) for oid, value in more.items()]
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


@dataclass
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def fingerprint(self) -> bytes:
        return self.certificate.fingerprint(hashes.SHA256())


@dataclass
class Leaf:
    """What to ask of an authority; the defaults are what everybody accepts."""

    subject: x509.Name
    usage: x509.ObjectIdentifier | None = None
    key_usage: bool = True
    before: datetime.datetime = field(default=NOW - DAY)
    after: datetime.datetime = field(default=NOW + 30 * DAY)
    authority: bool = False


def sign(leaf: Leaf, issuer: Issued | None) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(issuer.certificate.subject if issuer else leaf.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(leaf.before)
        .not_valid_after(leaf.after)
        .add_extension(x509.BasicConstraints(leaf.authority, None), critical=True)
    )
    if leaf.key_usage:
        names = "content_commitment key_encipherment data_encipherment key_agreement encipher_only"
        usage = dict.fromkeys([*names.split(), "decipher_only"], False)
        usage |= dict.fromkeys(["key_cert_sign", "crl_sign"], leaf.authority)
        usage["digital_signature"] = True
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    if leaf.usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([leaf.usage]), critical=False)
    signer = issuer.key if issuer else key
    return Issued(builder.sign(signer, hashes.SHA256()), key)


def revocation_list(
    issuer: Issued, *revoked: Issued, until: datetime.datetime = NOW + 30 * DAY
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW - 10 * DAY)
        .next_update(until)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(NOW - DAY).build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)


@cache
def authority(name: str = "Test CA") -> Issued:
    return sign(Leaf(name_of(name), authority=True), None)


@cache
def server_leaf() -> Issued:
    subject = name_of("Server-1", COUNTRY_NAME="KG", LOCALITY_NAME="Bishkek")
    return sign(Leaf(subject, SERVER), authority())


@cache
def client_leaf() -> Issued:
    return sign(Leaf(name_of("client-1"), CLIENT), authority())


def settings(role: Role, mine: Issued | None = None, **more: object) -> TlsSettings:
    """With the usual authority and identity, unless said otherwise."""
    mine = mine or (server_leaf() if role is Role.SERVER else client_leaf())
    values = {"ca": authority().pem, "certificate": mine.pem, "private_key": mine.key_pem}
    return TlsSettings(role=role, **(values | more))  # type: ignore[arg-type]


@cache
def context(role: Role) -> TlsContext:
    """The usual one, made once."""
    return TlsContext(settings(role))


def shake(client: TlsEndpoint, server: TlsEndpoint, *, step: int = 1 << 20) -> None:
    """Carries bytes to and fro, `step` at a time, until nobody has any. Raises what they raise."""
    client.start()
    while client.output_size or server.output_size:
        for sender, receiver in ((client, server), (server, client)):
            while data := sender.data_to_send(step):
                receiver.receive(data)


def pair(client: TlsSettings, server: TlsSettings) -> tuple[TlsEndpoint, TlsEndpoint]:
    return TlsEndpoint(TlsContext(client)), TlsEndpoint(TlsContext(server))
