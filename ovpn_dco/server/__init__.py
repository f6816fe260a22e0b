"""The server that people run: `Server`, and its parts.

- `server`: sockets, the device and the sessions, joined; `connection`: one client;
- `pool`: addresses and peer ids; `poolfile` keeps them over a restart;
- `hooks`: calls of the user's own functions; `authentication`: who is this, and may it come in;
- `overrides`: files of `client-config-dir` and the `client_connect` hook;
- `between_clients`: packets from one to another;
- `notices`: what hooks and owners are told."""

from .authentication import LoginRequest
from .notices import (
    AddressNotice,
    ConnectedClient,
    DisconnectNotice,
    ForwardingRequest,
    LimitNotice,
    ResponseNotice,
)
from .overrides import ConnectRequest
from .server import Server, ServerStats

__all__ = [
    "AddressNotice",
    "ConnectRequest",
    "ConnectedClient",
    "DisconnectNotice",
    "ForwardingRequest",
    "LimitNotice",
    "LoginRequest",
    "ResponseNotice",
    "Server",
    "ServerStats",
]
