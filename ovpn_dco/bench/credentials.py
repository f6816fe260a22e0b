"""What a server and its clients need to know each other, made on the spot and kept in files."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ovpn_dco.protocol.statickey import StaticKey

if TYPE_CHECKING:
    from pathlib import Path

_AUTHORITY = "Bench CA"
_LIFE = datetime.timedelta(days=2)
#: Clocks of two processes agree, those of two machines need not.
_EARLY = datetime.timedelta(hours=1)
_KEY_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True)
class CredentialFiles:
    """Where they are: an authority, a certificate for each side (ECDSA P-256), a tls-crypt key."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The certificate of who signed the others."""
        return self.folder / "ca.crt"

    @property
    def tls_crypt(self) -> Path:
        """The static key that all have."""
        return self.folder / "tls-crypt.key"

    def certificate(self, name: str) -> Path:
        """Of "server" or "client"."""
        return self.folder / f"{name}.crt"

    def private_key(self, name: str) -> Path:
        """Of "server" or "client"."""
        return self.folder / f"{name}.key"

    def make(self) -> None:
        """Write all of them."""
        signer = ec.generate_private_key(ec.SECP256R1())
        self.authority.write_bytes(_pem(_sign(_AUTHORITY, signer, signer, None)))
        usages = (
            ("server", ExtendedKeyUsageOID.SERVER_AUTH),
            ("client", ExtendedKeyUsageOID.CLIENT_AUTH),
        )
        for name, usage in usages:
            key = ec.generate_private_key(ec.SECP256R1())
            self.certificate(name).write_bytes(_pem(_sign(name, key, signer, usage)))
            _write_secret(
                self.private_key(name),
                key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            )
        _write_secret(self.tls_crypt, StaticKey.generate(os.urandom).format().encode())


def _write_secret(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _sign(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    usage: x509.ObjectIdentifier | None,
) -> x509.Certificate:
    """A leaf with `usage`; without one, the authority."""
    is_authority = usage is None
    now = datetime.datetime.now(datetime.timezone.utc)
    allowed = {"key_cert_sign", "crl_sign"} if is_authority else {"digital_signature"}
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(_AUTHORITY))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(
            x509.KeyUsage(**{usage: usage in allowed for usage in _KEY_USAGES}), critical=True
        )
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
