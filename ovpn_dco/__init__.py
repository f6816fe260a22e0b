"""OpenVPN data channel offload in userspace.

A `Device` carries packets between a TUN interface and UDP or TCP sockets, sealed and opened with
the keys of its peers, in threads that never run Python. Everything public is named here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .control import ControlPort
from .device import Device
from .errors import (
    AddressInUse,
    AlreadyExists,
    Busy,
    ConnectionFailed,
    DcoError,
    DeviceClosed,
    InterfaceMissing,
    InvalidArgument,
    LimitReached,
    LoginRefused,
    MessageTooBig,
    NotASocket,
    NotFound,
    OutOfRange,
    PermissionDenied,
    TryAgain,
    UnsupportedError,
)
from .forwarding import Forwarding
from .model import (
    Address,
    Cipher,
    ControlPacket,
    DataKey,
    DeleteReason,
    DeviceStats,
    DropReason,
    Ecn,
    EpochKey,
    Event,
    Feature,
    ForwardingMode,
    InterfaceGone,
    KeyDirection,
    KeyInfo,
    KeySlot,
    KeySwapNeeded,
    KeySwapReason,
    Limit,
    Marking,
    Measure,
    Mode,
    MssClamp,
    Multicast,
    Offload,
    Offloads,
    PathLimit,
    PeerDeleted,
    PeerEvent,
    PeerFloated,
    PeerFloatRefused,
    PeerInfo,
    PeerLimitReached,
    PeerLimits,
    PeerStats,
    RateLimit,
    SourceCheck,
    StatsTable,
    TracePoint,
    TransportFailed,
    TransportInfo,
    TransportKind,
)
from .peer import Peer, Peers, PeerSpec
from .routes import Route, Routes
from .transport import Transport

if TYPE_CHECKING:
    from .client import Client, TunnelInfo
    from .server import ConnectedClient, Server, ServerStats
    from .trace import Trace

# What stands on TLS and asyncio, or is rarely used, is loaded when it is asked for (PEP 562).
_LAZY = {
    "Client": "client",
    "ConnectedClient": "server",
    "Server": "server",
    "ServerStats": "server",
    "Trace": "trace",
    "TunnelInfo": "client",
}

__all__ = [
    "Address",
    "AddressInUse",
    "AlreadyExists",
    "Busy",
    "Cipher",
    "Client",
    "ConnectedClient",
    "ConnectionFailed",
    "ControlPacket",
    "ControlPort",
    "DataKey",
    "DcoError",
    "DeleteReason",
    "Device",
    "DeviceClosed",
    "DeviceStats",
    "DropReason",
    "Ecn",
    "EpochKey",
    "Event",
    "Feature",
    "Forwarding",
    "ForwardingMode",
    "InterfaceGone",
    "InterfaceMissing",
    "InvalidArgument",
    "KeyDirection",
    "KeyInfo",
    "KeySlot",
    "KeySwapNeeded",
    "KeySwapReason",
    "Limit",
    "LimitReached",
    "LoginRefused",
    "Marking",
    "Measure",
    "MessageTooBig",
    "Mode",
    "MssClamp",
    "Multicast",
    "NotASocket",
    "NotFound",
    "Offload",
    "Offloads",
    "OutOfRange",
    "PathLimit",
    "Peer",
    "PeerDeleted",
    "PeerEvent",
    "PeerFloatRefused",
    "PeerFloated",
    "PeerInfo",
    "PeerLimitReached",
    "PeerLimits",
    "PeerSpec",
    "PeerStats",
    "Peers",
    "PermissionDenied",
    "RateLimit",
    "Route",
    "Routes",
    "Server",
    "ServerStats",
    "SourceCheck",
    "StatsTable",
    "Trace",
    "TracePoint",
    "Transport",
    "TransportFailed",
    "TransportInfo",
    "TransportKind",
    "TryAgain",
    "TunnelInfo",
    "UnsupportedError",
]


def __getattr__(name: str) -> Any:
    try:
        module = importlib.import_module(f".{_LAZY[name]}", __name__)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
