"""What goes from peer to peer, and which networks are whose."""

from __future__ import annotations

from .mutation import Mutation

FEATURES = "ext/engine/features.c"
PEER_ROUTES = "ovpn_dco/net/peer_routes.py"
ROUTES = "ovpn_dco/routes.py"


def watch(name: str) -> str:
    return f"tests/system/test_routes.py::{name}"


def source(name: str) -> str:
    return f"tests/security/test_source_check.py::{name}"


MUTATIONS = [
    # Source check
    Mutation(
        "loose-is-off",
        source("test_loose_takes_what_is_somebodys"),
        "ext/engine/receive.c",
        "(check == DCO_SOURCE_CHECK_LOOSE && receive->source_owner);",
        "check == DCO_SOURCE_CHECK_LOOSE;",
    ),
    Mutation(
        "device-before-peer",
        source("test_of_one_peer"),
        FEATURES,
        "    else if (check == DCO_SOURCE_CHECK_INHERIT)\n",
        "    else\n",
    ),
    # Routes of the system
    Mutation(
        "any-metric-wins",
        "tests/property/test_peer_routes.py::test_against_a_scan_of_the_table",
        PEER_ROUTES,
        "in sorted(self._keys.get(network, ()), key=lambda key: key[1:]):",
        "in self._keys.get(network, ()):",
    ),
    Mutation(
        "replaced-route-stays",
        "tests/property/test_peer_routes.py::test_against_a_scan_of_the_table",
        PEER_ROUTES,
        "        if replaces and known:\n            return False\n",
        "",
    ),
    Mutation(
        "address-of-a-peer-that-went",
        "tests/property/test_peer_routes.py::test_against_a_scan_of_the_table",
        PEER_ROUTES,
        "                del self._owners[address]\n",
        "                pass\n",
    ),
    Mutation(
        "system-before-call",
        watch("test_what_was_added_by_a_call_goes_first"),
        ROUTES,
        "            self._withdraw(key)\n            try:",
        "            try:",
    ),
    Mutation(
        "routes-outlive-the-watch",
        watch("test_ip_route_add_is_enough"),
        "ovpn_dco/route_follower.py",
        "            self._routes.follow(dict.fromkeys(self._routes.found()))",
        "            pass",
    ),
    Mutation(
        "overflow-unnoticed",
        watch("test_what_did_not_fit_is_found"),
        "ovpn_dco/net/route_monitor.py",
        "                    complete = False\n",
        "",
    ),
]
