"""Each rule about the peer's certificate: what it accepts, and what it refuses for which reason."""

from __future__ import annotations

from typing import Any

import certificate_lab as lab
import pytest
from certificate_lab import CLIENT, DAY, NOW, SERVER, Issued, Leaf, name_of, revocation_list, sign

from ovpn_dco.protocol.role import Role
from ovpn_dco.protocol.tls import (
    CertRole,
    NameType,
    PeerName,
    TlsEndpoint,
    TlsError,
    TlsFailure,
    TlsVersion,
)

pytestmark = pytest.mark.security

ROLES = pytest.mark.parametrize("role", Role)


def meet(role: Role, theirs: Issued, **rules: Any) -> TlsEndpoint:
    """`role` verifies by the rules a peer that has `theirs`; gives the verifier or raises."""
    mine = lab.settings(role, **rules)
    # The peer itself believes everybody whom the usual authority made.
    other = lab.settings(role.other, theirs)
    client, server = lab.pair(*((mine, other) if role is Role.CLIENT else (other, mine)))
    lab.shake(client, server)
    verifier = client if role is Role.CLIENT else server
    assert verifier.handshake_done
    return verifier


def refusal(role: Role, theirs: Issued, **rules: Any) -> TlsFailure:
    """Why the verifier refuses, which must hold for both versions of TLS."""
    reasons = set()
    for version in TlsVersion:
        with pytest.raises(TlsError) as caught:
            meet(role, theirs, maximum=version, **rules)
        reasons.add(caught.value.reason)
    (reason,) = reasons
    return reason


def peer_of(role: Role, issuer: Issued | None = None, **leaf: Any) -> Issued:
    """A peer for `role` to verify, good unless said otherwise."""
    usage = SERVER if role is Role.CLIENT else CLIENT
    subject = leaf.pop("subject", name_of("peer"))
    return sign(Leaf(subject, **({"usage": usage} | leaf)), issuer or lab.authority())


@ROLES
def test_good_certificate_is_accepted(role: Role) -> None:
    peer = meet(role, peer_of(role)).peer
    assert peer is not None
    assert peer.common_name == "peer"


@ROLES
def test_expired_or_early(role: Role) -> None:
    expired = peer_of(role, before=NOW - 3 * DAY, after=NOW - DAY)
    assert refusal(role, expired) is TlsFailure.EXPIRED
    early = peer_of(role, before=NOW + DAY)
    assert refusal(role, early) is TlsFailure.NOT_YET_VALID


@ROLES
def test_unknown_authority(role: Role) -> None:
    stranger = peer_of(role, lab.authority("Other CA"))
    assert refusal(role, stranger) is TlsFailure.UNKNOWN_CA
    namesake = sign(Leaf(lab.authority().certificate.subject, authority=True), None)
    # OpenSSL looks the issuer up by name, and then the signature does not fit.
    assert refusal(role, peer_of(role, namesake)) is TlsFailure.BAD_CERTIFICATE
    assert refusal(role, sign(Leaf(name_of("self")), None)) is TlsFailure.UNKNOWN_CA


@ROLES
def test_leaf_is_no_authority(role: Role) -> None:
    """A customer's certificate must not issue others."""
    issuer = peer_of(role, subject=name_of("customer"))
    forged = peer_of(role, issuer)
    theirs = {"certificate": forged.pem + issuer.pem, "private_key": forged.key_pem}
    mine, other = lab.settings(role), lab.settings(role.other, **theirs)
    client, server = lab.pair(*((mine, other) if role is Role.CLIENT else (other, mine)))
    with pytest.raises(TlsError):
        lab.shake(client, server)
    verifier = client if role is Role.CLIENT else server
    assert not verifier.handshake_done
    assert verifier.peer is None


@ROLES
def test_chain_over_an_intermediate_authority(role: Role) -> None:
    middle = sign(Leaf(name_of("Middle CA"), authority=True), lab.authority())
    leaf = peer_of(role, middle)
    other = lab.settings(role.other, certificate=leaf.pem + middle.pem, private_key=leaf.key_pem)
    mine = lab.settings(role)
    client, server = lab.pair(*((mine, other) if role is Role.CLIENT else (other, mine)))
    lab.shake(client, server)
    peer = (client if role is Role.CLIENT else server).peer
    assert peer is not None
    assert peer.chain == (leaf.fingerprint, middle.fingerprint, lab.authority().fingerprint)
    assert refusal(role, leaf) is TlsFailure.UNKNOWN_CA


