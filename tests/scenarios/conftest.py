"""Every scenario takes the back end under test as a fixture, and knows nothing of it otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from scenarios.back_ends import BACK_ENDS, BackEnd
from scenarios.effort import ALL
from scenarios.vpn import Shape, Vpn, lay_out, set_up

pytest.register_assert_rewrite("scenarios.sequence", "scenarios.traffic")

if not ALL:
    collect_ignore = ["test_matrix.py"]


@pytest.fixture(params=list(BACK_ENDS))
def back_end(request: pytest.FixtureRequest) -> BackEnd:
    return BACK_ENDS[request.param]


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def make_vpn(back_end: BackEnd, cleanup: ExitStack) -> Callable[..., Vpn]:
    """The network with everything in it, of the given `Shape`; checked for remains at the end."""
    return lambda **shape: cleanup.enter_context(set_up(back_end, Shape(**shape)))


@pytest.fixture
def make_network(back_end: BackEnd, cleanup: ExitStack) -> Callable[..., Vpn]:
    """The network and the devices only."""
    return lambda **shape: cleanup.enter_context(lay_out(back_end, Shape(**shape)))
