"""The sequence in every combination; `make selftests` runs it."""

from __future__ import annotations

import pytest
from scenarios import sequence
from scenarios.vpn import MTU
from system.tunnel import SYSTEM

import ovpn_dco as dco

pytestmark = SYSTEM

CIPHERS = [cipher for cipher in dco.Cipher if cipher is not dco.Cipher.NONE]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda cipher: cipher.value)
@pytest.mark.parametrize("epoch", [False, True], ids=["classic", "epoch"])
@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("mtu", [MTU, 1500])
def test_the_whole_sequence(
    make_vpn, back_end, tcp: bool, cipher: dco.Cipher, epoch: bool, symmetric: bool, mtu: int
) -> None:
    if epoch:
        back_end.needs(dco.Feature.EPOCH_KEYS)
    vpn = make_vpn(tcp=tcp, cipher=cipher, epoch=epoch, symmetric=symmetric, mtu=mtu)
    sequence.run(vpn, moving=not tcp)