# remote-cert-tls


@ROLES
def test_usage_must_be_that_of_the_peer(role: Role) -> None:
    wanted = CertRole.SERVER if role is Role.CLIENT else CertRole.CLIENT
    assert meet(role, peer_of(role), peer_usage=wanted).peer
    # Without the rule a certificate that says nothing is good for everything.
    mute = peer_of(role, usage=None)
    assert meet(role, mute).peer
    assert refusal(role, mute, peer_usage=wanted) is TlsFailure.WRONG_USAGE
    without = peer_of(role, key_usage=False)
    assert refusal(role, without, peer_usage=wanted) is TlsFailure.WRONG_USAGE
    wrong = peer_of(role, usage=CLIENT if role is Role.CLIENT else SERVER)
    assert refusal(role, wrong, peer_usage=wanted) is TlsFailure.WRONG_USAGE
    assert refusal(role, wrong) is TlsFailure.WRONG_USAGE


@ROLES
def test_bits_of_the_key_usage(role: Role) -> None:
    peer = peer_of(role)  # its key makes signatures
    for accepted in ((0x80,), (0x01, 0x80), (0,)):
        assert meet(role, peer, peer_key_usages=accepted).peer
    for too_much in ((0x20,), (0xA0,), (0x8000, 0x01)):
        assert refusal(role, peer, peer_key_usages=too_much) is TlsFailure.WRONG_USAGE
    without = peer_of(role, key_usage=False)
    assert refusal(role, without, peer_key_usages=(0,)) is TlsFailure.WRONG_USAGE


@ROLES
def test_extended_usage_by_its_number(role: Role) -> None:
    own = (SERVER if role is Role.CLIENT else CLIENT).dotted_string
    assert meet(role, peer_of(role), peer_extended_usage=own).peer
    assert refusal(role, peer_of(role), peer_extended_usage="1.2.3") is TlsFailure.WRONG_USAGE
    mute = peer_of(role, usage=None)
    assert refusal(role, mute, peer_extended_usage=own) is TlsFailure.WRONG_USAGE


def test_client_does_not_pass_for_a_server_by_another_rule() -> None:
    """The raw rule: OpenSSL's own check of purpose is satisfied, ours asks for the other one."""
    server = peer_of(Role.CLIENT)
    assert refusal(Role.CLIENT, server, peer_usage=CertRole.CLIENT) is (TlsFailure.WRONG_USAGE)


# verify-x509-name

FULL = name_of("Server-1", COUNTRY_NAME="KG", STATE_OR_PROVINCE_NAME="NA", LOCALITY_NAME="Bishkek")


@ROLES
@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (NameType.SUBJECT, "C=KG, ST=NA, L=Bishkek, CN=Server-1", "CN=Server-1"),
        (NameType.SUBJECT, "C=KG, ST=NA, L=Bishkek, CN=Server-1", "Server-1"),
        (NameType.NAME, "Server-1", "Server-"),
        (NameType.NAME, "Server-1", "server-1"),
        (NameType.NAME_PREFIX, "Server-", "erver"),
        (NameType.NAME_PREFIX, "Server-1", "Server-10"),
    ],
)
def test_name(role: Role, rule: NameType, good: str, bad: str) -> None:
    theirs = peer_of(role, subject=FULL)
    assert meet(role, theirs, peer_name=PeerName(good, rule)).peer
    assert refusal(role, theirs, peer_name=PeerName(bad, rule)) is TlsFailure.WRONG_NAME


@ROLES
def test_other_field_than_the_common_name(role: Role) -> None:
    theirs = peer_of(role, subject=name_of("x", ORGANIZATION_NAME="Acme, Inc."))
    rule = PeerName("Acme, Inc.", NameType.NAME)
    verifier = meet(role, theirs, peer_name=rule, name_field="O")
    assert verifier.peer is not None
    assert verifier.peer.common_name == "Acme, Inc."
    assert refusal(role, theirs, name_field="OU") is TlsFailure.WRONG_NAME


@ROLES
def test_nobody_has_no_name(role: Role) -> None:
    theirs = peer_of(role, subject=name_of("", COUNTRY_NAME="KG"))
    assert refusal(role, theirs) is TlsFailure.WRONG_NAME


