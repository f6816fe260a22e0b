"""TLS of a configuration: who we are, whom we trust, and revocation that is looked up again.

OpenVPN only warns where an issuer has no revocation list in `crl-verify`; here such a peer is
refused: a list that is meant to be there and is not must not let everybody in."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TypeAlias

from ..config import CertProfile, ClientConfig, NameType, ServerConfig
from ..errors import DcoError, InvalidArgument
from ..protocol.certificates import PeerName
from ..protocol.role import Role
from ..protocol.tlscontext import (
    DEFAULT_TLS_CIPHERS,
    TlsContext,
    TlsSettings,
    openssl_cipher_names,
)
from .material import Ask, certificates, certificates_in, content_of, identity, serials_in, unusable

__all__ = ["ReloadingTls", "tls_settings"]

Config: TypeAlias = ClientConfig | ServerConfig

_log = logging.getLogger(__name__)

_SECURITY_LEVELS = {CertProfile.LEGACY: 1, CertProfile.PREFERRED: 2, CertProfile.SUITEB: 3}

# The names that OpenSSL has for extended key usages, short and long.
_EXTENDED_USAGES = {
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "TLS Web Server Authentication": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "TLS Web Client Authentication": "1.3.6.1.5.5.7.3.2",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "Code Signing": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "E-mail Protection": "1.3.6.1.5.5.7.3.4",
    "ipsecEndSystem": "1.3.6.1.5.5.7.3.5",
    "IPSec End System": "1.3.6.1.5.5.7.3.5",
    "ipsecTunnel": "1.3.6.1.5.5.7.3.6",
    "IPSec Tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsecUser": "1.3.6.1.5.5.7.3.7",
    "IPSec User": "1.3.6.1.5.5.7.3.7",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "Time Stamping": "1.3.6.1.5.5.7.3.8",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
    "OCSP Signing": "1.3.6.1.5.5.7.3.9",
    "ipsecIKE": "1.3.6.1.5.5.7.3.17",
    "ipsec Internet Key Exchange": "1.3.6.1.5.5.7.3.17",
    "anyExtendedKeyUsage": "2.5.29.37.0",
    "Any Extended Key Usage": "2.5.29.37.0",
}

# The directives behind what `TlsContext` complains about.
_DIRECTIVES = {
    "ca": "ca",
    "certificate": "cert",
    "private_key": "key",
    "fingerprints": "peer-fingerprint",
    "minimum": "tls-version-min",
    "ciphers": "tls-cipher",
    "crl": "crl-verify",
}


def tls_settings(config: Config, *, ask: Ask | None = None) -> TlsSettings:
    """One end of TLS. `ask` gives the password of a key that is encrypted, where the configuration
    does not. ConfigError for material that cannot be used, naming its directive."""
    tls, verify = config.tls, config.verify
    mine = identity(tls, ask)
    trusted = certificates("ca", tls.ca) + certificates_in("capath", tls.ca_directory)
    return TlsSettings(
        role=Role.CLIENT if isinstance(config, ClientConfig) else Role.SERVER,
        ca=trusted or mine.authorities,
        certificate=mine.chain,
        private_key=mine.key,
        minimum=tls.version_min,
        maximum=tls.version_max,
        ciphers=openssl_cipher_names(tls.ciphers) if tls.ciphers else DEFAULT_TLS_CIPHERS,
        ciphersuites=tls.ciphersuites or "",
        security_level=_security_level(tls.cert_profile),
        crl=_not_empty(verify.crl.data) if verify.crl else b"",
        revoked_serials=serials_in("crl-verify", verify.crl_directory),
        client_certificate=verify.client_cert,
        peer_usage=verify.remote_cert_tls,
        peer_key_usages=verify.remote_cert_ku,
        peer_extended_usage=_extended_usage(verify.remote_cert_eku),
        peer_name=_peer_name(verify.x509_name, verify.x509_name_type),
        fingerprints=frozenset(verify.fingerprints),
        name_field=_name_field(verify.x509_username_fields),
    )


class ReloadingTls:
    """The TLS of a configuration with the revocation lists of the moment: a `TlsSource`.

    A list that changed is read before the next TLS session begins, those of renegotiations
    included. One that cannot be used leaves all as it is, with a warning in the log."""

    def __init__(self, config: Config, *, ask: Ask | None = None) -> None:
        """ConfigError as from `tls_settings`."""
        self._crl_path = config.verify.crl.path if config.verify.crl else None
        self._crl_directory = config.verify.crl_directory
        self._context = _context(tls_settings(config, ask=ask))
        # Nothing was seen yet: the file may have changed since the configuration was read.
        self._seen: object = None
        self._complaint = ""

    def current(self) -> TlsContext:
        """See `TlsSource`."""
        try:
            self._refresh()
        except (DcoError, OSError) as error:
            self._complain(error.strerror or "cannot be read")
        return self._context

    def _refresh(self) -> None:
        settings = self._context.settings
        serials = serials_in("crl-verify", self._crl_directory)
        seen = self._look()
        crl = settings.crl
        if self._crl_path is not None and seen != self._seen:
            crl = _not_empty(content_of("crl-verify", self._crl_path))
        if crl != settings.crl or serials != settings.revoked_serials:
            self._context = _context(replace(settings, crl=crl, revoked_serials=serials))
        self._seen, self._complaint = seen, ""

    def _look(self) -> object:
        if self._crl_path is None:
            return None
        status = os.stat(self._crl_path)
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _complain(self, reason: str) -> None:
        """Once about the same."""
        if reason != self._complaint:
            self._complaint = reason
            _log.warning("revocation list stays as it was: %s", reason)


def _context(settings: TlsSettings) -> TlsContext:
    try:
        return TlsContext(settings)
    except InvalidArgument as error:
        directive = _DIRECTIVES.get(error.attribute or "", "tls")
        raise unusable(directive, error.strerror or "") from None


def _not_empty(crl: bytes) -> bytes:
    """Without a list nothing would be looked up, and nobody be refused."""
    if not crl.strip():
        raise unusable("crl-verify", "is empty")
    return crl


def _security_level(profile: CertProfile) -> int:
    if profile not in _SECURITY_LEVELS:
        reason = f"{profile.value} takes signatures that anybody can forge: the least is legacy"
        raise unusable("tls-cert-profile", reason)
    return _SECURITY_LEVELS[profile]


def _extended_usage(name: str | None) -> str | None:
    if name is None or name[0].isdigit():
        return name
    if name not in _EXTENDED_USAGES:
        reason = f"{name!r} is no name of a usage that is known here: give its number"
        raise unusable("remote-cert-eku", reason)
    return _EXTENDED_USAGES[name]


def _peer_name(name: str | None, kind: NameType) -> PeerName | None:
    return PeerName(name, kind) if name is not None else None


def _name_field(fields: tuple[str, ...]) -> str:
    if len(fields) != 1 or fields[0].startswith("ext:"):
        reason = "one field of the subject can be the name, and none of an extension"
        raise unusable("x509-username-field", reason)
    return fields[0]
