"""Is the driver there, may we use it, and what does it know? Nothing is changed by asking.

What a driver knows is asked of itself, by the policies that the kernel tells (CTRL_CMD_GETPOLICY):
its version says little, since distributions take changes back into older kernels."""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DcoError, PermissionDenied, error_for
from .answers import HEADER_SIZE, Message, attributes
from .codec import encode_request, peer_id_nest
from .family import (
    OVPN_CMD_PEER_GET,
    OVPN_CMD_PEER_NEW,
    OVPN_FAMILY_NAME,
    OVPN_MCGRP_PEERS,
)
from .sockets import NETLINK_GENERIC, RequestSocket

# linux/genetlink.h
_CTRL = 0x10
_GETFAMILY, _GETPOLICY = 3, 10
_FAMILY_ID, _FAMILY_NAME, _MCAST_GROUPS, _POLICY, _OP_POLICY = 1, 2, 7, 8, 9
_GROUP_NAME, _GROUP_ID = 1, 2
_OP_POLICY_DO = 1
_NESTED_POLICY = 8  # NL_POLICY_TYPE_ATTR_POLICY_IDX of linux/netlink.h
_GENL_HEADER = 4

_A_PEER, _A_PEER_TX_ID = 2, 24  # OVPN_A_PEER, OVPN_A_PEER_TX_ID
_CAP_NET_ADMIN = 12
_INITIAL_USER_NAMESPACE = 0xEFFFFFFD  # PROC_USER_INIT_INO of linux/proc_ns.h


@dataclass(frozen=True)
class Family:
    """The family as this kernel has it: numbers that are good until the module is unloaded.

    `tx_id`: what is sent to a peer may carry another id than what it sends; the first versions of
    the driver could not do that."""

    number: int
    peers_group: int
    tx_id: bool


@dataclass(frozen=True)
class Availability:
    """What `probe` found. `family` is None while the driver is not loaded; it is `loadable` if its
    module is there for the running kernel, and is then loaded by whoever makes the first interface.

    `permitted`: CAP_NET_ADMIN in the initial user namespace, which a container seldom has."""

    family: Family | None
    loadable: bool
    permitted: bool

    @property
    def usable(self) -> bool:
        """Whether an interface can be made and used."""
        return self.permitted and (self.family is not None or self.loadable)

    @property
    def reason(self) -> str | None:
        """Why it is not usable; None where it is."""
        if self.family is None and not self.loadable:
            return "this kernel has no ovpn driver (Linux 6.16 has it)"
        if not self.permitted:
            return "the ovpn driver wants CAP_NET_ADMIN in the initial user namespace"
        return None


def probe() -> Availability:
    """Looks around; never raises for what is missing."""
    try:
        requests = RequestSocket(NETLINK_GENERIC)
    except DcoError:
        return Availability(None, loadable=False, permitted=False)
    try:
        family = _look(requests)
        permitted = _has_privilege() if family is None else _may_ask(requests, family.number)
    finally:
        requests.close()
    return Availability(family, family is None and _module_exists(), permitted)


def find_family() -> Family:
    """The family, whose module the kernel loads if it has to. UnsupportedError: there is none."""
    requests = RequestSocket(NETLINK_GENERIC)
    try:
        message = _control_message(_GETFAMILY)
        step = "the family of the ovpn driver cannot be found"
        try:
            requests.request(_CTRL, message, step)  # the name loads, where a dump does not
        except DcoError as error:
            raise error_for(errno.EOPNOTSUPP, error.strerror or step) from None
        family = _look(requests)
    finally:
        requests.close()
    if family is None:
        raise error_for(errno.EOPNOTSUPP, "the family of the ovpn driver has gone")
    return family


def _control_message(command: int, *, named: bool = True) -> Any:
    from pyroute2.netlink import ctrlmsg

    message = ctrlmsg()
    message["cmd"] = command
    message["version"] = 1
    message["attrs"] = [("CTRL_ATTR_FAMILY_NAME", OVPN_FAMILY_NAME)] if named else []
    return message


def _look(requests: RequestSocket) -> Family | None:
    """From the list of all families, since asking for one by its name may load its module."""
    answers = requests.dump(_CTRL, _control_message(_GETFAMILY, named=False), "generic netlink")
    for answer in answers:
        found = dict(_payload(answer))
        if found.get(_FAMILY_NAME, b"").rstrip(b"\0") == OVPN_FAMILY_NAME.encode():
            (number,) = struct.unpack("=H", found[_FAMILY_ID])
            group = _peers_group(found.get(_MCAST_GROUPS, b""))
            return Family(number, group, _A_PEER_TX_ID in _peer_attributes(requests))
    return None


def _peers_group(groups: bytes) -> int:
    for _, group in _inside(groups):
        found = dict(_inside(group))
        if found.get(_GROUP_NAME, b"").rstrip(b"\0") == OVPN_MCGRP_PEERS.encode():
            return _number(found[_GROUP_ID])
    return 0


def _peer_attributes(requests: RequestSocket) -> Mapping[int, int | None]:
    """What PEER_NEW takes in OVPN_A_PEER: command to policy, attribute of that to the policy of its
    nest. The kernel leaves out attributes in network order, addresses and ports."""
    step = "the policies of the ovpn driver cannot be read"
    policies: dict[int, dict[int, int | None]] = {}
    first = None
    for answer in requests.dump(_CTRL, _control_message(_GETPOLICY), step):
        for kind, payload in _payload(answer):
            for number, inner in _inside(payload):
                if kind == _OP_POLICY and number == OVPN_CMD_PEER_NEW:
                    first = _number(dict(_inside(inner)).get(_OP_POLICY_DO, b""))
                elif kind == _POLICY:
                    for attribute, what in _inside(inner):
                        nested = dict(_inside(what)).get(_NESTED_POLICY)
                        index = None if nested is None else _number(nested)
                        policies.setdefault(number, {})[attribute] = index
    nest = policies.get(-1 if first is None else first, {}).get(_A_PEER)
    return policies.get(-1 if nest is None else nest, {})


def _payload(message: Message) -> Iterator[tuple[int, bytes]]:
    if message.kind == _CTRL:
        yield from _inside(message.data[HEADER_SIZE + _GENL_HEADER :])


def _inside(data: bytes) -> Iterator[tuple[int, bytes]]:
    return ((kind, payload) for _, kind, payload in attributes(data, 0, len(data)))


def _number(payload: bytes) -> int:
    return int.from_bytes(payload[:4], sys.byteorder)


def _may_ask(requests: RequestSocket, family: int) -> bool:
    """The kernel looks at the privilege before it looks for the interface, and there is none."""
    try:
        message = encode_request(OVPN_CMD_PEER_GET, 0, peer_id_nest(0))
        requests.request(family, message, "probe")
    except PermissionDenied:
        return False
    except DcoError:
        pass
    return True


def _has_privilege() -> bool:
    """The same by what /proc says, while there is no driver to ask."""
    try:
        status = Path("/proc/self/status").read_text()
        namespace = os.stat("/proc/self/ns/user").st_ino
    except OSError:
        return False
    effective = next(
        (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0
    )
    return bool(effective >> _CAP_NET_ADMIN & 1) and namespace == _INITIAL_USER_NAMESPACE


def _module_exists() -> bool:
    """In the list of modules that depmod(8) leaves for modprobe(8)."""
    try:
        listed = Path("/lib/modules", os.uname().release, "modules.dep").read_text()
    except OSError:
        return False
    return any("/ovpn/ovpn.ko" in line.partition(":")[0] for line in listed.splitlines())
