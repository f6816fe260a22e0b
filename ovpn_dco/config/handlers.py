"""Parsers of directives that are more than one field: helpers that stand for several others,
and words whose meaning depends on each other. `directives.py` says which directive is whose."""

from __future__ import annotations

from dataclasses import fields
from ipaddress import IPv4Interface

from ..model import FilterAction, NameType, TlsVersion, Topology
from . import values
from .endpoints import PoolConfig
from .lexer import PUSHED_OPTION_MAX, PUSHED_WORDS_MAX, Directive, split_words
from .options import (
    Credentials,
    KeepaliveConfig,
    ListenConfig,
    Material,
    Protocol,
    RemoteConfig,
)
from .problems import Refusal
from .settings import Role, Settings


def _option(directive: Directive, index: int) -> str | None:
    return directive.arguments[index] if index < len(directive.arguments) else None


# What the configuration is


def client(_directive: Directive, settings: Settings) -> None:
    """Stands for pull and tls-client."""
    settings.set("pull.enabled", True)


def mode(directive: Directive, settings: Settings) -> None:
    """Servers serve many clients; point to point with static keys is not spoken."""
    wanted = "server" if settings.role is Role.SERVER else "p2p"
    if directive.arguments[0] != wanted:
        raise Refusal(f"must be {wanted!r} here, not {directive.arguments[0]!r}")


def dev(directive: Directive, settings: Settings) -> None:
    """`tun` alone takes any free number."""
    name = values.interface(directive.arguments[0])
    if name.startswith("tap"):
        raise Refusal("TAP carries Ethernet, which the data channel offload does not: use tun")
    if name == "null":
        raise Refusal("there is no tunnel without an interface: use tun")
    settings.set("device.name", None if name == "tun" else name)


def dev_type(directive: Directive, _settings: Settings) -> None:
    """Only one type is left."""
    if directive.arguments[0] != "tun":
        raise Refusal("only tun is carried by the data channel offload")


def topology(directive: Directive, settings: Settings) -> None:
    """A server with anything but subnet cannot be offloaded."""
    wanted = values.choice(Topology)(directive.arguments[0])
    if settings.role is Role.SERVER and wanted is not Topology.SUBNET:
        raise Refusal(f"must be subnet on a server, not {wanted.value}")
    settings.set("device.topology", wanted)


# Transport


def protocol_of(word: str, role: Role) -> Protocol:
    """`tcp-client` and `tcp-server` are TCP for one of the roles each."""
    for suffix, needed in (("-client", Role.CLIENT), ("-server", Role.SERVER)):
        base = word.replace(suffix, "")
        if base != word and base.startswith("tcp"):
            if role is not needed:
                raise Refusal(f"{word!r} is for the other end")
            word = base
    return values.choice(Protocol)(word)


def proto(directive: Directive, settings: Settings) -> None:
    """Protocol of sockets, and of remotes without one of their own."""
    settings.set("transport.protocol", protocol_of(directive.arguments[0], settings.role))


def port(directive: Directive, settings: Settings) -> None:
    """Stands for lport and rport; it alone makes no client bind."""
    number = values.port(directive.arguments[0])
    settings.set("transport.local_port", number)
    settings.set("transport.remote_port", number)


def local(directive: Directive, settings: Settings) -> None:
    """Address to bind, * for any, and a port; for a server each is one more socket, which may have
    a protocol of its own."""
    host = None if directive.arguments[0] == "*" else values.host(directive.arguments[0])
    number, protocol = _option(directive, 1), _option(directive, 2)
    port = None if number is None else values.local_port(number)
    if settings.role is Role.SERVER:
        spoken = None if protocol is None else protocol_of(protocol, settings.role)
        settings.append("listen", ListenConfig(host=host, port=port, protocol=spoken))
        return
    if protocol is not None:
        raise Refusal("takes a protocol on a server only: use proto")
    settings.set("transport.local_host", host)
    if port is not None:
        settings.set("transport.local_port", port)


def bind(directive: Directive, settings: Settings) -> None:
    """Takes `ipv6only`."""
    if directive.arguments not in ((), ("ipv6only",)):
        raise Refusal(f"takes ipv6only, not {directive.arguments[0]!r}")
    settings.set("transport.bind", True)
    settings.set("transport.bind_ipv6_only", bool(directive.arguments))


def remote(directive: Directive, settings: Settings) -> None:
    """Each is one more server to try."""
    number, protocol = _option(directive, 1), _option(directive, 2)
    entry = RemoteConfig(
        host=values.host(directive.arguments[0]),
        port=None if number is None else values.port(number),
        protocol=None if protocol is None else protocol_of(protocol, settings.role),
    )
    settings.append("remotes", entry)


