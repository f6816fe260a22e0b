"""Fixtures of the system tests; what they stand on is in `tunnel.py`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from system.tunnel import Tunnel, open_tunnel


@pytest.fixture
def make_tunnel() -> Iterator[Callable[..., Tunnel]]:
    """`open_tunnel`, closed at the end."""
    with contextlib.ExitStack() as cleanup:
        yield lambda **options: cleanup.enter_context(open_tunnel(**options))


@pytest.fixture
def tunnel(make_tunnel: Callable[..., Tunnel]) -> Tunnel:
    """A server and one client over IPv4, as they come."""
    return make_tunnel()
