"""What goes from peer to peer, and which networks are whose."""

from __future__ import annotations

from .mutation import Mutation

PEER_ROUTES = "ovpn_dco/net/peer_routes.py"
ROUTES = "ovpn_dco/routes.py"


def watch(name: str) -> str:
    return f"tests/system/test_routes.py::{name}"


MUTATIONS = [
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
