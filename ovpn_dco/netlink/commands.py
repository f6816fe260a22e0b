"""The commands of the driver, one method each, values in and out."""

from __future__ import annotations

from typing import Any

from ..model import DataKey, KeySlot
from .codec import (
    decode_key,
    decode_message,
    decode_peer,
    encode_request,
    key_nest,
    peer_id_nest,
    peer_nest,
    slot_nest,
)
from .family import (
    OVPN_CMD_KEY_DEL,
    OVPN_CMD_KEY_GET,
    OVPN_CMD_KEY_NEW,
    OVPN_CMD_KEY_SWAP,
    OVPN_CMD_PEER_DEL,
    OVPN_CMD_PEER_GET,
    OVPN_CMD_PEER_NEW,
    OVPN_CMD_PEER_SET,
)
from .sockets import NETLINK_GENERIC, RequestSocket
from .values import KeyState, PeerAttributes, PeerState


class Commands:
    """A command socket of the family with this number, in the namespace of the calling thread.

    Calls may come from any thread and wait for each other. A refusal is a DcoError with the
    kernel's errno and words, and the name of the attribute where the kernel tells it. All need
    CAP_NET_ADMIN in the initial user namespace: PermissionDenied else."""

    def __init__(self, family: int) -> None:
        self._family = family
        self._requests = RequestSocket(NETLINK_GENERIC)

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        self._requests.close()

    # Peers

    def add_peer(self, ifindex: int, peer: PeerAttributes) -> None:
        """PEER_NEW. On a P2P interface the peer that was there goes, with reason TEARDOWN.

        NotASocket for whatever keeps the socket from being attached: another user of it, another
        interface, a TCP connection that is not established. AlreadyExists for an id in use."""
        step = f"peer {peer.peer_id} cannot be added"
        self._request(step, OVPN_CMD_PEER_NEW, ifindex, peer_nest(peer))

    def set_peer(self, ifindex: int, peer: PeerAttributes) -> None:
        """PEER_SET. What is None stays; a keepalive restarts both of its timers."""
        step = f"peer {peer.peer_id} cannot be changed"
        self._request(step, OVPN_CMD_PEER_SET, ifindex, peer_nest(peer))

    def get_peer(self, ifindex: int, peer_id: int) -> PeerState:
        """PEER_GET. NotFound for one that is not there."""
        step = f"peer {peer_id} cannot be read"
        (message,) = self._request(step, OVPN_CMD_PEER_GET, ifindex, peer_id_nest(peer_id))
        return decode_peer(message)

    def get_peers(self, ifindex: int) -> list[PeerState]:
        """PEER_GET of all. Others may change meanwhile: one that comes or goes during the dump is
        in it or is not."""
        messages = self._request("peers cannot be read", OVPN_CMD_PEER_GET, ifindex, dump=True)
        # An id that the kernel told twice is once in the table: the later is the newer.
        return list({peer.peer_id: peer for peer in map(decode_peer, messages)}.values())

    def delete_peer(self, ifindex: int, peer_id: int) -> None:
        """PEER_DEL. Its counters go with it."""
        step = f"peer {peer_id} cannot be deleted"
        self._request(step, OVPN_CMD_PEER_DEL, ifindex, peer_id_nest(peer_id))

    # Keys

    def install_key(self, ifindex: int, peer_id: int, slot: KeySlot, key: DataKey) -> None:
        """KEY_NEW. A key that was in the slot is replaced."""
        step = f"key {key.key_id} of peer {peer_id} cannot be installed"
        self._request(step, OVPN_CMD_KEY_NEW, ifindex, key_nest(peer_id, slot, key))

    def get_key(self, ifindex: int, peer_id: int, slot: KeySlot) -> KeyState:
        """KEY_GET. NotFound for an empty slot."""
        step = f"{slot.name.lower()} key of peer {peer_id} cannot be read"
        (message,) = self._request(step, OVPN_CMD_KEY_GET, ifindex, slot_nest(peer_id, slot))
        return decode_key(message)

    def swap_keys(self, ifindex: int, peer_id: int) -> None:
        """KEY_SWAP, of empty slots, too: a peer may be left without a key to send with."""
        step = f"keys of peer {peer_id} cannot be swapped"
        self._request(step, OVPN_CMD_KEY_SWAP, ifindex, slot_nest(peer_id))

    def delete_key(self, ifindex: int, peer_id: int, slot: KeySlot) -> None:
        """KEY_DEL. An empty slot is no error."""
        step = f"{slot.name.lower()} key of peer {peer_id} cannot be deleted"
        self._request(step, OVPN_CMD_KEY_DEL, ifindex, slot_nest(peer_id, slot))

    def _request(
        self, step: str, command: int, ifindex: int, *nests: Any, dump: bool = False
    ) -> list[Any]:
        message = encode_request(command, ifindex, *nests)
        ask = self._requests.dump if dump else self._requests.request
        return [
            decode_message(answer.data)
            for answer in ask(self._family, message, step)
            if answer.kind == self._family
        ]
