"""A device's state as bytes, from which another device goes on: in another process of this machine,
with the descriptors of interface and sockets handed over (docs/architecture.md, "Handing over").

JSON of one version; numbers and names as in `dco.h`, bytes in hexadecimal. It holds keys: whoever
stores or sends it seals it. What is not in it: events and control packets that nobody has read, and
connections of a listener that have no peer."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .backend.base import PeerRef
from .errors import InvalidArgument
from .model import Buffer, ForwardingMode, KeySlot, Mode, SourceCheck, TransportKind
from .transport import cookie_of
from .validation.rules import refuse

if TYPE_CHECKING:
    from .backend.userspace import UserspaceBackend
    from .transport import Transports

FORMAT = "ovpn_dco device state"
VERSION = 1
RawAddress = tuple[bytes, int, int]


@dataclass(frozen=True)
class DeviceState:
    """What `export` wrote, checked as far as it can be without an engine."""

    mode: Mode
    workers: int
    source_check: SourceCheck
    icmp_unreachable: bool
    max_peers: int
    tun_queues: int
    transports: list[dict[str, Any]]
    peers: list[dict[str, Any]]
    forwarding: ForwardingMode
    copies_per_s: int

    @property
    def descriptors(self) -> int:
        """How many go with it: the interface's queues, then each transport's sockets."""
        return self.tun_queues + sum(int(t["sockets"]) for t in self.transports)


def _boot_id() -> str:
    # Times are of this boot's clock; sockets do not outlive it either.
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


# Out


def write(
    backend: UserspaceBackend,
    *,
    mode: Mode,
    source_check: SourceCheck,
    icmp_unreachable: bool,
    max_peers: int,
    transports: Iterable[int],
    of_peers: Mapping[str, Mapping[PeerRef, Any]],
    of_device: Mapping[str, Any],
    reserve: int,
) -> tuple[bytearray, list[int]]:
    """The state of a halted engine, and its own descriptors in the order of the state.

    `of_peers` is what the engine does not know of its peers: lists, by name and peer; `of_device`
    likewise, by name."""
    fds = backend.tun_queues()
    queues = len(fds)
    carried: list[dict[str, Any]] = []
    for number in transports:
        exported = backend.export_transport(number)
        if exported is None:
            continue  # it has failed: its peers have gone with it
        values, sockets = exported
        carried.append({"number": number, "sockets": len(sockets), **values})
        fds += sockets
    state = {
        "format": FORMAT,
        "version": VERSION,
        "boot_id": _boot_id(),
        "mode": int(mode),
        "workers": backend.workers,
        "source_check": source_check.value,
        "icmp_unreachable": icmp_unreachable,
        "max_peers": max_peers,
        "tun_queues": queues,
        "transports": carried,
        **of_device,
        "peers": list(_peers_out(backend, of_peers, reserve)),
    }
    return bytearray(json.dumps(state, default=_hex).encode()), fds


def _hex(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    raise TypeError(f"{value!r} is no part of a state")


def _peers_out(
    backend: UserspaceBackend,
    of_peers: Mapping[str, Mapping[PeerRef, Any]],
    reserve: int,
) -> Iterator[dict[str, Any]]:
    for ref in backend.peers():
        keys = {slot.name: backend.export_key(ref, slot, reserve) for slot in KeySlot}
        yield {
            **backend.export_peer(ref),
            **{name: of_peer.get(ref, []) for name, of_peer in of_peers.items()},
            "keys": {name: key for name, key in keys.items() if key is not None},
        }


# In


def read(data: Buffer, mode: Mode) -> DeviceState:
    """Raises InvalidArgument for what is no state, one of another version, mode or boot."""
    try:
        state = json.loads(bytes(data))
        if state["format"] != FORMAT:
            raise ValueError(state["format"])
    except (KeyError, TypeError, ValueError):
        raise refuse(errno.EINVAL, "restore", "is not the state of a device") from None
    if state.get("version") != VERSION:
        message = f"is of version {state.get('version')!r}: this release reads {VERSION}"
        raise refuse(errno.EINVAL, "restore", message)
    if state.get("boot_id") != _boot_id():
        raise refuse(errno.EINVAL, "restore", "is of another machine, or from before its last boot")
    try:
        found = DeviceState(
            mode=Mode(state["mode"]),
            workers=int(state["workers"]),
            source_check=SourceCheck(state["source_check"]),
            icmp_unreachable=bool(state.get("icmp_unreachable")),
            max_peers=int(state["max_peers"]),
            tun_queues=int(state["tun_queues"]),
            transports=[_transport_in(values) for values in state["transports"]],
            peers=[_peer_in(values) for values in state["peers"]],
            # Absent from states of older releases.
            forwarding=ForwardingMode(state.get("forwarding", "off")),
            copies_per_s=int(state.get("copies_per_s", 0)),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise refuse(errno.EINVAL, "restore", f"is damaged: {error!r}") from None
    if found.mode is not mode:
        raise refuse(errno.EINVAL, "mode", f"is not that of the state, {found.mode.name}")
    return found


def _transport_in(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "bytes": bytes.fromhex(values["bytes"]), "sockets": int(values["sockets"])}


def _address_in(value: list[Any] | None) -> RawAddress | None:
    return None if value is None else (bytes.fromhex(value[0]), int(value[1]), int(value[2]))


SECRETS = ("encrypt", "decrypt", "encrypt_nonce_tail", "decrypt_nonce_tail")


def _peer_in(values: dict[str, Any]) -> dict[str, Any]:
    return {
        **values,
        "remote": _address_in(values["remote"]),
        "local": _address_in(values["local"]),
        "vpn_ipv4": bytes.fromhex(values["vpn_ipv4"]),
        "vpn_ipv6": bytes.fromhex(values["vpn_ipv6"]),
        **{
            kind: [(bytes.fromhex(ip), int(bits)) for ip, bits in values.get(kind, [])]
            for kind in ("routes", "watched_routes")
        },
        "permits": [int(peer_id) for peer_id in values.get("permits", [])],
        "keys": {
            KeySlot[name]: {**key, **{secret: bytes.fromhex(key[secret]) for secret in SECRETS}}
            for name, key in values["keys"].items()
        },
    }


def restore_transports(
    backend: UserspaceBackend, transports: Transports, state: DeviceState, fds: Sequence[int]
) -> dict[int, int]:
    """Brings the transports into an engine that has not started; old number to new. `fds` are the
    sockets in the order of the state."""
    numbers, at = {}, 0
    for values in state.transports:
        sockets = fds[at : at + values["sockets"]]
        at += len(sockets)
        number = backend.import_transport(values, sockets)
        transports.add(
            number,
            TransportKind(values["kind"]),
            cookie=cookie_of(sockets[0]),
            accepted=values["accepted"],
        )
        numbers[values["number"]] = number
    return numbers


def restore_peers(
    backend: UserspaceBackend, state: DeviceState, numbers: dict[int, int]
) -> tuple[dict[tuple[bytes, int], tuple[int, int]], dict[tuple[bytes, int], tuple[int, int]]]:
    """Brings the peers with keys and routes; the routes by prefix, added and watched ones."""
    routes: dict[tuple[bytes, int], tuple[int, int]] = {}
    watched: dict[tuple[bytes, int], tuple[int, int]] = {}
    for values in state.peers:
        if values["transport"] not in numbers:
            message = f"is damaged: peer {values['peer_id']} has no transport"
            raise InvalidArgument(errno.EINVAL, f"restore {message}", attribute="restore")
        ref = backend.import_peer(numbers[values["transport"]], values)
        for slot, key in values["keys"].items():
            backend.import_key(ref, slot, key)
        for kind, found in (("routes", routes), ("watched_routes", watched)):
            for prefix in values[kind]:
                backend.add_route(prefix, ref)
                found[prefix] = ref
    return routes, watched


def permits_of(backend: UserspaceBackend, state: DeviceState) -> dict[PeerRef, frozenset[PeerRef]]:
    """Who may reach whom, of the peers that were brought."""
    refs = {ref[0]: ref for ref in backend.peers()}
    return {
        refs[values["peer_id"]]: frozenset(refs[n] for n in values["permits"] if n in refs)
        for values in state.peers
        if values["permits"]
    }
