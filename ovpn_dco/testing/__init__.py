"""Public test helpers: network namespaces joined by veth, held by descriptor, and a clock."""

from ovpn_dco.testing.clock import FakeClock
from ovpn_dco.testing.netns import (
    Link,
    Namespace,
    Topology,
    become_namespace_root,
    namespaces_available,
)

__all__ = [
    "FakeClock",
    "Link",
    "Namespace",
    "Topology",
    "become_namespace_root",
    "namespaces_available",
]
