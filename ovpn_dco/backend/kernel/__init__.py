"""The kernel's own `ovpn` driver as a back end; `backend` is what a device uses of it."""

from .backend import KernelBackend, features_of

__all__ = ["KernelBackend", "features_of"]
