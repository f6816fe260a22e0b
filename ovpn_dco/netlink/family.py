"""The generic netlink family `ovpn` in pyroute2's own form: numbers, message, sockets.

Numbers and names are those of the uapi header `linux/ovpn.h` (Linux 6.16) and of its YAML
description, Documentation/netlink/specs/ovpn.yaml. Needs pyroute2 and nothing else of this
package, whose typed interface stands on `ovpnmsg` alone: the sockets below, which run an event
loop of their own, are for programs that are built on pyroute2."""

from __future__ import annotations

import sys
from typing import Any

from pyroute2.netlink import (
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    genlmsg,
    nla,
    nla_base_string,
)
from pyroute2.netlink.generic import AsyncGenericNetlinkSocket, GenericNetlinkSocket

OVPN_FAMILY_NAME = "ovpn"
OVPN_FAMILY_VERSION = 1
OVPN_MCGRP_PEERS = "peers"
OVPN_NONCE_TAIL_SIZE = 8

OVPN_CMD_PEER_NEW = 1
OVPN_CMD_PEER_SET = 2
OVPN_CMD_PEER_GET = 3
OVPN_CMD_PEER_DEL = 4
OVPN_CMD_PEER_DEL_NTF = 5
OVPN_CMD_KEY_NEW = 6
OVPN_CMD_KEY_GET = 7
OVPN_CMD_KEY_SWAP = 8
OVPN_CMD_KEY_SWAP_NTF = 9
OVPN_CMD_KEY_DEL = 10
OVPN_CMD_PEER_FLOAT_NTF = 11

# Attributes of an ovpn interface in IFLA_INFO_DATA of rtnetlink, linux/if_link.h.
IFLA_OVPN_MODE = 1


class _Number(nla_base_string):  # type: ignore[misc]
    """An unsigned number of 1, 2, 4 or 8 bytes, as the sender liked: attributes of type `uint`,
    and the key id of OVPN_CMD_KEY_SWAP_NTF, which has two bytes where four are declared."""

    __slots__ = ()

    def encode(self) -> None:
        number = self.value
        size = 4 if number < 1 << 32 else 8
        self["value"] = number.to_bytes(size, sys.byteorder)
        super().encode()

    def decode(self) -> None:
        super().decode()
        self.value = int.from_bytes(self["value"], sys.byteorder)  # type: ignore[misc]


