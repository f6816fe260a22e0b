"""Values to messages of the family and back. Bytes in, values out; no socket.

`ovpnmsg` knows the attributes, this module what they mean together: which family of address, which
nest for which command, and what a caller has to give."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Callable
from typing import Any

from ..errors import error_for
from ..model import Address, DataKey, DeleteReason, KeyDirection, KeySlot, PeerStats
from .family import (
    OVPN_CMD_KEY_SWAP_NTF,
    OVPN_CMD_PEER_DEL_NTF,
    OVPN_CMD_PEER_FLOAT_NTF,
    OVPN_FAMILY_VERSION,
    ovpnmsg,
)
from .values import (
    Algorithm,
    DeletedNotice,
    FloatedNotice,
    KeyState,
    KeySwapNotice,
    Notice,
    PeerAttributes,
    PeerState,
)

_Cells = list[tuple[str, Any]]

# Counters of a peer: of `PeerStats` those that the driver has, by the name of their attribute.
_COUNTERS = {
    f"OVPN_A_PEER_{name.upper()}": name
    for side in ("vpn", "link")
    for unit in ("bytes", "packets")
    for name in (f"{side}_rx_{unit}", f"{side}_tx_{unit}")
}


# Requests


def encode_request(command: int, ifindex: int, *nests: tuple[str, _Cells]) -> Any:
    """A message without its netlink header filled in: that is the socket's part."""
    message = ovpnmsg()
    message["cmd"] = command
    message["version"] = OVPN_FAMILY_VERSION
    message["attrs"] = [("OVPN_A_IFINDEX", ifindex)]
    message["attrs"] += [(name, {"attrs": cells}) for name, cells in nests]
    return message


def peer_nest(peer: PeerAttributes) -> tuple[str, _Cells]:
    """OVPN_A_PEER of PEER_NEW and PEER_SET. InvalidArgument for an address that is none; all else
    is the driver's to judge."""
    values = {
        "ID": peer.peer_id,
        **_remote_cells(peer.remote),
        "SOCKET": peer.socket,
        "VPN_IPV4": _address(peer.vpn_ipv4, "vpn_ipv4", 4),
        "VPN_IPV6": _address(peer.vpn_ipv6, "vpn_ipv6", 6),
        **_local_cells(peer.local),
        "KEEPALIVE_INTERVAL": peer.keepalive_interval_s,
        "KEEPALIVE_TIMEOUT": peer.keepalive_timeout_s,
        "TX_ID": peer.tx_id,
    }
    return "OVPN_A_PEER", _cells("OVPN_A_PEER_", values)


def peer_id_nest(peer_id: int) -> tuple[str, _Cells]:
    """OVPN_A_PEER of PEER_GET and PEER_DEL, which allow nothing else in it."""
    return "OVPN_A_PEER", [("OVPN_A_PEER_ID", peer_id)]


def key_nest(peer_id: int, slot: KeySlot, key: DataKey) -> tuple[str, _Cells]:
    """OVPN_A_KEYCONF of KEY_NEW. UnsupportedError for a key that is to begin with another packet
    id than 1, which the driver has no word for."""
    if key.first_packet_id != 1:
        message = f"first_packet_id {key.first_packet_id}: the driver's keys begin with 1"
        raise error_for(errno.EOPNOTSUPP, message, attribute="first_packet_id")
    values = {
        "PEER_ID": peer_id,
        "SLOT": int(slot),
        "KEY_ID": key.key_id,
        "CIPHER_ALG": key.cipher.number,
        "ENCRYPT_DIR": _direction(key.encrypt),
        "DECRYPT_DIR": _direction(key.decrypt),
    }
    return "OVPN_A_KEYCONF", _cells("OVPN_A_KEYCONF_", values)


def slot_nest(peer_id: int, slot: KeySlot | None = None) -> tuple[str, _Cells]:
    """OVPN_A_KEYCONF of KEY_GET and KEY_DEL, and without a slot that of KEY_SWAP."""
    values = {"PEER_ID": peer_id, "SLOT": None if slot is None else int(slot)}
    return "OVPN_A_KEYCONF", _cells("OVPN_A_KEYCONF_", values)


def _direction(direction: KeyDirection) -> dict[str, _Cells]:
    values = {"CIPHER_KEY": bytes(direction.key), "NONCE_TAIL": bytes(direction.nonce_tail)}
    return {"attrs": _cells("OVPN_A_KEYDIR_", values)}


def _cells(prefix: str, values: dict[str, Any]) -> _Cells:
    return [(prefix + name, value) for name, value in values.items() if value is not None]


def _remote_cells(remote: Address | None) -> dict[str, Any]:
    if remote is None:
        return {}
    host = _parse(remote[0], "remote")
    cells = {f"REMOTE_IPV{host.version}": str(host), "REMOTE_PORT": remote[1]}
    if host.version == 6 and len(remote) == 4 and remote[3]:
        cells["REMOTE_IPV6_SCOPE_ID"] = remote[3]
    return cells


def _local_cells(local: str | None) -> dict[str, Any]:
    if local is None:
        return {}
    host = _parse(local, "local")
    return {f"LOCAL_IPV{host.version}": str(host)}


