"""Sockets of a server and of a client, made as a configuration says.

They are made in the network namespace of the calling thread. What is raised is a `DcoError` that
names the address."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket

from ..config import Protocol, TransportConfig
from ..errors import DcoError, error_for
from ..model import Address

__all__ = ["connect_tcp", "family_of", "listen", "open_udp"]

SO_MARK = 36  # asm-generic/socket.h; the socket module has it from Python 3.11 on
BACKLOG = 1024

_FAMILIES = {
    Protocol.UDP: socket.AF_UNSPEC,
    Protocol.TCP: socket.AF_UNSPEC,
    Protocol.UDP4: socket.AF_INET,
    Protocol.TCP4: socket.AF_INET,
    Protocol.UDP6: socket.AF_INET6,
    Protocol.TCP6: socket.AF_INET6,
}


def family_of(protocol: Protocol) -> socket.AddressFamily:
    """AF_UNSPEC where the protocol does not say."""
    return _FAMILIES[protocol]


async def listen(
    host: str | None, port: int, protocol: Protocol, transport: TransportConfig
) -> socket.socket:
    """A bound UDP socket, or a listening TCP one. Without a host, and with a protocol that is not
    of IPv4, it takes both IPv4 and IPv6, unless `bind_ipv6_only` says otherwise."""
    address, family = await _local(host, port, protocol)
    sock = _socket(family, protocol, transport)
    try:
        if family == socket.AF_INET6:
            confined = transport.bind_ipv6_only or host is not None
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(confined))
        if protocol.is_tcp:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        if protocol.is_tcp:
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _failed(
            error, f"{host or '*'} port {port} {protocol.value} cannot be bound"
        ) from None
    return sock


async def open_udp(
    transport: TransportConfig, protocol: Protocol, remote: Address
) -> socket.socket:
    """A client's UDP socket, of the family of `remote`, bound as the configuration says."""
    family = socket.AF_INET6 if len(remote) == 4 else socket.AF_INET
    sock = _socket(family, protocol, transport)
    try:
        await _bind(sock, family, transport)
    except OSError as error:
        sock.close()
        raise _failed(error, "local address cannot be bound") from None
    return sock


async def connect_tcp(
    transport: TransportConfig, protocol: Protocol, remote: Address, *, timeout_s: float
) -> socket.socket:
    """A connection to `remote`. ETIMEDOUT after `timeout_s` seconds."""
    family = socket.AF_INET6 if len(remote) == 4 else socket.AF_INET
    sock = _socket(family, protocol, transport)
    try:
        if transport.bind:
            # The port is that of the connection before, which the kernel remembers for a while.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await _bind(sock, family, transport)
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, remote), timeout_s)
    except BaseException as error:
        sock.close()
        if isinstance(error, asyncio.TimeoutError):
            raise DcoError(errno.ETIMEDOUT, f"no connection to {remote[0]} in time") from None
        if isinstance(error, OSError):
            raise _failed(error, f"no connection to {remote[0]} port {remote[1]}") from None
        raise
    return sock


# Steps


def _socket(family: int, protocol: Protocol, transport: TransportConfig) -> socket.socket:
    kind = socket.SOCK_STREAM if protocol.is_tcp else socket.SOCK_DGRAM
    try:
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise _failed(error, "no socket") from None
    try:
        if transport.mark is not None:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, transport.mark)
        if protocol.is_tcp and transport.tcp_nodelay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        sock.close()
        raise _failed(error, f"mark {transport.mark} cannot be set") from None
    return sock


async def _bind(sock: socket.socket, family: int, transport: TransportConfig) -> None:
    """To the configured address and port, or to any: a UDP socket must be bound to be attached."""
    host = transport.local_host or ("::" if family == socket.AF_INET6 else "0.0.0.0")
    port = transport.local_port if transport.bind else 0
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, family=family, flags=socket.AI_NUMERICSERV)
    sock.bind(found[0][4])


async def _local(
    host: str | None, port: int, protocol: Protocol
) -> tuple[tuple[object, ...], socket.AddressFamily]:
    family = family_of(protocol)
    if host is None:
        if family == socket.AF_UNSPEC:
            family = socket.AF_INET6 if _has_ipv6() else socket.AF_INET
        return ("::" if family == socket.AF_INET6 else "0.0.0.0", port), family
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, flags=socket.AI_NUMERICSERV)
    except OSError as error:
        raise DcoError(errno.EADDRNOTAVAIL, f"{host} is no address of ours: {error}") from None
    return found[0][4], found[0][0]


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::", 0))
        return True
    return False


def _failed(error: OSError, what: str) -> DcoError:
    return error_for(error.errno or errno.EIO, f"{what}: {error.strerror or error}")