@ROLES
def test_unprintable_names_are_shown_harmless_and_match_nothing(role: Role) -> None:
    theirs = peer_of(role, subject=name_of("a\r\nb\x1b"))
    peer = meet(role, theirs).peer
    assert peer is not None
    assert (peer.common_name, peer.subject) == ("a__b_", "CN=a__b_")
    for rule, value in ((NameType.NAME, "a__b_"), (NameType.SUBJECT, "CN=a__b_")):
        assert refusal(role, theirs, peer_name=PeerName(value, rule)) is TlsFailure.WRONG_NAME


# peer-fingerprint


@ROLES
def test_fingerprint_besides_the_authority(role: Role) -> None:
    theirs, other = peer_of(role), peer_of(role)
    named = frozenset([theirs.fingerprint, bytes(32)])
    assert meet(role, theirs, fingerprints=named).peer
    assert refusal(role, other, fingerprints=named) is TlsFailure.WRONG_FINGERPRINT
    stranger = peer_of(role, lab.authority("Other CA"))
    pins = frozenset([stranger.fingerprint])
    assert refusal(role, stranger, fingerprints=pins) is TlsFailure.UNKNOWN_CA


@ROLES
def test_fingerprint_instead_of_an_authority(role: Role) -> None:
    own = sign(Leaf(name_of("self-signed")), None)
    stranger = peer_of(role, lab.authority("Other CA"))
    named = frozenset([own.fingerprint, stranger.fingerprint])
    for theirs in (own, stranger):
        peer = meet(role, theirs, ca=b"", fingerprints=named).peer
        assert peer is not None
        assert peer.fingerprint == theirs.fingerprint
    other = sign(Leaf(name_of("self-signed")), None)
    why = refusal(role, other, ca=b"", fingerprints=named)
    assert why is TlsFailure.WRONG_FINGERPRINT


@ROLES
def test_fingerprint_of_the_issuer_admits_nobody(role: Role) -> None:
    """Only the leaf counts: a chain that contains a pinned certificate proves nothing."""
    pinned = sign(Leaf(name_of("pinned")), None)
    theirs = peer_of(role)
    other = lab.settings(
        role.other, certificate=theirs.pem + pinned.pem, private_key=theirs.key_pem
    )
    mine = lab.settings(role, ca=b"", fingerprints=frozenset([pinned.fingerprint]))
    client, server = lab.pair(*((mine, other) if role is Role.CLIENT else (other, mine)))
    with pytest.raises(TlsError):
        lab.shake(client, server)
    verifier = client if role is Role.CLIENT else server
    assert verifier.error is not None
    assert verifier.error.reason is TlsFailure.WRONG_FINGERPRINT


@ROLES
def test_fingerprint_does_not_keep_a_certificate_alive(role: Role) -> None:
    old = sign(Leaf(name_of("old"), before=NOW - 3 * DAY, after=NOW - DAY), None)
    pins = frozenset([old.fingerprint])
    assert refusal(role, old, ca=b"", fingerprints=pins) is TlsFailure.EXPIRED


# crl-verify


@ROLES
def test_revoked(role: Role) -> None:
    good, bad = peer_of(role), peer_of(role)
    crl = revocation_list(lab.authority(), bad)
    assert meet(role, good, crl=crl).peer
    assert refusal(role, bad, crl=crl) is TlsFailure.REVOKED


@ROLES
def test_revoked_by_serial_number(role: Role) -> None:
    good, bad = peer_of(role), peer_of(role)
    serials = frozenset([bad.certificate.serial_number])
    assert meet(role, good, revoked_serials=serials).peer
    assert refusal(role, bad, revoked_serials=serials) is TlsFailure.REVOKED
    above = frozenset([lab.authority().certificate.serial_number])
    assert refusal(role, good, revoked_serials=above) is TlsFailure.REVOKED


@ROLES
def test_list_that_has_expired(role: Role) -> None:
    crl = revocation_list(lab.authority(), until=NOW - DAY)
    assert refusal(role, peer_of(role), crl=crl) is TlsFailure.CRL_NOT_CURRENT


@ROLES
def test_list_of_somebody_else(role: Role) -> None:
    crl = revocation_list(lab.authority("Other CA"))
    assert refusal(role, peer_of(role), crl=crl) is TlsFailure.NO_CRL
    assert meet(role, peer_of(role), crl=crl, allow_missing_crl=True).peer


@ROLES
def test_several_lists_in_one_file(role: Role) -> None:
    bad = peer_of(role)
    crl = revocation_list(lab.authority("Other CA")) + revocation_list(lab.authority(), bad)
    assert refusal(role, bad, crl=crl, allow_missing_crl=True) is TlsFailure.REVOKED
    assert meet(role, peer_of(role), crl=crl).peer
