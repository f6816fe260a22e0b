"""What a peer's certificate says, and the rules about it that OpenSSL has no switch for.

Chain, signatures, validity and revocation are OpenSSL's (`tls.py`); here are the rules that VPN
configurations add: usage (`remote-cert-tls`), name (`verify-x509-name`), fingerprint
(`peer-fingerprint`). Certificates are those of RFC 5280."""

from __future__ import annotations

import enum
import errno
import hmac
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ovpn_dco.errors import DcoError
from ovpn_dco.model import CertRole, NameType

__all__ = [
    "CertificateRules",
    "PeerCertificate",
    "PeerName",
    "TlsError",
    "TlsFailure",
]

FINGERPRINT_SIZE = 32

# The short names that OpenSSL prints; what is missing here appears as a dotted number.
_SHORT_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.17": "postalCode",
    "2.5.4.41": "name",
    "2.5.4.42": "GN",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.2.840.113549.1.9.2": "unstructuredName",
}
_DOTTED = {short: dotted for dotted, short in _SHORT_NAMES.items()}

# As `remote-cert-ku` counts them: the first byte of the extension, and above it the second.
_KEY_USAGE_BITS = {
    "digital_signature": 0x80,
    "content_commitment": 0x40,
    "key_encipherment": 0x20,
    "data_encipherment": 0x10,
    "key_agreement": 0x08,
    "key_cert_sign": 0x04,
    "crl_sign": 0x02,
    "encipher_only": 0x01,
    "decipher_only": 0x8000,
}
# Not defined, and an error to ask for, without key_agreement.
_OF_AGREEMENT = ("encipher_only", "decipher_only")


class TlsFailure(enum.Enum):
    """Why a handshake, or the session after it, failed."""

    EXPIRED = "certificate has expired"
    NOT_YET_VALID = "certificate is not valid yet"
    REVOKED = "certificate is revoked"
    UNKNOWN_CA = "certificate was not issued by a known authority"
    WRONG_USAGE = "certificate was not made for this use"
    WRONG_NAME = "certificate has another name"
    WRONG_FINGERPRINT = "certificate has another fingerprint"
    NO_CERTIFICATE = "peer has no certificate"
    NO_CRL = "no revocation list of the issuer"
    CRL_NOT_CURRENT = "revocation list has expired or is not valid yet"
    CHAIN_TOO_LONG = "certificate chain is too long"
    BAD_CERTIFICATE = "certificate was refused"
    ALERT = "peer gave up"
    PROTOCOL = "TLS protocol error"
    OVERFLOW = "more was sent than anybody reads"


