"""Values that all layers share: enumerations and frozen dataclasses, no behaviour.

Sizes are bytes. Addresses are as in the `socket` module: `(host, port)` for IPv4,
`(host, port, flowinfo, scope_id)` for IPv6; IPv4-mapped IPv6 never appears."""

from .choices import (
    AuthRetry,
    CertRole,
    ClientCert,
    FilterAction,
    NameType,
    TlsVersion,
    Topology,
)
from .events import (
    ControlPacket,
    ControlTransport,
    Event,
    InterfaceGone,
    KeySwapNeeded,
    KeySwapReason,
    PeerDeleted,
    PeerEvent,
    PeerFloated,
    PeerFloatRefused,
    TransportFailed,
)
from .keys import (
    DataKey,
    EpochKey,
    KeyDirection,
    KeyInfo,
)
from .kinds import (
    DEFAULT_CIPHERS,
    Address,
    Buffer,
    Cipher,
    DeleteReason,
    DropReason,
    KeySlot,
    Mode,
    SourceCheck,
    TransportKind,
)
from .offloads import (
    Feature,
    Offload,
    Offloads,
)
from .settings import (
    PeerSetting,
    RateLimit,
)
from .statistics import (
    DeviceStats,
    PeerInfo,
    PeerStats,
    StatsTable,
    TransportInfo,
)

__all__ = [
    "DEFAULT_CIPHERS",
    "Address",
    "AuthRetry",
    "Buffer",
    "CertRole",
    "Cipher",
    "ClientCert",
    "ControlPacket",
    "ControlTransport",
    "DataKey",
    "DeleteReason",
    "DeviceStats",
    "DropReason",
    "EpochKey",
    "Event",
    "Feature",
    "FilterAction",
    "InterfaceGone",
    "KeyDirection",
    "KeyInfo",
    "KeySlot",
    "KeySwapNeeded",
    "KeySwapReason",
    "Mode",
    "NameType",
    "Offload",
    "Offloads",
    "PeerDeleted",
    "PeerEvent",
    "PeerFloatRefused",
    "PeerFloated",
    "PeerInfo",
    "PeerSetting",
    "PeerStats",
    "RateLimit",
    "SourceCheck",
    "StatsTable",
    "TlsVersion",
    "Topology",
    "TransportFailed",
    "TransportInfo",
    "TransportKind",
]
