"""What one end of TLS is made of: its identity, whom it trusts, what it speaks.

`TlsSettings` are values, `TlsContext` is what OpenSSL makes of them, for any number of sessions.
All of it verifies by default, and settings that would verify nothing are refused."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from ovpn_dco.errors import InvalidArgument, UnsupportedError
from ovpn_dco.model import CertRole, ClientCert, TlsVersion

from .certificates import FINGERPRINT_SIZE, CertificateRules, PeerName
from .role import Role

__all__ = [
    "TlsContext",
    "TlsSettings",
    "TlsSource",
    "explain",
    "openssl_cipher_names",
]

Certificates: TypeAlias = bytes | Sequence[x509.Certificate]

CHAIN_LIMIT = 16
# Stable in OpenSSL since 1.1.0h; not every pyOpenSSL names it.
OP_NO_RENEGOTIATION = 1 << 30
DEFAULT_TLS_CIPHERS = "DEFAULT:!EXP:!LOW:!MEDIUM:!kDH:!kECDH:!DSS:!PSK:!SRP:!kRSA"


_VERSIONS = {TlsVersion.V1_2: SSL.TLS1_2_VERSION, TlsVersion.V1_3: SSL.TLS1_3_VERSION}


@dataclass(frozen=True, kw_only=True)
class TlsSettings:
    """One end of TLS. PEM bytes may be cryptography's objects instead.

    `ca` are the authorities that peers are verified against; without them `fingerprints` (SHA-256
    of the leaf's DER) must name the peers, whose certificates may then be self-signed, but not
    expired. `certificate` is the leaf, with intermediate ones after it; a client may have none.
    `crl` are revocation lists: a leaf whose issuer has none is refused unless
    `allow_missing_crl`; further up one that is missing is not looked for.
    `ciphers` is a list of OpenSSL names for TLS 1.2 (`openssl_cipher_names`), `ciphersuites` one
    for TLS 1.3; `security_level` is OpenSSL's, 1 to 3. `groups` can be one NIST curve only, since
    pyOpenSSL has no switch for more."""

    role: Role
    ca: Certificates = b""
    certificate: Certificates = b""
    private_key: Any = field(default=None, repr=False)
    passphrase: bytes | None = field(default=None, repr=False)
    minimum: TlsVersion = TlsVersion.V1_2
    maximum: TlsVersion = TlsVersion.V1_3
    ciphers: str = DEFAULT_TLS_CIPHERS
    ciphersuites: str = ""
    groups: tuple[str, ...] = ()
    security_level: int = 2
    crl: bytes = b""
    allow_missing_crl: bool = False
    revoked_serials: frozenset[int] = frozenset()
    client_certificate: ClientCert = ClientCert.REQUIRE
    peer_usage: CertRole | None = None
    peer_key_usages: tuple[int, ...] = ()
    peer_extended_usage: str | None = None
    peer_name: PeerName | None = None
    fingerprints: frozenset[bytes] = frozenset()
    name_field: str = "CN"

    @property
    def verifies_peer(self) -> bool:
        """Whether the peer is asked for a certificate. A client always verifies its server."""
        return self.role is Role.CLIENT or self.client_certificate is not ClientCert.NONE

    @property
    def needs_certificate(self) -> bool:
        """Whether a peer without a certificate is refused."""
        required = self.client_certificate is ClientCert.REQUIRE
        return self.role is Role.CLIENT or required


class TlsSource(Protocol):
    """What gives each TLS session its context: a `TlsContext`, or something that makes new ones."""

    def current(self) -> TlsContext:
        """The context for a TLS session that begins now; does not raise."""


class TlsContext:
    """Settings made ready, for any number of endpoints: reading keys and lists is done once.

    InvalidArgument (EINVAL) or UnsupportedError (EOPNOTSUPP) where the settings make no sense."""

    def __init__(self, settings: TlsSettings) -> None:
        self.settings = settings
        self.rules = CertificateRules(
            usage=settings.peer_usage,
            key_usages=settings.peer_key_usages,
            extended_usage=settings.peer_extended_usage,
            name=settings.peer_name,
            fingerprints=settings.fingerprints,
            revoked_serials=settings.revoked_serials,
            name_field=settings.name_field,
        )
        self._trusted = _certificates(settings.ca, "ca")
        self._check()
        self.ssl = SSL.Context(SSL.TLS_METHOD)
        for load, attribute in (
            (self._set_protocol, "ciphers"),
            (self._load_identity, "certificate"),
            (self._load_trust, "ca"),
        ):
            try:
                load()
            except SSL.Error as error:
                raise _invalid(f"OpenSSL: {explain(error)}", attribute) from None

    def current(self) -> TlsContext:
        """Itself; see `TlsSource`."""
        return self

    @property
    def pins_only(self) -> bool:
        """No authority: the fingerprint alone admits a peer."""
        return not self._trusted

    def _check(self) -> None:
        settings = self.settings
        if any(len(one) != FINGERPRINT_SIZE for one in settings.fingerprints):
            raise _invalid("a fingerprint has 32 bytes", "fingerprints")
        if settings.verifies_peer and not self._trusted and not settings.fingerprints:
            raise _invalid("no authority and no fingerprint to verify peers with", "ca")
        if settings.role is Role.SERVER and not settings.certificate:
            raise _invalid("a server needs a certificate", "certificate")
        if bool(settings.certificate) != (settings.private_key is not None):
            raise _invalid("certificate and private key belong together", "private_key")
        if _VERSIONS[settings.minimum] > _VERSIONS[settings.maximum]:
            raise _invalid("TLS versions are the wrong way round", "minimum")
        if not 1 <= settings.security_level <= 3:
            raise _invalid("security level must be 1 to 3", "security_level")

    def _set_protocol(self) -> None:
        settings, context = self.settings, self.ssl
        context.set_min_proto_version(_VERSIONS[settings.minimum])
        context.set_max_proto_version(_VERSIONS[settings.maximum])
        context.set_options(
            OP_NO_RENEGOTIATION
            | SSL.OP_NO_TICKET
            | SSL.OP_NO_COMPRESSION
            | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        level = f":@SECLEVEL={settings.security_level}"
        context.set_cipher_list((settings.ciphers + level).encode())
        if settings.ciphersuites:
            context.set_tls13_ciphersuites(settings.ciphersuites.encode())
        if settings.groups:
            context.set_tmp_ecdh(_curve(settings.groups))

    def _load_identity(self) -> None:
        certificates = _certificates(self.settings.certificate, "certificate")
        if not certificates:
            return
        key = _private_key(self.settings)
        self.ssl.use_certificate(certificates[0])
        for certificate in certificates[1:]:
            self.ssl.add_extra_chain_cert(certificate)
        self.ssl.use_privatekey(key)
        self.ssl.check_privatekey()

    def _load_trust(self) -> None:
        settings = self.settings
        store = self.ssl.get_cert_store()
        assert store is not None
        for certificate in self._trusted:
            store.add_cert(crypto.X509.from_cryptography(certificate))
        if settings.crl:
            for crl in _revocation_lists(settings.crl):
                store.add_crl(crl)
            flags = crypto.X509StoreFlags
            store.set_flags(flags.CRL_CHECK | flags.CRL_CHECK_ALL)
        mode = SSL.VERIFY_NONE
        if settings.verifies_peer:
            mode = SSL.VERIFY_PEER
            if settings.needs_certificate:
                mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        self.ssl.set_verify(mode, _judge)
        self.ssl.set_verify_depth(CHAIN_LIMIT)


def openssl_cipher_names(names: str) -> str:
    """A `tls-cipher` list with IANA-like names, `TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384`, in the
    names of OpenSSL; what is no such name stays as it is."""
    return ":".join(_openssl_cipher(name) for name in names.split(":"))


def _openssl_cipher(name: str) -> str:
    if not name.startswith("TLS-") or "-WITH-" not in name:
        return name
    exchange, _, cipher = name.removeprefix("TLS-").partition("-WITH-")
    for size in ("128", "256"):
        cipher = cipher.replace(f"AES-{size}-CBC", f"AES{size}").replace(
            f"AES-{size}", f"AES{size}"
        )
    cipher = cipher.replace("CHACHA20-POLY1305-SHA256", "CHACHA20-POLY1305")
    return cipher if exchange == "RSA" else f"{exchange}-{cipher}"


def explain(error: SSL.Error) -> str:
    """The reasons of OpenSSL's error queue, which name no secrets."""
    queue = error.args[0] if error.args else ()
    if not isinstance(queue, list):
        return str(queue)
    return "; ".join(str(entry[-1]) for entry in queue) or "no reason given"


def _judge(connection: SSL.Connection, x: crypto.X509, code: int, depth: int, ok: int) -> bool:
    """Asks the endpoint that the connection belongs to."""
    endpoint = connection.get_app_data()()
    return endpoint is not None and bool(endpoint.judge(x, code, depth, bool(ok)))


def _invalid(message: str, attribute: str) -> InvalidArgument:
    return InvalidArgument(errno.EINVAL, message, attribute=attribute)


def _certificates(source: Certificates, attribute: str) -> list[x509.Certificate]:
    if not isinstance(source, (bytes, bytearray)):
        return list(source)
    if not source.strip():
        return []
    try:
        return x509.load_pem_x509_certificates(bytes(source))
    except ValueError:
        raise _invalid("no certificates in PEM", attribute) from None


def _private_key(settings: TlsSettings) -> Any:
    key = settings.private_key
    if not isinstance(key, (bytes, bytearray)):
        return key
    try:
        return load_pem_private_key(bytes(key), settings.passphrase)
    except TypeError:
        raise _invalid("private key and passphrase do not belong together", "passphrase") from None
    except ValueError:
        raise _invalid("no private key in PEM, or another passphrase", "private_key") from None


def _revocation_lists(source: bytes) -> list[x509.CertificateRevocationList]:
    end = b"-----END X509 CRL-----"
    try:
        parts = source.split(end)[:-1]
        found = [x509.load_pem_x509_crl(part + end) for part in parts]
    except ValueError:
        found = []
    if not found:
        raise _invalid("no revocation list in PEM", "crl")
    return found


def _curve(groups: tuple[str, ...]) -> ec.EllipticCurve:
    curves: dict[str, ec.EllipticCurve] = {
        "secp256r1": ec.SECP256R1(),
        "prime256v1": ec.SECP256R1(),
        "secp384r1": ec.SECP384R1(),
        "secp521r1": ec.SECP521R1(),
    }
    if len(groups) != 1 or groups[0].lower() not in curves:
        message = "TLS groups other than one NIST curve cannot be chosen"
        raise UnsupportedError(errno.EOPNOTSUPP, message, attribute="groups")
    return curves[groups[0].lower()]