class TlsError(DcoError):
    """EACCES for a refused certificate, EPROTO otherwise; `reason` says why."""

    def __init__(self, reason: TlsFailure, detail: str = "") -> None:
        number = errno.EPROTO if reason in _PROTOCOL_FAILURES else errno.EACCES
        super().__init__(number, f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail


_PROTOCOL_FAILURES = (TlsFailure.ALERT, TlsFailure.PROTOCOL, TlsFailure.OVERFLOW)


_USAGE_OIDS = {CertRole.SERVER: "1.3.6.1.5.5.7.3.1", CertRole.CLIENT: "1.3.6.1.5.5.7.3.2"}
"""The extended key usage that `remote-cert-tls` asks for."""


@dataclass(frozen=True)
class PeerName:
    """The name that the peer's certificate must have, and how it is compared."""

    value: str
    rule: NameType = NameType.SUBJECT


@dataclass(frozen=True)
class PeerCertificate:
    """A certificate that was accepted.

    `subject` is in the order of the certificate, `C=KG, L=Bishkek, CN=Server-1`. `common_name` is
    the last attribute of the configured kind. In both, what is not printable became `_`.
    `fingerprint` is the SHA-256 of the DER bytes; `chain` are those of the verified chain from the
    leaf on, which a renegotiation must repeat. `serial` is the leaf's number."""

    subject: str
    common_name: str
    fingerprint: bytes
    serial: int
    chain: tuple[bytes, ...]

    @classmethod
    def of(
        cls,
        leaf: x509.Certificate,
        subject: x509.Name,
        chain: tuple[bytes, ...],
        name_field: str,
    ) -> PeerCertificate:
        """Of the leaf and its subject; `chain` are fingerprints from the leaf on."""
        return cls(
            printable(subject_text(subject)),
            printable(last_value(subject, name_field)),
            chain[0],
            leaf.serial_number,
            chain,
        )


@dataclass(frozen=True, kw_only=True)
class CertificateRules:
    """Rules for the leaf, all of which must hold. An empty `fingerprints` allows any.

    `key_usages` are sets of bits of the key usage extension, of one of which the leaf must have
    all; 0: it must have the extension. `extended_usage`, a dotted number, must be among what the
    leaf was made for."""

    usage: CertRole | None = None
    key_usages: tuple[int, ...] = ()
    extended_usage: str | None = None
    name: PeerName | None = None
    fingerprints: frozenset[bytes] = frozenset()
    revoked_serials: frozenset[int] = frozenset()
    name_field: str = "CN"

    def check(self, leaf: x509.Certificate) -> x509.Name:
        """Raises TlsError for the first rule that is broken. Returns the subject, which the
        certificate reads anew whenever it is asked for it."""
        self._check_fingerprint(leaf)
        self._check_usage(leaf)
        self._check_key_usage(leaf)
        self._check_extended_usage(leaf)
        subject = leaf.subject
        self._check_name(subject)
        return subject

    def check_serial(self, serial: int) -> None:
        """Raises TlsError for a serial number that is revoked; for every level of the chain."""
        if serial in self.revoked_serials:
            raise TlsError(TlsFailure.REVOKED, f"serial number {serial}")

    def allows_fingerprint(self, leaf: x509.Certificate) -> bool:
        """Whether this very certificate was named."""
        mine = fingerprint_of(leaf)
        return any(hmac.compare_digest(mine, allowed) for allowed in self.fingerprints)

    def _check_fingerprint(self, leaf: x509.Certificate) -> None:
        if self.fingerprints and not self.allows_fingerprint(leaf):
            raise TlsError(TlsFailure.WRONG_FINGERPRINT, fingerprint_of(leaf).hex(":"))

    def _check_usage(self, leaf: x509.Certificate) -> None:
        if self.usage is None:
            return
        try:
            leaf.extensions.get_extension_for_class(x509.KeyUsage)
            extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
            raise TlsError(TlsFailure.WRONG_USAGE, "it does not say what it is for") from None
        if _USAGE_OIDS[self.usage] not in {usage.dotted_string for usage in extended}:
            raise TlsError(TlsFailure.WRONG_USAGE, f"it is not for a {self.usage.value}")

    def _check_key_usage(self, leaf: x509.Certificate) -> None:
        if not self.key_usages:
            return
        bits = _key_usage_bits(leaf)
        if bits is None:
            raise TlsError(TlsFailure.WRONG_USAGE, "it does not say what its key is for")
        if not any(bits & wanted == wanted for wanted in self.key_usages):
            raise TlsError(TlsFailure.WRONG_USAGE, f"its key is for {bits:02x}")

    def _check_extended_usage(self, leaf: x509.Certificate) -> None:
        if self.extended_usage is None:
            return
        if self.extended_usage not in _extended_usages(leaf):
            raise TlsError(TlsFailure.WRONG_USAGE, f"it is not for {self.extended_usage}")

    def _check_name(self, subject: x509.Name) -> None:
        name = last_value(subject, self.name_field)
        if not name:
            raise TlsError(TlsFailure.WRONG_NAME, f"its subject has no {self.name_field}")
        if self.name is None:
            return
        # Compared as it is in the certificate: `_` must not match what was replaced by it.
        if self.name.rule is NameType.NAME:
            same = name == self.name.value
        elif self.name.rule is NameType.NAME_PREFIX:
            same = name.startswith(self.name.value)
        else:
            same = subject_text(subject) == self.name.value
        if not same:
            raise TlsError(TlsFailure.WRONG_NAME, printable(subject_text(subject)))


def _key_usage_bits(leaf: x509.Certificate) -> int | None:
    """The bits in the key usage extension, None without one."""
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None
    names = [name for name in _KEY_USAGE_BITS if usage.key_agreement or name not in _OF_AGREEMENT]
    return sum(_KEY_USAGE_BITS[name] for name in names if getattr(usage, name))


def _extended_usages(leaf: x509.Certificate) -> set[str]:
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return set()
    return {usage.dotted_string for usage in usages}


def subject_text(name: x509.Name) -> str:
    """The whole name in the order of the certificate, as OpenSSL prints it with short names."""
    return ", ".join(
        " + ".join(f"{_short_name(one)}={_text(one)}" for one in part) for part in name.rdns
    )


def last_value(name: x509.Name, field: str) -> str:
    """The last attribute with this short name or dotted number; empty if there is none."""
    dotted = _DOTTED.get(field, field)
    found = [_text(one) for one in name if one.oid.dotted_string == dotted]
    return found[-1] if found else ""


def fingerprint_of(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the DER bytes."""
    return certificate.fingerprint(hashes.SHA256())


def printable(text: str) -> str:
    """The text with `_` for whatever a log, a script or a file name should not see."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "_" for c in text)


def _short_name(attribute: x509.NameAttribute[str | bytes]) -> str:
    dotted = attribute.oid.dotted_string
    return _SHORT_NAMES.get(dotted, dotted)


def _text(attribute: x509.NameAttribute[str | bytes]) -> str:
    value = attribute.value
    return value if isinstance(value, str) else value.hex()
