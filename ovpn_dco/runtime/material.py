"""Certificates and keys of a configuration, read; what cannot be used names its directive."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

from ..config import ConfigError, Material, Problem, TlsConfig
from ..config.parse import reader
from ..config.settings import FILE_MAX
from ..errors import DcoError

__all__ = [
    "Ask",
    "Identity",
    "certificates",
    "certificates_in",
    "content_of",
    "identity",
    "read",
    "serials_in",
    "unusable",
]

Ask: TypeAlias = Callable[[], str]
"""Asks somebody for the password of the private key."""

T = TypeVar("T")


@dataclass(frozen=True)
class Identity:
    """A certificate chain, the leaf first, and its key; `authorities` came with a PKCS #12."""

    chain: tuple[x509.Certificate, ...] = ()
    key: Any = field(default=None, repr=False)
    authorities: tuple[x509.Certificate, ...] = ()


def unusable(directive: str, reason: str) -> ConfigError:
    """The error about what a directive names."""
    return ConfigError([Problem("configuration", 0, directive, reason)])


def read(directive: str, parse: Callable[[bytes], T], material: Material) -> T:
    """What `parse` makes of the material; its refusals become those of the directive."""
    try:
        return parse(material.data)
    except DcoError as error:
        raise unusable(directive, error.strerror or str(error)) from None


def certificates(directive: str, material: Material | None) -> tuple[x509.Certificate, ...]:
    """All in the PEM text, none for None."""
    if material is None:
        return ()
    try:
        return tuple(x509.load_pem_x509_certificates(material.data))
    except ValueError:
        raise unusable(directive, "no certificates in PEM") from None


def certificates_in(directive: str, folder: str | None) -> tuple[x509.Certificate, ...]:
    """Those of all PEM files of a folder, whatever the files are called; of each one only once,
    since such a folder has links to them. Files of other things are passed over."""
    if folder is None:
        return ()
    found: dict[x509.Certificate, None] = {}
    for path in filter(os.path.isfile, _paths(directive, folder)):
        data = content_of(directive, path)
        if b"-----BEGIN CERTIFICATE-----" in data:
            try:
                found |= dict.fromkeys(x509.load_pem_x509_certificates(data))
            except ValueError:
                raise unusable(directive, f"{path!r} has a broken certificate") from None
    if not found:
        raise unusable(directive, f"no certificates in PEM in {folder!r}")
    return tuple(found)


def serials_in(directive: str, folder: str | None) -> frozenset[int]:
    """The numbers that are names of files in a folder."""
    if folder is None:
        return frozenset()
    names = map(os.path.basename, _paths(directive, folder))
    return frozenset(int(name) for name in names if name.isascii() and name.isdecimal())


def content_of(directive: str, path: str) -> bytes:
    """The whole of a file."""
    try:
        data = reader(Path())(path)
    except OSError as error:
        raise unusable(directive, f"cannot read {path!r}: {error.strerror}") from None
    if len(data) > FILE_MAX:
        raise unusable(directive, f"{path!r} is larger than {FILE_MAX} bytes")
    return data


def identity(tls: TlsConfig, ask: Ask | None) -> Identity:
    """Who we are, nobody if nothing is configured. A key that is encrypted is opened with the
    configured password, or with what `ask` gives."""
    extra = certificates("extra-certs", tls.extra_certs)
    if tls.pkcs12 is not None:
        return _from_pkcs12(tls, tls.pkcs12, extra, ask)
    chain = certificates("cert", tls.cert)
    if tls.key is None:
        return Identity(chain)
    return Identity((*chain, *extra), _private_key(tls, tls.key, ask))


def _paths(directive: str, folder: str) -> list[str]:
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder))
    except OSError as error:
        raise unusable(directive, f"cannot read {folder!r}: {error.strerror}") from None


def _private_key(tls: TlsConfig, material: Material, ask: Ask | None) -> Any:
    try:
        return load_pem_private_key(material.data, None)
    except TypeError:
        password = _password("key", "is encrypted", tls, ask)
    except (ValueError, UnsupportedAlgorithm):
        raise unusable("key", "no private key in PEM") from None
    try:
        return load_pem_private_key(material.data, password)
    except (ValueError, UnsupportedAlgorithm):
        raise unusable("key", "has another password, or is broken") from None


def _from_pkcs12(
    tls: TlsConfig, material: Material, extra: tuple[x509.Certificate, ...], ask: Ask | None
) -> Identity:
    """Further certificates in it are authorities if there are no others, and else part of our
    chain, as with OpenVPN."""
    try:
        key, leaf, others = load_key_and_certificates(material.data, None)
    except (ValueError, UnsupportedAlgorithm):
        password = _password("pkcs12", "is encrypted, or no PKCS #12 file at all", tls, ask)
        try:
            key, leaf, others = load_key_and_certificates(material.data, password)
        except (ValueError, UnsupportedAlgorithm):
            reason = "is no PKCS #12 file, or has another password"
            raise unusable("pkcs12", reason) from None
    if key is None or leaf is None:
        raise unusable("pkcs12", "has no certificate with its private key")
    if tls.ca is None and tls.ca_directory is None:
        return Identity((leaf, *extra), key, tuple(others))
    return Identity((leaf, *others, *extra), key)


def _password(directive: str, finding: str, tls: TlsConfig, ask: Ask | None) -> bytes:
    if tls.key_password is not None:
        return tls.key_password.encode()
    if ask is None:
        raise unusable(directive, f"{finding}, and there is nobody to ask: give askpass a file")
    return ask().encode()
