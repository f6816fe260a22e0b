"""Which packets have a place in a key-state: by role, key id and message id."""

from __future__ import annotations

from .role import Role
from .wire import Opcode

__all__ = ["has_place", "reset_of"]


def reset_of(role: Role, key_id: int) -> Opcode:
    """The opcode of message 0 that `role` sends; a client with tls-crypt-v2 has another one."""
    if key_id:
        return Opcode.SOFT_RESET_V1
    is_client = role is Role.CLIENT
    return Opcode.HARD_RESET_CLIENT_V2 if is_client else Opcode.HARD_RESET_SERVER_V2


def has_place(role: Role, key_id: int, opcode: Opcode, message_id: int | None) -> bool:
    """Whether `role` may get such a packet: message 0 is a reset of the other side, and nothing
    else is."""
    if opcode == Opcode.ACK_V1 or message_id is None:
        return opcode == Opcode.ACK_V1 and message_id is None
    if message_id == 0:
        v2 = role is Role.SERVER and key_id == 0 and opcode == Opcode.HARD_RESET_CLIENT_V3
        return v2 or opcode == reset_of(role.other, key_id)
    if opcode == Opcode.CONTROL_WKC_V1:
        return role is Role.SERVER and key_id == 0 and message_id == 1
    return opcode == Opcode.CONTROL_V1
