"""Switch features of a network device by the SIOCETHTOOL ioctl.

Works in any network namespace that the calling thread is in, without the ``ethtool`` program.
Numbers are those of ``linux/ethtool.h`` and ``linux/sockios.h``.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from collections.abc import Mapping

_SIOCETHTOOL = 0x8946
_GSSET_INFO = 0x37
_GSTRINGS = 0x1B
_GFEATURES = 0x3A
_SFEATURES = 0x3B
_SS_FEATURES = 4
_STRING_SIZE = 32

#: What lets a link carry several packets as one: all of it off makes a *bare wire*.
AGGREGATION = (
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-generic-segmentation",
    "rx-gro",
)


def _ioctl(sock: socket.socket, interface: str, command: bytes | bytearray) -> bytes:
    buffer = array.array("B", bytes(command))
    address, _ = buffer.buffer_info()
    request = struct.pack("16sP", interface.encode(), address)
    fcntl.ioctl(sock, _SIOCETHTOOL, request.ljust(40, b"\0"))
    return buffer.tobytes()


def _feature_names(sock: socket.socket, interface: str) -> list[str]:
    answer = _ioctl(sock, interface, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0))
    count = struct.unpack_from("=I", answer, 16)[0]
    header = struct.pack("=III", _GSTRINGS, _SS_FEATURES, count)
    answer = _ioctl(sock, interface, header.ljust(12 + count * _STRING_SIZE, b"\0"))
    return [
        answer[12 + i * _STRING_SIZE : 12 + (i + 1) * _STRING_SIZE].rstrip(b"\0").decode()
        for i in range(count)
    ]


def features(interface: str) -> dict[str, bool]:
    """The features in effect, by the kernel's names (``tx-udp-segmentation``).

    Raises OSError: ENODEV, EOPNOTSUPP.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        names = _feature_names(sock, interface)
        blocks = (len(names) + 31) // 32
        header = struct.pack("=II", _GFEATURES, blocks)
        answer = _ioctl(sock, interface, header.ljust(8 + blocks * 16, b"\0"))
    # struct ethtool_get_features_block: available, requested, active, never_changed
    active = [struct.unpack_from("=I", answer, 8 + block * 16 + 8)[0] for block in range(blocks)]
    return {name: bool(active[i // 32] >> i % 32 & 1) for i, name in enumerate(names) if name}


def set_features(interface: str, wanted: Mapping[str, bool]) -> None:
    """Switch features on or off; names that this kernel does not have are passed over.

    Raises OSError: EPERM, ENODEV, EOPNOTSUPP.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        names = _feature_names(sock, interface)
        blocks = (len(names) + 31) // 32
        valid, requested = [0] * blocks, [0] * blocks
        for i, name in enumerate(names):
            if name in wanted:
                valid[i // 32] |= 1 << i % 32
                requested[i // 32] |= int(wanted[name]) << i % 32
        pairs = [word for pair in zip(valid, requested, strict=False) for word in pair]
        _ioctl(sock, interface, struct.pack(f"=II{2 * blocks}I", _SFEATURES, blocks, *pairs))
