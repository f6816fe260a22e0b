"""How much of it: enough for the gate, or with OVPN_DCO_SELFTESTS=all (`make selftests`) as much as
the kernel's own scripts do."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Pings of one flood, megabytes of one transfer, keepalive timeout of peers that expire, and
    whether the server's do so before the clients' begin."""

    pings: int
    megabytes: int
    expiry_s: int
    ends_apart: bool


ALL = os.environ.get("OVPN_DCO_SELFTESTS") == "all"
EFFORT = Effort(500, 256, 3, True) if ALL else Effort(100, 16, 1, False)
