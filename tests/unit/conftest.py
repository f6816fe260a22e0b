from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from loopback import Host, Target, host, key_pair, udp_socket

from ovpn_dco import KeySlot


@pytest.fixture
def server() -> Iterator[Host]:
    """A MULTIPEER device without peers."""
    with host() as h:
        yield h


@pytest.fixture
def target() -> Iterator[Target]:
    """A server with peer 7, whose end of the wire is in our hands."""
    with host() as h, udp_socket() as far:
        mine, theirs = key_pair(key_id=1)
        peer = h.device.add_peer(
            7, h.transport, remote=far.getsockname(), vpn_ipv4="10.8.0.2", vpn_ipv6="fd00:8::2"
        )
        peer.install_key(KeySlot.PRIMARY, mine)
        yield Target(h, far, theirs, peer)


@pytest.fixture
def kept_garbage() -> Iterator[None]:
    """For who counts descriptors: those that earlier tests have left stay open meanwhile."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