def resolv_retry(directive: Directive, settings: Settings) -> None:
    """Seconds, or infinite."""
    word = directive.arguments[0]
    limit = None if word == "infinite" else values.seconds(word)
    settings.set("connection.resolve_retry_s", limit)


def explicit_exit_notify(directive: Directive, settings: Settings) -> None:
    """Of a server 1: clients come back, 2: they go to the next remote."""
    high = 2 if settings.role is Role.SERVER else values.U31_MAX
    count = values.integer(0, high)(_option(directive, 0) or "1")
    settings.set("transport.explicit_exit_notify", count)


def mssfix(directive: Directive, settings: Settings) -> None:
    """Without an argument: the default; 0: off."""
    size, kind = _option(directive, 0), _option(directive, 1)
    if kind not in (None, "mtu", "fixed"):
        raise Refusal(f"takes mtu or fixed, not {kind!r}")
    settings.set("mtu.mssfix", None if size is None else values.integer(0, 65535)(size))
    settings.set("mtu.mssfix_mode", kind)


def max_packet_size(directive: Directive, settings: Settings) -> None:
    """Of control packets; data packets are clamped to the same."""
    size = values.integer(154, 65535)(directive.arguments[0])
    settings.set("transport.max_packet_size", size)
    settings.set("mtu.mssfix", size)
    settings.set("mtu.mssfix_mode", "mtu")


def mtu_disc(directive: Directive, settings: Settings) -> None:
    """Whether outer packets may be fragmented; route by route is not told apart."""
    word = directive.arguments[0]
    if word not in ("no", "maybe", "yes"):
        raise Refusal(f"takes no, maybe or yes, not {word!r}")
    if word == "maybe":
        settings.warn(directive, "maybe is taken as no: outer packets may be fragmented")
    settings.set("transport.df", word == "yes")


# TLS and the wrapping of the control channel


def tls_version_min(directive: Directive, settings: Settings) -> None:
    """Versions below 1.2 are not spoken, so that a lower minimum changes nothing."""
    word, highest = directive.arguments[0], _option(directive, 1)
    if highest not in (None, "or-highest"):
        raise Refusal(f"takes or-highest, not {highest!r}")
    if word in ("1.0", "1.1"):
        settings.warn(directive, f"TLS {word} is not spoken: 1.2 is the lowest")
        word = "1.2"
    settings.set("tls.version_min", values.choice(TlsVersion)(word))


def tls_version_max(directive: Directive, settings: Settings) -> None:
    """Nothing is left below 1.2."""
    if directive.arguments[0] in ("1.0", "1.1"):
        raise Refusal("must be 1.2 or 1.3: lower versions of TLS are not spoken")
    settings.set("tls.version_max", values.choice(TlsVersion)(directive.arguments[0]))


def tls_auth(directive: Directive, settings: Settings) -> None:
    """The second argument is key-direction."""
    settings.set("wrap.tls_auth", settings.material(directive))
    if (direction := _option(directive, 1)) is not None:
        settings.set("wrap.key_direction", values.integer(0, 1)(direction))


def tls_crypt_v2(directive: Directive, settings: Settings) -> None:
    """A server may insist on clients that do the cookie step."""
    cookie = _option(directive, 1)
    if cookie not in (None, "force-cookie", "allow-noncookie"):
        raise Refusal(f"takes force-cookie or allow-noncookie, not {cookie!r}")
    if cookie is not None and settings.role is Role.CLIENT:
        raise Refusal(f"{cookie} is for servers")
    settings.set("wrap.tls_crypt_v2", settings.material(directive))
    settings.set("wrap.tls_crypt_v2_force_cookie", cookie == "force-cookie")


def pkcs12(directive: Directive, settings: Settings) -> None:
    """Inline content is Base64, a file is not."""
    content = settings.material(directive)
    if directive.inline is not None:
        content = Material(values.base64_bytes(directive.inline))
    settings.set("tls.pkcs12", content)


def dh(directive: Directive, settings: Settings) -> None:
    """Key agreement is by elliptic curves, so parameters are not even read."""
    if directive.arguments != ("none",):
        settings.warn(directive, "no effect: key agreement is by elliptic curves")


def askpass(directive: Directive, settings: Settings) -> None:
    """From a file, or asked for."""
    if directive.arguments:
        settings.set("tls.key_password", settings.text(directive)[0])
    else:
        settings.set("tls.ask_key_password", True)


def verify_x509_name(directive: Directive, settings: Settings) -> None:
    """Name and what it is compared with."""
    settings.set("verify.x509_name", values.text(directive.arguments[0]))
    kind = _option(directive, 1)
    settings.set("verify.x509_name_type", values.choice(NameType)(kind or "subject"))


def remote_cert_ku(directive: Directive, settings: Settings) -> None:
    """Each argument is one acceptable set of bits; without any, the extension must be there."""
    usages = tuple(values.key_usage(word) for word in directive.arguments)
    settings.set("verify.remote_cert_ku", usages or (0,))


