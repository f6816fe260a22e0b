"""What sessions are made with, and is the same for many of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ovpn_dco.model import DEFAULT_CIPHERS, Cipher

from .keyevents import KeyTimers
from .occ import Compatibility
from .peerinfo import OUR_PROTO, IvProto
from .tlscontext import TlsSource
from .wire import RandomBytes

__all__ = ["SessionSettings"]


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """What sessions are made with; one value may serve any number of them.

    `tls` is asked at each negotiation. `features` are bits of IV_PROTO, what our side can do.
    `compatibility` is our options string. `max_packet` is the largest control datagram in bytes,
    without the headers of IP and UDP. `fallback` is for peers that cannot negotiate a cipher."""

    tls: TlsSource
    random_bytes: RandomBytes
    timers: KeyTimers = field(default_factory=KeyTimers)
    ciphers: tuple[Cipher, ...] = DEFAULT_CIPHERS
    fallback: Cipher | None = None
    features: IvProto = OUR_PROTO
    compatibility: Compatibility = field(default_factory=Compatibility)
    max_packet: int = 1222
