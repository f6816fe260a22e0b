"""What sessions and configurations choose from."""

from __future__ import annotations

import enum


class Topology(enum.Enum):
    """What the second address of `ifconfig` is: a mask for SUBNET, else the peer's address. A
    server has SUBNET only."""

    SUBNET = "subnet"
    NET30 = "net30"
    P2P = "p2p"


class FilterAction(enum.Enum):
    """What `pull-filter` does with a pushed option that begins with its text."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"


class TlsVersion(enum.Enum):
    """Versions of TLS that are spoken; older ones are not."""

    V1_2 = "1.2"
    V1_3 = "1.3"


class ClientCert(enum.Enum):
    """What a server asks of clients, as `verify-client-cert` does. With NONE, or a client that has
    none under OPTIONAL, something else must tell who the client is."""

    REQUIRE = "require"
    OPTIONAL = "optional"
    NONE = "none"


class NameType(enum.Enum):
    """What `verify-x509-name` compares: the whole subject, the common name, or its beginning."""

    SUBJECT = "subject"
    NAME = "name"
    NAME_PREFIX = "name-prefix"


class CertRole(enum.Enum):
    """What `remote-cert-tls` asks the peer's certificate to be made for."""

    SERVER = "server"
    CLIENT = "client"


class AuthRetry(enum.Enum):
    """What a client does when its password was refused."""

    NONE = "none"
    NOINTERACT = "nointeract"
    INTERACT = "interact"
