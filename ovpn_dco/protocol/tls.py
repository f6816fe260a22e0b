"""TLS between memory buffers: bytes of the control channel in, plain records out.

OpenSSL does the handshake and verifies the chain, validity and revocation; `certificates.py` adds
the rules it has no switch for, inside the handshake, so that a refused peer gets an alert and never
a session. No session is resumed and none is renegotiated: each key id has a handshake of its own.
Verification uses the wall clock of the system, the one clock that is not handed in."""

from __future__ import annotations

import errno
import hashlib
import weakref
from collections import deque
from typing import NamedTuple

from cryptography import x509
from OpenSSL import SSL, crypto

from ovpn_dco.errors import InvalidArgument
from ovpn_dco.model import CertRole, ClientCert, NameType, TlsVersion

from .certificates import (
    PeerCertificate,
    PeerName,
    TlsError,
    TlsFailure,
)
from .role import Role
from .tlscontext import (
    TlsContext,
    TlsSettings,
    explain,
    openssl_cipher_names,
)

__all__ = [
    "CertRole",
    "ClientCert",
    "NameType",
    "PeerCertificate",
    "PeerName",
    "TlsContext",
    "TlsEndpoint",
    "TlsError",
    "TlsFailure",
    "TlsSettings",
    "TlsVersion",
    "openssl_cipher_names",
]

# What a TLS record carries at most, and what may wait for a reader.
RECORD_LIMIT = 16384
UNREAD_LIMIT = 4 * RECORD_LIMIT
# No less than a record. To free 64 KB and more makes malloc tidy up all that it has.
READ_SIZE = 2 * RECORD_LIMIT

# X509_V_ERR_* of openssl/x509_vfy.h.
_MISSING_CRL = 3
_FAILURES = {
    9: TlsFailure.NOT_YET_VALID,
    10: TlsFailure.EXPIRED,
    23: TlsFailure.REVOKED,
    26: TlsFailure.WRONG_USAGE,
    _MISSING_CRL: TlsFailure.NO_CRL,
    11: TlsFailure.CRL_NOT_CURRENT,
    12: TlsFailure.CRL_NOT_CURRENT,
    22: TlsFailure.CHAIN_TOO_LONG,
    2: TlsFailure.UNKNOWN_CA,
    18: TlsFailure.UNKNOWN_CA,
    19: TlsFailure.UNKNOWN_CA,
    20: TlsFailure.UNKNOWN_CA,
    21: TlsFailure.UNKNOWN_CA,
}


class _Leaf(NamedTuple):
    """A certificate that the rules have let pass, with what is dear to read out of it again."""

    certificate: x509.Certificate
    subject: x509.Name
    fingerprint: bytes