def _address(text: str | None, attribute: str, version: int) -> str | None:
    if text is None:
        return None
    host = _parse(text, attribute)
    if host.version != version:
        raise error_for(errno.EINVAL, f"{attribute} {text} is no IPv{version}", attribute=attribute)
    return str(host)


def _parse(text: str, attribute: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A scope in the text is refused, as by the other engine: `remote` has a number for it, the
    others have none."""
    try:
        if "%" not in text:
            return ipaddress.ip_address(text)
    except (ValueError, TypeError):
        pass
    message = f"{attribute} {text!r} is no address without a scope"
    raise error_for(errno.EINVAL, message, attribute=attribute)


# Replies and notifications


def decode_message(data: bytes | bytearray) -> Any:
    """One message, its netlink header included, as `ovpnmsg`. EBADMSG for one that is malformed."""
    from pyroute2.netlink.exceptions import NetlinkDecodeError

    message = ovpnmsg(data)
    try:
        message.decode()
    except NetlinkDecodeError as error:
        raise error_for(errno.EBADMSG, f"malformed message of the driver: {error}") from None
    return message


def decode_peer(message: Any) -> PeerState:
    """The reply to PEER_GET, and each message of its dump."""
    peer = _nest(message, "OVPN_A_PEER")

    def get(name: str) -> Any:
        return peer.get_attr(f"OVPN_A_PEER_{name}")

    counters = {name: peer.get_attr(attribute) or 0 for attribute, name in _COUNTERS.items()}
    return PeerState(
        peer_id=_required(peer, "OVPN_A_PEER_ID"),
        tx_id=get("TX_ID"),
        remote=_remote(get),
        local=get("LOCAL_IPV4") or get("LOCAL_IPV6"),
        local_port=get("LOCAL_PORT"),
        socket_netnsid=get("SOCKET_NETNSID"),
        vpn_ipv4=get("VPN_IPV4"),
        vpn_ipv6=get("VPN_IPV6"),
        keepalive_interval_s=get("KEEPALIVE_INTERVAL") or 0,
        keepalive_timeout_s=get("KEEPALIVE_TIMEOUT") or 0,
        stats=PeerStats(**counters),
    )


def decode_key(message: Any) -> KeyState:
    """The reply to KEY_GET."""
    key = _nest(message, "OVPN_A_KEYCONF")
    return KeyState(
        peer_id=_required(key, "OVPN_A_KEYCONF_PEER_ID"),
        slot=KeySlot(_required(key, "OVPN_A_KEYCONF_SLOT")),
        key_id=_required(key, "OVPN_A_KEYCONF_KEY_ID"),
        algorithm=Algorithm(_required(key, "OVPN_A_KEYCONF_CIPHER_ALG")),
    )


def decode_notice(message: Any) -> Notice | None:
    """What a notification tells; None for one of a later driver, or a reason of its own kind: a
    listener must not die of what it need not know."""
    reader = _NOTICES.get(message["cmd"])
    return reader(message, _required(message, "OVPN_A_IFINDEX")) if reader else None


def _deleted(message: Any, ifindex: int) -> Notice:
    peer = _nest(message, "OVPN_A_PEER")
    number = _required(peer, "OVPN_A_PEER_DEL_REASON")
    known = number in DeleteReason._value2member_map_
    return DeletedNotice(
        ifindex=ifindex,
        peer_id=_required(peer, "OVPN_A_PEER_ID"),
        reason=DeleteReason(number) if known else None,
    )


def _floated(message: Any, ifindex: int) -> Notice:
    peer = _nest(message, "OVPN_A_PEER")
    remote = _remote(lambda name: peer.get_attr(f"OVPN_A_PEER_{name}"))
    if remote is None:
        raise _lacks("OVPN_A_PEER_REMOTE_IPV4")
    peer_id = _required(peer, "OVPN_A_PEER_ID")
    return FloatedNotice(ifindex=ifindex, peer_id=peer_id, remote=remote)


def _key_swap(message: Any, ifindex: int) -> Notice:
    key = _nest(message, "OVPN_A_KEYCONF")
    return KeySwapNotice(
        ifindex=ifindex,
        peer_id=_required(key, "OVPN_A_KEYCONF_PEER_ID"),
        key_id=_required(key, "OVPN_A_KEYCONF_KEY_ID"),
    )


_NOTICES: dict[int, Callable[[Any, int], Notice]] = {
    OVPN_CMD_PEER_DEL_NTF: _deleted,
    OVPN_CMD_PEER_FLOAT_NTF: _floated,
    OVPN_CMD_KEY_SWAP_NTF: _key_swap,
}


def _remote(get: Callable[[str], Any]) -> Address | None:
    port = get("REMOTE_PORT") or 0
    if get("REMOTE_IPV4"):
        return get("REMOTE_IPV4"), port
    if get("REMOTE_IPV6"):
        return get("REMOTE_IPV6"), port, 0, get("REMOTE_IPV6_SCOPE_ID") or 0
    return None


def _nest(message: Any, name: str) -> Any:
    return _required(message, name)


def _required(nest: Any, name: str) -> Any:
    value = nest.get_attr(name)
    if value is None:
        raise _lacks(name)
    return value


def _lacks(name: str) -> Exception:
    return error_for(errno.EBADMSG, f"message of the driver lacks {name}")
