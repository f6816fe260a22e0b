"""What peers tell each other inside of the data channel, sealed like any packet.

It is no IP packet, so that an engine hands it up instead of delivering it. Peers without `cc-exit`
say there that they leave; all else of the kind is a relic."""

from __future__ import annotations

__all__ = ["EXIT", "is_exit"]

_MAGIC = bytes.fromhex("287f346bd4ef7a812d56b8d3afc5459c")
_OPCODE_EXIT = 6

EXIT = _MAGIC + bytes([_OPCODE_EXIT])
"""The peer has left."""


def is_exit(message: bytes) -> bool:
    """Whether a message says that its sender has left."""
    return message == EXIT
