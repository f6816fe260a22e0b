"""The two ends of a VPN."""

from __future__ import annotations

import enum


class Role(enum.Enum):
    """Which end of the VPN; the client is the TLS client as well."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def other(self) -> Role:
        """The peer's."""
        return Role.SERVER if self is Role.CLIENT else Role.CLIENT
