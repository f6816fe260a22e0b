"""Who may read metrics, and how many there may be."""

from __future__ import annotations

from .mutation import Mutation

OPTION = "ovpn_dco/cli/metrics.py"
COLLECTOR = "ovpn_dco/observe/prometheus.py"


def observe(name: str) -> str:
    return f"tests/unit/test_observe.py::{name}"


MUTATIONS = [
    Mutation(
        "metrics-for-everybody",
        "tests/cli/test_metrics.py::test_the_log_says_where",
        OPTION,
        '_LOOPBACK = "127.0.0.1"',
        '_LOOPBACK = "0.0.0.0"',
    ),
    Mutation(
        "metrics-at-any-port",
        "tests/cli/test_metrics.py::test_what_is_no_place_is_refused",
        OPTION,
        "if int(port) > PORT_MAX:",
        "if not port:",
    ),
    Mutation(
        "metrics-of-more-peers-than-asked-for",
        observe("test_series_of_peers_are_bounded"),
        "ovpn_dco/observe/metrics.py",
        "heapq.nsmallest(peer_series_max,",
        "heapq.nsmallest(len(ids),",
    ),
    Mutation(
        "metrics-of-any-number-of-peers",
        observe("test_the_bound_of_series_is_bounded"),
        COLLECTOR,
        'bounded("peer_series_max", maximum, 0, PEER_SERIES_MAX)',
        "maximum",
    ),
    Mutation(
        "metrics-of-a-closed-device",
        observe("test_a_closed_device_has_no_samples"),
        COLLECTOR,
        "except DeviceClosed:",
        "except ZeroDivisionError:",
    ),
]
