"""test-chachapoly.sh: the sequence with ChaCha20-Poly1305."""

from __future__ import annotations

from scenarios import sequence
from system.tunnel import SYSTEM

import ovpn_dco as dco

pytestmark = SYSTEM


def test_the_whole_sequence(make_vpn) -> None:
    sequence.run(make_vpn(cipher=dco.Cipher.CHACHA20_POLY1305))
