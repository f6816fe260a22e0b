"""What goes from peer to peer, and which networks are whose."""

from __future__ import annotations

from .mutation import Mutation

FORWARD = "ext/engine/forward.c"
GROUP = "ext/engine/group.c"
FEATURES = "ext/engine/features.c"
GOVERNOR = "ovpn_dco/governor.py"
PEER_ROUTES = "ovpn_dco/net/peer_routes.py"
ROUTES = "ovpn_dco/routes.py"


def watch(name: str) -> str:
    return f"tests/system/test_routes.py::{name}"


def source(name: str) -> str:
    return f"tests/security/test_source_check.py::{name}"


def forward(name: str) -> str:
    return f"tests/security/test_forwarding.py::{name}"


def policy(name: str) -> str:
    return f"tests/security/test_policy.py::{name}"


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
        "tests/property/test_peer_routes.py::test_the_lowest_metric_wins",
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
        "            self._watched.withdraw(key)\n            try:",
        "            try:",
    ),
    Mutation(
        "routes-outlive-the-watch",
        watch("test_ip_route_add_is_enough"),
        "ovpn_dco/route_follower.py",
        "            watched.follow(dict.fromkeys(watched.wanted()))",
        "            pass",
    ),
    Mutation(
        "system-before-an-address",
        watch("test_a_peers_own_address_goes_first"),
        "ovpn_dco/watched.py",
        "                    self.withdraw((ip, 8 * len(ip)))\n",
        "                    pass\n",
    ),
    Mutation(
        "overflow-unnoticed",
        watch("test_what_did_not_fit_is_found"),
        "ovpn_dco/net/route_monitor.py",
        "                    complete = False\n",
        "",
    ),
    # From peer to peer
    Mutation(
        "forwarded-from-any-source",
        forward("test_spoofed_source_reaches_nobody"),
        "ext/engine/receive.c",
        "    if (!source_allowed(receive, peer, packet)) {",
        "    if (!source_allowed(receive, peer, packet)\n"
        "        && !(dco_features(peer) & DCO_PEER_FEATURE_FORWARD)) {",
    ),
    Mutation(
        "forwarded-to-anybody",
        forward("test_only_whom_it_may"),
        FORWARD,
        "    if (!memo->permitted) {",
        "    if (!memo->permitted && !length) {",
    ),
    Mutation(
        "forwarded-back",
        forward("test_never_back"),
        FORWARD,
        "    if (source == destination)\n        return false;\n",
        "",
    ),
    Mutation(
        "forwarded-with-any-length",
        forward("test_lengths_are_not_believed"),
        FORWARD,
        "return header >= DCO_IPV4_HEADER && header <= length && length <= size ? length : 0;",
        "return header && length <= size ? length : size;",
    ),
    Mutation(
        "forwarded-with-what-is-behind",
        forward("test_lengths_are_not_believed"),
        FORWARD,
        "length <= size ? length : 0;",
        "length <= size ? size : 0;",
    ),
    Mutation(
        "permit-for-an-id",
        forward("test_a_permit_is_for_no_later_peer"),
        "ext/peers/permit.c",
        "        if (permit->generation[middle] == generation)",
        "        if (permit->generation[middle] <= generation)",
    ),
    Mutation(
        "address-of-the-host-for-a-peer",
        forward("test_the_hosts_own_address_is_the_hosts"),
        "ext/engine/forward_ops.c",
        "        if (dco_lpm_exact(&engine->lpm, &route->prefix)) {",
        "        if (engine) {",
    ),
    Mutation(
        "policy-that-fails-permits",
        policy("test_policy"),
        GOVERNOR,
        "            return False\n",
        "            return True\n",
    ),
    Mutation(
        "policy-after-the-fact",
        policy("test_policy"),
        FORWARD,
        "== DCO_FORWARDING_ALL)",
        "!= DCO_FORWARDING_OFF && !source->permit)",
    ),
    Mutation(
        "permit-for-a-namesake-elsewhere",
        forward("test_handed_over"),
        "ovpn_dco/forwarding.py",
        "for peer_id, _ in targets & present)",
        "for peer_id, _ in targets)",
    ),
    Mutation(
        "policy-waits-to-say-no",
        policy("test_no_waits_for_no_other_answer"),
        GOVERNOR,
        "            allowed.remove(target)\n            self._permit(source)\n",
        "            allowed.remove(target)\n            self._due.add(source)\n",
    ),
    Mutation(
        "policy-of-before",
        policy("test_who_is_set_anew_reaches_nobody_until_it_is_judged"),
        GOVERNOR,
        "        for source in self._part(ref):\n            self._permit(source)\n",
        "",
    ),
    Mutation(
        "policy-answers-of-before",
        policy("test_who_is_set_anew_reaches_nobody_until_it_is_judged"),
        GOVERNOR,
        "        elif self._news.isdisjoint((source, target)):\n",
        "        else:\n",
    ),
    Mutation(
        "policy-ends-by-its-own-hand",
        policy("test_a_policy_that_cancels_itself_says_no"),
        GOVERNOR,
        "        except (Exception, asyncio.CancelledError) as error:\n",
        "        except Exception as error:\n",
    ),
    Mutation(
        "permit-given-up",
        policy("test_what_cannot_be_set_is_set_later"),
        GOVERNOR,
        "            self._loop.call_later(RETRY_S, self._fall_due, source)\n",
        "",
    ),
    # Multicast and broadcast
    Mutation(
        "groups-though-off",
        forward("test_from_the_host_to_all"),
        GROUP,
        "    if (!atomic_load_explicit(&engine->copies_per_s, memory_order_relaxed))\n"
        "        return false;\n",
        "",
    ),
    Mutation(
        "groups-for-who-refuses",
        forward("test_from_the_host_to_all"),
        GROUP,
        "    return !atomic_load_explicit(&peer->no_groups, memory_order_relaxed)\n           && ",
        "    return ",
    ),
    Mutation(
        "groups-to-anybody",
        forward("test_from_a_peer_to_the_others_it_may_reach"),
        GROUP,
        "(!source || dco_forward_permitted(transmit->engine, source, peer))",
        "source != peer",
    ),
    Mutation(
        "copies-without-end",
        forward("test_copies_are_bounded"),
        GROUP,
        "        if (!affords(transmit, SEAL))\n            return false;\n",
        "",
    ),
    Mutation(
        "looks-without-end",
        forward("test_looking_for_receivers_is_bounded"),
        GROUP,
        "        if (!affords(transmit, LOOK))\n            return false;\n",
        "",
    ),
    Mutation(
        "broadcast-for-a-peer",
        forward("test_broadcast_of_the_devices_networks"),
        "ovpn_dco/interface.py",
        "ReservedAddress(broadcast, 32, group=True)",
        "ReservedAddress(broadcast, 32)",
    ),
]
