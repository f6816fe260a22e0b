"""Public test helpers: network namespaces joined by veth, held by descriptor."""

from ovpn_dco.testing.netns import (
    Link,
    Namespace,
    Topology,
    become_namespace_root,
    namespaces_available,
)

__all__ = [
    "Link",
    "Namespace",
    "Topology",
    "become_namespace_root",
    "namespaces_available",
]
