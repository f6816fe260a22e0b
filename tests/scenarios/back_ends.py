"""The engines that the scenarios are run on, and all that differs between them.

A scenario knows the public API only. What one engine does in another way than the next, or not at
all, is a method or a member of `BackEnd`; a further engine is a further class and a line in
`BACK_ENDS`."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Protocol

import pytest

import ovpn_dco as dco
from ovpn_dco.testing import Namespace


class BackEnd(Protocol):
    """An engine under test."""

    honours_bound_device: bool
    """Whether a socket that is bound to an interface sends through that one only."""

    def needs(self, feature: dco.Feature) -> None:
        """Skips the test where the engine does not have it."""

    def open(
        self,
        name: str,
        namespace: Namespace,
        *,
        mode: dco.Mode,
        mtu: int,
        addresses: Sequence[str],
    ) -> dco.Device:
        """A started device with its interface up."""

    def take_socket_away(self, sock: socket.socket, transport: dco.Transport) -> None:
        """What the death of the process that owns the socket is for the device."""

    def control_packets(self, device: dco.Device, sock: socket.socket) -> list[bytes]:
        """What is not data, and has come to the owner of the socket."""

    def send_control(
        self,
        transport: dco.Transport,
        sock: socket.socket,
        packet: bytes,
        remote: dco.Address | None,
    ) -> None:
        """Sends a packet of the owner's; `remote` is None on a connection."""

    def send_singly(self, device: dco.Device) -> None:
        """From now on a firewall sees every datagram by itself, never a train of them."""

    def route_behind(
        self, device: dco.Device, namespace: Namespace, prefix: str, peer: dco.Peer, gateway: str
    ) -> None:
        """Makes `prefix` a network behind `peer`, whose VPN address is `gateway`."""


class _Engine:
    """What both have in common: the device reads a duplicate of the socket."""

    name: str

    def open(
        self,
        name: str,
        namespace: Namespace,
        *,
        mode: dco.Mode,
        mtu: int,
        addresses: Sequence[str],
    ) -> dco.Device:
        return dco.Device.open(
            name,
            mode=mode,
            backend=self.name,
            mtu=mtu,
            addresses=addresses,
            up=True,
            netns=namespace.fd,
            max_peers=256,
        )

    def take_socket_away(self, sock: socket.socket, transport: dco.Transport) -> None:
        transport.close()
        sock.close()

    def control_packets(self, device: dco.Device, sock: socket.socket) -> list[bytes]:
        return [packet.data for packet in device.control.receive()]

    def send_control(
        self,
        transport: dco.Transport,
        sock: socket.socket,
        packet: bytes,
        remote: dco.Address | None,
    ) -> None:
        transport.send_control(packet, remote)


class Userspace(_Engine):
    """Our engine, which has a routing table of its own."""

    name = "userspace"
    honours_bound_device = True

    def needs(self, feature: dco.Feature) -> None:
        """It has all of them."""

    def send_singly(self, device: dco.Device) -> None:
        device.set_offloads(dco.Offload.ALL & ~dco.Offload.UDP_GSO)

    def route_behind(
        self, device: dco.Device, namespace: Namespace, prefix: str, peer: dco.Peer, gateway: str
    ) -> None:
        namespace.add_route(prefix, via=gateway)
        device.routes.add(prefix, peer)


class Kernel(_Engine):
    """The kernel's driver, which sends to whom the system routes."""

    name = "kernel"
    honours_bound_device = False

    def needs(self, feature: dco.Feature) -> None:
        lacking = {dco.Feature.EPOCH_KEYS}
        if feature in lacking:
            pytest.skip(f"the kernel's driver does not have {feature.value}")

    def send_singly(self, device: dco.Device) -> None:
        """It always does."""

    def route_behind(
        self, device: dco.Device, namespace: Namespace, prefix: str, peer: dco.Peer, gateway: str
    ) -> None:
        device.routes.add(prefix, peer)


BACK_ENDS: dict[str, BackEnd] = {"userspace": Userspace()}
if "OVPN_DCO_KERNEL" in os.environ:
    BACK_ENDS = {"kernel": Kernel()}
