"""TLS of a configuration: each directive in its field, material that cannot be used, reloading."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import certificate_lab as lab
import profile_lab
import pytest
from certificate_lab import Leaf, name_of, revocation_list, sign
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from profile_lab import client, server

from ovpn_dco.config import ClientConfig, ConfigError, Material, ServerConfig
from ovpn_dco.protocol.certificates import PeerName, TlsError, TlsFailure
from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.session_events import RenegotiationFailed
from ovpn_dco.protocol.tls import TlsEndpoint
from ovpn_dco.protocol.tlscontext import DEFAULT_TLS_CIPHERS, TlsContext
from ovpn_dco.runtime.tls_profile import ReloadingTls, tls_settings

PASSWORD = "open sesame"


def handshake(ours: TlsContext, theirs: TlsContext) -> TlsEndpoint:
    """`ours` is the server; gives its end, or raises."""
    ends = TlsEndpoint(theirs), TlsEndpoint(ours)
    lab.shake(*ends)
    return ends[1]


def encrypted_key(issued: lab.Issued) -> bytes:
    encryption = BestAvailableEncryption(PASSWORD.encode())
    return issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def pkcs12_of(issued: lab.Issued, *others: lab.Issued, password: str | None = None) -> bytes:
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    certificates = [one.certificate for one in others]
    return pkcs12.serialize_key_and_certificates(
        b"name", issued.key, issued.certificate, certificates, encryption
    )


def refusal(config: ClientConfig | ServerConfig, **more: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        ReloadingTls(config, **more)
    return caught.value


# Directives


def test_defaults() -> None:
    settings = tls_settings(server())
    assert settings.role is Role.SERVER
    assert (settings.minimum.name, settings.maximum.name) == ("V1_2", "V1_3")
    assert (settings.ciphers, settings.ciphersuites) == (DEFAULT_TLS_CIPHERS, "")
    assert settings.security_level == 1
    assert settings.client_certificate.name == "REQUIRE"
    assert tls_settings(client()).role is Role.CLIENT


@pytest.mark.parametrize(
    ("line", "attribute", "value"),
    [
        ("tls-version-min 1.3", "minimum.name", "V1_3"),
        ("tls-version-max 1.2", "maximum.name", "V1_2"),
        (
            "tls-cipher TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384:@STRENGTH",
            "ciphers",
            "ECDHE-ECDSA-AES256-GCM-SHA384:@STRENGTH",
        ),
        ("tls-ciphersuites TLS_AES_256_GCM_SHA384", "ciphersuites", "TLS_AES_256_GCM_SHA384"),
        ("tls-cert-profile legacy", "security_level", 1),
        ("tls-cert-profile preferred", "security_level", 2),
        ("tls-cert-profile suiteb", "security_level", 3),
        ("verify-client-cert require", "client_certificate.name", "REQUIRE"),
        ("verify-client-cert optional", "client_certificate.name", "OPTIONAL"),
        ("verify-client-cert none", "client_certificate.name", "NONE"),
        ("remote-cert-tls server", "peer_usage.name", "SERVER"),
        ("remote-cert-tls client", "peer_usage.name", "CLIENT"),
        ("remote-cert-ku a0 88", "peer_key_usages", (0xA0, 0x88)),
        ("remote-cert-ku", "peer_key_usages", (0,)),
        ("remote-cert-eku 1.2.3.4", "peer_extended_usage", "1.2.3.4"),
        ("remote-cert-eku codeSigning", "peer_extended_usage", "1.3.6.1.5.5.7.3.3"),
        (
            'remote-cert-eku "TLS Web Client Authentication"',
            "peer_extended_usage",
            "1.3.6.1.5.5.7.3.2",
        ),
        ("verify-x509-name x name-prefix", "peer_name.rule.value", "name-prefix"),
        ("verify-x509-name x name", "peer_name.rule.value", "name"),
        ("verify-x509-name CN=x", "peer_name", PeerName("CN=x")),
        ("x509-username-field UID", "name_field", "UID"),
        (
            "peer-fingerprint " + ":".join(["ab"] * 32),
            "fingerprints",
            frozenset({bytes([0xAB] * 32)}),
        ),
    ],
)
def test_directive_ends_up_in_its_field(line: str, attribute: str, value: object) -> None:
    settings: Any = tls_settings(server(line))
    for name in attribute.split("."):
        settings = getattr(settings, name)
    assert settings == value


@pytest.mark.parametrize(
    ("lines", "named", "files", "reason"),
    [
        ("tls-cert-profile insecure", "tls-cert-profile", {}, "anybody can forge"),
        ("remote-cert-eku baking", "remote-cert-eku", {}, "'baking' is no name"),
        ("x509-username-field CN OU", "x509-username-field", {}, "one field"),
        ("x509-username-field ext:subjectAltName", "x509-username-field", {}, "one field"),
        ("tls-cipher NO-SUCH", "tls-cipher", {}, "no cipher match"),
        ("crl-verify crl.pem", "crl-verify", {"crl.pem": b"junk"}, "no revocation list"),
        ("crl-verify crl.pem", "crl-verify", {"crl.pem": b"\n"}, "is empty"),
        ("crl-verify /no/such/folder dir", "crl-verify", {}, "cannot read"),
        ("capath /no/such/folder", "capath", {}, "cannot read"),
        ("extra-certs extra.pem", "extra-certs", {"extra.pem": b"x"}, "no certificates in PEM"),
        ("", "ca", {"ca.crt": b"x"}, "no certificates in PEM"),
        ("", "cert", {"own.crt": b"x"}, "no certificates in PEM"),
        ("", "key", {"own.key": b"x"}, "no private key in PEM"),
        ("", "cert", {"own.key": lab.authority().key_pem}, "mismatch"),
    ],
)
def test_what_cannot_be_used_names_its_directive(
    lines: str, named: str, files: dict[str, bytes], reason: str
) -> None:
    error = refusal(server(lines, **files))
    assert error.directive == named
    assert reason in error.reason


def test_extra_certificates_follow_the_chain() -> None:
    middle = sign(Leaf(name_of("Middle"), authority=True), lab.authority())
    leaf = sign(Leaf(name_of("server"), lab.SERVER), middle)
    chain = {"own.crt": leaf.pem, "own.key": leaf.key_pem, "middle.crt": middle.pem}
    settings = tls_settings(server("extra-certs middle.crt", **chain))
    assert settings.certificate == (leaf.certificate, middle.certificate)
    handshake(TlsContext(settings), ReloadingTls(client()).current())


def test_rules_of_usage_decide() -> None:
    for line in ("remote-cert-ku 80", "remote-cert-ku", "remote-cert-eku clientAuth"):
        handshake(ReloadingTls(server(line)).current(), ReloadingTls(client()).current())
    for line in ("remote-cert-ku 04", "remote-cert-eku serverAuth"):
        with pytest.raises(TlsError) as caught:
            handshake(ReloadingTls(server(line)).current(), ReloadingTls(client()).current())
        assert caught.value.reason is TlsFailure.WRONG_USAGE


# Keys that are encrypted, PKCS #12


def test_encrypted_key_is_opened_by_the_password_of_a_file() -> None:
    files = {"own.key": encrypted_key(lab.client_leaf()), "pass": PASSWORD.encode()}
    ReloadingTls(client("askpass pass", **files))
    files["pass"] = b"another"
    error = refusal(client("askpass pass", **files))
    assert (error.directive, error.reason) == ("key", "has another password, or is broken")


def test_encrypted_key_is_opened_by_who_is_asked() -> None:
    config = client("askpass", **{"own.key": encrypted_key(lab.client_leaf())})
    ReloadingTls(config, ask=lambda: PASSWORD)
    assert "another password" in refusal(config, ask=lambda: "wrong").reason
    assert "nobody to ask" in refusal(config).reason


def test_nobody_is_asked_about_an_open_key() -> None:
    def ask() -> str:
        raise AssertionError("asked")

    ReloadingTls(client("askpass"), ask=ask)
    ReloadingTls(client("askpass", identity="pkcs12 p12\n", p12=pkcs12_of(*both())), ask=ask)


def both() -> tuple[lab.Issued, lab.Issued]:
    return lab.client_leaf(), lab.authority()


def test_pkcs12_brings_everything() -> None:
    config = client(identity="pkcs12 p12\n", p12=pkcs12_of(*both()))
    settings = tls_settings(config)
    assert settings.certificate == (lab.client_leaf().certificate,)
    assert settings.ca == (lab.authority().certificate,)
    peer = handshake(ReloadingTls(server()).current(), TlsContext(settings)).peer
    assert peer is not None
    assert peer.common_name == "client-1"


def test_pkcs12_beside_ca_trusts_nobody_else() -> None:
    middle = sign(Leaf(name_of("Middle"), authority=True), lab.authority())
    leaf = sign(Leaf(name_of("c"), lab.CLIENT), middle)
    settings = tls_settings(client(identity="ca ca.crt\npkcs12 p12\n", p12=pkcs12_of(leaf, middle)))
    assert settings.ca == (lab.authority().certificate,)
    assert settings.certificate == (leaf.certificate, middle.certificate)
    handshake(ReloadingTls(server()).current(), TlsContext(settings))


def test_pkcs12_with_a_password() -> None:
    p12 = pkcs12_of(*both(), password=PASSWORD)
    files = {"p12": p12, "pass": PASSWORD.encode()}
    ReloadingTls(client("askpass pass", identity="pkcs12 p12\n", **files))
    config = client(identity="pkcs12 p12\n", p12=p12)
    ReloadingTls(config, ask=lambda: PASSWORD)
    assert "another password" in refusal(config, ask=lambda: "wrong").reason
    error = refusal(config)
    assert error.directive == "pkcs12"
    assert "nobody to ask" in error.reason


def test_pkcs12_without_a_key() -> None:
    p12 = pkcs12.serialize_key_and_certificates(
        None, None, lab.client_leaf().certificate, None, NoEncryption()
    )
    error = refusal(client(identity="pkcs12 p12\n", p12=p12))
    assert "no certificate with its private key" in error.reason


def test_no_secret_in_repr() -> None:
    config = client(
        "askpass pass",
        **{"own.key": encrypted_key(lab.client_leaf())},
        **{"pass": PASSWORD.encode()},
    )
    assert PASSWORD not in repr(tls_settings(config))
    assert "PRIVATE" not in repr(tls_settings(client()))


# Folders


def test_capath_takes_every_certificate_of_a_folder_once(tmp_path: Path) -> None:
    other = lab.authority("Other CA")
    (tmp_path / "a.pem").write_bytes(lab.authority().pem)
    (tmp_path / "b.crt").write_bytes(b"a remark\n" + other.pem)
    (tmp_path / "1234abcd.0").symlink_to(tmp_path / "a.pem")
    (tmp_path / "1234abcd.r0").write_bytes(revocation_list(other))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    identity = f"capath {tmp_path}\ncert own.crt\nkey own.key\n"
    settings = tls_settings(server(identity=identity))
    assert set(settings.ca) == {lab.authority().certificate, other.certificate}
    assert len(settings.ca) == 2
    handshake(TlsContext(settings), ReloadingTls(client()).current())


def test_capath_without_certificates(tmp_path: Path) -> None:
    identity = f"capath {tmp_path}\ncert own.crt\nkey own.key\n"
    assert "no certificates in PEM in" in refusal(server(identity=identity)).reason
    (tmp_path / "a.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n")
    error = refusal(server(identity=identity))
    assert error.directive == "capath"
    assert "a.pem' has a broken certificate" in error.reason


# Revocation lists that change


def revoked_or_not(tls: ReloadingTls, leaf: lab.Issued | None = None) -> TlsFailure | None:
    """What a server of this TLS says to a client, the usual one unless given."""
    leaf = leaf or lab.client_leaf()
    theirs = ReloadingTls(client(**{"own.crt": leaf.pem, "own.key": leaf.key_pem}))
    try:
        handshake(tls.current(), theirs.current())
    except TlsError as error:
        return error.reason
    return None


def with_crl(path: Path) -> ServerConfig:
    config = server()
    crl = Material(path.read_bytes(), str(path))
    return replace(config, verify=replace(config.verify, crl=crl))


def replace_file(path: Path, data: bytes) -> None:
    """As those do who care: there is never half a list."""
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").rename(path)


def test_changed_revocation_list_counts_for_the_next_session(tmp_path: Path) -> None:
    path = tmp_path / "crl.pem"
    path.write_bytes(revocation_list(lab.authority()))
    tls = ReloadingTls(with_crl(path))
    assert revoked_or_not(tls) is None
    replace_file(path, revocation_list(lab.authority(), lab.client_leaf()))
    assert revoked_or_not(tls) is TlsFailure.REVOKED
    replace_file(path, revocation_list(lab.authority()))
    assert revoked_or_not(tls) is None


def test_list_that_changed_after_it_was_configured(tmp_path: Path) -> None:
    path = tmp_path / "crl.pem"
    path.write_bytes(revocation_list(lab.authority()))
    config = with_crl(path)
    path.write_bytes(revocation_list(lab.authority(), lab.client_leaf()))
    assert revoked_or_not(ReloadingTls(config)) is TlsFailure.REVOKED


def test_context_is_made_anew_only_for_another_list(tmp_path: Path) -> None:
    path = tmp_path / "crl.pem"
    path.write_bytes(revocation_list(lab.authority()))
    tls = ReloadingTls(with_crl(path))
    first = tls.current()
    assert tls.current() is first
    replace_file(path, path.read_bytes())
    assert tls.current() is first
    replace_file(path, revocation_list(lab.authority(), lab.client_leaf()))
    assert tls.current() is not first


@pytest.mark.parametrize("broken", [b"junk", b"", None])
def test_broken_list_leaves_the_old_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: bytes | None
) -> None:
    path = tmp_path / "crl.pem"
    path.write_bytes(revocation_list(lab.authority(), lab.client_leaf()))
    tls = ReloadingTls(with_crl(path))
    if broken is None:
        path.unlink()
    else:
        path.write_bytes(broken)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert revoked_or_not(tls) is TlsFailure.REVOKED
    (message,) = caplog.messages  # the same is said once
    assert message.startswith("revocation list stays as it was: ")
    path.write_bytes(revocation_list(lab.authority()))
    assert revoked_or_not(tls) is None


def test_folder_of_revoked_serials(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    serial = lab.client_leaf().certificate.serial_number
    for name in ("README", "12x", "²", str(serial + 1)):
        (tmp_path / name).touch()
    tls = ReloadingTls(server(f"crl-verify {tmp_path} dir"))
    assert revoked_or_not(tls) is None
    (tmp_path / str(serial)).touch()
    assert revoked_or_not(tls) is TlsFailure.REVOKED
    tmp_path.rename(tmp_path.with_name("gone"))
    assert revoked_or_not(tls) is TlsFailure.REVOKED
    assert "cannot read" in caplog.text
    tmp_path.mkdir()
    assert revoked_or_not(tls) is None


def test_issuer_without_a_list_is_refused() -> None:
    """Where OpenVPN only warns."""
    crl = revocation_list(lab.authority("Other CA"))
    tls = ReloadingTls(server("crl-verify crl.pem", **{"crl.pem": crl}))
    assert revoked_or_not(tls) is TlsFailure.NO_CRL


def test_revoked_client_is_turned_away_at_its_renegotiation(tmp_path: Path) -> None:
    path = tmp_path / "crl.pem"
    path.write_bytes(revocation_list(lab.authority()))
    config = with_crl(path)
    network = profile_lab.ProfileNetwork(client(), config).connected()
    replace_file(path, revocation_list(lab.authority(), lab.client_leaf()))
    network.client.renegotiate()
    network.drain(30)
    assert not network.has_key(1)
    failed = network.every(Role.SERVER, RenegotiationFailed)
    assert [event.error.reason for event in failed] == [TlsFailure.REVOKED]
