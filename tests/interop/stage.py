"""Two ends on a wire: which implementation plays which role, and what is in their files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from interop.cases import Case, Derivation
from interop.ends import OUR_WORDS, STOCK, End, Implementation, Ours
from interop.files import Folder

from ovpn_dco.protocol.role import Role
from ovpn_dco.testing import Namespace, Topology

# What plays our part. With "stock" the tests judge themselves: a failure is not one of ours.
OURS = os.environ.get("OVPN_DCO_INTEROP_OURS", "ovpn_dco")


def ours(case: Case, without: str = "") -> Implementation:
    """What stands at our end. `without` is what it does not know; with old ways to make keys, it
    does not know the new one."""
    if OURS == "stock":
        return STOCK
    if case.derivation is Derivation.PRF:
        without = "TLS_KEY_EXPORT"
    return Ours(OUR_WORDS, without)


class Stage:
    """A topology with a server at its hub, and clients at its spokes."""

    def __init__(
        self, path: Path, case: Case, *, alone: bool = False, without: str = "", **topology: Any
    ) -> None:
        """`alone`: both ends are ours. `without`: a bit of IV_PROTO that ours does not know. Other
        options are those of `Topology`."""
        self._without = without
        self.case = case
        self._our_roles = set(Role) if alone else {case.ours}
        self.path = path
        self.topology = Topology(**topology)

    def server(self, *, login: str | None = None, **files: Any) -> End:
        """Not started yet. `login` is a file with the only user that is let in; other options are
        those of `Folder`."""
        folder = Folder(self.path / "server", Role.SERVER, self.case, **files)
        return End(self._implementation(Role.SERVER), self.here, folder, login)

    def client(self, number: int = 0, *, ipv6: bool = False, **files: Any) -> End:
        link = self.topology.links[number]
        remote = link.left_ipv6 if ipv6 else link.left_ipv4
        path = self.path / f"client{number}"
        folder = Folder(path, Role.CLIENT, self.case, remote=remote, ipv6=ipv6, **files)
        return End(self._implementation(Role.CLIENT), self.topology.spokes[number], folder)

    def start(self, server: End, client: End) -> None:
        """Both, until the client is connected."""
        server.start()
        server.wait_for(server.words.listening)
        client.start()
        client.wait_for(client.words.connected)

    def stock(self, server: End, client: End) -> End:
        """That of the two which is not ours."""
        return client if self.case.ours is Role.SERVER else server

    @property
    def here(self) -> Namespace:
        """Of the server."""
        return self.topology.left

    @property
    def there(self) -> Namespace:
        """Of the first client."""
        return self.topology.right

    def _implementation(self, role: Role) -> Implementation:
        return ours(self.case, self._without) if role in self._our_roles else STOCK

    def close(self) -> None:
        self.topology.close()
