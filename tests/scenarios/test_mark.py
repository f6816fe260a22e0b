"""test-mark.sh: packets carry the mark of the server's socket, by which a firewall knows them."""

from __future__ import annotations

import json
import socket

from scenarios.traffic import flood, try_flood
from scenarios.vpn import Vpn, vpn_address
from support import find_tool, needs_tool
from system.tunnel import SYSTEM, eventually

from ovpn_dco.testing import Namespace

pytestmark = [*SYSTEM, needs_tool("nft")]

NFT = find_tool("nft") or "nft"
MARK = 1056
PINGS = 100
RULES = f"""\
table inet filter {{
    chain output {{
        type filter hook output priority 0; policy accept;
        meta mark {MARK} counter drop
    }}
}}
"""


def dropped(namespace: Namespace) -> int:
    """Packets that the rule has met."""
    rules = json.loads(namespace.run([NFT, "-j", "list", "ruleset"]).stdout)["nftables"]
    (rule,) = (entry["rule"]["expr"] for entry in rules if "rule" in entry)
    (counter,) = (part["counter"] for part in rule if "counter" in part)
    return int(counter["packets"])


def test_marked_packets_meet_the_rule(make_vpn) -> None:
    vpn: Vpn = make_vpn(clients=(1, 2, 3))
    server = vpn.server
    vpn.back_end.send_singly(server.device)
    sock, _ = server.sockets[0]
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    routes = [(server.namespace, vpn_address(number)) for number in vpn.numbers]
    flood(routes, count=PINGS)

    server.namespace.run([NFT, "-f", "-"], input_text=RULES)
    assert dropped(server.namespace) == 0
    results = try_flood(routes, count=PINGS, options=("-w", "1"))
    assert [result.received for result in results] == [0, 0, 0]
    sent = sum(result.sent for result in results)
    eventually(lambda: dropped(server.namespace) >= sent, what=f"{sent} drops")
    assert dropped(server.namespace) == sent

    server.namespace.run([NFT, "flush", "ruleset"])
    flood(routes, count=PINGS)
