"""What makes no sense together, in tables: rules for every configuration, for clients, for servers.

A rule looks at the typed configuration, and at the names of the directives if it came from a file,
so that one made in code is judged by the same rules (`check`)."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from typing import Any

from ..model import ClientCert, Topology
from .endpoints import ClientConfig, ServerConfig
from .handlers import check_pushed
from .problems import Refusal


class Severity(enum.Enum):
    """ERROR refuses. LATE refuses too, but in a file it only warns: code can still provide what is
    missing there. WARNING warns."""

    ERROR = "error"
    LATE = "late"
    WARNING = "warning"


@dataclass(frozen=True)
class Subject:
    """A configuration, and the names of the directives in its file; none: it was made in code."""

    config: Any
    given: Set[str] = field(default_factory=frozenset)

    def both(self, first: str, *others: str) -> bool:
        """Whether the file has the first directive and one of the others."""
        return first in self.given and any(other in self.given for other in others)


@dataclass(frozen=True)
class Rule:
    """Complains about `directive` when `condition` holds, unless a line with one of `also` was
    refused already."""

    condition: Callable[[Subject], bool]
    directive: str
    reason: str
    severity: Severity = Severity.ERROR
    also: tuple[str, ...] = ()


def _wraps(subject: Subject) -> tuple[bool, bool, bool]:
    wrap = subject.config.wrap
    return wrap.tls_auth is not None, wrap.tls_crypt is not None, wrap.tls_crypt_v2 is not None


def _has_certificate(subject: Subject) -> bool:
    tls = subject.config.tls
    return tls.pkcs12 is not None or (tls.cert is not None and tls.key is not None)


def _has_trust(subject: Subject) -> bool:
    tls = subject.config.tls
    trusted = tls.ca is not None or tls.ca_directory is not None or tls.pkcs12 is not None
    return trusted or bool(subject.config.verify.fingerprints)


def _reneg_min(subject: Subject) -> bool:
    data = subject.config.data
    least = data.renegotiate_min_s
    return least is not None and bool(least > data.renegotiate_s)


def _tcp(subject: Subject) -> bool:
    return bool(subject.config.transport.protocol.is_tcp)


def _given(name: str) -> Callable[[Subject], bool]:
    return lambda subject: name in subject.given


def _management(name: str) -> Callable[[Subject], bool]:
    def condition(subject: Subject) -> bool:
        management = subject.config.management
        return management.host is None and bool(getattr(management, name))

    return condition


# Read and kept, for what is still to come.
_NOT_YET = {
    "management": "give a hook",
    "status": "ask Server.clients or Client.stats()",
    "status-version": "ask Server.clients or Client.stats()",
    "ping-timer-rem": "the timer runs from the connection on",
}

COMMON: tuple[Rule, ...] = (
    *(
        Rule(_given(name), name, f"no effect yet: {instead}", Severity.WARNING)
        for name, instead in _NOT_YET.items()
    ),
    Rule(lambda s: all(_wraps(s)[:2]), "tls-auth", "excludes tls-crypt"),
    Rule(
        lambda s: _wraps(s)[0] and s.config.data.auth == "none",
        "auth",
        "cannot be none with tls-auth, whose digest it is",
    ),
    Rule(
        lambda s: s.config.tls.cert is not None and s.config.tls.key is None,
        "cert",
        "needs key beside it",
        also=("key",),
    ),
    Rule(
        lambda s: s.config.tls.key is not None and s.config.tls.cert is None,
        "key",
        "needs cert beside it",
        also=("cert",),
    ),
    Rule(
        lambda s: s.config.tls.pkcs12 is not None and s.config.tls.cert is not None,
        "pkcs12",
        "excludes cert and key: it has both",
    ),
    Rule(
        lambda s: s.config.tls.version_min.value > s.config.tls.version_max.value,
        "tls-version-min",
        "is above tls-version-max",
    ),
    Rule(
        lambda s: "ns-cert-type" in s.given and s.config.verify.remote_cert_tls is None,
        "ns-cert-type",
        "is in no certificate any more: use remote-cert-tls",
        also=("remote-cert-tls",),
    ),
    Rule(lambda s: s.both("nobind", "lport", "bind"), "nobind", "excludes lport and bind"),
    Rule(
        lambda s: s.both("keepalive", "ping", "ping-restart", "ping-exit"),
        "keepalive",
        "excludes ping, ping-restart and ping-exit, for which it stands",
    ),
    Rule(
        lambda s: s.both("ping-exit", "ping-restart"),
        "ping-exit",
        "excludes ping-restart: a silent peer is given up in one way",
    ),
    Rule(_reneg_min, "reneg-sec", "has a minimum above its maximum"),
    Rule(
        _management("client_auth"),
        "management-client-auth",
        "needs management beside it",
        also=("management",),
    ),
    Rule(
        _management("hold"), "management-hold", "needs management beside it", also=("management",)
    ),
    Rule(
        _management("query_passwords"),
        "management-query-passwords",
        "needs management beside it",
        also=("management",),
    ),
    Rule(
        lambda s: _tcp(s) and s.config.transport.multihome,
        "multihome",
        "no effect on TCP, whose connections keep their address",
        Severity.WARNING,
    ),
    Rule(
        lambda s: _tcp(s) and s.config.transport.passtos,
        "passtos",
        "no effect on TCP, whose connections carry all packets alike",
        Severity.WARNING,
    ),
    Rule(
        lambda s: _tcp(s) and s.config.transport.df,
        "mtu-disc",
        "no effect on TCP, whose connections make their own packets",
        Severity.WARNING,
    ),
    Rule(
        lambda s: s.config.wrap.key_direction is not None and not _wraps(s)[0] and any(_wraps(s)),
        "key-direction",
        "no effect without tls-auth",
        Severity.WARNING,
    ),
)

CLIENT: tuple[Rule, ...] = (
    *COMMON,
    Rule(
        lambda s: s.config.verify.hook is not None,
        "tls-verify",
        "is for servers: a client names its server with remote-cert-tls or verify-x509-name",
    ),
    Rule(
        lambda s: bool(s.given) and not s.given & {"client", "tls-client"},
        "client",
        "is missing: this is no configuration of a client",
    ),
    Rule(
        lambda s: not s.config.pull.enabled,
        "pull",
        "is missing: without it the server tells no peer id",
        also=("client",),
    ),
    Rule(lambda s: not s.config.remotes, "remote", "is missing", also=("connection",)),
    Rule(
        lambda s: sum(_wraps(s)) > 1 and not all(_wraps(s)[:2]),
        "tls-crypt-v2",
        "excludes tls-auth and tls-crypt",
    ),
    Rule(
        lambda s: not _has_trust(s),
        "ca",
        "is missing: without it, or peer-fingerprint, any server is as good as yours",
        also=("capath", "pkcs12", "peer-fingerprint"),
    ),
    Rule(
        lambda s: not _has_certificate(s) and not s.config.auth.user_pass,
        "cert",
        "is missing, and so is auth-user-pass: a server needs one of them",
        also=("key", "pkcs12", "auth-user-pass"),
    ),
    Rule(
        lambda s: s.config.auth.token_user is not None and s.config.auth.token is None,
        "auth-token-user",
        "needs auth-token beside it",
        also=("auth-token",),
    ),
    Rule(
        lambda s: s.config.auth.challenge is not None and not s.config.auth.user_pass,
        "static-challenge",
        "needs auth-user-pass beside it",
        also=("auth-user-pass",),
    ),
    Rule(
        lambda s: _has_trust(s) and not _names_server(s),
        "remote-cert-tls",
        "is missing: any certificate of the CA, also that of a client, passes for the server",
        Severity.WARNING,
    ),
)


def _names_server(subject: Subject) -> bool:
    verify = subject.config.verify
    return bool(
        verify.remote_cert_tls or verify.remote_cert_eku or verify.x509_name or verify.fingerprints
    )


def _pool_outside(subject: Subject) -> bool:
    pool = subject.config.pool
    if pool.local_ipv4 is None or pool.first_ipv4 is None or pool.last_ipv4 is None:
        return pool.first_ipv4 is not None
    network, own = pool.local_ipv4.network, pool.local_ipv4.ip
    inside = pool.first_ipv4 in network and pool.last_ipv4 in network
    return not inside or bool(pool.first_ipv4 <= own <= pool.last_ipv4)


def _pool_ipv6_outside(subject: Subject) -> bool:
    pool = subject.config.pool
    if pool.local_ipv6 is None or pool.first_ipv6 is None:
        return pool.first_ipv6 is not None
    return pool.first_ipv6.ip not in pool.local_ipv6.network


def _can_be_pushed(option: str) -> bool:
    try:
        return bool(check_pushed(option))
    except Refusal:
        return False


def _passwords_checked(subject: Subject) -> bool:
    config = subject.config
    return config.auth.user_pass_hook is not None or bool(config.management.client_auth)


SERVER: tuple[Rule, ...] = (
    *COMMON,
    Rule(
        lambda s: (
            bool(s.given)
            and not s.given & {"server", "server-ipv6"}
            and not s.given >= {"mode", "tls-server"}
        ),
        "server",
        "is missing: only servers of many clients are offloaded, with mode server and tls-server",
        also=("server-ipv6", "mode"),
    ),
    Rule(
        lambda s: s.config.pool.local_ipv4 is None and s.config.pool.local_ipv6 is None,
        "ifconfig",
        "is missing: the tunnel has no address",
        also=("server", "server-ipv6", "ifconfig-ipv6"),
    ),
    Rule(
        lambda s: s.both("server", "ifconfig", "ifconfig-pool"),
        "server",
        "excludes ifconfig and ifconfig-pool, for which it stands",
    ),
    Rule(
        lambda s: s.both("server-ipv6", "ifconfig-ipv6", "ifconfig-ipv6-pool"),
        "server-ipv6",
        "excludes ifconfig-ipv6 and ifconfig-ipv6-pool, for which it stands",
    ),
    Rule(
        _pool_outside,
        "ifconfig-pool",
        "must be in the network of ifconfig, without the server's own address",
        also=("ifconfig", "server"),
    ),
    Rule(
        _pool_ipv6_outside,
        "ifconfig-ipv6-pool",
        "must be in the network of ifconfig-ipv6",
        also=("ifconfig-ipv6", "server-ipv6"),
    ),
    Rule(
        lambda s: s.config.device.topology not in (None, Topology.SUBNET),
        "topology",
        "must be subnet on a server",
    ),
    Rule(lambda s: not s.config.transport.bind, "nobind", "makes no sense: clients need the port"),
    Rule(
        lambda s: not _has_certificate(s),
        "cert",
        "and key are missing, or pkcs12 in their place",
        also=("key", "pkcs12"),
    ),
    Rule(
        lambda s: not _has_trust(s) and s.config.verify.client_cert is not ClientCert.NONE,
        "ca",
        "is missing: without it, or peer-fingerprint, no client can be told from a stranger",
        also=("capath", "pkcs12", "peer-fingerprint"),
    ),
    Rule(
        lambda s: (
            s.config.verify.client_cert is not ClientCert.REQUIRE and not _passwords_checked(s)
        ),
        "verify-client-cert",
        "lets everybody in: give AuthConfig.user_pass_hook, or use management-client-auth",
        Severity.LATE,
    ),
    Rule(
        lambda s: s.config.auth.username_as_common_name and not _passwords_checked(s),
        "username-as-common-name",
        "trusts names that nobody checks: give AuthConfig.user_pass_hook, or use "
        "management-client-auth",
        Severity.LATE,
    ),
    Rule(
        lambda s: s.config.pool.client_config_required and s.config.pool.client_config_dir is None,
        "ccd-exclusive",
        "needs client-config-dir beside it",
        also=("client-config-dir",),
    ),
    Rule(
        lambda s: s.config.auth.token_secret is not None and not s.config.auth.generate_token,
        "auth-gen-token-secret",
        "needs auth-gen-token beside it",
        also=("auth-gen-token",),
    ),
    Rule(
        lambda s: any(not _can_be_pushed(option) for option in s.config.push.options),
        "push",
        "has an option that no client can read: too long, empty, or with a comma",
    ),
    Rule(
        lambda s: s.config.pool.duplicate_cn and s.config.pool.persist_path is not None,
        "duplicate-cn",
        "makes ifconfig-pool-persist useless: addresses are kept by common name",
        Severity.WARNING,
    ),
    Rule(
        lambda s: _tcp(s) and s.config.transport.explicit_exit_notify > 0,
        "explicit-exit-notify",
        "no effect on TCP, whose connections are closed",
        Severity.WARNING,
    ),
)


def broken(config: ClientConfig | ServerConfig, given: Set[str] = frozenset()) -> Iterable[Rule]:
    """The rules that a configuration breaks."""
    rules = CLIENT if isinstance(config, ClientConfig) else SERVER
    subject = Subject(config, given)
    return [rule for rule in rules if rule.condition(subject)]
