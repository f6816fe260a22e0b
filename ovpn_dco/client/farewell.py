"""Saying inside the data channel that a client leaves, to a server that has no EXIT in the control
channel: nobody acknowledges that, so it is said several times."""

from __future__ import annotations

from ..errors import DcoError
from ..peer import Peer
from ..protocol.datamessage import EXIT

__all__ = ["MOST", "REPEAT_S", "Farewell"]

REPEAT_S = 1.0
MOST = 10
"""How often at most, since a server may push the number."""

SEALING_S = 1.0
"""How long the engine may take for the last one; the peer is deleted then."""
LOOK_S = 0.01


class Farewell:
    """`times` messages through `peer`, one a second."""

    def __init__(self, peer: Peer, times: int, now: float) -> None:
        self._peer = peer
        self._left = times
        self._sealed = 0
        self._due_s = now
        self._end_s = now + (times - 1) * REPEAT_S + SEALING_S

    @property
    def due_s(self) -> float:
        """When `say` has something to do again."""
        return self._due_s

    def say(self, now: float) -> bool:
        """What is due. True: all has left, or cannot."""
        if now < self._due_s:
            return False
        try:
            if self._left:
                self._peer.send_message(EXIT)
                self._left -= 1
                self._sealed += 1
                self._due_s = now + (REPEAT_S if self._left else LOOK_S)
                return False
            self._due_s = now + LOOK_S
            return self._peer.stats().messages_tx >= self._sealed or now >= self._end_s
        except DcoError:
            return True
