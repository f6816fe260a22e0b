"""A client without a device: a plain socket, and a cipher of its own.

What it sends is inner datagrams with a word in them, so that an application behind the server's
device tells which of them have come through."""

from __future__ import annotations

import itertools
import socket

from scenarios.vpn import PORT, SERVER_VPN, Notice, Vpn, vpn_address
from security.forge import Forge, udp
from system.tunnel import PATIENCE_S, eventually, frame

from ovpn_dco import KeySlot

APPLICATION = 7777  # port


class Stranger:
    """It plays client `number`, over IPv4. The server has a peer and a key for it."""

    def __init__(self, vpn: Vpn, number: int = 1) -> None:
        self.vpn = vpn
        self.number = number
        self.forge = Forge(number)
        self._markers = itertools.count()
        self._application = vpn.server.namespace.socket()
        self._application.bind((SERVER_VPN, APPLICATION))
        self._application.settimeout(PATIENCE_S)
        if vpn.shape.tcp:
            near, self.sock = vpn.connect(number)
            self.transport = vpn.server.tcp(near)
        else:
            self.transport = vpn.server.udp(ipv6=False)
            self.sock = self.place(PORT)
        self.peer = vpn.server.device.add_peer(
            number,
            self.transport,
            remote=None if vpn.shape.tcp else (vpn.outer(number, server=False), PORT),
            vpn_ipv4=vpn_address(number),
        )
        self.peer.install_key(KeySlot.PRIMARY, self.forge.key())

    def place(self, port: int) -> socket.socket:
        """A UDP socket at the client's address, towards the server."""
        sock = self.vpn.clients[self.number].namespace.socket()
        sock.bind((self.vpn.outer(self.number, server=False), port))
        sock.connect((self.vpn.outer(self.number, server=True), PORT))
        sock.settimeout(PATIENCE_S)
        return sock

    def word(self, word: str, *, source: str | None = None, **header: int) -> bytes:
        """A data packet with it; `source` is the inner one, `header` is for `Forge.seal`."""
        ports = (APPLICATION, APPLICATION)
        inner = udp(source or vpn_address(self.number), SERVER_VPN, word.encode(), ports=ports)
        return self.forge.seal(inner, **header)

    def send(self, *packets: bytes) -> None:
        for packet in packets:
            self.sock.sendall(frame(packet) if self.vpn.shape.tcp else packet)

    def heard(self) -> list[str]:
        """The words that have come through since it was last asked.

        A marker is waited for twice: of what came at the same time as the first, other flows may
        be a moment later."""
        words: list[str] = []
        for _ in range(2):
            marker = f"marker {next(self._markers)}"
            self.send(self.word(marker))
            while marker not in words:
                words.append(self._application.recv(2048).decode())
        return [word for word in words if not word.startswith("marker")]

    def told(self) -> list[Notice]:
        """What the server has been told, once there is something."""
        return eventually(lambda: self.vpn.server.listen(timeout_s=0.2), what="a notification")

    def close(self) -> None:
        self.sock.close()
        self._application.close()

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