class TlsEndpoint:
    """One TLS session: `receive` takes what came, `data_to_send` gives what must go.

    Any call that reads the peer's bytes can raise `TlsError`; the endpoint is then dead, except
    that `data_to_send` still gives the alert that the peer should see. Nothing else is raised for
    what comes from the wire."""

    def __init__(self, context: TlsContext) -> None:
        self._context = context
        self._live: SSL.Connection | None = SSL.Connection(context.ssl, None)
        # Each would keep the other until somebody collects cycles.
        self._connection.set_app_data(weakref.ref(self))
        self._output = bytearray()
        self._records: deque[bytes] = deque()
        self._unread = 0
        self._error: TlsError | None = None
        self._refusal: TlsError | None = None
        self._admitted: _Leaf | None = None
        self._done = False
        self._closed = False
        self._peer: PeerCertificate | None = None
        if context.settings.role is Role.CLIENT:
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()

    def __repr__(self) -> str:
        state = "failed" if self._error else "done" if self._done else "handshake"
        return f"<TlsEndpoint {self._context.settings.role.value} {state}>"

    @property
    def _connection(self) -> SSL.Connection:
        if self._live is None:
            raise InvalidArgument(errno.EINVAL, "TLS session is over")
        return self._live

    def release(self) -> None:
        """Gives OpenSSL's part back, tens of kilobytes; what `peer` and the others tell stays."""
        self._live = None

    @property
    def handshake_done(self) -> bool:
        """Whether plain bytes can be written and keys exported."""
        return self._done

    @property
    def closed(self) -> bool:
        """Whether the peer has said that nothing more comes."""
        return self._closed

    @property
    def error(self) -> TlsError | None:
        """What the endpoint died of."""
        return self._error

    @property
    def peer(self) -> PeerCertificate | None:
        """The peer's certificate after the handshake; None where it needs none and has none."""
        return self._peer

    @property
    def version(self) -> str:
        """`TLSv1.2` or `TLSv1.3`."""
        return self._connection.get_protocol_version_name()

    @property
    def cipher(self) -> str:
        """OpenSSL's name of the cipher in use; empty before the handshake."""
        return self._connection.get_cipher_name() or ""

    @property
    def output_size(self) -> int:
        """Bytes that `data_to_send` would give."""
        return len(self._output)

    def start(self) -> None:
        """Makes the client's first flight; does nothing for a server."""
        if self._context.settings.role is Role.CLIENT:
            self._advance()

    def receive(self, data: bytes) -> None:
        """Takes bytes of the peer's stream, in order and cut anywhere."""
        if self._error:
            raise self._error
        if data:
            self._connection.bio_write(data)
        self._advance()

    def data_to_send(self, limit: int | None = None) -> bytes:
        """At most `limit` bytes of our stream, which may be cut anywhere."""
        size = len(self._output) if limit is None else max(limit, 0)
        data = bytes(self._output[:size])
        del self._output[:size]
        return data

    def write(self, plain: bytes) -> None:
        """Sends one record. InvalidArgument (EINVAL) before the handshake, or if it is too long."""
        if self._error:
            raise self._error
        if not self._done:
            raise InvalidArgument(errno.EINVAL, "TLS handshake has not finished")
        if not 0 < len(plain) <= RECORD_LIMIT:
            raise InvalidArgument(errno.EINVAL, f"TLS record of {len(plain)} bytes")
        try:
            self._connection.sendall(plain)
        except SSL.Error as error:
            self._fail(error)
        finally:
            self._drain()

    def read(self) -> bytes | None:
        """The plain bytes of the next record, None if there is none: writes stay apart."""
        if not self._records:
            return None
        record = self._records.popleft()
        self._unread -= len(record)
        return record

    def export_keying_material(self, label: bytes, size: int) -> bytes:
        """`size` bytes of RFC 5705, without a context, which is not the same as an empty one."""
        if not self._done:
            raise InvalidArgument(errno.EINVAL, "TLS handshake has not finished")
        return self._connection.export_keying_material(label, size)

    def close(self) -> None:
        """Says to the peer that nothing more comes."""
        if self._done and not self._error:
            try:
                self._connection.shutdown()
            except SSL.Error as error:
                self._fail(error)
            finally:
                self._drain()

    def _advance(self) -> None:
        """Handshake, then records, then what arose to be sent: all that the bytes here allow."""
        try:
            if not self._done:
                self._connection.do_handshake()
                self._admit()
            while True:
                self._keep(self._connection.recv(READ_SIZE))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._closed = True
        except (SSL.Error, TlsError) as error:
            self._fail(error)
        finally:
            self._drain()

    def _admit(self) -> None:
        presented = self._connection.get_peer_certificate()
        settings = self._context.settings
        if presented is None:
            if settings.needs_certificate:
                raise TlsError(TlsFailure.NO_CERTIFICATE)
        elif settings.verifies_peer:
            chain = self._connection.get_verified_chain() or [presented]
            fingerprints = (_fingerprint(presented), *map(_fingerprint, chain[1:]))
            leaf = self._admitted
            # Whatever path OpenSSL took: no session for a leaf that the rules have not seen.
            if leaf is None or leaf.fingerprint != fingerprints[0]:
                raise TlsError(TlsFailure.BAD_CERTIFICATE, "it was not verified")
            self._peer = PeerCertificate.of(
                leaf.certificate, leaf.subject, fingerprints, settings.name_field
            )
        self._done = True

    def _keep(self, record: bytes) -> None:
        self._unread += len(record)
        if self._unread > UNREAD_LIMIT:
            raise TlsError(TlsFailure.OVERFLOW)
        self._records.append(record)

    def _drain(self) -> None:
        size = READ_SIZE
        while size == READ_SIZE:  # less: that was all, and an exception for nothing is dear
            try:
                data = self._connection.bio_read(READ_SIZE)
            except SSL.Error:
                return
            self._output += data
            size = len(data)

    def _fail(self, error: SSL.Error | TlsError) -> None:
        self._done = False
        self._records.clear()
        if self._refusal is not None:
            self._error = self._refusal
        elif isinstance(error, TlsError):
            self._error = error
        else:
            self._error = _translate(error)
        raise self._error from None

    def judge(self, presented: crypto.X509, code: int, depth: int, ok: bool) -> bool:
        """OpenSSL's verdict on one certificate of the chain, and ours; called in the handshake.

        Errors come first, then each certificate once with `ok`, the leaf last."""
        try:
            if not ok:
                self._check_error(code, depth)
            self._context.rules.check_serial(presented.get_serial_number())
            if ok and depth == 0:
                certificate = presented.to_cryptography()
                subject = self._context.rules.check(certificate)
                self._admitted = _Leaf(certificate, subject, _fingerprint(presented))
        except TlsError as error:
            self._refuse(error)
        except ValueError as error:
            # What OpenSSL parses and cryptography does not is refused, not passed over.
            self._refuse(TlsError(TlsFailure.BAD_CERTIFICATE, str(error)))
        return self._refusal is None

    def _check_error(self, code: int, depth: int) -> None:
        failure = _FAILURES.get(code, TlsFailure.BAD_CERTIFICATE)
        if code == _MISSING_CRL and (depth > 0 or self._context.settings.allow_missing_crl):
            return
        # Nobody vouches for a pinned certificate; whether it is the pinned one, the rules say.
        if failure is TlsFailure.UNKNOWN_CA and self._context.pins_only:
            return
        raise TlsError(failure, "" if code in _FAILURES else f"verification error {code}")

    def _refuse(self, error: TlsError) -> None:
        if self._refusal is None:
            self._refusal = error


def _fingerprint(certificate: crypto.X509) -> bytes:
    """SHA-256 of the DER bytes, without making another object of them."""
    return hashlib.sha256(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)).digest()


def _translate(error: SSL.Error) -> TlsError:
    if isinstance(error, SSL.SysCallError):
        return TlsError(TlsFailure.PROTOCOL, "stream ended")
    text = explain(error)
    if "did not return a certificate" in text:
        return TlsError(TlsFailure.NO_CERTIFICATE)
    return TlsError(TlsFailure.ALERT if " alert " in f" {text} " else TlsFailure.PROTOCOL, text)
