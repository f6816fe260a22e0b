"""A descriptor that wakes whoever waits on it."""

from __future__ import annotations

import contextlib
import os


class Bell:
    """Readable while it rings. It stays open until it is collected: somebody may be waiting."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def ring(self) -> None:
        """Until it is silenced."""
        os.eventfd_write(self._fd, 1)

    def silence(self) -> None:
        """Idempotent."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def close(self) -> None:
        """Lets go of the descriptor. Idempotent."""
        fd, self._fd = getattr(self, "_fd", -1), -1
        if fd >= 0:
            os.close(fd)
