"""A client: which server, the session with it, and the tunnel that comes of it."""

from .client import Client
from .dialogue import Answer
from .tunnel_info import TunnelInfo

__all__ = ["Answer", "Client", "TunnelInfo"]