def peer_fingerprint(directive: Directive, settings: Settings) -> None:
    """One as an argument, or one a line inline; all count."""
    words = list(directive.arguments)
    if directive.inline is not None:
        words = [word for line in directive.inline.split("\n") for word in split_words(line)]
    if not words:
        raise Refusal("is empty")
    settings.append("verify.fingerprints", *(values.fingerprint(word) for word in words))


def crl_verify(directive: Directive, settings: Settings) -> None:
    """A file, or a directory with a file for each serial."""
    kind = _option(directive, 1)
    if kind not in (None, "dir"):
        raise Refusal(f"takes dir, not {kind!r}")
    if kind == "dir":
        settings.set("verify.crl_directory", settings.path(directive.arguments[0]))
    else:
        settings.set("verify.crl", settings.material(directive))


# Data channel


def auth(directive: Directive, settings: Settings) -> None:
    """Of the HMAC of tls-auth; AEAD ciphers need none."""
    settings.set("data.auth", values.digest(directive.arguments[0]))


def cipher(directive: Directive, settings: Settings) -> None:
    """A hint for peers that do not negotiate; what is no AEAD cipher is not even that."""
    word = directive.arguments[0]
    if word.lower() == "none":
        raise Refusal("'none' would send everything in the clear")
    try:
        settings.set("data.cipher", values.aead(word))
    except Refusal:
        values.cipher_string(word)
        settings.warn(directive, f"{word} is no AEAD cipher: the cipher is one of data-ciphers")


def data_ciphers(directive: Directive, settings: Settings) -> None:
    """What can be negotiated, best first."""
    ciphers, others = values.cipher_list(directive.arguments[0])
    for other in others:
        values.cipher_string(other)
        settings.warn(directive, f"{other} is left out: it is no AEAD cipher")
    settings.set("data.ciphers", ciphers)


def replay_window(directive: Directive, settings: Settings) -> None:
    """Packets, and seconds."""
    size, time = directive.arguments[0], _option(directive, 1)
    settings.set("data.replay_window", values.integer(1, 65536)(size))
    if time is not None:
        settings.set("data.replay_time_s", values.integer(0, 600)(time))


def keepalive(directive: Directive, settings: Settings) -> None:
    """Stands for ping and ping-restart, of a server also for those that it pushes."""
    interval, timeout = (values.integer(1)(word) for word in directive.arguments)
    if timeout < 2 * interval:
        raise Refusal(f"timeout must be at least twice the interval: {2 * interval}")
    server = settings.role is Role.SERVER
    make = KeepaliveConfig.for_server if server else KeepaliveConfig.for_client
    times = make(interval, timeout)
    settings.set("keepalive.ping_s", times.ping_s)
    settings.set("keepalive.restart_s", times.restart_s)
    settings.set("keepalive.pushed", times.pushed)


def inactive(directive: Directive, settings: Settings) -> None:
    """Seconds, and bytes that count as activity."""
    settings.set("keepalive.inactive_s", values.seconds(directive.arguments[0]))
    if (size := _option(directive, 1)) is not None:
        settings.set("keepalive.inactive_bytes", values.integer(0, values.U63_MAX)(size))


# Passwords


def auth_user_pass(directive: Directive, settings: Settings) -> None:
    """Asked for, or two lines: user and password."""
    settings.set("auth.user_pass", True)
    if directive.arguments == ("username-only",):
        settings.set("auth.username_only", True)
    elif directive.arguments or directive.inline is not None:
        lines = settings.text(directive)
        if not lines[0]:
            raise Refusal("the first line must be the user name")
        password = lines[1] if len(lines) > 1 and lines[1] else None
        settings.set("auth.credentials", Credentials(lines[0], password))


def static_challenge(directive: Directive, settings: Settings) -> None:
    """Text, whether the answer is shown, and how it is sent."""
    text, echo, form = directive.arguments[0], directive.arguments[1], _option(directive, 2)
    if form not in (None, "scrv1", "concat"):
        raise Refusal(f"takes scrv1 or concat, not {form!r}")
    settings.set("auth.challenge", values.text(text))
    settings.set("auth.challenge_echo", values.integer(0, 1)(echo) == 1)
    settings.set("auth.challenge_concatenated", form == "concat")


def auth_gen_token(directive: Directive, settings: Settings) -> None:
    """Lifetime and time of renewal."""
    lifetime, renewal = _option(directive, 0), _option(directive, 1)
    external = _option(directive, 2)
    if external not in (None, "external-auth"):
        raise Refusal(f"takes external-auth, not {external!r}")
    settings.set("auth.generate_token", True)
    settings.set("auth.token_lifetime_s", values.seconds(lifetime or "0"))
    if renewal is not None:
        settings.set("auth.token_renewal_s", values.integer(1)(renewal))
    settings.set("auth.token_external_auth", external is not None)


