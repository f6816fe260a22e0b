"""UDP sockets: the driver leaves their owner whatever is no data packet."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import replace

from ...model import Address, Buffer, TransportInfo, TransportKind
from ...validation.answers import answer
from ...validation.rules import RawAddress, fold
from ..readings import address
from .port import NOW, PACKET_MAX, Packet, Port, check, is_shut, plain

IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 8, 49, 50  # linux/in.h, linux/in6.h
BUFFER = 4 << 20
"""Bytes that may wait on a socket each way, unless told otherwise: handshakes of many."""
_MAPPED = bytes(10) + b"\xff\xff"
_ANCILLARY = socket.CMSG_SPACE(20)


class UdpPort(Port):
    """A bound UDP socket, of any number of peers."""

    kind = TransportKind.UDP

    def __init__(self, sock: socket.socket, *, send_buffer: int, receive_buffer: int) -> None:
        check(sock, "attach_udp", socket.IPPROTO_UDP)
        if not sock.getsockname()[1]:
            raise answer("attach_udp", errno.EDESTADDRREQ, "")
        super().__init__(sock)
        self._ipv6 = sock.family == socket.AF_INET6
        self._number = sock.getsockname()[1]
        self._errors = 0
        if self._ipv6:
            self._options.set(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            self._options.set(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self._set_buffers(send_buffer or BUFFER, receive_buffer or BUFFER)

    @property
    def bound(self) -> bytes | None:
        ip = socket.inet_pton(self.sock.family, self.sock.getsockname()[0].partition("%")[0])
        return fold(ip) if any(ip) else None

    def receive(self, maximum: int) -> list[Packet]:
        found: list[Packet] = []
        for _ in range(maximum):
            try:
                data, extra, _, remote = self.sock.recvmsg(PACKET_MAX, _ANCILLARY, NOW)
            except BlockingIOError:
                if not found and is_shut(self.sock):  # it would wake us again and again
                    self.ended = errno.EPIPE
                break
            except OSError:  # what ICMP has told of an earlier datagram
                self._errors += 1
                continue
            found.append(Packet(data, plain(remote), self._local(extra)))
        return found

    def info(self) -> TransportInfo:
        return replace(self._info(), icmp_errors=self._errors)

    def _local(self, extra: list[tuple[int, int, bytes]]) -> Address | None:
        for _, kind, value in extra:
            if kind == IPV6_PKTINFO:
                ip, scope = value[:16], struct.unpack_from("=I", value, 16)[0]
                return address((fold(ip) or ip, self._number, scope if ip[0] == 0xFE else 0))
            if kind == IP_PKTINFO:  # interface, preferred source, destination
                return address((value[8:12], self._number, 0))
        return None

    def send(self, data: Buffer, remote: RawAddress | None, local: RawAddress | None) -> None:
        assert remote is not None
        if len(remote.ip) == 16 and not self._ipv6:
            raise answer("send_control", errno.EAFNOSUPPORT, "")
        extra = [self._source(local)] if local is not None else []
        try:
            self.sock.sendmsg([data], extra, NOW, self._name(remote))
        except OSError as error:
            raise answer("send_control", error.errno or 0, error.strerror or "") from None

    def _name(self, remote: RawAddress) -> tuple[object, ...]:
        if not self._ipv6:
            return socket.inet_ntop(socket.AF_INET, remote.ip), remote.port
        host = socket.inet_ntop(socket.AF_INET6, _wide(remote.ip))
        return host, remote.port, 0, remote.scope

    def _source(self, local: RawAddress) -> tuple[int, int, bytes]:
        if self._ipv6:
            return socket.IPPROTO_IPV6, IPV6_PKTINFO, _wide(local.ip) + bytes(4)
        if len(local.ip) != 4:
            raise answer("send_control", errno.EAFNOSUPPORT, "")
        return socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + local.ip + bytes(4)


def _wide(ip: bytes) -> bytes:
    return ip if len(ip) == 16 else _MAPPED + ip