class ovpnmsg(genlmsg):  # type: ignore[misc] # noqa: N801
    """Every request, reply and notification of the family."""

    __slots__ = ()
    prefix = "OVPN_A_"

    nla_map = (
        ("OVPN_A_UNSPEC", "none"),
        ("OVPN_A_IFINDEX", "uint32"),
        ("OVPN_A_PEER", "peer"),
        ("OVPN_A_KEYCONF", "keyconf"),
    )

    class peer(nla):  # type: ignore[misc] # noqa: N801
        """A peer: which one, where it is, what it may be asked about."""

        __slots__ = ()
        prefix = "OVPN_A_PEER_"
        nla_flags = NLA_F_NESTED

        nla_map = (
            ("OVPN_A_PEER_UNSPEC", "none"),
            ("OVPN_A_PEER_ID", "uint32"),
            ("OVPN_A_PEER_REMOTE_IPV4", "ip4addr"),
            ("OVPN_A_PEER_REMOTE_IPV6", "ip6addr"),
            ("OVPN_A_PEER_REMOTE_IPV6_SCOPE_ID", "uint32"),
            ("OVPN_A_PEER_REMOTE_PORT", "be16"),
            ("OVPN_A_PEER_SOCKET", "uint32"),
            ("OVPN_A_PEER_SOCKET_NETNSID", "int32"),
            ("OVPN_A_PEER_VPN_IPV4", "ip4addr"),
            ("OVPN_A_PEER_VPN_IPV6", "ip6addr"),
            ("OVPN_A_PEER_LOCAL_IPV4", "ip4addr"),
            ("OVPN_A_PEER_LOCAL_IPV6", "ip6addr"),
            ("OVPN_A_PEER_LOCAL_PORT", "be16"),
            ("OVPN_A_PEER_KEEPALIVE_INTERVAL", "uint32"),
            ("OVPN_A_PEER_KEEPALIVE_TIMEOUT", "uint32"),
            ("OVPN_A_PEER_DEL_REASON", "uint32"),
            ("OVPN_A_PEER_VPN_RX_BYTES", "number"),
            ("OVPN_A_PEER_VPN_TX_BYTES", "number"),
            ("OVPN_A_PEER_VPN_RX_PACKETS", "number"),
            ("OVPN_A_PEER_VPN_TX_PACKETS", "number"),
            ("OVPN_A_PEER_LINK_RX_BYTES", "number"),
            ("OVPN_A_PEER_LINK_TX_BYTES", "number"),
            ("OVPN_A_PEER_LINK_RX_PACKETS", "number"),
            ("OVPN_A_PEER_LINK_TX_PACKETS", "number"),
            ("OVPN_A_PEER_TX_ID", "uint32"),
        )
        number = _Number

    class keyconf(nla):  # type: ignore[misc] # noqa: N801
        """A data key of a peer: which slot, which id, and when it is installed its material."""

        __slots__ = ()
        prefix = "OVPN_A_KEYCONF_"
        nla_flags = NLA_F_NESTED

        nla_map = (
            ("OVPN_A_KEYCONF_UNSPEC", "none"),
            ("OVPN_A_KEYCONF_PEER_ID", "uint32"),
            ("OVPN_A_KEYCONF_SLOT", "uint32"),
            ("OVPN_A_KEYCONF_KEY_ID", "number"),
            ("OVPN_A_KEYCONF_CIPHER_ALG", "uint32"),
            ("OVPN_A_KEYCONF_ENCRYPT_DIR", "keydir"),
            ("OVPN_A_KEYCONF_DECRYPT_DIR", "keydir"),
        )
        number = _Number

        class keydir(nla):  # type: ignore[misc] # noqa: N801
            """Key and implicit part of the nonce of one direction."""

            __slots__ = ()
            prefix = "OVPN_A_KEYDIR_"
            nla_flags = NLA_F_NESTED

            nla_map = (
                ("OVPN_A_KEYDIR_UNSPEC", "none"),
                ("OVPN_A_KEYDIR_CIPHER_KEY", "cdata"),
                ("OVPN_A_KEYDIR_NONCE_TAIL", "cdata"),
            )


class ovpn(nla):  # type: ignore[misc] # noqa: N801
    """IFLA_INFO_DATA of links of kind `ovpn`."""

    __slots__ = ()
    prefix = "IFLA_OVPN_"
    nla_map = (("IFLA_OVPN_UNSPEC", "none"), ("IFLA_OVPN_MODE", "uint8"))


class AsyncOvpn(AsyncGenericNetlinkSocket):  # type: ignore[misc]
    """The family on an asyncio socket of pyroute2: attributes in, messages out."""

    async def setup_endpoint(self) -> None:
        """Looks the family up; pyroute2 calls it."""
        if getattr(self.local, "transport", None) is None:
            await super().setup_endpoint()
            await self.bind(OVPN_FAMILY_NAME, ovpnmsg)

    async def request(
        self, command: int, ifindex: int, *, dump: bool = False, **nests: list[Any]
    ) -> list[Any]:
        """One command for an interface; `peer` and `keyconf` are lists of (name, value)."""
        msg = ovpnmsg()
        msg["cmd"] = command
        msg["version"] = OVPN_FAMILY_VERSION
        msg["attrs"] = [("OVPN_A_IFINDEX", ifindex)]
        for name, attributes in nests.items():
            msg["attrs"].append((f"OVPN_A_{name.upper()}", {"attrs": attributes}))
        flags = NLM_F_REQUEST | (NLM_F_DUMP if dump else NLM_F_ACK)
        return [x async for x in await self.nlm_request(msg, msg_type=self.prid, msg_flags=flags)]


class Ovpn(GenericNetlinkSocket):  # type: ignore[misc]
    """The same for programs without asyncio."""

    async_class = AsyncOvpn

    def request(
        self, command: int, ifindex: int, *, dump: bool = False, **nests: list[Any]
    ) -> list[Any]:
        """As `AsyncOvpn.request`."""
        return list(
            self._run_with_cleanup(self.asyncore.request, command, ifindex, dump=dump, **nests)
        )