def auth_token(directive: Directive, settings: Settings) -> None:
    """A secret, so that reasons do not repeat it."""
    path = "auth.token" if directive.name == "auth-token" else "auth.token_user"
    settings.set(path, values.text(directive.arguments[0]))


# Addresses of a server


def server(directive: Directive, settings: Settings) -> None:
    """Stands for ifconfig, ifconfig-pool and two pushed options."""
    nopool = _option(directive, 2)
    if nopool not in (None, "nopool"):
        raise Refusal(f"takes nopool, not {nopool!r}")
    network = values.ipv4_network(*directive.arguments[:2])
    if network.network_address != values.ipv4(directive.arguments[0]):
        raise Refusal(f"{directive.arguments[0]} has bits of the host: the network is {network}")
    _pool(settings, PoolConfig.for_networks(ipv4=network), nopool=nopool is not None)


def server_ipv6(directive: Directive, settings: Settings) -> None:
    """Stands for ifconfig-ipv6 and ifconfig-ipv6-pool."""
    network = values.ipv6_network(directive.arguments[0])
    _pool(settings, PoolConfig.for_networks(ipv6=network))


_POOL_ONLY = ("first_ipv4", "last_ipv4")


def _pool(settings: Settings, pool: PoolConfig, *, nopool: bool = False) -> None:
    default = PoolConfig()
    for item in fields(PoolConfig):
        value = getattr(pool, item.name)
        if value != getattr(default, item.name) and not (nopool and item.name in _POOL_ONLY):
            settings.set(f"pool.{item.name}", value)


def ifconfig(directive: Directive, settings: Settings) -> None:
    """Address and netmask; of a client also address and that of the other end."""
    address, second = directive.arguments
    try:
        length = values.prefix(second) if second.startswith("255.") else None
    except Refusal:
        length = None
    if settings.role is Role.SERVER:
        if length is None:
            raise Refusal(f"{second!r} is no netmask, which topology subnet needs")
        settings.set("pool.local_ipv4", IPv4Interface((int(values.ipv4(address)), length)))
        return
    bits = 32 if length is None else length
    settings.set("device.ipv4", IPv4Interface((int(values.ipv4(address)), bits)))
    settings.set("device.ipv4_peer", values.ipv4(second) if length is None else None)


def ifconfig_ipv6(directive: Directive, settings: Settings) -> None:
    """Address with its length, and the other end."""
    address, peer = values.ipv6_interface(directive.arguments[0]), _option(directive, 1)
    if settings.role is Role.SERVER:
        settings.set("pool.local_ipv6", address)
    else:
        settings.set("device.ipv6", address)
        settings.set("device.ipv6_peer", None if peer is None else values.ipv6(peer))


def ifconfig_pool(directive: Directive, settings: Settings) -> None:
    """First and last address; the netmask is that of the network."""
    first, last = (values.ipv4(word) for word in directive.arguments[:2])
    if not 0 <= int(last) - int(first) < 65536:
        raise Refusal("must be 1 to 65536 addresses, the first one first")
    if (netmask := _option(directive, 2)) is not None:
        values.prefix(netmask)
    settings.set("pool.first_ipv4", first)
    settings.set("pool.last_ipv4", last)


def ifconfig_pool_persist(directive: Directive, settings: Settings) -> None:
    """File and seconds between two times of writing, 0: never."""
    settings.set("pool.persist_path", settings.path(directive.arguments[0]))
    if (interval := _option(directive, 1)) is not None:
        settings.set("pool.persist_interval_s", values.seconds(interval))


def check_pushed(option: str) -> str:
    """An option as the other end can read it."""
    if len(option.encode()) > PUSHED_OPTION_MAX:
        raise Refusal(f"pushed option is longer than {PUSHED_OPTION_MAX} bytes")
    if "," in option:
        raise Refusal("pushed option has a comma, which separates options")
    if not 1 <= len(split_words(option)) <= PUSHED_WORDS_MAX:
        raise Refusal(f"pushed option must have 1 to {PUSHED_WORDS_MAX} words")
    return option


def push(directive: Directive, settings: Settings) -> None:
    """One option for every client, or in a file of `client-config-dir` for that one."""
    option = check_pushed(directive.arguments[0])
    if settings.role is Role.CCD:
        settings.append("pushes", ("push", option))
    else:
        settings.append("push.options", option)


def pull_filter(directive: Directive, settings: Settings) -> None:
    """Action and the beginning of an option."""
    action = values.choice(FilterAction)(directive.arguments[0])
    settings.append("pull.filters", (action, values.text(directive.arguments[1])))
