"""The cases of the matrix, and the few of them in which each two values meet at least once."""

from __future__ import annotations

import enum
import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ovpn_dco.model import Cipher
from ovpn_dco.protocol.role import Role


class Transport(enum.Enum):
    UDP = "udp"
    TCP = "tcp"


class Wrap(enum.Enum):
    """How control packets are protected."""

    NONE = "none"
    TLS_AUTH = "tls-auth"
    TLS_CRYPT = "tls-crypt"
    TLS_CRYPT_V2 = "tls-crypt-v2"


class Derivation(enum.Enum):
    """Where data keys come from: the exporter of TLS, or the function of old versions."""

    EKM = "ekm"
    PRF = "prf"


CIPHERS = (Cipher.AES_256_GCM, Cipher.AES_128_GCM, Cipher.CHACHA20_POLY1305)


@dataclass(frozen=True)
class Case:
    """One cell of the matrix. `ours` is our role; the other end is stock openvpn."""

    ours: Role = Role.SERVER
    transport: Transport = Transport.UDP
    wrap: Wrap = Wrap.TLS_CRYPT
    cipher: Cipher = Cipher.AES_256_GCM
    derivation: Derivation = Derivation.EKM

    @property
    def renews(self) -> Role:
        """Who asks for new keys. With both of our roles, either implementation does."""
        return Role.SERVER if self.transport is Transport.UDP else Role.CLIENT

    def __str__(self) -> str:
        values = (self.transport.value, self.wrap.value, self.cipher.value, self.derivation.value)
        return "-".join((self.ours.name, *values)).lower()


def all_cases() -> tuple[Case, ...]:
    return tuple(
        itertools.starmap(Case, itertools.product(Role, Transport, Wrap, CIPHERS, Derivation))
    )


def values(case: Case) -> tuple[object, ...]:
    """Of its dimensions; none belongs to two of them."""
    return (case.ours, case.transport, case.wrap, case.cipher, case.derivation)


def pairs(case: Case) -> set[frozenset[object]]:
    """Each two of its values."""
    return {frozenset(two) for two in itertools.combinations(values(case), 2)}


def pairwise(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Some of the cases that have all pairs of the whole: always the one that brings most, and of
    several the one whose values were used least."""
    cases = tuple(cases)
    missing = set().union(*map(pairs, cases))
    used: Counter[object] = Counter()
    chosen: list[Case] = []
    while missing:
        best = max(
            cases,
            key=lambda case: (len(pairs(case) & missing), -sum(used[v] for v in values(case))),
        )
        chosen.append(best)
        missing -= pairs(best)
        used.update(values(best))
    return tuple(chosen)
