"""A certificate authority for one VPN: elliptic-curve keys, and certificates with one use each.

It keeps no list of what it has issued, and revokes nothing."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ovpn_dco.errors import InvalidArgument

__all__ = ["Authority", "Identity"]

AUTHORITY_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=825)
# Clocks of clients may be behind ours.
EARLY = timedelta(days=1)
COMMON_NAME_MAX = 64


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


class Authority:
    """Issues certificates that its own certificate vouches for."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        """`key` belongs to `certificate`: use `create` or `load`."""
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, name: str, *, now: datetime | None = None) -> Authority:
        """A new one, which is its own issuer; `now` is aware of its time zone (None: the clock)."""
        now = now or datetime.now(timezone.utc)
        key = _new_key()
        subject = _name(name)
        builder = (
            _builder(subject, subject, key.public_key(), now - EARLY, now + AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> Authority:
        """One of before, from PEM; InvalidArgument if the two do not belong together."""
        try:
            loaded = x509.load_pem_x509_certificate(certificate)
            private = load_pem_private_key(key, None)
        except (ValueError, TypeError) as error:
            text = "certificate or key of the authority cannot be read"
            raise InvalidArgument(errno.EINVAL, text, attribute="key") from error
        if (
            not isinstance(private, ec.EllipticCurvePrivateKey)
            or private.public_key() != loaded.public_key()
        ):
            text = "the key is not that of the authority's certificate"
            raise InvalidArgument(errno.EINVAL, text, attribute="key")
        return cls(loaded, private)

    @property
    def certificate(self) -> bytes:
        """Its own certificate, PEM."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def key(self) -> bytes:
        """Its private key, PEM: whoever has it can let anybody in."""
        return _private_pem(self._key)

    def issue_server(self, name: str, *, now: datetime | None = None) -> Identity:
        """For a server only; `name` becomes the common name."""
        return self._issue(name, ExtendedKeyUsageOID.SERVER_AUTH, now)

    def issue_client(self, name: str, *, now: datetime | None = None) -> Identity:
        """For a client only; `name` becomes the common name."""
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, now)

    def _issue(self, name: str, purpose: x509.ObjectIdentifier, now: datetime | None) -> Identity:
        now = now or datetime.now(timezone.utc)
        until = min(now + LIFETIME, self._certificate.not_valid_after_utc)
        if until <= now:
            text = f"the authority expired on {self._certificate.not_valid_after_utc:%Y-%m-%d}"
            raise InvalidArgument(errno.EINVAL, text, attribute="certificate")
        key = _new_key()
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _builder(_name(name), self._certificate.subject, key.public_key(), now - EARLY, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(issuer, critical=False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        return Identity(certificate.public_bytes(Encoding.PEM), _private_pem(key))


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(common_name: str) -> x509.Name:
    if not 1 <= len(common_name) <= COMMON_NAME_MAX:
        text = f"common name must have 1 to {COMMON_NAME_MAX} characters"
        raise InvalidArgument(errno.EINVAL, text, attribute="name")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    since: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*names: str) -> x509.KeyUsage:
    others = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name in names for name in others})
